//! `what-if`: the costs of calls under other rates.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use chrono::{DateTime, Utc};
use domain::{
    json::find_fault,
    price::{Rate, validate_rates},
};
use eventstore::{Database, Pool};
use projections::{
    analytics::Scope,
    cost_rollups::{self, Costs, UsageFrom},
};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Finding, WrongUse, output::Output};

pub async fn run(
    database: &Database,
    output: &Output,
    price_list: &Path,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    company: Option<Uuid>,
    campaign: Option<Uuid>,
) -> anyhow::Result<Finding> {
    if from >= to {
        return Err(WrongUse("--to must be after --from".to_owned()).into());
    }
    let rates = read_rates(price_list)?;
    let company_id = match company {
        Some(company) => company,
        None => only_company(&database.pool).await?,
    };
    let scope =
        Scope { company_id, campaign_id: campaign, skillbase_id: None, from: Some(from), to: Some(to), timezone: chrono_tz::Tz::UTC };
    let total = cost_rollups::count(&mut *database.access.company(company_id).await?, &scope).await?;
    let bar = output.progress("replaying calls", total);
    let found = cost_rollups::what_if(&database.access, &scope, &rates, UsageFrom::Log, |done| bar.set_position(done)).await?;
    bar.finish_and_clear();
    for (what, quantity) in &found.unpriced {
        let of = [what.provider.as_deref(), what.model.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        output.note(&format!(
            "Without a rate, so it costs nothing: {} {of}, {} {}s.",
            what.component,
            quantity.normalize(),
            what.component.usage_unit()
        ));
    }
    let rows = rows(&found.actual, &found.other);
    let object =
        |of: fn(&(&'static str, Decimal, Decimal)) -> Decimal| rows.iter().map(|row| (row.0.to_owned(), json!(of(row)))).collect::<Value>();
    let value = json!({"actual": object(|r| r.1), "what_if": object(|r| r.2), "difference": object(|r| r.2 - r.1)});
    output.result(&value, || {
        let lines = rows.iter().map(|(name, actual, other)| format!("{name:<13} {actual:>20} {other:>20} {:>20}", other - actual));
        std::iter::once(format!("{:<13} {:>20} {:>20} {:>20}", "", "actual", "what if", "difference"))
            .chain(lines)
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    Ok(Finding::Sound)
}

fn rows(actual: &Costs, other: &Costs) -> [(&'static str, Decimal, Decimal); 5] {
    [
        ("cost_stt", actual.stt.normalize(), other.stt.normalize()),
        ("cost_llm", actual.llm.normalize(), other.llm.normalize()),
        ("cost_tts", actual.tts.normalize(), other.tts.normalize()),
        ("cost_livekit", actual.livekit.normalize(), other.livekit.normalize()),
        ("cost_total", actual.total().normalize(), other.total().normalize()),
    ]
}

fn read_rates(path: &Path) -> anyhow::Result<Vec<Rate>> {
    let text = std::fs::read_to_string(path).map_err(|e| WrongUse(format!("{}: {e}", path.display())))?;
    parse_rates(&text).map_err(|message| WrongUse(format!("{}: {message}", path.display())).into())
}

/// Parses rates in the format of the API: a list, or an object with the list as `rates`.
fn parse_rates(text: &str) -> Result<Vec<Rate>, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if let Some((path, fault)) = find_fault(text) {
        return Err(format!("{path}: {fault}"));
    }
    let rates = value.get("rates").cloned().unwrap_or(value);
    let rates: Vec<Rate> = serde_json::from_value(rates).map_err(|e| e.to_string())?;
    validate_rates(&rates).map_err(|e| e.to_string())?;
    Ok(rates)
}

async fn only_company(pool: &Pool) -> anyhow::Result<Uuid> {
    let companies = sqlx::query_scalar!("select company_id from companies limit 2").fetch_all(pool).await.context("companies")?;
    match companies.as_slice() {
        [only] => Ok(*only),
        [] => Err(anyhow!("there is no company yet")),
        _ => Err(WrongUse("there are several companies: name one with --company".to_owned()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(json: &str) -> Result<String, String> {
        let rates = parse_rates(&format!(r#"[{{"component": "stt", "price": {json}, "per": 1, "unit": "second"}}]"#))?;
        Ok(rates[0].price.to_string())
    }

    #[test]
    fn a_price_is_read_exactly_or_refused() {
        assert_eq!(price(r#""0.0043""#).as_deref(), Ok("0.0043"));
        assert_eq!(price("1e-7").as_deref(), Ok("0.0000001"));
        for bad in [r#""0.00000000000000000000000000001""#, r#""1_000""#, "0.12345678901234567890"] {
            assert!(price(bad).is_err(), "{bad}");
        }
    }
}
