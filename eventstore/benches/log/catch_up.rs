use crate::{ground::Ground, report::Report};
pub async fn run(_ground: &Ground, _report: &mut Report) {}
