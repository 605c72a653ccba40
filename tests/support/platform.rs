//! A platform in this process, with its own database.

use std::{net::SocketAddr, path::PathBuf};

use eventstore::{Database, MasterKey};
use newvoice_api::{
    serve::{self, Running},
    settings::{
        BehindProxy, HttpSettings, IdentitySettings, RateSettings, RegistrationMode, Role, Settings, SimulatorSettings, StoreSettings,
        UploadSettings,
    },
    state::App,
};
use serde_json::json;
use services::identity::operators;
use uuid::Uuid;

use crate::{Client, new_database};

pub struct Platform {
    running: Running,
    pub database_url: String,
}

/// Every platform of a run has the same key, because their roles share a cluster.
pub const MASTER_KEY: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

pub fn master_key() -> MasterKey {
    MASTER_KEY.parse().unwrap()
}

/// Settings for tests: any free port, calls at two hundred times real time.
pub fn settings(database_url: &str) -> Settings {
    Settings {
        roles: vec![Role::Api, Role::Projectors, Role::Dialer],
        http: HttpSettings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            connections_max: 1_000,
            connections_per_client: Some(0),
            behind_proxy: BehindProxy::No,
            cors_origins: Vec::new(),
            drain_sec: 0,
        },
        rates: RateSettings { per_caller: 0, per_company: 0, of_guesses: 0 },
        identity: IdentitySettings { registration: RegistrationMode::Open, registrations_per_hour: 0, token_minutes: 30, audit_days: 30 },
        uploads: UploadSettings { max_bytes: 4 << 20, max_rows: 5_000, max_columns: 50 },
        store: StoreSettings {
            database_url: Some(database_url.to_owned()),
            schema: "newvoice".to_owned(),
            data_dir: PathBuf::new(),
            database_connections: 12,
            allow_unsafe_server: false,
            master_key: Some(master_key()),
            master_key_file: None,
            seal_key_file: None,
            seal_every_sec: 0,
        },
        simulator: SimulatorSettings { speed: 200.0, seed: 1 },
    }
}

impl Platform {
    pub async fn start() -> Self {
        Self::start_on(&new_database().await).await
    }

    pub async fn start_on(database_url: &str) -> Self {
        Self::start_with(settings(database_url)).await
    }

    /// On a new database, with settings that `change` differ from [`settings`].
    pub async fn configured(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings(&new_database().await);
        change(&mut settings);
        Self::start_with(settings).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        let database_url = settings.store.database_url.clone().unwrap_or_default();
        let database = Database::open(&settings.store.database(Some(master_key()))).await.unwrap();
        Self { running: serve::start(settings, database).await.unwrap(), database_url }
    }

    pub fn app(&self) -> &App {
        &self.running.app
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.running.address.unwrap())
    }

    /// A client without a credential.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.base(), None)
    }

    /// The admin of a new company.
    pub async fn admin(&self) -> Client {
        let name = format!("company-{}", Uuid::new_v4().simple());
        let body = json!({"email": format!("{name}@example.com"), "password": "correct horse", "company_name": name});
        let answer = self.anonymous().post("/auth/register", &body).await.expect(201);
        self.anonymous().signed_in(&answer)
    }

    /// The admin of a new company who is also operator of the installation.
    pub async fn operator(&self) -> Client {
        let admin = self.admin().await;
        let user_id: Uuid = admin.get("/auth/me").await.expect(200)["user"]["id"].as_str().unwrap().parse().unwrap();
        let mut db = self.app().access.identity.acquire().await.unwrap();
        assert!(operators::add(&mut db, user_id).await.unwrap());
        self.app().services.identity.callers.forget_all();
        admin
    }

    pub async fn stop(self) {
        self.running.stop().await;
    }
}
