//! Claim slots keep a campaign within its limits across all processes; see the migration of the table.

use chrono::{DateTime, Utc};
use eventstore::{Pool, database::process_name};
use uuid::Uuid;

/// The result of a request for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Taken {
        taking: Taking,
        /// The claim already had the slot: another run of the same claim may hold it as well.
        is_shared: bool,
    },
    /// The task already has a slot.
    TaskBusy,
    /// The number of attempts in progress has reached the campaign's limit.
    Concurrency,
    /// The number of claims within the last 60 s has reached the campaign's limit.
    Rate,
}

/// One acquisition of a slot. If a claim is repeated, it acquires its slot at a different time: that is another acquisition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taking {
    pub company_id: Uuid,
    pub task_id: Uuid,
    pub call_id: Uuid,
    pub taken_at: DateTime<Utc>,
}

/// A task and the call that claims it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedTask {
    pub company_id: Uuid,
    pub campaign_id: Uuid,
    pub task_id: Uuid,
    pub call_id: Uuid,
}

pub struct SlotRequest {
    pub claimed: ClaimedTask,
    pub max_concurrent_calls: u32,
    pub calls_per_minute: u32,
}

pub async fn take(pool: &Pool, request: &SlotRequest) -> Result<Slot, sqlx::Error> {
    let ClaimedTask { company_id, campaign_id, task_id, call_id } = request.claimed;
    let row = sqlx::query!(
        r#"select answer as "answer!", taken, is_shared as "is_shared!" from take_claim_slot($1, $2, $3, $4, $5, $6, $7)"#,
        company_id,
        campaign_id,
        task_id,
        call_id,
        i64::from(request.max_concurrent_calls),
        i64::from(request.calls_per_minute),
        process_name()
    )
    .fetch_one(pool)
    .await?;
    match (row.answer.as_str(), row.taken) {
        ("ok", Some(taken_at)) => Ok(Slot::Taken { taking: Taking { company_id, task_id, call_id, taken_at }, is_shared: row.is_shared }),
        ("taken", _) => Ok(Slot::TaskBusy),
        ("concurrency", _) => Ok(Slot::Concurrency),
        ("rate", _) => Ok(Slot::Rate),
        (other, _) => Err(sqlx::Error::Protocol(format!("take_claim_slot answered {other}"))),
    }
}

/// Records that the claim is in the log: from now on it uses the limit per minute for 60 s. If the slot was deleted meanwhile, because its
/// process seemed to be gone, it is restored. Returns false if another claim has the task's slot now: that claim will not get the task and
/// will release the slot; then housekeeping restores this slot.
pub async fn confirm(pool: &Pool, claimed: &ClaimedTask) -> Result<bool, sqlx::Error> {
    let confirmed = sqlx::query_scalar!(
        r#"with confirmed as (
               update claim_slots set confirmed_at = coalesce(confirmed_at, clock_timestamp()) where call_id = $1 and task_id = $4
               returning call_id),
           restored as (
               insert into claim_slots (call_id, company_id, campaign_id, task_id, taken_at, confirmed_at, taken_by)
               select $1, $2, $3, $4, clock_timestamp(), clock_timestamp(), $5 where not exists (select from confirmed)
               on conflict do nothing
               returning call_id)
           select exists (select from confirmed) or exists (select from restored) as "confirmed!""#,
        claimed.call_id,
        claimed.company_id,
        claimed.campaign_id,
        claimed.task_id,
        process_name()
    );
    confirmed.fetch_one(pool).await
}

/// Renews the leases of calls on which a dialer is working.
pub async fn keep_alive(pool: &Pool, call_ids: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query!("update claim_slots set alive_at = clock_timestamp() where call_id = any($1)", call_ids).execute(pool).await?;
    Ok(())
}

/// Deletes a slot whose claim is not in the log, unless the slot was confirmed or acquired once more since.
pub async fn give_up(pool: &Pool, taking: &Taking) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from claim_slots where call_id = $1 and task_id = $2 and taken_at = $3 and confirmed_at is null",
        taking.call_id,
        taking.task_id,
        taking.taken_at
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The task for which this call has an open slot.
pub async fn task_of_call(pool: &Pool, call_id: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!("select task_id from claim_slots where call_id = $1 and released_at is null", call_id).fetch_optional(pool).await
}

/// Releases the slot, because the attempt is over, regardless of which run of its claim acquired the slot last. The claim uses the limit
/// per minute for 60 s, even if no process has confirmed it.
pub async fn release(pool: &Pool, call_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update claim_slots set released_at = clock_timestamp(), confirmed_at = coalesce(confirmed_at, clock_timestamp())
          where call_id = $1 and released_at is null",
        call_id
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Confirms slots whose claims are in the log although their processes did not confirm them.
pub async fn confirm_claimed(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update claim_slots s set confirmed_at = clock_timestamp() from call_tasks t
          where s.released_at is null and s.confirmed_at is null and s.taken_at < clock_timestamp() - interval '2 seconds'
            and t.company_id = s.company_id and t.task_id = s.task_id and t.call_id = s.call_id and t.status = 'in_progress'"
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Attempts that are in progress according to the read model and have no slot, not even a released one.
pub async fn missing(pool: &Pool, limit: i64) -> Result<Vec<ClaimedTask>, sqlx::Error> {
    sqlx::query_as!(
        ClaimedTask,
        r#"select t.company_id, t.campaign_id, t.task_id, t.call_id as "call_id!" from call_tasks t
            where t.status = 'in_progress' and t.call_id is not null
              and not exists (select from claim_slots s where s.call_id = t.call_id and s.task_id = t.task_id)
            limit $1"#,
        limit
    )
    .fetch_all(pool)
    .await
}

/// Processes that acquired slots which are not confirmed, and that have no connection to the database now.
pub async fn absent_processes(pool: &Pool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select p.taken_by as "taken_by!" from (
               select distinct taken_by from claim_slots
                where released_at is null and confirmed_at is null and taken_by is not null and taken_by <> $1) p
            where is_process_gone(p.taken_by)"#,
        process_name()
    )
    .fetch_all(pool)
    .await
}

/// Open slots whose task is not in progress with this call, according to the read model. Slots of processes that are gone are returned at
/// once; slots of this process when they are older than a successful claim takes; slots of other processes after a minute. The caller must
/// not delete a slot of this process whose claim is still in progress after this query.
pub async fn suspicious(pool: &Pool, gone: &[String]) -> Result<Vec<Taking>, sqlx::Error> {
    sqlx::query_as!(
        Taking,
        "select s.company_id, s.task_id, s.call_id, s.taken_at
           from claim_slots s left join call_tasks t on t.company_id = s.company_id and t.task_id = s.task_id
          where s.released_at is null and (t.call_id is distinct from s.call_id or t.status <> 'in_progress')
            and ((s.confirmed_at is null and s.taken_by = any($1))
                 or (s.confirmed_at is null and s.taken_by = $2 and s.taken_at + interval '2 seconds' < clock_timestamp())
                 or coalesce(s.confirmed_at + interval '5 seconds', s.taken_at + interval '60 seconds') < clock_timestamp())",
        gone,
        process_name()
    )
    .fetch_all(pool)
    .await
}

/// Deletes slots that no limit uses any more.
pub async fn purge(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from claim_slots where released_at < clock_timestamp() - interval '10 minutes'").execute(pool).await?;
    Ok(())
}
