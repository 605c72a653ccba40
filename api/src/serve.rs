//! Runs a process with its roles until shutdown.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use ::workers::{
    Dialing,
    engine::{Engine, Periodic, Worker},
    housekeeping,
    simulator::Simulator,
};
use anyhow::Context as _;
use eventstore::{
    Database,
    seal::{SealError, Sealer},
};
use futures::{FutureExt as _, future::BoxFuture};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use projections::{Feed, Projectors, rebuild};
use services::{
    ServiceError,
    identity::{sessions, throttle, tokens},
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    edge::{audit, connection_limiter::ConnectionLimiter, server},
    idempotency, router,
    settings::{BehindProxy, Role, Settings},
    state::App,
};

/// How long requests in progress may take at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
const PURGE_EVERY: Duration = Duration::from_secs(3_600);
/// Buckets of request durations, in seconds.
const DURATION_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// By default, at least this number of clients is needed to use all connections.
const CLIENTS_FEWEST: u32 = 5;
/// Number of open files in addition to the connections of clients and to the database: refusals, logs, executables.
const FILES_BESIDES: u64 = 200;

/// A running process.
pub struct Running {
    pub app: App,
    pub address: Option<SocketAddr>,
    draining: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    database: Database,
}

/// Prometheus metrics of this process. They stay empty if another recorder is already installed.
#[expect(clippy::expect_used, reason = "only an empty list of buckets is refused")]
pub fn prometheus() -> PrometheusHandle {
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), DURATION_BUCKETS).expect("there are buckets");
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("metrics are recorded by another part of this process");
    }
    handle
}

/// Starts the roles on an open database.
pub async fn start(settings: Settings, database: Database) -> anyhow::Result<Running> {
    let ((draining, drains), (stop, shutdown)) = (watch::channel(false), watch::channel(false));
    let app = App::new(settings.clone(), &database, prometheus(), drains, shutdown.clone()).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(until(shutdown.clone(), keep_metrics(app.prometheus.clone())));
    tasks.spawn(until(shutdown.clone(), app.services.positions.clone().follow(app.access.work.clone())));
    if settings.has(Role::Projectors) {
        rebuild::request_outdated(&app.access.work, &projections::all()).await?;
        let feed = Feed::new(app.store.clone());
        let projectors = Projectors {
            projections: projections::all(),
            pool: app.access.work.clone(),
            owner: app.owner.clone(),
            feed,
            positions: app.services.positions.clone(),
        };
        tasks.spawn(projectors.run(shutdown.clone()));
    }
    let (pool, health) = (app.access.work.clone(), app.store.head().health().clone());
    tasks.spawn(Engine { pool, health, shutdown: shutdown.clone() }.run(workers(&settings, &app, &shutdown)));
    let mut address = None;
    if settings.has(Role::Api) {
        let listener =
            TcpListener::bind(settings.http.listen).await.with_context(|| format!("cannot listen on {}", settings.http.listen))?;
        address = Some(listener.local_addr()?);
        let router = router::router(app.clone());
        // If there is a proxy, all connections come from it.
        let share = settings.http.connections_per_client.unwrap_or(settings.http.connections_max.div_ceil(CLIENTS_FEWEST));
        let connections =
            ConnectionLimiter::new(settings.http.connections_max, if settings.http.behind_proxy == BehindProxy::No { share } else { 0 });
        let of_database = 2 * u64::from(settings.store.database_connections);
        allow_files(u64::from(settings.http.connections_max) + of_database + FILES_BESIDES);
        tasks.spawn(server::serve(listener, router, connections, shutdown.clone()));
        tasks.spawn(until(shutdown.clone(), keep_keys(app.clone())));
    }
    Ok(Running { app, address, draining, stop, tasks, database })
}

impl Running {
    /// Shuts down: `/readyz` answers 503 while requests are still served for a short time; then no new work is accepted, requests in
    /// progress are finished, and leases are released.
    pub async fn stop(mut self) {
        let _ = self.draining.send(true);
        tokio::time::sleep(Duration::from_secs(self.app.settings.http.drain_sec)).await;
        let _ = self.stop.send(true);
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::warn!("some work did not end in time and was cut off");
            self.tasks.shutdown().await;
        }
        if tokio::time::timeout(CLOSE_TIMEOUT, self.app.audit.flush()).await.is_err() {
            tracing::warn!("the last audit entries could not be written");
        }
        if tokio::time::timeout(CLOSE_TIMEOUT, self.database.close()).await.is_err() {
            tracing::warn!("some connections to the database did not close in time");
        }
        drop(self.app);
        // The embedded server, if there is one, stops when the last reference is dropped; this takes some time.
        let _ = tokio::task::spawn_blocking(move || drop(self.database)).await;
    }
}

/// The workers of the process's roles.
fn workers(settings: &Settings, app: &App, shutdown: &watch::Receiver<bool>) -> Vec<Box<dyn Worker>> {
    // The platform's own work does not wait for connections behind claims over the API.
    let services = app.services.for_workers();
    let mut workers = Vec::new();
    if settings.has(Role::Projectors) || settings.has(Role::Dialer) {
        workers.extend(housekeeping(&services));
        let app = app.clone();
        workers.push(Box::new(Periodic::new("purge", PURGE_EVERY, move || purge(app.clone()).boxed())) as Box<dyn Worker>);
    }
    if settings.has(Role::Projectors) {
        workers.extend(sealing(settings, app));
    }
    if settings.has(Role::Dialer) {
        let provider = Arc::new(Simulator { seed: settings.simulator.seed, speed: settings.simulator.speed });
        workers.push(Box::new(Dialing::new(services, provider, shutdown.clone())));
    }
    workers
}

/// The worker that seals the log. If the seal key cannot be opened, the platform works without seals and logs a warning.
fn sealing(settings: &Settings, app: &App) -> Option<Box<dyn Worker>> {
    if settings.store.seal_every_sec == 0 {
        return None;
    }
    let path = settings.store.seal_key_file();
    let sealer = Sealer::open(&path).inspect_err(|error| {
        tracing::warn!(%error, file = %path.display(), "the log is not sealed: set NEWVOICE_SEAL_KEY_FILE to a file that can be read or made");
    });
    let (sealer, pool) = (Arc::new(sealer.ok()?), app.access.commands.clone());
    tracing::info!(key = %sealer.fingerprint(), file = %path.display(), "the log is sealed every {} s", settings.store.seal_every_sec);
    let seal = move || -> BoxFuture<'static, Result<(), ServiceError>> {
        let (sealer, pool) = (Arc::clone(&sealer), pool.clone());
        async move {
            match sealer.seal(&pool).await {
                Ok(_) => Ok(()),
                Err(SealError::Store(error)) => Err(error.into()),
                Err(error @ SealError::Key(_)) => Err(ServiceError::internal(&error)),
                Err(error @ SealError::NotSound(_)) => {
                    tracing::error!(%error, "the log was tampered with");
                    Err(ServiceError::internal(&error))
                }
            }
        }
        .boxed()
    };
    Some(Box::new(Periodic::new("log_seals", Duration::from_secs(settings.store.seal_every_sec), seal)))
}

async fn until(mut shutdown: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! { () = work => {}, _ = shutdown.wait_for(|stop| *stop) => {} }
}

/// Raises the limit of open files: every connection is an open file, and the default limit is low.
fn allow_files(needed: u64) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = soft.max(needed.min(hard));
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map(|()| wanted)
    });
    match raised {
        Ok(allowed) if allowed < needed => {
            tracing::warn!(allowed, needed, "too few open files are allowed for so many connections (ulimit -n)")
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "how many open files are allowed is not known"),
    }
}

/// Deletes expired data. If one deletion fails, the others are still done; the first error is returned.
async fn purge(app: App) -> Result<(), ServiceError> {
    let identity = &app.access.identity;
    let purged = [
        idempotency::purge(&app.access.work).await,
        sessions::purge(identity).await,
        throttle::purge(identity).await,
        audit::purge(identity, app.settings.identity.audit_days).await,
    ];
    purged.into_iter().collect::<Result<(), _>>().map_err(ServiceError::from)
}

/// Aggregates the measured values, even if no client requests them.
async fn keep_metrics(prometheus: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        prometheus.run_upkeep();
    }
}

/// Loads new signing keys, and adds a new one when it is due.
async fn keep_keys(app: App) {
    loop {
        tokio::time::sleep(tokens::REFRESH_EVERY).await;
        if let Err(error) = app.services.identity.tokens.refresh(&app.access.identity).await {
            tracing::debug!(%error, "the signing keys could not be looked up");
        }
    }
}

/// Returns when the process gets Ctrl-C or SIGTERM.
pub async fn shutdown_signal() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! { _ = tokio::signal::ctrl_c() => {}, () = terminate => {} }
}
