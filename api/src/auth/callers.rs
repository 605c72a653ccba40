//! Whom a credential stands for, looked up again every few seconds: a revoked key, a disabled user and a changed role count
//! everywhere soon, and most requests ask nobody.

use std::{
    hash::Hash,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use eventstore::{Actor, ActorKind, Pool};
use lru::LruCache;
use uuid::Uuid;

use super::{Identity, api_keys, credentials, secret_hash, tokens::Claims};

/// How long what was looked up counts.
const RECENT: Duration = Duration::from_secs(10);
const KEPT_MAX: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// What was looked up a short while ago.
struct Recent<K, V> {
    entries: Mutex<LruCache<K, (Instant, V)>>,
    /// Rises with every clearing: what was looked up before one is not stored after it.
    epoch: AtomicU64,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    fn new() -> Self {
        Self { entries: Mutex::new(LruCache::new(KEPT_MAX)), epoch: AtomicU64::new(0) }
    }

    fn entries(&self) -> MutexGuard<'_, LruCache<K, (Instant, V)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &K) -> Option<V> {
        self.entries().get(key).filter(|(at, _)| at.elapsed() < RECENT).map(|(_, value)| value.clone())
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Stores what was looked up at `epoch`, unless it was cleared since: the answer may be from before the change.
    fn store(&self, epoch: u64, key: K, value: V) {
        let mut entries = self.entries();
        if self.epoch() == epoch {
            entries.put(key, (Instant::now(), value));
        }
    }

    fn clear(&self) {
        let mut entries = self.entries();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        entries.clear();
    }
}

/// Clones share what they know.
#[derive(Clone)]
pub struct Callers {
    pool: Pool,
    keys: Arc<Recent<Vec<u8>, Identity>>,
    /// By user and session.
    users: Arc<Recent<(Uuid, Uuid), Identity>>,
}

impl Callers {
    pub fn new(pool: Pool) -> Self {
        Self { pool, keys: Arc::new(Recent::new()), users: Arc::new(Recent::new()) }
    }

    /// Whom an API key stands for, unless it is unknown or revoked.
    pub async fn by_key(&self, key: &str) -> Result<Option<Identity>, sqlx::Error> {
        let hash = secret_hash(key);
        if let Some(known) = self.keys.get(&hash) {
            return Ok(Some(known));
        }
        let epoch = self.keys.epoch();
        let found = api_keys::holder(&self.pool, &hash).await?;
        if let Some(identity) = &found {
            self.keys.store(epoch, hash, identity.clone());
        }
        Ok(found)
    }

    /// Whom a token stands for that is genuine: nobody, if its session has ended or its user is disabled. The role is the present one.
    pub async fn by_claims(&self, claims: &Claims) -> Result<Option<Identity>, sqlx::Error> {
        self.by_session(claims.sub, claims.sid).await
    }

    async fn by_session(&self, user_id: Uuid, session: Uuid) -> Result<Option<Identity>, sqlx::Error> {
        let key = (user_id, session);
        if let Some(known) = self.users.get(&key) {
            return Ok(Some(known));
        }
        let epoch = self.users.epoch();
        let Some(standing) = credentials::standing(&self.pool, user_id, session).await? else { return Ok(None) };
        let Ok(role) = standing.role.parse() else { return Ok(None) };
        let actor = Actor { kind: ActorKind::User, id: Some(user_id), name: None };
        let is_operator = standing.is_operator;
        let identity = Identity { company_id: standing.company_id, role, actor, session: Some(session), is_operator };
        self.users.store(epoch, key, identity.clone());
        Ok(Some(identity))
    }

    /// Whether the key was good a short while ago.
    pub fn knows_key(&self, key: &str) -> bool {
        self.keys.get(&secret_hash(key)).is_some()
    }

    /// Who the caller of a while ago is now; `None` when their key is revoked, or their session has ended.
    pub async fn again(&self, identity: &Identity) -> Result<Option<Identity>, sqlx::Error> {
        let id = identity.actor.id.unwrap_or_default();
        match identity.session {
            Some(session) => self.by_session(id, session).await,
            None => Ok(api_keys::is_valid(&self.pool, id).await?.then(|| identity.clone())),
        }
    }

    /// Looks everybody up again: somebody's rights have changed.
    pub fn forget_all(&self) {
        self.keys.clear();
        self.users.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look-up that began before a right was taken away ends after it: its answer must not be used again.
    #[test]
    fn what_was_looked_up_before_a_clearing_is_not_stored_after_it() {
        let recent: Recent<u8, &str> = Recent::new();
        let before = recent.epoch();
        recent.clear();
        recent.store(before, 1, "admin");
        assert_eq!(recent.get(&1), None);
        recent.store(recent.epoch(), 1, "viewer");
        assert_eq!(recent.get(&1), Some("viewer"));
    }
}
