//! Tests of the platform over HTTP on a real PostgreSQL. The modules have the structure of the URLs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod analytics;
mod architecture;
mod calls;
mod campaigns;
mod circles;
mod claim_slots;
mod claims;
mod crash;
mod docs;
mod document;
mod events;
mod idempotency;
mod identity;
mod language;
mod log;
mod originals;
mod pacing_and_retries;
mod plans;
mod price_lists;
mod projections;
mod replay_tool;
mod schema;
mod skillbases;
mod tables;
mod trust;
mod uploads;
mod workers;
