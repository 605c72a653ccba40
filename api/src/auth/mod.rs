//! Who calls: a handler states in its signature which role it needs.

mod by;
mod route_needs;
pub mod routes;

pub use by::{Admin, Agent, Auditor, By, Credential, Manager, Needs, Operator, Viewer, identify};
pub use route_needs::RouteNeeds;
