//! Campaigns: what they are configured to do, and starting and stopping them.

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use dialer::{EXTERNAL_LEASE_SEC, Worker};
use domain::{
    campaign::{Campaign, CampaignCommand, CampaignSettings, settings::hh_mm},
    retry::Backoff,
    skillbase::{Skillbase, SkillbaseState},
    task::Task,
    validation::Invalid,
};
use eventstore::{Loaded, retry_conflicts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Done, EVENT_POSITION},
    app::App,
    auth::{Agent, By, Manager},
    commands::skillbase_deletion,
    extract::{Body, Id, OptionalBody, Patch, check_time, given},
    problem::Problem,
    queries::campaigns::counters,
    views::{CampaignView, TaskView},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(update, delete))
        .routes(routes!(clone))
        .routes(routes!(start))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(claim))
}

/// Fields of a campaign. What is absent keeps its value (or default); null clears it.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CampaignInput {
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub name: Patch<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub description: Patch<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<Uuid>)]
    pub skillbase_id: Patch<Uuid>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub start_time: Patch<DateTime<Utc>>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub end_time: Patch<DateTime<Utc>>,
    /// `HH:MM` in `timezone`
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub daily_start_time: Patch<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub daily_end_time: Patch<String>,
    /// IANA name
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub timezone: Patch<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<Vec<u8>>)]
    pub days_of_week: Patch<Vec<u8>>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub max_concurrent_calls: Patch<u32>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub calls_per_minute: Patch<u32>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub max_retries: Patch<u32>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub retry_delay_minutes: Patch<u32>,
    /// `fixed` or `exponential`
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub retry_backoff: Patch<Backoff>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub default_region: Patch<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub dialed_by: Patch<String>,
}

/// Takes a given value over; null becomes the default.
fn set<T>(field: &mut T, patch: Patch<T>, default: T) {
    if let Some(value) = patch {
        *field = value.unwrap_or(default);
    }
}

impl CampaignInput {
    /// Changes `settings` as given and checks the whole.
    pub fn apply(self, settings: &mut CampaignSettings) -> Result<(), Problem> {
        let mut invalid = Invalid::default();
        let defaults = CampaignSettings::new(String::new(), settings.skillbase_id);
        let time = |invalid: &mut Invalid, path: &str, text: String| {
            let time = hh_mm::parse(&text);
            invalid.require(time.is_some(), path, "must be a time of day, HH:MM");
            time
        };
        let daily_start = self.daily_start_time.map(|text| text.and_then(|text| time(&mut invalid, "daily_start_time", text)));
        let daily_end = self.daily_end_time.map(|text| text.and_then(|text| time(&mut invalid, "daily_end_time", text)));
        let timezone = self.timezone.map(|name| {
            name.map(|name| {
                name.parse::<chrono_tz::Tz>().unwrap_or_else(|_| {
                    invalid.add("timezone", "must be an IANA time zone, e.g. Europe/Prague");
                    defaults.timezone
                })
            })
        });
        invalid.require(self.skillbase_id != Some(None), "skillbase_id", "must not be null");
        check_time(&mut invalid, "start_time", self.start_time.flatten());
        check_time(&mut invalid, "end_time", self.end_time.flatten());
        invalid.into_result()?;
        set(&mut settings.name, self.name, defaults.name);
        set(&mut settings.description, self.description.map(Some), None);
        set(&mut settings.skillbase_id, self.skillbase_id, defaults.skillbase_id);
        set(&mut settings.start_time, self.start_time.map(Some), None);
        set(&mut settings.end_time, self.end_time.map(Some), None);
        set(&mut settings.daily_start_time, daily_start.map(Some), None);
        set(&mut settings.daily_end_time, daily_end.map(Some), None);
        set(&mut settings.timezone, timezone, defaults.timezone);
        set(&mut settings.days_of_week, self.days_of_week.map(Some), None);
        set(&mut settings.max_concurrent_calls, self.max_concurrent_calls, defaults.max_concurrent_calls);
        set(&mut settings.calls_per_minute, self.calls_per_minute, defaults.calls_per_minute);
        set(&mut settings.max_retries, self.max_retries, defaults.max_retries);
        set(&mut settings.retry_delay_minutes, self.retry_delay_minutes, defaults.retry_delay_minutes);
        set(&mut settings.retry_backoff, self.retry_backoff, defaults.retry_backoff);
        set(&mut settings.default_region, self.default_region.map(|region| Some(region.map(|r| r.to_uppercase()))), None);
        set(&mut settings.dialed_by, self.dialed_by, defaults.dialed_by);
        settings.validate(dialer::PROVIDERS)?;
        Ok(())
    }
}

/// A campaign can only be for a skillbase of the company.
async fn require_skillbase(app: &App, company_id: Uuid, id: Uuid) -> Result<(), Problem> {
    let there = match app.store.load_fresh::<Skillbase>(company_id, id).await {
        Ok(loaded) => matches!(*loaded.state, SkillbaseState::Live { .. }),
        Err(eventstore::StoreError::OtherCompany(_)) => false,
        Err(error) => return Err(error.into()),
    };
    if there { Ok(()) } else { Err(Problem::invalid("skillbase_id", "there is no such skillbase")) }
}

/// The campaign as its stream has it now, with its counters.
async fn view(app: &App, company_id: Uuid, id: Uuid, position: i64) -> Result<Answer<CampaignView>, Problem> {
    let loaded: Loaded<Campaign> = app.store.load(company_id, id).await?;
    let live = loaded.state.live().ok_or_else(|| Problem::not_found("campaign"))?;
    let counters = counters(app, company_id, id).await?;
    let view = CampaignView::from_state(id, company_id, live, counters, (loaded.created_at, loaded.updated_at));
    Ok(Answer::ok(position, view).version(loaded.version))
}

/// Create a campaign, as a draft.
#[utoipa::path(post, path = "/campaigns", tag = "campaigns", security(("bearer" = ["manager"])), request_body = CampaignInput,
    responses((status = 201, body = CampaignView), (status = 422, body = Problem)))]
async fn create(State(app): State<App>, by: By<Manager>, Body(input): Body<CampaignInput>) -> Result<Answer<CampaignView>, Problem> {
    let mut invalid = Invalid::default();
    invalid.require(input.name.is_some(), "name", "is required");
    invalid.require(input.skillbase_id.is_some(), "skillbase_id", "is required");
    invalid.into_result()?;
    let mut settings = CampaignSettings::new(String::new(), input.skillbase_id.flatten().unwrap_or_default());
    input.apply(&mut settings)?;
    require_skillbase(&app, by.company_id(), settings.skillbase_id).await?;
    create_with(&app, &by, settings).await
}

async fn create_with(app: &App, by: &By<Manager>, settings: CampaignSettings) -> Result<Answer<CampaignView>, Problem> {
    let id = by.ids.make("campaign");
    let command = CampaignCommand::Create { settings: Box::new(settings) };
    let committed = app.store.execute::<Campaign>(&by.context(), id, command).await?;
    let answer = view(app, by.company_id(), id, committed.position).await?;
    Ok(Answer { status: StatusCode::CREATED, ..answer })
}

/// Change the given fields; null clears. While it runs only name, description, end_time, max_concurrent_calls and calls_per_minute.
#[utoipa::path(put, path = "/campaigns/{id}", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)), request_body = CampaignInput,
    responses((status = 200, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn update(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    Body(input): Body<CampaignInput>,
) -> Result<Answer<CampaignView>, Problem> {
    let context = by.context();
    let committed = retry_conflicts(
        |p: &Problem| p.lost_race(by.if_match),
        || async {
            let loaded: Loaded<Campaign> = app.store.load_fresh(context.company_id, id).await?;
            let mut settings = loaded.state.live().ok_or_else(|| Problem::not_found("campaign"))?.settings.clone();
            let skillbase_id = settings.skillbase_id;
            input.clone().apply(&mut settings)?;
            if settings.skillbase_id != skillbase_id {
                require_skillbase(&app, context.company_id, settings.skillbase_id).await?;
            }
            let command = CampaignCommand::Update { settings: Box::new(settings) };
            // What was read is what is changed: another change in between means reading again.
            let version = by.if_match.or(Some(loaded.version));
            Ok::<_, Problem>(app.store.execute_if::<Campaign>(&context, id, version, command).await?)
        },
    );
    let committed = committed.await?;
    view(&app, by.company_id(), id, committed.position).await
}

/// Delete a campaign that does not run: its waiting tasks are cancelled, its history stays.
#[utoipa::path(delete, path = "/campaigns/{id}", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn delete(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Done, Problem> {
    let committed = app.store.execute_if::<Campaign>(&by.context(), id, by.if_match, CampaignCommand::Delete).await?;
    app.desk.cancel_waiting_tasks(by.company_id(), id).await?;
    Ok(Done { position: committed.position })
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloneCampaign {
    name: Option<String>,
}

/// A draft with the same configuration, without tasks and counters.
#[utoipa::path(post, path = "/campaigns/{id}/clone", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)), request_body = Option<CloneCampaign>,
    responses((status = 201, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn clone(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    OptionalBody(input): OptionalBody<CloneCampaign>,
) -> Result<Answer<CampaignView>, Problem> {
    let loaded: Loaded<Campaign> = app.store.load_fresh(by.company_id(), id).await?;
    let mut settings = loaded.state.live().ok_or_else(|| Problem::not_found("campaign"))?.settings.clone();
    settings.name = input.name.unwrap_or_else(|| format!("{} (copy)", settings.name).chars().take(200).collect());
    settings.validate(dialer::PROVIDERS)?;
    live_skillbase(&app, by.company_id(), settings.skillbase_id).await?;
    create_with(&app, &by, settings).await
}

/// Starts or resumes a campaign, whose skillbase must be there: the append expects it, and that it is not being deleted.
async fn start_or_resume(
    app: &App,
    by: &By<Manager>,
    id: Uuid,
    event_type: &str,
    command: impl Fn(DateTime<Utc>) -> CampaignCommand,
) -> Result<Answer<CampaignView>, Problem> {
    let context = by.context();
    if let Some(position) = app.store.recorded_before::<Campaign>(&context, id, &[event_type.to_owned()]).await? {
        return view(app, by.company_id(), id, position).await;
    }
    let begun = retry_conflicts(
        |p: &Problem| p.lost_race(by.if_match),
        || async {
            let mut unit = app.store.unit(&context);
            unit.require::<Campaign>(id, by.if_match).await?;
            let committed = unit.decide::<Campaign>(id, command(context.now)).await?;
            let live = committed.state.live().ok_or_else(|| Problem::not_found("campaign"))?;
            let skillbase_id = live.settings.skillbase_id;
            let skillbase = live_skillbase(app, context.company_id, skillbase_id).await?;
            unit.hold(skillbase_id, &skillbase);
            skillbase_deletion::withdraw(app, &mut unit, context.company_id, skillbase_id).await?;
            Ok::<_, Problem>(unit.commit().await?)
        },
    );
    let position = begun.await?;
    view(app, by.company_id(), id, position).await
}

/// A campaign's skillbase; 409 if it is deleted.
async fn live_skillbase(app: &App, company_id: Uuid, skillbase_id: Uuid) -> Result<Loaded<Skillbase>, Problem> {
    let skillbase = app.store.load_fresh::<Skillbase>(company_id, skillbase_id).await?;
    match *skillbase.state {
        SkillbaseState::Live { .. } => Ok(skillbase),
        SkillbaseState::None | SkillbaseState::Deleted => {
            Err(Problem::conflict("the campaign's skillbase is deleted; give the campaign another one first"))
        }
    }
}

async fn transition(app: &App, by: &By<Manager>, id: Uuid, command: CampaignCommand) -> Result<Answer<CampaignView>, Problem> {
    let committed = app.store.execute_if::<Campaign>(&by.context(), id, by.if_match, command).await?;
    view(app, by.company_id(), id, committed.position).await
}

/// Start a draft, or a completed campaign to which tasks were added.
#[utoipa::path(post, path = "/campaigns/{id}/start", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn start(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Answer<CampaignView>, Problem> {
    start_or_resume(&app, &by, id, "CampaignStarted", |now| CampaignCommand::Start { now }).await
}

/// Pause: no further task is claimed, calls under way go on.
#[utoipa::path(post, path = "/campaigns/{id}/pause", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn pause(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Answer<CampaignView>, Problem> {
    transition(&app, &by, id, CampaignCommand::Pause).await
}

/// Resume a paused campaign.
#[utoipa::path(post, path = "/campaigns/{id}/resume", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn resume(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Answer<CampaignView>, Problem> {
    start_or_resume(&app, &by, id, "CampaignResumed", |now| CampaignCommand::Resume { now }).await
}

#[derive(Serialize, ToSchema)]
struct ClaimView {
    task: TaskView,
    /// Of a call that is dialing: record its turns and its end under this id.
    call_id: Uuid,
}

/// Claim the next task: highest priority first, then oldest, inside schedule and limits.
#[utoipa::path(post, path = "/campaigns/{id}/tasks/claim", tag = "tasks", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = ClaimView),
        (status = 204, description = "Nothing to claim now", headers(("Reason" = String, description = "outside_schedule, concurrency, rate, empty, not_running or dialed_by_provider"))),
        (status = 404, body = Problem)))]
async fn claim(State(app): State<App>, by: By<Agent>, Id(id): Id) -> Result<Response, Problem> {
    let (context, call_id) = (by.context(), by.ids.make("call"));
    match app.desk.claim(&context, id, call_id, Worker::External, EXTERNAL_LEASE_SEC).await? {
        Ok(claim) => {
            let task: Loaded<Task> = app.store.load(by.company_id(), claim.task_id).await?;
            let created = task.state.created().ok_or_else(|| Problem::not_found("task"))?;
            let view = TaskView::from_state(claim.task_id, created, (task.created_at, task.updated_at));
            Ok(Answer::ok(claim.position, ClaimView { task: view, call_id }).into_response())
        }
        Err(reason) => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            let reason = HeaderValue::from_str(&reason.to_string()).unwrap_or(HeaderValue::from_static("empty"));
            response.headers_mut().insert(HeaderName::from_static("reason"), reason);
            response.headers_mut().insert(EVENT_POSITION, app.store.head().position().into());
            Ok(response)
        }
    }
}
