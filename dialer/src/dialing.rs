//! The loop that claims tasks of campaigns a provider dials, and works on them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    outcome::{Outcome, was_reached},
    skillbase::{Skillbase, SkillbaseState},
    task::{AttemptFailure, FailureCause, Task},
};
use eventstore::{Actor, ActorKind, CommandContext, Metadata, now};
use projections::campaigns::{self, CampaignAtWork};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

use crate::{
    Claim, DIALER_LEASE_SEC, Desk, Worker,
    claim::ClaimError,
    provider::{Ended, Line, Placement, Provider, ProviderError},
    slots,
    tasks::TaskError,
};

/// How often to look for tasks that became due, slots that became free and campaigns that started.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often to say which calls are worked on; several times within the lease.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// Calls of one process at a time.
const CALLS_MAX: usize = 1_000;

/// Dials for one provider. Several processes may do so at once.
pub struct Dialer {
    desk: Desk,
    provider: Arc<dyn Provider>,
    at_work: Mutex<HashSet<Uuid>>,
}

impl Dialer {
    pub fn new(desk: Desk, provider: Arc<dyn Provider>) -> Self {
        Self { desk, provider, at_work: Mutex::default() }
    }

    /// Works until told to stop; then the calls under way are hung up and their attempts reported as failed.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let dialer = Arc::new(self);
        let mut calls = JoinSet::new();
        let mut stop = shutdown.clone();
        let heart = tokio::spawn(Arc::clone(&dialer).beat());
        while !*stop.borrow() {
            let silence = dialer.desk.store.head().silence();
            if let Err(error) = silence.unless(dialer.claim_all(&mut calls, &shutdown)).await.unwrap_or_else(|silent| Err(silent.into())) {
                tracing::warn!(%error, provider = dialer.provider.name(), "claiming was interrupted");
            }
            while let Some(ended) = calls.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "a call's work ended unexpectedly; its lease will run out");
                }
            }
            let _ = tokio::time::timeout(LOOK_EVERY, stop.wait_for(|stop| *stop)).await;
        }
        while calls.join_next().await.is_some() {}
        heart.abort();
    }

    /// Says again and again which calls are worked on, so that their claims last.
    async fn beat(self: Arc<Self>) {
        loop {
            tokio::time::sleep(ALIVE_EVERY).await;
            let calls: Vec<Uuid> = self.at_work.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
            let alive = self.desk.store.head().silence().unless(slots::keep_alive(&self.desk.pool, &calls)).await;
            if let Err(error) = alive.flatten() {
                tracing::warn!(%error, "the claims of calls under way could not be prolonged");
            }
        }
    }

    async fn claim_all(self: &Arc<Self>, calls: &mut JoinSet<()>, shutdown: &watch::Receiver<bool>) -> Result<(), ClaimError> {
        for campaign in campaigns::running(&self.desk.pool, self.provider.name()).await? {
            while calls.len() < CALLS_MAX && !*shutdown.borrow() {
                let context = self.context(campaign.company_id);
                let claim = match self.claim(&context, &campaign).await {
                    Ok(Some(claim)) => claim,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, campaign = %campaign.campaign_id, "claiming was interrupted");
                        break;
                    }
                };
                let (dialer, stop) = (Arc::clone(self), shutdown.clone());
                calls.spawn(async move { dialer.work(context, claim, stop).await });
            }
        }
        Ok(())
    }

    async fn claim(&self, context: &CommandContext, campaign: &CampaignAtWork) -> Result<Option<Claim>, ClaimError> {
        let worker = Worker::Provider(self.provider.name());
        match self.desk.claim(context, campaign.campaign_id, Uuid::now_v7(), worker, DIALER_LEASE_SEC).await {
            Ok(claim) => Ok(claim.ok()),
            Err(ClaimError::UnknownCampaign | ClaimError::Behind) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Everything that one attempt brings about has one correlation id.
    fn context(&self, company_id: Uuid) -> CommandContext {
        let actor = Actor { kind: ActorKind::Dialer, id: None, name: Some(self.provider.name().to_owned()) };
        let metadata = Metadata { actor, correlation_id: Uuid::now_v7(), causation_id: None, idempotency_key: None };
        CommandContext { company_id, metadata, identity: None, now: now() }
    }

    async fn work(&self, mut context: CommandContext, claim: Claim, stop: watch::Receiver<bool>) {
        context.metadata.causation_id = claim.event_id;
        metrics::counter!("newvoice_dialer_calls_total").increment(1);
        metrics::gauge!("newvoice_dialer_calls").increment(1.0);
        self.note(|calls| calls.insert(claim.call_id));
        self.work_on(context, claim, stop).await;
        self.note(|calls| calls.remove(&claim.call_id));
        metrics::gauge!("newvoice_dialer_calls").decrement(1.0);
    }

    fn note(&self, change: impl FnOnce(&mut HashSet<Uuid>) -> bool) {
        change(&mut self.at_work.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn work_on(&self, context: CommandContext, claim: Claim, mut stop: watch::Receiver<bool>) {
        let line = Line { desk: &self.desk, context: context.clone(), call_id: claim.call_id };
        let result = tokio::select! {
            ended = self.place(&context, claim, &line) => ended,
            _ = stop.wait_for(|stop| *stop) => Err(ProviderError::NotPlaced("the dialer was shut down".to_owned())),
        };
        if let Err(error) = self.report(&context, claim, &line, result).await {
            tracing::warn!(%error, task = %claim.task_id, call = %claim.call_id, "an attempt's result could not be recorded; its lease will run out");
        }
    }

    async fn place(&self, context: &CommandContext, claim: Claim, line: &Line<'_>) -> Result<Ended, ProviderError> {
        let store = &self.desk.store;
        let not_placed = |e: eventstore::StoreError| ProviderError::NotPlaced(e.to_string());
        let task = store.load::<Task>(context.company_id, claim.task_id).await.map_err(not_placed)?;
        let call = store.load::<domain::call::Call>(context.company_id, claim.call_id).await.map_err(not_placed)?;
        let (Some(task), Some(call)) = (task.state.created(), call.state.known()) else {
            return Err(ProviderError::NotPlaced("the claim is not in the log".to_owned()));
        };
        let config = match call.subject.skillbase_id {
            Some(id) => match store.load::<Skillbase>(context.company_id, id).await.map_err(not_placed)?.state.as_ref() {
                SkillbaseState::Live { content, .. } => Some(Box::new(content.config.clone())),
                SkillbaseState::None | SkillbaseState::Deleted => None,
            },
            None => None,
        };
        let placement =
            Placement { call_id: claim.call_id, subject: call.subject.clone(), contact_name: task.contact.contact_name.clone(), config };
        self.provider.place(&placement, line).await
    }

    async fn report(
        &self,
        context: &CommandContext,
        claim: Claim,
        line: &Line<'_>,
        result: Result<Ended, ProviderError>,
    ) -> Result<(), TaskError> {
        let mut context = CommandContext { now: now(), ..context.clone() };
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
            Ok(ended) => context.metadata.causation_id = ended.event_id.or(claim.event_id),
            Err(error) => tracing::warn!(%error, call = %claim.call_id, "a call's end could not be recorded"),
        }
        if was_reached(ended.outcome, ended.hangup_by.as_deref()) {
            self.desk.complete(&context, claim.task_id, claim.call_id, ended.outcome).await?;
        } else {
            let failure = AttemptFailure {
                call_id: claim.call_id,
                error_message: error_message.into(),
                outcome: Some(ended.outcome),
                cause: FailureCause::Reported,
            };
            self.desk.fail(&context, claim.task_id, failure).await?;
        }
        Ok(())
    }
}
