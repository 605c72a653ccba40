//! Places for connections: so many in all, and so many of one client.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::origin::network;

pub struct Places {
    max: u32,
    free: Arc<Semaphore>,
    clients: Arc<Clients>,
}

/// Connections by the network they come from.
struct Clients {
    /// `None` for no limit.
    max: Option<NonZeroU32>,
    counts: Mutex<HashMap<IpAddr, u32>>,
}

/// Held as long as a connection lives, also by what it was upgraded to.
#[derive(Clone)]
pub struct Place(#[expect(dead_code, reason = "it is given back when nobody holds it any more")] Arc<Held>);

struct Held {
    #[expect(dead_code, reason = "it is given back with the place")]
    permit: OwnedSemaphorePermit,
    clients: Arc<Clients>,
    network: IpAddr,
}

/// The client has as many connections as one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Places {
    /// `max` in all, `max_of_client` of one client; 0 for no limit of one.
    pub fn new(max: u32, max_of_client: u32) -> Self {
        let clients = Clients { max: NonZeroU32::new(max_of_client), counts: Mutex::default() };
        Self { max, free: Arc::new(Semaphore::new(max as usize)), clients: Arc::new(clients) }
    }

    /// Waits until there is a place for whoever comes next.
    pub async fn any(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => unreachable!("nobody closes it"),
        }
    }

    /// Gives the place to a client who has come, unless it has as many as one may have.
    pub fn take(&self, permit: OwnedSemaphorePermit, client: IpAddr) -> Result<Place, TooMany> {
        let network = network(client);
        let mut counts = self.clients.counts();
        let count = counts.entry(network).or_default();
        if self.clients.max.is_some_and(|max| *count >= max.get()) {
            return Err(TooMany);
        }
        *count += 1;
        drop(counts);
        Ok(Place(Arc::new(Held { permit, clients: Arc::clone(&self.clients), network })))
    }

    /// Waits until all places have been given back.
    pub async fn all_given_back(&self) {
        let _ = self.free.acquire_many(self.max).await;
    }
}

impl Clients {
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.clients.counts();
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_has_its_places_and_gives_them_back() {
        let places = Places::new(10, 2);
        let client = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = places.take(places.any().await, client("2001:db8::1")).ok().unwrap();
        let second = places.take(places.any().await, client("2001:db8::2")).ok().unwrap();
        assert!(places.take(places.any().await, client("2001:db8::3")).is_err(), "one network is one client");
        let _another = places.take(places.any().await, client("2001:db8:0:100::1")).ok().unwrap();
        drop((first.clone(), second));
        let _again = places.take(places.any().await, client("2001:db8::1")).ok().unwrap();
        assert!(places.take(places.any().await, client("2001:db8::1")).is_err(), "a place is held by whoever has a part of it");
        drop(first);
        assert!(places.take(places.any().await, client("2001:db8::1")).is_ok());
    }

    #[tokio::test]
    async fn networks_without_connections_are_forgotten() {
        let places = Places::new(1, 0);
        for n in 0..100 {
            drop(places.take(places.any().await, IpAddr::from([10, 0, 0, n])).ok().unwrap());
        }
        places.all_given_back().await;
        assert!(places.clients.counts().is_empty());
    }
}
