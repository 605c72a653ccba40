//! A campaign: which people a bot calls, when and how often. Its tasks are separate streams.

pub mod settings;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use settings::CampaignSettings;

use crate::{Coded, Decider, DomainEvent, Lifecycle, Refusal, RefusalKind, decider::STATE_BYTES};

/// These names are part of the storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum CampaignEvent {
    CampaignCreated {
        settings: Box<CampaignSettings>,
    },
    CampaignUpdated {
        settings: Box<CampaignSettings>,
    },
    /// A part of a call list was added: `count` tasks were created in the same append.
    TasksAdded {
        import_id: Uuid,
        count: u64,
    },
    /// The company put failed tasks back: `count` tasks wait again, in the same append.
    TasksReopened {
        batch_id: Uuid,
        count: u64,
    },
    /// A whole call list has been read. `errors` has the first problems that were found in rows, without the rows' content.
    CallListImported {
        import_id: Uuid,
        file_name: String,
        total: u64,
        created: u64,
        error_count: u64,
        errors: Vec<String>,
    },
    CampaignStarted {},
    CampaignPaused {},
    CampaignResumed {},
    /// The company ends the campaign early: what waits is cancelled, attempts in progress end.
    CampaignFinished {},
    /// No task is left to do.
    CampaignCompleted {},
    CampaignDeleted {},
}

impl DomainEvent for CampaignEvent {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CampaignStatus {
    Draft,
    Running,
    Paused,
    Completed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveCampaign {
    pub settings: CampaignSettings,
    pub status: CampaignStatus,
    pub total_tasks: u64,
    /// Tasks that were added or put back since the campaign was last completed.
    pub tasks_since_completion: u64,
    pub imports: Vec<Uuid>,
    /// Whether the company has ended the campaign and attempts are still in progress.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_finishing: bool,
    /// The last batch of failed tasks that were put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reopened: Option<Uuid>,
}

#[derive(Clone, Debug)]
pub enum CampaignCommand {
    Create {
        settings: Box<CampaignSettings>,
    },
    Update {
        settings: Box<CampaignSettings>,
    },
    AddTasks {
        import_id: Uuid,
        count: u64,
    },
    FinishImport {
        import_id: Uuid,
        file_name: String,
        total: u64,
        created: u64,
        error_count: u64,
        errors: Vec<String>,
    },
    Start {
        now: DateTime<Utc>,
        /// Whether a paused campaign is resumed; otherwise it is refused.
        resumes: bool,
    },
    Pause,
    Resume {
        now: DateTime<Utc>,
    },
    Finish,
    /// Failed tasks of the campaign are put back in the same append.
    ReopenTasks {
        batch_id: Uuid,
        count: u64,
    },
    /// A process sends this command when it finds no task left; the values are those of the campaign at that moment.
    Complete {
        total_tasks: u64,
        last_reopened: Option<Uuid>,
    },
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CampaignRefusal {
    #[error("there is no such campaign")]
    Unknown,
    #[error("this campaign exists already, with other settings")]
    CreatedAlready,
    #[error("the campaign is running")]
    Running,
    #[error("the campaign is finishing: its attempts in progress end, and no other begins")]
    Finishing,
    #[error("the campaign is paused; resume it")]
    Paused,
    #[error("the campaign is a draft; start it first")]
    Draft,
    #[error("the campaign is completed; add contacts or put failed tasks back to start it again")]
    Completed,
    #[error("the campaign has no tasks; upload a call list first")]
    NoTasks,
    #[error("the campaign's end_time has passed; set a later one first")]
    Over,
    #[error("it cannot change while the campaign runs; name, description, end_time, max_concurrent_calls and calls_per_minute can")]
    FixedWhileRunning { field: &'static str },
}

impl Coded for CampaignRefusal {
    const AREA: &'static str = "campaign";
}

impl Refusal for CampaignRefusal {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound("campaign"),
            Self::FixedWhileRunning { field } => RefusalKind::ConflictAt((*field).to_owned()),
            _ => RefusalKind::Conflict,
        }
    }
}

pub struct Campaign;

impl Decider for Campaign {
    const CATEGORY: &'static str = "campaign";
    type State = Lifecycle<LiveCampaign>;
    type Event = CampaignEvent;
    type Command = CampaignCommand;
    type Refusal = CampaignRefusal;

    fn evolve(state: &mut Lifecycle<LiveCampaign>, event: &CampaignEvent) {
        use CampaignEvent as E;
        if let E::CampaignCreated { settings } = event {
            let settings = settings.as_ref().clone();
            *state = Lifecycle::new(LiveCampaign {
                settings,
                status: CampaignStatus::Draft,
                total_tasks: 0,
                tasks_since_completion: 0,
                imports: Vec::new(),
                is_finishing: false,
                last_reopened: None,
            });
        }
        let Some(campaign) = state.present_mut() else { return };
        match event {
            E::CampaignCreated { .. } => {}
            E::CampaignUpdated { settings } => campaign.settings = settings.as_ref().clone(),
            E::TasksAdded { count, .. } => {
                campaign.total_tasks += count;
                campaign.tasks_since_completion += count;
            }
            E::TasksReopened { batch_id, count } => {
                campaign.tasks_since_completion += count;
                campaign.last_reopened = Some(*batch_id);
            }
            E::CallListImported { import_id, .. } => campaign.imports.push(*import_id),
            E::CampaignStarted {} | E::CampaignResumed {} => campaign.status = CampaignStatus::Running,
            E::CampaignFinished {} => (campaign.status, campaign.is_finishing) = (CampaignStatus::Running, true),
            E::CampaignPaused {} => campaign.status = CampaignStatus::Paused,
            E::CampaignCompleted {} => {
                (campaign.status, campaign.is_finishing) = (CampaignStatus::Completed, false);
                campaign.tasks_since_completion = 0;
            }
            E::CampaignDeleted {} => *state = Lifecycle::Deleted,
        }
    }

    fn size_of(state: &Lifecycle<LiveCampaign>) -> usize {
        state.present().and_then(|live| live.settings.description.as_ref()).map_or(0, String::len) + STATE_BYTES
    }

    fn decide(state: &Lifecycle<LiveCampaign>, command: CampaignCommand) -> Result<Vec<CampaignEvent>, CampaignRefusal> {
        match (state, command) {
            (Lifecycle::None, CampaignCommand::Create { settings }) => Ok(vec![CampaignEvent::CampaignCreated { settings }]),
            (Lifecycle::Present(campaign), CampaignCommand::Create { settings }) if campaign.settings == *settings => Ok(vec![]),
            (_, CampaignCommand::Create { .. }) => Err(CampaignRefusal::CreatedAlready),
            (Lifecycle::Present(campaign), command) => campaign.decide(command),
            (Lifecycle::Deleted, CampaignCommand::Delete) => Ok(vec![]),
            (Lifecycle::None | Lifecycle::Deleted, _) => Err(CampaignRefusal::Unknown),
        }
    }
}

impl LiveCampaign {
    /// Whether the campaign is running although its end time has passed or the company has ended it.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.status == CampaignStatus::Running && (self.is_finishing || self.settings.schedule().is_over(now))
    }

    fn decide(&self, command: CampaignCommand) -> Result<Vec<CampaignEvent>, CampaignRefusal> {
        use CampaignCommand as C;
        use CampaignEvent as E;
        use CampaignStatus::{Completed, Draft, Paused, Running};
        match (command, self.status) {
            (C::Create { .. }, _) => Err(CampaignRefusal::CreatedAlready),
            (C::Update { settings }, _) if *settings == self.settings => Ok(vec![]),
            (C::Update { settings }, status) => match self.settings.fixed_field_that_differs(&settings) {
                Some(field) if status == Running => Err(CampaignRefusal::FixedWhileRunning { field }),
                _ => Ok(vec![E::CampaignUpdated { settings }]),
            },
            (C::AddTasks { count: 0, .. }, _) => Ok(vec![]),
            (C::AddTasks { import_id, .. }, _) if self.imports.contains(&import_id) => Ok(vec![]),
            (C::ReopenTasks { count: 0, .. }, _) => Ok(vec![]),
            (C::ReopenTasks { batch_id, .. }, _) if self.last_reopened == Some(batch_id) => Ok(vec![]),
            (C::AddTasks { .. } | C::ReopenTasks { .. } | C::Pause | C::Resume { .. }, Running) if self.is_finishing => {
                Err(CampaignRefusal::Finishing)
            }
            (C::ReopenTasks { batch_id, count }, _) => Ok(vec![E::TasksReopened { batch_id, count }]),
            (C::AddTasks { import_id, count }, _) => Ok(vec![E::TasksAdded { import_id, count }]),
            (C::FinishImport { import_id, .. }, _) if self.imports.contains(&import_id) => Ok(vec![]),
            (C::FinishImport { import_id, file_name, total, created, error_count, errors }, _) => {
                Ok(vec![E::CallListImported { import_id, file_name, total, created, error_count, errors }])
            }
            (C::Start { .. }, Running) => Err(CampaignRefusal::Running),
            (C::Start { resumes: false, .. }, Paused) => Err(CampaignRefusal::Paused),
            (C::Start { .. }, Completed) if self.tasks_since_completion == 0 => Err(CampaignRefusal::Completed),
            (C::Start { .. }, Draft) if self.total_tasks == 0 => Err(CampaignRefusal::NoTasks),
            (C::Start { now, .. }, Draft | Completed) if self.settings.schedule().is_over(now) => Err(CampaignRefusal::Over),
            (C::Start { .. }, Draft | Completed) => Ok(vec![E::CampaignStarted {}]),
            (C::Pause, Running) => Ok(vec![E::CampaignPaused {}]),
            (C::Pause, Paused) | (C::Resume { .. }, Running) => Ok(vec![]),
            (C::Resume { now } | C::Start { now, .. }, Paused) if self.settings.schedule().is_over(now) => Err(CampaignRefusal::Over),
            (C::Resume { .. } | C::Start { .. }, Paused) => Ok(vec![E::CampaignResumed {}]),
            (C::Pause | C::Resume { .. }, Draft) => Err(CampaignRefusal::Draft),
            (C::Pause | C::Resume { .. }, Completed) => Err(CampaignRefusal::Completed),
            (C::Finish, Draft) => Err(CampaignRefusal::Draft),
            (C::Finish, Running) if self.is_finishing => Ok(vec![]),
            (C::Finish, Running | Paused) => Ok(vec![E::CampaignFinished {}]),
            (C::Finish, Completed) => Ok(vec![]),
            (C::Complete { total_tasks, last_reopened }, Running)
                if (total_tasks, last_reopened) == (self.total_tasks, self.last_reopened) =>
            {
                Ok(vec![E::CampaignCompleted {}])
            }
            (C::Complete { .. }, _) => Ok(vec![]),
            (C::Delete, Running) => Err(CampaignRefusal::Running),
            (C::Delete, _) => Ok(vec![E::CampaignDeleted {}]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::given;

    const NOW: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    const IMPORT: Uuid = Uuid::from_u128(7);

    fn settings() -> Box<CampaignSettings> {
        Box::new(CampaignSettings::new("c".into(), Uuid::nil()))
    }

    fn created() -> CampaignEvent {
        CampaignEvent::CampaignCreated { settings: settings() }
    }

    fn added(count: u64) -> CampaignEvent {
        CampaignEvent::TasksAdded { import_id: IMPORT, count }
    }

    const STARTED: CampaignEvent = CampaignEvent::CampaignStarted {};
    const PAUSED: CampaignEvent = CampaignEvent::CampaignPaused {};
    const COMPLETED: CampaignEvent = CampaignEvent::CampaignCompleted {};
    const START: CampaignCommand = CampaignCommand::Start { now: NOW, resumes: false };

    #[test]
    fn a_draft_with_tasks_starts() {
        given::<Campaign>([created(), added(3)]).when(START).then([STARTED]);
    }

    #[test]
    fn starting_without_tasks_is_refused() {
        given::<Campaign>([created()]).when(START).then_refused(CampaignRefusal::NoTasks);
    }

    #[test]
    fn starting_a_running_or_paused_campaign_is_refused() {
        given::<Campaign>([created(), added(3), STARTED]).when(START).then_refused(CampaignRefusal::Running);
        given::<Campaign>([created(), added(3), STARTED, PAUSED]).when(START).then_refused(CampaignRefusal::Paused);
        let resume = CampaignCommand::Start { now: NOW, resumes: true };
        given::<Campaign>([created(), added(3), STARTED, PAUSED]).when(resume.clone()).then([CampaignEvent::CampaignResumed {}]);
        given::<Campaign>([created(), added(3), STARTED]).when(resume.clone()).then_refused(CampaignRefusal::Running);
        given::<Campaign>([created(), added(3)]).when(resume).then([STARTED]);
    }

    #[test]
    fn starting_and_resuming_after_the_end_are_refused() {
        let mut over = settings();
        over.end_time = Some(NOW);
        let created = || CampaignEvent::CampaignCreated { settings: over.clone() };
        given::<Campaign>([created(), added(3)]).when(START).then_refused(CampaignRefusal::Over);
        given::<Campaign>([created(), added(3), STARTED, PAUSED])
            .when(CampaignCommand::Resume { now: NOW })
            .then_refused(CampaignRefusal::Over);
        let before = NOW - chrono::TimeDelta::seconds(1);
        given::<Campaign>([created(), added(3), STARTED, PAUSED])
            .when(CampaignCommand::Resume { now: before })
            .then([CampaignEvent::CampaignResumed {}]);
    }

    #[test]
    fn pausing_a_draft_is_refused_and_pausing_twice_changes_nothing() {
        given::<Campaign>([created()]).when(CampaignCommand::Pause).then_refused(CampaignRefusal::Draft);
        given::<Campaign>([created(), added(1), STARTED]).when(CampaignCommand::Pause).then([PAUSED]);
        given::<Campaign>([created(), added(1), STARTED, PAUSED]).when(CampaignCommand::Pause).then_nothing();
        given::<Campaign>([created(), added(1), STARTED, PAUSED])
            .when(CampaignCommand::Resume { now: NOW })
            .then([CampaignEvent::CampaignResumed {}]);
    }

    #[test]
    fn a_finished_campaign_begins_nothing_and_completes_when_nothing_is_left() {
        const FINISHED: CampaignEvent = CampaignEvent::CampaignFinished {};
        const FINISH: CampaignCommand = CampaignCommand::Finish;
        given::<Campaign>([created(), added(3)]).when(FINISH).then_refused(CampaignRefusal::Draft);
        given::<Campaign>([created(), added(3), STARTED]).when(FINISH).then([FINISHED]);
        given::<Campaign>([created(), added(3), STARTED, PAUSED]).when(FINISH).then([FINISHED]);
        let finishing = || [created(), added(3), STARTED, FINISHED];
        assert!(Campaign::fold(&finishing()).present().unwrap().is_over(NOW));
        for command in
            [CampaignCommand::Pause, CampaignCommand::Resume { now: NOW }, CampaignCommand::AddTasks { import_id: Uuid::nil(), count: 1 }]
        {
            given::<Campaign>(finishing()).when(command).then_refused(CampaignRefusal::Finishing);
        }
        given::<Campaign>(finishing()).when(CampaignCommand::Complete { total_tasks: 3, last_reopened: None }).then([COMPLETED]);
        given::<Campaign>(finishing().into_iter().chain([COMPLETED])).when(FINISH).then_nothing();
        given::<Campaign>(finishing().into_iter().chain([COMPLETED, added(1)])).when(START).then([STARTED]);
    }

    #[test]
    fn completion_counts_only_if_no_task_came_in_meanwhile() {
        given::<Campaign>([created(), added(3), STARTED])
            .when(CampaignCommand::Complete { total_tasks: 3, last_reopened: None })
            .then([COMPLETED]);
        given::<Campaign>([created(), added(3), STARTED, added(1)])
            .when(CampaignCommand::Complete { total_tasks: 3, last_reopened: None })
            .then_nothing();
    }

    #[test]
    fn a_completed_campaign_starts_again_after_an_upload() {
        given::<Campaign>([created(), added(3), STARTED, COMPLETED]).when(START).then_refused(CampaignRefusal::Completed);
        given::<Campaign>([created(), added(3), STARTED, COMPLETED, added(1)]).when(START).then([STARTED]);
    }

    #[test]
    fn tasks_that_are_put_back_start_a_completed_campaign_again_and_keep_it_from_completing() {
        let reopened = || CampaignEvent::TasksReopened { batch_id: IMPORT, count: 2 };
        let reopen = |count| CampaignCommand::ReopenTasks { batch_id: IMPORT, count };
        given::<Campaign>([created(), added(3), STARTED, COMPLETED]).when(reopen(2)).then([reopened()]);
        given::<Campaign>([created(), added(3), STARTED, COMPLETED]).when(reopen(0)).then_nothing();
        given::<Campaign>([created(), added(3), STARTED, COMPLETED, reopened()]).when(START).then([STARTED]);
        given::<Campaign>([created(), added(3), STARTED, CampaignEvent::CampaignFinished {}])
            .when(reopen(2))
            .then_refused(CampaignRefusal::Finishing);
        // A process found no task left before the tasks were put back.
        given::<Campaign>([created(), added(3), STARTED, reopened()])
            .when(CampaignCommand::Complete { total_tasks: 3, last_reopened: None })
            .then_nothing();
        given::<Campaign>([created(), added(3), STARTED, reopened()])
            .when(CampaignCommand::Complete { total_tasks: 3, last_reopened: Some(IMPORT) })
            .then([COMPLETED]);
    }

    #[test]
    fn a_running_campaign_changes_only_its_name_its_limits_and_its_end() {
        let running = || [created(), added(1), STARTED];
        let mut limits = settings();
        limits.calls_per_minute = 99;
        limits.end_time = Some(NOW);
        given::<Campaign>(running())
            .when(CampaignCommand::Update { settings: limits.clone() })
            .then([CampaignEvent::CampaignUpdated { settings: limits }]);
        let mut zone = settings();
        zone.timezone = chrono_tz::Tz::Europe__Prague;
        given::<Campaign>(running())
            .when(CampaignCommand::Update { settings: zone })
            .then_refused(CampaignRefusal::FixedWhileRunning { field: "timezone" });
    }

    #[test]
    fn a_running_campaign_cannot_be_deleted() {
        given::<Campaign>([created(), added(1), STARTED]).when(CampaignCommand::Delete).then_refused(CampaignRefusal::Running);
        given::<Campaign>([created()]).when(CampaignCommand::Delete).then([CampaignEvent::CampaignDeleted {}]);
        given::<Campaign>([created(), CampaignEvent::CampaignDeleted {}])
            .when(CampaignCommand::Pause)
            .then_refused(CampaignRefusal::Unknown);
    }

    #[test]
    fn an_import_is_finished_once() {
        let finish = || CampaignCommand::FinishImport {
            import_id: IMPORT,
            file_name: "a.csv".into(),
            total: 2,
            created: 1,
            error_count: 1,
            errors: vec!["Row 3: not a phone number".into()],
        };
        let imported = || CampaignEvent::CallListImported {
            import_id: IMPORT,
            file_name: "a.csv".into(),
            total: 2,
            created: 1,
            error_count: 1,
            errors: vec!["Row 3: not a phone number".into()],
        };
        given::<Campaign>([created()]).when(finish()).then([imported()]);
        given::<Campaign>([created(), imported()]).when(finish()).then_nothing();
    }
}
