//! The loop that claims tasks of the campaigns of a provider, and places the calls.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use domain::{
    outcome::{Outcome, was_reached},
    skillbase::Skillbase,
    task::{AttemptFailure, FailureCause, Task},
};
use eventstore::{Actor, ActorKind, now};
use projections::campaigns::{self, CampaignAtWork};
use rand::seq::SliceRandom as _;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use services::{Claim, Claimant, Ids, OpContext, ServiceError, Services, claim_slots};

use super::{
    DIALER_LEASE_SEC,
    provider::{Ended, Line, Placement, Provider, ProviderError},
};
use crate::engine::{Lease, Next, Runs, Worker};

/// How often the dialer checks for due tasks, free slots and started campaigns.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the dialer renews the claims of its calls; several times within the lease.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// Maximum number of concurrent calls of one process.
const CALLS_MAX: usize = 1_000;
/// Maximum number of them that are of one company: the rest is for other companies.
const CALLS_OF_COMPANY_MAX: usize = 750;
/// Maximum number of claims for one company before the next company gets its turn.
const CLAIMS_PER_TURN: usize = 10;
/// Maximum number of campaigns of one company that are checked in one turn.
const CAMPAIGNS_PER_TURN: usize = 100;

/// Dials for one provider, in each process: every claim is decided on the log, within the slots of its campaign. At shutdown, the calls in
/// progress are hung up and their attempts reported as failed.
pub struct Dialing {
    dialer: Arc<Dialer>,
    calls: JoinSet<()>,
    heart: AbortOnDropHandle<()>,
    shutdown: watch::Receiver<bool>,
}

struct Dialer {
    services: Services,
    provider: Arc<dyn Provider>,
    /// The calls in progress, each with its company.
    at_work: Mutex<HashMap<Uuid, Uuid>>,
}

impl Dialing {
    pub fn new(services: Services, provider: Arc<dyn Provider>, shutdown: watch::Receiver<bool>) -> Self {
        let dialer = Arc::new(Dialer { services, provider, at_work: Mutex::default() });
        let heart = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&dialer).beat()));
        Self { dialer, calls: JoinSet::new(), heart, shutdown }
    }
}

#[async_trait]
impl Worker for Dialing {
    fn name(&self) -> &'static str {
        "dialing"
    }

    fn runs(&self) -> Runs {
        Runs::InEachProcess
    }

    fn every(&self) -> Duration {
        LOOK_EVERY
    }

    async fn round(&mut self, _lease: &Lease) -> Result<Next, ServiceError> {
        while let Some(ended) = self.calls.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a call's work ended unexpectedly; its lease will run out");
            }
        }
        let claimed = self.dialer.claim_round(&mut self.calls, &self.shutdown).await?;
        Ok(if claimed == 0 { Next::AfterPause } else { Next::AtOnce })
    }

    async fn stop(&mut self) {
        while self.calls.join_next().await.is_some() {}
        self.heart.abort();
    }
}

impl Dialer {
    /// Renews the claims of the calls in progress periodically.
    async fn beat(self: Arc<Self>) {
        loop {
            tokio::time::sleep(ALIVE_EVERY).await;
            let calls: Vec<Uuid> = self.at_work.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
            let alive = self.services.store.head().health().or_unavailable(claim_slots::keep_alive(self.services.pool(), &calls)).await;
            if let Err(error) = alive.flatten() {
                tracing::warn!(%error, "the claims of calls under way could not be prolonged");
            }
        }
    }

    /// Gives each company a turn, and returns the number of tasks that were claimed.
    async fn claim_round(self: &Arc<Self>, calls: &mut JoinSet<()>, shutdown: &watch::Receiver<bool>) -> Result<usize, ServiceError> {
        let mut companies: HashMap<Uuid, Vec<CampaignAtWork>> = HashMap::new();
        for campaign in campaigns::running(self.services.pool(), self.provider.name()).await? {
            companies.entry(campaign.company_id).or_default().push(campaign);
        }
        let mut claimed = 0;
        for (company_id, mut campaigns) in companies {
            // In random order, so that each campaign of a company is checked soon, however many there are.
            campaigns.shuffle(&mut rand::rng());
            campaigns.truncate(CAMPAIGNS_PER_TURN);
            let free = CALLS_MAX.saturating_sub(calls.len()).min(CALLS_OF_COMPANY_MAX.saturating_sub(self.calls_of(company_id)));
            claimed += self.claim_turn(&campaigns, free.min(CLAIMS_PER_TURN), calls, shutdown).await;
        }
        Ok(claimed)
    }

    /// Claims up to `most` tasks of the campaigns of one company, and starts their calls.
    async fn claim_turn(
        self: &Arc<Self>,
        campaigns: &[CampaignAtWork],
        most: usize,
        calls: &mut JoinSet<()>,
        shutdown: &watch::Receiver<bool>,
    ) -> usize {
        let mut claimed = 0;
        for campaign in campaigns {
            while claimed < most && !*shutdown.borrow() {
                let op = self.op(campaign.company_id);
                let claim = match self.claim(&op, campaign).await {
                    Ok(Some(claim)) => claim,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, campaign = %campaign.campaign_id, "claiming was interrupted");
                        break;
                    }
                };
                claimed += 1;
                self.note(|calls| calls.insert(claim.call_id, campaign.company_id));
                let (dialer, stop) = (Arc::clone(self), shutdown.clone());
                calls.spawn(async move { dialer.work(op, claim, stop).await });
            }
        }
        claimed
    }

    fn calls_of(&self, company_id: Uuid) -> usize {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).values().filter(|company| **company == company_id).count()
    }

    async fn claim(&self, op: &OpContext, campaign: &CampaignAtWork) -> Result<Option<Claim>, ServiceError> {
        let claimant = Claimant::Provider(self.provider.name());
        match self.services.claim_task(op, campaign.campaign_id, Uuid::now_v7(), claimant, DIALER_LEASE_SEC).await {
            Ok(result) => Ok(result.claimed()),
            // The campaign is deleted, or the read model of its tasks is behind: the next check decides.
            Err(ServiceError::NotFound(_) | ServiceError::Unavailable(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All effects of one attempt have one correlation id.
    fn op(&self, company_id: Uuid) -> OpContext {
        let actor = Actor { kind: ActorKind::Dialer, id: None, name: Some(self.provider.name().to_owned()) };
        OpContext::new(company_id, actor, Uuid::now_v7(), Ids::default(), None)
    }

    async fn work(&self, mut op: OpContext, claim: Claim, stop: watch::Receiver<bool>) {
        op.command.metadata.causation_id = claim.event_id;
        metrics::counter!("newvoice_dialer_calls_total").increment(1);
        metrics::gauge!("newvoice_dialer_calls").increment(1.0);
        self.work_on(op, claim, stop).await;
        self.note(|calls| calls.remove(&claim.call_id));
        metrics::gauge!("newvoice_dialer_calls").decrement(1.0);
    }

    fn note(&self, change: impl FnOnce(&mut HashMap<Uuid, Uuid>) -> Option<Uuid>) {
        change(&mut self.at_work.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn work_on(&self, op: OpContext, claim: Claim, mut stop: watch::Receiver<bool>) {
        let line = Line { services: &self.services, op: op.clone(), call_id: claim.call_id };
        let result = tokio::select! {
            ended = self.place(op.company_id(), claim, &line) => ended,
            _ = stop.wait_for(|stop| *stop) => Err(ProviderError::NotPlaced("the dialer was shut down".to_owned())),
        };
        if let Err(error) = self.report(&op, claim, &line, result).await {
            tracing::warn!(%error, task = %claim.task_id, call = %claim.call_id, "an attempt's result could not be recorded; its lease will run out");
        }
    }

    async fn place(&self, company_id: Uuid, claim: Claim, line: &Line<'_>) -> Result<Ended, ProviderError> {
        let store = &self.services.store;
        let not_placed = |e: eventstore::StoreError| ProviderError::NotPlaced(e.to_string());
        let task = store.load::<Task>(company_id, claim.task_id).await.map_err(not_placed)?;
        let call = store.load::<domain::call::Call>(company_id, claim.call_id).await.map_err(not_placed)?;
        let (Some(task), Some(call)) = (task.state.present(), call.state.present()) else {
            return Err(ProviderError::NotPlaced("the claim is not in the log".to_owned()));
        };
        let config = match call.subject.skillbase_id {
            Some(id) => {
                let skillbase = store.load::<Skillbase>(company_id, id).await.map_err(not_placed)?;
                skillbase.state.present().map(|live| Box::new(live.content.config.clone()))
            }
            None => None,
        };
        let placement =
            Placement { call_id: claim.call_id, subject: call.subject.clone(), contact_name: task.contact.contact_name.clone(), config };
        self.provider.place(&placement, line).await
    }

    async fn report(
        &self,
        op: &OpContext,
        claim: Claim,
        line: &Line<'_>,
        result: Result<Ended, ProviderError>,
    ) -> Result<(), ServiceError> {
        let mut op = op.clone();
        op.command.now = now();
        let (ended, error_message) = match result {
            Ok(ended) => {
                let message = format!("the call ended with {}", ended.outcome);
                (ended, message)
            }
            Err(error) => {
                let ended = Ended { outcome: Outcome::Fail, final_state: None, hangup_by: Some("system".to_owned()), duration_sec: None };
                (ended, error.to_string())
            }
        };
        match line.ended(&ended).await {
            Ok(ended) => op.command.metadata.causation_id = ended.event_id.or(claim.event_id),
            Err(error) => tracing::warn!(%error, call = %claim.call_id, "a call's end could not be recorded"),
        }
        if was_reached(ended.outcome, ended.hangup_by.as_deref()) {
            self.services.complete_task(&op, claim.task_id, claim.call_id, ended.outcome).await?;
        } else {
            let failure = AttemptFailure {
                call_id: claim.call_id,
                error_message: error_message.into(),
                outcome: Some(ended.outcome),
                cause: FailureCause::Reported,
            };
            self.services.fail_task(&op, claim.task_id, failure).await?;
        }
        Ok(())
    }
}
