//! The interface of providers, which place calls.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Personal,
    call::{CallSubject, EndRequest, KnownCall, Turn},
    outcome::Outcome,
    skillbase::SkillbaseConfig,
};
use eventstore::{CommandContext, now};
use rust_decimal::Decimal;
use uuid::Uuid;

use services::{OpContext, ServiceError, Services, Versioned};

/// A call to place.
#[derive(Clone, Debug)]
pub struct Placement {
    pub call_id: Uuid,
    pub subject: CallSubject,
    pub contact_name: Option<Personal<String>>,
    pub config: Option<Box<SkillbaseConfig>>,
}

/// How a placed call ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub outcome: Outcome,
    pub final_state: Option<String>,
    pub hangup_by: Option<String>,
    /// Seconds of conversation; `None` means that the duration is computed from start and end.
    pub duration_sec: Option<Decimal>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("the call could not be placed: {0}")]
    NotPlaced(String),
    #[error(transparent)]
    Call(#[from] ServiceError),
}

/// Places calls. Each placement is dialed once: an attempt whose result is unknown is never dialed a second time under the same call id.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The name in a campaign's `dialed_by`.
    fn name(&self) -> &'static str;

    /// Dials, reports events through `line`, and returns when the call is over.
    async fn place(&self, placement: &Placement, line: &Line<'_>) -> Result<Ended, ProviderError>;
}

/// Reports a provider's events with the same commands as an external agent.
pub struct Line<'a> {
    pub(crate) services: &'a Services,
    pub(crate) op: OpContext,
    pub(crate) call_id: Uuid,
}

impl Line<'_> {
    /// A command at the present time.
    fn op(&self) -> OpContext {
        let command = CommandContext { now: now(), ..self.op.command.clone() };
        OpContext { command, ..self.op.clone() }
    }

    /// Reports that a person or a machine picked up.
    pub async fn answered(&self, subject: &CallSubject, at: DateTime<Utc>) -> Result<(), ServiceError> {
        self.services.begin_call(&self.op(), self.call_id, subject.clone(), Some(at)).await?;
        Ok(())
    }

    pub async fn turn(&self, turn: Turn) -> Result<(), ServiceError> {
        self.services.record_turns(&self.op(), self.call_id, vec![turn]).await?;
        Ok(())
    }

    pub(crate) async fn ended(&self, ended: &Ended) -> Result<Versioned<KnownCall>, ServiceError> {
        let request = EndRequest {
            duration_sec: ended.duration_sec,
            final_state: ended.final_state.clone(),
            hangup_by: ended.hangup_by.clone(),
            outcome: Some(ended.outcome),
            ..EndRequest::at(now())
        };
        self.services.end_call(&self.op(), self.call_id, request).await
    }
}
