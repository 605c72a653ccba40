//! Claiming the next task of a campaign.

use domain::{
    ERASED,
    call::{Call, CallCommand, CallSubject, Direction},
    campaign::{Campaign, CampaignSettings, CampaignStatus, settings::EXTERNAL},
    skillbase::{Skillbase, SkillbaseState},
    task::{Task, TaskCommand, TaskRefusal, TaskStatus},
};
use eventstore::{APPEND_DEADLINE, CommandContext, ExecuteError, Loaded, StoreError, now};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    Desk,
    slots::{self, ClaimedTask, Slot, SlotRequest},
};

/// Tasks that are looked at in one go; with that many claimers at once some find all of them taken and look again.
const CANDIDATES: i64 = 32;
/// How often to look again after others were first.
const ROUNDS_MAX: usize = 20;

/// Who claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker<'a> {
    /// Somebody outside, over the API.
    External,
    /// Our dialer, for the provider of that name.
    Provider(&'a str),
}

impl Worker<'_> {
    fn dialed_by(&self) -> &str {
        match self {
            Self::External => EXTERNAL,
            Self::Provider(name) => name,
        }
    }
}

/// A task that was claimed and the call it is to be worked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub task_id: Uuid,
    pub call_id: Uuid,
    /// Of the claim in the log.
    pub position: i64,
    /// The claim's event; `None` when the task was claimed for this call before.
    pub event_id: Option<Uuid>,
}

/// What is claimed for, whichever task it will be.
#[derive(Clone)]
struct Attempt {
    campaign_id: Uuid,
    campaign: Loaded<Campaign>,
    skillbase_version: u32,
    call_id: Uuid,
    lease_sec: u32,
}

/// What became of a candidate.
enum Tried {
    Claimed(Claim),
    /// The campaign's limits allow no claim now.
    Nothing(NothingToClaim),
    /// Another claim has the task's slot.
    Busy,
    /// The read model was behind: up to this position of the log it has become clear that the task cannot be claimed.
    Unclaimable {
        known_at: i64,
    },
    /// Another command was first: the campaign may have changed.
    Conflict,
}

/// Why there was nothing to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum NothingToClaim {
    OutsideSchedule,
    Concurrency,
    Rate,
    Empty,
    NotRunning,
    DialedByProvider,
}

#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("there is no such campaign")]
    UnknownCampaign,
    /// The tasks' read model does not have yet what was uploaded, or others were first again and again.
    #[error("the tasks are not up to date at the moment")]
    Behind,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl Desk {
    /// Claims the campaign's next task for a new call `call_id`, within its schedule and limits, in one append: the task is
    /// in progress, the call dials. A `call_id` that has claimed before gets the same task again.
    pub async fn claim(
        &self,
        context: &CommandContext,
        campaign_id: Uuid,
        call_id: Uuid,
        worker: Worker<'_>,
        lease_sec: u32,
    ) -> Result<Result<Claim, NothingToClaim>, ClaimError> {
        let _under_way = self.claiming.begin(call_id);
        if let Some(claim) = self.claimed_before(context, call_id).await? {
            return Ok(Ok(claim));
        }
        // The first try of this claim may have been cut off between its slot and the log, or another run of it may hold that slot. Its task
        // has a slot, so it is no candidate; and while the call has that slot it gets no other.
        let mut may_have_slot = context.identity.is_some_and(|identity| identity.comes_again);
        for _ in 0..ROUNDS_MAX {
            let campaign = self.store.load_fresh::<Campaign>(context.company_id, campaign_id).await?;
            let live = campaign.state.live().ok_or(ClaimError::UnknownCampaign)?;
            if let Some(reason) = closed(&live.settings, live.status, worker) {
                return Ok(Err(reason));
            }
            // A deleted skillbase places no calls, whatever the campaign says.
            let Some(skillbase_version) = self.skillbase_version(context.company_id, Some(live.settings.skillbase_id)).await? else {
                return Ok(Err(NothingToClaim::NotRunning));
            };
            // What was uploaded before must be seen.
            self.positions.reached(&["call_tasks"], campaign.position, projections::WAIT_MAX).await.map_err(|_| ClaimError::Behind)?;
            let first = if may_have_slot { slots::task_of_call(&self.pool, call_id).await? } else { None };
            let candidates = projections::call_tasks::candidates(&self.pool, campaign_id, now(), CANDIDATES).await?;
            let candidates: Vec<Uuid> = first.into_iter().chain(candidates).collect();
            if candidates.is_empty() {
                // An equal request may have claimed meanwhile.
                return Ok(self.claimed_before(context, call_id).await?.ok_or(NothingToClaim::Empty));
            }
            let mut stale_until = 0;
            let attempt = Attempt { campaign_id, campaign, skillbase_version, call_id, lease_sec };
            for task_id in candidates {
                match self.try_candidate(context, &attempt, task_id).await? {
                    Tried::Claimed(claim) => return Ok(Ok(claim)),
                    Tried::Nothing(reason) => return Ok(Err(reason)),
                    Tried::Busy => {}
                    Tried::Unclaimable { known_at } => stale_until = stale_until.max(known_at),
                    Tried::Conflict => {
                        may_have_slot = true;
                        break;
                    }
                }
            }
            // The read model has to have what made candidates unclaimable before it names others.
            self.positions.reached(&["call_tasks"], stale_until, projections::WAIT_MAX).await.map_err(|_| ClaimError::Behind)?;
        }
        Err(ClaimError::Behind)
    }

    /// Claims this task, if it has no slot yet and the campaign's limits allow one.
    async fn try_candidate(&self, context: &CommandContext, attempt: &Attempt, task_id: Uuid) -> Result<Tried, ClaimError> {
        let &Attempt { campaign_id, ref campaign, call_id, .. } = attempt;
        let settings = &campaign.state.live().ok_or(ClaimError::UnknownCampaign)?.settings;
        let claimed = ClaimedTask { company_id: context.company_id, campaign_id, task_id, call_id };
        let (max_concurrent_calls, calls_per_minute) = (settings.max_concurrent_calls, settings.calls_per_minute);
        let (taking, is_shared) = match slots::take(&self.pool, &SlotRequest { claimed, max_concurrent_calls, calls_per_minute }).await? {
            Slot::Taken { taking, is_shared } => (taking, is_shared),
            Slot::TaskBusy => return Ok(Tried::Busy),
            Slot::Concurrency => return Ok(Tried::Nothing(NothingToClaim::Concurrency)),
            Slot::Rate => return Ok(Tried::Nothing(NothingToClaim::Rate)),
        };
        match self.append_claim(context, attempt, task_id).await {
            Ok((position, event_id)) => {
                slots::confirm(&self.pool, &claimed).await?;
                Ok(Tried::Claimed(Claim { task_id, call_id, position, event_id }))
            }
            // The read model was behind: another worker had this task.
            Err(ExecuteError::Refused(_)) => {
                slots::give_up(&self.pool, &taking).await?;
                Ok(Tried::Unclaimable { known_at: self.store.load::<Task>(context.company_id, task_id).await?.position })
            }
            Err(error) if error.is_conflict() => {
                // First: an equal request may have claimed, with this very slot or with another.
                if let Some(claim) = self.claimed_before(context, call_id).await? {
                    if claim.task_id != task_id {
                        slots::give_up(&self.pool, &taking).await?;
                    }
                    return Ok(Tried::Claimed(claim));
                }
                // Another run of this claim may still append with a slot that was there before.
                if !is_shared {
                    slots::give_up(&self.pool, &taking).await?;
                }
                Ok(Tried::Conflict)
            }
            // Whether the claim is in the log is not known: housekeeping checks, and a repeated claim checks as well.
            Err(ExecuteError::Store(error)) => Err(error.into()),
        }
    }

    async fn claimed_before(&self, context: &CommandContext, call_id: Uuid) -> Result<Option<Claim>, StoreError> {
        let call = self.store.load_fresh::<Call>(context.company_id, call_id).await?;
        let task_id = call.state.known().and_then(|call| call.subject.task_id);
        Ok(task_id.map(|task_id| Claim { task_id, call_id, position: call.position, event_id: None }))
    }

    /// Answers the position of the claim and the id of its event. The claim is under way until it can come into the log no more, also if
    /// its caller is cut off: it is appended by a task of its own. Of an append that failed without an answer from the database, PostgreSQL
    /// may commit the statement for a while.
    async fn append_claim(
        &self,
        context: &CommandContext,
        attempt: &Attempt,
        task_id: Uuid,
    ) -> Result<(i64, Option<Uuid>), ExecuteError<TaskRefusal>> {
        let under_way = self.claiming.begin(attempt.call_id);
        let (desk, context, attempt) = (self.clone(), context.clone(), attempt.clone());
        let appending = async move {
            let appended = desk.append_once(&context, &attempt, task_id).await;
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
        let contact = &claimed.state.created().ok_or(ExecuteError::Refused(TaskRefusal::Unknown))?.contact;
        if contact.person_id.is_some() && contact.phone_number.reveal() == ERASED {
            // Erased since they were uploaded: there is nobody to call.
            self.store.execute::<Task>(context, task_id, TaskCommand::Cancel).await?;
            return Err(ExecuteError::Refused(TaskRefusal::NotClaimable(TaskStatus::Cancelled)));
        }
        // A task from before persons were told apart is of somebody, too.
        let person_id = match contact.person_id {
            Some(known) => known,
            None => self.store.persons().of_number(context.company_id, contact.phone_number.reveal()).await?,
        };
        let skillbase_id = campaign.state.live().map(|live| live.settings.skillbase_id);
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

    /// The version a skillbase has now.
    pub(crate) async fn skillbase_version(&self, company_id: Uuid, id: Option<Uuid>) -> Result<Option<u32>, StoreError> {
        let Some(id) = id else { return Ok(None) };
        let skillbase = self.store.load_fresh::<Skillbase>(company_id, id).await?;
        Ok(match *skillbase.state {
            SkillbaseState::Live { version, .. } => Some(version),
            SkillbaseState::None | SkillbaseState::Deleted => None,
        })
    }
}

/// Why the worker gets nothing of the campaign now, whatever tasks there are.
fn closed(settings: &CampaignSettings, status: CampaignStatus, worker: Worker<'_>) -> Option<NothingToClaim> {
    if status != CampaignStatus::Running {
        Some(NothingToClaim::NotRunning)
    } else if settings.dialed_by != worker.dialed_by() {
        Some(NothingToClaim::DialedByProvider)
    } else if !settings.schedule().is_open(now()) {
        Some(NothingToClaim::OutsideSchedule)
    } else {
        None
    }
}
