//! Appends of single events: by many concurrent writers, and by one writer alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use uuid::Uuid;

use support::bench::{Goal, Ground, Log, Report, median};

use crate::writing::{STREAM_EVENTS, WRITERS, Writer, turn};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);
/// Number of rows per statement in the set-based bound: many, and as many as there are writers.
const SET_ROWS: [usize; 2] = [1_000, WRITERS];
const LONE_APPENDS: usize = 1_500;

pub async fn concurrent(ground: &Ground, report: &mut Report) {
    report.section("append", "64 concurrent appenders, one event each, streams of 20 events, payloads of 400 bytes", "events/s");
    let (mut ours, mut lock, mut bare, mut set, mut small_set) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let log = ground.log().await;
        ours.push(rate_of_ours(&log, ROUND).await);
        log.drop().await;
        lock.push(rate_of_statement(ground, GLOBAL_LOCK).await);
        bare.push(rate_of_statement(ground, BARE_INSERT).await);
        set.push(rate_of_set_based_insert(ground, SET_ROWS[0]).await);
        small_set.push(rate_of_set_based_insert(ground, SET_ROWS[1]).await);
    }
    report.figure("ours", &ours);
    report.figure("one event per transaction under a global lock, 64 connections", &lock);
    report.figure("bare single-row INSERT, 64 connections", &bare);
    report.figure("bare set-based INSERT of 1,000 rows, 1 connection", &set);
    report.figure("bare set-based INSERT of 64 rows, 1 connection", &small_set);
    report.ratio("a global lock per event", &ours, &lock, Goal::AtLeast(5.0));
    report.ratio("bare single-row INSERTs", &ours, &bare, Goal::AtLeast(1.5));
    report.ratio("bare set-based INSERT of 1,000 rows", &ours, &set, Goal::AtLeast(0.5));
    report.ratio("bare set-based INSERT of 64 rows", &ours, &small_set, Goal::AtLeast(0.5));
}

pub async fn lone(ground: &Ground, report: &mut Report) {
    report.section("lone", "One appender alone, one event at a time: median latency", "µs");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let log = ground.log().await;
        let mut writer = Writer::new(&log.store);
        // Runs as a task of the runtime, like a request.
        let latencies = tokio::spawn(async move {
            let mut latencies = Vec::with_capacity(LONE_APPENDS);
            for _ in 0..LONE_APPENDS {
                let begun = Instant::now();
                writer.append().await.unwrap();
                latencies.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            latencies
        });
        let latencies = latencies.await.unwrap();
        ours.push(median(&latencies));
        log.drop().await;
        let log = ground.log().await;
        let rows = Rows::prepare(&log, BARE_INSERT).await;
        let mut connection = log.database.pool.acquire().await.unwrap();
        let latencies = tokio::spawn(async move {
            let mut latencies = Vec::with_capacity(LONE_APPENDS);
            let mut call = rows.call();
            for _ in 0..LONE_APPENDS {
                let begun = Instant::now();
                call.insert(&mut connection, &rows).await;
                latencies.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            latencies
        });
        let latencies = latencies.await.unwrap();
        bare.push(median(&latencies));
        log.drop().await;
    }
    report.figure("ours", &ours);
    report.figure("plain single-row INSERT, committed", &bare);
    report.ratio("a plain single-row INSERT", &ours, &bare, Goal::AtMost(1.5));
}

/// Events per second of 64 appenders during `time`.
pub async fn rate_of_ours(log: &Log, time: Duration) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (mut writer, stop, count) = (Writer::new(&log.store), Arc::clone(&stop), Arc::clone(&count));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    writer.append().await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    rate(&stop, &count, writers, time).await
}

async fn rate(stop: &AtomicBool, count: &AtomicU64, tasks: Vec<tokio::task::JoinHandle<()>>, time: Duration) -> f64 {
    // The first moments are for warming up.
    tokio::time::sleep(time / 4).await;
    let (begun, before) = (Instant::now(), count.load(Ordering::Relaxed));
    tokio::time::sleep(time).await;
    let events = count.load(Ordering::Relaxed) - before;
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    f64::from(u32::try_from(events).unwrap()) / seconds
}

/// Inserts one given row, without checks and without ordering.
const BARE_INSERT: &str = "insert into events (position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash)
    values ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9::jsonb, $10, clock_timestamp(), $11)";

/// The simplest append in commit order: every writer waits for one lock, takes the next position, writes, commits.
const GLOBAL_LOCK: &str = "select append_under_lock($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const GLOBAL_LOCK_FUNCTION: &str = "
    create sequence global_position;
    create function append_under_lock(p_position bigint, p_stream text, p_version bigint, p_event_id uuid, p_type text, p_schema smallint, p_company uuid,
        p_payload text, p_metadata text, p_occurred timestamptz, p_hash bytea) returns bigint language plpgsql as $$
    declare v_position bigint;
    begin
        perform pg_advisory_xact_lock(4711);
        v_position := nextval('global_position');
        insert into events (position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash)
        values (v_position, p_stream, p_version, p_event_id, p_type, p_schema, p_company, p_payload::jsonb, p_metadata::jsonb, p_occurred, clock_timestamp(), p_hash);
        return v_position;
    end $$";

/// Values that all rows of the bounds share.
struct Rows {
    statement: &'static str,
    position: Arc<AtomicI64>,
    company: Uuid,
    payload: String,
    metadata: String,
    hash: Vec<u8>,
}

/// Generates the next row of a stream of 20 rows.
struct CallRows {
    stream: String,
    version: i64,
}

impl Rows {
    async fn prepare(log: &Log, statement: &'static str) -> Self {
        if statement == GLOBAL_LOCK {
            sqlx::raw_sql(GLOBAL_LOCK_FUNCTION).execute(&log.database.pool).await.unwrap();
        }
        let (_, payload) = domain::fact::encode(&turn(7)).unwrap();
        let metadata = serde_json::to_string(&crate::writing::context().metadata).unwrap();
        Self { statement, position: Arc::default(), company: Uuid::from_u128(7), payload: payload.to_string(), metadata, hash: vec![7; 32] }
    }

    fn call(&self) -> CallRows {
        CallRows { stream: format!("call-{}", Uuid::now_v7()), version: 0 }
    }
}

impl CallRows {
    fn next(&mut self) {
        if self.version == STREAM_EVENTS {
            (self.stream, self.version) = (format!("call-{}", Uuid::now_v7()), 0);
        }
        self.version += 1;
    }

    async fn insert(&mut self, connection: &mut PgConnection, rows: &Rows) {
        self.next();
        sqlx::query(rows.statement)
            .bind(rows.position.fetch_add(1, Ordering::Relaxed) + 1)
            .bind(&self.stream)
            .bind(self.version)
            .bind(Uuid::now_v7())
            .bind("TurnRecorded")
            .bind(1_i16)
            .bind(rows.company)
            .bind(&rows.payload)
            .bind(&rows.metadata)
            .bind(chrono::Utc::now())
            .bind(&rows.hash)
            .execute(connection)
            .await
            .unwrap();
    }
}

async fn rate_of_statement(ground: &Ground, statement: &'static str) -> f64 {
    let log = ground.log().await;
    let rows = Arc::new(Rows::prepare(&log, statement).await);
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..WRITERS {
        let (rows, stop, count) = (Arc::clone(&rows), Arc::clone(&stop), Arc::clone(&count));
        let mut connection = log.database.pool.acquire().await.unwrap();
        tasks.push(tokio::spawn(async move {
            let mut call = rows.call();
            while !stop.load(Ordering::Relaxed) {
                call.insert(&mut connection, &rows).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let rate = rate(&stop, &count, tasks, ROUND).await;
    log.drop().await;
    rate
}

async fn rate_of_set_based_insert(ground: &Ground, set_rows: usize) -> f64 {
    let log = ground.log().await;
    let rows = Rows::prepare(&log, BARE_INSERT).await;
    let mut connection = log.database.pool.acquire().await.unwrap();
    // Rows alternate between streams, as with 64 writers.
    let mut calls: Vec<CallRows> = (0..WRITERS).map(|_| rows.call()).collect();
    let mut statement_seconds = 0.0;
    let mut events = 0_u32;
    let begun = Instant::now();
    while begun.elapsed() < ROUND {
        let (mut positions, mut streams, mut versions, mut ids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for i in 0..set_rows {
            let call = &mut calls[i % WRITERS];
            call.next();
            positions.push(rows.position.fetch_add(1, Ordering::Relaxed) + 1);
            streams.push(call.stream.clone());
            versions.push(call.version);
            ids.push(Uuid::now_v7());
        }
        let (payloads, metadata) = (vec![rows.payload.as_str(); set_rows], vec![rows.metadata.as_str(); set_rows]);
        let insert = sqlx::query(
            "insert into events (position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash)
             select e.position, e.stream, e.version, e.event_id, 'TurnRecorded', 1, $5, e.payload::jsonb, e.metadata::jsonb, $8, clock_timestamp(), $9
               from unnest($1::bigint[], $2::text[], $3::bigint[], $4::uuid[], $6::text[], $7::text[]) e(position, stream, version, event_id, payload, metadata)",
        )
        .bind(positions)
        .bind(streams)
        .bind(versions)
        .bind(ids)
        .bind(rows.company)
        .bind(payloads)
        .bind(metadata)
        .bind(chrono::Utc::now())
        .bind(&rows.hash);
        let statement = Instant::now();
        insert.execute(&mut *connection).await.unwrap();
        statement_seconds += statement.elapsed().as_secs_f64();
        events += u32::try_from(set_rows).unwrap();
    }
    drop(connection);
    log.drop().await;
    f64::from(events) / statement_seconds
}
