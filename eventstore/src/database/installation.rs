//! Whether a database has an installation, and which master key it belongs to.

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

use super::settings::{DatabaseSettings, OpenError};
use crate::persons::MasterKey;

/// Refuses a database that has no installation: one without tables or, for a process that works as the platform, one whose tables do not
/// belong to a master key yet. Changes nothing.
pub(super) async fn require_installation(owner: &PgConnectOptions, settings: &DatabaseSettings) -> Result<(), OpenError> {
    let mut connection = PgConnection::connect_with(owner).await?;
    let tables = sqlx::query!(
        r#"select to_regclass('events') is not null as "events!", to_regclass('installation') is not null as "installation!",
                  to_regclass('company_keys') is not null as "company_keys!""#
    );
    let tables = tables.fetch_one(&mut connection).await?;
    let mut has_key = false;
    if tables.installation {
        has_key = sqlx::query_scalar!(r#"select exists (select from installation) as "has_key!""#).fetch_one(&mut connection).await?;
    }
    // An installation from before this table existed has only its companies' keys.
    if tables.company_keys && !has_key {
        has_key = sqlx::query_scalar!(r#"select exists (select from company_keys) as "has_key!""#).fetch_one(&mut connection).await?;
    }
    connection.close().await?;
    let is_there = tables.events && (has_key || !settings.as_platform);
    if is_there { Ok(()) } else { Err(OpenError::NoInstallation(settings.schema.clone())) }
}

/// Refuses a master key that is not the installation's. Changes nothing, and works on a database that is not migrated yet.
pub(super) async fn require_master_key(owner: &PgConnectOptions, master: &MasterKey) -> Result<(), OpenError> {
    let mut connection = PgConnection::connect_with(owner).await?;
    let tables = sqlx::query!(
        r#"select to_regclass('installation') is not null as "installation!", to_regclass('company_keys') is not null as "company_keys!""#
    );
    let tables = tables.fetch_one(&mut connection).await?;
    let mut is_another = false;
    if tables.installation {
        let another =
            sqlx::query_scalar!(r#"select exists (select from installation where master_key_id <> $1) as "another!""#, &master.id()[..]);
        is_another = another.fetch_one(&mut connection).await?;
    }
    // An installation from before this table existed has only its companies' keys.
    if tables.company_keys && !is_another {
        let another =
            sqlx::query_scalar!(r#"select exists (select from company_keys where master_key_id <> $1) as "another!""#, &master.id()[..]);
        is_another = another.fetch_one(&mut connection).await?;
    }
    connection.close().await?;
    if is_another { Err(OpenError::OtherMasterKey) } else { Ok(()) }
}

/// Stores the master key's id if the installation has none. Of several processes that start at once with different keys, one stores its
/// own and the others are refused.
pub(super) async fn claim(owner: &PgConnectOptions, master: &MasterKey) -> Result<(), OpenError> {
    let mut connection = PgConnection::connect_with(owner).await?;
    sqlx::query!("insert into installation (master_key_id) values ($1) on conflict do nothing", &master.id()[..])
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    require_master_key(owner, master).await
}
