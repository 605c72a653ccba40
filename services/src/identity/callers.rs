//! Looks up the identity of a credential and caches it for a few seconds. Revoked keys, disabled users and changed roles take effect soon
//! in all processes, and most requests need no database query.

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

use super::{
    api_keys,
    caller::{Identity, secret_hash},
    credentials,
    tokens::Claims,
};

/// How long a cached identity is valid.
const RECENT: Duration = Duration::from_secs(10);
const KEPT_MAX: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// A cache of recent look-ups.
struct Recent<K, V> {
    entries: Mutex<LruCache<K, (Instant, V)>>,
    /// Increases each time the cache is cleared: a look-up that began before the clearing is not stored after it.
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

    /// Stores a value that was looked up at `epoch`, unless the cache was cleared since: the value may be from before the change.
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

/// A cache of authenticated callers. Clones share it.
#[derive(Clone)]
pub struct Callers {
    pool: Pool,
    keys: Arc<Recent<Vec<u8>, Identity>>,
    /// Key: user and session.
    users: Arc<Recent<(Uuid, Uuid), Identity>>,
}

impl Callers {
    pub fn new(pool: Pool) -> Self {
        Self { pool, keys: Arc::new(Recent::new()), users: Arc::new(Recent::new()) }
    }

    /// The identity that an API key authenticates, unless the key is unknown or revoked.
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

    /// The identity that a verified token authenticates; `None` if its session has ended or its user is disabled. The role is the present
    /// one.
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

    /// Whether the cache has this key as valid.
    pub fn knows_key(&self, key: &str) -> bool {
        self.keys.get(&secret_hash(key)).is_some()
    }

    /// The present identity of a caller who was authenticated earlier; `None` if the key is revoked or the session has ended.
    pub async fn again(&self, identity: &Identity) -> Result<Option<Identity>, sqlx::Error> {
        let id = identity.id();
        match identity.session {
            Some(session) => self.by_session(id, session).await,
            None => Ok(api_keys::is_valid(&self.pool, id).await?.then(|| identity.clone())),
        }
    }

    /// Clears the cache, because some rights have changed.
    pub fn forget_all(&self) {
        self.keys.clear();
        self.users.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look-up that began before a right was revoked may end after it: its result must not be cached.
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
