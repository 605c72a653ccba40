//! Versions of streams: 1, 2, 3, … in each, and as many as its row in `streams` has.

use std::collections::HashMap;

use uuid::Uuid;

use super::Fault;
use crate::{database::Pool, error::StoreError, event::StreamName};

/// Streams that are compared in one go.
const PAGE_STREAMS: i64 = 10_000;

/// The last version of every stream so far; about 50 bytes each.
pub(super) struct Versions {
    /// Whether streams may have events before the first one seen.
    midway: bool,
    categories: HashMap<String, u16>,
    last: HashMap<(u16, Uuid), i64>,
}

impl Versions {
    pub fn from(first: i64) -> Self {
        Self { midway: first > 1, categories: HashMap::new(), last: HashMap::new() }
    }

    fn key(&mut self, stream: &str) -> Option<(u16, Uuid)> {
        let name: StreamName = stream.parse().ok()?;
        let next = u16::try_from(self.categories.len()).ok()?;
        let category = match self.categories.get(name.category()) {
            Some(category) => *category,
            None => *self.categories.entry(name.category().to_owned()).or_insert(next),
        };
        Some((category, name.id()))
    }

    pub fn follow(&mut self, position: i64, stream: String, version: i64) -> Option<Fault> {
        let Some(key) = self.key(&stream) else {
            return Some(Fault::NotCanonical { position, reason: format!("'{stream}' is no stream name") });
        };
        let before = match self.last.insert(key, version) {
            None if self.midway => return None,
            None => 0,
            Some(before) => before,
        };
        (version != before + 1).then_some(Fault::VersionGap { position, stream, before, found: version })
    }

    /// The first stream whose number of events differs from its row. Streams that have newer events behind `until` are left out.
    pub async fn differing(&mut self, pool: &Pool, until: i64) -> Result<Option<Fault>, StoreError> {
        let mut after = String::new();
        loop {
            let page = sqlx::query!("select stream, version from streams where stream > $1 order by stream limit $2", after, PAGE_STREAMS);
            let page = page.fetch_all(pool).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.stream);
            for row in page {
                let found = self.key(&row.stream).and_then(|key| self.last.remove(&key)).unwrap_or_default();
                if row.version != found && !went_on(pool, &row.stream, until).await? {
                    return Ok(Some(Fault::StreamDiffers { stream: row.stream, expected: row.version, found }));
                }
            }
        }
        let names: HashMap<u16, &String> = self.categories.iter().map(|(name, n)| (*n, name)).collect();
        let left = self.last.iter().next().and_then(|((category, id), version)| Some((names.get(category)?, id, *version)));
        Ok(left.map(|(category, id, found)| Fault::StreamDiffers { stream: format!("{category}-{id}"), expected: 0, found }))
    }
}

async fn went_on(pool: &Pool, stream: &str, until: i64) -> Result<bool, StoreError> {
    let last = sqlx::query_scalar!("select position from events where stream = $1 order by stream desc, version desc limit 1", stream);
    Ok(last.fetch_optional(pool).await?.is_some_and(|position| position > until))
}
