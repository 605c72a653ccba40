//! The HTTP edge. No business rule lives here: commands decide in `domain`, queries ask the read models in `projections`.

pub mod answer;
pub mod app;
pub mod auth;
pub mod call_list;
pub mod commands;
pub mod demo;
pub mod edge;
pub mod extract;
pub mod idempotency;
mod json;
pub mod live;
mod objects;
pub mod openapi;
pub mod operations;
pub mod operators;
pub mod problem;
pub mod queries;
pub mod serve;
pub mod settings;
pub mod uploads;
pub mod views;
mod words;
