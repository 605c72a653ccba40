use std::collections::HashMap;

use domain::{
    call::{Call, CallCommand, Turn},
    company::{Company, CompanyCommand, CompanyProfile},
    reserved_name::{NameCommand, ReservedName},
};
use eventstore::{CommandContext, Database, EventStore, ExecuteError, StoreError, StreamName, now, verify};
use support::{new_database, settings};
use uuid::Uuid;

async fn open(url: &str) -> (Database, EventStore) {
    let database = Database::open(&settings(url).database()).await.unwrap();
    let store = EventStore::open(&database);
    (database, store)
}

fn context(company_id: Uuid) -> CommandContext {
    CommandContext::system(company_id, "test", now())
}

fn profile(name: &str) -> CompanyProfile {
    CompanyProfile { name: name.to_owned(), slug: "acme".to_owned(), email: None }
}

/// Many writers in two processes' stores, on shared and on own streams: positions without a gap, versions without a gap,
/// every acknowledged event there once, subscribers see everything in order; and the chain holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_leave_no_gap_and_lose_nothing() {
    const WRITERS: usize = 24;
    const COMMANDS: usize = 25;
    let url = new_database().await;
    let (database, first) = open(&url).await;
    let (_other, second) = open(&url).await;
    let company = Uuid::now_v7();
    let subscriber = tokio::spawn(subscribe(second.clone(), i64::try_from(WRITERS * COMMANDS).unwrap()));
    let writers = (0..WRITERS).map(|w| {
        let store = if w % 2 == 0 { first.clone() } else { second.clone() };
        tokio::spawn(async move {
            let context = context(company);
            let mut acknowledged = Vec::new();
            for i in 0..COMMANDS {
                // Every third command goes to a stream that all share.
                let (stream, name) = if i % 3 == 0 {
                    (Uuid::nil(), format!("shared {w} {i}"))
                } else {
                    (Uuid::from_u128(w as u128 + 1), format!("own {w} {i}"))
                };
                match store.execute::<Company>(&context, stream, CompanyCommand::Update(profile(&name))).await {
                    Ok(done) => acknowledged.push((stream, done.version, name)),
                    Err(ExecuteError::Refused(_)) => {
                        // Nobody has registered it yet; who loses that race updates after all.
                        let register = CompanyCommand::Register(profile(&name));
                        let update = CompanyCommand::Update(profile(&name));
                        let done = match store.execute::<Company>(&context, stream, register).await {
                            Ok(done) => done,
                            Err(_) => store.execute::<Company>(&context, stream, update).await.unwrap(),
                        };
                        acknowledged.push((stream, done.version, name));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            acknowledged
        })
    });
    let acknowledged: Vec<_> = futures::future::join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    let events = first.read_page(0, 2_000).await.unwrap();
    assert_eq!(events.iter().map(|e| e.position).collect::<Vec<_>>(), (1..=i64::try_from(acknowledged.len()).unwrap()).collect::<Vec<_>>());
    let mut versions: HashMap<String, i64> = HashMap::new();
    for event in &events {
        let version = versions.entry(event.stream.to_string()).or_default();
        *version += 1;
        assert_eq!(event.version, *version);
    }
    for (stream, version, name) in &acknowledged {
        let there = events
            .iter()
            .filter(|e| e.stream == StreamName::of::<Company>(*stream) && e.version == *version && e.payload().unwrap()["name"] == **name);
        assert_eq!(there.count(), 1, "{name}");
    }
    let seen = tokio::time::timeout(std::time::Duration::from_secs(20), subscriber).await.unwrap().unwrap();
    assert_eq!(seen, (1..=i64::try_from(WRITERS * COMMANDS).unwrap()).collect::<Vec<_>>());
    assert_eq!(acknowledged.len(), WRITERS * COMMANDS);
    let verdict = verify::verify(&database.pool, verify::Scope::default(), |_| ()).await.unwrap();
    assert_eq!((verdict.fault, verdict.events), (None, acknowledged.len() as u64));
}

/// Follows the log until nothing has come for a while.
async fn subscribe(store: EventStore, at_most: i64) -> Vec<i64> {
    let (mut seen, mut after, mut quiet) = (Vec::new(), 0, 0);
    let mut subscription = store.subscribe(0).page_events(50);
    while quiet < 4 && after < at_most {
        let page = subscription.next(std::time::Duration::from_millis(500)).await.unwrap();
        quiet = if page.is_empty() { quiet + 1 } else { 0 };
        seen.extend(page.iter().map(|e| e.position));
        after = page.last().map_or(after, |e| e.position);
    }
    seen
}

#[tokio::test]
async fn a_command_on_several_streams_happens_wholly_or_not_at_all() {
    let url = new_database().await;
    let (_database, store) = open(&url).await;
    let context = context(Uuid::now_v7());
    let (name, a, b) = (Uuid::from_u128(9), Uuid::from_u128(1), Uuid::from_u128(2));
    let register = async |company: Uuid| {
        let mut unit = store.unit(&context);
        unit.decide::<Company>(company, CompanyCommand::Register(profile("x"))).await.map_err(|e| e.to_string())?;
        unit.decide::<ReservedName>(name, NameCommand::Reserve { holder_id: company }).await.map_err(|e| e.to_string())?;
        unit.commit().await.map_err(|e| e.to_string())
    };
    let (first, second) = tokio::join!(register(a), register(b));
    assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|ok| **ok).count(), 1, "{first:?} {second:?}");
    assert_eq!(store.last_position().await.unwrap(), 2);
}

#[tokio::test]
async fn another_companys_stream_cannot_be_touched() {
    let url = new_database().await;
    let (_database, store) = open(&url).await;
    let (ours, theirs) = (context(Uuid::now_v7()), context(Uuid::now_v7()));
    let id = Uuid::now_v7();
    store.execute::<Company>(&ours, id, CompanyCommand::Register(profile("x"))).await.unwrap();
    let refused = store.execute::<Company>(&theirs, id, CompanyCommand::Register(profile("y"))).await;
    assert!(matches!(refused, Err(ExecuteError::Store(StoreError::OtherCompany(_)))));
    assert_eq!(store.last_position().await.unwrap(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_back_is_never_stored() {
    let url = new_database().await;
    let (_database, store) = open(&url).await;
    let context = context(Uuid::now_v7());
    let command = CompanyCommand::Register(profile("nul \0 inside"));
    let refused = store.execute::<Company>(&context, Uuid::now_v7(), command).await;
    assert!(matches!(refused, Err(ExecuteError::Store(StoreError::NotStorable(_)))));
    let turn = Turn { user_text: Some("x".repeat(2 << 20).into()), ..Turn::default() };
    let refused = store.execute::<Call>(&context, Uuid::now_v7(), CallCommand::RecordTurns { turns: vec![turn], now: now() }).await;
    assert!(refused.is_err());
    assert_eq!(store.last_position().await.unwrap(), 0);
}

/// As a superuser who switches the guards off.
#[tokio::test]
async fn tampering_is_found_and_plain_changes_are_refused() {
    let kinds = [
        "update events set payload = jsonb_set(payload, '{name}', '\"forged\"') where position = 3",
        "update events set metadata = jsonb_set(metadata, '{actor,name}', '\"forged\"') where position = 3",
        "update events set event_type = 'CompanyRegistered' where position = 3",
        "update events set occurred_at = occurred_at - interval '1 day' where position = 3",
        "update events set recorded_at = recorded_at - interval '1 day' where position = 3",
        "delete from events where position = 3",
        "delete from events where position = 6",
        "delete from events where position = 6; update log_head set position = 5",
        "update events set payload = '{\"name\": \"swapped\", \"slug\": \"acme\", \"email\": null}' where position in (4, 5)",
        "insert into events select 7, stream, 7, gen_random_uuid(), event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash from events where position = 6; update log_head set position = 7",
    ];
    for kind in kinds {
        let url = new_database().await;
        let (database, store) = open(&url).await;
        let context = context(Uuid::now_v7());
        let id = Uuid::now_v7();
        store.execute::<Company>(&context, id, CompanyCommand::Register(profile("a"))).await.unwrap();
        for name in ["b", "c", "d", "e", "f"] {
            store.execute::<Company>(&context, id, CompanyCommand::Update(profile(name))).await.unwrap();
        }
        assert_eq!(
            verify::verify(&database.pool, verify::Scope::default(), |_| ()).await.unwrap().fault,
            None,
            "an untouched log raises no alarm"
        );
        for refused in ["update events set event_type = 'x'", "delete from events", "truncate events", "truncate events_from_1"] {
            let error = sqlx::query(refused).execute(&database.pool).await.unwrap_err();
            assert!(error.to_string().contains("append-only"), "{refused}: {error}");
        }
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "set session_replication_role = replica; {kind}; set session_replication_role = origin"
        )))
        .execute(&database.pool)
        .await
        .unwrap();
        let fault = verify::verify(&database.pool, verify::Scope::default(), |_| ()).await.unwrap().fault;
        assert!(fault.is_some(), "not found: {kind}");
    }
}

#[tokio::test]
async fn two_installations_in_one_database_never_notice_each_other() {
    let url = new_database().await;
    let stores = futures::future::join_all(["one", "two"].map(|schema| {
        let settings = newvoice_api::settings::Settings { schema: schema.to_owned(), ..settings(&url) };
        async move { Database::open(&settings.database()).await.unwrap() }
    }))
    .await;
    let (one, two) = (EventStore::open(&stores[0]), EventStore::open(&stores[1]));
    let context = context(Uuid::now_v7());
    one.execute::<Company>(&context, Uuid::now_v7(), CompanyCommand::Register(profile("x"))).await.unwrap();
    assert_eq!((one.last_position().await.unwrap(), two.last_position().await.unwrap()), (1, 0));
    let outside: i64 = sqlx::query_scalar(
        "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where c.relkind in ('r', 'p', 'v', 'S') and n.nspname not in ('one', 'two', 'pg_catalog', 'information_schema', 'pg_toast')",
    )
    .fetch_one(&stores[0].pool)
    .await
    .unwrap();
    assert_eq!(outside, 0, "nothing lives outside the two schemas");
}
