//! A call task: one person to reach within a campaign, in one or more attempts.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{Decider, DomainEvent, Personal, outcome::Outcome, retry::RetryPolicy};

/// These names are storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum TaskEvent {
    TaskCreated(Box<TaskContact>),
    /// An attempt begins: whoever claimed has the task until its call gives no sign of life for `lease_sec`.
    TaskClaimed {
        campaign_id: Uuid,
        call_id: Uuid,
        attempt: u32,
        lease_sec: u32,
        claimed_at: DateTime<Utc>,
    },
    TaskCompleted {
        campaign_id: Uuid,
        call_id: Uuid,
        outcome: Outcome,
    },
    /// The attempt failed and there will be another.
    TaskRetryScheduled {
        campaign_id: Uuid,
        failure: AttemptFailure,
        next_attempt_at: DateTime<Utc>,
    },
    /// The last attempt failed.
    TaskFailed {
        campaign_id: Uuid,
        failure: AttemptFailure,
    },
    TaskCancelled {
        campaign_id: Uuid,
    },
}

impl DomainEvent for TaskEvent {
    fn personal_fields(event_type: &str) -> &'static [&'static str] {
        match event_type {
            "TaskCreated" => &["/phone_number", "/contact_name", "/contact_data"],
            "TaskRetryScheduled" | "TaskFailed" => &["/failure/error_message"],
            _ => &[],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskContact {
    pub campaign_id: Uuid,
    pub import_id: Uuid,
    /// Line in the spreadsheet; the header is row 1.
    pub row: u32,
    /// Who is called; tasks from before personal data was encrypted do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person_id: Option<Uuid>,
    /// E.164.
    pub phone_number: Personal<String>,
    pub contact_name: Option<Personal<String>>,
    /// The other columns of the row.
    pub contact_data: Personal<Map<String, Value>>,
    pub priority: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptFailure {
    pub call_id: Uuid,
    /// Whoever worked on the task may have written down anything.
    pub error_message: Personal<String>,
    pub outcome: Option<Outcome>,
    pub cause: FailureCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailureCause {
    /// Whoever worked on the task said so.
    Reported,
    /// The call gave no sign of life for the claim's lease.
    LeaseExpired,
    /// The call ended with an outcome, and the worker of the task did not report a result within the claim's lease.
    CallEnded,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display, strum::EnumString, strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TaskStatus {
    Pending,
    InProgress,
    Retry,
    Completed,
    Failed,
    Cancelled,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum TaskState {
    #[default]
    None,
    Created(Box<CreatedTask>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreatedTask {
    pub contact: TaskContact,
    pub status: TaskStatus,
    pub attempt_count: u32,
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// Of the current or the last attempt.
    pub call_id: Option<Uuid>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub outcome: Option<Outcome>,
    pub error_message: Option<Personal<String>>,
    /// Why the last attempt failed, if it did.
    pub failure_cause: Option<FailureCause>,
}

impl TaskState {
    pub fn created(&self) -> Option<&CreatedTask> {
        match self {
            Self::Created(task) => Some(task),
            Self::None => None,
        }
    }
}

#[derive(Clone, Debug)]
pub enum TaskCommand {
    Create(Box<TaskContact>),
    Claim { call_id: Uuid, lease_sec: u32, now: DateTime<Utc> },
    Complete { call_id: Uuid, outcome: Outcome },
    Fail { failure: AttemptFailure, retry: RetryPolicy, now: DateTime<Utc> },
    Cancel,
}

/// Longest `error_message`, in characters.
pub const ERROR_MESSAGE_MAX: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskRefusal {
    #[error("there is no such task")]
    Unknown,
    #[error("the task exists already")]
    CreatedAlready,
    #[error("the task cannot be claimed: it is {0}")]
    NotClaimable(TaskStatus),
    #[error("the task's next attempt is not due yet")]
    NotDue,
    #[error("this call is not the task's current attempt")]
    NotCurrentAttempt,
    #[error("this attempt has another result already")]
    HasOtherResult,
}

pub struct Task;

impl Task {
    /// Id of the task for a person in a campaign: a number is always the same person, and a person the same task, so that the
    /// log itself refuses a second one. Nobody can tell the number from it.
    pub fn id(campaign_id: Uuid, person_id: Uuid) -> Uuid {
        Uuid::new_v5(&campaign_id, person_id.as_bytes())
    }
}

impl Decider for Task {
    const CATEGORY: &'static str = "task";
    type State = TaskState;
    type Event = TaskEvent;
    type Command = TaskCommand;
    type Refusal = TaskRefusal;

    fn evolve(state: &mut TaskState, event: &TaskEvent) {
        if let TaskEvent::TaskCreated(contact) = event {
            *state = TaskState::Created(Box::new(CreatedTask {
                contact: contact.as_ref().clone(),
                status: TaskStatus::Pending,
                attempt_count: 0,
                last_attempt_at: None,
                call_id: None,
                next_attempt_at: None,
                outcome: None,
                error_message: None,
                failure_cause: None,
            }));
        }
        let TaskState::Created(task) = state else { return };
        match event {
            TaskEvent::TaskCreated(_) => {}
            TaskEvent::TaskClaimed { call_id, attempt, claimed_at, .. } => {
                task.status = TaskStatus::InProgress;
                task.attempt_count = *attempt;
                task.last_attempt_at = Some(*claimed_at);
                task.call_id = Some(*call_id);
                (task.next_attempt_at, task.outcome, task.error_message, task.failure_cause) = (None, None, None, None);
            }
            TaskEvent::TaskCompleted { outcome, .. } => {
                task.status = TaskStatus::Completed;
                task.outcome = Some(*outcome);
                (task.next_attempt_at, task.error_message, task.failure_cause) = (None, None, None);
            }
            TaskEvent::TaskRetryScheduled { failure, next_attempt_at, .. } => {
                task.record_failure(TaskStatus::Retry, failure);
                task.next_attempt_at = Some(*next_attempt_at);
            }
            TaskEvent::TaskFailed { failure, .. } => task.record_failure(TaskStatus::Failed, failure),
            TaskEvent::TaskCancelled { .. } => {
                task.status = TaskStatus::Cancelled;
                task.next_attempt_at = None;
            }
        }
    }

    fn person(id: Uuid, state: &TaskState) -> Uuid {
        state.created().and_then(|task| task.contact.person_id).unwrap_or(id)
    }

    fn decide(state: &TaskState, command: TaskCommand) -> Result<Vec<TaskEvent>, TaskRefusal> {
        match (state, command) {
            (TaskState::None, TaskCommand::Create(contact)) => Ok(vec![TaskEvent::TaskCreated(contact)]),
            (TaskState::None, _) => Err(TaskRefusal::Unknown),
            (TaskState::Created(task), TaskCommand::Create(contact)) if task.contact == *contact => Ok(vec![]),
            (TaskState::Created(_), TaskCommand::Create(_)) => Err(TaskRefusal::CreatedAlready),
            (TaskState::Created(task), TaskCommand::Claim { call_id, lease_sec, now }) => task.claim(call_id, lease_sec, now),
            (TaskState::Created(task), TaskCommand::Complete { call_id, outcome }) => task.complete(call_id, outcome),
            (TaskState::Created(task), TaskCommand::Fail { failure, retry, now }) => task.fail(failure, retry, now),
            (TaskState::Created(task), TaskCommand::Cancel) => Ok(match task.status {
                TaskStatus::Pending | TaskStatus::Retry => vec![TaskEvent::TaskCancelled { campaign_id: task.contact.campaign_id }],
                _ => vec![],
            }),
        }
    }
}

impl CreatedTask {
    fn record_failure(&mut self, status: TaskStatus, failure: &AttemptFailure) {
        self.status = status;
        self.outcome = failure.outcome;
        self.error_message = Some(failure.error_message.clone());
        self.failure_cause = Some(failure.cause);
    }

    /// Whether the last attempt counts as failed although the worker has reported no result: the worker may still do so.
    fn awaits_late_result(&self) -> bool {
        let has_failed = matches!(self.status, TaskStatus::Retry | TaskStatus::Failed | TaskStatus::Cancelled);
        has_failed && matches!(self.failure_cause, Some(FailureCause::LeaseExpired | FailureCause::CallEnded))
    }

    fn claim(&self, call_id: Uuid, lease_sec: u32, now: DateTime<Utc>) -> Result<Vec<TaskEvent>, TaskRefusal> {
        match self.status {
            TaskStatus::InProgress if self.call_id == Some(call_id) => Ok(vec![]),
            TaskStatus::Retry if self.next_attempt_at.is_some_and(|at| at > now) => Err(TaskRefusal::NotDue),
            TaskStatus::Pending | TaskStatus::Retry => {
                let campaign_id = self.contact.campaign_id;
                Ok(vec![TaskEvent::TaskClaimed { campaign_id, call_id, attempt: self.attempt_count + 1, lease_sec, claimed_at: now }])
            }
            status => Err(TaskRefusal::NotClaimable(status)),
        }
    }

    fn complete(&self, call_id: Uuid, outcome: Outcome) -> Result<Vec<TaskEvent>, TaskRefusal> {
        self.require_current(call_id)?;
        let completed = || TaskEvent::TaskCompleted { campaign_id: self.contact.campaign_id, call_id, outcome };
        match self.status {
            TaskStatus::InProgress => Ok(vec![completed()]),
            // No other attempt has begun: the person who agreed is not called again.
            _ if self.awaits_late_result() => Ok(vec![completed()]),
            TaskStatus::Completed if self.outcome == Some(outcome) => Ok(vec![]),
            _ => Err(TaskRefusal::HasOtherResult),
        }
    }

    fn fail(&self, failure: AttemptFailure, retry: RetryPolicy, now: DateTime<Utc>) -> Result<Vec<TaskEvent>, TaskRefusal> {
        self.require_current(failure.call_id)?;
        let campaign_id = self.contact.campaign_id;
        match self.status {
            TaskStatus::InProgress => Ok(vec![match retry.next_attempt_at(self.attempt_count, now) {
                Some(next_attempt_at) => TaskEvent::TaskRetryScheduled { campaign_id, failure, next_attempt_at },
                None => TaskEvent::TaskFailed { campaign_id, failure },
            }]),
            TaskStatus::Retry | TaskStatus::Failed
                if (self.outcome, self.error_message.as_ref()) == (failure.outcome, Some(&failure.error_message)) =>
            {
                Ok(vec![])
            }
            _ => Err(TaskRefusal::HasOtherResult),
        }
    }

    fn require_current(&self, call_id: Uuid) -> Result<(), TaskRefusal> {
        if self.call_id == Some(call_id) { Ok(()) } else { Err(TaskRefusal::NotCurrentAttempt) }
    }
}

#[cfg(test)]
mod tests {
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
            .then_refused(TaskRefusal::NotClaimable(TaskStatus::InProgress));
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
    fn a_completed_task_stays_completed() {
        let completed = |outcome| TaskEvent::TaskCompleted { campaign_id: CAMPAIGN, call_id: CALL, outcome };
        let complete = |outcome| TaskCommand::Complete { call_id: CALL, outcome };
        let history = || [created(), claimed(CALL, 1), completed(Outcome::Success)];
        given::<Task>([created(), claimed(CALL, 1)]).when(complete(Outcome::Success)).then([completed(Outcome::Success)]);
        given::<Task>(history()).when(complete(Outcome::Success)).then_nothing();
        given::<Task>(history()).when(complete(Outcome::Fail)).then_refused(TaskRefusal::HasOtherResult);
        given::<Task>(history()).when(fail(CALL)).then_refused(TaskRefusal::HasOtherResult);
        given::<Task>(history()).when(claim(LATER_CALL, NOW)).then_refused(TaskRefusal::NotClaimable(TaskStatus::Completed));
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
            given::<Task>(history).when(claim(LATER_CALL, NOW)).then_refused(TaskRefusal::NotClaimable(TaskStatus::Completed));
        }
        given::<Task>([created(), claimed(CALL, 1), retry(), claimed(LATER_CALL, 2)])
            .when(complete())
            .then_refused(TaskRefusal::NotCurrentAttempt);
        // A result that the worker has reported itself stands.
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

    fn any_command() -> impl Strategy<Value = TaskCommand> {
        let call = prop_oneof![Just(CALL), Just(LATER_CALL), Just(Uuid::from_u128(4))];
        (0..4_u8, call, 0..120_i64).prop_map(|(kind, call_id, minutes)| match kind {
            0 | 1 => claim(call_id, NOW + TimeDelta::minutes(minutes)),
            2 => TaskCommand::Fail { failure: failure(call_id), retry: RETRY, now: NOW + TimeDelta::minutes(minutes) },
            _ => TaskCommand::Complete { call_id, outcome: Outcome::Success },
        })
    }

    proptest! {
        /// Whatever comes in whatever order: attempts are counted one by one, never beyond the limit, and repeats change nothing.
        #[test]
        fn attempts_never_exceed_the_limit(commands in prop::collection::vec(any_command(), 0..40)) {
            let mut state = Task::fold(&[created()]);
            let mut claims = 0;
            for command in commands {
                let Ok(events) = Task::decide(&state, command.clone()) else { continue };
                claims += events.iter().filter(|e| matches!(e, TaskEvent::TaskClaimed { .. })).count();
                events.iter().for_each(|event| Task::evolve(&mut state, event));
                prop_assert!(!matches!(Task::decide(&state, command), Ok(events) if !events.is_empty()));
            }
            let task = state.created().unwrap();
            prop_assert_eq!(task.attempt_count as usize, claims);
            prop_assert!(task.attempt_count <= RETRY.max_retries);
        }
    }
}
