//! Price lists.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use domain::{
    price::Rate,
    price_list::{PriceList, PriceListCommand},
};
use projections::{
    analytics::Scope,
    cost_rollups::{self, UsageFrom},
    price_lists,
};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::{OpContext, ServiceError, Services, StateConflict, Versioned};

/// Most price lists that a company can have, apart from some that are published at the same moment.
const PRICE_LISTS_MAX: i64 = 500;

/// What a price list changes.
#[derive(Clone, Debug, Default)]
pub struct Repricing {
    /// Calls that began in the list's period until now.
    pub calls: u64,
    pub cost_before: Decimal,
    pub cost_after: Decimal,
}

impl Services {
    /// What a price list would change: the calls that began in its period, which ends at the date of the next list.
    pub async fn repricing(&self, company_id: Uuid, effective_from: DateTime<Utc>, rates: &[Rate]) -> Result<Repricing, ServiceError> {
        if effective_from >= eventstore::now() {
            return Ok(Repricing::default());
        }
        self.wait_for_log(&[cost_rollups::READ_MODEL]).await?;
        let mut read = self.read(company_id, &[price_lists::READ_MODEL], None).await?;
        let to = price_lists::next_date(&mut read, company_id, effective_from).await?;
        drop(read);
        let scope = Scope { company_id, campaign_id: None, skillbase_id: None, from: Some(effective_from), to, timezone: Tz::UTC };
        let found = cost_rollups::what_if(&self.access, &scope, rates, UsageFrom::Ledger, |_| ()).await;
        let found = found.map_err(|error| ServiceError::internal(&error))?;
        Ok(Repricing { calls: found.calls, cost_before: found.actual.total(), cost_after: found.other.total() })
    }

    /// Publishes a price list. It is in force from its date until the date of the next list. A list for the past waits until the costs
    /// include the log: the calls in its period are priced again, by the projector that all companies share, and each company can have one
    /// such list that is not applied yet.
    pub async fn publish_price_list(
        &self,
        op: &OpContext,
        name: String,
        effective_from: DateTime<Utc>,
        rates: Vec<Rate>,
    ) -> Result<Versioned<()>, ServiceError> {
        let mut read = self.read(op.company_id(), &[price_lists::READ_MODEL], None).await?;
        let count = price_lists::count(&mut read, op.company_id()).await?;
        drop(read);
        if count >= PRICE_LISTS_MAX {
            return Err(ServiceError::conflict(StateConflict::TooManyPriceLists { max: PRICE_LISTS_MAX }));
        }
        if effective_from < op.command.now {
            self.wait_for_log(&[cost_rollups::READ_MODEL]).await?;
        }
        let id: Uuid = op.ids.make("price_list");
        let committed = self.store.execute::<PriceList>(&op.command, id, PriceListCommand::Publish { name, effective_from, rates }).await?;
        let loaded = self.store.load::<PriceList>(op.company_id(), id).await?;
        Ok(Versioned::of_committed(id, &committed, &loaded, ()))
    }
}
