//! Seals: signed statements of the content of the log. The chain shows that nothing in the log was changed; a seal that is stored elsewhere
//! shows that the chain was not computed again and that its tail was not cut off.
//!
//! The text that is signed with Ed25519 (RFC 8032):
//!
//! ```text
//! newvoice log seal 1
//! position <decimal>
//! hash <64 hexadecimal digits>
//! sealed_at_us <microseconds since 1970>
//! ```
//!
//! each line ended by a line feed.

mod sealer;
mod succession;

use std::{fmt, io, path::Path};

use chrono::{DateTime, Utc};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey, pkcs8::DecodePublicKey as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{database::Pool, error::StoreError, event::now};

pub use sealer::{RotateError, SealError, Sealer, rotate};
pub use succession::Succession;
pub(crate) use succession::with_relatives;

/// A signed statement that the event at `position` has `hash`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    pub position: i64,
    #[serde(with = "hex")]
    pub hash: [u8; 32],
    pub sealed_at: DateTime<Utc>,
    #[serde(with = "hex")]
    pub public_key: [u8; 32],
    #[serde(with = "hex")]
    pub signature: [u8; 64],
}

/// The fingerprint of a key: the first 16 bytes of the SHA-256 of its 32 bytes, in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFingerprint([u8; 16]);

impl KeyFingerprint {
    pub(super) fn of(public_key: &[u8; 32]) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&Sha256::digest(public_key)[..16]);
        Self(short)
    }

    /// The fingerprint of a public key in PEM (RFC 8410).
    pub fn read(path: &Path) -> io::Result<Self> {
        let key = VerifyingKey::read_public_key_pem_file(path).map_err(io::Error::other)?;
        Ok(Self::of(key.as_bytes()))
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The bytes of a column that has a fixed length.
fn of_length<const N: usize>(bytes: Vec<u8>) -> Result<[u8; N], StoreError> {
    let found = bytes.len();
    bytes.try_into().map_err(|_| sqlx::Error::Decode(format!("{found} bytes of a seal or a seal key, where {N} belong").into()).into())
}

impl Seal {
    fn text(position: i64, hash: &[u8; 32], sealed_at: DateTime<Utc>) -> String {
        format!("newvoice log seal 1\nposition {position}\nhash {}\nsealed_at_us {}\n", hex::encode(hash), sealed_at.timestamp_micros())
    }

    pub(super) fn sign(key: &SigningKey, position: i64, hash: [u8; 32]) -> Self {
        let sealed_at = now();
        let signature = key.sign(Self::text(position, &hash, sealed_at).as_bytes()).to_bytes();
        Self { position, hash, sealed_at, public_key: key.verifying_key().to_bytes(), signature }
    }

    pub fn key(&self) -> KeyFingerprint {
        KeyFingerprint::of(&self.public_key)
    }

    /// Whether the signature was made with its key, and the key is one of `keys`, if any are given.
    pub fn is_genuine(&self, keys: &[KeyFingerprint]) -> bool {
        let text = Self::text(self.position, &self.hash, self.sealed_at);
        let signed = VerifyingKey::from_bytes(&self.public_key)
            .is_ok_and(|public| public.verify_strict(text.as_bytes(), &Signature::from_bytes(&self.signature)).is_ok());
        signed && (keys.is_empty() || keys.contains(&self.key()))
    }

    /// The seals in the database, in log order.
    pub async fn all(pool: &Pool) -> Result<Vec<Self>, StoreError> {
        Self::behind(pool, 0).await
    }

    /// The seals of positions after `after`.
    pub(super) async fn behind(pool: &Pool, after: i64) -> Result<Vec<Self>, StoreError> {
        let rows = sqlx::query!(
            "select position, hash, sealed_at, public_key, signature from log_seals where position > $1 order by position",
            after
        );
        let seals = rows.fetch_all(pool).await?.into_iter().map(|row| {
            Ok(Self {
                position: row.position,
                hash: of_length(row.hash)?,
                sealed_at: row.sealed_at,
                public_key: of_length(row.public_key)?,
                signature: of_length(row.signature)?,
            })
        });
        seals.collect()
    }

    pub(super) async fn store(&self, pool: &Pool) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into log_seals (position, hash, sealed_at, public_key, signature) values ($1, $2, $3, $4, $5) on conflict do nothing",
            self.position,
            &self.hash[..],
            self.sealed_at,
            &self.public_key[..],
            &self.signature[..]
        )
        .execute(pool)
        .await?;
        Ok(())
    }
}
