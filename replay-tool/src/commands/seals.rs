//! `seals`: prints the seals, and which key followed which. Store them in a place that is not writable for users who can write to the database.

use std::io::{self, Write as _};

use eventstore::{
    Pool,
    seal::{Seal, Succession},
};

use crate::Finding;

pub async fn run(pool: &Pool) -> anyhow::Result<Finding> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for succession in Succession::all(pool).await? {
        writeln!(out, "{}", serde_json::to_string(&succession)?)?;
    }
    for seal in Seal::all(pool).await? {
        writeln!(out, "{}", serde_json::to_string(&seal)?)?;
    }
    out.flush()?;
    Ok(Finding::Sound)
}
