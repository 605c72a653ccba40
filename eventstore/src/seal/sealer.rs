//! The worker that signs seals, with the key in its file.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use ed25519_dalek::{
    SigningKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, spki::der::pem::LineEnding},
};

use super::{KeyFingerprint, Seal, Succession};
use crate::{
    database::Pool,
    error::StoreError,
    secret_file,
    verify::{
        Fault,
        chain::{self, Span},
    },
};

/// Most events that one seal covers: this many are verified in one go before the seal is signed.
const SEAL_EVENTS: i64 = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the log cannot be sealed, it is not what it was: {0}")]
    NotSound(Fault),
    #[error("the seal key cannot be read: {0}")]
    Key(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the seal key was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error(transparent)]
    Key(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Signs the end of the log, after verifying that it follows from the previous seal.
pub struct Sealer {
    path: PathBuf,
    fingerprint: KeyFingerprint,
}

impl Sealer {
    /// Reads the key from a PKCS#8 PEM file (RFC 8410), which is created if it does not exist; the public half is stored beside it, in a
    /// file with the extension `pub`.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            make_key(path)?;
        }
        let key = read_key(path)?;
        // The key may be in a place where only its owner can write: sealing does not depend on the public half.
        if let Err(error) = write_public_half(path, &key) {
            tracing::warn!(%error, file = %path.display(), "the public half of the seal key could not be written beside it");
        }
        Ok(Self { path: path.to_owned(), fingerprint: KeyFingerprint::of(key.verifying_key().as_bytes()) })
    }

    /// Of the key that the file had when it was opened.
    pub fn fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }

    async fn last(pool: &Pool) -> Result<Option<Seal>, StoreError> {
        let position = sqlx::query_scalar!("select max(position) from log_seals").fetch_one(pool).await?;
        Ok(Seal::behind(pool, position.unwrap_or_default() - 1).await?.pop())
    }

    /// Seals the events that were appended since the last seal, a part at a time; events that are appended meanwhile are sealed the next
    /// time. Returns the last new seal, if there was anything to seal. The key is read from its file each time: [`rotate`] may have replaced
    /// it.
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
            let key = read_key(&self.path).map_err(SealError::Key)?;
            let seal = Seal::sign(&key, until, checked.last_hash);
            seal.store(pool).await?;
            made = Some(seal);
        }
    }
}

/// Replaces the key in the file by a new one, which the old one names. Returns the fingerprints of both.
///
/// The new key is in a file with the extension `next` until the database knows it. If the process dies meanwhile, the next run continues
/// with this key.
pub async fn rotate(path: &Path, owner: &Pool) -> Result<[KeyFingerprint; 2], RotateError> {
    let old = read_key(path)?;
    let next_path = path.with_extension("next");
    if !next_path.exists() {
        make_key(&next_path)?;
    }
    let next = read_key(&next_path)?;
    // The platform may run as another user than this process.
    let of_old = fs::metadata(path)?;
    chown(&next_path, Some(of_old.uid()), Some(of_old.gid()))?;
    Succession::sign(&old, &next).store(owner).await?;
    fs::rename(&next_path, path)?;
    fs::File::open(directory(path))?.sync_all()?;
    if let Err(error) = write_public_half(path, &next) {
        tracing::warn!(%error, file = %path.display(), "the public half of the seal key could not be written beside it");
    }
    Ok([old, next].map(|key| KeyFingerprint::of(key.verifying_key().as_bytes())))
}

fn read_key(path: &Path) -> io::Result<SigningKey> {
    SigningKey::read_pkcs8_pem_file(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// Where the next seal belongs: at `end`, or before it if a partition ends or the seal covers enough events.
async fn next_end(pool: &Pool, sealed: i64, end: i64) -> Result<Option<i64>, StoreError> {
    let end = sqlx::query_scalar!(
        r#"select least($3::bigint, $1::bigint + $2::bigint, (select min(beyond) - 1 from event_partitions where beyond - 1 > $1)) as "end!""#,
        sealed,
        SEAL_EVENTS,
        end
    );
    Ok(Some(end.fetch_one(pool).await?).filter(|end| *end > sealed))
}

/// Creates the key's file unless it exists; if two processes do so at once, one of them wins.
fn make_key(path: &Path) -> io::Result<()> {
    let private = SigningKey::from_bytes(&rand::random()).to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
    secret_file::create_once(path, private.as_bytes()).map(drop)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes the public half beside the key unless it is already there, for people who verify seals elsewhere. The file is replaced as a
/// whole: if the process is killed meanwhile, the previous file stays.
fn write_public_half(path: &Path, key: &SigningKey) -> io::Result<()> {
    let public_path = path.with_extension("pub");
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(io::Error::other)?;
    if fs::read(&public_path).is_ok_and(|content| content == public.as_bytes()) {
        return Ok(());
    }
    let dir = directory(path);
    // Every user may read it, as far as the umask allows.
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
