use chrono::{DateTime, Utc};
use domain::task::CreatedTask;
use projections::call_tasks::CallTaskRow;
use serde::Serialize;
use serde_json::Value;
use services::Versioned;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    tables::row,
    words::{OutcomeName, TaskStatusName},
};

#[derive(Serialize, ToSchema)]
pub struct TaskView {
    /// Id of the task
    pub id: Uuid,
    /// The campaign that the task belongs to
    pub campaign_id: Uuid,
    /// E.164
    pub phone_number: String,
    /// The person's name; `erased` if the person was erased
    pub contact_name: Option<String>,
    /// The other columns of the call list
    #[schema(value_type = HashMap<String, Value>)]
    pub contact_data: Value,
    /// What became of the task so far
    #[schema(value_type = TaskStatusName)]
    pub status: String,
    /// Tasks with a higher priority are called first
    pub priority: i32,
    /// Attempts that have begun
    pub attempt_count: i64,
    /// After how many attempts the task has failed: `max_retries` of its campaign. Each time the company puts a failed task back, there is one attempt more
    pub max_attempts: u32,
    /// When the last attempt began
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// When the next attempt is due; null unless the status is `retry`
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Id of the call of the current or the last attempt
    pub call_id: Option<Uuid>,
    /// How the last attempt's call ended; null while it is not known
    #[schema(value_type = Option<OutcomeName>)]
    pub outcome: Option<String>,
    /// Why the last attempt failed
    pub error_message: Option<String>,
    /// When the task was created
    pub created_at: DateTime<Utc>,
    /// When the task last changed
    pub updated_at: DateTime<Utc>,
}

row!(TaskView {
    id, campaign_id, phone_number, contact_name, status, priority, attempt_count, max_attempts, last_attempt_at, next_attempt_at, call_id, outcome,
    error_message, created_at, updated_at,
} and the fields of contact_data);

impl TaskView {
    pub fn new(given: Versioned<CreatedTask>, max_attempts: u32) -> Self {
        let Versioned { id, value: task, created_at, updated_at, .. } = given;
        Self {
            id,
            campaign_id: task.contact.campaign_id,
            phone_number: task.contact.phone_number.reveal().clone(),
            contact_name: task.contact.contact_name.as_ref().map(|name| name.reveal().clone()),
            contact_data: Value::Object(task.contact.contact_data.reveal().clone()),
            status: task.status.to_string(),
            priority: task.contact.priority,
            attempt_count: i64::from(task.attempt_count),
            max_attempts,
            last_attempt_at: task.last_attempt_at,
            next_attempt_at: task.next_attempt_at,
            call_id: task.call_id,
            outcome: task.outcome.map(|o| o.to_string()),
            error_message: task.error_message.as_ref().map(|message| message.reveal().clone()),
            created_at,
            updated_at,
        }
    }

    pub fn of_row(row: CallTaskRow, max_attempts: u32) -> Self {
        Self {
            id: row.task_id,
            campaign_id: row.campaign_id,
            phone_number: row.phone_number,
            contact_name: row.contact_name,
            contact_data: row.contact_data,
            status: row.status,
            priority: row.priority,
            attempt_count: i64::from(row.attempt_count),
            max_attempts,
            last_attempt_at: row.last_attempt_at,
            next_attempt_at: row.next_attempt_at,
            call_id: row.call_id,
            outcome: row.outcome,
            error_message: row.error_message,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
