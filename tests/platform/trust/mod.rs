//! What the platform is trusted with: companies that cannot see each other, roles, commands that happen once, people who can be
//! forgotten, and bad input that harms nobody.

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
mod shares;
mod users;
