//! Read models. Each file holds one projection with its rows, its fold and its queries, and registers it for [`all`]. `engine/` runs them and
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

/// The projections; each file adds its own with [`register!`].
#[linkme::distributed_slice]
static REGISTERED: [fn() -> Arc<dyn Projection>];

/// Adds a projection to [`all`].
macro_rules! register {
    ($projection:ident) => {
        #[expect(unsafe_code, reason = "the linker joins the entries of the slice; linkme checks their type")]
        #[linkme::distributed_slice(crate::REGISTERED)]
        static REGISTRATION: fn() -> std::sync::Arc<dyn crate::Projection> = || std::sync::Arc::new($projection);
    };
}
pub(crate) use register;

/// All projections, by name.
pub fn all() -> Vec<Arc<dyn Projection>> {
    let mut all: Vec<_> = REGISTERED.iter().map(|projection| projection()).collect();
    all.sort_by_key(|projection| projection.name());
    all
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
