//! Configuring, starting and stopping campaigns.

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use domain::{
    campaign::{CampaignSettings, settings::hh_mm},
    outcome::Outcome,
    retry::Backoff,
    validation::{FieldFault, Invalid},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use services::{CampaignDetails, ClaimResult, TaskForAgent, Versioned};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{Schema, SchemaType, Type},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Done, EVENT_POSITION},
    auth::{Agent, By, Manager},
    campaigns::CampaignView,
    extract::{Body, Id, IsUnversioned, OptionalBody, Patch, given},
    problem::Problem,
    state::App,
    tasks::TaskView,
    times::WrittenTime,
    words::{BackoffName, OutcomeName},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(update, delete))
        .routes(routes!(clone))
        .routes(routes!(start))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(finish))
        .routes(routes!(retry))
        .routes(routes!(claim))
}

/// The reason why there was no task to claim.
const REASON: HeaderName = HeaderName::from_static("reason");

/// Fields of a campaign. An absent field keeps its value; null sets the default
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = CampaignChange, example = json!({"daily_start_time": "09:00", "daily_end_time": "17:00", "timezone": "Europe/Prague"}))]
#[serde(deny_unknown_fields)]
pub struct CampaignInput {
    /// A name for the users of the company
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub name: Patch<String>,
    /// Any text
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub description: Patch<String>,
    /// The bot that speaks
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Uuid>)]
    pub skillbase_id: Patch<Uuid>,
    /// No attempt begins before this time; a date means the beginning of the day in `timezone`
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "2026-11-20")]
    pub start_time: Patch<WrittenTime>,
    /// The campaign ends at this time: what waits is cancelled, and no upload brings it back. A date means the beginning of the day in
    /// `timezone`. Of a running campaign, it must not be in the past
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "2026-12-20T17:00:00+01:00")]
    pub end_time: Patch<WrittenTime>,
    /// Begin of the daily window, `HH:MM` in `timezone`; both ends or none
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub daily_start_time: Patch<String>,
    /// End of the daily window, `HH:MM` in `timezone`; before `daily_start_time`: the window crosses midnight; equal to it: all day
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub daily_end_time: Patch<String>,
    /// IANA time zone of the window and the weekdays
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub timezone: Patch<String>,
    /// ISO weekdays on which calls may begin, 1 = Monday; null: every day
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<u8>>)]
    pub days_of_week: Patch<Vec<u8>>,
    /// Most attempts in progress at the same time, 1 to 10,000
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub max_concurrent_calls: Patch<u32>,
    /// Most attempts that begin within any 60 seconds, 1 to 100,000
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub calls_per_minute: Patch<u32>,
    /// Attempts of a task in all, 1 to 20: 1 means no second attempt
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub max_retries: Patch<u32>,
    /// Time from a failed attempt to the next one, 0 to 43,200
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub retry_delay_minutes: Patch<u32>,
    /// How the delay grows from attempt to attempt: not at all, or twofold
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<BackoffName>)]
    pub retry_backoff: Patch<Backoff>,
    /// ISO country code for phone numbers in national form
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub default_region: Patch<String>,
    /// `external`: programs claim tasks over the API; or the name of a configured provider, for example `simulator`
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub dialed_by: Patch<String>,
}

/// The schema of the body that creates a campaign: the fields of [`CampaignInput`], with what is required and the defaults of the rest.
struct NewCampaign;

impl PartialSchema for NewCampaign {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut campaign)) = CampaignInput::schema() else { return CampaignInput::schema() };
        campaign.description = Some("Fields of a new campaign. A field that is absent or null has its default".to_owned());
        campaign.example =
            Some(json!({"name": "Reminders", "skillbase_id": "01934f5e-2222-7000-8000-000000000001", "daily_start_time": "09:00",
            "daily_end_time": "17:00", "timezone": "Europe/Prague", "days_of_week": [1, 2, 3, 4, 5], "default_region": "CZ"}));
        for required in ["name", "skillbase_id"] {
            if let Some(RefOr::T(Schema::Object(field))) = campaign.properties.get_mut(required) {
                field.schema_type = SchemaType::new(Type::String);
            }
            campaign.required.push(required.to_owned());
        }
        let settings = CampaignSettings::new(String::new(), Uuid::nil());
        // As text: generators take a field with a `default` for one that is always there.
        for (name, default) in serde_json::to_value(settings).ok().iter().filter_map(Value::as_object).flatten() {
            let description = match campaign.properties.get_mut(name) {
                Some(RefOr::T(Schema::Object(field))) => &mut field.description,
                Some(RefOr::T(Schema::OneOf(field))) => &mut field.description,
                _ => continue,
            };
            if !default.is_null() && !campaign.required.contains(name) {
                *description = Some(match description.take() {
                    Some(text) => format!("{text}; default: {default}"),
                    None => format!("Default: {default}"),
                });
            }
        }
        RefOr::T(Schema::Object(campaign))
    }
}

impl ToSchema for NewCampaign {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        CampaignInput::schemas(schemas);
    }
}

/// Applies a given value; null sets the default.
fn set<T>(field: &mut T, patch: Patch<T>, default: T) {
    if let Some(value) = patch {
        *field = value.unwrap_or(default);
    }
}

impl CampaignInput {
    /// Applies the given fields to `settings`.
    fn apply(self, settings: &mut CampaignSettings) -> Result<(), Invalid> {
        let mut invalid = Invalid::default();
        let defaults = CampaignSettings::new(String::new(), settings.skillbase_id);
        let time = |invalid: &mut Invalid, path: &str, text: String| {
            let time = hh_mm::parse(&text);
            invalid.require(time.is_some(), path, FieldFault::NotATimeOfDay);
            time
        };
        let daily_start = self.daily_start_time.map(|text| text.and_then(|text| time(&mut invalid, "daily_start_time", text)));
        let daily_end = self.daily_end_time.map(|text| text.and_then(|text| time(&mut invalid, "daily_end_time", text)));
        let timezone = self.timezone.map(|name| {
            name.map(|name| {
                name.parse::<chrono_tz::Tz>().unwrap_or_else(|_| {
                    invalid.add("timezone", FieldFault::NotATimeZone);
                    defaults.timezone
                })
            })
        });
        invalid.require(self.skillbase_id != Some(None), "skillbase_id", FieldFault::Null);
        let zone = timezone.flatten().unwrap_or(if timezone.is_some() { defaults.timezone } else { settings.timezone });
        let [start_time, end_time] = [self.start_time, self.end_time].map(|patch| patch.map(|time| time.map(|time| time.in_zone(zone))));
        invalid.time("start_time", start_time.flatten());
        invalid.time("end_time", end_time.flatten());
        invalid.into_result()?;
        set(&mut settings.name, self.name, defaults.name);
        set(&mut settings.description, self.description.map(Some), None);
        set(&mut settings.skillbase_id, self.skillbase_id, defaults.skillbase_id);
        set(&mut settings.start_time, start_time.map(Some), None);
        set(&mut settings.end_time, end_time.map(Some), None);
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
        Ok(())
    }
}

fn answer(by: &By<Manager>, campaign: Versioned<CampaignDetails>) -> Answer<CampaignView> {
    Answer::of(campaign, |campaign| CampaignView::new(by.company_id(), campaign))
}

/// Create a campaign as a draft.
#[utoipa::path(post, path = "/campaigns", operation_id = "create_campaign", tag = "campaigns", security(("bearer" = ["manager"])), request_body = NewCampaign,
    responses((status = 201, body = CampaignView), (status = 422, body = Problem)))]
async fn create(State(app): State<App>, by: By<Manager>, Body(input): Body<CampaignInput>) -> Result<Answer<CampaignView>, Problem> {
    let mut invalid = Invalid::default();
    invalid.require(input.name.is_some(), "name", FieldFault::Required);
    invalid.require(input.skillbase_id.is_some(), "skillbase_id", FieldFault::Required);
    invalid.into_result()?;
    let mut settings = CampaignSettings::new(String::new(), input.skillbase_id.flatten().unwrap_or_default());
    input.apply(&mut settings)?;
    let campaign = app.services.create_campaign(&by.op(), settings).await?;
    Ok(Answer { status: StatusCode::CREATED, ..answer(&by, campaign) })
}

/// Change the given fields; null clears a field.
///
/// While the campaign is running, only name, description, end_time, max_concurrent_calls and calls_per_minute can be changed.
#[utoipa::path(put, path = "/campaigns/{id}", operation_id = "change_campaign", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)), request_body = CampaignInput,
    responses((status = 200, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn update(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    Body(input): Body<CampaignInput>,
) -> Result<Answer<CampaignView>, Problem> {
    let campaign = app.services.update_campaign(&by.op(), id, |settings| input.clone().apply(settings)).await?;
    Ok(answer(&by, campaign))
}

/// Delete a campaign that is not running: its waiting tasks are cancelled, its history is kept.
#[utoipa::path(delete, path = "/campaigns/{id}", operation_id = "delete_campaign", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn delete(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Done, Problem> {
    Ok(Done { position: app.services.delete_campaign(&by.op(), id).await? })
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloneCampaign {
    /// Name of the new campaign; absent: the old name with a suffix
    name: Option<String>,
}

/// Create a draft with the same configuration, without tasks and counters.
#[utoipa::path(post, path = "/campaigns/{id}/clone", operation_id = "clone_campaign", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)), request_body = Option<CloneCampaign>,
    responses((status = 201, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn clone(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    OptionalBody(input): OptionalBody<CloneCampaign>,
) -> Result<Answer<CampaignView>, Problem> {
    let campaign = app.services.clone_campaign(&by.op(), id, input.name).await?;
    Ok(Answer { status: StatusCode::CREATED, ..answer(&by, campaign) })
}

/// Start a draft, or a completed campaign to which tasks were added.
#[utoipa::path(post, path = "/campaigns/{id}/start", operation_id = "start_campaign", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn start(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    // NEW-VOICE has no other way to resume a campaign.
    IsUnversioned(resumes): IsUnversioned,
) -> Result<Answer<CampaignView>, Problem> {
    Ok(answer(&by, app.services.start_campaign(&by.op(), id, resumes).await?))
}

/// Pause: no further task is claimed; calls in progress continue.
#[utoipa::path(post, path = "/campaigns/{id}/pause", operation_id = "pause_campaign", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn pause(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Answer<CampaignView>, Problem> {
    Ok(answer(&by, app.services.pause_campaign(&by.op(), id).await?))
}

/// Resume a paused campaign.
#[utoipa::path(post, path = "/campaigns/{id}/resume", operation_id = "resume_campaign", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn resume(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Answer<CampaignView>, Problem> {
    Ok(answer(&by, app.services.resume_campaign(&by.op(), id).await?))
}

/// Finish early: waiting tasks are cancelled, calls in progress continue, then the campaign is completed.
///
/// Until then the campaign is running, and nothing can be claimed.
#[utoipa::path(post, path = "/campaigns/{id}/finish", operation_id = "finish_campaign", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
pub(crate) async fn finish(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Answer<CampaignView>, Problem> {
    Ok(answer(&by, app.services.finish_campaign(&by.op(), id).await?))
}

#[derive(Default, Deserialize, ToSchema)]
#[schema(example = json!({"outcomes": ["no_answer", "busy"]}))]
#[serde(deny_unknown_fields)]
struct RetryTasks {
    /// Only tasks whose last attempt had one of these outcomes; all failed tasks if it is absent
    #[schema(value_type = Option<Vec<OutcomeName>>, example = json!(["no_answer", "busy"]))]
    outcomes: Option<Vec<Outcome>>,
}

#[derive(Serialize, ToSchema)]
struct RetriedTasks {
    /// Number of tasks that were put back
    retried: u64,
}

/// Put failed tasks back. Each is due at once. It gets the attempts that `max_retries` still allows, and at least one.
///
/// Attempts go on counting. A completed campaign can be started again afterwards; while a campaign is finishing, this is 409.
#[utoipa::path(post, path = "/campaigns/{id}/retry", operation_id = "retry_failed_tasks", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)), request_body = Option<RetryTasks>,
    responses((status = 200, body = RetriedTasks), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn retry(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    OptionalBody(input): OptionalBody<RetryTasks>,
) -> Result<Answer<RetriedTasks>, Problem> {
    let mut invalid = Invalid::default();
    invalid.require(input.outcomes.as_ref().is_none_or(|all| !all.is_empty()), "outcomes", FieldFault::TooFewEntries { min: 1 });
    invalid.into_result()?;
    let outcomes = input.outcomes.unwrap_or_default();
    let (retried, position) = app.services.retry_failed_tasks(&by.op(), id, &outcomes).await?;
    Ok(Answer::ok(position, RetriedTasks { retried }))
}

#[derive(Serialize, ToSchema)]
struct ClaimView {
    /// The task, in progress from now on
    task: TaskView,
    /// Id of the call, which is dialing: record its turns and its end under this id.
    call_id: Uuid,
}

/// Claim the next task, within the campaign's schedule and limits: highest priority first, then oldest.
#[utoipa::path(post, path = "/campaigns/{id}/tasks/claim", operation_id = "claim_task", tag = "tasks", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = ClaimView),
        (status = 204, description = "Nothing to claim now", headers(("Reason" = String, description = "outside_schedule, concurrency, rate, empty, not_running or dialed_by_provider"))),
        (status = 404, body = Problem)))]
async fn claim(State(app): State<App>, by: By<Agent>, Id(id): Id) -> Result<Response, Problem> {
    match app.services.claim_task_for_agent(&by.op(), id).await? {
        ClaimResult::Claimed(TaskForAgent { task, max_attempts, call_id }) => {
            let position = task.position;
            Ok(Answer::ok(position, ClaimView { task: TaskView::new(task, max_attempts), call_id }).into_response())
        }
        ClaimResult::Nothing(reason) => {
            let reason = <&'static str>::from(reason);
            let headers = [(REASON, HeaderValue::from_static(reason)), (EVENT_POSITION, app.store.head().position().into())];
            Ok((StatusCode::NO_CONTENT, headers).into_response())
        }
    }
}
