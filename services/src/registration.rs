//! Registering a company with its first user.

use chrono::DateTime;
use domain::{
    Personal,
    company::{Company, CompanyCommand, CompanyProfile},
    email::canonical_email,
    price::default_rates,
    price_list::{PriceList, PriceListCommand},
    role::Role,
    user::{User, UserCommand},
    validation::{FieldFault, Invalid, slug_from},
};
use eventstore::{Actor, ActorKind, now};
use uuid::Uuid;

use crate::{
    Ids, OpContext, ServiceError, Services, StateConflict,
    companies::reserve_slug,
    identity::{
        Registration, Session, UNFINISHED_MINUTES, check_password,
        credentials::{self, UserCredentials},
        hash_password, throttle,
    },
};

/// Most characters of a slug of our own making, before its suffix.
const SLUG_STEM_CHARS: usize = 70;

/// A company and its first user, as they register.
#[derive(Clone)]
pub struct NewCompany {
    pub email: String,
    pub password: String,
    pub company_name: String,
    /// `None`: made from the name.
    pub company_slug: Option<String>,
}

/// A company that has just been registered, and its first user's session.
pub struct RegisteredCompany {
    pub company_id: Uuid,
    pub profile: CompanyProfile,
    pub user_id: Uuid,
    pub email: String,
    pub role: Role,
    pub session: Session,
    /// Of the registration in the log.
    pub position: i64,
}

/// The address in its canonical form; records in `invalid` what is wrong with it.
pub(crate) fn check_email(invalid: &mut Invalid, written: &str) -> String {
    let canonical = canonical_email(written);
    invalid.require(canonical.is_some(), "email", FieldFault::NotAnAddress);
    canonical.unwrap_or_default()
}

fn validate(company: &NewCompany) -> Result<(String, CompanyProfile), Invalid> {
    let mut invalid = Invalid::default();
    let email = check_email(&mut invalid, &company.email);
    check_password(&mut invalid, "password", &company.password, Some(&email));
    let slug = company.company_slug.clone().unwrap_or_else(|| slug_from(&company.company_name));
    let profile = CompanyProfile { name: company.company_name.trim().to_owned(), slug, email: None };
    if let Err(Invalid(errors)) = profile.validate() {
        let renamed = errors.into_iter().map(|e| (format!("company_{}", e.path), e.reason));
        renamed.for_each(|(path, reason)| invalid.add(path, reason));
    }
    invalid.into_result()?;
    Ok((email, profile))
}

fn registered_already() -> ServiceError {
    ServiceError::conflict(StateConflict::AddressRegistered)
}

impl Services {
    /// Counts a registration from a network; refuses it if there were too many in the last hour. 0 per hour is no limit.
    pub async fn count_registration(&self, network: &str, per_hour: u32) -> Result<(), ServiceError> {
        throttle::count_registration(&self.identity.pool, &self.identity.master, network, per_hour).await
    }

    /// Registers a company with its first user and the price list that every company starts with.
    pub async fn register_company(&self, ids: &Ids, correlation_id: Uuid, company: NewCompany) -> Result<RegisteredCompany, ServiceError> {
        let (email, mut profile) = validate(&company)?;
        let (user_id, company_id) = (ids.make("user"), ids.make("company"));
        let (pool, email_hash) = (&self.identity.pool, credentials::email_hash(&self.identity.master, &email));
        let registration = Registration { services: self, mode: self.identity.registration };
        // Where registration is not allowed, the answer does not show which addresses are registered.
        registration.require_open(user_id).await?;
        let is_taken = async || {
            let known = credentials::user(pool, &email_hash).await?;
            Ok::<_, ServiceError>(known.is_some_and(|known| known.user_id != user_id))
        };
        // Hashing a password is work: not for an address that cannot be registered.
        if is_taken().await? {
            self.delete_unfinished_registration(&email_hash).await?;
            if is_taken().await? {
                return Err(registered_already());
            }
        }
        let user = UserCredentials::registering(user_id, company_id, hash_password(company.password).await?, now());
        if !registration.store(&email_hash, &user).await? {
            return Err(registered_already());
        }
        let actor = Actor { kind: ActorKind::User, id: Some(user_id), name: None };
        let op = OpContext::new(company_id, actor, correlation_id, ids.clone(), None);
        let mut appended = self.append_registration(&op, user_id, &email, &profile).await;
        // A slug of our own making that is taken is made longer; one that was asked for is refused.
        if matches!(appended, Err(ServiceError::Conflict(_))) && company.company_slug.is_none() {
            let stem: String = profile.slug.chars().take(SLUG_STEM_CHARS).collect();
            let suffix = ids.make("slug").simple().to_string();
            profile.slug = format!("{}-{}", stem.trim_end_matches('-'), &suffix[suffix.len() - 6..]);
            appended = self.append_registration(&op, user_id, &email, &profile).await;
        }
        let position = match appended {
            Ok(position) => position,
            Err(error) => {
                if error.is_refusal() && self.store.load_fresh::<User>(company_id, user_id).await?.version == 0 {
                    credentials::delete_pending_registration(pool, user_id).await?;
                }
                return Err(error);
            }
        };
        if !credentials::confirm_registration(pool, user_id).await? {
            return Err(ServiceError::conflict(StateConflict::RegistrationGaveWay));
        }
        let session = self.identity.sessions().open(&user).await?;
        Ok(RegisteredCompany { company_id, profile, user_id, email, role: Role::Admin, session, position })
    }

    async fn append_registration(&self, op: &OpContext, user_id: Uuid, email: &str, profile: &CompanyProfile) -> Result<i64, ServiceError> {
        let company_id = op.company_id();
        let append = self.store.transact(&op.command, |mut unit| async move {
            reserve_slug(&mut unit, &profile.slug, company_id).await?;
            unit.decide::<Company>(company_id, CompanyCommand::Register(profile.clone())).await?;
            unit.decide::<User>(user_id, UserCommand::Register { email: Personal::new(email.to_owned()), role: Role::Admin }).await?;
            let (name, effective_from) = ("Default".to_owned(), DateTime::UNIX_EPOCH);
            let list = PriceListCommand::Publish { name, effective_from, rates: default_rates() };
            unit.decide::<PriceList>(op.ids.make("price list"), list).await?;
            Ok::<_, ServiceError>((unit, ()))
        });
        Ok(append.await?.1)
    }

    /// Frees an address whose registration was cut off between its credentials and the log.
    async fn delete_unfinished_registration(&self, email_hash: &str) -> Result<(), ServiceError> {
        let pool = &self.identity.pool;
        let Some(known) = credentials::pending_registration(pool, email_hash, UNFINISHED_MINUTES).await? else { return Ok(()) };
        if self.store.load_fresh::<User>(known.company_id, known.user_id).await?.version == 0 {
            // A registration that is completed at this moment stays: then the address is taken.
            credentials::delete_pending_registration(pool, known.user_id).await?;
        }
        Ok(())
    }
}
