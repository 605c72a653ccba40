//! Figures and ratios, printed when they are measured, and written as JSON and Markdown.

use std::path::Path;

use serde_json::{Value, json};

use super::Ground;

/// The results of one benchmark so far.
pub struct Report {
    name: &'static str,
    heading: &'static str,
    remarks: &'static str,
    sections: Vec<Section>,
}

struct Section {
    name: &'static str,
    what: String,
    unit: &'static str,
    figures: Vec<(String, f64)>,
    ratios: Vec<Ratio>,
}

/// The ratio of our figure to a bound; the goal is `at_least` or `at_most`.
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
    /// A report for `docs/benchmarks/<name>.json` and `.md`; the text consists of `heading`, the figures and `remarks`.
    pub const fn new(name: &'static str, heading: &'static str, remarks: &'static str) -> Self {
        Self { name, heading, remarks, sections: Vec::new() }
    }

    pub fn section(&mut self, name: &'static str, what: impl Into<String>, unit: &'static str) {
        let what = what.into();
        println!("\n{name}: {what}");
        self.sections.push(Section { name, what, unit, figures: Vec::new(), ratios: Vec::new() });
    }

    /// Records the median of the rounds and returns it.
    pub fn figure(&mut self, name: impl Into<String>, rounds: &[f64]) -> f64 {
        let (name, value) = (name.into(), median(rounds));
        let section = self.sections.last_mut().unwrap();
        println!("  {name}: {value:.0} {} {rounds:.0?}", section.unit);
        section.figures.push((name, value));
        value
    }

    /// Records the median over the rounds of `ours / bound`.
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
        let path = dir.join(format!("{}.json", self.name));
        // Scenarios that were not measured now keep their last results.
        let before = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let mut all = before.and_then(|v| v["scenarios"].as_object().cloned()).unwrap_or_default();
        all.extend(sections);
        let value = json!({"machine": machine, "scenarios": all});
        std::fs::write(&path, serde_json::to_string_pretty(&value).unwrap() + "\n").unwrap();
        std::fs::write(dir.join(format!("{}.md", self.name)), self.markdown(&value)).unwrap();
    }

    fn markdown(&self, value: &Value) -> String {
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let mut out = format!(
            "# {}\n\n`cargo bench -p newvoice-tests --bench {}` writes this page and `{}.json`. Every ratio is the median over rounds in\n\
             which ours and the bound are measured one after the other, on the same data.\n\n{}\n",
            self.heading,
            self.name,
            self.name,
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
        out + self.remarks
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

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
