//! Costs, bills and statistics as of a time in the past.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::{Asia, Tz};
use eventstore::{Database, EventStore};
use projections::{
    analytics::{AsOf, GroupBy, Scope},
    call_tasks::{self, CampaignStatsRow},
    cost_rollups::{self, CallCosts, CostGroupBy, CostRow, Costs, Repricing},
};
use serde_json::{Value, json};
use sqlx::PgConnection;
use support::{Client, Platform, new_database, seed};
use uuid::Uuid;

use super::random::{EPOCH, Projecting, RandomHistory};

const GROUPS: [Option<CostGroupBy>; 7] = [
    None,
    Some(CostGroupBy::Calls(GroupBy::Hour)),
    Some(CostGroupBy::Calls(GroupBy::Day)),
    Some(CostGroupBy::Calls(GroupBy::Campaign)),
    Some(CostGroupBy::Calls(GroupBy::Skillbase)),
    Some(CostGroupBy::Component),
    Some(CostGroupBy::Provider),
];

/// Texts of answers, by the question.
type Answers = BTreeMap<String, String>;

fn costs_text(costs: &Costs) -> String {
    let Costs { stt, llm, tts, livekit } = costs;
    format!("{} {} {} {}", stt.normalize(), llm.normalize(), tts.normalize(), livekit.normalize())
}

fn rows_text(rows: &BTreeMap<Option<String>, CostRow>) -> String {
    let row = |(key, row): (&Option<String>, &CostRow)| {
        let unpriced: Vec<_> = row.unpriced.iter().map(|(what, quantity)| format!("{what:?} {}", quantity.normalize())).collect();
        format!("{key:?}: {}, {} calls, unpriced {unpriced:?}", costs_text(&row.costs), row.call_count)
    };
    rows.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn bill_text((bill, repricings): &(CallCosts, Vec<Repricing>)) -> String {
    let positions: Vec<_> = repricings.iter().map(|repricing| repricing.position).collect();
    format!("{}: {:?}, repriced at {positions:?}", costs_text(&bill.costs), bill.lines)
}

fn stats_text(row: &CampaignStatsRow) -> String {
    let tasks = [row.pending, row.in_progress, row.retry, row.completed, row.failed, row.cancelled];
    let outcomes = [row.success, row.fail, row.voicemail, row.no_answer, row.busy];
    let (duration, cost) = (row.duration_sec.normalize(), row.cost_total.normalize());
    let attempts = (row.attempts, row.first_attempt_at, row.last_attempt_at);
    format!("tasks {tasks:?}, outcomes {outcomes:?}, attempts {attempts:?}, {} ended calls of {duration} s, {cost}", row.ended_count)
}

/// All calls of a company, and those of a period with odd bounds in a zone with odd hours.
fn scopes(company_id: Uuid) -> [Scope; 2] {
    let all = Scope { company_id, campaign_id: None, skillbase_id: None, from: None, to: None, timezone: Tz::UTC };
    let at = |hours: i64| Some(EPOCH + TimeDelta::minutes(hours * 60 + 17));
    [all.clone(), Scope { from: at(5), to: at(400), timezone: Asia::Kolkata, ..all }]
}

struct Asking<'a> {
    database: &'a Database,
    history: &'a RandomHistory,
}

impl Asking<'_> {
    /// The present answers, or those as of a time.
    async fn answers(&self, as_of: Option<AsOf>) -> Answers {
        let mut answers = Answers::new();
        for (company_id, campaigns, calls) in self.history.objects() {
            let mut db = self.database.access.company(company_id).await.unwrap();
            for (s, scope) in scopes(company_id).iter().enumerate() {
                for group_by in GROUPS {
                    let question = format!("costs of {company_id}, scope {s}, by {group_by:?}");
                    answers.insert(question, rows_text(&costs(&mut db, scope, group_by, as_of).await));
                }
            }
            for campaign in campaigns {
                let Some(present) = call_tasks::campaign_stats(&mut db, company_id, *campaign).await.unwrap() else { continue };
                let row = match as_of {
                    None => present,
                    Some(as_of) => call_tasks::campaign_stats_as_of(&mut db, company_id, *campaign, as_of).await.unwrap(),
                };
                answers.insert(format!("campaign {campaign}"), stats_text(&row));
            }
            for call in calls {
                if let Some(bill) = bill(&mut db, company_id, *call, as_of).await {
                    answers.insert(format!("call {call}"), bill_text(&bill));
                }
            }
        }
        answers
    }
}

async fn costs(
    db: &mut PgConnection,
    scope: &Scope,
    group_by: Option<CostGroupBy>,
    as_of: Option<AsOf>,
) -> BTreeMap<Option<String>, CostRow> {
    let Some(as_of) = as_of else { return cost_rollups::costs(db, scope, group_by).await.unwrap() };
    let found = cost_rollups::costs_as_of(db, scope, group_by, as_of).await.unwrap();
    if group_by.is_some() { found.groups } else { BTreeMap::from([(None, found.totals)]) }
}

async fn bill(db: &mut PgConnection, company_id: Uuid, call: Uuid, as_of: Option<AsOf>) -> Option<(CallCosts, Vec<Repricing>)> {
    match as_of {
        Some(as_of) => cost_rollups::bill_as_of(db, company_id, call, as_of).await.unwrap(),
        None => {
            let bill = cost_rollups::bill_of(db, company_id, call).await.unwrap()?;
            Some((bill, cost_rollups::repricings_of(db, company_id, call).await.unwrap()))
        }
    }
}

/// When the last event was recorded.
async fn last_recorded_at(store: &EventStore) -> DateTime<Utc> {
    let position = store.head().position();
    store.read_page(position - 1, 1).await.unwrap()[0].recorded_at
}

fn assert_same(found: &Answers, expected: &Answers, seed: u64) {
    for (question, answer) in expected {
        assert_eq!(found.get(question), Some(answer), "{question}, seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_as_of_a_time_is_the_answer_of_that_time() {
    let seed = seed();
    let url = new_database().await;
    let database = Database::open(&support::settings(&url).store.database(Some(support::master_key()))).await.unwrap();
    let store = EventStore::open(&database);
    let projecting = Projecting::start(&database, &store);
    let mut history = RandomHistory::begin(store.clone(), seed).await;
    let mut told = Vec::new();
    for events in [300, 700, 1_100] {
        history.until(events).await;
        projecting.reached(store.head().position()).await;
        let answers = Asking { database: &database, history: &history }.answers(None).await;
        assert!(answers.len() > 20 && answers.keys().any(|question| question.starts_with("campaign")), "seed {seed}");
        told.push((last_recorded_at(&store).await, store.head().position(), answers));
    }
    for (moment, position, answers) in told {
        let as_of = AsOf { moment, position: store.position_as_of(moment).await.unwrap() };
        assert_eq!(as_of.position, position);
        let found = Asking { database: &database, history: &history }.answers(Some(as_of)).await;
        assert_same(&found, &answers, seed);
    }
    projecting.stop().await;
}

/// The answers of the API about one campaign and one call.
async fn told(client: &Client, campaign: &str, call: &str, as_of: Option<&str>) -> Vec<Value> {
    let query = as_of.map(|at| format!("as_of={at}")).unwrap_or_default();
    let mut answers = Vec::new();
    for path in [format!("/campaigns/{campaign}/stats?"), format!("/analytics/calls/{call}/costs?"), "/analytics/costs?".to_owned()] {
        answers.push(client.get(&format!("{path}{query}")).await.expect(200).body);
    }
    for group in ["hour", "day", "campaign", "skillbase", "component", "provider"] {
        answers.push(client.get(&format!("/analytics/costs?group_by={group}&{query}")).await.expect(200).body);
    }
    answers[0]["pacing"] = Value::Null;
    answers
}

#[tokio::test]
async fn costs_bills_and_statistics_are_told_as_of_a_time() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let rates = |price: &str| json!([{"component": "stt", "price": price, "per": 1, "unit": "minute"}]);
    let list = json!({"name": "A", "effective_from": "2026-01-01T00:00:00Z", "rates": rates("0.01")});
    admin.post("/price-lists", &list).await.expect(201);
    let campaign = admin.running_campaign(3, json!({"max_retries": 1})).await;
    let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    let (task, call) = (claim["task"]["id"].as_str().unwrap(), claim["call_id"].as_str().unwrap());
    let start = json!({"call_id": call, "direction": "outbound", "phone_number": claim["task"]["phone_number"]});
    admin.post("/calls", &start).await.expect(200);
    let turn = |n: u64| json!({"turn_index": n, "stt_duration_sec": 60, "stt_provider": "deepgram", "llm_output_tokens": 7});
    admin.post(&format!("/calls/{call}/turns"), &turn(0)).await.expect(201);
    let then = told(&admin, &campaign, call, None).await;
    let events = admin.get("/events?event_type=TurnRecorded").await.expect(200);
    let moment = events["items"][0]["recorded_at"].as_str().unwrap().to_owned();

    admin.post(&format!("/calls/{call}/turns"), &turn(1)).await.expect(201);
    admin.post(&format!("/calls/{call}/end"), &json!({"duration_sec": 90})).await.expect(200);
    admin.post(&format!("/tasks/{task}/complete"), &json!({"call_id": call, "outcome": "success"})).await.expect(200);
    let corrected = json!({"name": "B", "effective_from": "2026-01-02T00:00:00Z", "rates": rates("0.02")});
    admin.post("/price-lists", &corrected).await.expect(201);
    let now = admin.get("/analytics/costs").await.expect(200);
    assert_eq!((&now["totals"]["cost_total"], &then[2]["totals"]["cost_total"]), (&json!("0.04"), &json!("0.01")));
    let unpriced = json!([{"component": "llm_output", "provider": null, "model": null, "quantity": 7.0, "unit": "token"}]);
    assert_eq!(then[2]["totals"]["unpriced"], unpriced);

    assert_eq!(told(&admin, &campaign, call, Some(&moment)).await, then);
    let before = "2026-01-05T00:00:00Z";
    admin.get(&format!("/campaigns/{campaign}/stats?as_of={before}")).await.problem(404);
    admin.get(&format!("/analytics/calls/{call}/costs?as_of={before}")).await.problem(404);
    let nothing = admin.get(&format!("/analytics/costs?as_of={before}")).await.expect(200);
    assert_eq!((&nothing["totals"]["cost_total"], &nothing["totals"]["call_count"]), (&json!("0"), &json!(0)));
    platform.stop().await;
}

#[tokio::test]
async fn no_state_is_told_as_of_the_future_or_of_no_time() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(1, json!({})).await;
    let future = (Utc::now() + TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M:%SZ");
    for path in [format!("/campaigns/{campaign}"), format!("/campaigns/{campaign}/stats"), "/analytics/costs".to_owned()] {
        let refused = admin.get(&format!("{path}?as_of={future}")).await.problem(400);
        assert!(refused["detail"].as_str().unwrap().contains("as_of must not be in the future"), "{:?}", refused.body);
        let plus = admin.get(&format!("{path}?as_of=2026-11-21T12:00:00+01:00")).await.problem(400);
        assert!(plus["detail"].as_str().unwrap().contains("%2B"), "{:?}", plus.body);
        for unreadable in ["", "yesterday", "2026-11-21T12:00:00", "0000-00-00"] {
            let refused = admin.get(&format!("{path}?as_of={unreadable}")).await.problem(400);
            assert!(refused["detail"].as_str().unwrap().contains("as_of"), "{:?}", refused.body);
        }
    }
    platform.stop().await;
}
