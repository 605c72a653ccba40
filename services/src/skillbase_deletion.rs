//! Prevents the deletion of a skillbase while a campaign starts on it.
//!
//! The running campaigns of a skillbase are in a read model, and a start writes no event to the skillbase's stream. A deletion that has
//! checked the read model would therefore not notice a later start. So a deletion first announces itself: it reserves a name that stands
//! for it, and then checks the read model at a later position. Every start depends on the version of the name that it has read, and
//! withdraws an existing announcement. The deletion depends on its announcement: if a start and a deletion happen at the same time, the log
//! accepts one of them, and the other is decided again. If a deletion is refused, its announcement remains until the next start.

use domain::reserved_name::{NameCommand, ReservedName};
use eventstore::{CommandContext, Loaded, StoreError, Unit};
use uuid::Uuid;

use crate::{ServiceError, Services};

/// Id of the name that stands for the deletion of a skillbase.
fn announcement_id(company_id: Uuid, skillbase_id: Uuid) -> Uuid {
    ReservedName::id(company_id, "skillbase_deletion", &skillbase_id.to_string())
}

/// An announced deletion: as long as the announcement is valid, no campaign has started on the skillbase since.
pub(crate) struct Announcement {
    id: Uuid,
    name: Loaded<ReservedName>,
}

impl Announcement {
    /// Makes the unit fail if a campaign has started since the announcement.
    pub fn require(&self, unit: &mut Unit<'_>) {
        unit.hold(self.id, &self.name);
    }
}

impl Services {
    pub(crate) async fn announce_deletion(&self, context: &CommandContext, skillbase_id: Uuid) -> Result<Announcement, ServiceError> {
        let id = announcement_id(context.company_id, skillbase_id);
        self.store.execute::<ReservedName>(context, id, NameCommand::Reserve { holder_id: skillbase_id }).await?;
        let name = self.store.load_fresh::<ReservedName>(context.company_id, id).await?;
        match name.state.holder_id {
            Some(_) => Ok(Announcement { id, name }),
            None => Err(StoreError::Overtaken.into()),
        }
    }

    /// Makes the unit, which starts a campaign on the skillbase, conflict with a concurrent deletion.
    pub(crate) async fn withdraw_deletion(&self, unit: &mut Unit<'_>, company_id: Uuid, skillbase_id: Uuid) -> Result<(), ServiceError> {
        let id = announcement_id(company_id, skillbase_id);
        let name = unit.load::<ReservedName>(id).await?;
        if name.state.holder_id.is_none() {
            unit.hold(id, &name);
        } else {
            // If another start has withdrawn the announcement meanwhile, the name's version differs from the loaded one.
            unit.decide::<ReservedName>(id, NameCommand::Release { holder_id: skillbase_id }).await?;
        }
        Ok(())
    }
}
