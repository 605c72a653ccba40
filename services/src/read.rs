use std::ops::{Deref, DerefMut};

use chrono::{DateTime, Utc};
use projections::{ReadModel, WAIT_MAX, analytics::AsOf};
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use crate::{ServiceError, Services};

/// A transaction that can read the rows of one company only. Queries of the read models use it as their connection.
pub struct Read {
    transaction: Transaction<'static, Postgres>,
    /// Position of the slowest of the read models.
    pub position: i64,
}

impl Deref for Read {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for Read {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

impl Services {
    /// Waits until the read models have reached `min_position`, if one is given, and begins to read them.
    pub async fn read(&self, company_id: Uuid, models: &[ReadModel], min_position: Option<i64>) -> Result<Read, ServiceError> {
        let position = self.wait_for(models, min_position).await?;
        Ok(Read { transaction: self.access.company(company_id).await?, position })
    }

    /// Waits like [`Self::read`]. For queries of single rows by key: PostgreSQL keeps their plans.
    pub async fn read_by_key(&self, company_id: Uuid, models: &[ReadModel], min_position: Option<i64>) -> Result<Read, ServiceError> {
        let position = self.wait_for(models, min_position).await?;
        Ok(Read { transaction: self.access.company_by_key(company_id).await?, position })
    }

    /// Waits like [`Self::read`] and begins a snapshot that does not change while events are projected or tables rebuilt: for queries with
    /// several statements.
    pub async fn snapshot(&self, company_id: Uuid, models: &[ReadModel], min_position: Option<i64>) -> Result<Read, ServiceError> {
        let position = self.wait_for(models, min_position).await?;
        Ok(Read { transaction: projections::snapshot(&self.access, Some(company_id), models).await?, position })
    }

    /// Begins a snapshot for answers as of a time in the past: the read models have every event that was recorded until then.
    pub async fn snapshot_as_of(
        &self,
        company_id: Uuid,
        models: &[ReadModel],
        moment: DateTime<Utc>,
    ) -> Result<(Read, AsOf), ServiceError> {
        let position = self.store.position_as_of(moment).await?;
        let read = self.snapshot(company_id, models, Some(position)).await?;
        Ok((read, AsOf { moment, position }))
    }

    /// Waits until the read models have reached `min_position`; returns the position of the slowest one. A position beyond the end of the
    /// log is refused at once.
    pub async fn wait_for(&self, models: &[ReadModel], min_position: Option<i64>) -> Result<i64, ServiceError> {
        let Some(position) = min_position else { return Ok(self.positions.lowest(models)) };
        if position > self.store.head().position() && position > self.store.last_position().await? {
            let last = self.store.head().position();
            return Err(ServiceError::Unavailable(format!("min_position {position} is beyond the log, which ends at {last}")));
        }
        Ok(self.positions.reached(models, position, WAIT_MAX).await?)
    }

    /// Waits until the read models have all events that are in the log now.
    pub async fn wait_for_log(&self, models: &[ReadModel]) -> Result<i64, ServiceError> {
        self.wait_for(models, Some(self.store.last_position().await?)).await
    }
}
