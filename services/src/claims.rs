//! Claiming the next task of a campaign.

use chrono::{DateTime, Utc};
use domain::{
    ERASED,
    call::{Call, CallCommand, CallSubject, Direction},
    campaign::{Campaign, CampaignStatus, LiveCampaign, settings::EXTERNAL},
    task::{CreatedTask, Task, TaskCommand, TaskRefusal, TaskStatus},
};
use eventstore::{APPEND_DEADLINE, CommandContext, CommandError as _, ExecuteError, Loaded, StoreError, now};
use projections::call_tasks;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    EXTERNAL_LEASE_SEC, OpContext, ServiceError, Services, Versioned,
    claim_slots::{self, ClaimedTask, Slot, SlotRequest},
};

/// Number of candidate tasks that are read at once. With this number of concurrent claimers, some find all candidates taken and read the
/// next ones.
const CANDIDATES: i64 = 32;
/// Maximum number of attempts when other claims were faster.
const ROUNDS_MAX: usize = 20;

/// The worker for which a task is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimant<'a> {
    /// An external agent, over the API.
    External,
    /// The platform's dialer, for the provider with this name.
    Provider(&'a str),
}

impl Claimant<'_> {
    fn dialed_by(&self) -> &str {
        match self {
            Self::External => EXTERNAL,
            Self::Provider(name) => name,
        }
    }
}

/// A claimed task, and the call for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub task_id: Uuid,
    pub call_id: Uuid,
    /// Position of the claim in the log.
    pub position: i64,
    /// Id of the claim's event; `None` if the task was already claimed for this call.
    pub event_id: Option<Uuid>,
}

/// The parameters of a claim, independent of the task.
#[derive(Clone)]
struct Attempt {
    campaign_id: Uuid,
    campaign: Loaded<Campaign>,
    skillbase_version: u32,
    call_id: Uuid,
    lease_sec: u32,
}

/// The result for one candidate.
enum Tried {
    Claimed(Claim),
    /// The campaign's limits allow no claim now.
    Nothing(NothingToClaim),
    /// Another claim has the task's slot.
    Busy,
    /// The read model was behind: the events up to this position of the log show that the task cannot be claimed.
    Unclaimable {
        known_at: i64,
    },
    /// Another command was faster: the campaign may have changed.
    Conflict,
}

/// Why there was nothing to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum NothingToClaim {
    OutsideSchedule,
    Concurrency,
    Rate,
    Empty,
    NotRunning,
    DialedByProvider,
}

/// The result of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimResult<T = Claim> {
    Claimed(T),
    Nothing(NothingToClaim),
}

impl<T> ClaimResult<T> {
    /// The claim, if there was something to claim.
    pub fn claimed(self) -> Option<T> {
        match self {
            Self::Claimed(claim) => Some(claim),
            Self::Nothing(_) => None,
        }
    }
}

/// A task that an external agent has claimed.
#[derive(Clone, Debug)]
pub struct TaskForAgent {
    pub task: Versioned<CreatedTask>,
    /// As the campaign's settings say.
    pub max_attempts: u32,
    pub call_id: Uuid,
}

/// The read model of the tasks does not have the uploaded tasks yet, or other claims were faster in every round.
fn behind() -> ServiceError {
    ServiceError::Unavailable("the tasks are not up to date at the moment".to_owned())
}

fn unknown_campaign() -> ServiceError {
    ServiceError::not_found("campaign")
}

impl Services {
    /// Claims the campaign's next task for an external agent.
    pub async fn claim_task_for_agent(&self, op: &OpContext, campaign_id: Uuid) -> Result<ClaimResult<TaskForAgent>, ServiceError> {
        let call_id = op.ids.make("call");
        let claim = match self.claim_task(op, campaign_id, call_id, Claimant::External, EXTERNAL_LEASE_SEC).await? {
            ClaimResult::Claimed(claim) => claim,
            ClaimResult::Nothing(reason) => return Ok(ClaimResult::Nothing(reason)),
        };
        let loaded: Loaded<Task> = self.store.load(op.company_id(), claim.task_id).await?;
        let task = loaded.state.require("task")?.clone();
        let task = Versioned::of_loaded(claim.task_id, &loaded, claim.position, task);
        let max_attempts = self.max_attempts(op.company_id(), campaign_id, None).await?;
        Ok(ClaimResult::Claimed(TaskForAgent { task, max_attempts, call_id }))
    }

    /// Claims the campaign's next task for a new call `call_id`, within its schedule and limits. One append sets the task in progress and
    /// the call dialing. If `call_id` has already claimed a task, it gets the same task.
    pub async fn claim_task(
        &self,
        op: &OpContext,
        campaign_id: Uuid,
        call_id: Uuid,
        claimant: Claimant<'_>,
        lease_sec: u32,
    ) -> Result<ClaimResult, ServiceError> {
        let context = &op.command;
        let _under_way = self.claims_under_way.begin(call_id);
        if let Some(claim) = self.claimed_before(context, call_id).await? {
            return Ok(ClaimResult::Claimed(claim));
        }
        // An earlier try of this claim may have been interrupted between its slot and the log, or another run of the claim may hold that
        // slot. Its task has a slot, so it is not a candidate; and while the call has that slot, it gets no other one.
        let mut may_have_slot = context.identity.is_some_and(|identity| identity.comes_again);
        for _ in 0..ROUNDS_MAX {
            let campaign = self.store.load_fresh::<Campaign>(context.company_id, campaign_id).await?;
            let live = campaign.state.present().ok_or_else(unknown_campaign)?;
            if let Some(reason) = closed(live, claimant, now()) {
                return Ok(ClaimResult::Nothing(reason));
            }
            // No call is placed with a deleted skillbase, regardless of the campaign's state.
            let Some(skillbase_version) = self.skillbase_version(context.company_id, Some(live.settings.skillbase_id)).await? else {
                return Ok(ClaimResult::Nothing(NothingToClaim::NotRunning));
            };
            // The read model must have all tasks that were uploaded before.
            self.positions.reached(&[call_tasks::READ_MODEL], campaign.position, projections::WAIT_MAX).await.map_err(|_| behind())?;
            let first = if may_have_slot { claim_slots::task_of_call(&self.claims, call_id).await? } else { None };
            let candidates = call_tasks::candidates(&self.claims, campaign_id, now(), CANDIDATES).await?;
            let candidates: Vec<Uuid> = first.into_iter().chain(candidates).collect();
            if candidates.is_empty() {
                // An equal request may have claimed a task meanwhile.
                let claim = self.claimed_before(context, call_id).await?;
                return Ok(claim.map_or(ClaimResult::Nothing(NothingToClaim::Empty), ClaimResult::Claimed));
            }
            let mut stale_until = 0;
            let attempt = Attempt { campaign_id, campaign, skillbase_version, call_id, lease_sec };
            for task_id in candidates {
                match self.try_candidate(context, &attempt, task_id).await? {
                    Tried::Claimed(claim) => return Ok(ClaimResult::Claimed(claim)),
                    Tried::Nothing(reason) => return Ok(ClaimResult::Nothing(reason)),
                    Tried::Busy => {}
                    Tried::Unclaimable { known_at } => stale_until = stale_until.max(known_at),
                    Tried::Conflict => {
                        may_have_slot = true;
                        break;
                    }
                }
            }
            // Before the read model is queried for other candidates, it must have the events that made the candidates unclaimable.
            self.positions.reached(&[call_tasks::READ_MODEL], stale_until, projections::WAIT_MAX).await.map_err(|_| behind())?;
        }
        Err(behind())
    }

    /// Claims this task, if it has no slot yet and the campaign's limits allow one.
    async fn try_candidate(&self, context: &CommandContext, attempt: &Attempt, task_id: Uuid) -> Result<Tried, ServiceError> {
        let &Attempt { campaign_id, ref campaign, call_id, .. } = attempt;
        let settings = &campaign.state.present().ok_or_else(unknown_campaign)?.settings;
        let claimed = ClaimedTask { company_id: context.company_id, campaign_id, task_id, call_id };
        let (max_concurrent_calls, calls_per_minute) = (settings.max_concurrent_calls, settings.calls_per_minute);
        let (taking, is_shared) =
            match claim_slots::take(&self.claims, &SlotRequest { claimed, max_concurrent_calls, calls_per_minute }).await? {
                Slot::Taken { taking, is_shared } => (taking, is_shared),
                Slot::TaskBusy => return Ok(Tried::Busy),
                Slot::Concurrency => return Ok(Tried::Nothing(NothingToClaim::Concurrency)),
                Slot::Rate => return Ok(Tried::Nothing(NothingToClaim::Rate)),
            };
        match self.append_claim(context, attempt, task_id).await {
            Ok((position, event_id)) => {
                claim_slots::confirm(&self.claims, &claimed).await?;
                Ok(Tried::Claimed(Claim { task_id, call_id, position, event_id }))
            }
            // The read model was behind: another worker had claimed this task.
            Err(ExecuteError::Refused(_)) => {
                claim_slots::give_up(&self.claims, &taking).await?;
                Ok(Tried::Unclaimable { known_at: self.store.load::<Task>(context.company_id, task_id).await?.position })
            }
            Err(error) if error.is_conflict() => {
                // Checked first: an equal request may have claimed, with this slot or with another one.
                if let Some(claim) = self.claimed_before(context, call_id).await? {
                    if claim.task_id != task_id {
                        claim_slots::give_up(&self.claims, &taking).await?;
                    }
                    return Ok(Tried::Claimed(claim));
                }
                // Another run of this claim may still append with a slot that it acquired before.
                if !is_shared {
                    claim_slots::give_up(&self.claims, &taking).await?;
                }
                Ok(Tried::Conflict)
            }
            // It is unknown whether the claim is in the log: housekeeping checks it, and so does a repeated claim.
            Err(ExecuteError::Store(error)) => Err(error.into()),
        }
    }

    async fn claimed_before(&self, context: &CommandContext, call_id: Uuid) -> Result<Option<Claim>, StoreError> {
        let call = self.store.load_fresh::<Call>(context.company_id, call_id).await?;
        let task_id = call.state.present().and_then(|call| call.subject.task_id);
        Ok(task_id.map(|task_id| Claim { task_id, call_id, position: call.position, event_id: None }))
    }

    /// Returns the position of the claim and the id of its event. A separate task appends the claim, so that it completes even if the
    /// caller is cancelled. The claim is in progress until it can no longer reach the log: if an append fails without an answer from the
    /// database, PostgreSQL may still commit the statement for some time.
    async fn append_claim(
        &self,
        context: &CommandContext,
        attempt: &Attempt,
        task_id: Uuid,
    ) -> Result<(i64, Option<Uuid>), ExecuteError<TaskRefusal>> {
        let under_way = self.claims_under_way.begin(attempt.call_id);
        let (services, context, attempt) = (self.clone(), context.clone(), attempt.clone());
        let appending = async move {
            let appended = services.append_once(&context, &attempt, task_id).await;
            if matches!(&appended, Err(ExecuteError::Store(error)) if !error.is_conflict()) {
                under_way.end_after(APPEND_DEADLINE);
            }
            appended
        };
        let appended = tokio::spawn(appending.in_current_span()).await;
        appended.unwrap_or_else(|stopped| Err(StoreError::AppendFailed(stopped.to_string()).into()))
    }

    async fn append_once(
        &self,
        context: &CommandContext,
        attempt: &Attempt,
        task_id: Uuid,
    ) -> Result<(i64, Option<Uuid>), ExecuteError<TaskRefusal>> {
        let &Attempt { campaign_id, ref campaign, skillbase_version, call_id, lease_sec } = attempt;
        let mut unit = self.store.unit(context);
        let claim = TaskCommand::Claim { call_id, lease_sec, now: now() };
        let claimed = unit.decide::<Task>(task_id, claim).await?;
        let contact = &claimed.state.present().ok_or(ExecuteError::Refused(TaskRefusal::Unknown))?.contact;
        if contact.person_id.is_some() && contact.phone_number.reveal() == ERASED {
            // The person was erased after the upload: there is no number to call.
            self.store.execute::<Task>(context, task_id, TaskCommand::Cancel).await?;
            return Err(ExecuteError::Refused(TaskRefusal::NotClaimable { status: TaskStatus::Cancelled }));
        }
        // A task from a release without persons also belongs to a person.
        let person_id = match contact.person_id {
            Some(known) => known,
            None => self.store.persons().of_number(context.company_id, contact.phone_number.reveal()).await?,
        };
        let skillbase_id = campaign.state.present().map(|live| live.settings.skillbase_id);
        let subject = CallSubject {
            campaign_id: Some(campaign_id),
            task_id: Some(task_id),
            skillbase_id,
            skillbase_version: Some(skillbase_version),
            direction: Direction::Outbound,
            person_id: Some(person_id),
            phone_number: contact.phone_number.clone(),
        };
        match unit.decide::<Call>(call_id, CallCommand::Dial(Box::new(subject))).await {
            Ok(_) => {}
            Err(ExecuteError::Store(error)) => return Err(error.into()),
            Err(ExecuteError::Refused(_)) => return Err(ExecuteError::Refused(TaskRefusal::NotCurrentAttempt)),
        }
        unit.hold(campaign_id, campaign);
        Ok((unit.commit().await?, claimed.event_id))
    }
}

/// Why no task of the campaign can be claimed now, regardless of its tasks.
pub(crate) fn closed(campaign: &LiveCampaign, claimant: Claimant<'_>, now: DateTime<Utc>) -> Option<NothingToClaim> {
    if campaign.status != CampaignStatus::Running || campaign.is_finishing {
        Some(NothingToClaim::NotRunning)
    } else if campaign.settings.dialed_by != claimant.dialed_by() {
        Some(NothingToClaim::DialedByProvider)
    } else if !campaign.settings.schedule().is_open(now) {
        Some(NothingToClaim::OutsideSchedule)
    } else {
        None
    }
}
