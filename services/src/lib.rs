//! The use cases. The JSON API and the workers call the same methods of [`Services`]; these methods do not depend on HTTP.

mod api_keys;
pub mod call_list;
mod call_list_import;
mod calls;
mod campaigns;
pub mod claim_slots;
mod claims;
mod claims_under_way;
mod companies;
mod error;
pub mod identity;
mod op;
mod pacing;
mod persons;
mod price_lists;
mod read;
mod registration;
mod sessions;
mod skillbase_deletion;
mod skillbases;
pub mod stored_answers;
pub mod tables;
mod tasks;
mod users;
mod versioned;

use std::sync::Arc;

use eventstore::{EventStore, Pool, database::Access};
use projections::Positions;

pub use api_keys::IssuedApiKey;
pub use call_list_import::{CallListFile, ImportReport};
pub use calls::{NewCall, RecordedTurns};
pub use campaigns::{CampaignDetails, Counters};
pub use claims::{Claim, ClaimResult, Claimant, NothingToClaim, TaskForAgent};
pub use claims_under_way::ClaimsUnderWay;
pub use companies::CompanyChange;
pub use error::{Refused, ServiceError, StateConflict};
pub use identity::UserRef;
pub use op::{Ids, KeyedCommand, OpContext};
pub use pacing::Pacing;
pub use persons::ErasedPerson;
pub use price_lists::Withdrawal;
pub use read::Read;
pub use registration::{NewCompany, RegisteredCompany};
pub use skillbases::SkillbaseChange;
pub use users::InvitedUser;
pub use versioned::Versioned;

use identity::IdentityState;

/// How long a claim lasts without a sign of life from its call, in seconds, when outside workers claim.
pub const EXTERNAL_LEASE_SEC: u32 = 600;

/// The state that all use cases share. Clones share all fields.
#[derive(Clone)]
pub struct Services {
    pub store: EventStore,
    /// Database connections, by purpose.
    pub access: Access,
    pub positions: Positions,
    pub identity: Arc<IdentityState>,
    /// Connections for claims; they see every company.
    pub(crate) claims: Pool,
    pub(crate) claims_under_way: ClaimsUnderWay,
    /// Names of the providers that can dial; values of a campaign's `dialed_by`.
    providers: &'static [&'static str],
}

impl Services {
    pub fn new(
        store: EventStore,
        access: Access,
        positions: Positions,
        identity: IdentityState,
        providers: &'static [&'static str],
    ) -> Self {
        let claims = access.claims.clone();
        Self { store, access, positions, identity: Arc::new(identity), claims, claims_under_way: ClaimsUnderWay::default(), providers }
    }

    /// The same use cases for workers: their claims do not wait for connections behind claims over the API.
    pub fn for_workers(&self) -> Self {
        Self { claims: self.access.work.clone(), ..self.clone() }
    }

    /// Connections that can read all companies, for background work.
    pub const fn pool(&self) -> &Pool {
        &self.claims
    }

    pub const fn claims_under_way(&self) -> &ClaimsUnderWay {
        &self.claims_under_way
    }
}
