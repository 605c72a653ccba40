//! Tokens: JWT signed with Ed25519 (RFC 8037). The keys are in the database, so that every process takes every token.

use chrono::{DateTime, TimeDelta, Utc};
use domain::role::Role;
use ed25519_dalek::SigningKey;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

const ISSUER: &str = "newvoice";
const AUDIENCE: &str = "newvoice-api";
/// How long a token is good for, in hours.
const TOKEN_HOURS: i64 = 12;
/// How far clocks may differ, in seconds.
const LEEWAY_SEC: u64 = 5;
/// PKCS#8 head of an Ed25519 private key (RFC 8410), which jsonwebtoken wants before the 32 bytes.
const PKCS8_HEAD: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    pub sub: Uuid,
    pub company_id: Uuid,
    pub role: Role,
    iss: String,
    aud: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
}

struct Key {
    id: String,
    decoding: DecodingKey,
}

/// Signs and verifies.
pub struct Tokens {
    newest: (String, EncodingKey),
    all: Vec<Key>,
    validation: Validation,
}

impl Tokens {
    /// Loads the keys, making the first one if there is none.
    pub async fn load(pool: &PgPool) -> Result<Self, sqlx::Error> {
        let mut tx = pool.begin().await?;
        sqlx::query!("lock table signing_keys in share row exclusive mode").execute(&mut *tx).await?;
        let seed = rand::random::<[u8; 32]>();
        sqlx::query!(
            "insert into signing_keys (key_id, seed) select $1, $2 where not exists (select from signing_keys)",
            Uuid::now_v7(),
            &seed[..]
        )
        .execute(&mut *tx)
        .await?;
        let rows = sqlx::query!("select key_id, seed from signing_keys order by created_at desc").fetch_all(&mut *tx).await?;
        tx.commit().await?;
        let keys = rows.into_iter().filter_map(|row| Some((row.key_id.to_string(), <[u8; 32]>::try_from(row.seed).ok()?)));
        let keys: Vec<_> = keys.collect();
        let (id, seed) = keys.first().ok_or(sqlx::Error::RowNotFound)?;
        let newest = (id.clone(), EncodingKey::from_ed_der(&[&PKCS8_HEAD[..], seed].concat()));
        let all = keys.iter().map(|(id, seed)| {
            let public = SigningKey::from_bytes(seed).verifying_key().to_bytes();
            Key { id: id.clone(), decoding: DecodingKey::from_ed_der(&public) }
        });
        Ok(Self { newest, all: all.collect(), validation: validation() })
    }

    /// A token for a user, and until when it is good.
    pub fn issue(&self, user_id: Uuid, company_id: Uuid, role: Role) -> Result<(String, DateTime<Utc>), jsonwebtoken::errors::Error> {
        let now = Utc::now();
        let expires_at = now + TimeDelta::hours(TOKEN_HOURS);
        let claims = Claims {
            sub: user_id,
            company_id,
            role,
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: now.timestamp(),
            nbf: now.timestamp(),
            exp: expires_at.timestamp(),
            jti: Uuid::now_v7(),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.newest.0.clone());
        Ok((encode(&header, &claims, &self.newest.1)?, expires_at))
    }

    pub fn verify(&self, token: &str) -> Result<Claims, jsonwebtoken::errors::Error> {
        let kid = decode_header(token)?.kid;
        let key = self.all.iter().find(|key| Some(&key.id) == kid.as_ref());
        let key = key.ok_or(jsonwebtoken::errors::ErrorKind::InvalidSignature)?;
        Ok(decode::<Claims>(token, &key.decoding, &self.validation)?.claims)
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
