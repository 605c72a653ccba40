//! How many call lists a process holds in memory at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use axum::http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// Call lists in memory at once, of all companies, in MiB of their requests. A parser needs some times as much for a while.
const MEMORY_MAX_MIB: u32 = 512;
/// Uploads of one company at once; its further ones wait, and do not keep the others from theirs.
const PER_COMPANY: usize = 2;
const MIB: u64 = 1 << 20;

/// Gives out permits. Clones share them.
#[derive(Clone)]
pub struct Uploads {
    memory: Arc<Semaphore>,
    companies: Arc<Mutex<HashMap<Uuid, Weak<Semaphore>>>>,
}

/// The right to hold a call list in memory. It goes with the bytes of the file; the last clone gives it back.
#[derive(Clone, Debug)]
pub struct UploadPermit(#[expect(dead_code, reason = "held, not read")] Arc<(OwnedSemaphorePermit, OwnedSemaphorePermit, Arc<Semaphore>)>);

impl Default for Uploads {
    fn default() -> Self {
        Self { memory: Arc::new(Semaphore::new(MEMORY_MAX_MIB as usize)), companies: Arc::default() }
    }
}

impl Uploads {
    /// Waits for the right to receive a request of this size, at most `max_bytes`; a request without a length counts as that large.
    #[expect(clippy::expect_used, reason = "the semaphores are never closed")]
    pub async fn acquire(&self, company_id: Uuid, headers: &HeaderMap, max_bytes: usize) -> UploadPermit {
        let of_company = self.of_company(company_id);
        let turn = of_company.clone().acquire_owned().await.expect("the semaphore is never closed");
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let length = length.unwrap_or(u64::MAX).min(max_bytes as u64);
        let size_mib = u32::try_from(length.div_ceil(MIB)).unwrap_or(MEMORY_MAX_MIB).clamp(1, MEMORY_MAX_MIB);
        let memory = self.memory.clone().acquire_many_owned(size_mib).await.expect("the semaphore is never closed");
        UploadPermit(Arc::new((turn, memory, of_company)))
    }

    /// The company's own semaphore, which lives as long as one of its uploads waits or is under way.
    fn of_company(&self, company_id: Uuid) -> Arc<Semaphore> {
        let mut companies = self.companies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = companies.get(&company_id).and_then(Weak::upgrade) {
            return known;
        }
        companies.retain(|_, semaphore| semaphore.strong_count() > 0);
        let made = Arc::new(Semaphore::new(PER_COMPANY));
        companies.insert(company_id, Arc::downgrade(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    async fn waits(uploads: &Uploads, company: u128, length: &'static str) -> bool {
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from_static(length))]);
        // One poll is enough: what is free is given at once.
        futures::poll!(std::pin::pin!(uploads.acquire(Uuid::from_u128(company), &headers, 64 << 20))).is_pending()
    }

    #[tokio::test]
    async fn a_company_with_many_uploads_does_not_keep_others_waiting() {
        let uploads = Uploads::default();
        let headers = HeaderMap::new();
        let mut held = Vec::new();
        for _ in 0..PER_COMPANY {
            held.push(uploads.acquire(Uuid::from_u128(1), &headers, 64 << 20).await);
        }
        assert!(waits(&uploads, 1, "1000").await && !waits(&uploads, 2, "1000").await);
        held.pop();
        assert!(!waits(&uploads, 1, "1000").await);
    }

    #[tokio::test]
    async fn all_companies_share_the_memory() {
        let uploads = Uploads::default();
        let headers = HeaderMap::new();
        let mut held = Vec::new();
        for company in 0..8 {
            held.push(uploads.acquire(Uuid::from_u128(company), &headers, 64 << 20).await);
        }
        assert!(waits(&uploads, 9, "1000").await);
        drop(held);
        assert!(!waits(&uploads, 9, "1000").await);
        assert_eq!(uploads.companies.lock().unwrap().len(), 1, "companies without an upload are left out");
    }
}
