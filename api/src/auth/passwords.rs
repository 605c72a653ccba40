//! Passwords: Argon2id with the crate's defaults (OWASP's recommendation: 19 MiB, two passes).

use argon2::{Argon2, PasswordHasher, PasswordVerifier};

use crate::problem::Problem;

/// A PHC string of the password, on a thread where it may take its time.
pub async fn hash_password(password: String) -> Result<String, Problem> {
    let hashed = tokio::task::spawn_blocking(move || Argon2::default().hash_password(password.as_bytes()).map(|h| h.to_string())).await;
    hashed.map_err(|e| Problem::internal(&e))?.map_err(|e| Problem::internal(&e))
}

/// Whether the password is the hashed one. Without a hash it takes as long and says no: nobody learns who exists.
pub async fn verify_password(password: String, hash: Option<String>) -> Result<bool, Problem> {
    let verified = tokio::task::spawn_blocking(move || match hash {
        Some(hash) => Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok(),
        None => {
            let _ = Argon2::default().hash_password(password.as_bytes());
            false
        }
    });
    verified.await.map_err(|e| Problem::internal(&e))
}
