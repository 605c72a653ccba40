//! One-time tickets, with which browsers open event streams and WebSockets.

use eventstore::Pool;

use super::caller::{Identity, new_secret, secret_hash};
use crate::ServiceError;

/// How long a ticket is valid, in seconds.
const TICKET_SEC: i32 = 30;

/// A one-time ticket that stands for `identity` for [`TICKET_SEC`] seconds.
pub async fn issue(pool: &Pool, identity: &Identity) -> Result<String, ServiceError> {
    let ticket = new_secret("");
    let caller = serde_json::to_value(identity).map_err(|e| ServiceError::internal(&e))?;
    sqlx::query!("delete from auth_tickets where expires_at < now()").execute(pool).await?;
    sqlx::query!(
        "insert into auth_tickets (ticket_hash, caller, expires_at) values ($1, $2, now() + make_interval(secs => $3))",
        secret_hash(&ticket),
        caller,
        f64::from(TICKET_SEC)
    )
    .execute(pool)
    .await?;
    Ok(ticket)
}

/// The identity that the ticket authenticates. The ticket cannot be used a second time.
pub async fn redeem(pool: &Pool, ticket: &str) -> Result<Option<Identity>, sqlx::Error> {
    let redeemed = sqlx::query!(
        r#"delete from auth_tickets where ticket_hash = $1 returning caller, expires_at > now() as "is_valid!""#,
        secret_hash(ticket)
    );
    let redeemed = redeemed.fetch_optional(pool).await?.filter(|ticket| ticket.is_valid);
    Ok(redeemed.and_then(|ticket| serde_json::from_value(ticket.caller).ok()))
}
