//! The platform over HTTP on a real PostgreSQL; the tree is shaped like the URLs.

mod analytics;
mod architecture;
mod calls;
mod campaigns;
mod crash;
mod events;
mod identity;
mod idempotency;
mod log;
mod price_lists;
mod projections;
mod skillbases;
mod uploads;
