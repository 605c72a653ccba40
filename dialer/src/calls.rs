//! What happens in calls.

use chrono::{DateTime, Utc};
use domain::call::{Call, CallCommand, CallEvent, CallRefusal, CallSubject, EndRequest, Turn};
use eventstore::{CommandContext, Committed, StoreError};
use uuid::Uuid;

use crate::{Desk, store_error};

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    Refused(#[from] CallRefusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of recording turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub recorded: usize,
    /// Turns that were there already, with the same content.
    pub duplicates: usize,
    pub position: i64,
}

impl Desk {
    /// Starts a call, or fills in what is known of one that a claim dialed.
    pub async fn start_call(
        &self,
        context: &CommandContext,
        call_id: Uuid,
        mut subject: CallSubject,
        started_at: Option<DateTime<Utc>>,
    ) -> Result<Committed<Call>, CallError> {
        subject.skillbase_version = self.skillbase_version(context.company_id, subject.skillbase_id).await?;
        let command = CallCommand::Start { subject: Box::new(subject), started_at, now: context.now };
        self.store.execute::<Call>(context, call_id, command).await.map_err(store_error)
    }

    /// Records turns, all or none of them. Turns that are there already count as duplicates.
    pub async fn record_turns(&self, context: &CommandContext, call_id: Uuid, turns: Vec<Turn>) -> Result<Recorded, CallError> {
        let given = turns.len();
        let command = CallCommand::RecordTurns { turns, now: context.now };
        let committed = self.store.execute::<Call>(context, call_id, command).await.map_err(store_error::<_, CallError>)?;
        let recorded = committed.events.iter().filter(|event| matches!(event, CallEvent::TurnRecorded(_))).count();
        Ok(Recorded { recorded, duplicates: given.saturating_sub(recorded), position: committed.position })
    }

    /// Ends a call. Its task does not end with it.
    pub async fn end_call(&self, context: &CommandContext, call_id: Uuid, request: EndRequest) -> Result<Committed<Call>, CallError> {
        let command = CallCommand::End { request, now: context.now };
        self.store.execute::<Call>(context, call_id, command).await.map_err(store_error)
    }
}
