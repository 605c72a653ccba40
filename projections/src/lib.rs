//! Read models. [`all`] is the complete list; each file holds one projection with its rows, its fold and its queries.

pub mod api_keys;
pub mod call_list_imports;
pub mod call_logs;
pub mod call_metrics;
pub mod call_tasks;
pub mod calls;
pub mod campaigns;
pub mod companies;
pub mod cost_rollups;
mod feed;
pub mod page;
mod personal;
mod positions;
pub mod price_lists;
mod projection;
mod projector;
pub mod rebuild;
pub mod skillbases;
pub mod status;
pub mod users;

use std::sync::Arc;

use eventstore::database::Access;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

pub use feed::Feed;
pub use positions::{NotReached, Positions, WAIT_MAX};
pub use projection::{ApplyError, PersonalColumns, Projection, Recorded, Table};
pub use projector::Projectors;

/// Every projection there is.
pub fn all() -> Vec<Arc<dyn Projection>> {
    vec![
        Arc::new(companies::Companies),
        Arc::new(users::Users),
        Arc::new(api_keys::ApiKeys),
        Arc::new(skillbases::Skillbases),
        Arc::new(campaigns::Campaigns),
        Arc::new(call_tasks::CallTasks),
        Arc::new(call_list_imports::CallListImports),
        Arc::new(calls::Calls),
        Arc::new(call_logs::CallLogs),
        Arc::new(call_metrics::CallMetrics),
        Arc::new(price_lists::PriceLists),
        Arc::new(cost_rollups::CostRollups),
    ]
}

/// The projection of a name.
pub fn by_name(name: &str) -> Option<Arc<dyn Projection>> {
    all().into_iter().find(|projection| projection.name() == name)
}

/// A view of a company's part, or for the owner of all, of some projections' tables as of one moment, whatever is projected or swapped meanwhile: questions that need several
/// statements see one state.
///
/// The tables are locked against being swapped before the moment is fixed, not after: else a table could come in their place
/// whose last rows are younger than that.
pub async fn snapshot(
    access: &Access,
    company_id: Option<Uuid>,
    projections: &[&str],
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let tables = projections.iter().filter_map(|name| by_name(name)).flat_map(|projection| projection.tables());
    let names: Vec<_> = tables.map(|table| table.name).collect();
    let begin = format!("begin isolation level repeatable read read only; lock table {} in access share mode", names.join(", "));
    access.begin_with(company_id, &begin).await
}
