//! The claims in progress of a process: their slots are not deleted.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use uuid::Uuid;

/// The calls for which a process is claiming a task, with the number of these claims. Clones share them.
#[derive(Clone, Default)]
pub struct ClaimsUnderWay(Arc<Mutex<HashMap<Uuid, usize>>>);

/// One claim in progress; it ends when this is dropped, also if the claim is cancelled.
pub(crate) struct ClaimUnderWay {
    all: ClaimsUnderWay,
    call_id: Uuid,
}

impl ClaimsUnderWay {
    pub(crate) fn begin(&self, call_id: Uuid) -> ClaimUnderWay {
        *self.lock().entry(call_id).or_default() += 1;
        ClaimUnderWay { all: self.clone(), call_id }
    }

    /// Whether a claim for this call can still reach the log through this process.
    pub fn contains(&self, call_id: Uuid) -> bool {
        self.lock().contains_key(&call_id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClaimUnderWay {
    /// Ends after this delay.
    pub fn end_after(self, delay: Duration) {
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            drop(self);
        });
    }
}

impl Drop for ClaimUnderWay {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.all.lock().entry(self.call_id) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Uuid = Uuid::from_u128(1);

    #[test]
    fn a_claim_is_under_way_until_the_last_of_its_runs_ends() {
        let claims = ClaimsUnderWay::default();
        let (first, second) = (claims.begin(CALL), claims.begin(CALL));
        drop(first);
        assert!(claims.contains(CALL));
        drop(second);
        assert!(!claims.contains(CALL));
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_whose_append_may_still_land_ends_later() {
        let claims = ClaimsUnderWay::default();
        claims.begin(CALL).end_after(Duration::from_secs(10));
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(claims.contains(CALL));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!claims.contains(CALL));
    }
}
