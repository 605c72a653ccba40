//! The log under load and failures. `NEWVOICE_TEST_ATTEMPTS`, `NEWVOICE_TEST_PROCESS_KILLS` and `NEWVOICE_TEST_SERVER_KILLS` make the tests
//! longer; docs/testing.md explains what they show and how the suite itself was tested.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use chrono::{DateTime, Utc};
use eventstore::{Database, EventStore, verify};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::{Connection as _, PgConnection};
use support::{new_database, seed, setting, settings};
use tokio::sync::{oneshot, watch};

use super::{
    load::{Ack, Seen, Writer, append_silently, audit},
    open,
};

const WRITERS: usize = 64;
/// Environment of a process of writers: the database, a name for its writers, the number of writers, the number of attempts and
/// the seed of the first writer.
const CHILD: [&str; 5] = [
    "NEWVOICE_TEST_CHILD_URL",
    "NEWVOICE_TEST_CHILD_NAME",
    "NEWVOICE_TEST_CHILD_WRITERS",
    "NEWVOICE_TEST_CHILD_ATTEMPTS",
    "NEWVOICE_TEST_CHILD_SEED",
];

/// A separate process that appends and prints its acknowledgements.
fn start_writers(url: &str, name: &str, writers: usize, attempts: usize, seed: u64) -> Child {
    let values = [url.to_owned(), name.to_owned(), writers.to_string(), attempts.to_string(), seed.to_string()];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "log::fire::a_process_of_writers", "--nocapture"]).envs(CHILD.into_iter().zip(values));
    command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

/// Reads the acknowledgements that a process prints, and notifies when it begins; ends with the process.
fn acknowledgements(child: &mut Child) -> (oneshot::Receiver<()>, std::thread::JoinHandle<Vec<Ack>>) {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (begin, begun) = oneshot::channel();
    let mut begin = Some(begin);
    let reader = std::thread::spawn(move || {
        let acks = lines.map_while(Result::ok).filter_map(|line| {
            let (position, tag) = line.strip_prefix("ack ")?.strip_suffix(" .")?.split_once(' ')?;
            let ack = Ack { tag: tag.to_owned(), position: position.parse().ok()? };
            begin.take().map(|begin| begin.send(()));
            Some(ack)
        });
        acks.collect()
    });
    (begun, reader)
}

/// The test that `start_writers` runs in the child process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "not a test by itself"]
async fn a_process_of_writers() {
    let [Ok(url), Ok(name), Ok(writers), Ok(attempts), Ok(seed)] = CHILD.map(std::env::var) else { panic!("a variable is missing") };
    let (attempts, seed): (usize, u64) = (attempts.parse().unwrap(), seed.parse().unwrap());
    let (database, store) = open(&url).await;
    let writers = (0..writers.parse().unwrap()).map(|w: u64| {
        let mut writer = Writer::new(format!("{name}-{w}"), seed.wrapping_add(w), &database, &store);
        tokio::spawn(async move {
            for _ in 0..attempts {
                if let Some(ack) = writer.attempt().await.unwrap() {
                    // One write per line: a killed process leaves no partial line that looks like a complete one.
                    std::io::stdout().write_all(format!("ack {} {} .\n", ack.position, ack.tag).as_bytes()).unwrap();
                }
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    std::process::exit(0);
}

/// An open transaction that has written, in another database of the same server.
async fn idle_writer_elsewhere() -> PgConnection {
    let mut connection = PgConnection::connect(&new_database().await).await.unwrap();
    sqlx::raw_sql("begin; create table idle (x int); insert into idle values (1)").execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_of_many_writers_and_three_live_subscribers() {
    let attempts = setting("NEWVOICE_TEST_ATTEMPTS", 60);
    let url = new_database().await;
    let (database, store) = open(&url).await;
    let idle = idle_writer_elsewhere().await;
    let mut rng = StdRng::seed_from_u64(seed());
    let (stop, stopping) = watch::channel(None);
    let (seen, following): (Vec<_>, Vec<_>) =
        (0..3).map(|_| Seen::start(store.clone(), rng.random_range(1..500), stopping.clone())).unzip();
    let mut children = ["a", "b"].map(|name| start_writers(&url, name, WRITERS / 2, attempts, rng.random()));
    // Listeners lose their connections meanwhile; no reader may rely on them.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query ilike 'listen%'")
            .execute(&database.pool)
            .await
            .unwrap();
        let verdict = verify::verify(&database.pool, verify::Scope::default(), |_| ()).await.unwrap();
        assert_eq!(verdict.fault, None, "a log that grows meanwhile raises no alarm");
    }
    let readers: Vec<_> = children.iter_mut().map(|child| acknowledgements(child).1).collect();
    let mut acknowledged: Vec<Ack> = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()), "a process of writers failed");
    acknowledged.push(append_silently(&database, "silent").await);
    let last = store.last_position().await.unwrap();
    stop.send(Some(last)).unwrap();
    let all = futures::future::join_all(following);
    for subscriber in tokio::time::timeout(Duration::from_secs(20), all).await.expect("a subscriber has missed something") {
        subscriber.unwrap();
    }
    let audit = audit(&database, &store, &acknowledged, &seen).await;
    assert!(acknowledged.len() > WRITERS * attempts / 3, "only {} appends succeeded", acknowledged.len());
    assert!(audit.unacknowledged.is_empty(), "what was refused is in the log: {:?}", audit.unacknowledged);
    drop(idle);
}

/// No acknowledged event is lost or duplicated, and at most the appends in flight are in the log without an acknowledgement: one append of
/// each writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_appending_process_is_killed_again_and_again() {
    const KILLED_WRITERS: usize = 16;
    let kills = setting("NEWVOICE_TEST_PROCESS_KILLS", 50);
    let url = new_database().await;
    let (database, store) = open(&url).await;
    let (stop, stopping) = watch::channel(None);
    let mut rng = StdRng::seed_from_u64(seed());
    let (seen, following) = Seen::start(store.clone(), rng.random_range(1..500), stopping);
    let mut acknowledged: Vec<Ack> = Vec::new();
    for kill in 0..kills {
        let mut child = start_writers(&url, &format!("k{kill}"), KILLED_WRITERS, usize::MAX, rng.random());
        let (begun, reader) = acknowledgements(&mut child);
        begun.await.expect("a process of writers never began");
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..250))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());
    }
    // Statements that the server runs when a process dies may still be committed.
    no_append_runs(&database.pool).await;
    stop.send(Some(store.last_position().await.unwrap())).unwrap();
    following.await.unwrap();
    assert!(acknowledged.len() > kills, "only {} appends succeeded", acknowledged.len());
    let audit = audit(&database, &store, &acknowledged, &[seen]).await;
    // All events of a batch were recorded at the same time. One batch was in flight when the process died; for the batch before it, some
    // writers may not have printed the acknowledgements that they had received.
    let mut batches: HashMap<&str, HashSet<DateTime<Utc>>> = HashMap::new();
    for (tag, recorded_at) in &audit.unacknowledged {
        batches.entry(tag.split('-').next().unwrap()).or_default().insert(*recorded_at);
    }
    assert!(batches.values().all(|batches| batches.len() <= 2), "more was written than was on its way: {batches:?}");
    assert!(audit.events >= acknowledged.len());
}

/// Waits until the server runs no append.
async fn no_append_runs(pool: &eventstore::Pool) {
    let running = || {
        let running = sqlx::query_scalar::<_, i64>(
            "select count(*) from pg_stat_activity
              where datname = current_database() and state = 'active' and pid <> pg_backend_pid()
                and (query like '%append_events(%' or query like '%insert into events (%')",
        );
        running.fetch_one(pool)
    };
    let ended = async {
        while running().await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("appends of killed processes end");
}

fn kill_server(pid_file: &std::path::Path) -> bool {
    let Ok(file) = std::fs::read_to_string(pid_file) else { return false };
    let kill = Command::new("kill").args(["-9", file.lines().next().unwrap_or_default()]).stderr(Stdio::null()).status();
    kill.unwrap().success()
}

/// PostgreSQL is killed under load and restarted by the platform: for appends whose answer was lost, a look-up in the log decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_killed_again_and_again() {
    let kills = setting("NEWVOICE_TEST_SERVER_KILLS", 20);
    let dir = tempfile::Builder::new().prefix("nvk").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut settings = settings("").store.database(Some(support::master_key()));
    (settings.url, settings.data_dir) = (None, dir.path().to_owned());
    let database = Database::open(&settings).await.unwrap();
    let store = EventStore::open(&database);
    let (stop, stopping) = watch::channel(None);
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let (seen, following) = Seen::start(store.clone(), rng.random_range(1..500), stopping.clone());
    let (finish, finished) = watch::channel(false);
    let writers: Vec<_> = (0..16)
        .map(|w: u64| {
            let mut writer = Writer::new(format!("w{w}"), seed.wrapping_add(w), &database, &store);
            let finished = finished.clone();
            tokio::spawn(async move {
                let (mut acknowledged, mut unknown) = (Vec::new(), 0_usize);
                while !*finished.borrow() {
                    match writer.attempt().await {
                        Ok(ack) => acknowledged.extend(ack),
                        // It is unknown whether the event was written; the writer's own stream may be longer.
                        Err(_) => {
                            unknown += 1;
                            writer.begin_anew();
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
                (acknowledged, unknown)
            })
        })
        .collect();
    let pid_file = dir.path().join("postgres/postmaster.pid");
    for _ in 0..kills {
        let before = seen.len();
        let growing = async {
            while seen.len() < before + 50 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), growing).await.expect("appends go on after a kill");
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
        // The file may still have the id of the process that was killed before.
        while !kill_server(&pid_file) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let before = seen.len();
    while seen.len() < before + 50 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    finish.send(true).unwrap();
    let (mut acknowledged, mut unknown) = (Vec::new(), 0);
    for writer in writers {
        let (acks, errors) = writer.await.unwrap();
        acknowledged.extend(acks);
        unknown += errors;
    }
    stop.send(Some(store.last_position().await.unwrap())).unwrap();
    following.await.unwrap();
    let audit = audit(&database, &store, &acknowledged, &[seen]).await;
    let commands: HashSet<&str> = audit.unacknowledged.iter().map(|(tag, _)| tag.trim_end_matches(" first")).collect();
    assert!(commands.len() <= unknown, "{} appends are in the log that nobody was told of, {unknown} had no answer", commands.len());
}
