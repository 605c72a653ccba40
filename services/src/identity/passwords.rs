//! Passwords: what a new one must be, and Argon2id with the crate's defaults (OWASP's recommendation: 19 MiB, two passes).

use std::{sync::LazyLock, time::Duration};

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use domain::validation::{FieldFault, Invalid};
use tokio::sync::{Semaphore, SemaphorePermit};
use zxcvbn::zxcvbn;

use crate::ServiceError;

/// Fewest and most characters of a password (NIST SP 800-63B: length is what counts).
const PASSWORD_CHARS: (usize, usize) = (8, 200);

/// A password that is found within fewer guesses is one of the commonest (OWASP ASVS 6.2.4 asks for the 3,000 commonest to be refused).
const PASSWORD_GUESSES_MIN: u64 = 10_000;
const PASSWORD_TRIED_MAX_BYTES: usize = 40;

/// Notes what is wrong with a new password; it must not be the address it belongs to.
pub fn check_password(invalid: &mut Invalid, field: &str, password: &str, email: Option<&str>) {
    let chars = password.chars().count();
    invalid.range(field, chars, PASSWORD_CHARS.0, PASSWORD_CHARS.1);
    let known: Vec<&str> = email.into_iter().flat_map(|email| email.split('@')).collect();
    // The time that it takes grows with the length; a long one is not among the commonest.
    let is_tried = chars >= PASSWORD_CHARS.0 && password.len() <= PASSWORD_TRIED_MAX_BYTES;
    let is_common = is_tried && zxcvbn(password, &known).guesses() < PASSWORD_GUESSES_MIN;
    invalid.require(!is_common, field, FieldFault::CommonPassword);
    invalid.require(!email.is_some_and(|email| email.eq_ignore_ascii_case(password)), field, FieldFault::PasswordIsAddress);
}

/// New passwords wait apart from those that are checked: registrations do not delay logins.
static LOGINS: LazyLock<Lane> = LazyLock::new(|| Lane::new(cores(), Duration::from_secs(5)));
static NEW: LazyLock<Lane> = LazyLock::new(|| Lane::new(cores() / 2, Duration::from_secs(20)));

/// Passwords of one kind: so many at once, each of which takes a core and 19 MiB.
struct Lane {
    places: Semaphore,
    /// How long to wait for a place.
    wait_max: Duration,
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

impl Lane {
    fn new(places: usize, wait_max: Duration) -> Self {
        Self { places: Semaphore::new(places.max(1)), wait_max }
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>, ServiceError> {
        match tokio::time::timeout(self.wait_max, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(ServiceError::unavailable("too many passwords are being checked")),
        }
    }
}

/// A PHC string of a new password, on a thread where it may take its time.
pub async fn hash_password(password: String) -> Result<String, ServiceError> {
    let _place = NEW.place().await?;
    let hashed = tokio::task::spawn_blocking(move || Argon2::default().hash_password(password.as_bytes()).map(|h| h.to_string())).await;
    hashed.map_err(|e| ServiceError::internal(&e))?.map_err(|e| ServiceError::internal(&e))
}

/// Whether the password is the hashed one. Without a hash it takes as long and returns false: the time does not show which users exist.
pub async fn verify_password(password: String, hash: Option<String>) -> Result<bool, ServiceError> {
    let _place = LOGINS.place().await?;
    let verified = tokio::task::spawn_blocking(move || match hash {
        Some(hash) => Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok(),
        None => {
            let _ = Argon2::default().hash_password(password.as_bytes());
            false
        }
    });
    verified.await.map_err(|e| ServiceError::internal(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "correct horse";

    /// All places of a lane that is not in use.
    fn all_places(lane: &'static LazyLock<Lane>) -> SemaphorePermit<'static> {
        let count = u32::try_from(lane.places.available_permits()).unwrap();
        lane.places.try_acquire_many(count).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn new_passwords_and_logins_wait_for_places_of_their_own() {
        let registrations = all_places(&NEW);
        assert!(hash_password(PASSWORD.to_owned()).await.is_err());
        assert!(!verify_password(PASSWORD.to_owned(), None).await.unwrap());
        drop(registrations);
        let _logins = all_places(&LOGINS);
        assert!(verify_password(PASSWORD.to_owned(), None).await.is_err());
        hash_password(PASSWORD.to_owned()).await.unwrap();
    }
}
