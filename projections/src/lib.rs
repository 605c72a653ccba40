//! Read models. [`all`] is the complete list; each file holds one projection with its rows, its fold and its queries. `engine/` runs them and
//! knows none of them; `analytics.rs` has the words that their questions share.

pub mod analytics;
pub mod api_keys;
pub mod call_list_imports;
pub mod call_logs;
pub mod call_metrics;
pub mod call_tasks;
pub mod calls;
pub mod campaigns;
pub mod companies;
pub mod cost_rollups;
mod engine;
pub mod page;
mod personal;
pub mod price_lists;
pub mod skillbases;
pub mod users;

use std::sync::Arc;

use eventstore::database::Access;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

pub use engine::{
    ApplyError, Document, Feed, NotReached, PersonalColumns, Positions, Projection, Projectors, ReadModel, Recorded, Stored, Table,
    UnreadableDocument, WAIT_MAX, is_passing_sql, rebuild, status,
};

/// All projections.
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

impl Default for Positions {
    /// Of all projections.
    fn default() -> Self {
        Self::new(&all())
    }
}

/// The projection of a name.
pub fn by_name(name: &str) -> Option<Arc<dyn Projection>> {
    all().into_iter().find(|projection| projection.name() == name)
}

/// A consistent view of the tables of some projections at one moment, for one company or, as the owner, for all: queries that need several
/// statements see one state, whatever is projected or swapped meanwhile.
///
/// The tables are locked against a swap before the moment is fixed. In the other order, a table with rows that are younger than the moment
/// could be swapped in.
pub async fn snapshot(
    access: &Access,
    company_id: Option<Uuid>,
    models: &[ReadModel],
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let all = all();
    let tables = all.iter().filter(|projection| models.contains(&projection.read_model())).flat_map(|projection| projection.tables());
    let names: Vec<_> = tables.map(|table| table.name).collect();
    let begin = format!("begin isolation level repeatable read read only; lock table {} in access share mode", names.join(", "));
    access.begin_with(company_id, &begin).await
}
