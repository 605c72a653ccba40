//! Reading and decoding the whole log in order, compared with a bare COPY OUT that the same client drains and decodes.

use std::time::{Duration, Instant};

use domain::Fact;
use eventstore::{EventStore, Pool};
use futures::TryStreamExt as _;

use support::bench::{Goal, Ground, Report};

use crate::bulk::fill;

const ROUNDS: usize = 5;
const EVENTS: u32 = 200_000;

pub async fn run(ground: &Ground, report: &mut Report) {
    report.section("catch-up", "200,000 events read in log order, payloads decoded to domain types", "events/s");
    let log = ground.log().await;
    fill(&log.store, EVENTS).await;
    sqlx::raw_sql("vacuum analyze events").execute(&log.database.pool).await.unwrap();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(rate(catch_up(log.store.clone())).await);
        bare.push(rate(copy_out(log.database.pool.clone())).await);
    }
    report.figure("ours", &ours);
    report.figure("bare binary COPY OUT, drained and decoded", &bare);
    report.ratio("a bare COPY OUT", &ours, &bare, Goal::AtLeast(0.6));
    log.drop().await;
}

async fn rate(read: impl Future<Output = u32> + Send + 'static) -> f64 {
    let begun = Instant::now();
    assert_eq!(tokio::spawn(read).await.unwrap(), EVENTS);
    f64::from(EVENTS) / begun.elapsed().as_secs_f64()
}

/// Reads like a subscriber.
async fn catch_up(store: EventStore) -> u32 {
    let mut subscription = store.subscribe(0);
    let mut events = 0;
    while events < EVENTS {
        for event in subscription.next(Duration::from_secs(1)).await.unwrap() {
            Fact::decode(event.stream.category(), &event.event_type, event.schema_version, &event.payload).unwrap();
            events += 1;
        }
    }
    events
}

async fn copy_out(pool: Pool) -> u32 {
    let mut connection = pool.acquire().await.unwrap();
    let mut rows = connection.copy_out_raw("copy (select * from events) to stdout (format binary)").await.unwrap();
    let mut events = 0;
    // Each message is a row; the first one begins with the header, the last one is the trailer.
    while let Some(message) = rows.try_next().await.unwrap() {
        let row = if events == 0 { &message[19..] } else { &message[..] };
        if row.len() > 2 {
            decode(row);
            events += 1;
        }
    }
    events
}

fn decode(row: &[u8]) {
    let mut fields = [&row[..0]; 12];
    let mut at = 2;
    for field in &mut fields {
        let length = usize::try_from(i32::from_be_bytes(row[at..at + 4].try_into().unwrap())).unwrap();
        *field = &row[at + 4..at + 4 + length];
        at += 4 + length;
    }
    let text = |i: usize| std::str::from_utf8(fields[i]).unwrap();
    let (category, _) = text(1).split_once('-').unwrap();
    let schema_version = i16::from_be_bytes(fields[5].try_into().unwrap());
    Fact::decode(category, text(4), schema_version, &text(7)[1..]).unwrap();
}
