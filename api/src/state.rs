//! The state that all handlers share.

use std::sync::Arc;

use anyhow::Context as _;
use eventstore::{Database, EventStore, Pool, database::Access};
use metrics_exporter_prometheus::PrometheusHandle;
use projections::Positions;
use services::{Services, identity::IdentityState};
use sqlx::{Postgres, Transaction};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    edge::{Audit, BodyMemory, FailedCredentialLimiter, Limits, ProcessorTime, Shares},
    idempotency::KeyedRequests,
    live::LiveFeed,
    problem::Problem,
    settings::Settings,
    statuses::{RenderedMetrics, Statuses},
    uploads::Uploads,
};

/// Limits the streams of one company: one stream per this number of connections.
const STREAMS_SHARE: u32 = 5;

/// The state that all handlers share. Clones share all fields and are cheap: every layer of the router has one.
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

pub struct Shared {
    pub settings: Settings,
    /// Database connections, by purpose.
    pub access: Access,
    /// Connections as the owner of the schema.
    pub owner: Pool,
    pub store: EventStore,
    pub services: Services,
    pub limits: Limits,
    pub failed_credentials: FailedCredentialLimiter,
    pub shares: Shares,
    /// What each company and network has used of the processor.
    pub processor_time: Arc<ProcessorTime>,
    /// Memory for request bodies.
    pub body_memory: BodyMemory,
    pub feed: LiveFeed,
    pub audit: Audit,
    pub prometheus: PrometheusHandle,
    pub statuses: Statuses,
    pub rendered: RenderedMetrics,
    /// Memory for call lists while they are received and parsed.
    pub uploads: Uploads,
    pub keyed_requests: KeyedRequests,
    /// True when the process is about to stop: `/readyz` answers 503.
    pub draining: watch::Receiver<bool>,
    /// True when the process stops: streams end.
    pub shutdown: watch::Receiver<bool>,
}

impl App {
    pub async fn new(
        settings: Settings,
        database: &Database,
        prometheus: PrometheusHandle,
        draining: watch::Receiver<bool>,
        shutdown: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let master = database.master_key.clone().context("the platform needs a master key")?;
        let (access, owner) = (database.access.clone(), database.pool.clone());
        let store = EventStore::open(database);
        let brought_back = store.persons().destroy_erased().await?;
        if brought_back > 0 {
            tracing::warn!(persons = brought_back, "keys of erased persons were there and have been destroyed");
        }
        let identity =
            IdentityState::load(access.identity.clone(), master, settings.identity.token_minutes, settings.identity.registration.into())
                .await?;
        Ok(Self(Arc::new(Shared {
            services: Services::new(store.clone(), access.clone(), Positions::default(), identity, ::workers::PROVIDERS),
            limits: Limits::new(settings.rates.per_caller, settings.rates.per_company),
            failed_credentials: FailedCredentialLimiter::new(settings.rates.of_guesses),
            shares: Shares::new(access.reads_max() as usize, settings.http.connections_max.div_ceil(STREAMS_SHARE) as usize),
            processor_time: Arc::default(),
            body_memory: BodyMemory::default(),
            feed: LiveFeed::start(store.clone()),
            audit: Audit::start(access.identity.clone()),
            uploads: Uploads::new(settings.uploads.max_bytes),
            settings,
            access,
            owner,
            store,
            prometheus,
            statuses: Statuses::default(),
            rendered: RenderedMetrics::default(),
            keyed_requests: KeyedRequests::default(),
            draining,
            shutdown,
        })))
    }

    /// A transaction that sees the rows of this company only.
    pub async fn company(&self, company_id: Uuid) -> Result<Transaction<'static, Postgres>, Problem> {
        Ok(self.access.company(company_id).await?)
    }
}
