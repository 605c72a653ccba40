//! Skillbases: the configurations of bots.

use domain::{
    reserved_name::{NameCommand, NameRefusal, ReservedName},
    skillbase::{LiveSkillbase, Skillbase, SkillbaseCommand, SkillbaseConfig, SkillbaseContent},
};
use eventstore::{ExecuteError, Unit};
use projections::campaigns;
use uuid::Uuid;

use crate::{OpContext, ServiceError, Services, StateConflict, Versioned};

/// The fields of a skillbase to change; `None` keeps a field as it is.
#[derive(Clone, Debug, Default)]
pub struct SkillbaseChange {
    pub name: Option<String>,
    pub slug: Option<String>,
    pub config: Option<SkillbaseConfig>,
    pub description: Option<Option<String>>,
    pub is_active: Option<bool>,
    pub is_published: Option<bool>,
}

fn slug_id(company_id: Uuid, slug: &str) -> Uuid {
    ReservedName::id(company_id, "skillbase_slug", slug)
}

async fn reserve_slug(unit: &mut Unit<'_>, company_id: Uuid, slug: &str, holder_id: Uuid) -> Result<(), ServiceError> {
    match unit.decide::<ReservedName>(slug_id(company_id, slug), NameCommand::Reserve { holder_id }).await {
        Ok(_) => Ok(()),
        Err(ExecuteError::Refused(NameRefusal::Taken)) => Err(ServiceError::conflict(StateConflict::SkillbaseSlugTaken)),
        Err(ExecuteError::Store(error)) => Err(error.into()),
    }
}

async fn release_slug(unit: &mut Unit<'_>, company_id: Uuid, slug: &str, holder_id: Uuid) -> Result<(), ServiceError> {
    unit.decide::<ReservedName>(slug_id(company_id, slug), NameCommand::Release { holder_id }).await?;
    Ok(())
}

impl Services {
    pub async fn create_skillbase(&self, op: &OpContext, content: SkillbaseContent) -> Result<Versioned<LiveSkillbase>, ServiceError> {
        let content = SkillbaseContent { config: content.config.with_canonical_names()?, ..content };
        content.validate()?;
        let (id, content) = (op.ids.make("skillbase"), &content);
        let create = self.store.transact(&op.command, |mut unit| async move {
            reserve_slug(&mut unit, op.company_id(), &content.slug, id).await?;
            unit.decide::<Skillbase>(id, SkillbaseCommand::Create(Box::new(content.clone()))).await?;
            Ok::<_, ServiceError>((unit, ()))
        });
        let ((), position) = create.await?;
        self.skillbase(op.company_id(), id, position).await
    }

    /// Changes the given fields. The version increases, unless nothing changes; old versions stay readable.
    pub async fn update_skillbase(
        &self,
        op: &OpContext,
        id: Uuid,
        change: SkillbaseChange,
    ) -> Result<Versioned<LiveSkillbase>, ServiceError> {
        let config = change.config.map(SkillbaseConfig::with_canonical_names).transpose()?;
        let (company_id, change) = (op.company_id(), &SkillbaseChange { config, ..change });
        let update = self.store.transact(&op.command, |mut unit| async move {
            let loaded = unit.load::<Skillbase>(id).await?;
            let before = &loaded.state.require("skillbase")?.content;
            let content = SkillbaseContent {
                name: change.name.clone().unwrap_or_else(|| before.name.clone()),
                slug: change.slug.clone().unwrap_or_else(|| before.slug.clone()),
                config: change.config.clone().unwrap_or_else(|| before.config.clone()),
                description: change.description.clone().unwrap_or_else(|| before.description.clone()),
                is_active: change.is_active.unwrap_or(before.is_active),
                is_published: change.is_published.unwrap_or(before.is_published),
            };
            content.validate()?;
            loaded.require(op.expected_version)?;
            if content.slug != before.slug {
                reserve_slug(&mut unit, company_id, &content.slug, id).await?;
                release_slug(&mut unit, company_id, &before.slug, id).await?;
            }
            unit.decide::<Skillbase>(id, SkillbaseCommand::Update(Box::new(content))).await?;
            Ok::<_, ServiceError>((unit, ()))
        });
        let ((), position) = update.await?;
        self.skillbase(company_id, id, position).await
    }

    /// Deletes a skillbase, unless a running campaign uses it. Returns the position of the deletion.
    pub async fn delete_skillbase(&self, op: &OpContext, id: Uuid) -> Result<i64, ServiceError> {
        let company_id = op.company_id();
        let delete = self.store.transact(&op.command, |mut unit| async move {
            let loaded = unit.load::<Skillbase>(id).await?;
            loaded.require(op.expected_version)?;
            if let Some(LiveSkillbase { content, .. }) = loaded.state.present() {
                let announcement = self.announce_deletion(&op.command, id).await?;
                // The announcement may be from an earlier, refused deletion: the read model must include campaigns that have paused since.
                self.wait_for_log(&[campaigns::READ_MODEL]).await?;
                let mut read = self.read(company_id, &[campaigns::READ_MODEL], None).await?;
                if campaigns::runs_on(&mut read, company_id, id).await? {
                    return Err(ServiceError::conflict(StateConflict::SkillbaseInUse));
                }
                drop(read);
                announcement.require(&mut unit);
                release_slug(&mut unit, company_id, &content.slug, id).await?;
            }
            unit.decide::<Skillbase>(id, SkillbaseCommand::Delete).await?;
            Ok((unit, ()))
        });
        let ((), position) = delete.await?;
        Ok(position)
    }

    /// The skillbase, from the state of its stream, after a command that ended at `position`.
    async fn skillbase(&self, company_id: Uuid, id: Uuid, position: i64) -> Result<Versioned<LiveSkillbase>, ServiceError> {
        let loaded = self.store.load::<Skillbase>(company_id, id).await?;
        let skillbase = loaded.state.require("skillbase")?.clone();
        Ok(Versioned::of_loaded(id, &loaded, position, skillbase))
    }

    /// The version of a skillbase's configuration; `None` if the skillbase is deleted or does not exist.
    pub(crate) async fn skillbase_version(&self, company_id: Uuid, id: Option<Uuid>) -> Result<Option<u32>, eventstore::StoreError> {
        let Some(id) = id else { return Ok(None) };
        let skillbase = self.store.load_fresh::<Skillbase>(company_id, id).await?;
        Ok(skillbase.state.present().map(|live| live.version))
    }
}
