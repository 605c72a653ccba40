//! Passwords: Argon2id with the crate's defaults (OWASP's recommendation: 19 MiB, two passes).

use std::{sync::LazyLock, time::Duration};

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::problem::Problem;

/// New passwords wait apart from those that are checked: registrations do not delay logins.
static LOGINS: LazyLock<Lane> = LazyLock::new(|| Lane::new(cores(), Duration::from_secs(5)));
static NEW: LazyLock<Lane> = LazyLock::new(|| Lane::new(cores() / 2, Duration::from_secs(20)));

/// Passwords of one kind: so many at once, each of which takes a core and 19 MiB.
struct Lane {
    places: Semaphore,
    /// How long to wait for a place.
    patience: Duration,
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

impl Lane {
    fn new(places: usize, patience: Duration) -> Self {
        Self { places: Semaphore::new(places.max(1)), patience }
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>, Problem> {
        match tokio::time::timeout(self.patience, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Problem::unavailable("too many passwords are being checked")),
        }
    }
}

/// A PHC string of a new password, on a thread where it may take its time.
pub async fn hash_password(password: String) -> Result<String, Problem> {
    let _place = NEW.place().await?;
    let hashed = tokio::task::spawn_blocking(move || Argon2::default().hash_password(password.as_bytes()).map(|h| h.to_string())).await;
    hashed.map_err(|e| Problem::internal(&e))?.map_err(|e| Problem::internal(&e))
}

/// Whether the password is the hashed one. Without a hash it takes as long and says no: nobody learns who exists.
pub async fn verify_password(password: String, hash: Option<String>) -> Result<bool, Problem> {
    let _place = LOGINS.place().await?;
    let verified = tokio::task::spawn_blocking(move || match hash {
        Some(hash) => Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok(),
        None => {
            let _ = Argon2::default().hash_password(password.as_bytes());
            false
        }
    });
    verified.await.map_err(|e| Problem::internal(&e))
}
