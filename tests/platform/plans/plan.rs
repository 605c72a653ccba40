//! Detects faults in a plan.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;
use serde_json::Value;
use sqlx::PgConnection;

/// Tables with fewer rows may be read completely.
const FEW_ROWS: f32 = 2_000.0;
/// Maximum number of rows that may be read and discarded: the maximum page size of the API.
const PAGE_ROWS: f64 = 1_000.0;

/// A fault in a plan.
pub struct Fault {
    /// The scanned or joined relation, and the method.
    pub scan: String,
    pub what: String,
}

/// Tables, partitions and indexes with more than [`FEW_ROWS`].
pub struct Large(BTreeMap<String, f32>);

impl Large {
    pub async fn find(db: &mut PgConnection) -> Self {
        let sql = "select relname::text, reltuples from pg_class where relnamespace = 'newvoice'::regnamespace and reltuples > $1";
        Self(sqlx::query_as(sql).bind(FEW_ROWS).fetch_all(db).await.unwrap().into_iter().collect())
    }

    fn has(&self, name: &Value) -> bool {
        name.as_str().is_some_and(|name| self.0.contains_key(name))
    }

    /// Whether a plan reads one of them.
    pub fn is_read_by(&self, plan: &Value) -> bool {
        let reads = plan["Node Type"].as_str().is_some_and(|node| node.ends_with("Scan"));
        (reads && self.has(&plan["Relation Name"])) || children(plan).any(|child| self.is_read_by(child))
    }

    /// All faults of a plan; they include measured values if the statement was executed.
    pub fn faults(&self, plan: &Value) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.find_faults(plan, false, &mut faults);
        faults
    }

    /// `is_limited`: the node is read until there are enough rows, not to its end.
    fn find_faults(&self, node: &Value, is_limited: bool, faults: &mut Vec<Fault>) {
        let kind = node["Node Type"].as_str().unwrap();
        if self.has(&node["Relation Name"]) && kind.ends_with("Scan") {
            let scan = format!("{kind} {} of {}", text(&node["Index Name"]), text(&node["Relation Name"]));
            faults.extend(self.scan_fault(node, kind, is_limited).map(|what| Fault { scan, what }));
        }
        if node["Relation Name"].is_null() {
            let removed = number(&node["Rows Removed by Join Filter"]) + number(&node["Rows Removed by Filter"]);
            let what = format!("{removed} rows are read in vain, {}{}", text(&node["Join Filter"]), text(&node["Filter"]));
            faults.extend((removed * number(&node["Actual Loops"]) > PAGE_ROWS).then(|| Fault { scan: kind.to_owned(), what }));
        }
        let blocks = ["Sort", "Aggregate", "Hash", "ModifyTable", "WindowAgg", "SetOp"].contains(&kind);
        for child in children(node) {
            // A subquery is read to its end, regardless of how many rows the outer query needs.
            let is_subquery = ["InitPlan", "SubPlan"].contains(&text(&child["Parent Relationship"]));
            let is_limited = kind == "Limit" || (is_limited && !blocks && !is_subquery);
            self.find_faults(child, is_limited, faults);
        }
    }

    /// Whether all indexes of a scan are small partial ones.
    fn reads_small_index(&self, node: &Value) -> bool {
        let mut below = bitmaps(node).peekable();
        match below.peek() {
            None => !node["Index Name"].is_null() && !self.has(&node["Index Name"]),
            Some(_) => below.all(|child| self.reads_small_index(child)),
        }
    }

    fn scan_fault(&self, node: &Value, kind: &str, is_limited: bool) -> Option<String> {
        let filter = own_filter(text(&node["Filter"]));
        if kind == "Seq Scan" {
            return Some(format!("the whole table is read, {filter}"));
        }
        let has_key = has_key(node);
        let condition = condition(node);
        let is_short = self.reads_small_index(node);
        if kind != "Tid Scan" && !has_key && !is_short {
            if !filter.is_empty() {
                return Some(format!("an index is walked with a filter, {filter} ({condition})"));
            }
            if condition.is_empty() && !is_limited {
                return Some("a whole index is read".to_owned());
            }
        }
        let removed = number(&node["Rows Removed by Filter"]) * number(&node["Actual Loops"]);
        (removed > PAGE_ROWS).then(|| format!("{removed} rows are read in vain, {filter} ({condition})"))
    }
}

fn bitmaps(node: &Value) -> impl Iterator<Item = &Value> {
    children(node).filter(|child| text(&child["Node Type"]).starts_with("Bitmap"))
}

fn children(node: &Value) -> impl Iterator<Item = &Value> {
    node["Plans"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// A filter without the conditions of the table's policy.
fn own_filter(filter: &str) -> String {
    static POLICY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\(\((?:\w+\.)?company_id = \$\d+\) OR \$\d+\)(?: AND )?").unwrap());
    POLICY.replace_all(filter, "").trim_matches(['(', ')']).to_owned()
}

/// The conditions on the index, or on all indexes of a bitmap.
fn condition(node: &Value) -> String {
    let below = bitmaps(node).map(condition);
    std::iter::once(text(&node["Index Cond"]).to_owned())
        .chain(below)
        .filter(|condition| !condition.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// Whether the scan selects rows by a value in an index: of a company, a stream, an event, … A row comparison begins with the company.
fn has_key(node: &Value) -> bool {
    static KEY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(?:^|[( ])(?:\w+\.)?"?\w+"? = |ROW\((?:\w+\.)?company_id,"#).unwrap());
    KEY.is_match(text(&node["Index Cond"])) || {
        let bitmaps: Vec<_> = bitmaps(node).collect();
        let is_one_enough = node["Node Type"] != "BitmapOr";
        let mut with_key = bitmaps.iter().filter(|child| has_key(child));
        if is_one_enough { with_key.next().is_some() } else { with_key.count() == bitmaps.len() }
    }
}
