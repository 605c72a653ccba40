//! What places calls.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Personal,
    call::{Call, CallSubject, EndRequest, Turn},
    outcome::Outcome,
    skillbase::SkillbaseConfig,
};
use eventstore::{CommandContext, Committed, now};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::{CallError, Desk};

/// A call to place.
#[derive(Clone, Debug)]
pub struct Placement {
    pub call_id: Uuid,
    pub subject: CallSubject,
    pub contact_name: Option<Personal<String>>,
    pub config: Option<Box<SkillbaseConfig>>,
}

/// How a placed call came to its end.
#[derive(Clone, Debug)]
pub struct Ended {
    pub outcome: Outcome,
    pub final_state: Option<String>,
    pub hangup_by: Option<String>,
    /// Seconds of conversation; `None` lets start and end tell.
    pub duration_sec: Option<Decimal>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("the call could not be placed: {0}")]
    NotPlaced(String),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Places calls. One dial per placement: an attempt whose result is not known is never dialed again under the same call id.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// As in a campaign's `dialed_by`.
    fn name(&self) -> &'static str;

    /// Dials, reports through `line` what happens, and returns when the call is over.
    async fn place(&self, placement: &Placement, line: &Line<'_>) -> Result<Ended, ProviderError>;
}

/// Through which a provider reports, by the same commands as an agent outside would.
pub struct Line<'a> {
    pub(crate) desk: &'a Desk,
    pub(crate) context: CommandContext,
    pub(crate) call_id: Uuid,
}

impl Line<'_> {
    fn context(&self) -> CommandContext {
        CommandContext { now: now(), ..self.context.clone() }
    }

    /// Somebody, or a machine, picked up.
    pub async fn answered(&self, subject: &CallSubject, at: DateTime<Utc>) -> Result<(), CallError> {
        self.desk.start_call(&self.context(), self.call_id, subject.clone(), Some(at)).await?;
        Ok(())
    }

    pub async fn turn(&self, turn: Turn) -> Result<(), CallError> {
        self.desk.record_turns(&self.context(), self.call_id, vec![turn]).await?;
        Ok(())
    }

    pub(crate) async fn ended(&self, ended: &Ended) -> Result<Committed<Call>, CallError> {
        let request = EndRequest {
            ended_at: Some(now()),
            duration_sec: ended.duration_sec,
            final_state: ended.final_state.clone(),
            hangup_by: ended.hangup_by.clone(),
            outcome: Some(ended.outcome),
        };
        self.desk.end_call(&self.context(), self.call_id, request).await
    }
}
