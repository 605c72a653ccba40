//! Whom a credential stands for, looked up again every few seconds: a revoked key, a disabled user and a changed role count
//! everywhere soon, and most requests ask nobody.

use std::{
    hash::Hash,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use eventstore::{Actor, ActorKind, Pool};
use lru::LruCache;
use uuid::Uuid;

use super::{Identity, credentials, secret_hash, tokens::Claims};

/// How long what was looked up counts.
const RECENT: Duration = Duration::from_secs(10);
const KEPT_MAX: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// What was looked up a short while ago.
struct Recent<K, V>(Mutex<LruCache<K, (Instant, V)>>);

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    fn new() -> Self {
        Self(Mutex::new(LruCache::new(KEPT_MAX)))
    }

    fn kept(&self) -> MutexGuard<'_, LruCache<K, (Instant, V)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &K) -> Option<V> {
        self.kept().get(key).filter(|(at, _)| at.elapsed() < RECENT).map(|(_, value)| value.clone())
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
        let found = credentials::api_key(&self.pool, &hash).await?;
        if let Some(identity) = &found {
            self.keys.kept().put(hash, (Instant::now(), identity.clone()));
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
        let Some(standing) = credentials::standing(&self.pool, user_id, session).await? else { return Ok(None) };
        let Ok(role) = standing.role.parse() else { return Ok(None) };
        let actor = Actor { kind: ActorKind::User, id: Some(user_id), name: None };
        let identity = Identity { company_id: standing.company_id, role, actor, session: Some(session) };
        self.users.kept().put(key, (Instant::now(), identity.clone()));
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
            None => Ok(credentials::is_key_good(&self.pool, id).await?.then(|| identity.clone())),
        }
    }

    /// Looks everybody up again: somebody's rights have changed.
    pub fn forget_all(&self) {
        self.keys.kept().clear();
        self.users.kept().clear();
    }
}
