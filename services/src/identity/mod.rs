//! Authenticates callers: users with passwords and sessions, API keys, tickets, tokens. It limits guesses, and sends its own SQL.

pub mod api_keys;
mod caller;
mod callers;
pub mod credentials;
pub mod operators;
mod passwords;
mod registration;
pub mod sessions;
pub mod throttle;
pub mod tickets;
pub mod tokens;

use eventstore::{MasterKey, Pool};

pub use caller::{API_KEY_PREFIX, Identity, new_secret, secret_hash};
pub use callers::Callers;
pub use passwords::{check_password, hash_password, verify_password};
pub use registration::RegistrationMode;
pub(crate) use registration::{Registration, UNFINISHED_MINUTES};
pub use sessions::{Session, Sessions};

/// What use cases of identity share.
pub struct IdentityState {
    pub pool: Pool,
    pub master: MasterKey,
    pub tokens: tokens::Tokens,
    pub callers: Callers,
    pub slow_attempts: throttle::SlowAttempts,
    pub registration: RegistrationMode,
}

impl IdentityState {
    /// Loads the signing keys. A token is valid for `token_minutes`.
    pub async fn load(pool: Pool, master: MasterKey, token_minutes: u32, registration: RegistrationMode) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tokens: tokens::Tokens::load(&pool, &master, token_minutes).await?,
            callers: Callers::new(pool.clone()),
            slow_attempts: throttle::SlowAttempts::default(),
            pool,
            master,
            registration,
        })
    }

    pub const fn sessions(&self) -> Sessions<'_> {
        Sessions { pool: &self.pool, tokens: &self.tokens, callers: &self.callers }
    }
}

/// A user, by company and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRef {
    pub company_id: uuid::Uuid,
    pub user_id: uuid::Uuid,
}
