//! Claiming the next task of a campaign.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::{
    ERASED,
    call::{Call, CallCommand, CallSubject, Direction},
    campaign::{Campaign, CampaignSettings, CampaignStatus, settings::EXTERNAL},
    skillbase::{Skillbase, SkillbaseState},
    task::{Task, TaskCommand, TaskRefusal, TaskStatus},
};
use eventstore::{CommandContext, ExecuteError, Loaded, StoreError, now};
use uuid::Uuid;

use crate::{
    Desk,
    slots::{self, Slot, SlotRequest},
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
struct Attempt<'a> {
    campaign_id: Uuid,
    campaign: &'a Loaded<Campaign>,
    skillbase_version: u32,
    call_id: Uuid,
    lease_sec: u32,
}

/// The calls for which a process is claiming a task. Clones share them.
#[derive(Clone, Default)]
pub struct ClaimsUnderWay(Arc<Mutex<HashMap<Uuid, usize>>>);

/// Ends when it is dropped, also if the claim is cut off.
struct ClaimUnderWay {
    all: ClaimsUnderWay,
    call_id: Uuid,
}

impl ClaimsUnderWay {
    fn begin(&self, call_id: Uuid) -> ClaimUnderWay {
        *self.lock().entry(call_id).or_default() += 1;
        ClaimUnderWay { all: self.clone(), call_id }
    }

    pub(crate) fn call_ids(&self) -> Vec<Uuid> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClaimUnderWay {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.all.lock().entry(self.call_id) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
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
        let comes_again = context.identity.is_some_and(|identity| identity.comes_again);
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
            // The first try of this claim may have been cut off between its slot and the log. Its task has a slot, so it is no
            // candidate; and while the call has that slot it gets no other.
            let first_try = if comes_again { slots::task_of_call(&self.pool, call_id).await? } else { None };
            let candidates = projections::call_tasks::candidates(&self.pool, campaign_id, now(), CANDIDATES).await?;
            let candidates: Vec<Uuid> = first_try.into_iter().chain(candidates).collect();
            if candidates.is_empty() {
                // An equal request may have claimed meanwhile.
                return Ok(self.claimed_before(context, call_id).await?.ok_or(NothingToClaim::Empty));
            }
            let mut stale_until = 0;
            let attempt = Attempt { campaign_id, campaign: &campaign, skillbase_version, call_id, lease_sec };
            for task_id in candidates {
                let request = SlotRequest {
                    company_id: context.company_id,
                    campaign_id,
                    task_id,
                    call_id,
                    max_concurrent_calls: live.settings.max_concurrent_calls,
                    calls_per_minute: live.settings.calls_per_minute,
                };
                match slots::take(&self.pool, &request).await? {
                    Slot::Taken => {}
                    Slot::TaskBusy => continue,
                    Slot::Concurrency => return Ok(Err(NothingToClaim::Concurrency)),
                    Slot::Rate => return Ok(Err(NothingToClaim::Rate)),
                }
                match self.append_claim(context, &attempt, task_id).await {
                    Ok((position, event_id)) => {
                        slots::confirm(&self.pool, &request).await?;
                        return Ok(Ok(Claim { task_id, call_id, position, event_id }));
                    }
                    // The read model was behind: another worker had this task.
                    Err(ExecuteError::Refused(_)) => {
                        slots::give_up(&self.pool, call_id, task_id).await?;
                        stale_until = self.store.load::<Task>(context.company_id, task_id).await?.position.max(stale_until);
                    }
                    Err(error) if error.is_conflict() => {
                        // First: an equal request may have claimed with this very slot.
                        if let Some(claim) = self.claimed_before(context, call_id).await? {
                            return Ok(Ok(claim));
                        }
                        slots::give_up(&self.pool, call_id, task_id).await?;
                        // The campaign may have changed: look at it again.
                        break;
                    }
                    // Whether the claim is in the log is not known: housekeeping checks, and a repeated claim checks as well.
                    Err(ExecuteError::Store(error)) => return Err(error.into()),
                }
            }
            // The read model has to have what made candidates unclaimable before it names others.
            self.positions.reached(&["call_tasks"], stale_until, projections::WAIT_MAX).await.map_err(|_| ClaimError::Behind)?;
        }
        Err(ClaimError::Behind)
    }

    async fn claimed_before(&self, context: &CommandContext, call_id: Uuid) -> Result<Option<Claim>, StoreError> {
        let call = self.store.load_fresh::<Call>(context.company_id, call_id).await?;
        let task_id = call.state.known().and_then(|call| call.subject.task_id);
        Ok(task_id.map(|task_id| Claim { task_id, call_id, position: call.position, event_id: None }))
    }

    /// Answers the position of the claim and the id of its event.
    async fn append_claim(
        &self,
        context: &CommandContext,
        attempt: &Attempt<'_>,
        task_id: Uuid,
    ) -> Result<(i64, Option<Uuid>), ExecuteError<TaskRefusal>> {
        let &Attempt { campaign_id, campaign, skillbase_version, call_id, lease_sec } = attempt;
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
