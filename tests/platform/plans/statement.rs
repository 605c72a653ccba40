//! A statement, and values for its parameters.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use regex::Regex;
use serde_json::Value;
use sqlx::{PgConnection, Row as _};

pub struct Statement {
    /// The text with single spaces.
    pub text: String,
    /// The column to which each parameter is compared.
    columns: BTreeMap<usize, String>,
    /// Parameters that may be null; null means that the condition does not apply.
    pub optional: BTreeSet<usize>,
    limits: BTreeSet<usize>,
}

impl Statement {
    pub fn new(text: &str) -> Self {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let optional = numbers(r"\$(\d+)(?:::[a-z\[\]]+)? is null", &text);
        Self { columns: compared_columns(&text), optional, limits: numbers(r"limit \$(\d+)", &text), text }
    }

    /// Every statement that is checked at compile time.
    pub fn all() -> Vec<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".sqlx");
        let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        let statements = files.map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let checked: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            Self::new(checked["query"].as_str().unwrap())
        });
        statements.collect()
    }

    /// Literals for its parameters: values that a company's rows have in the compared columns.
    pub fn literals(&self, types: &[String], values: &Values, given: Given) -> String {
        let literals = types.iter().enumerate().map(|(i, pg_type)| {
            let number = i + 1;
            let is_given = match given {
                Given::Nothing => false,
                Given::All => true,
                Given::Required => !self.optional.contains(&number),
                Given::Filter(filter) => number == filter || !self.optional.contains(&number),
            };
            if !is_given {
                return format!("null::{pg_type}");
            }
            let element = pg_type.trim_end_matches("[]");
            let of_rows = self.columns.get(&number).and_then(|column| values.0.get(&(column.clone(), element.to_owned())).cloned());
            match of_rows
                .or_else(|| if self.limits.contains(&number) { Some("100".to_owned()) } else { anything(element).map(str::to_owned) })
            {
                None => format!("null::{pg_type}"),
                Some(value) if element == pg_type => format!("'{value}'::{pg_type}"),
                Some(value) => format!("array['{value}']::{pg_type}"),
            }
        });
        literals.collect::<Vec<_>>().join(", ")
    }

    /// Whether the statement's own condition restricts it to a company.
    pub fn names_company(&self) -> bool {
        self.columns.values().any(|column| column == "company_id") || self.text.starts_with("insert into")
    }
}

/// Selects the parameters that have a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    Nothing,
    Required,
    /// The required parameters, and one optional parameter.
    Filter(usize),
    All,
}

/// Values by column and type, from any of a company's rows.
pub struct Values(BTreeMap<(String, String), String>);

impl Values {
    pub async fn of(db: &mut PgConnection, company_id: &str) -> Self {
        let tables = "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'company_id'
                       where c.relnamespace = 'newvoice'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by c.relname = 'events', 1";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *db).await.unwrap();
        let mut values = BTreeMap::new();
        for table in tables {
            let row = format!(
                "select a.attname::text, format_type(a.atttypid, null), to_jsonb(t) ->> a.attname::text
                   from (select * from {table} where company_id = '{company_id}' offset (select count(*) / 2 from {table} where company_id = '{company_id}') limit 1) t,
                        (select * from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped) a"
            );
            let row = sqlx::query(sqlx::AssertSqlSafe(row)).fetch_all(&mut *db).await.unwrap();
            values.extend(row.iter().filter_map(|column| Some(((column.get(0), column.get(1)), column.get::<Option<String>, _>(2)?))));
        }
        Self(values)
    }
}

/// `company_id = $1`, `stream = any($1)`, `(created_at, id) < ($2, $3::uuid)`, `(a, b) in (select * from unnest($1, $2))`.
fn compared_columns(text: &str) -> BTreeMap<usize, String> {
    let one = Regex::new(r"\b([a-z_]+) (?:=|<>|<=|>=|<|>|is not distinct from) (?:any ?\()?\$(\d+)").unwrap();
    let mut columns: BTreeMap<usize, String> =
        one.captures_iter(text).map(|found| (found[2].parse().unwrap(), found[1].to_owned())).collect();
    let several = Regex::new(r"\(([a-z_., ]+)\) (?:<|>|<=|>=|=|in) \((?:select \* from unnest\()?([^()]+)\)").unwrap();
    let parameter = Regex::new(r"^\$(\d+)").unwrap();
    for found in several.captures_iter(text) {
        for (column, with) in found[1].split(", ").zip(found[2].split(", ")) {
            if let Some(number) = parameter.captures(with) {
                columns.insert(number[1].parse().unwrap(), column.rsplit('.').next().unwrap().to_owned());
            }
        }
    }
    columns
}

fn numbers(pattern: &str, text: &str) -> BTreeSet<usize> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].parse().unwrap()).collect()
}

/// Some value of a type.
fn anything(pg_type: &str) -> Option<&'static str> {
    match pg_type {
        "uuid" => Some("00000000-0000-0000-0000-000000000000"),
        "text" => Some("nothing"),
        "smallint" | "integer" | "bigint" | "numeric" | "double precision" => Some("1"),
        "timestamp with time zone" => Some("now"),
        "boolean" => Some("true"),
        "jsonb" => Some("{}"),
        "bytea" => Some("\\x00"),
        _ => None,
    }
}
