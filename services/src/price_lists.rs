//! Price lists.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    price::{Component, Rate, without_rate},
    price_list::{PriceList, PriceListCommand},
};
use projections::{
    ApplyError,
    cost_rollups::{self, ListChange, Repriced},
    price_lists,
};
use uuid::Uuid;

use crate::{OpContext, ServiceError, Services, StateConflict, Versioned};

/// Most price lists that a company can have, apart from some that are published at the same moment.
const PRICE_LISTS_MAX: i64 = 500;

/// Maximum time to compute what a price list changes.
const REPRICING_MAX: Duration = Duration::from_secs(15);

/// What the withdrawal of a price list changes.
#[derive(Clone, Debug, Default)]
pub struct Withdrawal {
    /// `None` if the calls are too many, or the list is withdrawn already.
    pub reprices: Option<Repriced>,
    /// Components for which the list that takes its place has no rate; all of them if there is no such list.
    pub unpriced: Vec<Component>,
}

impl Services {
    /// What a price list would change. Refuses what publishing it would refuse.
    pub async fn try_price_list(&self, company_id: Uuid, effective_from: DateTime<Utc>, rates: &[Rate]) -> Result<Repriced, ServiceError> {
        self.require_free_price_list(company_id).await?;
        self.repriced(company_id, ListChange::Publish { effective_from, rates }).await?.ok_or_else(too_many_calls)
    }

    /// What the withdrawal of a price list would change. Refuses a list that is not there, or is withdrawn already.
    pub async fn try_withdrawal(&self, company_id: Uuid, id: Uuid) -> Result<Withdrawal, ServiceError> {
        let loaded = self.store.load::<PriceList>(company_id, id).await?;
        let effective_from = loaded.state.require("price list")?.effective_from;
        let withdrawal = self.withdrawal(company_id, id, effective_from).await?;
        if withdrawal.reprices.is_none() { Err(too_many_calls()) } else { Ok(withdrawal) }
    }

    /// What the withdrawal of a list with this date changes.
    async fn withdrawal(&self, company_id: Uuid, id: Uuid, effective_from: DateTime<Utc>) -> Result<Withdrawal, ServiceError> {
        self.wait_for_log(&[price_lists::READ_MODEL]).await?;
        let mut read = self.read(company_id, &[price_lists::READ_MODEL], None).await?;
        let in_force = price_lists::in_force(&mut read, company_id, effective_from, None).await?;
        if in_force.is_none_or(|list| list.price_list_id != id) {
            // Another list with the same date was published later.
            return Ok(Withdrawal { reprices: Some(Repriced::default()), unpriced: Vec::new() });
        }
        let before = price_lists::in_force(&mut read, company_id, effective_from, Some(id)).await?;
        drop(read);
        let rates: Vec<Rate> = match before {
            Some(list) => serde_json::from_value(list.rates).map_err(|error| ServiceError::internal(&error))?,
            None => Vec::new(),
        };
        let reprices = self.repriced(company_id, ListChange::Withdraw { price_list_id: id }).await?;
        Ok(Withdrawal { reprices, unpriced: without_rate(&rates) })
    }

    /// What the change would change in bills; `None` if the calls are too many to price them in time.
    async fn repriced(&self, company_id: Uuid, change: ListChange<'_>) -> Result<Option<Repriced>, ServiceError> {
        if matches!(change, ListChange::Publish { effective_from, .. } if effective_from >= eventstore::now()) {
            return Ok(Some(Repriced::default()));
        }
        self.wait_for_log(&[cost_rollups::READ_MODEL]).await?;
        match tokio::time::timeout(REPRICING_MAX, cost_rollups::preview(&self.access, company_id, change)).await {
            // The list can be published although a call that it reprices has events in a detached partition.
            Ok(Err(ApplyError::Detached { .. })) | Err(_) => Ok(None),
            Ok(repriced) => Ok(Some(repriced?)),
        }
    }

    async fn require_free_price_list(&self, company_id: Uuid) -> Result<(), ServiceError> {
        let mut read = self.read(company_id, &[price_lists::READ_MODEL], None).await?;
        if price_lists::count(&mut read, company_id).await? >= PRICE_LISTS_MAX {
            return Err(ServiceError::conflict(StateConflict::TooManyPriceLists { max: PRICE_LISTS_MAX }));
        }
        Ok(())
    }

    /// Publishes a price list. It is in force from its date until the date of the next list. A list for the past waits until the costs
    /// include the log: the calls in its period are priced again, by the projector that all companies share, and each company can have one
    /// such list that is not applied yet. Returns what the list changes as well, unless the calls are too many, or the command is repeated:
    /// the costs may include the list already then.
    pub async fn publish_price_list(
        &self,
        op: &OpContext,
        name: String,
        effective_from: DateTime<Utc>,
        rates: Vec<Rate>,
    ) -> Result<(Versioned<()>, Option<Repriced>), ServiceError> {
        let id: Uuid = op.ids.make("price_list");
        let is_repeated = self.store.load::<PriceList>(op.company_id(), id).await?.state.present().is_some();
        let mut reprices = None;
        if !is_repeated {
            self.require_free_price_list(op.company_id()).await?;
            reprices = self.repriced(op.company_id(), ListChange::Publish { effective_from, rates: &rates }).await?;
        }
        if effective_from < op.command.now {
            self.wait_for_log(&[cost_rollups::READ_MODEL]).await?;
        }
        let committed = self.store.execute::<PriceList>(&op.command, id, PriceListCommand::Publish { name, effective_from, rates }).await?;
        let loaded = self.store.load::<PriceList>(op.company_id(), id).await?;
        Ok((Versioned::of_committed(id, &committed, &loaded, ()), reprices))
    }

    /// Withdraws a price list: the list before it is in force in its period. Waits and returns like [`Self::publish_price_list`]. A list that
    /// is withdrawn already stays withdrawn.
    pub async fn withdraw_price_list(&self, op: &OpContext, id: Uuid) -> Result<Versioned<Withdrawal>, ServiceError> {
        let company_id = op.company_id();
        let published = self.store.load::<PriceList>(company_id, id).await?;
        let mut withdrawal = Withdrawal::default();
        if let Some(list) = published.state.present() {
            withdrawal = self.withdrawal(company_id, id, list.effective_from).await?;
            self.wait_for_log(&[cost_rollups::READ_MODEL]).await?;
        }
        let committed = self.store.execute_if::<PriceList>(&op.command, id, op.expected_version, PriceListCommand::Withdraw).await?;
        let loaded = self.store.load::<PriceList>(company_id, id).await?;
        Ok(Versioned::of_committed(id, &committed, &loaded, withdrawal))
    }
}

fn too_many_calls() -> ServiceError {
    ServiceError::Unavailable("the list's period has too many calls to price them in time".to_owned())
}
