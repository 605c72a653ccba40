//! The company's profile.

use domain::{
    company::{Company, CompanyCommand, CompanyProfile},
    reserved_name::{NameCommand, NameRefusal, ReservedName},
};
use eventstore::{ExecuteError, StoreError, Unit};
use uuid::Uuid;

use crate::{OpContext, ServiceError, Services, StateConflict, Versioned};

/// The fields of a company to change; `None` keeps a field as it is.
#[derive(Clone, Debug, Default)]
pub struct CompanyChange {
    pub name: Option<String>,
    pub slug: Option<String>,
    pub email: Option<Option<String>>,
}

fn slug_id(slug: &str) -> Uuid {
    ReservedName::id(Uuid::nil(), "company_slug", slug)
}

/// Reserves a slug for a company. A slug belongs to the company that reserved it first; others do not learn which company that is.
pub(crate) async fn reserve_slug(unit: &mut Unit<'_>, slug: &str, company_id: Uuid) -> Result<(), ServiceError> {
    match unit.decide::<ReservedName>(slug_id(slug), NameCommand::Reserve { holder_id: company_id }).await {
        Ok(_) => Ok(()),
        Err(ExecuteError::Refused(NameRefusal::Taken) | ExecuteError::Store(StoreError::OtherCompany(_))) => {
            Err(ServiceError::conflict(StateConflict::CompanySlugTaken))
        }
        Err(ExecuteError::Store(error)) => Err(error.into()),
    }
}

impl Services {
    /// Changes the given fields of the caller's company.
    pub async fn update_company(&self, op: &OpContext, change: CompanyChange) -> Result<Versioned<CompanyProfile>, ServiceError> {
        let (company_id, change) = (op.company_id(), &change);
        let update = self.store.transact(&op.command, |mut unit| async move {
            let loaded = unit.load::<Company>(company_id).await?;
            let before = loaded.state.require("company")?;
            let profile = CompanyProfile {
                name: change.name.clone().unwrap_or_else(|| before.name.clone()),
                slug: change.slug.clone().unwrap_or_else(|| before.slug.clone()),
                email: change.email.clone().unwrap_or_else(|| before.email.clone()),
            };
            profile.validate()?;
            loaded.require(op.expected_version)?;
            if profile.slug != before.slug {
                reserve_slug(&mut unit, &profile.slug, company_id).await?;
                unit.decide::<ReservedName>(slug_id(&before.slug), NameCommand::Release { holder_id: company_id }).await?;
            }
            let decided = unit.decide::<Company>(company_id, CompanyCommand::Update(profile.clone())).await?;
            Ok::<_, ServiceError>((unit, Versioned::of_committed(company_id, &decided, &loaded, profile)))
        });
        let (updated, position) = update.await?;
        Ok(Versioned { position, ..updated })
    }
}
