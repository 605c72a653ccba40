//! Claim slots: what keeps a campaign within its limits across all processes; see the table's migration.

use chrono::{DateTime, Utc};
use eventstore::{Pool, database::process_name};
use uuid::Uuid;

/// What came of asking for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Taken,
    /// The task has a slot already.
    TaskBusy,
    /// As many attempts are in progress as the campaign allows.
    Concurrency,
    /// As many claims were made within the last 60 s as the campaign allows.
    Rate,
}

pub(crate) struct SlotRequest {
    pub company_id: Uuid,
    pub campaign_id: Uuid,
    pub task_id: Uuid,
    pub call_id: Uuid,
    pub max_concurrent_calls: u32,
    pub calls_per_minute: u32,
}

pub(crate) async fn take(pool: &Pool, request: &SlotRequest) -> Result<Slot, sqlx::Error> {
    let answer = sqlx::query_scalar!(
        r#"select take_claim_slot($1, $2, $3, $4, $5, $6, $7) as "answer!""#,
        request.company_id,
        request.campaign_id,
        request.task_id,
        request.call_id,
        i64::from(request.max_concurrent_calls),
        i64::from(request.calls_per_minute),
        process_name()
    )
    .fetch_one(pool)
    .await?;
    match answer.as_str() {
        "ok" => Ok(Slot::Taken),
        "taken" => Ok(Slot::TaskBusy),
        "concurrency" => Ok(Slot::Concurrency),
        "rate" => Ok(Slot::Rate),
        other => Err(sqlx::Error::Protocol(format!("take_claim_slot answered {other}"))),
    }
}

/// The claim is in the log: from now on it is within the limit per minute for 60 s. A slot that was given up meanwhile, because its process
/// seemed to be gone, is there again.
pub(crate) async fn confirm(pool: &Pool, request: &SlotRequest) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into claim_slots (call_id, company_id, campaign_id, task_id, taken_at, confirmed_at, taken_by)
         values ($1, $2, $3, $4, clock_timestamp(), clock_timestamp(), $5)
         on conflict (call_id) do update set confirmed_at = clock_timestamp()",
        request.call_id,
        request.company_id,
        request.campaign_id,
        request.task_id,
        process_name()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Somebody is at work on these calls.
pub(crate) async fn keep_alive(pool: &Pool, call_ids: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query!("update claim_slots set alive_at = clock_timestamp() where call_id = any($1)", call_ids).execute(pool).await?;
    Ok(())
}

/// The claim did not happen.
pub(crate) async fn give_up(pool: &Pool, call_id: Uuid, task_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from claim_slots where call_id = $1 and task_id = $2 and confirmed_at is null", call_id, task_id)
        .execute(pool)
        .await?;
    Ok(())
}

/// The task that an open slot of this call is for.
pub(crate) async fn task_of_call(pool: &Pool, call_id: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!("select task_id from claim_slots where call_id = $1 and released_at is null", call_id).fetch_optional(pool).await
}

/// The attempt is over. Its claim was in the log and is within the limit per minute for 60 s, also if no process has confirmed it.
pub(crate) async fn release(pool: &Pool, call_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update claim_slots set released_at = clock_timestamp(), confirmed_at = coalesce(confirmed_at, clock_timestamp())
          where call_id = $1 and released_at is null",
        call_id
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Confirms slots whose claims are in the log although their processes did not say so.
pub(crate) async fn confirm_claimed(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update claim_slots s set confirmed_at = clock_timestamp() from call_tasks t
          where s.released_at is null and s.confirmed_at is null and s.taken_at < clock_timestamp() - interval '2 seconds'
            and t.company_id = s.company_id and t.task_id = s.task_id and t.call_id = s.call_id and t.status = 'in_progress'"
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Processes that took slots which are not confirmed, and have no connection to the database now.
pub(crate) async fn absent_processes(pool: &Pool) -> Result<Vec<String>, sqlx::Error> {
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

/// An open slot whose claim must be in the log by now, if it ever gets there.
pub(crate) struct OpenSlot {
    pub company_id: Uuid,
    pub task_id: Uuid,
    pub call_id: Uuid,
    /// A claim that comes again takes its slot again: then another moment.
    pub taken_at: DateTime<Utc>,
}

/// Closes a slot whose claim is in the log and whose attempt is over, unless it was taken again since.
pub(crate) async fn close(pool: &Pool, slot: &OpenSlot) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update claim_slots set released_at = clock_timestamp(), confirmed_at = coalesce(confirmed_at, clock_timestamp())
          where call_id = $1 and taken_at = $2 and released_at is null",
        slot.call_id,
        slot.taken_at
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes a slot whose claim is not in the log, unless it was taken again since.
pub(crate) async fn delete_abandoned(pool: &Pool, slot: &OpenSlot) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from claim_slots where call_id = $1 and taken_at = $2 and confirmed_at is null", slot.call_id, slot.taken_at)
        .execute(pool)
        .await?;
    Ok(())
}

/// How long this process may still append a claim that it has given up waiting for, in seconds: longer than its appender reconnects.
const OWN_APPEND_MAX_SEC: f64 = 10.0;

/// Open slots whose task does not look in progress with this call, as far as the read model knows: of processes that are gone at once, of
/// this process once no claim under way holds them, of others after a minute.
pub(crate) async fn suspicious(pool: &Pool, gone: &[String], under_way: &[Uuid]) -> Result<Vec<OpenSlot>, sqlx::Error> {
    sqlx::query_as!(
        OpenSlot,
        "select s.company_id, s.task_id, s.call_id, s.taken_at
           from claim_slots s left join call_tasks t on t.company_id = s.company_id and t.task_id = s.task_id
          where s.released_at is null and (t.call_id is distinct from s.call_id or t.status <> 'in_progress')
            and ((s.confirmed_at is null and s.taken_by = any($1))
                 or (s.confirmed_at is null and s.taken_by = $2 and not s.call_id = any($3)
                     and s.taken_at + make_interval(secs => $4) < clock_timestamp())
                 or coalesce(s.confirmed_at + interval '5 seconds', s.taken_at + interval '60 seconds') < clock_timestamp())",
        gone,
        process_name(),
        under_way,
        OWN_APPEND_MAX_SEC
    )
    .fetch_all(pool)
    .await
}

/// Forgets slots that no limit counts any more.
pub(crate) async fn purge(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from claim_slots where released_at < clock_timestamp() - interval '10 minutes'").execute(pool).await?;
    Ok(())
}
