//! A call task: one person to reach within a campaign, in one or more attempts.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    Coded, Decider, DomainEvent, Lifecycle, Personal, Refusal, RefusalKind, decider::STATE_BYTES, outcome::Outcome, retry::RetryPolicy,
};

/// These names are part of the storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum TaskEvent {
    TaskCreated(Box<TaskContact>),
    /// An attempt begins: the worker that claimed the task holds it until the call gives no sign of life for `lease_sec`.
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
    /// The attempt failed, and another attempt will follow.
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
    /// The company puts a failed task back: another attempt follows, and attempts go on counting.
    TaskReopened {
        campaign_id: Uuid,
        next_attempt_at: DateTime<Utc>,
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

    fn bound_fields(event_type: &str) -> &'static [&'static str] {
        match event_type {
            "TaskRetryScheduled" | "TaskFailed" => &["/failure/call_id"],
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
    /// The person to call; absent in tasks from before personal data was encrypted.
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
    /// Free text of the worker, which may contain anything.
    pub error_message: Personal<String>,
    pub outcome: Option<Outcome>,
    pub cause: FailureCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailureCause {
    /// The worker of the task reported it.
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

#[derive(Clone, Debug, PartialEq)]
pub struct CreatedTask {
    pub contact: TaskContact,
    pub status: TaskStatus,
    pub attempt_count: u32,
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// The call of the current or the last attempt.
    pub call_id: Option<Uuid>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub outcome: Option<Outcome>,
    pub error_message: Option<Personal<String>>,
    /// Why the last attempt failed, if it did.
    pub failure_cause: Option<FailureCause>,
}

#[derive(Clone, Debug)]
pub enum TaskCommand {
    Create(Box<TaskContact>),
    Claim {
        call_id: Uuid,
        lease_sec: u32,
        now: DateTime<Utc>,
    },
    Complete {
        call_id: Uuid,
        outcome: Outcome,
    },
    Fail {
        failure: AttemptFailure,
        retry: RetryPolicy,
        now: DateTime<Utc>,
    },
    Cancel,
    /// Has no effect unless the task has failed, with one of these outcomes if there are any.
    Reopen {
        outcomes: Vec<Outcome>,
        now: DateTime<Utc>,
    },
}

/// Longest `error_message`, in characters.
pub const ERROR_MESSAGE_MAX: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum TaskRefusal {
    #[error("there is no such task")]
    Unknown,
    #[error("the task exists already")]
    CreatedAlready,
    #[error("the task cannot be claimed: it is {status}")]
    NotClaimable { status: TaskStatus },
    #[error("the task's next attempt is not due yet")]
    NotDue,
    #[error("this call is not the task's current attempt")]
    NotCurrentAttempt,
    #[error("this attempt has another result already")]
    HasOtherResult,
}

impl Coded for TaskRefusal {
    const AREA: &'static str = "task";
}

impl Refusal for TaskRefusal {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound("task"),
            _ => RefusalKind::Conflict,
        }
    }
}

/// Memory that a cell of contact data needs beside its text, in bytes.
const CELL_BYTES: usize = 100;

pub struct Task;

impl Task {
    /// Id of the task for a person in a campaign: a number always leads to the same person, and a person to the same task, so that the log
    /// itself refuses a second task. The number cannot be derived from the id.
    pub fn id(campaign_id: Uuid, person_id: Uuid) -> Uuid {
        Uuid::new_v5(&campaign_id, person_id.as_bytes())
    }
}

impl Decider for Task {
    const CATEGORY: &'static str = "task";
    type State = Lifecycle<CreatedTask>;
    type Event = TaskEvent;
    type Command = TaskCommand;
    type Refusal = TaskRefusal;

    fn evolve(state: &mut Lifecycle<CreatedTask>, event: &TaskEvent) {
        if let TaskEvent::TaskCreated(contact) = event {
            *state = Lifecycle::new(CreatedTask {
                contact: contact.as_ref().clone(),
                status: TaskStatus::Pending,
                attempt_count: 0,
                last_attempt_at: None,
                call_id: None,
                next_attempt_at: None,
                outcome: None,
                error_message: None,
                failure_cause: None,
            });
        }
        let Some(task) = state.present_mut() else { return };
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
            TaskEvent::TaskReopened { next_attempt_at, .. } => {
                task.status = TaskStatus::Retry;
                task.next_attempt_at = Some(*next_attempt_at);
            }
        }
    }

    fn person(id: Uuid, state: &Lifecycle<CreatedTask>) -> Uuid {
        state.present().and_then(|task| task.contact.person_id).unwrap_or(id)
    }

    fn size_of(state: &Lifecycle<CreatedTask>) -> usize {
        let cells = state.present().into_iter().flat_map(|task| task.contact.contact_data.reveal());
        cells.map(|(name, value)| CELL_BYTES + name.len() + value.as_str().map_or_else(|| value.to_string().len(), str::len)).sum::<usize>()
            + STATE_BYTES
    }

    fn decide(state: &Lifecycle<CreatedTask>, command: TaskCommand) -> Result<Vec<TaskEvent>, TaskRefusal> {
        match (state.present(), command) {
            (None, TaskCommand::Create(contact)) => Ok(vec![TaskEvent::TaskCreated(contact)]),
            (None, _) => Err(TaskRefusal::Unknown),
            (Some(task), TaskCommand::Create(contact)) if task.contact == *contact => Ok(vec![]),
            (Some(_), TaskCommand::Create(_)) => Err(TaskRefusal::CreatedAlready),
            (Some(task), TaskCommand::Claim { call_id, lease_sec, now }) => task.claim(call_id, lease_sec, now),
            (Some(task), TaskCommand::Complete { call_id, outcome }) => task.complete(call_id, outcome),
            (Some(task), TaskCommand::Fail { failure, retry, now }) => task.fail(failure, retry, now),
            (Some(task), TaskCommand::Cancel) => Ok(match task.status {
                TaskStatus::Pending | TaskStatus::Retry => vec![TaskEvent::TaskCancelled { campaign_id: task.contact.campaign_id }],
                _ => vec![],
            }),
            (Some(task), TaskCommand::Reopen { outcomes, now }) => Ok(task.reopen(&outcomes, now)),
        }
    }
}

impl CreatedTask {
    /// Whether this call is the task's attempt in progress.
    pub fn is_in_progress_with(&self, call_id: Uuid) -> bool {
        self.status == TaskStatus::InProgress && self.call_id == Some(call_id)
    }

    fn record_failure(&mut self, status: TaskStatus, failure: &AttemptFailure) {
        self.status = status;
        self.outcome = failure.outcome;
        self.error_message = Some(failure.error_message.clone());
        self.failure_cause = Some(failure.cause);
    }

    /// Whether the last attempt is treated as failed although the worker has reported no result: the worker may still report one.
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
            status => Err(TaskRefusal::NotClaimable { status }),
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

    fn reopen(&self, outcomes: &[Outcome], now: DateTime<Utc>) -> Vec<TaskEvent> {
        let is_meant = outcomes.is_empty() || self.outcome.is_some_and(|outcome| outcomes.contains(&outcome));
        if self.status != TaskStatus::Failed || !is_meant {
            return vec![];
        }
        vec![TaskEvent::TaskReopened { campaign_id: self.contact.campaign_id, next_attempt_at: now }]
    }

    fn require_current(&self, call_id: Uuid) -> Result<(), TaskRefusal> {
        if self.call_id == Some(call_id) { Ok(()) } else { Err(TaskRefusal::NotCurrentAttempt) }
    }
}
