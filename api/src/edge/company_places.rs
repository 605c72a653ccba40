//! A limited number of places per company: for its reads, uploads, bodies and streams.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

#[derive(Debug)]
pub struct CompanyPlaces {
    of_each: usize,
    companies: Mutex<HashMap<Uuid, Arc<Semaphore>>>,
}

impl CompanyPlaces {
    pub fn new(of_each: usize) -> Self {
        Self { of_each, companies: Mutex::default() }
    }

    /// The company's places.
    pub fn of(&self, company_id: Uuid) -> Arc<Semaphore> {
        let mut companies = self.companies.lock().unwrap_or_else(PoisonError::into_inner);
        // Companies whose places are all free are removed when another company is added.
        if !companies.contains_key(&company_id) {
            companies.retain(|_, places| Arc::strong_count(places) > 1);
        }
        Arc::clone(companies.entry(company_id).or_insert_with(|| Arc::new(Semaphore::new(self.of_each))))
    }

    /// Acquires a place of the company as soon as one is free; `None` if that takes longer than `wait_max`.
    pub async fn take(&self, company_id: Uuid, wait_max: Duration) -> Option<OwnedSemaphorePermit> {
        take_in_time(self.of(company_id), 1, wait_max).await
    }

    /// Acquires a place of the company if one is free.
    pub fn try_take(&self, company_id: Uuid) -> Option<OwnedSemaphorePermit> {
        self.of(company_id).try_acquire_owned().ok()
    }
}

/// Acquires `count` places at once; `None` if that takes longer than `wait_max`.
pub async fn take_in_time(places: Arc<Semaphore>, count: u32, wait_max: Duration) -> Option<OwnedSemaphorePermit> {
    tokio::time::timeout(wait_max, places.acquire_many_owned(count)).await.ok().and_then(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_company_waits_for_its_own_places_only() {
        let places = CompanyPlaces::new(1);
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let held = places.take(one, Duration::from_secs(5)).await;
        assert!(held.is_some() && places.take(one, Duration::from_secs(5)).await.is_none());
        assert!(places.try_take(one).is_none() && places.try_take(other).is_some());
        drop(held);
        assert!(places.try_take(one).is_some());
    }

    #[test]
    fn companies_without_a_taken_place_are_removed() {
        let places = CompanyPlaces::new(2);
        for company in 0..100 {
            drop(places.try_take(Uuid::from_u128(company)));
        }
        assert_eq!(places.companies.lock().unwrap().len(), 1);
    }
}
