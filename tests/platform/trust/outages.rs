//! The database fails under load: requests get only 503 meanwhile, then the platform recovers automatically and no data is lost.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use support::{Client, Cut, Platform, Proxy, new_database, settings};
use tokio::task::JoinHandle;

/// The answers to clients that never stopped sending.
#[derive(Default)]
struct Seen {
    acknowledged: Mutex<Vec<String>>,
    statuses: Mutex<BTreeMap<u16, usize>>,
    stop: AtomicBool,
}

fn load(client: &Client, seen: &Arc<Seen>) -> Vec<JoinHandle<()>> {
    let worker = |n: usize| {
        let (client, seen) = (client.with_token(client.token.as_ref().unwrap()), Arc::clone(seen));
        tokio::spawn(async move {
            while !seen.stop.load(Ordering::Relaxed) {
                let answer = if n.is_multiple_of(2) {
                    client.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await
                } else {
                    client.send(client.request(reqwest::Method::GET, "/campaigns")).await
                };
                assert!([200, 201, 503].contains(&answer.status), "{}: {}", answer.status, answer.body);
                if answer.status == 201 {
                    seen.acknowledged.lock().unwrap().push(answer.id());
                }
                if answer.status == 503 {
                    assert!(answer.header("retry-after").is_some());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                *seen.statuses.lock().unwrap().entry(answer.status).or_default() += 1;
            }
        })
    };
    (0..8).map(worker).collect()
}

/// Waits until both kinds of requests succeed again.
async fn recovered(seen: &Seen) {
    let count = |status| seen.statuses.lock().unwrap().get(&status).copied().unwrap_or_default();
    let before = (count(200), count(201));
    for _ in 0..600 {
        if count(200) > before.0 + 20 && count(201) > before.1 + 20 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never recovered: {:?}", seen.statuses.lock().unwrap());
}

async fn audit(platform: &Platform, seen: &Seen) {
    let owner = &platform.app().owner;
    let acknowledged = seen.acknowledged.lock().unwrap().clone();
    let streams: Vec<String> = acknowledged.iter().map(|id| format!("call-{id}")).collect();
    let there: i64 =
        sqlx::query_scalar("select count(*) from streams where stream = any($1)").bind(&streams).fetch_one(owner).await.unwrap();
    assert_eq!(usize::try_from(there).unwrap(), acknowledged.len(), "an acknowledged write was lost");
    // No connection is leaked, and no transaction is left open.
    for _ in 0..100 {
        let (open, forgotten): (i64, i64) = sqlx::query_as(
            "select count(*), count(*) filter (where state like 'idle in transaction%' and state_change < now() - interval '1 second')
               from pg_stat_activity where datname = current_database() and usename <> current_user",
        )
        .fetch_one(owner)
        .await
        .unwrap();
        // At most the connections of its pools, and the three connections of the log.
        if open <= 20 && forgotten == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("connections were leaked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_restarted_under_load() {
    let dir = tempfile::Builder::new().prefix("nvo").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut settings = settings("");
    (settings.store.database_url, settings.store.data_dir) = (None, dir.path().to_owned());
    let platform = Platform::start_with(settings).await;
    let (admin, seen) = (platform.admin().await, Arc::new(Seen::default()));
    let workers = load(&admin, &seen);
    recovered(&seen).await;
    for signal in ["-INT", "-TERM", "-QUIT"] {
        let pid = std::fs::read_to_string(dir.path().join("postgres/postmaster.pid")).unwrap().lines().next().unwrap().to_owned();
        // A fast shutdown; or a smart one, which waits for our connections, followed by an immediate one.
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        if signal == "-TERM" {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        }
        while std::fs::read_to_string(dir.path().join("postgres/postmaster.pid")).is_ok_and(|text| text.lines().next() == Some(&pid)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        recovered(&seen).await;
    }
    seen.stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    audit(&platform, &seen).await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_to_the_database_is_cut_under_load() {
    let url = new_database().await;
    let port: u16 = url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.parse().unwrap();
    let proxy = Proxy::start(port).await;
    let through = url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port));
    let platform = Platform::start_with(settings(&through)).await;
    let (admin, seen) = (platform.admin().await, Arc::new(Seen::default()));
    let workers = load(&admin, &seen);
    recovered(&seen).await;
    for round in 0..40 {
        let before = proxy.cuts();
        proxy.cut_after(round % 7, if round % 2 == 0 { Cut::Before } else { Cut::After });
        for _ in 0..200 {
            if proxy.cuts() > before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(proxy.cuts() >= 30, "{}", proxy.cuts());
    recovered(&seen).await;
    seen.stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    audit(&platform, &seen).await;
    platform.stop().await;
}
