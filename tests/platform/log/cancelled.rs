//! Clients that disconnect, and dead connections.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use support::{Platform, new_database, seed, setting};
use tokio::{
    io,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::open;

/// 2,000 requests are cancelled at random moments: no connection keeps a transaction open, and every acknowledged event is in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_requests_leave_no_transaction_open_and_lose_nothing() {
    let requests = setting("NEWVOICE_TEST_CANCELS", 2_000);
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    // The present duration of a request in microseconds: it changes with the load of the machine.
    let typical = AtomicU64::new(10_000);
    let mut rng = StdRng::seed_from_u64(seed());
    let patience: Vec<f64> = (0..requests).map(|_| rng.random_range(0.0..2.5)).collect();
    let record = |n: usize, cancel_after: Option<Duration>| {
        let request = admin.request(reqwest::Method::POST, &format!("/calls/{call}/turns"));
        let request = request.json(&json!({"turn_index": n, "agent_text": format!("turn {n}")}));
        let (typical, patience) = (&typical, &patience);
        async move {
            let cancel_after = cancel_after.unwrap_or_else(|| Duration::from_micros(typical.load(Relaxed)).mul_f64(patience[n]));
            let begun = std::time::Instant::now();
            let answer = tokio::time::timeout(cancel_after, request.send()).await;
            let answered = answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status().is_success()));
            if answered {
                let took = u64::try_from(begun.elapsed().as_micros()).unwrap();
                typical.store((typical.load(Relaxed) * 7 + took) / 8, Relaxed);
            }
            answered.then_some(n)
        }
    };
    let warm = (requests..requests + 160).map(|n| record(n, Some(Duration::MAX)));
    assert_eq!(futures::stream::iter(warm).buffer_unordered(16).filter_map(std::future::ready).count().await, 160);
    let acknowledged: Vec<usize> =
        futures::stream::iter(0..requests).map(|n| record(n, None)).buffer_unordered(16).filter_map(std::future::ready).collect().await;
    assert!((requests / 20..requests * 19 / 20).contains(&acknowledged.len()), "{} of {requests} were not cancelled", acknowledged.len());
    assert_eq!(forgotten_transactions(&platform.app().owner).await, 0);
    let stream = admin.get(&format!("/calls/{call}/history")).await.expect(200);
    let recorded: std::collections::HashSet<u64> =
        stream["items"].as_array().unwrap().iter().filter_map(|event| event["payload"]["turn_index"].as_u64()).collect();
    for n in acknowledged {
        assert!(recorded.contains(&(n as u64)), "turn {n} was acknowledged");
    }
    platform.stop().await;
}

/// Transactions that have been idle for a second.
async fn forgotten_transactions(pool: &eventstore::Pool) -> i64 {
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let forgotten = sqlx::query_scalar(
        "select count(*) from pg_stat_activity
          where datname = current_database() and state like 'idle in transaction%' and clock_timestamp() - state_change > interval '1 second'",
    );
    forgotten.fetch_one(pool).await.unwrap()
}

/// Reproduces the bug of sqlx 0.9.0 itself: `begin` is cancelled half-way, and the connection returns to the pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_begin_that_is_given_up_does_not_swallow_later_writes() {
    let url = new_database().await;
    let (database, _store) = open(&url).await;
    let pool = &database.pool;
    sqlx::raw_sql("create table written (n int)").execute(pool).await.unwrap();
    let mut rng = StdRng::seed_from_u64(seed());
    for n in 0..500 {
        let begin = tokio::time::timeout(Duration::from_micros(rng.random_range(0..400)), pool.begin());
        drop(begin.await);
        sqlx::query("insert into written values ($1)").bind(n).execute(pool).await.unwrap();
    }
    assert_eq!(forgotten_transactions(pool).await, 0);
    pool.close().await;
    let (after, _store) = open(&url).await;
    let written: i64 = sqlx::query_scalar("select count(*) from written").fetch_one(&after.pool).await.unwrap();
    assert_eq!(written, 500);
}

/// A network between the platform and PostgreSQL that can become silent: connections are not refused, but no data arrives. Existing
/// connections stay dead.
async fn silent_network(url: &str) -> (String, watch::Sender<bool>) {
    let (credentials, rest) = url.rsplit_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    let server = server.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = format!("{credentials}@{}/{database}", listener.local_addr().unwrap());
    let (silence, silent) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (server, mut silent) = (server.clone(), silent.clone());
            tokio::spawn(async move {
                let carry = async {
                    let mut server = TcpStream::connect(server).await?;
                    io::copy_bidirectional(&mut client, &mut server).await
                };
                tokio::select! {
                    _ = carry => {}
                    () = async { let _ = silent.wait_for(|silent| *silent).await; } => std::future::pending().await,
                }
            });
        }
    });
    (through, silence)
}

/// The network becomes silent under load: requests get only 503 meanwhile, the platform recovers automatically within seconds, and no
/// acknowledged write is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_goes_silent_is_503_and_passes() {
    let (url, silence) = silent_network(&new_database().await).await;
    let platform = Platform::start_on(&url).await;
    let admin = platform.admin().await;
    let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let record = async |n: usize| admin.post(&format!("/calls/{call}/turns"), &json!({"turn_index": n, "agent_text": "x"})).await;
    for n in 0..20 {
        record(n).await.expect(201);
    }
    let mut statuses: std::collections::BTreeMap<usize, u16> = (0..20).map(|n| (n, 201)).collect();
    silence.send(true).unwrap();
    let during = futures::stream::iter(20..36).map(async |n| (n, record(n).await.status)).buffer_unordered(8);
    let reads = futures::stream::iter(0..16).map(|_| admin.get("/campaigns")).buffer_unordered(8).map(|answer| answer.status);
    let (during, reads): (Vec<_>, Vec<_>) = tokio::join!(during.collect(), reads.collect());
    assert!(during.iter().all(|(_, status)| *status == 503), "{during:?}");
    assert!(reads.iter().all(|status| *status == 503), "{reads:?}");
    silence.send(false).unwrap();
    let begun = std::time::Instant::now();
    let mut n = 100;
    while statuses.get(&n) != Some(&201) {
        n += 1;
        assert!(begun.elapsed() < Duration::from_secs(30), "the platform did not recover");
        let status = record(n).await.status;
        assert!(status == 201 || status == 503, "{status}");
        statuses.insert(n, status);
    }
    while admin.get("/campaigns").await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "reads did not recover");
    }
    let stream = admin.get(&format!("/calls/{call}/history")).await.expect(200);
    let recorded: Vec<u64> =
        stream["items"].as_array().unwrap().iter().filter_map(|event| event["payload"]["turn_index"].as_u64()).collect();
    for (n, _) in statuses.into_iter().filter(|(_, status)| *status == 201) {
        assert_eq!(recorded.iter().filter(|index| **index == n as u64).count(), 1, "turn {n} was acknowledged");
    }
    platform.stop().await;
}

/// The network becomes silent while every connection is being acquired and released: after this was detected, the pool has its full size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_lost_to_a_network_that_goes_silent() {
    const CONNECTIONS: u32 = 12;
    let (url, silence) = silent_network(&new_database().await).await;
    let (database, store) = open(&url).await;
    let mut users = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let pool = database.pool.clone();
        users.spawn(async move { while sqlx::query("select 1").execute(&pool).await.is_ok() {} });
    }
    let in_use = async {
        while database.pool.size() < CONNECTIONS {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), in_use).await.expect("all connections are in use");
    silence.send(true).unwrap();
    store.head().health().or_unavailable(std::future::pending::<()>()).await.unwrap_err();
    users.shutdown().await;
    silence.send(false).unwrap();
    let all = futures::future::join_all((0..CONNECTIONS).map(|_| database.pool.acquire())).await;
    let had = all.iter().filter(|connection| connection.is_ok()).count();
    assert_eq!(had, CONNECTIONS as usize);
}

/// All connections break at once. After one is found broken, none of the recently used connections is trusted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_broke_with_another_are_not_trusted() {
    let url = new_database().await;
    let (database, _store) = open(&url).await;
    let mut elsewhere = PgConnection::connect(&url).await.unwrap();
    let use_all = || futures::future::join_all((0..8).map(|_| sqlx::query("select pg_sleep(0.02)").execute(&database.pool)));
    for _ in 0..5 {
        for used in use_all().await {
            used.unwrap();
        }
        let cut_at: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut elsewhere).await.unwrap();
        let cut = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
        sqlx::query(cut).execute(&mut elsewhere).await.unwrap();
        // The listener of the log has detected it as soon as it has a new connection.
        let noticed = "select exists (select from pg_stat_activity where datname = current_database() and backend_start > $1)";
        while !sqlx::query_scalar::<_, bool>(noticed).bind(cut_at).fetch_one(&mut elsewhere).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for used in use_all().await {
            used.unwrap();
        }
    }
}
