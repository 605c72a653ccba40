//! A private PostgreSQL server in a data directory: created on first use, started and stopped with the process.
//!
//! A killed process leaves its server running; the next process finds it through `postmaster.pid` and takes it over. While a process uses
//! the server, it starts the server again if it has ended. Every process that uses the server holds a shared lock; the last process to end
//! stops it.

use std::{
    env, fs, io,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Weak,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::{Pid, Uid, User},
};
use rand::{RngExt as _, distr::Alphanumeric};
use sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions};

use super::{binaries, settings::OpenError};
use crate::secret_file;

const SUPERUSER: &str = "newvoice";
const DATABASE: &str = "newvoice";
/// File in the data directory.
const SERVER_LOG: &str = "postgres.log";
/// PostgreSQL may need to recover after a crash.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often to check whether the server is still running.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// A socket's path has at most 107 bytes; `/.s.PGSQL.65535` takes 16 of them.
const SOCKET_DIR_MAX_BYTES: usize = 90;

/// `NEWVOICE_DATA_DIR`'s default: `~/.local/share/newvoice`; for root, whose home others cannot enter, `/var/lib/newvoice`.
pub fn default_data_dir() -> PathBuf {
    let home = env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/share")));
    match home {
        Some(share) if !Uid::effective().is_root() => share.join("newvoice"),
        _ => PathBuf::from("/var/lib/newvoice"),
    }
}

/// Whether a server was created in `dir` before.
pub(super) fn is_made(dir: &Path) -> bool {
    dir.join("postgres").join("PG_VERSION").exists()
}

/// A running server. Dropping it stops the server if no other process uses it.
pub struct EmbeddedServer {
    dir: PathBuf,
    data: PathBuf,
    port: u16,
    password: String,
    /// Every process that uses the server holds a shared lock on this file; the last one stops the server.
    users: fs::File,
}

impl EmbeddedServer {
    /// Starts the server of `dir`, and creates it first if it does not exist; or joins the server that is already running.
    pub async fn start(dir: &Path) -> Result<Self, OpenError> {
        let dir = dir.to_owned();
        let server =
            tokio::task::spawn_blocking(move || Self::start_blocking(&dir)).await.map_err(|e| OpenError::Embedded(e.to_string()))??;
        server.wait_until_ready().await?;
        Ok(server)
    }

    fn start_blocking(dir: &Path) -> Result<Self, OpenError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| OpenError::Embedded(format!("{what} {}: {error}", dir.display()));
        let bin = binaries::find().ok_or(OpenError::NoPostgres)?;
        fs::create_dir_all(dir).map_err(|e| failed("cannot make", &e))?;
        let dir = &dir.canonicalize().map_err(|e| failed("cannot enter", &e))?;
        let account = Account::current_or_unprivileged()?;
        let open = |name: &str| fs::OpenOptions::new().create(true).write(true).truncate(false).open(dir.join(name));
        let (users, starting) = match (open("users.lock"), open("starting.lock")) {
            (Ok(users), Ok(starting)) => (users, starting),
            (Err(e), _) | (_, Err(e)) => return Err(failed("cannot write in", &e)),
        };
        // One process at a time creates or starts a server; from then on all of them use it.
        starting.lock().and_then(|()| users.lock_shared()).map_err(|e| failed("cannot lock", &e))?;
        let data = dir.join("postgres");
        if !is_made(dir) {
            initialize(&bin, dir, &data, &account).map_err(|e| failed("cannot make a cluster in", &e))?;
        }
        await_stopping(&data);
        if running(&data).is_none() {
            launch(&bin, dir, &data, &account, None).map_err(|e| failed("cannot start the server of", &e))?;
        }
        let port = await_port(&data).map_err(|e| failed("no server in", &e))?;
        let password = fs::read_to_string(dir.join("password")).map_err(|e| failed("cannot read the password in", &e))?;
        Ok(Self { dir: dir.clone(), data, port, password: password.trim().to_owned(), users })
    }

    /// Starts the server again, on the same port, whenever it has ended; returns when this process no longer uses it.
    pub async fn watch(server: Weak<Self>) {
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            let Some(server) = server.upgrade() else { return };
            let log = server.dir.join(SERVER_LOG);
            let restarted = tokio::task::spawn_blocking(move || server.restart_if_gone()).await;
            match restarted {
                Ok(Ok(true)) => {
                    tracing::warn!(log = %log.display(), "the embedded PostgreSQL was gone and is started again; its log says why")
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the embedded PostgreSQL is gone and could not be started yet"),
                Err(error) => tracing::error!(%error, "the watch over the embedded PostgreSQL stumbled"),
            }
        }
    }

    fn restart_if_gone(&self) -> io::Result<bool> {
        if running(&self.data).is_some() {
            return Ok(false);
        }
        let starting = fs::OpenOptions::new().write(true).open(self.dir.join("starting.lock"))?;
        starting.lock()?;
        if running(&self.data).is_some() {
            return Ok(false);
        }
        let bin = binaries::find().ok_or(io::ErrorKind::NotFound)?;
        let account = Account::current_or_unprivileged().map_err(io::Error::other)?;
        launch(&bin, &self.dir, &self.data, &account, Some(self.port))?;
        Ok(true)
    }

    /// The options to connect to it.
    pub fn options(&self) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().username(SUPERUSER).password(&self.password).database(DATABASE);
        let options = options.host("127.0.0.1").port(self.port);
        if fits_socket(&self.data) { options.socket(&self.data) } else { options }
    }

    /// Waits until the server accepts connections and the platform's database exists.
    async fn wait_until_ready(&self) -> Result<(), OpenError> {
        let admin = self.options().database("postgres").log_statements(log::LevelFilter::Trace);
        let deadline = Instant::now() + START_TIMEOUT;
        let mut connection = loop {
            match sqlx::PgConnection::connect_with(&admin).await {
                Ok(connection) => break connection,
                Err(error) if Instant::now() > deadline => return Err(OpenError::Embedded(format!("it does not answer: {error}"))),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        // Processes that start at the same time do this one after the other.
        sqlx::query!("select pg_advisory_lock(hashtextextended('newvoice.cluster', 0))").execute(&mut connection).await?;
        let there = sqlx::query_scalar!(r#"select exists (select from pg_database where datname = $1) as "there!""#, DATABASE);
        if !there.fetch_one(&mut connection).await? {
            sqlx::query("create database newvoice").execute(&mut connection).await?;
        }
        // The cluster belongs to the platform alone: its service roles need no access to the other databases.
        let is_open = sqlx::query_scalar!(
            r#"select exists (select from pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                               where d.datname in ('postgres', 'template1') and a.grantee = 0) as "open!""#
        );
        if is_open.fetch_one(&mut connection).await? {
            sqlx::query("revoke all on database postgres, template1 from public").execute(&mut connection).await?;
        }
        Ok(connection.close().await?)
    }
}

impl Drop for EmbeddedServer {
    fn drop(&mut self) {
        if self.users.unlock().and_then(|()| self.users.try_lock().map_err(io::Error::from)).is_err() {
            return;
        }
        let Some(pid) = running(&self.data) else { return };
        // SIGINT is PostgreSQL's fast shutdown: connections are closed, everything is written.
        let _ = signal::kill(pid, Signal::SIGINT);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while running(&self.data).is_some() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn fits_socket(dir: &Path) -> bool {
    dir.as_os_str().len() <= SOCKET_DIR_MAX_BYTES
}

/// The account that the server runs under: PostgreSQL refuses to run as root.
struct Account(Option<User>);

impl Account {
    fn current_or_unprivileged() -> Result<Self, OpenError> {
        if !Uid::effective().is_root() {
            return Ok(Self(None));
        }
        let user = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
        user.map(|user| Self(Some(user)))
            .ok_or_else(|| OpenError::Embedded("PostgreSQL refuses to run as root, and there is no user postgres or nobody".into()))
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Some(user) => std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())),
            None => Ok(()),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(user) = &self.0 {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.env_remove("PGDATA").env("LC_ALL", "C.UTF-8").current_dir("/");
        command
    }
}

/// Creates the cluster beside its place and moves it there when it is complete: a killed process leaves no incomplete cluster.
fn initialize(bin: &Path, dir: &Path, data: &Path, account: &Account) -> io::Result<()> {
    let password: String = rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect();
    let making = dir.join("postgres.new");
    if making.exists() {
        fs::remove_dir_all(&making)?;
    }
    fs::create_dir(&making)?;
    fs::set_permissions(&making, fs::Permissions::from_mode(0o700))?;
    account.own(&making)?;
    let password_file = dir.join("password");
    // A password file from a cluster that was never completed is useless.
    match fs::remove_file(&password_file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => secret_file::create_once(&password_file, format!("{password}\n").as_bytes())?,
    };
    account.own(&password_file)?;
    tracing::info!(dir = %data.display(), "making a private PostgreSQL cluster");
    let output = account
        .command(&bin.join("initdb"))
        .args(["--username", SUPERUSER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums"])
        .arg("--pwfile")
        .arg(&password_file)
        .arg("-D")
        .arg(&making)
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    fs::rename(&making, data)
}

/// Starts the server, on `port` if one is given.
fn launch(bin: &Path, dir: &Path, data: &Path, account: &Account, port: Option<u16>) -> io::Result<()> {
    let port = match port {
        Some(port) => port,
        None => std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
    };
    let log_path = dir.join(SERVER_LOG);
    let log = fs::OpenOptions::new().create(true).append(true).open(&log_path)?;
    forget_foreign_pid(data)?;
    let socket_dir = if fits_socket(data) { data.as_os_str().to_owned() } else { "".into() };
    let mut command = account.command(&bin.join("postgres"));
    command.arg("-D").arg(data).arg("-k").arg(socket_dir);
    command.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]);
    command.args(["-c", "shared_buffers=256MB", "-c", "max_wal_size=2GB", "-c", "wal_compression=on"]);
    // A separate process group: Ctrl-C in the terminal is meant for the platform, which stops the server when it is done.
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn()?;
    let deadline = Instant::now() + START_TIMEOUT;
    while running(data).is_none() {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("postgres ended with {status}; see {}", log_path.display())));
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    // The child is reaped when it ends, so that it does not look alive to `running`.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// The lines of `postmaster.pid`: process id, data directory, start time, port, socket directory, address, key, status.
fn pid_file(data: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    Some(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// The process id of the server of `data`, if the server is running. A file left over from a crash can name a process that is not a server.
fn running(data: &Path) -> Option<Pid> {
    let pid: i32 = pid_file(data)?.first()?.parse().ok()?;
    // A server works in its data directory; without /proc, it must suffice that the process is alive.
    let is_server = fs::read_link(format!("/proc/{pid}/cwd")).map_or_else(|_| !Path::new("/proc/self").exists(), |cwd| cwd == data);
    (is_server && signal::kill(Pid::from_raw(pid), None).is_ok()).then(|| Pid::from_raw(pid))
}

/// PostgreSQL itself handles a file left over from a crash, unless another program has that process id now.
fn forget_foreign_pid(data: &Path) -> io::Result<()> {
    let pid = pid_file(data).and_then(|lines| lines.first()?.parse().ok()).map(Pid::from_raw);
    match pid.filter(|pid| signal::kill(*pid, None).is_ok()) {
        Some(_) if running(data).is_none() => fs::remove_file(data.join("postmaster.pid")),
        _ => Ok(()),
    }
}

/// A server that is shutting down must have ended before the next one starts.
fn await_stopping(data: &Path) {
    let deadline = Instant::now() + STOP_TIMEOUT;
    let stopping = || running(data).is_some() && pid_file(data).and_then(|lines| lines.get(7).cloned()).as_deref() == Some("stopping");
    while stopping() && Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
}

fn await_port(data: &Path) -> io::Result<u16> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let port = pid_file(data).and_then(|lines| lines.get(3)?.parse().ok());
        match port.filter(|_| running(data).is_some()) {
            Some(port) => return Ok(port),
            None if Instant::now() > deadline => return Err(io::ErrorKind::TimedOut.into()),
            None => std::thread::sleep(LOOK_EVERY),
        }
    }
}
