//! Tests of security and privacy: companies that cannot see each other, roles, commands that take effect once, people who can be erased,
//! and bad input without harm.

mod audit;
mod bombs;
mod canaries;
mod catalogue;
mod edge;
mod erasure;
mod matrix;
mod once;
mod operators;
mod outages;
mod pools;
mod shares;
mod users;
