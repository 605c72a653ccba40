//! Keeps a skillbase from being deleted while a campaign starts on it.
//!
//! Which campaigns run on a skillbase is in a read model, and a start leaves nothing in the skillbase's stream: a deletion that has looked
//! at the read model would not notice a start that follows. So a deletion announces itself first, by reserving a name that stands for it,
//! and looks at the read model as of a later position. Every start expects the name as it has read it, and withdraws an announcement that is
//! there. The deletion expects its announcement: of a start and a deletion at the same moment the log accepts one, and the other is
//! decided again. An announcement that a refused deletion has left behind stays until the next start.

use domain::reserved_name::{NameCommand, ReservedName};
use eventstore::{CommandContext, Loaded, StoreError, Unit};
use uuid::Uuid;

use crate::{app::App, problem::Problem};

/// Id of the name that stands for the deletion of a skillbase.
fn announcement_id(company_id: Uuid, skillbase_id: Uuid) -> Uuid {
    ReservedName::id(company_id, "skillbase_deletion", &skillbase_id.to_string())
}

/// A deletion that is announced: as long as it stands, no campaign has started on the skillbase since.
pub(super) struct Announcement {
    id: Uuid,
    name: Loaded<ReservedName>,
}

impl Announcement {
    pub async fn make(app: &App, context: &CommandContext, skillbase_id: Uuid) -> Result<Self, Problem> {
        let id = announcement_id(context.company_id, skillbase_id);
        app.store.execute::<ReservedName>(context, id, NameCommand::Reserve { holder_id: skillbase_id }).await?;
        let name = app.store.load_fresh::<ReservedName>(context.company_id, id).await?;
        match name.state.holder_id {
            Some(_) => Ok(Self { id, name }),
            None => Err(StoreError::Overtaken.into()),
        }
    }

    /// Makes the unit fail if a campaign has started since.
    pub fn require(&self, unit: &mut Unit<'_>) {
        unit.hold(self.id, &self.name);
    }
}

/// Makes the unit, which starts a campaign on the skillbase, and a deletion at the same moment exclude each other.
pub(super) async fn withdraw(app: &App, unit: &mut Unit<'_>, company_id: Uuid, skillbase_id: Uuid) -> Result<(), Problem> {
    let id = announcement_id(company_id, skillbase_id);
    let name = app.store.load_fresh::<ReservedName>(company_id, id).await?;
    if name.state.holder_id.is_none() {
        unit.hold(id, &name);
        return Ok(());
    }
    let withdrawn = unit.decide::<ReservedName>(id, NameCommand::Release { holder_id: skillbase_id }).await?;
    // Another start has withdrawn it meanwhile: what this one would expect is not known.
    if withdrawn.events.is_empty() { Err(StoreError::Overtaken.into()) } else { Ok(()) }
}
