//! Support for integration tests: one PostgreSQL for the run, a database and a platform for each test, a client.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

pub mod bench;
pub mod calls;
mod client;
mod cluster;
mod platform;
mod process;
mod proxy;

pub use client::{Answer, Client};
pub use cluster::{binary, copy_database, empty_database, new_database, postgres_binary};
pub use platform::{MASTER_KEY, Platform, master_key, settings};
pub use process::Process;
pub use proxy::{Cut, Proxy};

use serde_json::{Value, json};

/// A valid configuration of a bot.
pub fn skillbase_config() -> Value {
    json!({
        "context": {"role": "Receptionist", "style": "warm", "safety_rules": ["No medical advice"], "facts": ["Open 9-5"]},
        "flow": {"type": "graph", "states": ["greeting", {"name": "offer", "prompt": "Offer a slot"}, "bye"],
                 "transitions": [{"from": "greeting", "to": "offer", "condition": "interested"}, {"from": "offer", "to": "bye"}]},
        "tools": [{"name": "book_appointment"}],
        "voice": {"tts_provider": "cartesia", "stt_provider": "deepgram"},
        "llm": {"provider": "groq", "model": "llama-3.1-8b-instant", "temperature": 0.7}
    })
}

/// A time after everything that has been recorded, for `?as_of=`; it is as far ahead as a client's clock may be.
pub fn present() -> String {
    (chrono::Utc::now() + chrono::TimeDelta::seconds(30)).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The seed of a random test: `NEWVOICE_TEST_SEED`, or a new one for each run, which is printed so that a failure can be repeated.
pub fn seed() -> u64 {
    let seed = std::env::var("NEWVOICE_TEST_SEED").ok().map_or_else(rand::random, |seed| seed.parse().expect("a seed is a number"));
    println!("seed {seed} (NEWVOICE_TEST_SEED={seed} repeats it)");
    seed
}

/// A setting that makes the suite run longer or shorter.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
