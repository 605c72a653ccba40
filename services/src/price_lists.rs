//! Price lists.

use domain::price_list::{PriceList, PriceListCommand};
use uuid::Uuid;

use crate::{OpContext, ServiceError, Services, Versioned};

impl Services {
    /// Publishes a price list. It is in force from its date until the date of the next list.
    pub async fn publish_price_list(&self, op: &OpContext, list: PriceListCommand) -> Result<Versioned<()>, ServiceError> {
        let id: Uuid = op.ids.make("price_list");
        let committed = self.store.execute::<PriceList>(&op.command, id, list).await?;
        let loaded = self.store.load::<PriceList>(op.company_id(), id).await?;
        Ok(Versioned::of_committed(id, &committed, &loaded, ()))
    }
}
