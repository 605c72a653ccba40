//! The chain of seal keys: each key names the one that seals after it, and is acknowledged by it, so that one public key is enough to check
//! the seals of all later and all earlier keys.
//!
//! The text that the earlier key and the new key sign with Ed25519 (RFC 8032):
//!
//! ```text
//! newvoice seal key 1
//! public_key <64 hexadecimal digits>
//! named_by <64 hexadecimal digits>
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
    /// By the key before.
    #[serde(with = "hex")]
    pub signature: [u8; 64],
    /// By the new key.
    #[serde(with = "hex")]
    pub countersignature: [u8; 64],
}

impl Succession {
    fn text(public_key: &[u8; 32], named_by: &[u8; 32], named_at: DateTime<Utc>) -> String {
        let [public_key, named_by] = [public_key, named_by].map(hex::encode);
        format!("newvoice seal key 1\npublic_key {public_key}\nnamed_by {named_by}\nnamed_at_us {}\n", named_at.timestamp_micros())
    }

    pub(super) fn sign(key: &SigningKey, next: &SigningKey) -> Self {
        let [public_key, named_by] = [next, key].map(|key| key.verifying_key().to_bytes());
        let named_at = now();
        let text = Self::text(&public_key, &named_by, named_at);
        let [signature, countersignature] = [key, next].map(|key| key.sign(text.as_bytes()).to_bytes());
        Self { public_key, named_by, named_at, signature, countersignature }
    }

    fn is_genuine(&self) -> bool {
        let text = Self::text(&self.public_key, &self.named_by, self.named_at);
        let signed = |key: &[u8; 32], signature: &[u8; 64]| {
            VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(text.as_bytes(), &Signature::from_bytes(signature)).is_ok())
        };
        signed(&self.named_by, &self.signature) && signed(&self.public_key, &self.countersignature)
    }

    /// The successions in the database, oldest first.
    pub async fn all(pool: &Pool) -> Result<Vec<Self>, StoreError> {
        let rows = sqlx::query!("select public_key, named_by, named_at, signature, countersignature from log_seal_keys order by named_at");
        let successions = rows.fetch_all(pool).await?.into_iter().map(|row| {
            Ok(Self {
                public_key: super::of_length(row.public_key)?,
                named_by: super::of_length(row.named_by)?,
                named_at: row.named_at,
                signature: super::of_length(row.signature)?,
                countersignature: super::of_length(row.countersignature)?,
            })
        });
        successions.collect()
    }

    pub(super) async fn store(&self, pool: &Pool) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into log_seal_keys (public_key, named_by, named_at, signature, countersignature) values ($1, $2, $3, $4, $5)",
            &self.public_key[..],
            &self.named_by[..],
            self.named_at,
            &self.signature[..],
            &self.countersignature[..]
        )
        .execute(pool)
        .await?;
        Ok(())
    }
}

/// `keys`, the keys that followed them, and the keys before them. A key that an earlier key named as well, beside the one that leads to
/// `keys`, is none of these.
pub(crate) fn with_relatives(keys: Vec<KeyFingerprint>, successions: &[Succession]) -> Vec<KeyFingerprint> {
    let links = successions.iter().filter(|succession| succession.is_genuine());
    let links: Vec<_> = links.map(|link| [&link.named_by, &link.public_key].map(KeyFingerprint::of)).collect();
    let later = reached(&keys, &links);
    let earlier = reached(&keys, &links.iter().map(|[before, after]| [*after, *before]).collect::<Vec<_>>());
    [keys, later, earlier].concat()
}

/// The keys at the ends of chains of links that begin at `keys`.
fn reached(keys: &[KeyFingerprint], links: &[[KeyFingerprint; 2]]) -> Vec<KeyFingerprint> {
    let mut found: Vec<KeyFingerprint> = Vec::new();
    loop {
        let is_known = |key: &KeyFingerprint| keys.contains(key) || found.contains(key);
        let next = links.iter().find(|[from, to]| is_known(from) && !is_known(to)).map(|[_, to]| *to);
        match next {
            Some(key) => found.push(key),
            None => return found,
        }
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
        Succession::sign(&key(by), &key(next))
    }

    #[test]
    fn one_known_key_is_enough_for_all_of_its_chain() {
        // In any order.
        let successions = [named(2, 3), named(1, 2), named(8, 9)];
        assert_eq!(with_relatives(vec![fingerprint(1)], &successions), [1, 2, 3].map(fingerprint));
        assert_eq!(with_relatives(vec![fingerprint(3)], &successions), [3, 2, 1].map(fingerprint));
        assert_eq!(with_relatives(vec![], &successions), []);
    }

    /// The holder of a stolen key names a key of their own.
    #[test]
    fn what_an_earlier_key_named_as_well_is_not_accepted_from_the_later_one() {
        let successions = [named(1, 2), named(1, 7)];
        assert_eq!(with_relatives(vec![fingerprint(2)], &successions), [2, 1].map(fingerprint));
    }

    #[test]
    fn both_keys_must_have_signed() {
        let real = named(1, 2);
        let forged = [
            Succession { named_by: key(1).verifying_key().to_bytes(), ..named(8, 9) },
            Succession { public_key: key(9).verifying_key().to_bytes(), ..real.clone() },
            Succession { countersignature: real.signature, ..real },
        ];
        assert_eq!(with_relatives(vec![fingerprint(1)], &forged), [fingerprint(1)]);
    }

    #[test]
    fn keys_that_name_each_other_end() {
        assert_eq!(with_relatives(vec![fingerprint(1)], &[named(1, 2), named(2, 1)]), [1, 2, 2].map(fingerprint));
    }
}
