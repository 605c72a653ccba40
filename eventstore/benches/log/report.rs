//! Figures and ratios, printed as they come and written as JSON and Markdown.

use std::path::Path;

use serde_json::{Value, json};

use crate::ground::Ground;

#[derive(Default)]
pub struct Report {
    sections: Vec<Section>,
}

struct Section {
    name: &'static str,
    what: String,
    unit: &'static str,
    figures: Vec<(String, f64)>,
    ratios: Vec<Ratio>,
}

/// Ours over a bound; `at_least` or `at_most` is what it shall be.
struct Ratio {
    of: String,
    value: f64,
    goal: Goal,
}

#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

impl Report {
    pub fn section(&mut self, name: &'static str, what: impl Into<String>, unit: &'static str) {
        let what = what.into();
        println!("\n{name}: {what}");
        self.sections.push(Section { name, what, unit, figures: Vec::new(), ratios: Vec::new() });
    }

    /// Notes the median of the rounds and returns it.
    pub fn figure(&mut self, name: impl Into<String>, rounds: &[f64]) -> f64 {
        let (name, value) = (name.into(), median(rounds));
        let section = self.sections.last_mut().unwrap();
        println!("  {name}: {value:.0} {} {rounds:.0?}", section.unit);
        section.figures.push((name, value));
        value
    }

    /// Notes the median over the rounds of `ours / bound`.
    pub fn ratio(&mut self, of: impl Into<String>, ours: &[f64], bound: &[f64], goal: Goal) {
        let ratios: Vec<f64> = ours.iter().zip(bound).map(|(ours, bound)| ours / bound).collect();
        let (of, value) = (of.into(), median(&ratios));
        println!("  ratio to {of}: {value:.2} (goal {goal}) {ratios:.2?}");
        self.sections.last_mut().unwrap().ratios.push(Ratio { of, value, goal });
    }

    pub async fn write(&self, ground: &Ground) {
        let machine = ground.machine().await;
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks");
        std::fs::create_dir_all(&dir).unwrap();
        let sections = self.sections.iter().map(|s| (s.name.to_owned(), s.json()));
        let path = dir.join("log.json");
        // Scenarios that were not measured now keep what was measured last.
        let before = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let mut all = before.and_then(|v| v["scenarios"].as_object().cloned()).unwrap_or_default();
        all.extend(sections);
        let value = json!({"machine": machine, "scenarios": all});
        std::fs::write(&path, serde_json::to_string_pretty(&value).unwrap() + "\n").unwrap();
        std::fs::write(dir.join("log.md"), markdown(&value)).unwrap();
    }
}

impl Section {
    fn json(&self) -> Value {
        let figures = self.figures.iter().map(|(name, value)| json!({"name": name, "value": round(*value), "unit": self.unit}));
        let ratios = self.ratios.iter().map(|r| {
            json!({"to": r.of, "ratio": (r.value * 1_000.0).round() / 1_000.0, "goal": r.goal.to_string(), "met": r.goal.is_met(r.value)})
        });
        json!({"what": self.what, "figures": figures.collect::<Vec<_>>(), "ratios": ratios.collect::<Vec<_>>()})
    }
}

fn round(value: f64) -> f64 {
    value.round()
}

fn markdown(value: &Value) -> String {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let mut out = format!(
        "# The log, measured\n\n`cargo bench -p eventstore` writes this page and `log.json`. Every ratio is the median over rounds in which ours and the\n\
         bound are measured one after the other, on the same table with the same indexes.\n\n{}\n",
        text(&value["machine"])
    );
    for (name, scenario) in value["scenarios"].as_object().unwrap() {
        out += &format!("\n## {name}\n\n{}\n\n| | |\n|---|---|\n", text(&scenario["what"]));
        for figure in scenario["figures"].as_array().unwrap() {
            out += &format!("| {} | {:.0} {} |\n", text(&figure["name"]), figure["value"].as_f64().unwrap(), text(&figure["unit"]));
        }
        for ratio in scenario["ratios"].as_array().unwrap() {
            let met = if ratio["met"] == json!(true) { "met" } else { "**not met**" };
            out += &format!(
                "| ratio to {} | {:.2} (goal {}: {met}) |\n",
                text(&ratio["to"]),
                ratio["ratio"].as_f64().unwrap(),
                text(&ratio["goal"])
            );
        }
    }
    out + REMARKS
}

/// What the figures do not say by themselves.
const REMARKS: &str = "
## Where a goal is not met, and why

`append`, against a set-based INSERT: of 64 events written together (about 1.9 ms), the statement in PostgreSQL takes 1.0 ms, of
which two thirds is what the bare INSERT does as well: parsing JSON 21 %, four indexes 16 %, the heap 11 % of the server's time. The
wait for the disk takes 0.2 ms, the client's next commands 0.3 ms, transport and wake-ups the rest. A third of the machine is idle
meanwhile: one batch at a time is on its way, so PostgreSQL waits while the writers make up their next commands. A second batch on
its way would fill that time; it is left out on purpose, so that after a crash at most one batch can be in the log that nobody was told
of. A bare INSERT of 64 rows, with the same waits, is twice as fast, one of 1,000 rows two and a half times.

`lone`: beside the event's row an append writes the stream's and the head's, which costs 40 to 60 µs of statement and a little more
log to flush; the rest is the way through the queue. Before an appender foresaw its places it took 2.1 to 2.6 times a plain INSERT.
";

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
