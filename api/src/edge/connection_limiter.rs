//! Limits on connections: in total, and per client.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::origin::network;

pub struct ConnectionLimiter {
    max: u32,
    free: Arc<Semaphore>,
    clients: Arc<Clients>,
}

/// Number of connections by the client's network.
struct Clients {
    /// `None` for no limit.
    max: Option<NonZeroU32>,
    counts: Mutex<HashMap<IpAddr, u32>>,
}

/// Held as long as a connection lives, including a connection that was upgraded.
#[derive(Clone)]
pub struct ConnectionPermit(#[expect(dead_code, reason = "it is released with its last clone")] Arc<Held>);

struct Held {
    #[expect(dead_code, reason = "it is given back with the permit")]
    permit: OwnedSemaphorePermit,
    clients: Arc<Clients>,
    network: IpAddr,
}

/// The client has the maximum number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl ConnectionLimiter {
    /// `max` in total, `max_of_client` per client; 0 means no limit per client.
    pub fn new(max: u32, max_of_client: u32) -> Self {
        let clients = Clients { max: NonZeroU32::new(max_of_client), counts: Mutex::default() };
        Self { max, free: Arc::new(Semaphore::new(max as usize)), clients: Arc::new(clients) }
    }

    /// Waits until there is a place for the next connection.
    pub async fn acquire(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => unreachable!("nobody closes it"),
        }
    }

    /// Gives the place to a client that has connected, unless it has the maximum number of connections.
    pub fn take(&self, permit: OwnedSemaphorePermit, client: IpAddr) -> Result<ConnectionPermit, TooMany> {
        let network = network(client);
        let mut counts = self.clients.counts();
        let count = counts.entry(network).or_default();
        if self.clients.max.is_some_and(|max| *count >= max.get()) {
            return Err(TooMany);
        }
        *count += 1;
        drop(counts);
        Ok(ConnectionPermit(Arc::new(Held { permit, clients: Arc::clone(&self.clients), network })))
    }

    /// Waits until all places have been released.
    pub async fn all_released(&self) {
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
        let connections = ConnectionLimiter::new(10, 2);
        let client = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = connections.take(connections.acquire().await, client("2001:db8::1")).ok().unwrap();
        let second = connections.take(connections.acquire().await, client("2001:db8::2")).ok().unwrap();
        assert!(connections.take(connections.acquire().await, client("2001:db8::3")).is_err(), "one network is one client");
        let _another = connections.take(connections.acquire().await, client("2001:db8:0:100::1")).ok().unwrap();
        drop((first.clone(), second));
        let _again = connections.take(connections.acquire().await, client("2001:db8::1")).ok().unwrap();
        assert!(
            connections.take(connections.acquire().await, client("2001:db8::1")).is_err(),
            "a permit is held until its last clone is dropped"
        );
        drop(first);
        assert!(connections.take(connections.acquire().await, client("2001:db8::1")).is_ok());
    }

    #[tokio::test]
    async fn networks_without_connections_are_forgotten() {
        let connections = ConnectionLimiter::new(1, 0);
        for n in 0..100 {
            drop(connections.take(connections.acquire().await, IpAddr::from([10, 0, 0, n])).ok().unwrap());
        }
        connections.all_released().await;
        assert!(connections.clients.counts().is_empty());
    }
}
