//! The chain of seal keys: each key names the one that seals after it, so that one public key is enough to check
//! the seals of all later keys.
//!
//! The text that the earlier key signs with Ed25519 (RFC 8032):
//!
//! ```text
//! newvoice seal key 1
//! public_key <64 hexadecimal digits>
//! named_at_us <microseconds since 1970>
//! ```
//!
//! each line ended by a line feed.

use chrono::{DateTime, Utc};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::KeyFingerprint;
use crate::{database::Pool, error::StoreError, event::now};

/// A signed statement that another key may seal the log, too. Seals of the earlier key stay valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Succession {
    /// The new key.
    #[serde(with = "hex")]
    pub public_key: [u8; 32],
    /// The key before it.
    #[serde(with = "hex")]
    pub named_by: [u8; 32],
    pub named_at: DateTime<Utc>,
    #[serde(with = "hex")]
    pub signature: [u8; 64],
}

impl Succession {
    fn text(public_key: &[u8; 32], named_at: DateTime<Utc>) -> String {
        format!("newvoice seal key 1\npublic_key {}\nnamed_at_us {}\n", hex::encode(public_key), named_at.timestamp_micros())
    }

    pub(super) fn sign(key: &SigningKey, next: &VerifyingKey) -> Self {
        let (public_key, named_at) = (next.to_bytes(), now());
        let signature = key.sign(Self::text(&public_key, named_at).as_bytes()).to_bytes();
        Self { public_key, named_by: key.verifying_key().to_bytes(), named_at, signature }
    }

    fn is_genuine(&self) -> bool {
        let text = Self::text(&self.public_key, self.named_at);
        VerifyingKey::from_bytes(&self.named_by)
            .is_ok_and(|key| key.verify_strict(text.as_bytes(), &Signature::from_bytes(&self.signature)).is_ok())
    }

    /// The successions in the database, oldest first.
    pub async fn all(pool: &Pool) -> Result<Vec<Self>, StoreError> {
        let rows = sqlx::query!("select public_key, named_by, named_at, signature from log_seal_keys order by named_at");
        let successions = rows.fetch_all(pool).await?.into_iter().map(|row| {
            Ok(Self {
                public_key: super::of_length(row.public_key)?,
                named_by: super::of_length(row.named_by)?,
                named_at: row.named_at,
                signature: super::of_length(row.signature)?,
            })
        });
        successions.collect()
    }

    pub(super) async fn store(&self, pool: &Pool) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into log_seal_keys (public_key, named_by, named_at, signature) values ($1, $2, $3, $4)",
            &self.public_key[..],
            &self.named_by[..],
            self.named_at,
            &self.signature[..]
        )
        .execute(pool)
        .await?;
        Ok(())
    }
}

/// `keys` and all keys that they, or keys named by them, have named.
pub(crate) fn with_successors(mut keys: Vec<KeyFingerprint>, successions: &[Succession]) -> Vec<KeyFingerprint> {
    let mut genuine: Vec<_> = successions.iter().filter(|succession| succession.is_genuine()).collect();
    loop {
        let known = |key: &[u8; 32]| keys.contains(&KeyFingerprint::of(key));
        let (named, others): (Vec<_>, Vec<_>) = genuine.into_iter().partition(|succession| known(&succession.named_by));
        if named.is_empty() {
            return keys;
        }
        keys.extend(named.into_iter().map(|succession| KeyFingerprint::of(&succession.public_key)));
        genuine = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn fingerprint(n: u8) -> KeyFingerprint {
        KeyFingerprint::of(&key(n).verifying_key().to_bytes())
    }

    fn named(by: u8, next: u8) -> Succession {
        Succession::sign(&key(by), &key(next).verifying_key())
    }

    #[test]
    fn one_known_key_is_enough_for_all_that_follow_it() {
        // In any order.
        let successions = [named(2, 3), named(1, 2), named(8, 9)];
        assert_eq!(with_successors(vec![fingerprint(1)], &successions), [1, 2, 3].map(fingerprint));
        assert_eq!(with_successors(vec![fingerprint(2)], &successions), [2, 3].map(fingerprint), "not the keys before it");
        assert_eq!(with_successors(vec![], &successions), []);
    }

    #[test]
    fn only_the_key_itself_can_name_its_successor() {
        let forged = Succession { named_by: key(1).verifying_key().to_bytes(), ..named(8, 9) };
        let altered = Succession { public_key: key(9).verifying_key().to_bytes(), ..named(1, 2) };
        assert_eq!(with_successors(vec![fingerprint(1)], &[forged, altered]), [fingerprint(1)]);
    }

    #[test]
    fn keys_that_name_each_other_end() {
        assert_eq!(with_successors(vec![fingerprint(1)], &[named(1, 2), named(2, 1)]), [1, 2, 1].map(fingerprint));
    }
}
