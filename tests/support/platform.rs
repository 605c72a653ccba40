//! A platform in this process, with its own database.

use std::{net::SocketAddr, path::PathBuf};

use eventstore::{Database, MasterKey};
use newvoice_api::{
    serve::{self, Running},
    settings::{BehindProxy, RegistrationMode, Role, Settings},
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
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        roles: vec![Role::Api, Role::Projectors, Role::Dialer],
        database_url: Some(database_url.to_owned()),
        schema: "newvoice".to_owned(),
        data_dir: PathBuf::new(),
        database_connections: 12,
        allow_unsafe_server: false,
        master_key: Some(master_key()),
        master_key_file: None,
        token_minutes: 30,
        registration: RegistrationMode::Open,
        registrations_per_hour: 0,
        rate_per_caller: 0,
        rate_per_company: 0,
        rate_of_guesses: 0,
        connections_max: 1_000,
        connections_per_client: Some(0),
        cors_origins: Vec::new(),
        behind_proxy: BehindProxy::No,
        drain_sec: 0,
        audit_days: 30,
        upload_max_bytes: 4 << 20,
        upload_max_rows: 5_000,
        upload_max_columns: 50,
        seal_key_file: None,
        seal_every_sec: 0,
        simulator_speed: 200.0,
        simulator_seed: 1,
    }
}

impl Platform {
    pub async fn start() -> Self {
        Self::start_on(&new_database().await).await
    }

    pub async fn start_on(database_url: &str) -> Self {
        Self::start_with(settings(database_url)).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        let database_url = settings.database_url.clone().unwrap_or_default();
        let database = Database::open(&settings.database(master_key())).await.unwrap();
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
