//! `stats`: the content of the log, and the positions of the projections.

use eventstore::Pool;
use projections::status;
use serde_json::json;

use crate::{Finding, output::Output};

pub async fn run(pool: &Pool, output: &Output) -> anyhow::Result<Finding> {
    let head = sqlx::query!("select position, recorded_at from log_head").fetch_one(pool).await?;
    let types = sqlx::query!(
        r#"select split_part(stream, '-', 1) as "category!", event_type, count(*) as "count!" from events group by 1, 2 order by 1, 3 desc, 2"#
    )
    .fetch_all(pool)
    .await?;
    let totals = sqlx::query!(
        r#"select (select count(*) from streams) as "streams!", (select count(distinct company_id) from streams) as "companies!",
                  (select coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint from pg_inherits where inhparent = 'events'::regclass) as "bytes!""#
    )
    .fetch_one(pool)
    .await?;
    let projections = status::read(pool, &projections::all()).await?;
    let value = json!({
        "events": head.position,
        "streams": totals.streams,
        "companies": totals.companies,
        "bytes": totals.bytes,
        "event_types": types.iter().map(|t| json!({"category": t.category, "event_type": t.event_type, "count": t.count})).collect::<Vec<_>>(),
        "projections": projections,
    });
    output.result(&value, || {
        let mut text = format!(
            "{} events in {} streams of {} companies, {} MiB\n",
            head.position,
            totals.streams,
            totals.companies,
            totals.bytes >> 20
        );
        for t in &types {
            text.push_str(&format!("\n{:<14} {:<24} {:>12}", t.category, t.event_type, t.count));
        }
        text.push('\n');
        for p in &projections {
            let error = p.error.as_ref().map(|e| format!("  {}", e.message)).unwrap_or_default();
            text.push_str(&format!(
                "\n{:<18} v{} {:<12} at {:>10}, {} behind{error}",
                p.name, p.version, p.status, p.position, p.lag_events
            ));
        }
        text
    })?;
    Ok(Finding::Sound)
}
