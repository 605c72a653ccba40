//! One PostgreSQL for the whole run, started by the platform's own launcher and removed when the run ends.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use eventstore::{
    Database,
    database::{DatabaseSettings, EmbeddedServer},
};
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

struct Cluster {
    server: EmbeddedServer,
    dir: PathBuf,
    password: String,
}

impl Cluster {
    /// If the server has stopped, all tests fail; its last log lines show the reason.
    async fn connect(&self) -> PgConnection {
        match PgConnection::connect_with(&self.server.options()).await {
            Ok(connection) => connection,
            Err(error) => {
                let log = std::fs::read_to_string(self.dir.join("postgres.log")).unwrap_or_else(|error| error.to_string());
                let last: Vec<&str> = log.lines().rev().take(20).collect();
                panic!(
                    "the tests' PostgreSQL does not answer ({error}); its log ends:\n{}",
                    last.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
        }
    }
}

/// PostgreSQL's error code of `create database` when the template has connections.
const OBJECT_IN_USE: &str = "55006";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
/// Name of a database with all migrations, which is copied for each test.
static MIGRATED: OnceCell<String> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| async {
            let dir = tempfile::Builder::new().prefix("nvt").tempdir_in("/tmp").unwrap().keep();
            // The server may run as another user than the tests.
            std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let server = EmbeddedServer::start(&dir).await.unwrap();
            let password = std::fs::read_to_string(dir.join("password")).unwrap().trim().to_owned();
            remove_when_done(&dir);
            Cluster { server, dir, password }
        })
        .await
}

/// The path of a program of the server's PostgreSQL. The first word of `postmaster.opts` is the server's own program.
pub fn postgres_binary(name: &str) -> PathBuf {
    let cluster = CLUSTER.get().expect("a test that has a database has a server");
    let started = std::fs::read_to_string(cluster.dir.join("postgres/postmaster.opts")).unwrap();
    PathBuf::from(started.split_whitespace().next().unwrap()).with_file_name(name)
}

/// Statics are never dropped: a shell waits for this process to end, stops the server and removes its data.
fn remove_when_done(dir: &std::path::Path) {
    let script = r#"while kill -0 "$1" 2>/dev/null; do sleep 0.5; done
        kill -INT "$(head -n 1 "$2/postgres/postmaster.pid")" 2>/dev/null
        while [ -e "$2/postgres/postmaster.pid" ]; do sleep 0.2; done; rm -rf "$2""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", &std::process::id().to_string()]).arg(dir);
    std::os::unix::process::CommandExt::process_group(&mut shell, 0);
    // The shell outlives this process, so this process cannot wait for it.
    let watcher = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::mem::forget(watcher);
}

/// The address of a new database with all migrations and no other data.
pub async fn new_database() -> String {
    let migrated = MIGRATED.get_or_init(|| async {
        let url = empty_database().await;
        // Opened as the owner, without a master key: the first platform that opens a copy sets the key.
        let settings = DatabaseSettings { as_platform: false, ..crate::settings(&url).store.database(None) };
        Database::open(&settings).await.unwrap().close().await;
        url.rsplit_once('/').unwrap().1.to_owned()
    });
    create_database(migrated.await).await
}

/// The address of a new, empty database.
pub async fn empty_database() -> String {
    create_database("template1").await
}

/// The address of a copy of a database without connections.
pub async fn copy_database(url: &str) -> String {
    create_database(url.rsplit_once('/').unwrap().1).await
}

async fn create_database(template: &str) -> String {
    let cluster = cluster().await;
    let name = format!("test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
    let mut admin = cluster.connect().await;
    let create = format!("create database {name} template {template}");
    loop {
        let gone = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
        sqlx::query(gone).bind(template).execute(&mut admin).await.unwrap();
        match sqlx::query(sqlx::AssertSqlSafe(create.as_str())).execute(&mut admin).await {
            // A process that still uses the template has connected to it once more.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(OBJECT_IN_USE) => {}
            created => {
                created.unwrap();
                break;
            }
        }
    }
    admin.close().await.unwrap();
    format!("postgres://newvoice:{}@127.0.0.1:{}/{name}", cluster.password, cluster.server.options().get_port())
}

/// The binaries that this process has built.
static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The path of a binary of the workspace: in the directory `NEWVOICE_TEST_BINARIES`, if that is set. Otherwise its first use builds it, in the
/// profile of this test, and from the libraries of the whole workspace: for a package alone, cargo would build them again with fewer features.
pub fn binary(name: &str) -> PathBuf {
    if let Ok(dir) = std::env::var("NEWVOICE_TEST_BINARIES") {
        return PathBuf::from(dir).join(name);
    }
    let exe = std::env::current_exe().unwrap();
    let profile_dir = exe.parent().and_then(|deps| deps.parent()).unwrap();
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.args(["build", "--quiet", "--workspace", "--bin", name, "--target-dir"]).arg(profile_dir.parent().unwrap());
    if profile_dir.ends_with("release") {
        // The profile of benchmarks builds into the folder `release`, too.
        cargo.args(["--profile", "bench"]);
    }
    let mut built = BUILT.lock().unwrap();
    if !built.contains(name) {
        assert!(cargo.status().unwrap().success(), "{name} could not be built");
        built.insert(name.to_owned());
    }
    profile_dir.join(name)
}
