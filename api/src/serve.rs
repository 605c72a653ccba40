//! Runs a process: the roles it was given, until it is told to stop.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use dialer::{Dialer, Housekeeping, simulator::Simulator};
use eventstore::{Database, seal::Sealer};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use projections::{Feed, Projectors, rebuild};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    app::{self, App},
    idempotency,
    settings::{Role, Settings},
};

/// How long requests under way may take when the process is to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const PURGE_EVERY: Duration = Duration::from_secs(3_600);
/// Buckets of request durations, in seconds.
const DURATION_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A running process.
pub struct Running {
    pub app: App,
    pub address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    database: Database,
}

/// Prometheus metrics of this process; `None` when another recorder is installed already.
pub fn prometheus() -> PrometheusHandle {
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), DURATION_BUCKETS).unwrap_or_default();
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("metrics are recorded by another part of this process");
    }
    handle
}

/// Starts the roles on a database that is open.
pub async fn start(settings: Settings, database: Database) -> anyhow::Result<Running> {
    let (stop, shutdown) = watch::channel(false);
    let app = App::new(settings.clone(), &database, prometheus(), shutdown.clone()).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(until(shutdown.clone(), app.positions.clone().follow(app.pool.clone())));
    if settings.has(Role::Projectors) {
        rebuild::request_outdated(&app.pool).await?;
        let feed = Feed::new(app.store.clone());
        let projectors = Projectors { projections: projections::all(), pool: app.pool.clone(), feed, positions: app.positions.clone() };
        tasks.spawn(projectors.run(shutdown.clone()));
        seal(&settings, &app, &mut tasks, &shutdown);
    }
    if settings.has(Role::Projectors) || settings.has(Role::Dialer) {
        tasks.spawn(Housekeeping(app.desk.clone()).run(shutdown.clone()));
        tasks.spawn(until(shutdown.clone(), purge(app.clone())));
    }
    if settings.has(Role::Dialer) {
        let provider = Arc::new(Simulator { seed: settings.simulator_seed, speed: settings.simulator_speed });
        tasks.spawn(Dialer::new(app.desk.clone(), provider).run(shutdown.clone()));
    }
    let mut address = None;
    if settings.has(Role::Api) {
        let listener = TcpListener::bind(settings.listen).await.with_context(|| format!("cannot listen on {}", settings.listen))?;
        address = Some(listener.local_addr()?);
        let router = app::router(app.clone());
        let mut stopping = shutdown.clone();
        tasks.spawn(async move {
            let stopped = async move {
                let _ = stopping.wait_for(|stop| *stop).await;
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
    }
    Ok(Running { app, address, stop, tasks, database })
}

impl Running {
    /// Stops: no new work, requests under way are finished, leases are given back.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::warn!("some work did not end in time and was cut off");
            self.tasks.shutdown().await;
        }
        if tokio::time::timeout(CLOSE_TIMEOUT, self.app.pool.close()).await.is_err() {
            tracing::warn!("some connections to the database did not close in time");
        }
        drop(self.app);
        // Our own server, if there is one, stops with the last of these; it takes its time.
        let _ = tokio::task::spawn_blocking(move || drop(self.database)).await;
    }
}

/// Without a key the platform works all the same, and says what is missing.
fn seal(settings: &Settings, app: &App, tasks: &mut JoinSet<()>, shutdown: &watch::Receiver<bool>) {
    if settings.seal_every_sec == 0 {
        return;
    }
    let path = settings.seal_key_file();
    match Sealer::open(&path) {
        Ok(sealer) => {
            tracing::info!(key = %sealer.fingerprint(), file = %path.display(), "the log is sealed every {} s", settings.seal_every_sec);
            let every = Duration::from_secs(settings.seal_every_sec);
            tasks.spawn(until(shutdown.clone(), sealer.run(app.pool.clone(), every)));
        }
        Err(error) => {
            tracing::warn!(%error, file = %path.display(), "the log is not sealed: set NEWVOICE_SEAL_KEY_FILE to a file that can be read or made");
        }
    }
}

async fn until(mut shutdown: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! { () = work => {}, _ = shutdown.wait_for(|stop| *stop) => {} }
}

async fn purge(app: App) {
    loop {
        if let Err(error) = idempotency::purge(&app.pool).await {
            tracing::debug!(%error, "old idempotency keys could not be forgotten");
        }
        tokio::time::sleep(PURGE_EVERY).await;
    }
}

/// Returns when the process is told to stop, by Ctrl-C or SIGTERM.
pub async fn told_to_stop() {
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
