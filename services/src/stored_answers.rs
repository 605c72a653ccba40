//! Answers that are stored under idempotency keys and may hold personal data.

use eventstore::database::Access;
use uuid::Uuid;

/// Prefixes of the paths whose answers may hold personal data.
pub const ABOUT_PERSONS: [&str; 3] = ["/calls", "/tasks", "/campaigns"];

/// Deletes a company's stored answers that may hold personal data. The idempotency keys are kept: a repeated request finds its effect.
pub(crate) async fn forget(access: &Access, company_id: Uuid) -> Result<(), sqlx::Error> {
    let mut tx = access.company(company_id).await?;
    sqlx::query!(
        "update idempotency_keys set status = null, sealed_answer = null, locked_until = '-infinity'
          where company_id = $1 and status is not null and exists (select from unnest($2::text[]) start where starts_with(path, start))",
        company_id,
        &ABOUT_PERSONS as &[&str]
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}
