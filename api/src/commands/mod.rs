//! What changes something: each resource has its file and router.

mod api_keys;
pub mod auth;
mod calls;
mod campaigns;
mod company;
mod persons;
mod price_lists;
mod projections;
mod skillbase_deletion;
mod skillbases;
mod tasks;
mod uploads;
mod users;

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

pub use price_lists::{RateInput, parse_rates};
pub use uploads::{CallListFile, import};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(auth::router())
        .merge(api_keys::router())
        .merge(users::router())
        .merge(persons::router())
        .merge(company::router())
        .merge(skillbases::router())
        .merge(campaigns::router())
        .merge(uploads::router())
        .merge(tasks::router())
        .merge(calls::router())
        .merge(price_lists::router())
        .merge(projections::router())
}
