//! The log, on which all other parts of the platform depend.

mod appending;
mod cancelled;
mod fire;
mod load;
mod parts;
mod subscribing;
mod tampering;

use domain::{
    company::{Company, CompanyCommand, CompanyProfile},
    reserved_name::{NameCommand, ReservedName},
};
use eventstore::{CommandContext, Database, EventStore, ExecuteError, StoreError, now};
use newvoice_api::settings::StoreSettings;
use support::{empty_database, new_database, settings};
use uuid::Uuid;

/// The person in the calls of these tests.
const PERSON: Uuid = Uuid::from_u128(77);

async fn open(url: &str) -> (Database, EventStore) {
    let database = Database::open(&settings(url).store.database(Some(support::master_key()))).await.unwrap();
    let store = EventStore::open(&database);
    (database, store)
}

fn context(company_id: Uuid) -> CommandContext {
    CommandContext::system(company_id, "test", now())
}

fn profile(name: &str) -> CompanyProfile {
    CompanyProfile { name: name.to_owned(), slug: "acme".to_owned(), email: None }
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
async fn two_installations_in_one_database_never_notice_each_other() {
    let url = empty_database().await;
    let stores = futures::future::join_all(["one", "two"].map(|schema| {
        let settings = StoreSettings { schema: schema.to_owned(), ..settings(&url).store };
        async move { Database::open(&settings.database(Some(support::master_key()))).await.unwrap() }
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
