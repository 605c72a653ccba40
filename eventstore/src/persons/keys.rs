//! The hierarchy of keys: the company's key wraps the person's key, the master key wraps the company's key. All are 256 random bits.
//!
//! Encryption is AES-256-GCM (NIST SP 800-38D) with random nonces: `nonce (12 bytes) || ciphertext || tag (16 bytes)`. A key is used
//! for far fewer than 2^32 messages. Keys for different purposes are derived with HMAC-SHA-256 (RFC 2104) over the purpose's name.

use std::{fmt, fs, io, path::Path};

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use crate::secret_file;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    #[error("{0} has no master key: a master key has 64 hexadecimal digits")]
    NotHex(String),
    #[error("the master key file {0}: {1}")]
    Io(String, io::Error),
}

/// The key that protects all other keys. It is never in the database; if it is lost, all personal data is lost.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; KEY_BYTES]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl std::str::FromStr for MasterKey {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
        let mut key = [0; KEY_BYTES];
        hex::decode_to_slice(text.trim(), &mut key)?;
        Ok(Self(key))
    }
}

/// The environment variable of the master key.
const VARIABLE: &str = "NEWVOICE_MASTER_KEY";

impl MasterKey {
    /// The key in `NEWVOICE_MASTER_KEY`, if that is set. There is no flag for it: every user of a machine sees the arguments of its
    /// processes.
    pub fn from_environment() -> Result<Option<Self>, MasterKeyError> {
        let malformed = || MasterKeyError::NotHex(VARIABLE.to_owned());
        match std::env::var(VARIABLE) {
            Ok(text) => text.parse().map(Some).map_err(|_| malformed()),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(malformed()),
        }
    }

    /// The key in a file, which is created if it does not exist. Only the owner of the file can read it.
    pub fn open(path: &Path) -> Result<Self, MasterKeyError> {
        match Self::read(path)? {
            Some(key) => Ok(key),
            None => {
                let made = Self::make(path)?;
                tracing::warn!(file = %path.display(), "a master key was made; without it personal data cannot be read: back it up, apart from the database");
                Ok(made)
            }
        }
    }

    /// The key in a file, if there is one.
    pub fn read(path: &Path) -> Result<Option<Self>, MasterKeyError> {
        match fs::read_to_string(path) {
            Ok(text) => text.parse().map(Some).map_err(|_| MasterKeyError::NotHex(path.display().to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(MasterKeyError::Io(path.display().to_string(), error)),
        }
    }

    fn make(path: &Path) -> Result<Self, MasterKeyError> {
        let text = hex::encode(rand::random::<[u8; KEY_BYTES]>());
        let failed = |error| MasterKeyError::Io(path.display().to_string(), error);
        secret_file::create_once(path, format!("{text}\n").as_bytes()).map_err(failed)?;
        // If two processes create it at once, both use the file that is there.
        Self::read(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// The id of a master key; it reveals nothing about the key.
    pub fn id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&derive(&self.0, "id")[..8]);
        id
    }

    /// A key for one purpose.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        derive(&self.0, purpose)
    }

    /// A cipher for secrets of the installation as a whole.
    pub fn cipher(&self, purpose: &str) -> Cipher {
        Cipher::new(&self.derive(purpose))
    }
}

fn derive(key: &[u8; KEY_BYTES], purpose: &str) -> [u8; KEY_BYTES] {
    hmac_sha256(key, purpose.as_bytes())
}

/// HMAC-SHA-256.
#[expect(clippy::expect_used, reason = "RFC 2104 takes keys of any length")]
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; KEY_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Encrypts and decrypts under one key.
pub struct Cipher(Aes256Gcm);

impl Cipher {
    fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// `aad` binds the message to its place: it cannot be opened elsewhere.
    #[expect(
        clippy::expect_used,
        reason = "AES-GCM fails for messages of more than 64 GiB only; bodies and payloads have far smaller limits"
    )]
    pub fn encrypt(&self, aad: &[u8], message: &[u8]) -> Vec<u8> {
        let nonce = rand::random::<[u8; NONCE_BYTES]>();
        let ciphertext = self.0.encrypt(&nonce.into(), Payload { msg: message, aad }).expect("a message has less than 64 GiB");
        [&nonce[..], &ciphertext].concat()
    }

    /// `None` if it was not encrypted with this key and `aad`.
    pub fn decrypt(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        self.0.decrypt(&(*nonce).into(), Payload { msg: ciphertext, aad }).ok()
    }
}

/// A company's key, in the form of the keys derived from it.
pub struct CompanyKey {
    /// Wraps its persons' keys.
    persons: Cipher,
    /// For other data that is stored for a limited time.
    answers: Cipher,
    numbers: [u8; KEY_BYTES],
    requests: [u8; KEY_BYTES],
}

impl CompanyKey {
    /// A new company key, wrapped.
    pub(super) fn make(master: &MasterKey, company_id: Uuid) -> Vec<u8> {
        master.cipher("companies").encrypt(company_id.as_bytes(), &rand::random::<[u8; KEY_BYTES]>())
    }

    pub(super) fn unwrap(master: &MasterKey, company_id: Uuid, wrapped: &[u8]) -> Option<Self> {
        let key: [u8; KEY_BYTES] = master.cipher("companies").decrypt(company_id.as_bytes(), wrapped)?.try_into().ok()?;
        Some(Self {
            persons: Cipher::new(&derive(&key, "persons")),
            answers: Cipher::new(&derive(&key, "answers")),
            numbers: derive(&key, "phone numbers"),
            requests: derive(&key, "requests"),
        })
    }

    pub(super) fn phone_hash(&self, phone_number: &str) -> Vec<u8> {
        hmac_sha256(&self.numbers, phone_number.as_bytes()).to_vec()
    }

    /// Identifies a request that may be repeated: the content of the request cannot be derived from it.
    pub fn request_hash(&self, request: &[u8]) -> [u8; KEY_BYTES] {
        hmac_sha256(&self.requests, request)
    }

    /// For stored answers to requests that may be repeated.
    pub fn answers(&self) -> &Cipher {
        &self.answers
    }

    /// A new key of a person, wrapped. It is bound to the person and to the number that leads to them, if there is one.
    pub(super) fn make_person_key(&self, person_id: Uuid, phone_hash: Option<&[u8]>) -> Vec<u8> {
        self.persons.encrypt(&person_aad(person_id, phone_hash), &rand::random::<[u8; KEY_BYTES]>())
    }

    /// `None` if the key is another person's, or if the number is not the one for which the key was made.
    pub(super) fn unwrap_person_key(&self, person_id: Uuid, phone_hash: Option<&[u8]>, wrapped: &[u8]) -> Option<Cipher> {
        let key = self.persons.decrypt(&person_aad(person_id, phone_hash), wrapped);
        // Older keys are bound to the person only.
        let key = key.or_else(|| self.persons.decrypt(person_id.as_bytes(), wrapped));
        let key: [u8; KEY_BYTES] = key?.try_into().ok()?;
        Some(Cipher::new(&key))
    }
}

fn person_aad(person_id: Uuid, phone_hash: Option<&[u8]>) -> Vec<u8> {
    [person_id.as_bytes(), phone_hash.unwrap_or(b"no number")].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPANY: Uuid = Uuid::from_u128(1);
    const PERSON: Uuid = Uuid::from_u128(2);

    fn master() -> MasterKey {
        "07".repeat(32).parse().unwrap()
    }

    #[test]
    fn what_is_encrypted_opens_with_its_key_and_in_its_place_only() {
        let (one, other) = (master().cipher("one"), master().cipher("other"));
        let sealed = one.encrypt(b"place", b"secret");
        assert_eq!(one.decrypt(b"place", &sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!((one.decrypt(b"elsewhere", &sealed), other.decrypt(b"place", &sealed)), (None, None));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(one.decrypt(b"place", &changed), None, "byte {at}");
        }
        assert_eq!(one.decrypt(b"place", b"short"), None);
        assert_ne!(one.encrypt(b"place", b"secret"), sealed, "the same message never looks the same");
    }

    #[test]
    fn a_companys_key_belongs_to_the_company_and_its_master_key() {
        let wrapped = CompanyKey::make(&master(), COMPANY);
        let key = CompanyKey::unwrap(&master(), COMPANY, &wrapped).unwrap();
        let again = CompanyKey::unwrap(&master(), COMPANY, &wrapped).unwrap();
        assert_eq!(key.phone_hash("+12025550100"), again.phone_hash("+12025550100"));
        assert!(CompanyKey::unwrap(&master(), PERSON, &wrapped).is_none());
        assert!(CompanyKey::unwrap(&"08".repeat(32).parse().unwrap(), COMPANY, &wrapped).is_none());
        let person = key.make_person_key(PERSON, None);
        assert!(again.unwrap_person_key(PERSON, None, &person).is_some() && key.unwrap_person_key(COMPANY, None, &person).is_none());
    }

    #[test]
    fn a_persons_key_belongs_to_the_number_that_leads_to_it() {
        let key = CompanyKey::unwrap(&master(), COMPANY, &CompanyKey::make(&master(), COMPANY)).unwrap();
        let (one, other) = (key.phone_hash("+12025550100"), key.phone_hash("+12025550101"));
        let opens = |wrapped: &[u8], hash: Option<&[u8]>| key.unwrap_person_key(PERSON, hash, wrapped).is_some();
        let (with_number, without) = (key.make_person_key(PERSON, Some(&one)), key.make_person_key(PERSON, None));
        assert!(opens(&with_number, Some(&one)) && !opens(&with_number, Some(&other)) && !opens(&with_number, None));
        assert!(opens(&without, None) && !opens(&without, Some(&one)));
        let from_before = key.persons.encrypt(PERSON.as_bytes(), &[7; KEY_BYTES]);
        assert!(opens(&from_before, Some(&one)) && opens(&from_before, None));
    }

    #[test]
    fn a_master_key_is_made_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/master.key");
        let made = MasterKey::open(&path).unwrap();
        assert!(MasterKey::open(&path).unwrap() == made && MasterKey::read(&path).unwrap() == Some(made));
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(MasterKey::open(&path), Err(MasterKeyError::NotHex(_))));
    }
}
