//! Streams that are read from the log again: for what read models do not store.

use std::collections::{HashMap, HashSet};

use domain::Fact;
use futures::TryStreamExt as _;
use sqlx::PgConnection;
use uuid::Uuid;

use super::projection::{ApplyError, Recorded};

/// Gives `each` the events of a company's streams of one category up to a log position, in log order and without personal data. Streams that
/// began later have none. [`ApplyError::Detached`] if events are missing that should be in the log.
pub async fn read_streams(
    db: &mut PgConnection,
    company_id: Uuid,
    category: &str,
    ids: &[Uuid],
    until: i64,
    mut each: impl FnMut(Recorded) -> Result<(), ApplyError>,
) -> Result<(), ApplyError> {
    let streams: Vec<_> = ids.iter().map(|id| format!("{category}-{id}")).collect();
    let rows = sqlx::query!(
        // The streams are read first: to get the order, PostgreSQL would read the log of all companies up to the position.
        r#"select position, stream, version, event_type, schema_version, payload::text as "payload!", occurred_at, recorded_at
             from (select * from events where stream = any($1) offset 0) e
            where company_id = $2 and position <= $3 order by position"#,
        &streams,
        company_id,
        until
    );
    let mut versions: HashMap<Uuid, i64> = HashMap::new();
    let mut rows = rows.fetch(&mut *db);
    while let Some(row) = rows.try_next().await? {
        let unreadable = |reason: String| ApplyError::Contradiction(format!("position {}: {reason}", row.position));
        let fact = Fact::decode(category, &row.event_type, row.schema_version, &row.payload).map_err(|e| unreadable(e.to_string()))?;
        let id = row.stream.split_once('-').and_then(|(_, id)| Uuid::try_parse(id).ok()).ok_or_else(|| unreadable("stream".into()))?;
        // Without all of its events the state of a stream would be wrong, but look right.
        let version = versions.entry(id).or_default();
        *version += 1;
        if row.version != *version {
            return Err(ApplyError::Detached { stream: row.stream });
        }
        each(Recorded {
            position: row.position,
            id,
            version: row.version,
            company_id,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
            fact,
            personal: None,
        })?;
    }
    drop(rows);
    let missing = ids.iter().filter(|id| !versions.contains_key(id)).map(|id| format!("{category}-{id}"));
    require_later(db, company_id, missing.collect(), until).await
}

/// Each of the streams must begin after the position.
async fn require_later(db: &mut PgConnection, company_id: Uuid, streams: Vec<String>, position: i64) -> Result<(), ApplyError> {
    if streams.is_empty() {
        return Ok(());
    }
    let later = sqlx::query_scalar!(
        "select stream from events where stream = any($1) and version = 1 and company_id = $2 and position > $3",
        &streams,
        company_id,
        position
    );
    let later: HashSet<String> = later.fetch_all(db).await?.into_iter().collect();
    match streams.into_iter().find(|stream| !later.contains(stream)) {
        Some(stream) => Err(ApplyError::Detached { stream }),
        None => Ok(()),
    }
}
