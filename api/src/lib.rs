//! The HTTP edge: one file or folder per resource, with its commands, queries and views. It contains no business rules: handlers call
//! `services`, or query the read models in `projections`.

mod analytics;
mod answer;
mod api_keys;
mod audit;
pub mod auth;
mod calls;
mod campaigns;
mod company;
pub mod demo;
pub mod edge;
mod event_view;
mod events;
mod extract;
mod freshness;
pub mod idempotency;
mod json;
pub mod live;
mod numbers;
mod objects;
mod openapi;
mod operations;
pub mod operators;
mod persons;
mod price_lists;
pub mod problem;
mod projections;
pub mod router;
pub mod serve;
pub mod settings;
mod skillbases;
pub mod state;
mod statuses;
mod tasks;
mod uploads;
mod users;
mod words;
