//! tbd
use support::bench::{Ground, Report};
pub async fn run(_: &Ground, _: &mut Report) {}
