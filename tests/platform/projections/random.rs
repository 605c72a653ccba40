//! Random histories with every event type: commands that are invalid at their time are refused, and the others form the history.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    Decider, Fact,
    api_key::{ApiKey, ApiKeyCommand},
    call::{Call, CallCommand, CallSubject, Direction, EndRequest, Turn},
    campaign::{Campaign, CampaignCommand, CampaignSettings},
    company::{Company, CompanyCommand, CompanyProfile},
    outcome::Outcome,
    person::{Person, PersonCommand},
    price::{Component, Rate, Unit},
    price_list::{PriceList, PriceListCommand},
    reserved_name::{NameCommand, ReservedName},
    retry::{Backoff, RetryPolicy},
    role::Role,
    skillbase::{Skillbase, SkillbaseCommand, SkillbaseContent},
    task::{AttemptFailure, FailureCause, Task, TaskCommand, TaskContact},
    user::{User, UserCommand},
};
use eventstore::{CommandContext, Database, EventStore, ExecuteError, now};
use projections::{Feed, Positions, Projectors, all, rebuild::Purpose};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use rust_decimal::Decimal;
use serde_json::json;
use support::{new_database, setting};
use tokio::sync::watch;
use uuid::Uuid;

use super::{differences, oracle::compare_with_deciders};

/// Number of further events after which every event type must have occurred.
const RARE_TYPES_WITHIN: i64 = 20_000;
/// When the calls take place: long before the history is created, so that price lists take effect between them.
pub const EPOCH: DateTime<Utc> = DateTime::from_timestamp(1_770_000_000, 0).unwrap();

pub struct RandomHistory {
    store: EventStore,
    rng: StdRng,
    companies: Vec<OfCompany>,
    /// Event types.
    seen: BTreeSet<String>,
}

/// The existing objects to which a random command can apply.
#[derive(Default)]
struct OfCompany {
    id: Uuid,
    skillbases: Vec<Uuid>,
    campaigns: Vec<Uuid>,
    tasks: Vec<(Uuid, Uuid)>,
    calls: Vec<Uuid>,
    keys: Vec<Uuid>,
    names: Vec<Uuid>,
    users: Vec<Uuid>,
    price_lists: Vec<Uuid>,
}

impl RandomHistory {
    pub async fn begin(store: EventStore, seed: u64) -> Self {
        let mut history = Self { store, rng: StdRng::seed_from_u64(seed), companies: Vec::new(), seen: BTreeSet::new() };
        for n in 0..2 {
            let company = OfCompany { id: history.new_id(), ..OfCompany::default() };
            let profile = CompanyProfile { name: format!("Company {n}"), slug: format!("company-{n}"), email: None };
            history.run::<Company>(company.id, company.id, CompanyCommand::Register(profile)).await;
            let user = UserCommand::Register { email: format!("user{n}@example.com").into(), role: Role::Admin };
            let user_id = history.new_id();
            history.run::<User>(company.id, user_id, user).await;
            history.companies.push(company);
        }
        history
    }

    /// The companies with their campaigns and calls, as far as commands named them.
    pub fn objects(&self) -> impl Iterator<Item = (Uuid, &[Uuid], &[Uuid])> {
        self.companies.iter().map(|company| (company.id, &company.campaigns[..], &company.calls[..]))
    }

    /// An id that is derived from the seed.
    fn new_id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.rng.random()).into_uuid()
    }

    /// Runs a command; returns whether it had an effect. A refusal has no effect.
    async fn run<D: Decider>(&mut self, company_id: Uuid, id: Uuid, command: D::Command) -> bool {
        let context = CommandContext::system(company_id, "test", now());
        match self.store.execute::<D>(&context, id, command).await {
            Ok(committed) => {
                self.seen.extend(committed.events.iter().map(|event| domain::fact::encode(event).unwrap().0));
                !committed.events.is_empty()
            }
            Err(ExecuteError::Refused(_)) => false,
            Err(ExecuteError::Store(error)) => panic!("{error}"),
        }
    }

    /// Runs random commands until the log has `events` events, and at least one of every type.
    pub async fn until_all_types(&mut self, events: i64) {
        self.until(events).await;
        loop {
            let lacking = self.lacks().next();
            let Some(event_type) = lacking else { return };
            let position = self.store.head().position();
            assert!(position < events + RARE_TYPES_WITHIN, "no random command leads to {event_type}");
            self.until(position + 1).await;
        }
    }

    /// Runs random commands until the log has `events` events.
    pub async fn until(&mut self, events: i64) {
        while self.store.head().position() < events {
            let n = self.rng.random_range(0..self.companies.len());
            let mut company = std::mem::take(&mut self.companies[n]);
            match self.rng.random_range(0..100) {
                0..3 => self.skillbase(&mut company).await,
                3..12 => self.campaign(&mut company).await,
                12..32 => self.task(&mut company).await,
                32..36 => self.identity(&mut company).await,
                36..39 => self.price(&mut company).await,
                _ => self.call(&mut company).await,
            }
            self.companies[n] = company;
        }
    }

    fn lacks(&self) -> impl Iterator<Item = &'static str> {
        Fact::catalogue().into_iter().map(|(_, event_type, _)| event_type).filter(|event_type| !self.seen.contains(*event_type))
    }

    fn flip(&mut self) -> bool {
        self.rng.random()
    }

    fn some<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        of.choose(&mut self.rng).copied()
    }

    async fn skillbase(&mut self, company: &mut OfCompany) {
        let known = self.some(&company.skillbases);
        let id = known.filter(|_| self.rng.random_bool(0.6)).unwrap_or_else(|| self.new_id());
        let mut config = support::skillbase_config();
        config["context"]["style"] = json!(format!("style {}", self.rng.random_range(0..5)));
        let config = serde_json::from_value(config).unwrap();
        let description = self.flip().then(|| "for tests".to_owned());
        let (is_active, is_published) = (self.flip(), self.flip());
        let slug = format!("bot-{}", id.simple());
        let content = Box::new(SkillbaseContent { name: "Bot".into(), slug, config, description, is_active, is_published });
        let command = match (known == Some(id), self.rng.random_range(0..10)) {
            (false, _) => SkillbaseCommand::Create(content),
            (true, 0) => SkillbaseCommand::Delete,
            (true, _) => SkillbaseCommand::Update(content),
        };
        if self.run::<Skillbase>(company.id, id, command).await && known != Some(id) {
            company.skillbases.push(id);
        }
    }

    async fn campaign(&mut self, company: &mut OfCompany) {
        let Some(skillbase_id) = self.some(&company.skillbases) else { return };
        let known = self.some(&company.campaigns);
        let Some(id) = known.filter(|_| self.rng.random_bool(0.9)) else {
            let id = self.new_id();
            let settings = Box::new(CampaignSettings::new("Campaign".into(), skillbase_id));
            self.run::<Campaign>(company.id, id, CampaignCommand::Create { settings }).await;
            return company.campaigns.push(id);
        };
        let import_id = self.new_id();
        let command = match self.rng.random_range(0..10) {
            0 => {
                let settings = CampaignSettings {
                    calls_per_minute: self.rng.random_range(1..100),
                    ..CampaignSettings::new("Campaign".into(), skillbase_id)
                };
                CampaignCommand::Update { settings: Box::new(settings) }
            }
            1..4 => CampaignCommand::AddTasks { import_id, count: self.rng.random_range(1..4) },
            4 => CampaignCommand::FinishImport {
                import_id,
                file_name: "list.csv".into(),
                total: 5,
                created: 3,
                error_count: 2,
                errors: vec!["Row 4: not a phone number".into()],
            },
            5..7 => CampaignCommand::Start { now: now(), resumes: false },
            7 if self.flip() => CampaignCommand::ReopenTasks { batch_id: import_id, count: 1 },
            7 => CampaignCommand::Pause,
            8 => CampaignCommand::Resume { now: now() },
            _ if self.rng.random_bool(0.1) => CampaignCommand::Delete,
            _ if self.rng.random_bool(0.1) => CampaignCommand::Finish,
            _ => {
                let campaign = self.store.load::<Campaign>(company.id, id).await.unwrap().state;
                let (total_tasks, last_reopened) = campaign.present().map_or((0, None), |live| (live.total_tasks, live.last_reopened));
                CampaignCommand::Complete { total_tasks, last_reopened }
            }
        };
        let count = if let CampaignCommand::AddTasks { count, .. } = command { count } else { 0 };
        let pauses = matches!(command, CampaignCommand::Pause);
        if self.run::<Campaign>(company.id, id, command).await {
            if pauses && self.flip() {
                self.run::<Campaign>(company.id, id, CampaignCommand::Resume { now: now() }).await;
            }
            for row in 0..count {
                let contact = TaskContact {
                    campaign_id: id,
                    import_id,
                    row: u32::try_from(row).unwrap() + 2,
                    person_id: Some(self.person(company.id)),
                    phone_number: format!("+1202555{:04}", self.rng.random_range(0..10_000)).into(),
                    contact_name: self.flip().then(|| "Anna".to_owned().into()),
                    contact_data: serde_json::Map::from_iter([("city".to_owned(), json!("Brno"))]).into(),
                    priority: self.rng.random_range(-5..5),
                };
                let task_id = self.new_id();
                self.run::<Task>(company.id, task_id, TaskCommand::Create(Box::new(contact))).await;
                company.tasks.push((task_id, id));
            }
        }
    }

    async fn task(&mut self, company: &mut OfCompany) {
        let Some((id, campaign_id)) = self.some(&company.tasks) else { return };
        let task = self.store.load::<Task>(company.id, id).await.unwrap().state;
        let current = task.present().and_then(|task| task.call_id);
        let outcome = self.outcome();
        match (current, self.rng.random_range(0..10)) {
            (Some(call_id), 0..3) => {
                self.run::<Task>(company.id, id, TaskCommand::Complete { call_id, outcome }).await;
            }
            (Some(call_id), 3..6) => {
                let cause = if self.flip() { FailureCause::Reported } else { FailureCause::LeaseExpired };
                let failure =
                    AttemptFailure { call_id, error_message: "busy".to_owned().into(), outcome: self.flip().then_some(outcome), cause };
                let retry = RetryPolicy { max_retries: self.rng.random_range(1..4), retry_delay_minutes: 0, retry_backoff: Backoff::Fixed };
                self.run::<Task>(company.id, id, TaskCommand::Fail { failure, retry, now: now() }).await;
            }
            (_, 6) => {
                self.run::<Task>(company.id, id, TaskCommand::Cancel).await;
            }
            (_, 7) => {
                let outcomes = if self.flip() { vec![outcome] } else { vec![] };
                self.run::<Task>(company.id, id, TaskCommand::Reopen { outcomes, now: now() }).await;
            }
            _ => {
                let call_id = self.new_id();
                if self.run::<Task>(company.id, id, TaskCommand::Claim { call_id, lease_sec: 10, now: now() }).await {
                    let subject = self.subject(company, Some((campaign_id, id)));
                    self.run::<Call>(company.id, call_id, CallCommand::Dial(subject)).await;
                    company.calls.push(call_id);
                }
            }
        }
    }

    fn outcome(&mut self) -> Outcome {
        *[Outcome::Success, Outcome::Fail, Outcome::Voicemail, Outcome::NoAnswer, Outcome::Busy].choose(&mut self.rng).unwrap()
    }

    fn subject(&mut self, company: &OfCompany, task: Option<(Uuid, Uuid)>) -> Box<CallSubject> {
        Box::new(CallSubject {
            campaign_id: task.map(|(campaign, _)| campaign),
            task_id: task.map(|(_, task)| task),
            skillbase_id: self.some(&company.skillbases),
            skillbase_version: None,
            direction: if task.is_some() { Direction::Outbound } else { Direction::Inbound },
            person_id: Some(self.person(company.id)),
            phone_number: "+12025550100".to_owned().into(),
        })
    }

    fn person(&mut self, company: Uuid) -> Uuid {
        Uuid::from_u128(company.as_u128() ^ self.rng.random_range(1..20))
    }

    /// A random time in the four days in which calls take place.
    fn moment(&mut self) -> DateTime<Utc> {
        EPOCH + TimeDelta::milliseconds(self.rng.random_range(0..345_600_000))
    }

    async fn call(&mut self, company: &mut OfCompany) {
        let known = self.some(&company.calls);
        let Some(id) = known.filter(|_| self.rng.random_bool(0.9)) else {
            let (id, subject) = (self.new_id(), self.subject(company, None));
            let started_at = self.rng.random_bool(0.8).then(|| self.moment());
            self.run::<Call>(company.id, id, CallCommand::Start { subject, started_at, now: now() }).await;
            return company.calls.push(id);
        };
        let call = self.store.load::<Call>(company.id, id).await.unwrap().state;
        let Some(known) = call.present() else { return };
        let started_at = known.started_at;
        let command = match self.rng.random_range(0..12) {
            0 => {
                let moment = self.moment();
                CallCommand::Start { subject: Box::new(known.subject.clone()), started_at: Some(moment), now: now() }
            }
            1 => CallCommand::End { request: self.end(started_at), now: now() },
            _ => {
                let begun = started_at.unwrap_or(EPOCH);
                let turns = (0..self.rng.random_range(1..4)).map(|_| self.turn(begun)).collect();
                CallCommand::RecordTurns { turns, now: now() }
            }
        };
        self.run::<Call>(company.id, id, command).await;
    }

    fn end(&mut self, started_at: Option<DateTime<Utc>>) -> EndRequest {
        let seconds = self.rng.random_range(1..300_000);
        EndRequest {
            // An end before the start moves the start, if the server's clock set it, and is refused otherwise.
            ended_at: started_at.map(|at| at + TimeDelta::milliseconds(if self.rng.random_bool(0.9) { seconds } else { -seconds })),
            duration_sec: Some(Decimal::new(seconds, 3)),
            final_state: self.flip().then(|| "booked".to_owned()),
            hangup_by: Some("caller".to_owned()),
            outcome: if self.flip() { Some(self.outcome()) } else { None },
        }
    }

    fn turn(&mut self, begun: DateTime<Utc>) -> Turn {
        fn maybe<T>(rng: &mut StdRng, value: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
            rng.random_bool(0.7).then(|| value(rng))
        }
        let rng = &mut self.rng;
        let latency = |rng: &mut StdRng| (rng.random::<f64>().powi(4) * 5_000_000.0) as i64;
        let name = |of: &'static [&'static str]| move |rng: &mut StdRng| (*of.choose(rng).unwrap()).to_owned();
        Turn {
            turn_index: rng.random_range(0..60),
            occurred_at: maybe(rng, |rng| begun + TimeDelta::milliseconds(rng.random_range(0..80_000_000))),
            user_text: maybe(rng, |_| "leave a message".to_owned().into()),
            agent_text: maybe(rng, |_| "good".to_owned().into()),
            state: maybe(rng, name(&["greeting", "offer"])).map(Into::into),
            ttfb_stt_us: maybe(rng, latency),
            latency_llm_us: maybe(rng, latency),
            ttfb_tts_us: maybe(rng, latency),
            eou_latency_us: maybe(rng, latency),
            stt_duration_sec: maybe(rng, |rng| Decimal::new(rng.random_range(0..100_000), 3)),
            llm_input_tokens: maybe(rng, |rng| rng.random_range(0..2_000)),
            llm_output_tokens: maybe(rng, |rng| rng.random_range(0..200)),
            tts_characters: maybe(rng, |rng| rng.random_range(0..400)),
            interrupted: rng.random(),
            stt_provider: maybe(rng, name(&["deepgram", "google"])),
            llm_provider: maybe(rng, name(&["groq", "openai"])),
            llm_model: maybe(rng, name(&["small", "big"])),
            tts_provider: maybe(rng, name(&["cartesia"])),
        }
    }

    async fn price(&mut self, company: &mut OfCompany) {
        let withdrawn = company.price_lists.choose(&mut self.rng).copied();
        if let Some(id) = withdrawn.filter(|_| self.rng.random_bool(0.3)) {
            self.run::<PriceList>(company.id, id, PriceListCommand::Withdraw).await;
            return;
        }
        let rng = &mut self.rng;
        let mut rates: Vec<Rate> = Vec::new();
        for (component, provider, model, unit) in [
            (Component::Stt, None, None, Unit::Minute),
            (Component::Stt, Some("deepgram"), None, Unit::Second),
            (Component::LlmInput, None, None, Unit::Token),
            (Component::LlmInput, Some("groq"), Some("big"), Unit::Token),
            (Component::LlmOutput, Some("groq"), None, Unit::Token),
            (Component::Tts, None, None, Unit::Character),
            (Component::Livekit, None, None, Unit::Minute),
        ] {
            if rng.random_bool(0.8) {
                let (price, per) = (Decimal::new(rng.random_range(0..10_000), 5), rng.random_range(1..1_001));
                rates.push(Rate { component, provider: provider.map(str::to_owned), model: model.map(str::to_owned), price, per, unit });
            }
        }
        let effective_from = self.moment();
        let command = PriceListCommand::Publish { name: "List".into(), effective_from, rates };
        let id = self.new_id();
        company.price_lists.push(id);
        self.run::<PriceList>(company.id, id, command).await;
    }

    async fn identity(&mut self, company: &mut OfCompany) {
        match self.rng.random_range(0..9) {
            0 => {
                let profile =
                    CompanyProfile { name: format!("Name {}", self.rng.random_range(0..9)), slug: company.id.to_string(), email: None };
                self.run::<Company>(company.id, company.id, CompanyCommand::Update(profile)).await;
            }
            1 => {
                let id = self.new_id();
                self.run::<ApiKey>(company.id, id, ApiKeyCommand::Issue { name: "key".into(), role: Role::Agent }).await;
                company.keys.push(id);
            }
            2 => {
                if let Some(id) = self.some(&company.keys) {
                    self.run::<ApiKey>(company.id, id, ApiKeyCommand::Revoke).await;
                }
            }
            3 => {
                let (id, email) = (self.new_id(), format!("{}@example.com", self.new_id().simple()).into());
                let invited = self.flip();
                let role = Role::Viewer;
                let user = if invited { UserCommand::Invite { email, role } } else { UserCommand::Register { email, role } };
                self.run::<User>(company.id, id, user).await;
                company.users.push(id);
            }
            6 | 7 => {
                if let Some(id) = self.some(&company.users) {
                    let role = if self.flip() { Role::Agent } else { Role::Viewer };
                    let commands = [
                        UserCommand::Join,
                        UserCommand::Change { role: None, disabled: Some(true) },
                        UserCommand::Change { role: None, disabled: Some(false) },
                        UserCommand::Change { role: Some(role), disabled: None },
                    ];
                    let command = commands.choose(&mut self.rng).unwrap().clone();
                    let enable = UserCommand::Change { role: None, disabled: Some(false) };
                    // Without this step, a user who is disabled is rarely met again.
                    if self.run::<User>(company.id, id, command).await && self.flip() {
                        self.run::<User>(company.id, id, enable).await;
                    }
                }
            }
            8 => {
                let person = self.person(company.id);
                let context = CommandContext::system(company.id, "test", now());
                self.store.erase_person::<Person>(&context, person, PersonCommand::Erase).await.unwrap();
                self.seen.insert("PersonErased".to_owned());
            }
            4 => {
                let id = self.new_id();
                self.run::<ReservedName>(company.id, id, NameCommand::Reserve { holder_id: company.id }).await;
                company.names.push(id);
            }
            _ => {
                if let Some(id) = self.some(&company.names) {
                    self.run::<ReservedName>(company.id, id, NameCommand::Release { holder_id: company.id }).await;
                }
            }
        }
    }
}

/// All projections, which run.
pub struct Projecting {
    positions: Positions,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

impl Projecting {
    pub fn start(database: &Database, store: &EventStore) -> Self {
        let positions = Positions::default();
        let (stop, stopped) = watch::channel(false);
        let projectors = Projectors {
            projections: all(),
            pool: database.access.work.clone(),
            owner: database.pool.clone(),
            feed: Feed::new(store.clone()),
            positions: positions.clone(),
        };
        Self { positions, stop, running: tokio::spawn(projectors.run(stopped)) }
    }

    /// Waits until every read model has reached the position.
    pub async fn reached(&self, position: i64) {
        let models: Vec<_> = all().iter().map(|projection| projection.read_model()).collect();
        self.positions.reached(&models, position, std::time::Duration::from_secs(180)).await.unwrap();
    }

    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        self.running.await.unwrap();
    }
}

/// Projecting event by event during the history, and projecting from the beginning in large pages, give the same tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_equals_rebuilt_after_random_histories() {
    for _ in 0..setting("NEWVOICE_TEST_HISTORIES", 1) {
        let seed = support::seed();
        let url = new_database().await;
        let database = Database::open(&support::settings(&url).store.database(Some(support::master_key()))).await.unwrap();
        let store = EventStore::open(&database);
        let projecting = Projecting::start(&database, &store);
        let mut history = RandomHistory::begin(store.clone(), seed).await;
        history.until_all_types(i64::try_from(setting("NEWVOICE_TEST_HISTORY_EVENTS", 2_000)).unwrap()).await;
        projecting.reached(store.head().position()).await;
        for projection in all() {
            let name = projection.name();
            let found = differences(&database.pool, &store, Arc::clone(&projection), Purpose::Compare).await;
            assert!(found.is_empty(), "{name}, seed {seed}: {found:#?}");
        }
        let compared = compare_with_deciders(&database.pool, &store).await;
        assert!(compared > 100, "{compared} rows");
        projecting.stop().await;
    }
}
