//! Seals: signed statements of what the log was. The chain shows that nothing in it was changed; a seal that is kept elsewhere
//! shows that nobody made the chain anew, or cut off its tail.
//!
//! Signed with Ed25519 (RFC 8032) is the text
//!
//! ```text
//! newvoice log seal 1
//! position <decimal>
//! hash <64 hexadecimal digits>
//! sealed_at_us <microseconds since 1970>
//! ```
//!
//! each line ended by a line feed.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use chrono::{DateTime, Utc};
use ed25519_dalek::{
    Signature, Signer as _, SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, spki::der::pem::LineEnding},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    database::Pool,
    error::StoreError,
    event::now,
    secret_file,
    verify::{
        Fault,
        chain::{self, Span},
    },
};

/// Events that one seal covers at most: what is verified in one go before it is signed.
const SEAL_EVENTS: i64 = 10_000;

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

/// What a key is known by: the first 16 bytes of the SHA-256 of its 32 bytes, in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFingerprint([u8; 16]);

impl KeyFingerprint {
    fn of(public_key: &[u8; 32]) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&Sha256::digest(public_key)[..16]);
        Self(short)
    }

    /// Of a public key in PEM (RFC 8410).
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

impl Seal {
    fn text(position: i64, hash: &[u8; 32], sealed_at: DateTime<Utc>) -> String {
        format!("newvoice log seal 1\nposition {position}\nhash {}\nsealed_at_us {}\n", hex::encode(hash), sealed_at.timestamp_micros())
    }

    fn sign(key: &SigningKey, position: i64, hash: [u8; 32]) -> Self {
        let sealed_at = now();
        let signature = key.sign(Self::text(position, &hash, sealed_at).as_bytes()).to_bytes();
        Self { position, hash, sealed_at, public_key: key.verifying_key().to_bytes(), signature }
    }

    pub fn key(&self) -> KeyFingerprint {
        KeyFingerprint::of(&self.public_key)
    }

    /// Whether the signature is its key's, and the key is one of `keys`, if any are given.
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

    /// Those of positions behind `after`.
    async fn behind(pool: &Pool, after: i64) -> Result<Vec<Self>, StoreError> {
        let rows = sqlx::query!(
            "select position, hash, sealed_at, public_key, signature from log_seals where position > $1 order by position",
            after
        );
        let seals = rows.fetch_all(pool).await?.into_iter().filter_map(|row| {
            Some(Self {
                position: row.position,
                hash: row.hash.try_into().ok()?,
                sealed_at: row.sealed_at,
                public_key: row.public_key.try_into().ok()?,
                signature: row.signature.try_into().ok()?,
            })
        });
        Ok(seals.collect())
    }

    async fn store(&self, pool: &Pool) -> Result<(), StoreError> {
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

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the log cannot be sealed, it is not what it was: {0}")]
    NotSound(Fault),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Signs what the log is, after it was verified to follow from the seal before.
pub struct Sealer(SigningKey);

impl Sealer {
    /// With the key in a PKCS#8 PEM file (RFC 8410), which is made if it is not there; its public half is put beside it, in a file
    /// with the extension `pub`.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            make_key(path)?;
        }
        let key = SigningKey::read_pkcs8_pem_file(path).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?;
        // The key may be in a place that only its owner writes to: sealing does not depend on this.
        if let Err(error) = write_public_half(path, &key) {
            tracing::warn!(%error, file = %path.display(), "the public half of the seal key could not be written beside it");
        }
        Ok(Self(key))
    }

    pub fn fingerprint(&self) -> KeyFingerprint {
        KeyFingerprint::of(self.0.verifying_key().as_bytes())
    }

    /// Seals the log every so often, and where a partition ends; ends when the pool is closed.
    pub async fn run(self, pool: Pool, every: Duration) {
        while !pool.is_closed() {
            match self.seal(&pool).await {
                Ok(_) => {}
                Err(error @ SealError::NotSound(_)) => tracing::error!(%error, "the log was tampered with"),
                Err(SealError::Store(error)) => tracing::warn!(%error, "the log could not be sealed this time"),
            }
            tokio::time::sleep(every).await;
        }
    }

    async fn last(pool: &Pool) -> Result<Option<Seal>, StoreError> {
        let position = sqlx::query_scalar!("select max(position) from log_seals").fetch_one(pool).await?;
        Ok(Seal::behind(pool, position.unwrap_or_default() - 1).await?.pop())
    }

    /// Seals what has been appended since the last seal, a part at a time; what is appended meanwhile is left to the next time. The
    /// last seal made, if there was anything to seal.
    pub async fn seal(&self, pool: &Pool) -> Result<Option<Seal>, SealError> {
        let end = sqlx::query_scalar!("select position from log_head").fetch_one(pool).await.map_err(StoreError::from)?;
        let mut made = None;
        loop {
            let last = Self::last(pool).await?;
            if let Some(forged) = last.as_ref().filter(|seal| !seal.is_genuine(&[])) {
                return Err(SealError::NotSound(Fault::SealForged { position: forged.position, key: forged.key() }));
            }
            let (sealed, base) = last.map_or((0, [0; 32]), |seal| (seal.position, seal.hash));
            let Some(until) = next_end(pool, sealed, end).await? else { return Ok(made) };
            let detached = sealed < chain::beginning(pool).await?;
            if !detached && chain::stored_hash(pool, sealed).await? != Some(base) {
                let sealed_at = "the last time".to_owned();
                return Err(SealError::NotSound(Fault::SealDiffers { position: sealed, sealed_at }));
            }
            let checked = chain::check(pool, Span { first: sealed + 1, last: until }, Some(base)).await?;
            if let Some(fault) = checked.fault {
                return Err(SealError::NotSound(fault));
            }
            let seal = Seal::sign(&self.0, until, checked.last_hash);
            seal.store(pool).await?;
            made = Some(seal);
        }
    }
}

/// Where the next seal belongs: at `end`, or before it where a partition ends or the seal covers enough.
async fn next_end(pool: &Pool, sealed: i64, end: i64) -> Result<Option<i64>, StoreError> {
    let end = sqlx::query_scalar!(
        r#"select least($3::bigint, $1::bigint + $2::bigint, (select min(beyond) - 1 from event_partitions where beyond - 1 > $1)) as "end!""#,
        sealed,
        SEAL_EVENTS,
        end
    );
    Ok(Some(end.fetch_one(pool).await?).filter(|end| *end > sealed))
}

/// Makes the key's file unless it is there; of two processes at once one wins.
fn make_key(path: &Path) -> io::Result<()> {
    let private = SigningKey::from_bytes(&rand::random()).to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
    secret_file::create_once(path, private.as_bytes()).map(drop)
}

/// Writes the public half beside the key unless it is there already, for those who verify seals elsewhere. The file is replaced as a whole: a
/// process that is killed meanwhile leaves the one from before.
fn write_public_half(path: &Path, key: &SigningKey) -> io::Result<()> {
    let public_path = path.with_extension("pub");
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(io::Error::other)?;
    if fs::read(&public_path).is_ok_and(|content| content == public.as_bytes()) {
        return Ok(());
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Everybody may read it, as far as the umask allows.
    let readable = fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().permissions(readable).tempfile_in(dir)?;
    file.write_all(public.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&public_path).map_err(|error| error.error)?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_file_is_that_of_the_private_key_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal-key.pem");
        let public_path = path.with_extension("pub");
        let first = Sealer::open(&path).unwrap().fingerprint();
        assert_eq!(KeyFingerprint::read(&public_path).unwrap(), first);
        // A process was killed while it wrote the file.
        fs::write(&public_path, b"").unwrap();
        assert_eq!(Sealer::open(&path).unwrap().fingerprint(), first);
        assert_eq!(KeyFingerprint::read(&public_path).unwrap(), first);
        // The private key was replaced.
        fs::remove_file(&path).unwrap();
        let second = Sealer::open(&path).unwrap().fingerprint();
        assert_ne!(first, second);
        assert_eq!(KeyFingerprint::read(&public_path).unwrap(), second);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside the two files");
    }
}
