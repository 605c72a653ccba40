//! Campaigns.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    Lifecycle,
    campaign::{Campaign, CampaignCommand, CampaignSettings, CampaignStatus, LiveCampaign},
    outcome::Outcome,
    skillbase::Skillbase,
    task::{Task, TaskCommand},
    validation::{FieldFault, Invalid},
};
use eventstore::{CommandContext, CommandError as _, ExecuteError, Loaded, StoreError, now};
use projections::{
    call_tasks::{self, CampaignStatsRow},
    campaigns::{self, CountedCampaign},
};
use uuid::Uuid;

use crate::{OpContext, Pacing, ServiceError, Services, StateConflict, Versioned};

/// Maximum number of tasks that are cancelled in one step.
const CANCEL_MAX: i64 = 500;
/// Maximum number of failed tasks that are put back in one step.
const REOPEN_MAX: i64 = 500;
/// Maximum length of a campaign's name in characters.
const NAME_MAX_CHARS: usize = 200;

/// A campaign with the counts of its tasks.
#[derive(Clone, Debug)]
pub struct CampaignDetails {
    /// Of a deleted campaign: as it was before.
    pub campaign: LiveCampaign,
    pub deleted_at: Option<DateTime<Utc>>,
    pub counters: Counters,
    /// `None` as of a given time, and after a command: the read model may not have its events yet.
    pub pacing: Option<Pacing>,
}

/// The counts of a campaign's tasks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub completed_tasks: i64,
    pub failed_tasks: i64,
}

impl CampaignDetails {
    /// From a row of the read model that is at `position`.
    pub fn of_row(row: CountedCampaign, position: i64) -> Result<Versioned<Self>, ServiceError> {
        let counters = Counters { completed_tasks: row.completed_tasks, failed_tasks: row.failed_tasks };
        let deleted_at = row.campaign.deleted_at();
        Ok(Versioned::of_document(row.campaign, position)?.map(|campaign| {
            let pacing = Some(Pacing::of(&campaign, row.pacing, now()));
            Self { campaign, deleted_at, counters, pacing }
        }))
    }
}

impl Services {
    /// Creates a campaign as a draft. Its skillbase must exist.
    pub async fn create_campaign(&self, op: &OpContext, settings: CampaignSettings) -> Result<Versioned<CampaignDetails>, ServiceError> {
        settings.validate(self.providers)?;
        self.require_skillbase(op.company_id(), settings.skillbase_id).await?;
        self.add_campaign(op, settings).await
    }

    /// Creates a draft with the settings of another campaign, and no tasks.
    pub async fn clone_campaign(&self, op: &OpContext, id: Uuid, name: Option<String>) -> Result<Versioned<CampaignDetails>, ServiceError> {
        let loaded: Loaded<Campaign> = self.store.load_fresh(op.company_id(), id).await?;
        let mut settings = loaded.state.require("campaign")?.settings.clone();
        settings.name = name.unwrap_or_else(|| format!("{} (copy)", settings.name).chars().take(NAME_MAX_CHARS).collect());
        settings.validate(self.providers)?;
        self.require_campaign_skillbase(op.company_id(), settings.skillbase_id).await?;
        self.add_campaign(op, settings).await
    }

    async fn add_campaign(&self, op: &OpContext, settings: CampaignSettings) -> Result<Versioned<CampaignDetails>, ServiceError> {
        let id = op.ids.make("campaign");
        let command = CampaignCommand::Create { settings: Box::new(settings) };
        let committed = self.store.execute::<Campaign>(&op.command, id, command).await?;
        self.campaign(op.company_id(), id, committed.position).await
    }

    /// Changes a campaign's settings. `change` gets the present settings.
    pub async fn update_campaign(
        &self,
        op: &OpContext,
        id: Uuid,
        change: impl Fn(&mut CampaignSettings) -> Result<(), Invalid>,
    ) -> Result<Versioned<CampaignDetails>, ServiceError> {
        let change = &change;
        let update = self.store.transact(&op.command, |mut unit| async move {
            let loaded = unit.load::<Campaign>(id).await?;
            let campaign = loaded.state.require("campaign")?;
            let before = &campaign.settings;
            let mut settings = before.clone();
            change(&mut settings)?;
            settings.validate(self.providers)?;
            // It would cancel everything that waits. A caller's clock may be behind.
            let is_over = settings.end_time.is_some_and(|end| end < op.command.now - TimeDelta::minutes(1));
            if is_over && campaign.status == CampaignStatus::Running && settings.end_time != before.end_time {
                return Err(ServiceError::invalid("end_time", FieldFault::InPast));
            }
            if settings.skillbase_id != before.skillbase_id {
                self.require_skillbase(op.company_id(), settings.skillbase_id).await?;
            }
            loaded.require(op.expected_version)?;
            unit.decide::<Campaign>(id, CampaignCommand::Update { settings: Box::new(settings) }).await?;
            Ok::<_, ServiceError>((unit, ()))
        });
        let ((), position) = update.await?;
        self.campaign(op.company_id(), id, position).await
    }

    /// Deletes a campaign that is not running, and cancels its waiting tasks. Returns the position of the deletion.
    pub async fn delete_campaign(&self, op: &OpContext, id: Uuid) -> Result<i64, ServiceError> {
        let committed = self.store.execute_if::<Campaign>(&op.command, id, op.expected_version, CampaignCommand::Delete).await?;
        self.cancel_waiting_tasks(op.company_id(), id).await?;
        Ok(committed.position)
    }

    /// Starts a draft, or a completed campaign to which tasks were added. With `resumes`, it resumes a paused campaign.
    pub async fn start_campaign(&self, op: &OpContext, id: Uuid, resumes: bool) -> Result<Versioned<CampaignDetails>, ServiceError> {
        let command = CampaignCommand::Start { now: op.command.now, resumes };
        self.run_campaign(op, id, &["CampaignStarted", "CampaignResumed"], &command).await
    }

    /// Resumes a paused campaign.
    pub async fn resume_campaign(&self, op: &OpContext, id: Uuid) -> Result<Versioned<CampaignDetails>, ServiceError> {
        self.run_campaign(op, id, &["CampaignResumed"], &CampaignCommand::Resume { now: op.command.now }).await
    }

    /// Ends a campaign early: its waiting tasks are cancelled, no further task is claimed, and it completes when the calls in progress have
    /// ended.
    pub async fn finish_campaign(&self, op: &OpContext, id: Uuid) -> Result<Versioned<CampaignDetails>, ServiceError> {
        let committed = self.store.execute_if::<Campaign>(&op.command, id, op.expected_version, CampaignCommand::Finish).await?;
        self.cancel_waiting_tasks(op.company_id(), id).await?;
        self.campaign(op.company_id(), id, committed.position).await
    }

    /// Puts the campaign's failed tasks back whose last attempts had one of `outcomes`, or all of them if there are none. Returns how many
    /// they are, and the position of the last one.
    pub async fn retry_failed_tasks(&self, op: &OpContext, id: Uuid, outcomes: &[Outcome]) -> Result<(u64, i64), ServiceError> {
        let (company_id, now) = (op.company_id(), op.command.now);
        let campaign = self.store.load_fresh::<Campaign>(company_id, id).await?;
        campaign.state.require("campaign")?;
        let mut position = self.wait_for_log(&[call_tasks::READ_MODEL]).await?;
        let names: Vec<String> = outcomes.iter().map(Outcome::to_string).collect();
        let (mut reopened, mut before) = (0, None);
        loop {
            let mut read = self.read(company_id, &[call_tasks::READ_MODEL], None).await?;
            let failed = call_tasks::failed(&mut read, company_id, id, &names, before, REOPEN_MAX).await?;
            drop(read);
            let Some((_, last)) = failed.last() else { return Ok((reopened, position)) };
            before = Some(*last);
            let batch_id = Uuid::new_v5(&op.ids.make("reopened"), &last.to_be_bytes());
            let failed = &failed;
            let reopen = self.store.transact(&op.command, |mut unit| async move {
                let mut count = 0;
                for (task_id, _) in failed {
                    let decided = unit.decide::<Task>(*task_id, TaskCommand::Reopen { outcomes: outcomes.to_vec(), now }).await?;
                    count += u64::from(!decided.events.is_empty());
                }
                unit.decide::<Campaign>(id, CampaignCommand::ReopenTasks { batch_id, count }).await?;
                Ok::<_, ServiceError>((unit, count))
            });
            let (count, at) = reopen.await?;
            (reopened, position) = (reopened + count, position.max(at));
        }
    }

    /// Pauses a campaign: no further task is claimed; calls in progress continue.
    pub async fn pause_campaign(&self, op: &OpContext, id: Uuid) -> Result<Versioned<CampaignDetails>, ServiceError> {
        let committed = self.store.execute_if::<Campaign>(&op.command, id, op.expected_version, CampaignCommand::Pause).await?;
        self.campaign(op.company_id(), id, committed.position).await
    }

    /// Starts or resumes a campaign, which appends an event of one of these types. Its skillbase must exist and must not be in deletion; the append checks both.
    async fn run_campaign(
        &self,
        op: &OpContext,
        id: Uuid,
        event_types: &[&str],
        command: &CampaignCommand,
    ) -> Result<Versioned<CampaignDetails>, ServiceError> {
        let company_id = op.company_id();
        for event_type in event_types {
            if let Some(position) = self.store.recorded_before::<Campaign>(&op.command, id, &[(*event_type).to_owned()]).await? {
                return self.campaign(company_id, id, position).await;
            }
        }
        let run = self.store.transact(&op.command, |mut unit| async move {
            unit.require::<Campaign>(id, op.expected_version).await?;
            let decided = unit.decide::<Campaign>(id, command.clone()).await?;
            let skillbase_id = decided.state.require("campaign")?.settings.skillbase_id;
            let skillbase = self.require_campaign_skillbase(company_id, skillbase_id).await?;
            if !skillbase.state.require("skillbase")?.content.is_active {
                return Err(ServiceError::conflict(StateConflict::SkillbaseInactive));
            }
            unit.hold(skillbase_id, &skillbase);
            self.withdraw_deletion(&mut unit, company_id, skillbase_id).await?;
            Ok::<_, ServiceError>((unit, ()))
        });
        let ((), position) = run.await?;
        self.campaign(company_id, id, position).await
    }

    /// The campaign, from the state of its stream, after a command that ended at `position`.
    async fn campaign(&self, company_id: Uuid, id: Uuid, position: i64) -> Result<Versioned<CampaignDetails>, ServiceError> {
        let loaded: Loaded<Campaign> = self.store.load(company_id, id).await?;
        let campaign = loaded.state.require("campaign")?.clone();
        let mut read = self.read_by_key(company_id, call_tasks::STATS_READS, None).await?;
        let row = call_tasks::campaign_stats(&mut read, company_id, id).await?;
        let row = row.unwrap_or_default();
        let counters = Counters { completed_tasks: row.completed, failed_tasks: row.failed };
        // The counts may not include the command.
        Ok(Versioned::of_loaded(id, &loaded, position, CampaignDetails { campaign, deleted_at: None, counters, pacing: None }))
    }

    /// The campaign as of a given time, from the events that were recorded until then.
    pub async fn campaign_as_of(
        &self,
        company_id: Uuid,
        id: Uuid,
        moment: DateTime<Utc>,
    ) -> Result<Versioned<CampaignDetails>, ServiceError> {
        let loaded: Loaded<Campaign> = self.store.load_as_of(company_id, id, moment).await?;
        let campaign = loaded.state.require("campaign at that moment")?.clone();
        // The time may be the present: the rows of the tasks must include all events of the log.
        let position = self.wait_for_log(campaigns::READS).await?;
        let mut read = self.read(company_id, campaigns::READS, None).await?;
        let results = call_tasks::results_as_of(&mut read, company_id, id, moment).await?;
        drop(read);
        let failed_then =
            self.store.count_streams_in::<Task>(company_id, &results.maybe_failed, ["TaskFailed", "TaskReopened"], moment).await?;
        let counters = Counters { completed_tasks: results.completed, failed_tasks: results.failed + failed_then };
        Ok(Versioned::of_loaded(id, &loaded, position, CampaignDetails { campaign, deleted_at: None, counters, pacing: None }))
    }

    /// The statistics of a campaign as of a given time, and the position of the read models that name its tasks and calls.
    pub async fn campaign_stats_as_of(
        &self,
        company_id: Uuid,
        id: Uuid,
        moment: DateTime<Utc>,
    ) -> Result<(CampaignStatsRow, i64), ServiceError> {
        if self.store.load_as_of::<Campaign>(company_id, id, moment).await?.version == 0 {
            return Err(ServiceError::not_found("campaign at that moment"));
        }
        let (mut read, as_of) = self.snapshot_as_of(company_id, call_tasks::STATS_AS_OF_READS, moment).await?;
        Ok((call_tasks::campaign_stats_as_of(&mut read, company_id, id, as_of).await?, read.position))
    }

    /// A field `campaign_id` must name a campaign of the company; it may be deleted.
    pub async fn require_known_campaign(&self, company_id: Uuid, id: Uuid) -> Result<(), ServiceError> {
        match self.store.load::<Campaign>(company_id, id).await {
            Ok(loaded) if loaded.version > 0 => Ok(()),
            Ok(_) | Err(StoreError::OtherCompany(_)) => {
                Err(ServiceError::invalid("campaign_id", FieldFault::Unknown { what: "campaign".to_owned() }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The skillbase of a campaign must belong to the same company.
    async fn require_skillbase(&self, company_id: Uuid, id: Uuid) -> Result<(), ServiceError> {
        let is_there = match self.store.load_fresh::<Skillbase>(company_id, id).await {
            Ok(loaded) => loaded.state.present().is_some(),
            Err(StoreError::OtherCompany(_)) => false,
            Err(error) => return Err(error.into()),
        };
        if is_there { Ok(()) } else { Err(ServiceError::invalid("skillbase_id", FieldFault::Unknown { what: "skillbase".to_owned() })) }
    }

    /// The skillbase of a campaign; a conflict if it is deleted.
    async fn require_campaign_skillbase(&self, company_id: Uuid, id: Uuid) -> Result<Loaded<Skillbase>, ServiceError> {
        let skillbase = self.store.load_fresh::<Skillbase>(company_id, id).await?;
        match skillbase.state.present() {
            Some(_) => Ok(skillbase),
            None => Err(ServiceError::conflict(StateConflict::SkillbaseDeleted)),
        }
    }

    /// Cancels the waiting tasks of a campaign that is deleted, or that is running and has passed its end time, as far as the read model
    /// has them.
    pub async fn cancel_waiting_tasks(&self, company_id: Uuid, campaign_id: Uuid) -> Result<(), StoreError> {
        let loaded = self.store.load_fresh::<Campaign>(company_id, campaign_id).await?;
        let reason = match loaded.state.as_ref() {
            Lifecycle::Deleted => "campaign deletion",
            Lifecycle::Present(campaign) if campaign.is_over(now()) => "campaign end",
            Lifecycle::Present(_) | Lifecycle::None => return Ok(()),
        };
        let context = CommandContext::system(company_id, reason, now());
        let mut unit = self.store.unit(&context);
        if *loaded.state != Lifecycle::Deleted {
            // Another command may move the end time at this moment.
            unit.hold(campaign_id, &loaded);
        }
        for task_id in call_tasks::waiting_of(&self.claims, campaign_id, CANCEL_MAX).await? {
            match unit.decide::<Task>(task_id, TaskCommand::Cancel).await {
                Ok(_) | Err(ExecuteError::Refused(_)) => {}
                Err(ExecuteError::Store(error)) => return Err(error),
            }
        }
        match unit.commit().await {
            Ok(_) => Ok(()),
            // One of the tasks, or the campaign, has changed meanwhile: the next round of housekeeping checks it.
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
