//! A projector whose connection breaks before or after each of its statements produces the same tables.

use std::{sync::Arc, time::Duration};

use eventstore::{Database, EventStore, Pool, database::DatabaseHealth};
use projections::{Feed, Positions, Projection, Projectors, all};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use support::{Cut, Proxy, new_database};
use tokio::sync::watch;

use super::{content, random::RandomHistory};

const EVENTS: i64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projector_that_breaks_off_at_any_statement_comes_to_the_same_tables() {
    let url = new_database().await;
    let database = Database::open(&support::settings(&url).store.database(Some(support::master_key()))).await.unwrap();
    let store = EventStore::open(&database);
    RandomHistory::begin(store.clone(), support::seed()).await.until(EVENTS).await;
    let each = all().into_iter().map(|projection| break_off(&url, &database.pool, &store, projection));
    futures::future::join_all(each).await;
}

async fn break_off(url: &str, sound: &Pool, store: &EventStore, projection: Arc<dyn Projection>) {
    let expected = projected(sound, sound, store, &projection, None).await;
    for cut in [Cut::Before, Cut::After] {
        let options: PgConnectOptions = url.parse().unwrap();
        let proxy = Proxy::start(options.get_port()).await;
        // There is one connection, so that the statements of the projector are counted in their order.
        let options = options.port(proxy.port).options([("search_path", "newvoice")]).ssl_mode(sqlx::postgres::PgSslMode::Disable);
        let broken = Pool::new(options, 1, DatabaseHealth::default());
        let found = projected(sound, &broken, store, &projection, Some((&proxy, cut))).await;
        assert_eq!(found, expected, "{}, cut {cut:?}", projection.name());
        println!("{}: cut {} times {cut:?} a statement", projection.name(), proxy.cuts());
        assert!(proxy.cuts() > 5, "{} was cut {} times only", projection.name(), proxy.cuts());
        broken.close().await;
    }
}

/// The tables of a projection after it has run from the beginning to the end of the log, on `pool`. Its proxy lets one more statement pass
/// before each cut, until the checkpoint moves; then it starts with the first statement.
async fn projected(
    sound: &Pool,
    pool: &Pool,
    store: &EventStore,
    projection: &Arc<dyn Projection>,
    broken: Option<(&Proxy, Cut)>,
) -> Vec<Value> {
    for table in projection.tables() {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("truncate {}", table.name))).execute(sound).await.unwrap();
    }
    sqlx::query("delete from projection_checkpoints where name = $1").bind(projection.name()).execute(sound).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let projectors = Projectors {
        projections: vec![Arc::clone(projection)],
        pool: pool.clone(),
        owner: pool.clone(),
        feed: Feed::new(store.clone()).page_events(80),
        positions: Positions::default(),
    };
    let (mut position, mut cuts, mut through) = (0, 0, 0);
    if let Some((proxy, cut)) = broken {
        proxy.cut_after(through, cut);
    }
    let projectors = tokio::spawn(projectors.run(stopped));
    let head = store.last_position().await.unwrap();
    while position < head {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let sql = "select position from projection_checkpoints where name = $1";
        let now: i64 = sqlx::query_scalar(sql).bind(projection.name()).fetch_optional(sound).await.unwrap().unwrap_or(0);
        let Some((proxy, cut)) = broken else {
            position = now;
            continue;
        };
        if proxy.cuts() > cuts {
            (cuts, through) = (proxy.cuts(), if now > position { 0 } else { through + 1 });
            position = now;
            // Regardless of page sizes and statements, one run completes in the end.
            proxy.cut_after(through, cut);
        }
        if now >= head {
            position = now;
        }
    }
    stop.send(true).unwrap();
    projectors.await.unwrap();
    content(sound, projection.as_ref()).await
}
