//! The persons that the personal data in the log is about, and the keys that encrypt it.
//!
//! A person is a random id; a company finds its persons by a keyed hash of the phone number. Deleting a person's row destroys the key to
//! everything that was ever recorded about the person and the way from the number to it.

mod envelope;
mod keys;

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard},
};

use domain::person::ERASURE_CATEGORY;
use lru::LruCache;
use serde_json::{Map, Value};
use uuid::Uuid;

pub use envelope::{Envelope, HoldsPersonal};
pub use keys::{Cipher, CompanyKey, MasterKey, MasterKeyError};

pub(crate) use envelope::{PersonalFields, conceal, fill_in, without_envelope};

use crate::{database::Pool, error::StoreError};

/// Most keys that are cached in memory.
const KEYS_MAX: NonZeroUsize = NonZeroUsize::new(50_000).unwrap();
const COMPANIES_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The keys of an installation's persons. Clones share the cache.
#[derive(Clone)]
pub struct Persons(Arc<Shared>);

struct Shared {
    pool: Pool,
    /// Without it nothing can be encrypted, and what is encrypted cannot be read.
    master: Option<MasterKey>,
    companies: Mutex<LruCache<Uuid, Arc<CompanyKey>>>,
    /// Keys by company and person.
    keys: Mutex<LruCache<(Uuid, Uuid), CachedKey>>,
    epochs: RwLock<Epochs>,
}

struct CachedKey {
    /// The company's epoch when the key was looked up.
    epoch: u64,
    cipher: Arc<Cipher>,
}

/// An epoch of a company ends when it erases a person: a key or state from an earlier epoch may be one that was erased.
#[derive(Default)]
struct Epochs {
    of_all: u64,
    by_company: HashMap<Uuid, u64>,
}

/// A person's key as it is in the database.
struct KeyRow {
    company_id: Uuid,
    person_id: Uuid,
    /// Hash of the number that leads to the person, if there is one.
    phone_hash: Option<Vec<u8>>,
    wrapped_key: Vec<u8>,
}

impl Persons {
    pub(crate) fn new(pool: Pool, master: Option<MasterKey>) -> Self {
        Self(Arc::new(Shared {
            pool,
            master,
            companies: Mutex::new(LruCache::new(COMPANIES_MAX)),
            keys: Mutex::new(LruCache::new(KEYS_MAX)),
            epochs: RwLock::default(),
        }))
    }

    /// Whether encrypted data can be read.
    pub fn can_read(&self) -> bool {
        self.0.master.is_some()
    }

    /// Increases whenever this process is notified that the company has erased a person.
    pub fn epoch(&self, company_id: Uuid) -> u64 {
        let epochs = self.0.epochs.read().unwrap_or_else(PoisonError::into_inner);
        epochs.of_all + epochs.by_company.get(&company_id).copied().unwrap_or_default()
    }

    /// The company has erased a person: what is cached about its persons is not used any more.
    pub(crate) fn outdate(&self, company_id: Uuid) {
        *self.epochs().by_company.entry(company_id).or_default() += 1;
    }

    /// The same for every company.
    pub(crate) fn outdate_all(&self) {
        self.epochs().of_all += 1;
    }

    fn epochs(&self) -> RwLockWriteGuard<'_, Epochs> {
        self.0.epochs.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes outdated keys from memory.
    pub(crate) fn drop_outdated(&self) {
        let mut keys = lock(&self.0.keys);
        let outdated: Vec<_> = keys.iter().filter(|((company, _), key)| key.epoch != self.epoch(*company)).map(|(id, _)| *id).collect();
        for id in outdated {
            keys.pop(&id);
        }
    }

    fn cached_key(&self, company_id: Uuid, person_id: Uuid) -> Option<Arc<Cipher>> {
        let epoch = self.epoch(company_id);
        let mut keys = lock(&self.0.keys);
        keys.get(&(company_id, person_id)).filter(|key| key.epoch == epoch).map(|key| Arc::clone(&key.cipher))
    }

    /// The company's own key, which is created if it does not exist.
    pub async fn company(&self, company_id: Uuid) -> Result<Arc<CompanyKey>, StoreError> {
        if let Some(known) = lock(&self.0.companies).get(&company_id) {
            return Ok(Arc::clone(known));
        }
        let master = self.0.master.as_ref().ok_or(StoreError::NoMasterKey)?;
        let mut found = self.wrapped_company_key(company_id).await?;
        if found.is_none() {
            let made = sqlx::query!(
                "insert into company_keys (company_id, wrapped_key, master_key_id) values ($1, $2, $3) on conflict do nothing",
                company_id,
                CompanyKey::make(master, company_id),
                &master.id()[..]
            );
            made.execute(&self.0.pool).await?;
            found = self.wrapped_company_key(company_id).await?;
        }
        let wrapped = found.ok_or(sqlx::Error::RowNotFound)?;
        let key = Arc::new(CompanyKey::unwrap(master, company_id, &wrapped).ok_or(StoreError::OtherMasterKey)?);
        lock(&self.0.companies).put(company_id, Arc::clone(&key));
        Ok(key)
    }

    async fn wrapped_company_key(&self, company_id: Uuid) -> Result<Option<Vec<u8>>, sqlx::Error> {
        sqlx::query_scalar!("select wrapped_key from company_keys where company_id = $1", company_id).fetch_optional(&self.0.pool).await
    }

    /// The person with this phone number (E.164) in the company; a number that has no person yet gets a new one.
    pub async fn of_number(&self, company_id: Uuid, phone_number: &str) -> Result<Uuid, StoreError> {
        let found = self.of_numbers(company_id, &[phone_number]).await?;
        Ok(*found.first().ok_or(sqlx::Error::RowNotFound)?)
    }

    /// The same for many numbers at once, in their order.
    pub async fn of_numbers(&self, company_id: Uuid, phone_numbers: &[&str]) -> Result<Vec<Uuid>, StoreError> {
        let company = self.company(company_id).await?;
        let hashes: Vec<Vec<u8>> = phone_numbers.iter().map(|number| company.phone_hash(number)).collect();
        let mut known = self.find(&company, company_id, &hashes).await?;
        let missing: HashSet<&Vec<u8>> = hashes.iter().filter(|hash| !known.contains_key(*hash)).collect();
        if !missing.is_empty() {
            let made: Vec<_> = missing.into_iter().map(|hash| (hash.clone(), Uuid::new_v4())).collect();
            let ids: Vec<_> = made.iter().map(|(_, id)| *id).collect();
            let wrapped: Vec<_> = made.iter().map(|(hash, id)| company.make_person_key(*id, Some(hash))).collect();
            sqlx::query!(
                "insert into person_keys (company_id, person_id, phone_hash, wrapped_key)
                 select $1, * from unnest($2::uuid[], $3::bytea[], $4::bytea[]) on conflict do nothing",
                company_id,
                &ids,
                &made.iter().map(|(hash, _)| hash.clone()).collect::<Vec<_>>(),
                &wrapped
            )
            .execute(&self.0.pool)
            .await?;
            // Another process may have created some of them first.
            known = self.find(&company, company_id, &hashes).await?;
        }
        hashes.iter().map(|hash| known.get(hash).copied().ok_or_else(|| sqlx::Error::RowNotFound.into())).collect()
    }

    /// The person with this phone number in the company, if there is one.
    pub async fn known_by(&self, company_id: Uuid, phone_number: &str) -> Result<Option<Uuid>, StoreError> {
        Ok(self.known_by_numbers(company_id, &[phone_number]).await?.into_iter().next().flatten())
    }

    /// The same for many numbers at once, in their order.
    pub async fn known_by_numbers(&self, company_id: Uuid, phone_numbers: &[&str]) -> Result<Vec<Option<Uuid>>, StoreError> {
        let company = self.company(company_id).await?;
        let hashes: Vec<Vec<u8>> = phone_numbers.iter().map(|number| company.phone_hash(number)).collect();
        let known = self.find(&company, company_id, &hashes).await?;
        Ok(hashes.iter().map(|hash| known.get(hash).copied()).collect())
    }

    async fn find(&self, company: &CompanyKey, company_id: Uuid, hashes: &[Vec<u8>]) -> Result<HashMap<Vec<u8>, Uuid>, StoreError> {
        let epoch = self.epoch(company_id);
        let rows = sqlx::query_as!(
            KeyRow,
            "select company_id, person_id, phone_hash, wrapped_key from person_keys where company_id = $1 and phone_hash = any($2)",
            company_id,
            hashes
        );
        let found = rows.fetch_all(&self.0.pool).await?.into_iter().map(|row| match self.keep(company, epoch, &row) {
            Some(_) => Ok((row.phone_hash.unwrap_or_default(), row.person_id)),
            // A row that was changed in the table must not decide about whom data is recorded, or who is erased.
            None => Err(StoreError::ForeignPersonKey(row.person_id)),
        });
        found.collect()
    }

    fn keep(&self, company: &CompanyKey, epoch: u64, row: &KeyRow) -> Option<Arc<Cipher>> {
        let cipher = Arc::new(company.unwrap_person_key(row.person_id, row.phone_hash.as_deref(), &row.wrapped_key)?);
        lock(&self.0.keys).put((row.company_id, row.person_id), CachedKey { epoch, cipher: Arc::clone(&cipher) });
        Some(cipher)
    }

    /// The key for data that is recorded about a person from now on; `None` once the person is erased. A person without a key gets one.
    pub(crate) async fn key(&self, company_id: Uuid, person_id: Uuid) -> Result<Option<Arc<Cipher>>, StoreError> {
        if let Some(known) = self.cached_key(company_id, person_id) {
            return Ok(Some(known));
        }
        let company = self.company(company_id).await?;
        sqlx::query!(
            "insert into person_keys (company_id, person_id, wrapped_key)
             select $1, $2, $3 where not exists (select from streams where stream = $4::text || '-' || ($2::uuid)::text) on conflict do nothing",
            company_id,
            person_id,
            company.make_person_key(person_id, None),
            ERASURE_CATEGORY
        )
        .execute(&self.0.pool)
        .await?;
        Ok(self.load(company_id, &[person_id]).await?.remove(&person_id))
    }

    /// The keys of those of these persons who are not erased.
    async fn load(&self, company_id: Uuid, ids: &[Uuid]) -> Result<HashMap<Uuid, Arc<Cipher>>, StoreError> {
        let (mut found, mut missing) = (HashMap::with_capacity(ids.len()), Vec::new());
        for id in ids {
            match self.cached_key(company_id, *id) {
                Some(known) => drop(found.insert(*id, known)),
                None => missing.push(*id),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let company = self.company(company_id).await?;
        let epoch = self.epoch(company_id);
        let rows = sqlx::query_as!(
            KeyRow,
            "select company_id, person_id, phone_hash, wrapped_key from person_keys where company_id = $1 and person_id = any($2)",
            company_id,
            &missing
        );
        for row in rows.fetch_all(&self.0.pool).await? {
            match self.keep(&company, epoch, &row) {
                Some(cipher) => drop(found.insert(row.person_id, cipher)),
                None => tracing::warn!(person = %row.person_id, "a person's key cannot be unwrapped"),
            }
        }
        Ok(found)
    }

    /// Decrypts the personal data in `items` and puts it in its place, as far as the keys exist. All items belong to `company_id`.
    pub async fn reveal<T: HoldsPersonal>(&self, company_id: Uuid, items: &mut [T]) -> Result<(), StoreError> {
        let mut sealed = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let stream = item.stream();
            sealed.extend(item.envelopes().into_iter().map(|envelope| (at, stream.clone(), envelope)));
        }
        if sealed.is_empty() || !self.can_read() {
            return Ok(());
        }
        let ids: HashSet<Uuid> = sealed.iter().map(|(_, _, envelope)| envelope.person_id).collect();
        let keys = self.load(company_id, &ids.into_iter().collect::<Vec<_>>()).await?;
        for (at, stream, envelope) in sealed {
            let Some(key) = keys.get(&envelope.person_id) else { continue };
            let opened = envelope.open(key, company_id, &stream);
            match (opened, items.get_mut(at)) {
                (Some(values), Some(item)) => item.reveal(values),
                _ => tracing::warn!(stream, "personal data cannot be decrypted with its person's key in its place; it stays concealed"),
            }
        }
        Ok(())
    }

    /// Destroys a person's key and the way from their number to it, for all processes. All data that was encrypted with it is lost.
    pub(crate) async fn destroy(&self, company_id: Uuid, person_id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.0.pool.begin().await?;
        sqlx::query!("delete from person_keys where company_id = $1 and person_id = $2", company_id, person_id).execute(&mut *tx).await?;
        sqlx::query!(
            "update erasures set count = count + 1, recent = (recent || $1::uuid)[greatest(1, cardinality(recent) - 62):]",
            company_id
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Destroys the keys of all persons who are erased according to the log: a process may have died between the two steps, or an old
    /// backup of the keys may have restored them. Returns the number of keys.
    pub async fn destroy_erased(&self) -> Result<u64, StoreError> {
        // Erased persons are few and have streams; other persons have none.
        let destroyed = sqlx::query!(
            "delete from person_keys k using streams s
              where s.stream >= $1::text || '-' and s.stream < $1::text || '.'
                and k.company_id = s.company_id and k.person_id = substr(s.stream, length($1::text) + 2)::uuid",
            ERASURE_CATEGORY
        );
        Ok(destroyed.execute(&self.0.pool).await?.rows_affected())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The content of an envelope: the values by their places, as JSON pointers.
pub type PersonalValues = Map<String, Value>;
