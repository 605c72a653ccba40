//! Memory for request bodies. Handlers receive a whole body before they parse it.
//!
//! The first [`FREE_BYTES`] of a body are free. Further bytes acquire memory as they arrive, from the company's share and from the memory
//! of all companies, until the request is answered. If a body gets no memory within [`MEMORY_WAIT`], it is refused (503) and releases its
//! memory.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
};
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::company_places::{CompanyPlaces, take_in_time};

const FREE_BYTES: usize = 64 << 10;
/// Memory for the bodies of all companies, and of one company, in KiB: the largest body, and some small ones beside it. A process takes half
/// as much again while it collects the parts of bodies.
const ALL_KIB: usize = 66 << 10;
const OF_COMPANY_KIB: usize = 34 << 10;
const KIB: usize = 1 << 10;
const MEMORY_WAIT: Duration = Duration::from_secs(10);

/// Clones share the memory.
#[derive(Clone)]
pub struct BodyMemory {
    all: Arc<Semaphore>,
    companies: Arc<CompanyPlaces>,
}

/// There was no memory for a body.
#[derive(Debug, thiserror::Error)]
#[error("too many large bodies are received at once")]
pub struct NoMemory;

/// The memory that a body has acquired; dropping it releases the memory.
#[derive(Clone, Default)]
pub struct TakenMemory(Arc<Mutex<Vec<OwnedSemaphorePermit>>>);

impl Default for BodyMemory {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL_KIB)), companies: Arc::new(CompanyPlaces::new(OF_COMPANY_KIB)) }
    }
}

impl BodyMemory {
    /// Returns the request with a body that acquires memory as it arrives. The caller must hold the memory until the request is answered.
    pub fn bound(&self, company_id: Uuid, request: Request) -> (Request, TakenMemory) {
        let taken = TakenMemory::default();
        let body = |body: Body| {
            let arriving = Arriving { memory: self.clone(), company_id, received: 0, held_kib: 0, taken: taken.clone() };
            let chunks = body.into_data_stream();
            Body::from_stream(futures::stream::unfold((chunks, arriving), |(mut chunks, mut arriving)| async move {
                let chunk = match chunks.next().await? {
                    Ok(chunk) => arriving.take(&chunk).await.map(|()| chunk).map_err(axum::Error::new),
                    Err(error) => Err(error),
                };
                Some((chunk, (chunks, arriving)))
            }))
        };
        (request.map(body), taken)
    }
}

struct Arriving {
    memory: BodyMemory,
    company_id: Uuid,
    received: usize,
    held_kib: usize,
    taken: TakenMemory,
}

impl Arriving {
    async fn take(&mut self, chunk: &Bytes) -> Result<(), NoMemory> {
        self.received += chunk.len();
        let needed = self.received.saturating_sub(FREE_BYTES).div_ceil(KIB) - self.held_kib;
        if needed == 0 {
            return Ok(());
        }
        let count = u32::try_from(needed).map_err(|_| NoMemory)?;
        for places in [self.memory.companies.of(self.company_id), Arc::clone(&self.memory.all)] {
            let taken = take_in_time(places, count, MEMORY_WAIT).await.ok_or(NoMemory)?;
            self.taken.0.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
        }
        self.held_kib += needed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(mibs: usize) -> Request {
        let mib = Bytes::from(vec![b' '; 1 << 20]);
        Request::new(Body::from_stream(futures::stream::iter((0..mibs).map(move |_| Ok::<_, std::io::Error>(mib.clone())))))
    }

    async fn read(memory: &BodyMemory, company: u128, mibs: usize) -> Result<(usize, TakenMemory), axum::Error> {
        let (request, taken) = memory.bound(Uuid::from_u128(company), body(mibs));
        axum::body::to_bytes(request.into_body(), usize::MAX).await.map(|bytes| (bytes.len() >> 20, taken))
    }

    #[tokio::test(start_paused = true)]
    async fn a_company_cannot_take_the_memory_of_others() {
        let memory = BodyMemory::default();
        let held = read(&memory, 1, 32).await.unwrap();
        let refused = read(&memory, 1, 9).await.map(|_| ()).unwrap_err();
        assert!(crate::extract::comes_from::<NoMemory>(&refused), "{refused}");
        assert_eq!(read(&memory, 2, 32).await.unwrap().0, 32);
        drop(held);
        assert_eq!(read(&memory, 1, 32).await.unwrap().0, 32);
        assert_eq!(memory.all.available_permits(), ALL_KIB, "all of it is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn small_bodies_take_no_memory() {
        let memory = BodyMemory::default();
        let mut held = Vec::new();
        for company in 0..8 {
            held.push(read(&memory, company, 8).await.unwrap());
        }
        let small = Request::new(Body::from(vec![b' '; FREE_BYTES]));
        let (request, _taken) = memory.bound(Uuid::from_u128(99), small);
        assert!(axum::body::to_bytes(request.into_body(), usize::MAX).await.is_ok());
        assert!(read(&memory, 99, 4).await.is_err());
    }
}
