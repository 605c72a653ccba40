//! The fields of NEW-VOICE in answers, beside the platform's own.

use axum::{
    extract::{FromRequestParts as _, Path},
    http::request::Parts,
};
use domain::latency::Latency;
use projections::calls::CallRow;
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use services::identity::Identity;
use strum::IntoEnumIterator as _;
use uuid::Uuid;

use super::query::{CALLS, METRICS, Query};
use crate::{numbers::share, problem::Problem, state::App};

/// Decimal places of a quotient of money, as in all answers.
const COST_SCALE: u32 = 12;

/// The operations whose answers are changed.
pub const ADAPTED: &[&str] = &[
    "POST /skillbases",
    "GET /skillbases",
    "GET /skillbases/{id}",
    "PUT /skillbases/{id}",
    CALLS,
    METRICS,
    "GET /analytics/calls/{id}/metrics",
];

type Fields = Map<String, Value>;

/// Adds the fields of NEW-VOICE to an answer.
pub async fn adapt(app: &App, caller: &Identity, action: &str, mut parts: Parts, body: &mut Value) -> Result<(), Problem> {
    let Some(fields) = body.as_object_mut() else { return Ok(()) };
    match action {
        "GET /skillbases" => entries(fields).for_each(skillbase),
        CALLS => entries(fields).for_each(call),
        "POST /skillbases" | "GET /skillbases/{id}" | "PUT /skillbases/{id}" => skillbase(fields),
        "GET /analytics/calls/{id}/metrics" => {
            let Path(call_id) = Path::<Uuid>::from_request_parts(&mut parts, app).await?;
            let mut read = app.services.read_by_key(caller.company_id, &[projections::calls::READ_MODEL], None).await?;
            let row = projections::calls::get(&mut read, caller.company_id, call_id).await?;
            call_metrics(fields, row.as_ref());
        }
        METRICS if !fields.contains_key("group_by") => {
            let query = Query::parse(parts.uri.query());
            metrics(fields, &query);
            add_period(app, caller, &query, fields).await?;
        }
        _ => {}
    }
    Ok(())
}

/// The entries of a page of a list.
fn entries(page: &mut Fields) -> impl Iterator<Item = &mut Fields> {
    page.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn skillbase(fields: &mut Fields) {
    fields.insert("knowledge_base_id".to_owned(), Value::Null);
    if let Some(flow) = fields.get_mut("config").and_then(|config| config.get_mut("flow")) {
        let states = flow["states"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
        states.for_each(state);
        let transitions = flow.get_mut("transitions").and_then(Value::as_array_mut).into_iter().flatten();
        for transition in transitions.filter_map(Value::as_object_mut) {
            for end in ["from", "to"] {
                transition.insert(format!("{end}_state"), transition.get(end).cloned().unwrap_or_default());
            }
        }
    }
}

/// `{name, label}` becomes `{id, name}`, unless the state has an `id` of its own.
fn state(state: &mut Fields) {
    let Some(name) = state.get("name").filter(|_| !state.contains_key("id")).cloned() else { return };
    if state.get("label").is_some_and(Value::is_string)
        && let Some(label) = state.remove("label")
    {
        state.insert("name".to_owned(), label);
    }
    state.insert("id".to_owned(), name);
}

/// An entry of the list of calls.
fn call(fields: &mut Fields) {
    // In NEW-VOICE a call has a duration from its beginning.
    if fields.get("duration_sec").is_some_and(Value::is_null) {
        fields.insert("duration_sec".to_owned(), json!(0));
    }
    let metrics = fields.get("metrics").cloned().unwrap_or_default();
    fields.insert("turn_count".to_owned(), metrics.get("turn_count").cloned().unwrap_or_else(|| json!(0)));
    fields.insert("avg_eou_latency".to_owned(), metrics.get("eou_latency_avg").cloned().unwrap_or_default());
}

/// The metrics of a call, with what its row tells beside them.
pub fn call_metrics(fields: &mut Fields, row: Option<&CallRow>) {
    for latency in Latency::iter() {
        for figure in ["avg", "min", "max"] {
            let value = fields.get(&format!("{latency}_{figure}")).cloned().unwrap_or_default();
            fields.insert(format!("{figure}_{latency}"), value);
        }
    }
    let confidence = row.and_then(|row| row.outcome_confidence_percent).map(|percent| f64::from(percent) / 100.0);
    // LiveKit is used, and priced, for as long as the call lasts.
    fields.insert("livekit_duration_sec".to_owned(), fields.get("duration_sec").cloned().unwrap_or_default());
    fields.insert("sentiment_score".to_owned(), Value::Null);
    fields.insert("outcome_confidence".to_owned(), json!(confidence));
    fields.insert("outcome_reason".to_owned(), json!(row.and_then(|row| row.outcome_method.clone())));
    fields.insert("created_at".to_owned(), json!(row.map(|row| row.created_at)));
}

/// Figures over calls, from the totals.
fn metrics(fields: &mut Fields, query: &Query) {
    let totals = fields.get("totals").cloned().unwrap_or_default();
    let count = |name: &str| totals[name].as_i64().unwrap_or(0);
    let (calls, ended, failed) = (count("call_count"), count("ended_count"), totals["outcomes"]["fail"].as_i64().unwrap_or(0));
    let average = |name: &str| totals[name].as_f64().filter(|_| ended > 0).map(|sum| sum / f64_of(ended));
    let cost: Option<Decimal> = totals["cost_total"].as_str().and_then(|text| text.parse().ok());
    let per_call = cost.filter(|_| calls > 0).map(|cost| (cost / Decimal::from(calls)).round_dp(COST_SCALE).normalize());
    let added = json!({
        "total_calls": calls,
        "completed_calls": ended - failed,
        "failed_calls": failed,
        "avg_duration_sec": average("duration_sec"),
        "avg_turn_count": share(count("turn_count"), calls),
        "avg_eou_latency": totals["eou_latency_avg"],
        "avg_interruption_rate": totals["interruption_rate"],
        "total_cost": totals["cost_total"],
        "avg_cost_per_call": per_call,
        "outcome_distribution": totals["outcomes"],
        "skillbase_id": query.get("skillbase_id"),
        "campaign_id": query.get("campaign_id"),
    });
    if let Value::Object(added) = added {
        fields.extend(added);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of calls")]
const fn f64_of(count: i64) -> f64 {
    count as f64
}

/// The first and the last day of the period. Without a period in the request: the day of the company's first call, and today.
async fn add_period(app: &App, caller: &Identity, query: &Query, fields: &mut Fields) -> Result<(), Problem> {
    let today = eventstore::now().date_naive();
    let (from, to) = (query.day("from"), query.last_day("to"));
    let start = match from {
        Some(day) => day,
        None => {
            let mut read = app.services.read(caller.company_id, &[projections::calls::READ_MODEL], None).await?;
            let first = projections::calls::first_started_at(&mut read, caller.company_id).await?.map_or(today, |time| time.date_naive());
            to.map_or(first, |to| first.min(to))
        }
    };
    fields.insert("start_date".to_owned(), json!(start));
    fields.insert("end_date".to_owned(), json!(to.unwrap_or_else(|| today.max(start))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skillbase_has_the_ids_and_names_of_new_voice() {
        let mut skillbase_view = json!({"name": "Bot", "config": {"flow": {
            "states": ["hello", {"name": "offer", "label": "Offer", "prompt": "Offer a slot"}, {"name": "bye"}, {"id": 7, "name": "own"}],
            "transitions": [{"from": "hello", "to": "offer"}]}}});
        skillbase(skillbase_view.as_object_mut().unwrap());
        let flow = &skillbase_view["config"]["flow"];
        let states = json!(["hello", {"id": "offer", "name": "Offer", "prompt": "Offer a slot"}, {"id": "bye", "name": "bye"}, {"id": 7, "name": "own"}]);
        assert_eq!(flow["states"], states);
        assert_eq!(flow["transitions"], json!([{"from": "hello", "to": "offer", "from_state": "hello", "to_state": "offer"}]));
        assert_eq!(skillbase_view["knowledge_base_id"], Value::Null);
    }

    #[test]
    fn averages_over_no_calls_are_null() {
        let mut body = json!({"totals": {"call_count": 0, "ended_count": 0, "turn_count": 0, "duration_sec": null, "cost_total": "0", "outcomes": {"fail": 0}}});
        metrics(body.as_object_mut().unwrap(), &Query::parse(None));
        assert_eq!((&body["total_calls"], &body["avg_cost_per_call"], &body["avg_turn_count"]), (&json!(0), &Value::Null, &Value::Null));
    }

    #[test]
    fn figures_over_calls_come_from_the_totals() {
        let mut body = json!({"totals": {"call_count": 3, "ended_count": 2, "turn_count": 6, "duration_sec": 90.0, "cost_total": "0.01",
                                         "eou_latency_avg": 700.5, "interruption_rate": 0.5, "outcomes": {"success": 1, "fail": 1}}});
        metrics(body.as_object_mut().unwrap(), &Query::parse(Some("campaign_id=x")));
        for (field, value) in [
            ("completed_calls", json!(1)),
            ("failed_calls", json!(1)),
            ("avg_duration_sec", json!(45.0)),
            ("avg_turn_count", json!(2.0)),
            ("avg_eou_latency", json!(700.5)),
            ("total_cost", json!("0.01")),
            ("avg_cost_per_call", json!("0.003333333333")),
            ("campaign_id", json!("x")),
        ] {
            assert_eq!(body[field], value, "{field}");
        }
    }
}
