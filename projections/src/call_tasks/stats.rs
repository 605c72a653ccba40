//! How many of a campaign's tasks are in which state: the totals of the rows of its tasks.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use domain::{
    Decider as _, Fact,
    campaign::LiveCampaign,
    outcome::{Outcome, OutcomeCounts},
    task::{Task, TaskEvent, TaskStatus},
};
use serde::Deserialize as _;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::CallTaskRow;
use crate::{
    analytics::{AsOf, Scope},
    cost_rollups::{CostsAsOf, costs_as_of},
    engine::{ApplyError, ReadModel, Recorded, read_streams},
};

/// What [`campaign_stats`] reads.
pub const STATS_READS: &[ReadModel] =
    &[crate::campaigns::READ_MODEL, super::READ_MODEL, crate::call_metrics::READ_MODEL, crate::cost_rollups::READ_MODEL];
/// What [`campaign_stats_as_of`] reads, beside the log.
pub const STATS_AS_OF_READS: &[ReadModel] = &[super::READ_MODEL, crate::calls::READ_MODEL, crate::cost_rollups::READ_MODEL];

/// Tasks whose streams are read in one batch.
const TASKS_AT_ONCE: i64 = 1_000;

#[derive(Clone, Default)]
struct Delta {
    statuses: BTreeMap<TaskStatus, i64>,
    outcomes: OutcomeCounts,
    attempts: i64,
    first_attempt_at: Option<DateTime<Utc>>,
    last_attempt_at: Option<DateTime<Utc>>,
}

impl Delta {
    #[expect(clippy::expect_used, reason = "rows store no other names than those of the enum")]
    fn add(&mut self, row: &CallTaskRow, sign: i64) {
        let status = row.status.parse().expect("a status is stored by its name");
        *self.statuses.entry(status).or_default() += sign;
        self.outcomes.add(row.outcome.as_deref(), sign);
    }

    /// Counts the event, if it is a claim.
    fn note_claim(&mut self, fact: &TaskEvent) {
        if let TaskEvent::TaskClaimed { claimed_at, .. } = fact {
            self.attempts += 1;
            self.first_attempt_at = self.first_attempt_at.into_iter().chain([*claimed_at]).min();
            self.last_attempt_at = self.last_attempt_at.into_iter().chain([*claimed_at]).max();
        }
    }
}

/// Adds the difference between the rows `before` and `after`, and the claims among `events`.
pub(super) async fn add(
    db: &mut PgConnection,
    before: &HashMap<Uuid, CallTaskRow>,
    after: &HashMap<Uuid, CallTaskRow>,
    events: &[&Recorded],
) -> Result<(), ApplyError> {
    let mut deltas: BTreeMap<(Uuid, Uuid), Delta> = BTreeMap::new();
    for row in before.values() {
        deltas.entry((row.company_id, row.campaign_id)).or_default().add(row, -1);
    }
    for row in after.values() {
        deltas.entry((row.company_id, row.campaign_id)).or_default().add(row, 1);
    }
    for event in events {
        if let Fact::Task(fact @ TaskEvent::TaskClaimed { campaign_id, .. }) = &event.fact {
            deltas.entry((event.company_id, *campaign_id)).or_default().note_claim(fact);
        }
    }
    save(db, deltas.into_iter().collect()).await?;
    Ok(())
}

async fn save(db: &mut PgConnection, deltas: Vec<((Uuid, Uuid), Delta)>) -> Result<(), sqlx::Error> {
    fn column<T>(deltas: &[((Uuid, Uuid), Delta)], of: impl Fn(&Delta) -> T) -> Vec<T> {
        deltas.iter().map(|(_, delta)| of(delta)).collect()
    }
    let deltas = &deltas[..];
    let (companies, campaigns): (Vec<_>, Vec<_>) = deltas.iter().map(|(key, _)| *key).unzip();
    let status = |status: TaskStatus| column(deltas, |d| d.statuses.get(&status).copied().unwrap_or_default());
    let outcome = |outcome: Outcome| column(deltas, |d| d.outcomes.of(outcome));
    sqlx::query!(
        "insert into campaign_stats as s (company_id, campaign_id, pending, in_progress, retry, completed, failed, cancelled,
                success, fail, voicemail, no_answer, busy, attempts, first_attempt_at, last_attempt_at)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
                $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::timestamptz[], $16::timestamptz[])
         on conflict (company_id, campaign_id) do update
            set pending = s.pending + excluded.pending, in_progress = s.in_progress + excluded.in_progress, retry = s.retry + excluded.retry,
                completed = s.completed + excluded.completed, failed = s.failed + excluded.failed, cancelled = s.cancelled + excluded.cancelled,
                success = s.success + excluded.success, fail = s.fail + excluded.fail, voicemail = s.voicemail + excluded.voicemail,
                no_answer = s.no_answer + excluded.no_answer, busy = s.busy + excluded.busy, attempts = s.attempts + excluded.attempts,
                first_attempt_at = least(s.first_attempt_at, excluded.first_attempt_at),
                last_attempt_at = greatest(s.last_attempt_at, excluded.last_attempt_at)",
        &companies,
        &campaigns,
        &status(TaskStatus::Pending),
        &status(TaskStatus::InProgress),
        &status(TaskStatus::Retry),
        &status(TaskStatus::Completed),
        &status(TaskStatus::Failed),
        &status(TaskStatus::Cancelled),
        &outcome(Outcome::Success),
        &outcome(Outcome::Fail),
        &outcome(Outcome::Voicemail),
        &outcome(Outcome::NoAnswer),
        &outcome(Outcome::Busy),
        &column(deltas, |d| d.attempts),
        &column(deltas, |d| d.first_attempt_at) as &[Option<DateTime<Utc>>],
        &column(deltas, |d| d.last_attempt_at) as &[Option<DateTime<Utc>>]
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A campaign's tasks, attempts, ended calls and costs as of a time in the past. It reads every event of the campaign's tasks and calls, from
/// one [`snapshot`](crate::snapshot).
pub async fn campaign_stats_as_of(
    db: &mut PgConnection,
    company_id: Uuid,
    campaign_id: Uuid,
    as_of: AsOf,
) -> Result<CampaignStatsRow, ApplyError> {
    let mut found = Delta::default();
    let mut before = as_of.position + 1;
    loop {
        let ids = created_before(db, company_id, campaign_id, before, TASKS_AT_ONCE).await?;
        let Some((_, oldest)) = ids.last() else { break };
        before = *oldest;
        let ids: Vec<_> = ids.into_iter().map(|(id, _)| id).collect();
        let mut rows = HashMap::new();
        let fold = |event: Recorded| {
            let Fact::Task(fact) = &event.fact else { return Ok(()) };
            found.note_claim(fact);
            super::fold(&mut rows, &event, fact)
        };
        read_streams(db, company_id, Task::CATEGORY, &ids, as_of.position, fold).await?;
        rows.values().for_each(|row| found.add(row, 1));
    }
    let scope = Scope { company_id, campaign_id: Some(campaign_id), skillbase_id: None, from: None, to: None, timezone: Tz::UTC };
    let calls = costs_as_of(db, &scope, None, as_of).await?;
    Ok(CampaignStatsRow::as_of(&found, &calls))
}

/// Tasks of a campaign that were created below log position `before`, newest first: id and position.
async fn created_before(
    db: &mut PgConnection,
    company_id: Uuid,
    campaign_id: Uuid,
    before: i64,
    limit: i64,
) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    let rows = sqlx::query!(
        "select task_id, position from call_tasks
          where company_id = $1 and campaign_id = $2 and position < $3
          order by position desc limit $4",
        company_id,
        campaign_id,
        before,
        limit
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.task_id, row.position)).collect())
}

/// What the pace of a campaign's calls depends on, beside its settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacingCounts {
    /// Attempts that count towards `max_concurrent_calls`.
    pub in_progress: i64,
    /// Attempts that count towards `calls_per_minute`.
    pub claims_last_60s: i64,
    /// Tasks that wait for a claim: pending, or for another attempt that is due.
    pub due: i64,
    /// When the next attempt will be due.
    pub next_due_at: Option<DateTime<Utc>>,
}

/// A campaign's tasks, attempts, ended calls and costs.
#[derive(Default)]
pub struct CampaignStatsRow {
    /// The campaign, as it is stored.
    body: Value,
    slots_in_progress: i64,
    claims_last_60s: i64,
    due_retries: i64,
    next_due_at: Option<DateTime<Utc>>,
    pub pending: i64,
    pub in_progress: i64,
    pub retry: i64,
    pub completed: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub success: i64,
    pub fail: i64,
    pub voicemail: i64,
    pub no_answer: i64,
    pub busy: i64,
    pub attempts: i64,
    pub first_attempt_at: Option<DateTime<Utc>>,
    pub last_attempt_at: Option<DateTime<Utc>>,
    pub ended_count: i64,
    pub duration_sec: rust_decimal::Decimal,
    pub cost_total: rust_decimal::Decimal,
}

impl CampaignStatsRow {
    /// Without the campaign and its pace.
    fn as_of(tasks: &Delta, calls: &CostsAsOf) -> Self {
        let status = |status: TaskStatus| tasks.statuses.get(&status).copied().unwrap_or_default();
        Self {
            pending: status(TaskStatus::Pending),
            in_progress: status(TaskStatus::InProgress),
            retry: status(TaskStatus::Retry),
            completed: status(TaskStatus::Completed),
            failed: status(TaskStatus::Failed),
            cancelled: status(TaskStatus::Cancelled),
            success: tasks.outcomes.of(Outcome::Success),
            fail: tasks.outcomes.of(Outcome::Fail),
            voicemail: tasks.outcomes.of(Outcome::Voicemail),
            no_answer: tasks.outcomes.of(Outcome::NoAnswer),
            busy: tasks.outcomes.of(Outcome::Busy),
            attempts: tasks.attempts,
            first_attempt_at: tasks.first_attempt_at,
            last_attempt_at: tasks.last_attempt_at,
            ended_count: calls.ended_count,
            duration_sec: calls.duration_sec,
            cost_total: calls.totals.costs.total(),
            ..Self::default()
        }
    }

    pub const fn pacing(&self) -> PacingCounts {
        PacingCounts {
            in_progress: self.slots_in_progress,
            claims_last_60s: self.claims_last_60s,
            due: self.pending + self.due_retries,
            next_due_at: self.next_due_at,
        }
    }

    /// The campaign; a deleted one as it was before.
    pub fn campaign(&self) -> Result<LiveCampaign, serde_json::Error> {
        LiveCampaign::deserialize(&self.body)
    }
}

/// `None` for a campaign that does not exist.
pub async fn campaign_stats(db: &mut PgConnection, company_id: Uuid, campaign_id: Uuid) -> Result<Option<CampaignStatsRow>, sqlx::Error> {
    sqlx::query_as!(
        CampaignStatsRow,
        r#"select c.body, p.in_progress as "slots_in_progress!", p.claims_last_60s as "claims_last_60s!", p.due_retries as "due_retries!",
                  p.next_due_at as "next_due_at?", coalesce(s.pending, 0) as "pending!", coalesce(s.in_progress, 0) as "in_progress!", coalesce(s.retry, 0) as "retry!",
                  coalesce(s.completed, 0) as "completed!", coalesce(s.failed, 0) as "failed!", coalesce(s.cancelled, 0) as "cancelled!",
                  coalesce(s.success, 0) as "success!", coalesce(s.fail, 0) as "fail!", coalesce(s.voicemail, 0) as "voicemail!",
                  coalesce(s.no_answer, 0) as "no_answer!", coalesce(s.busy, 0) as "busy!", coalesce(s.attempts, 0) as "attempts!",
                  s.first_attempt_at as "first_attempt_at?", s.last_attempt_at as "last_attempt_at?",
                  coalesce(calls.ended_count, 0) as "ended_count!", coalesce(calls.duration_sec, 0) as "duration_sec!",
                  coalesce(costs.cost, 0) as "cost_total!"
             from campaigns c
                  cross join lateral campaign_pacing(c.company_id, c.campaign_id) p
                  left join campaign_stats s on s.company_id = c.company_id and s.campaign_id = c.campaign_id
                  left join campaign_calls calls on calls.company_id = c.company_id and calls.campaign_id = c.campaign_id
                  left join campaign_costs costs on costs.company_id = c.company_id and costs.campaign_id = c.campaign_id
            where c.company_id = $1 and c.campaign_id = $2"#,
        company_id,
        campaign_id
    )
    .fetch_optional(db)
    .await
}
