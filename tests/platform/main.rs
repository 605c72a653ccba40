//! The platform over HTTP on a real PostgreSQL; the tree is shaped like the URLs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod analytics;
mod architecture;
mod calls;
mod campaigns;
mod claim_slots;
mod claims;
mod crash;
mod docs;
mod events;
mod idempotency;
mod identity;
mod log;
mod plans;
mod price_lists;
mod projections;
mod replay_tool;
mod skillbases;
mod trust;
mod uploads;
