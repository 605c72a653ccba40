//! Live subscriptions.

use std::time::Duration;

use eventstore::ExpectedVersion;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use support::{new_database, seed};

use super::{appending::push, context, load::COMPANY, open};

/// An event may be appended while a subscription reads an empty page. The subscription must then read again at once: its pause is so long
/// that the test does not end if it waits instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_appended_while_an_empty_page_is_read_is_not_waited_for() {
    const WRITERS: u64 = 4;
    const EVENTS: i64 = 300;
    let (_database, store) = open(&new_database().await).await;
    let mut subscription = store.subscribe(0).retry_every(Duration::from_secs(3_600));
    let reading = tokio::spawn(async move {
        while subscription.position() < WRITERS as i64 * EVENTS {
            subscription.next(Duration::from_secs(3_600)).await.unwrap();
        }
    });
    let seed = seed();
    let writers = (0..WRITERS).map(|writer| {
        let (store, mut rng) = (store.clone(), StdRng::seed_from_u64(seed.wrapping_add(writer)));
        tokio::spawn(async move {
            for version in 0..EVENTS {
                tokio::time::sleep(Duration::from_micros(rng.random_range(0..4_000))).await;
                push(&store, &context(COMPANY), writer.into(), ExpectedVersion::Exact(version), &["x"]).await.unwrap();
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("the subscription waits for an event that is there").unwrap();
}
