//! Bulk append compared with a bare COPY of the same rows.

use std::time::Instant;

use domain::call::Call;
use eventstore::{EventStore, ExpectedVersion};
use futures::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use support::bench::{Goal, Ground, Report};

use crate::writing::{PERSON, STREAM_EVENTS, context, turn};

const ROUNDS: usize = 3;
const EVENTS: u32 = 200_000;
/// Number of calls in one unit.
const UNIT_CALLS: u32 = 100;
/// Number of units in progress at once: one is prepared while another one is written.
const UNITS_AHEAD: usize = 2;

pub async fn run(ground: &Ground, report: &mut Report) {
    report.section("bulk", "200,000 events of calls with 20 events each, in units of 2,000", "events/s");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let log = ground.log().await;
        let begun = Instant::now();
        fill(&log.store, EVENTS).await;
        ours.push(f64::from(EVENTS) / begun.elapsed().as_secs_f64());
        let mut connection = log.database.pool.acquire().await.unwrap();
        let copy = "copy (select * from events order by position) to stdout (format binary)";
        let rows: Vec<_> = connection.copy_out_raw(copy).await.unwrap().try_collect().await.unwrap();
        drop(connection);
        log.drop().await;
        let log = ground.log().await;
        let mut connection = log.database.pool.acquire().await.unwrap();
        let begun = Instant::now();
        let mut copy = connection.copy_in_raw("copy events from stdin (format binary)").await.unwrap();
        for chunk in rows.chunks(2_000) {
            copy.send(chunk.concat()).await.unwrap();
        }
        assert_eq!(copy.finish().await.unwrap(), u64::from(EVENTS));
        bare.push(f64::from(EVENTS) / begun.elapsed().as_secs_f64());
        drop(connection);
        log.drop().await;
    }
    report.figure("ours", &ours);
    report.figure("bare binary COPY in one transaction", &bare);
    report.ratio("a bare binary COPY", &ours, &bare, Goal::AtLeast(0.6));
}

/// Appends `events` events of new calls.
pub async fn fill(store: &EventStore, events: u32) {
    let unit_events = UNIT_CALLS * u32::try_from(STREAM_EVENTS).unwrap();
    let units = futures::stream::iter(0..events / unit_events).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let context = context();
            let mut unit = store.unit(&context);
            for _ in 0..UNIT_CALLS {
                let turns: Vec<_> = (0..STREAM_EVENTS).map(turn).collect();
                unit.push::<Call>(Uuid::now_v7(), PERSON, ExpectedVersion::NoStream, &turns).await.unwrap();
            }
            unit.commit().await.unwrap();
        })
    });
    units.buffered(UNITS_AHEAD).try_for_each(|()| std::future::ready(Ok(()))).await.unwrap();
}
