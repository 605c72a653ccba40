//! The rules of tasks: claims, results, retries and cancellation.

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;
use crate::{retry::Backoff, testing::given};

const NOW: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
const CAMPAIGN: Uuid = Uuid::from_u128(1);
const PERSON: Uuid = Uuid::from_u128(8);
const CALL: Uuid = Uuid::from_u128(2);
const LATER_CALL: Uuid = Uuid::from_u128(3);
const RETRY: RetryPolicy = RetryPolicy { max_retries: 2, retry_delay_minutes: 30, retry_backoff: Backoff::Fixed };

fn created() -> TaskEvent {
    TaskEvent::TaskCreated(Box::new(TaskContact {
        campaign_id: CAMPAIGN,
        import_id: Uuid::nil(),
        row: 2,
        person_id: Some(PERSON),
        phone_number: "+12025550100".to_owned().into(),
        contact_name: None,
        contact_data: Map::new().into(),
        priority: 0,
    }))
}

fn claimed(call_id: Uuid, attempt: u32) -> TaskEvent {
    claimed_at(call_id, attempt, NOW)
}

fn claimed_at(call_id: Uuid, attempt: u32, claimed_at: DateTime<Utc>) -> TaskEvent {
    TaskEvent::TaskClaimed { campaign_id: CAMPAIGN, call_id, attempt, lease_sec: 600, claimed_at }
}

fn claim(call_id: Uuid, now: DateTime<Utc>) -> TaskCommand {
    TaskCommand::Claim { call_id, lease_sec: 600, now }
}

fn failure(call_id: Uuid) -> AttemptFailure {
    AttemptFailure { call_id, error_message: "busy".to_owned().into(), outcome: Some(Outcome::Busy), cause: FailureCause::Reported }
}

fn fail(call_id: Uuid) -> TaskCommand {
    TaskCommand::Fail { failure: failure(call_id), retry: RETRY, now: NOW }
}

fn retry_scheduled() -> TaskEvent {
    TaskEvent::TaskRetryScheduled { campaign_id: CAMPAIGN, failure: failure(CALL), next_attempt_at: NOW + TimeDelta::minutes(30) }
}

#[test]
fn a_claim_begins_an_attempt() {
    given::<Task>([created()]).when(claim(CALL, NOW)).then([claimed(CALL, 1)]);
    given::<Task>([created(), claimed(CALL, 1)]).when(claim(CALL, NOW)).then_nothing();
    given::<Task>([created(), claimed(CALL, 1)])
        .when(claim(LATER_CALL, NOW))
        .then_refused(TaskRefusal::NotClaimable { status: TaskStatus::InProgress });
}

#[test]
fn a_failed_attempt_is_tried_again_when_due_until_the_last() {
    let history = || [created(), claimed(CALL, 1), retry_scheduled()];
    given::<Task>([created(), claimed(CALL, 1)]).when(fail(CALL)).then([retry_scheduled()]);
    given::<Task>(history()).when(claim(LATER_CALL, NOW + TimeDelta::minutes(29))).then_refused(TaskRefusal::NotDue);
    given::<Task>(history()).when(claim(LATER_CALL, NOW + TimeDelta::minutes(30))).then([claimed_at(
        LATER_CALL,
        2,
        NOW + TimeDelta::minutes(30),
    )]);
    given::<Task>(history().into_iter().chain([claimed(LATER_CALL, 2)]))
        .when(fail(LATER_CALL))
        .then([TaskEvent::TaskFailed { campaign_id: CAMPAIGN, failure: failure(LATER_CALL) }]);
}

#[test]
fn a_failed_task_that_is_put_back_is_tried_once_more_and_its_attempts_go_on_counting() {
    let failed = || TaskEvent::TaskFailed { campaign_id: CAMPAIGN, failure: failure(CALL) };
    let reopened = || TaskEvent::TaskReopened { campaign_id: CAMPAIGN, next_attempt_at: NOW };
    let reopen = |outcomes: &[Outcome]| TaskCommand::Reopen { outcomes: outcomes.to_vec(), now: NOW };
    let outcome = failure(CALL).outcome.unwrap();
    let other = if outcome == Outcome::Busy { Outcome::Fail } else { Outcome::Busy };
    let history = || [created(), claimed(CALL, 2), failed()];
    given::<Task>(history()).when(reopen(&[])).then([reopened()]);
    given::<Task>(history()).when(reopen(&[other, outcome])).then([reopened()]);
    given::<Task>(history()).when(reopen(&[other])).then_nothing();
    for history in [vec![created()], vec![created(), claimed(CALL, 1)], vec![created(), claimed(CALL, 1), retry_scheduled()]] {
        given::<Task>(history).when(reopen(&[])).then_nothing();
    }
    let history = || history().into_iter().chain([reopened()]);
    given::<Task>(history()).when(claim(LATER_CALL, NOW)).then([claimed_at(LATER_CALL, 3, NOW)]);
    given::<Task>(history().chain([claimed(LATER_CALL, 3)]))
        .when(fail(LATER_CALL))
        .then([TaskEvent::TaskFailed { campaign_id: CAMPAIGN, failure: failure(LATER_CALL) }]);
}

#[test]
fn a_completed_task_stays_completed() {
    let completed = |outcome| TaskEvent::TaskCompleted { campaign_id: CAMPAIGN, call_id: CALL, outcome };
    let complete = |outcome| TaskCommand::Complete { call_id: CALL, outcome };
    let history = || [created(), claimed(CALL, 1), completed(Outcome::Success)];
    given::<Task>([created(), claimed(CALL, 1)]).when(complete(Outcome::Success)).then([completed(Outcome::Success)]);
    given::<Task>(history()).when(complete(Outcome::Success)).then_nothing();
    given::<Task>(history()).when(complete(Outcome::Fail)).then_refused(TaskRefusal::HasOtherResult);
    given::<Task>(history()).when(fail(CALL)).then_refused(TaskRefusal::HasOtherResult);
    given::<Task>(history()).when(claim(LATER_CALL, NOW)).then_refused(TaskRefusal::NotClaimable { status: TaskStatus::Completed });
}

#[test]
fn a_late_completion_is_accepted_until_another_attempt_begins() {
    let expired = |call_id| AttemptFailure { cause: FailureCause::LeaseExpired, outcome: None, ..failure(call_id) };
    let retry = || TaskEvent::TaskRetryScheduled { campaign_id: CAMPAIGN, failure: expired(CALL), next_attempt_at: NOW };
    let failed = || TaskEvent::TaskFailed { campaign_id: CAMPAIGN, failure: expired(CALL) };
    let cancelled = || TaskEvent::TaskCancelled { campaign_id: CAMPAIGN };
    let complete = || TaskCommand::Complete { call_id: CALL, outcome: Outcome::Success };
    let completed = || TaskEvent::TaskCompleted { campaign_id: CAMPAIGN, call_id: CALL, outcome: Outcome::Success };
    for history in [vec![retry()], vec![failed()], vec![retry(), cancelled()]] {
        let history: Vec<_> = [created(), claimed(CALL, 1)].into_iter().chain(history).collect();
        given::<Task>(history.clone()).when(complete()).then([completed()]);
        let history: Vec<_> = history.into_iter().chain([completed()]).collect();
        given::<Task>(history.clone()).when(complete()).then_nothing();
        given::<Task>(history).when(claim(LATER_CALL, NOW)).then_refused(TaskRefusal::NotClaimable { status: TaskStatus::Completed });
    }
    given::<Task>([created(), claimed(CALL, 1), retry(), claimed(LATER_CALL, 2)])
        .when(complete())
        .then_refused(TaskRefusal::NotCurrentAttempt);
    // A result that the worker itself has reported is final.
    given::<Task>([created(), claimed(CALL, 1), retry_scheduled()]).when(complete()).then_refused(TaskRefusal::HasOtherResult);
}

#[test]
fn the_result_of_an_earlier_attempt_is_refused() {
    let history = [created(), claimed(CALL, 1), retry_scheduled(), claimed(LATER_CALL, 2)];
    given::<Task>(history).when(fail(CALL)).then_refused(TaskRefusal::NotCurrentAttempt);
    given::<Task>([created()]).when(fail(CALL)).then_refused(TaskRefusal::NotCurrentAttempt);
}

#[test]
fn only_what_waits_is_cancelled() {
    given::<Task>([created()]).when(TaskCommand::Cancel).then([TaskEvent::TaskCancelled { campaign_id: CAMPAIGN }]);
    given::<Task>([created(), claimed(CALL, 1)]).when(TaskCommand::Cancel).then_nothing();
}

#[test]
fn the_same_person_is_the_same_task() {
    assert_eq!(Task::id(CAMPAIGN, PERSON), Task::id(CAMPAIGN, PERSON));
    assert_ne!(Task::id(CAMPAIGN, PERSON), Task::id(CALL, PERSON));
}

fn any_failure(call_id: Uuid) -> impl Strategy<Value = AttemptFailure> {
    let cause = prop_oneof![Just(FailureCause::Reported), Just(FailureCause::LeaseExpired), Just(FailureCause::CallEnded)];
    let outcome = prop_oneof![Just(None), Just(Some(Outcome::Busy)), Just(Some(Outcome::Fail))];
    (cause, outcome).prop_map(move |(cause, outcome)| AttemptFailure { cause, outcome, ..failure(call_id) })
}

fn any_command() -> impl Strategy<Value = TaskCommand> {
    let call = prop_oneof![Just(CALL), Just(LATER_CALL), Just(Uuid::from_u128(4))];
    (call, 0..120_i64).prop_flat_map(|(call_id, minutes)| {
        let now = NOW + TimeDelta::minutes(minutes);
        let outcome = prop_oneof![Just(Outcome::Success), Just(Outcome::Fail)];
        prop_oneof![
            4 => Just(claim(call_id, now)),
            4 => any_failure(call_id).prop_map(move |failure| TaskCommand::Fail { failure, retry: RETRY, now }),
            2 => outcome.prop_map(move |outcome| TaskCommand::Complete { call_id, outcome }),
            1 => Just(TaskCommand::Cancel),
        ]
    })
}

proptest! {
    /// With any commands in any order, attempts are counted one by one, never beyond the limit; repeats change nothing, and a cancelled
    /// task waits for no other attempt.
    #[test]
    fn attempts_never_exceed_the_limit(commands in prop::collection::vec(any_command(), 0..40)) {
        let mut state = Task::fold(&[created()]);
        let mut claims = 0;
        for command in commands {
            let Ok(events) = Task::decide(&state, command.clone()) else { continue };
            claims += events.iter().filter(|e| matches!(e, TaskEvent::TaskClaimed { .. })).count();
            events.iter().for_each(|event| Task::evolve(&mut state, event));
            prop_assert!(!matches!(Task::decide(&state, command.clone()), Ok(events) if !events.is_empty()));
            let task = state.present().unwrap();
            let waits = matches!(task.status, TaskStatus::Pending | TaskStatus::Retry);
            prop_assert!(!waits || !matches!(command, TaskCommand::Cancel), "a cancelled task waits for another attempt");
            prop_assert!(task.status == TaskStatus::Retry || task.next_attempt_at.is_none(), "{:?}", task);
        }
        let task = state.present().unwrap();
        prop_assert_eq!(task.attempt_count as usize, claims);
        prop_assert!(task.attempt_count <= RETRY.max_retries);
    }
}
