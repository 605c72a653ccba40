//! Starting and ending calls, and recording their turns.

use chrono::{DateTime, Utc};
use domain::{
    ERASED, Personal,
    call::{Call, CallCommand, CallEvent, CallRefusal, CallSubject, Direction, EndRequest, KnownCall, Turn},
    campaign::Campaign,
    phone::{self, PhoneNumber},
    task::Task,
    validation::{FieldFault, Invalid},
};
use eventstore::{Committed, Loaded, StoreError};
use uuid::Uuid;

use crate::{OpContext, ServiceError, Services, StateConflict, Versioned};

/// A new call, as an agent reports it.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// The id from a claim, or an id of the agent; `None`: a new id is generated.
    pub call_id: Option<Uuid>,
    pub campaign_id: Option<Uuid>,
    pub task_id: Option<Uuid>,
    pub skillbase_id: Option<Uuid>,
    pub direction: Direction,
    /// The number as the agent wrote it; national numbers are read in the campaign's region.
    pub phone_number: String,
    pub started_at: Option<DateTime<Utc>>,
}

/// The result of recording turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedTurns {
    pub recorded: usize,
    /// Number of turns that were already recorded with the same content.
    pub duplicates: usize,
    pub position: i64,
}

impl Services {
    /// Starts a call, or completes the data of a call that a claim dialed. Also returns whether the call is new.
    pub async fn start_call(&self, op: &OpContext, call: NewCall) -> Result<(Versioned<KnownCall>, bool), ServiceError> {
        let company_id = op.company_id();
        let mut invalid = Invalid::default();
        invalid.time("started_at", call.started_at);
        let region = self.campaign_region(company_id, call.campaign_id, &mut invalid).await?;
        let phone_number = read_phone_number(&call.phone_number, region.as_deref(), &mut invalid);
        let task_campaign = self.require_task(company_id, call.task_id, &phone_number, &mut invalid).await?;
        self.require_call_skillbase(company_id, call.skillbase_id, &mut invalid).await?;
        if let (Some(task_campaign), Some(campaign_id)) = (task_campaign, call.campaign_id) {
            invalid.require(task_campaign == campaign_id, "task_id", FieldFault::TaskOfOtherCampaign);
        }
        invalid.into_result()?;
        let id = call.call_id.unwrap_or_else(|| op.ids.make("call"));
        let is_new = !self.is_call_known(company_id, id).await?;
        let subject = CallSubject {
            campaign_id: call.campaign_id.or(task_campaign),
            task_id: call.task_id,
            skillbase_id: call.skillbase_id,
            skillbase_version: None,
            direction: call.direction,
            person_id: Some(self.store.persons().of_number(company_id, &phone_number).await?),
            phone_number: Personal::new(phone_number),
        };
        Ok((self.begin_call(op, id, subject, call.started_at).await?, is_new))
    }

    /// Starts a call whose subject is already validated.
    pub async fn begin_call(
        &self,
        op: &OpContext,
        call_id: Uuid,
        mut subject: CallSubject,
        started_at: Option<DateTime<Utc>>,
    ) -> Result<Versioned<KnownCall>, ServiceError> {
        subject.skillbase_version = self.skillbase_version(op.company_id(), subject.skillbase_id).await?;
        let command = CallCommand::Start { subject: Box::new(subject), started_at, now: op.command.now };
        let committed = self.store.execute::<Call>(&op.command, call_id, command).await?;
        self.call(op.company_id(), call_id, committed).await
    }

    /// Records turns, all or none of them. Turns that are already recorded are returned as duplicates.
    pub async fn record_turns(&self, op: &OpContext, call_id: Uuid, turns: Vec<Turn>) -> Result<RecordedTurns, ServiceError> {
        let given = turns.len();
        let command = CallCommand::RecordTurns { turns, now: op.command.now };
        let committed = self.store.execute::<Call>(&op.command, call_id, command).await?;
        let recorded = committed.events.iter().filter(|event| matches!(event, CallEvent::TurnRecorded(_))).count();
        Ok(RecordedTurns { recorded, duplicates: given.saturating_sub(recorded), position: committed.position })
    }

    /// Ends a call. This does not end its task.
    pub async fn end_call(&self, op: &OpContext, call_id: Uuid, request: EndRequest) -> Result<Versioned<KnownCall>, ServiceError> {
        let mut invalid = Invalid::default();
        request.validate(&mut invalid);
        invalid.into_result()?;
        let command = CallCommand::End { request, now: op.command.now };
        let committed = self.store.execute::<Call>(&op.command, call_id, command).await?;
        self.call(op.company_id(), call_id, committed).await
    }

    async fn call(&self, company_id: Uuid, id: Uuid, committed: Committed<Call>) -> Result<Versioned<KnownCall>, ServiceError> {
        let loaded: Loaded<Call> = self.store.load(company_id, id).await?;
        let call = committed.state.require("call")?.clone();
        Ok(Versioned::of_committed(id, &committed, &loaded, call))
    }

    /// The call as of a given time, from the events that were recorded until then.
    pub async fn call_as_of(&self, company_id: Uuid, id: Uuid, moment: DateTime<Utc>) -> Result<Versioned<KnownCall>, ServiceError> {
        let loaded: Loaded<Call> = self.store.load_as_of(company_id, id, moment).await?;
        let call = loaded.state.require("call at that moment")?.clone();
        Ok(Versioned::of_loaded(id, &loaded, loaded.position, call))
    }

    /// Whether the call exists. If the call belongs to another company, the answer is a conflict without details.
    async fn is_call_known(&self, company_id: Uuid, id: Uuid) -> Result<bool, ServiceError> {
        match self.store.load_fresh::<Call>(company_id, id).await {
            Ok(loaded) => Ok(loaded.version > 0),
            Err(StoreError::OtherCompany(_)) => Err(ServiceError::conflict(StateConflict::CallIdTaken)),
            Err(error) => Err(error.into()),
        }
    }

    async fn campaign_region(&self, company_id: Uuid, id: Option<Uuid>, invalid: &mut Invalid) -> Result<Option<String>, ServiceError> {
        let Some(id) = id else { return Ok(None) };
        match self.store.load_fresh::<Campaign>(company_id, id).await {
            Ok(loaded) if loaded.version > 0 => Ok(loaded.state.present().and_then(|live| live.settings.default_region.clone())),
            Ok(_) | Err(StoreError::OtherCompany(_)) => {
                invalid.add("campaign_id", no_such("campaign"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The task's campaign. If the phone number could not be read, it is empty and already refused.
    async fn require_task(
        &self,
        company_id: Uuid,
        id: Option<Uuid>,
        phone_number: &str,
        invalid: &mut Invalid,
    ) -> Result<Option<Uuid>, ServiceError> {
        let Some(id) = id else { return Ok(None) };
        let loaded = match self.store.load_fresh::<Task>(company_id, id).await {
            Err(StoreError::OtherCompany(_)) => None,
            loaded => Some(loaded?),
        };
        let Some(contact) = loaded.as_ref().and_then(|loaded| loaded.state.present()).map(|task| &task.contact) else {
            invalid.add("task_id", no_such("task"));
            return Ok(None);
        };
        let task_number = contact.phone_number.reveal();
        let is_other = !phone_number.is_empty() && task_number != ERASED && task_number != phone_number;
        invalid.require(!is_other, "phone_number", CallRefusal::OtherNumber);
        Ok(Some(contact.campaign_id))
    }

    async fn require_call_skillbase(&self, company_id: Uuid, id: Option<Uuid>, invalid: &mut Invalid) -> Result<(), ServiceError> {
        match self.skillbase_version(company_id, id).await {
            Ok(None) | Err(StoreError::OtherCompany(_)) if id.is_some() => invalid.add("skillbase_id", no_such("skillbase")),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn no_such(what: &str) -> FieldFault {
    FieldFault::Unknown { what: what.to_owned() }
}

/// The number as E.164, or an empty text with the reason in `invalid`. A call does not store an extension.
fn read_phone_number(text: &str, region: Option<&str>, invalid: &mut Invalid) -> String {
    match phone::parse(text, region) {
        Ok(PhoneNumber { e164, extension: None }) => return e164,
        Ok(_) => invalid.add("phone_number", FieldFault::ExtensionNotKept),
        Err(error) => invalid.add("phone_number", error),
    }
    String::new()
}
