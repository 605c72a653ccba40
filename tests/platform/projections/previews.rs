//! What a price list would change, and what it changes.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    price::{Component, Rate, Unit},
    price_list::{PriceList, PriceListCommand},
};
use eventstore::{CommandContext, Database, EventStore, now};
use projections::cost_rollups::{self, Change, ListChange, Repriced};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rust_decimal::Decimal;
use sqlx::types::Json;
use support::{new_database, seed};
use uuid::Uuid;

use super::random::{EPOCH, Projecting, RandomHistory};

struct Lists<'a> {
    database: &'a Database,
    store: &'a EventStore,
    projecting: &'a Projecting,
}

impl Lists<'_> {
    /// Number of calls that the change would reprice, and by how much; then the same of what it did.
    async fn change(&self, company_id: Uuid, change: ListChange<'_>, id: Uuid, command: PriceListCommand) -> [(u64, Decimal); 2] {
        let Repriced { calls, cost_before, cost_after } = cost_rollups::preview(&self.database.access, company_id, change).await.unwrap();
        let context = CommandContext::system(company_id, "test", now());
        let committed = self.store.execute::<PriceList>(&context, id, command).await.unwrap();
        self.projecting.reached(committed.position).await;
        let rows =
            sqlx::query_scalar::<_, Json<Vec<Change>>>("select changes from call_repricings where company_id = $1 and position = $2");
        let rows = rows.bind(company_id).bind(committed.position).fetch_all(&self.database.pool).await.unwrap();
        let difference = rows.iter().flat_map(|row| &row.0).map(|change| change.cost_after - change.cost_before).sum();
        [(calls, cost_after - cost_before), (rows.len() as u64, difference)]
    }
}

fn rates(rng: &mut StdRng) -> Vec<Rate> {
    let rate = |component, provider: Option<&str>, unit, rng: &mut StdRng| {
        let (price, per) = (Decimal::new(rng.random_range(0..10_000), 5), rng.random_range(1..1_001));
        Rate { component, provider: provider.map(str::to_owned), model: None, price, per, unit }
    };
    vec![
        rate(Component::Stt, None, Unit::Minute, rng),
        rate(Component::LlmOutput, Some("groq"), Unit::Token, rng),
        rate(Component::Livekit, None, Unit::Minute, rng),
    ]
}

fn moment(rng: &mut StdRng) -> DateTime<Utc> {
    EPOCH + TimeDelta::minutes(rng.random_range(-1_000..40_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_tells_what_a_list_and_its_withdrawal_then_change() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let url = new_database().await;
    let database = Database::open(&support::settings(&url).store.database(Some(support::master_key()))).await.unwrap();
    let store = EventStore::open(&database);
    let projecting = Projecting::start(&database, &store);
    let mut history = RandomHistory::begin(store.clone(), seed).await;
    history.until(800).await;
    projecting.reached(store.head().position()).await;
    let lists = Lists { database: &database, store: &store, projecting: &projecting };
    let mut repriced = 0;
    for company_id in history.objects().map(|(company_id, ..)| company_id).collect::<Vec<_>>() {
        for _ in 0..6 {
            let (id, effective_from, rates) = (Uuid::new_v4(), moment(&mut rng), rates(&mut rng));
            let publication = PriceListCommand::Publish { name: "List".to_owned(), effective_from, rates: rates.clone() };
            let [told, done] = lists.change(company_id, ListChange::Publish { effective_from, rates: &rates }, id, publication).await;
            assert_eq!(told, done, "publication, seed {seed}");
            repriced += told.0;
            if rng.random() {
                let [told, done] =
                    lists.change(company_id, ListChange::Withdraw { price_list_id: id }, id, PriceListCommand::Withdraw).await;
                assert_eq!(told, done, "withdrawal, seed {seed}");
            }
        }
    }
    assert!(repriced > 0, "no list changed a bill, seed {seed}");
    projecting.stop().await;
}
