//! Partitions: created in advance, detached from the log when they are old, attached later.

use domain::call::Call;
use eventstore::{
    EventStore, ExpectedVersion, Pool, StoreError, StreamName,
    seal::Sealer,
    verify::{self, Fault, Scope},
};
use support::new_database;
use uuid::Uuid;

use super::{
    PERSON, context,
    load::{COMPANY, turn},
    open,
};

async fn append(store: &EventStore, events: i64) {
    let context = context(COMPANY);
    for _ in 0..events {
        let mut unit = store.unit(&context);
        unit.push::<Call>(Uuid::now_v7(), PERSON, ExpectedVersion::NoStream, &[turn("x")]).await.unwrap();
        unit.commit().await.unwrap();
    }
}

/// Creates small partitions instead of the one with which every new log begins.
async fn with_small_partitions(pool: &Pool, size: i64, count: i64) {
    sqlx::raw_sql("drop table events_from_1").execute(pool).await.unwrap();
    sqlx::query("select ensure_event_partitions($1, $2)").bind(size).bind(size * count - 1).execute(pool).await.unwrap();
}

#[tokio::test]
async fn the_log_goes_on_across_partitions_and_knows_event_ids_of_all() {
    let (database, store) = open(&new_database().await).await;
    with_small_partitions(&database.pool, 10, 20).await;
    append(&store, 57).await;
    let context = context(COMPANY);
    // One command that spans two partitions, and a large one that spans many.
    let turns: Vec<_> = (0..8).map(|n| turn(&n.to_string())).collect();
    let mut unit = store.unit(&context);
    unit.push::<Call>(Uuid::now_v7(), PERSON, ExpectedVersion::NoStream, &turns).await.unwrap();
    assert_eq!(unit.commit().await.unwrap(), 65);
    assert_eq!(verify::verify(&database.pool, Scope::default(), |_| ()).await.unwrap().fault, None);
    for old in [3, 33, 60] {
        let id: Uuid =
            sqlx::query_scalar("select event_id from events where position = $1").bind(old).fetch_one(&database.pool).await.unwrap();
        let again = sqlx::query(
            "select o_position from append_events(array['call-' || gen_random_uuid()], array[$1], '{0}', '{1}', '{1}', array[$2], '{TurnRecorded}', '{1}',
                    '{\"{}\"}', '{\"{}\"}', array[now()], sha256('x'), $2, false, true)",
        );
        let refused = again.bind(COMPANY).bind(id).fetch_one(&database.pool).await;
        let refused = match refused {
            Ok(row) => sqlx::Row::get::<Option<i64>, _>(&row, 0).is_none(),
            Err(error) => error.as_database_error().unwrap().is_unique_violation(),
        };
        assert!(refused, "the event id of position {old} was stored twice");
    }
    assert_eq!(store.last_position().await.unwrap(), 65);
}

#[tokio::test]
async fn old_partitions_are_taken_out_and_the_rest_verifies_from_a_seal() {
    let (database, store) = open(&new_database().await).await;
    with_small_partitions(&database.pool, 10, 10).await;
    let first_stream = {
        append(&store, 35).await;
        store.read_page(0, 1).await.unwrap().remove(0).stream
    };
    let refused = store.detach_oldest_partition().await.unwrap_err();
    assert!(refused.to_string().contains("no seal"), "{refused}");
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::open(&dir.path().join("key.pem")).unwrap();
    let seal = sealer.seal(&database.pool).await.unwrap().unwrap();
    assert_eq!(seal.position, 35);
    sqlx::query("insert into projection_checkpoints (name, version, position) values ('slow', 1, 9)")
        .execute(&database.pool)
        .await
        .unwrap();
    let refused = store.detach_oldest_partition().await.unwrap_err();
    assert!(refused.to_string().contains("slow"), "{refused}");
    sqlx::query("delete from projection_checkpoints").execute(&database.pool).await.unwrap();
    assert_eq!(store.detach_oldest_partition().await.unwrap(), "events_from_1");
    assert_eq!(store.detach_oldest_partition().await.unwrap(), "events_from_11");
    append(&store, 10).await;
    sealer.seal(&database.pool).await.unwrap().unwrap();
    let verdict = verify::verify(&database.pool, Scope::default(), |_| ()).await.unwrap();
    assert_eq!((verdict.fault, verdict.first_position, verdict.events), (None, 21, 25));
    // A read of detached positions is an error; the result is never empty instead.
    let gone = store.read_page(0, 10).await.unwrap_err();
    assert!(matches!(gone, StoreError::Unreadable { position: 1, .. }), "{gone}");
    assert!(store.read_stream(&StreamName::of::<Call>(first_stream.id()), None).await.unwrap().is_empty());
    let error = sqlx::query("delete from events_from_1").execute(&database.pool).await.unwrap_err();
    assert!(error.to_string().contains("append-only"), "{error}");
    // Without the seal, the hash before the first position cannot be verified.
    let sealed_end =
        "set session_replication_role = replica; delete from log_seals where position = 20; set session_replication_role = origin";
    let backup = "create table kept as select * from log_seals where position = 20";
    sqlx::raw_sql(backup).execute(&database.pool).await.unwrap();
    sqlx::raw_sql(sealed_end).execute(&database.pool).await.unwrap();
    let verdict = verify::verify(&database.pool, Scope::default(), |_| ()).await.unwrap();
    assert_eq!(verdict.fault, Some(Fault::NoBeginning { first: 21 }));
    sqlx::raw_sql("insert into log_seals select * from kept").execute(&database.pool).await.unwrap();
    let states: Vec<_> = store.partitions().await.unwrap().into_iter().map(|p| (p.first, p.attached)).take(3).collect();
    assert_eq!(states, [(1, false), (11, false), (21, true)]);
    assert_eq!(store.attach_newest_partition().await.unwrap(), "events_from_11");
    assert_eq!(store.attach_newest_partition().await.unwrap(), "events_from_1");
    let verdict = verify::verify(&database.pool, Scope::default(), |_| ()).await.unwrap();
    assert_eq!((verdict.fault, verdict.first_position, verdict.events), (None, 1, 45));
    assert!(store.attach_newest_partition().await.is_err());
    let error = sqlx::query("delete from events where position = 1").execute(&database.pool).await.unwrap_err();
    assert!(error.to_string().contains("append-only"), "{error}");
}

#[tokio::test]
async fn a_verification_can_begin_anywhere() {
    let (database, store) = open(&new_database().await).await;
    append(&store, 30).await;
    for from in [1, 2, 15, 30] {
        let scope = Scope { from: Some(from), ..Scope::default() };
        let verdict = verify::verify(&database.pool, scope, |_| ()).await.unwrap();
        assert_eq!((verdict.fault, verdict.first_position, verdict.events), (None, from, u64::try_from(31 - from).unwrap()));
    }
}
