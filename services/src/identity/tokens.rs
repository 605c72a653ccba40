//! Tokens: JWT signed with Ed25519 (RFC 7519, RFC 8037). The keys are encrypted in the database, so that every process accepts the tokens
//! of all processes. A new key is added every month, or when an operator requests it.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use domain::role::Role;
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
use eventstore::{MasterKey, Pool, persons::Cipher};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const ISSUER: &str = "newvoice";
const AUDIENCE: &str = "newvoice-api";
/// Tolerated difference between clocks, in seconds.
const LEEWAY_SEC: u64 = 5;
/// Maximum age of the newest key, in days; then a new key is added.
const ROTATE_AFTER_DAYS: i64 = 30;
/// How long a key still verifies tokens after the next key was added: longer than the lifetime of any token.
const KEEP_DAYS: i64 = 2;
/// A new key signs tokens only after this time, so that every process has loaded it.
const SIGNS_AFTER: TimeDelta = TimeDelta::seconds(90);
/// How often the keys are loaded.
pub const REFRESH_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    /// User id.
    pub sub: Uuid,
    pub company_id: Uuid,
    /// The role when the token was issued; the user's present role is decisive.
    pub role: Role,
    /// Session id.
    pub sid: Uuid,
    iss: String,
    aud: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
}

struct Key {
    id: String,
    created_at: DateTime<Utc>,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// Signs and verifies tokens.
pub struct Tokens {
    /// Newest first.
    keys: RwLock<Vec<Key>>,
    cipher: Cipher,
    validation: Validation,
    lifetime: TimeDelta,
}

impl Tokens {
    /// Loads the keys and creates the first one if there is none. `minutes` is the lifetime of a token.
    pub async fn load(pool: &Pool, master: &MasterKey, minutes: u32) -> Result<Self, sqlx::Error> {
        let tokens = Self {
            keys: RwLock::default(),
            cipher: master.cipher("signing keys"),
            validation: validation(),
            lifetime: TimeDelta::minutes(i64::from(minutes)),
        };
        tokens.refresh(pool).await?;
        Ok(tokens)
    }

    /// Loads new keys, adds one when the newest key is old, and deletes those whose tokens have all expired.
    pub async fn refresh(&self, pool: &Pool) -> Result<(), sqlx::Error> {
        let mut rows = self.read(pool).await?;
        let newest = rows.first().map(|key| key.created_at);
        if newest.is_none_or(|at| at < Utc::now() - TimeDelta::days(ROTATE_AFTER_DAYS)) {
            self.add(pool, newest).await?;
            rows = self.read(pool).await?;
        }
        let superseded = Utc::now() - TimeDelta::days(KEEP_DAYS);
        // `rows` are newest first: a key can be deleted once the next one is old enough.
        if rows.iter().skip(1).zip(&rows).any(|(_, next)| next.created_at < superseded) {
            sqlx::query!(
                "delete from signing_keys k where exists (select from signing_keys n where n.created_at > k.created_at and n.created_at < $1)",
                superseded
            )
            .execute(pool)
            .await?;
            rows = self.read(pool).await?;
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = rows;
        Ok(())
    }

    /// Adds a new key. With `revoke`, all other keys and their tokens are revoked; refresh tokens stay valid.
    pub async fn rotate(&self, pool: &Pool, revoke: bool) -> Result<(), sqlx::Error> {
        if revoke {
            sqlx::query!("delete from signing_keys").execute(pool).await?;
        }
        let newest = sqlx::query_scalar!("select max(created_at) from signing_keys").fetch_one(pool).await?;
        self.add(pool, newest).await?;
        self.refresh(pool).await
    }

    /// Adds a key, unless another process has already added one.
    async fn add(&self, pool: &Pool, newest: Option<DateTime<Utc>>) -> Result<(), sqlx::Error> {
        let id = Uuid::now_v7();
        let sealed = self.cipher.encrypt(id.as_bytes(), &rand::random::<[u8; 32]>());
        let mut tx = pool.begin().await?;
        sqlx::query!("select pg_advisory_xact_lock(hashtextextended(current_schema() || '.signing_keys', 0))").execute(&mut *tx).await?;
        sqlx::query!(
            "insert into signing_keys (key_id, sealed_seed, created_at)
             select $1, $2, clock_timestamp() where (select max(created_at) from signing_keys) is not distinct from $3",
            id,
            sealed,
            newest
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    async fn read(&self, pool: &Pool) -> Result<Vec<Key>, sqlx::Error> {
        let rows =
            sqlx::query!("select key_id, sealed_seed, created_at from signing_keys order by created_at desc").fetch_all(pool).await?;
        let mut keys = Vec::new();
        for row in rows {
            let seed = self.cipher.decrypt(row.key_id.as_bytes(), &row.sealed_seed);
            match seed.and_then(|seed| Key::new(row.key_id, row.created_at, &seed)) {
                Some(key) => keys.push(key),
                None => tracing::warn!(key = %row.key_id, "a signing key cannot be decrypted with this master key"),
            }
        }
        Ok(keys)
    }

    /// Issues a token for a user's session at time `now`; also returns its expiry time.
    pub fn issue(
        &self,
        user_id: Uuid,
        company_id: Uuid,
        role: Role,
        session: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(String, DateTime<Utc>), jsonwebtoken::errors::Error> {
        let expires_at = now.trunc_subsecs(0) + self.lifetime;
        let claims = Claims {
            sub: user_id,
            company_id,
            role,
            sid: session,
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: now.timestamp(),
            nbf: now.timestamp(),
            exp: expires_at.timestamp(),
            jti: Uuid::now_v7(),
        };
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let known = keys.iter().find(|key| key.created_at < Utc::now() - SIGNS_AFTER).or(keys.last());
        let key = known.ok_or(jsonwebtoken::errors::ErrorKind::InvalidKeyFormat)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.id.clone());
        Ok((encode(&header, &claims, &key.encoding)?, expires_at))
    }

    pub fn verify(&self, token: &str) -> Result<Claims, jsonwebtoken::errors::Error> {
        let kid = decode_header(token)?.kid;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.iter().find(|key| Some(&key.id) == kid.as_ref());
        let key = key.ok_or(jsonwebtoken::errors::ErrorKind::InvalidSignature)?;
        Ok(decode::<Claims>(token, &key.decoding, &self.validation)?.claims)
    }
}

impl Key {
    /// `None` if this is no key.
    fn new(id: Uuid, created_at: DateTime<Utc>, seed: &[u8]) -> Option<Self> {
        let key = SigningKey::try_from(seed).ok()?;
        let encoding = EncodingKey::from_ed_der(key.to_pkcs8_der().ok()?.as_bytes());
        let decoding = DecodingKey::from_ed_der(key.verifying_key().as_bytes());
        Some(Self { id: id.to_string(), created_at, encoding, decoding })
    }
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.leeway = LEEWAY_SEC;
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation
}
