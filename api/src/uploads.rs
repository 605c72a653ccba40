//! Limits the memory for call lists in a process.
//!
//! An upload acquires memory as its bytes arrive, one MiB at a time, and releases all of it when its last row is imported. A client that
//! sends slowly, or announces more than it sends, takes only the memory for the bytes that it has sent.
//!
//! - A company has at most [`PER_COMPANY`] uploads at once; further ones wait. They hold at most a quarter of the memory.
//! - The first MiB of each upload is from a separate reserve, so that small lists do not wait for the memory that large ones hold.
//! - An upload that gets no memory within [`MEMORY_WAIT`] is refused (503) and releases its memory: this ends deadlocks between uploads.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
};
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::{edge::CompanyPlaces, extract::unread, problem::Problem};

/// Maximum number of concurrent uploads of one company.
const PER_COMPANY: usize = 2;
/// Number of uploads of maximum size that fit into the memory together. A parser temporarily needs a multiple of an upload's size.
const LARGEST_UPLOADS: usize = 4 * PER_COMPANY;
/// The reserve for the first MiB of each upload, in MiB.
const FIRST_MIBS: usize = 128;
/// How long an upload waits for the next MiB.
const MEMORY_WAIT: Duration = Duration::from_secs(10);
const RETRY_AFTER_SEC: u32 = 10;
const MIB: usize = 1 << 20;
const FORM_PIECE_BYTES: usize = 64 << 10;
/// Maximum size of the form around the file, in bytes.
const FORM_MAX_BYTES: usize = MIB;

/// Allocates memory for uploads.
pub struct Uploads {
    /// Unit: MiB.
    first: Arc<Semaphore>,
    further: Arc<Semaphore>,
    companies: CompanyPlaces,
}

/// The right to hold a call list in memory. It is attached to the bytes of the file; dropping the last clone releases the memory.
#[derive(Clone, Debug)]
pub struct UploadPermit(#[expect(dead_code, reason = "held, not read")] Arc<Receiving>);

/// An upload whose bytes are arriving.
#[derive(Debug)]
pub struct Receiving {
    /// The company's place.
    _turn: OwnedSemaphorePermit,
    _first: OwnedSemaphorePermit,
    further: Option<OwnedSemaphorePermit>,
    /// The source of further memory.
    memory: Arc<Semaphore>,
}

/// The fields of a form that was received completely. It is read in pieces, because the parser copies the data that it has not returned
/// yet.
pub fn read_form(body: &Bytes, boundary: &str) -> multer::Multipart<'static> {
    let body = body.clone();
    let pieces = (0..body.len()).step_by(FORM_PIECE_BYTES);
    let pieces = pieces.map(move |at| Ok::<_, Infallible>(body.slice(at..body.len().min(at + FORM_PIECE_BYTES))));
    multer::Multipart::new(futures::stream::iter(pieces), boundary)
}

impl Uploads {
    /// Memory for call lists of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        let largest_mibs = (max_bytes + FORM_MAX_BYTES).div_ceil(MIB);
        Self {
            first: Arc::new(Semaphore::new(FIRST_MIBS)),
            further: Arc::new(Semaphore::new((LARGEST_UPLOADS * largest_mibs).min(Semaphore::MAX_PERMITS))),
            companies: CompanyPlaces::new(PER_COMPANY),
        }
    }

    /// Waits for a place among the company's uploads, and acquires the memory for the first MiB.
    #[expect(clippy::expect_used, reason = "see the message")]
    pub async fn begin(&self, company_id: Uuid) -> Result<Receiving, Problem> {
        let turn = self.companies.of(company_id).acquire_owned().await.expect("the semaphore is never closed");
        let first = in_time(self.first.clone().acquire_owned()).await?;
        Ok(Receiving { _turn: turn, _first: first, further: None, memory: self.further.clone() })
    }

    /// Receives a whole body with a call list of at most `max_bytes`.
    pub async fn receive(&self, company_id: Uuid, body: Body, max_bytes: usize) -> Result<(Bytes, UploadPermit), Problem> {
        let mut receiving = self.begin(company_id).await?;
        let too_large = "the body is too large";
        let mut chunks = body.into_data_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| unread(StatusCode::PAYLOAD_TOO_LARGE, &e, too_large.to_owned()))?;
            if bytes.len() + chunk.len() > max_bytes + FORM_MAX_BYTES {
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, too_large));
            }
            receiving.grow(bytes.len() + chunk.len()).await?;
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes.into(), receiving.complete()))
    }
}

impl Receiving {
    /// Acquires the memory for this number of bytes in total. Call it before the bytes are stored.
    pub async fn grow(&mut self, received_bytes: usize) -> Result<(), Problem> {
        let held = self.further.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = received_bytes.div_ceil(MIB).saturating_sub(1 + held);
        if needed == 0 {
            return Ok(());
        }
        let needed = u32::try_from(needed).map_err(|_| no_memory())?;
        let more = in_time(self.memory.clone().acquire_many_owned(needed)).await?;
        match &mut self.further {
            Some(further) => further.merge(more),
            None => self.further = Some(more),
        }
        Ok(())
    }

    /// All bytes have arrived.
    pub fn complete(self) -> UploadPermit {
        UploadPermit(Arc::new(self))
    }
}

#[expect(clippy::expect_used, reason = "see the message")]
async fn in_time(
    permit: impl Future<Output = Result<OwnedSemaphorePermit, tokio::sync::AcquireError>>,
) -> Result<OwnedSemaphorePermit, Problem> {
    let acquired = tokio::time::timeout(MEMORY_WAIT, permit).await.map_err(|_| no_memory())?;
    Ok(acquired.expect("the semaphore is never closed"))
}

fn no_memory() -> Problem {
    Problem::unavailable("too many call lists are received at once").retry_after(RETRY_AFTER_SEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BYTES: usize = 64 << 20;

    fn company(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    /// Uploads of one company of which this number of bytes has arrived.
    async fn receive(uploads: &Uploads, number: u128, bytes: usize) -> Vec<Receiving> {
        let mut held = Vec::new();
        for _ in 0..PER_COMPANY {
            let mut upload = uploads.begin(company(number)).await.unwrap();
            upload.grow(bytes).await.unwrap();
            held.push(upload);
        }
        held
    }

    async fn waits(uploads: &Uploads, number: u128) -> bool {
        // One poll is enough: a free place is given immediately.
        futures::poll!(std::pin::pin!(uploads.begin(company(number)))).is_pending()
    }

    #[tokio::test]
    async fn a_company_with_many_uploads_does_not_keep_others_waiting() {
        let uploads = Uploads::new(MAX_BYTES);
        let mut held = receive(&uploads, 1, 1_000).await;
        assert!(waits(&uploads, 1).await && !waits(&uploads, 2).await);
        held.pop();
        assert!(!waits(&uploads, 1).await);
        drop(held);
        assert!(!waits(&uploads, 3).await);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_send_slowly_keep_nobody_from_memory() {
        let uploads = Uploads::new(MAX_BYTES);
        let mut slow = Vec::new();
        for number in 0..40 {
            slow.extend(receive(&uploads, number, 1).await);
        }
        for number in 100..104 {
            slow.extend(receive(&uploads, number, MAX_BYTES).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn small_lists_do_not_wait_for_the_memory_that_large_ones_hold() {
        let uploads = Uploads::new(MAX_BYTES);
        let mut held = Vec::new();
        for number in 0..4 {
            held.extend(receive(&uploads, number, MAX_BYTES + FORM_MAX_BYTES).await);
        }
        // The first MiB of each of these uploads is left.
        assert!(uploads.further.available_permits() <= LARGEST_UPLOADS);
        let mut small = uploads.begin(company(9)).await.unwrap();
        small.grow(MIB).await.unwrap();
        // A large upload is refused and releases its memory.
        let free = uploads.further.available_permits();
        let mut large = uploads.begin(company(10)).await.unwrap();
        large.grow(5 * MIB).await.unwrap();
        assert_eq!(large.grow(MAX_BYTES).await.unwrap_err().status, 503);
        drop(large);
        assert_eq!(uploads.further.available_permits(), free);
        held.clear();
        uploads.begin(company(10)).await.unwrap().grow(MAX_BYTES).await.unwrap();
    }

    #[tokio::test]
    async fn a_permit_gives_its_memory_back_with_its_last_clone() {
        let uploads = Uploads::new(MAX_BYTES);
        let all = uploads.further.available_permits();
        let mut upload = uploads.begin(company(1)).await.unwrap();
        for bytes in [1, MIB, MIB + 1, 3 * MIB, 3 * MIB] {
            upload.grow(bytes).await.unwrap();
        }
        let permit = upload.complete();
        let clone = permit.clone();
        drop(permit);
        assert_eq!(uploads.further.available_permits(), all - 2);
        drop(clone);
        assert_eq!(uploads.further.available_permits(), all);
    }
}
