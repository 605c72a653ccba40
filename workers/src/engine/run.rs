//! The loop that runs any one worker.

use std::time::Duration;

use eventstore::{Pool, database::DatabaseHealth};
use services::ServiceError;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{Lease, Next, Runs, Worker, due::caught, lease::RoundEnd};

/// How often a lease is renewed, a round is recorded, and a process without the lease tries to acquire it.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// A round that takes longer is blocked by a dead connection.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);
/// The pause after a failed round; doubled each time, up to the worker's own pause or the second of these.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Runs workers until shutdown.
pub struct Engine {
    pub pool: Pool,
    pub health: DatabaseHealth,
    pub shutdown: watch::Receiver<bool>,
}

/// A worker, its lease, and what the database knows of it.
struct Running {
    worker: Box<dyn Worker>,
    pool: Pool,
    holder: Uuid,
    lease: Option<Lease>,
    /// The end of a round that was recorded last, and when; it also renewed the lease.
    recorded: Option<(RoundEnd, Instant)>,
    failed_rounds: u32,
}

impl Engine {
    pub async fn run(self, workers: Vec<Box<dyn Worker>>) {
        let holder = Uuid::now_v7();
        let mut tasks = JoinSet::new();
        for worker in workers {
            let (pool, health, mut shutdown) = (self.pool.clone(), self.health.clone(), self.shutdown.clone());
            let mut running = Running { worker, pool, holder, lease: None, recorded: None, failed_rounds: 0 };
            let may_be_cut_off = running.worker.may_be_cut_off();
            tasks.spawn(async move {
                while !*shutdown.borrow() {
                    let pause = tokio::select! {
                        pause = running.turn(&health) => pause,
                        () = end_of(shutdown.clone()), if may_be_cut_off => break,
                    };
                    let _ = timeout(pause, shutdown.wait_for(|stop| *stop)).await;
                }
                running.stop().await;
            });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a worker ended unexpectedly");
            }
        }
    }
}

impl Running {
    /// One round, if the lease can be had. Returns the pause until the next turn.
    async fn turn(&mut self, health: &DatabaseHealth) -> Duration {
        let leased = health.or_unavailable(self.lease()).await.flatten();
        let lease = match leased {
            Ok(Some(lease)) => lease,
            Ok(None) => return RENEW_EVERY,
            Err(error) => {
                tracing::warn!(worker = self.worker.name(), %error, "the lease of a worker could not be had");
                return RETRY_AFTER.0;
            }
        };
        let round = self.round(&lease, health).await;
        let (pause, error) = match round {
            Ok(next) => {
                self.failed_rounds = 0;
                (if next == Next::AtOnce { Duration::ZERO } else { self.worker.every() }, None)
            }
            Err(error) => {
                tracing::warn!(worker = self.worker.name(), %error, "a worker's round failed");
                let doubled = RETRY_AFTER.0.saturating_mul(2_u32.saturating_pow(self.failed_rounds));
                self.failed_rounds = self.failed_rounds.saturating_add(1);
                (doubled.min(self.worker.every().clamp(RETRY_AFTER.0, RETRY_AFTER.1)), Some(error.to_string()))
            }
        };
        self.record(&lease, RoundEnd { due_in_sec: u32::try_from(pause.as_secs()).unwrap_or(u32::MAX), error }).await;
        pause
    }

    /// A round of the worker; it is cut off when it takes too long, when the database falls silent, and when the lease is lost.
    async fn round(&mut self, lease: &Lease, health: &DatabaseHealth) -> Result<Next, ServiceError> {
        let runs = self.worker.runs();
        let round = timeout(ROUND_TIMEOUT, caught(self.worker.round(lease)));
        tokio::select! {
            round = health.or_unavailable(round) => round?.unwrap_or_else(|_| Err(ServiceError::unavailable("the round took too long"))),
            () = keep(lease.clone(), runs) => Err(ServiceError::unavailable("the lease was lost")),
        }
    }

    /// The lease that is held, or a new one.
    async fn lease(&mut self) -> Result<Option<Lease>, sqlx::Error> {
        let name = self.worker.name();
        let was_renewed = self.recorded.as_ref().is_some_and(|(_, at)| at.elapsed() < 2 * RENEW_EVERY);
        if let Some(lease) = self.lease.as_ref().filter(|_| was_renewed) {
            return Ok(Some(lease.clone()));
        }
        if self.recorded.is_none() {
            sqlx::query!("insert into workers (name) values ($1) on conflict (name) do nothing", name).execute(&self.pool).await?;
        }
        self.lease = match self.worker.runs() {
            Runs::InOneProcess => Lease::acquire(&self.pool, name, self.holder, self.worker.every()).await?,
            Runs::InEachProcess => Some(Lease::none(&self.pool, name, self.holder)),
        };
        Ok(self.lease.clone())
    }

    /// Records the end of a round, which also renews the lease; not if the same end was recorded less than a second ago.
    async fn record(&mut self, lease: &Lease, end: RoundEnd) {
        if self.recorded.as_ref().is_some_and(|(known, at)| *known == end && at.elapsed() < RENEW_EVERY) {
            return;
        }
        match lease.record(self.worker.runs(), &end).await {
            Ok(keeps) => {
                self.recorded = Some((end, Instant::now()));
                if !keeps {
                    self.lease = None;
                }
            }
            Err(error) => {
                tracing::debug!(worker = self.worker.name(), %error, "the end of a worker's round could not be recorded");
                self.lease = None;
            }
        }
    }

    async fn stop(&mut self) {
        self.worker.stop().await;
        if let Some(lease) = self.lease.take()
            && let Err(error) = lease.release().await
        {
            tracing::debug!(worker = self.worker.name(), %error, "a lease could not be given back; it will run out");
        }
    }
}

async fn end_of(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Renews the lease during a round. Returns when another process has it.
async fn keep(lease: Lease, runs: Runs) {
    if runs == Runs::InEachProcess {
        return std::future::pending().await;
    }
    loop {
        sleep(RENEW_EVERY).await;
        match lease.renew().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::debug!(%error, "a worker's lease could not be renewed"),
        }
    }
}
