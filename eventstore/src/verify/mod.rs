//! Recomputes the chain, several parts of the log at once, and reports the first wrong position and its fault.

pub(crate) mod chain;
mod streams;

use futures::{StreamExt as _, TryStreamExt as _};

use self::{
    chain::{Checked, Span},
    streams::Versions,
};
use crate::{
    database::Pool,
    error::StoreError,
    seal::{KeyFingerprint, Seal, Succession, with_relatives},
};

/// Events that are checked in one go.
const SPAN_EVENTS: i64 = 10_000;

/// The first fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("position {expected} is missing; the next event is at {found}")]
    Gap { expected: i64, found: i64 },
    #[error("positions {first} to {last} are missing")]
    Missing { first: i64, last: i64 },
    #[error("position {position}: the event is not the one that was appended, or the hash of the one before it was changed")]
    HashDiffers { position: i64 },
    #[error("position {position}: the content cannot be hashed: {reason}")]
    NotCanonical { position: i64, reason: String },
    #[error("position {position}: version {found} of {stream} follows version {before}")]
    VersionGap { position: i64, stream: String, before: i64, found: i64 },
    #[error("the log ends at position {found}, its head says {expected}: the tail is cut off or the head was changed")]
    TailDiffers { expected: i64, found: i64 },
    #[error("{stream} has {found} events, its row in `streams` says {expected}")]
    StreamDiffers { stream: String, expected: i64, found: i64 },
    #[error("the log begins at position {first}, and no seal says what was before")]
    NoBeginning { first: i64 },
    #[error("the seal of position {position} is not genuine, or not signed by a key that counts; it names the key {key}")]
    SealForged { position: i64, key: KeyFingerprint },
    #[error("position {position} was sealed on {sealed_at}, but the log ends at {end}: its tail is cut off")]
    TailCut { position: i64, end: i64, sealed_at: String },
    #[error("position {position}: the event is not the one that was sealed on {sealed_at}; it or one before it was changed")]
    SealDiffers { position: i64, sealed_at: String },
}

/// What to verify the log against.
#[derive(Default)]
pub struct Scope {
    /// Where to begin; the hash of the event before it is trusted as it is stored. The default is the first event in the log.
    pub from: Option<i64>,
    /// Seals in addition to those in the database.
    pub seals: Vec<Seal>,
    /// Only seals of these keys, of the keys that followed them and of those before them are accepted; if no key is given, seals of any key.
    pub keys: Vec<KeyFingerprint>,
    /// Which key followed which, in addition to what the database has.
    pub successions: Vec<Succession>,
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The first position that was checked.
    pub first_position: i64,
    /// Unchanged events before the first fault.
    pub events: u64,
    pub last_position: i64,
    /// Hash of the last sound event, hex.
    pub last_hash: String,
    /// Seals that the log was compared with.
    pub seals: usize,
    /// Position of the last seal among them.
    pub sealed_until: Option<i64>,
    pub fault: Option<Fault>,
}

/// Verifies the log up to its present head, calling `progress` with each position done.
pub async fn verify(pool: &Pool, scope: Scope, progress: impl FnMut(i64)) -> Result<Verdict, StoreError> {
    // The log may grow meanwhile: seals are read before the head, so that none is beyond it.
    let mut seals = Seal::all(pool).await?;
    seals.extend(scope.seals.into_iter().filter(|seal| !seals.contains(seal)).collect::<Vec<_>>());
    let mut successions = Succession::all(pool).await?;
    successions.extend(scope.successions);
    let keys = with_relatives(scope.keys, &successions);
    let head = sqlx::query!("select position, hash from log_head").fetch_one(pool).await?;
    let beginning = chain::beginning(pool).await?;
    seals.sort_by_key(|seal| seal.position);
    let first = scope.from.unwrap_or(beginning).clamp(beginning, head.position + 1);
    let compared = seals.iter().filter(|seal| seal.position >= first - 1).count();
    let mut walk = Walk::new(first, compared, seals.last().map(|seal| seal.position).filter(|_| compared > 0));
    if let Some(seal) = seals.iter().find(|seal| !seal.is_genuine(&keys)) {
        return Ok(walk.end(Some(Fault::SealForged { position: seal.position, key: seal.key() })));
    }
    // Only a seal has the hash of the event before the first partition.
    let mut before = seals.iter().filter(|seal| seal.position == first - 1);
    let base = before.next().map(|seal| seal.hash);
    if let Some(other) = before.find(|seal| Some(seal.hash) != base) {
        return Ok(walk.end(Some(Fault::SealDiffers { position: other.position, sealed_at: other.sealed_at.to_rfc3339() })));
    }
    if first > 1 && base.is_none() && chain::stored_hash(pool, first - 1).await?.is_none() {
        return Ok(walk.end(Some(Fault::NoBeginning { first })));
    }
    if let Some(fault) = walk.links(pool, head.position, base, &seals, progress).await? {
        return Ok(walk.end(Some(fault)));
    }
    if let Some(seal) = seals.last().filter(|seal| seal.position > head.position) {
        let fault = Fault::TailCut { position: seal.position, end: head.position, sealed_at: seal.sealed_at.to_rfc3339() };
        return Ok(walk.end(Some(fault)));
    }
    let now =
        sqlx::query!(r#"select position, coalesce((select max(position) from events), 0) as "end!" from log_head"#).fetch_one(pool).await?;
    let empty = now.end == 0 && beginning > 1;
    if (now.end != now.position && !empty) || (walk.events > 0 && walk.last_hash.as_slice() != head.hash) {
        return Ok(walk.end(Some(Fault::TailDiffers { expected: now.position, found: now.end })));
    }
    let fault = if first == 1 { walk.versions.differing(pool, head.position).await? } else { None };
    Ok(walk.end(fault))
}

/// The progress of the verification through the log, in order.
struct Walk {
    first: i64,
    events: u64,
    position: i64,
    last_hash: [u8; 32],
    versions: Versions,
    seals: usize,
    sealed_until: Option<i64>,
    seals_passed: usize,
}

impl Walk {
    fn new(first: i64, seals: usize, sealed_until: Option<i64>) -> Self {
        Self {
            first,
            events: 0,
            position: first - 1,
            last_hash: [0; 32],
            versions: Versions::from(first),
            seals,
            sealed_until,
            seals_passed: 0,
        }
    }

    /// Parts are checked in parallel and joined in order: each must build on the last hash of the part before it.
    async fn links(
        &mut self,
        pool: &Pool,
        end: i64,
        base: Option<[u8; 32]>,
        seals: &[Seal],
        mut progress: impl FnMut(i64),
    ) -> Result<Option<Fault>, StoreError> {
        let first = self.first;
        let spans = (0..)
            .map(|n| first + n * SPAN_EVENTS)
            .take_while(|start| *start <= end)
            .map(|start| Span { first: start, last: end.min(start + SPAN_EVENTS - 1) });
        let at_once = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let checks = futures::stream::iter(spans.map(|span| {
            let (pool, base) = (pool.clone(), base.filter(|_| span.first == first));
            async move {
                let checking = tokio::spawn(async move { chain::check(&pool, span, base).await });
                checking.await.unwrap_or_else(|e| Err(sqlx::Error::Protocol(e.to_string()).into()))
            }
        }));
        let mut checks = checks.buffered(at_once + 1);
        while let Some(checked) = checks.try_next().await? {
            if let Some(fault) = self.join(checked, seals) {
                return Ok(Some(fault));
            }
            progress(self.position);
        }
        Ok(None)
    }

    fn join(&mut self, checked: Checked, seals: &[Seal]) -> Option<Fault> {
        if self.events > 0 && checked.base != Some(self.last_hash) {
            return Some(Fault::HashDiffers { position: self.position + 1 });
        }
        for (stream, version, hash) in checked.events {
            let position = self.position + 1;
            // Seals are in log order, too.
            while let Some(seal) = seals.get(self.seals_passed).filter(|seal| seal.position <= position) {
                self.seals_passed += 1;
                if seal.position == position && seal.hash != hash {
                    return Some(Fault::SealDiffers { position, sealed_at: seal.sealed_at.to_rfc3339() });
                }
            }
            if let Some(fault) = self.versions.follow(position, stream, version) {
                return Some(fault);
            }
            (self.position, self.last_hash, self.events) = (position, hash, self.events + 1);
        }
        checked.fault
    }

    fn end(self, fault: Option<Fault>) -> Verdict {
        Verdict {
            first_position: self.first,
            events: self.events,
            last_position: self.position,
            last_hash: hex::encode(self.last_hash),
            seals: self.seals,
            sealed_until: self.sealed_until,
            fault,
        }
    }
}
