//! `newvoice demo`: a sample company with a bot, a price list and a campaign that the simulator dials.

use std::sync::Arc;

use domain::{
    campaign::{Campaign, CampaignCommand, CampaignSettings, CampaignStatus},
    retry::Backoff,
    skillbase::{Skillbase, SkillbaseCommand, SkillbaseConfig, SkillbaseContent},
};
use eventstore::{CommandContext, ExecuteError, now};
use serde_json::json;
use services::{
    CallListFile, Ids, NewCompany, ServiceError,
    call_list::Limits,
    identity::{credentials, operators},
};
use uuid::Uuid;

use crate::{
    problem::Problem,
    settings::{RegistrationMode, Settings},
    state::App,
};

const EMAIL: &str = "demo@example.com";
const PASSWORD: &str = "demo-demo-demo";
const COMPANY: &str = "Harbour Dental";
/// Number of contacts of the sample campaign.
const CONTACTS: usize = 200;
/// Speed of the demo's simulated calls, as a multiple of real time, unless the settings have a higher speed than real time.
const SPEED: f64 = 10.0;

const FIRST_NAMES: &[&str] = &["Anna", "Ben", "Carla", "David", "Elena", "Filip", "Grace", "Hugo", "Irina", "Jan"];
const LAST_NAMES: &[&str] = &["Novák", "Smith", "García", "Petrov", "Miller", "Svoboda", "López", "Brown", "Ivanova", "Clark"];
const CITIES: &[&str] = &["Boston", "Prague", "Madrid", "Chicago"];

/// Settings for the demo, which is for watching and for trying out the view of a new company.
pub fn faster(mut settings: Settings) -> Settings {
    if settings.simulator.speed <= 1.0 {
        settings.simulator.speed = SPEED;
    }
    settings.identity.registration = RegistrationMode::Open;
    settings
}

#[derive(Debug, thiserror::Error)]
#[error("the demo could not be prepared: {0}")]
pub struct DemoError(String);

impl From<ServiceError> for DemoError {
    fn from(error: ServiceError) -> Self {
        Self(error.to_string())
    }
}

impl From<Problem> for DemoError {
    fn from(problem: Problem) -> Self {
        Self(problem.detail)
    }
}

impl<R: std::error::Error + 'static> From<ExecuteError<R>> for DemoError {
    fn from(error: ExecuteError<R>) -> Self {
        Self(error.to_string())
    }
}

/// Creates the sample company if it does not exist, starts a campaign if none is running, and prints how to look at it.
pub async fn prepare(app: &App) -> Result<(), DemoError> {
    let company_id = match credentials::user(&app.access.identity, &credentials::email_hash(&app.services.identity.master, EMAIL))
        .await
        .map_err(|e| DemoError(e.to_string()))?
    {
        Some(known) => known.company_id,
        None => {
            let company_slug = Some("harbour-dental-demo".to_owned());
            let company = NewCompany { email: EMAIL.into(), password: PASSWORD.into(), company_name: COMPANY.into(), company_slug };
            app.services.register_company(&Ids::default(), Uuid::now_v7(), company).await?.company_id
        }
    };
    make_operator(app).await.map_err(|e| DemoError(e.to_string()))?;
    start_campaign(app, company_id).await?;
    let address = app.settings.http.listen;
    tracing::info!("demo: log in with {EMAIL} and {PASSWORD}");
    tracing::info!(
        "demo: curl -s http://{address}/api/v1/auth/login -H 'content-type: application/json' -d '{{\"email\": \"{EMAIL}\", \"password\": \"{PASSWORD}\"}}'"
    );
    tracing::info!(
        "demo: with the token, look at http://{address}/api/v1/analytics/overview, /campaigns, /events/stream, or try http://{address}/docs"
    );
    Ok(())
}

/// Makes the demo's user an operator, so that a rebuild can be tried.
async fn make_operator(app: &App) -> Result<(), sqlx::Error> {
    let pool = &app.access.identity;
    if let Some(user) = credentials::user(pool, &credentials::email_hash(&app.services.identity.master, EMAIL)).await? {
        operators::add(&mut *pool.acquire().await?, user.user_id).await?;
    }
    Ok(())
}

async fn start_campaign(app: &App, company_id: Uuid) -> Result<(), DemoError> {
    let context = CommandContext::system(company_id, "demo", now());
    // The ids are derived from the company: if the demo was killed during its creation, the next start completes it.
    let id = |what: &str| Uuid::new_v5(&company_id, what.as_bytes());
    let skillbase_id = id("demo skillbase");
    let mut round = 1;
    let campaign_id = loop {
        let campaign_id = id(&format!("demo campaign {round}"));
        let campaign = app.store.load_fresh::<Campaign>(company_id, campaign_id).await.map_err(|e| DemoError(e.to_string()))?;
        match campaign.state.present().map(|live| live.status) {
            // A completed campaign is followed by the next one.
            Some(CampaignStatus::Completed) => round += 1,
            Some(CampaignStatus::Draft) | None => break campaign_id,
            Some(status) => {
                tracing::info!(campaign = %campaign_id, "demo: the campaign is {status}");
                return Ok(());
            }
        }
    };
    let import_id = id(&format!("demo contacts {round}"));
    let content = SkillbaseContent {
        name: "Appointment reminder".into(),
        slug: "appointment-reminder".into(),
        config: config()?,
        description: Some("Calls patients who are due for their yearly check-up.".into()),
        is_active: true,
        is_published: true,
    };
    app.store.execute::<Skillbase>(&context, skillbase_id, SkillbaseCommand::Create(Box::new(content))).await?;
    let settings = CampaignSettings {
        description: Some("Calls patients who are due for a check-up.".into()),
        max_concurrent_calls: 10,
        calls_per_minute: 120,
        retry_delay_minutes: 1,
        retry_backoff: Backoff::Exponential,
        default_region: Some("US".into()),
        dialed_by: ::workers::simulator::NAME.into(),
        ..CampaignSettings::new(format!("Autumn check-ups, round {round}"), skillbase_id)
    };
    app.store.execute::<Campaign>(&context, campaign_id, CampaignCommand::Create { settings: Box::new(settings) }).await?;
    let permit = app.uploads.begin(company_id).await?.complete();
    let limits = Limits { rows: app.settings.uploads.max_rows, columns: app.settings.uploads.max_columns };
    let file = CallListFile {
        name: "contacts.csv".into(),
        bytes: call_list().into_bytes().into(),
        limits,
        phone_column: None,
        is_dry_run: false,
        memory: Arc::new(permit),
    };
    app.services.import_call_list(&context.clone().into(), campaign_id, import_id, file).await?;
    app.store.execute::<Campaign>(&context, campaign_id, CampaignCommand::Start { now: now(), resumes: false }).await?;
    tracing::info!(campaign = %campaign_id, "demo: a campaign with {CONTACTS} contacts is running");
    Ok(())
}

/// Numbers of the range that is reserved for fiction: 555-0100 to 555-0199 of every area code.
fn call_list() -> String {
    let name = |names: &[&'static str], i: usize| names.get(i % names.len()).copied().unwrap_or_default();
    let rows = (0..CONTACTS).map(|i| {
        let (area, line) = (["202", "312"][i / 100 % 2], 100 + i % 100);
        let (first, last, city) = (name(FIRST_NAMES, i), name(LAST_NAMES, i / 10 + i), name(CITIES, i));
        format!("({area}) 555-0{line},{first} {last},{city},{}\n", if i % 20 == 0 { 10 } else { 0 })
    });
    std::iter::once("phone_number,name,city,priority\n".to_owned()).chain(rows).collect()
}

fn config() -> Result<SkillbaseConfig, DemoError> {
    let config = json!({
        "context": {
            "role": "You are the receptionist of Harbour Dental and call patients who are due for their yearly check-up.",
            "style": "Friendly, calm, brief.",
            "safety_rules": ["Never give medical advice.", "If somebody does not want to be called, apologise and end the call."],
            "facts": ["Open Monday to Friday, 8:00 to 17:00.", "A check-up takes thirty minutes.", "The first appointment is free."]
        },
        "flow": {
            "type": "graph",
            "states": ["greeting", {"name": "offer", "prompt": "Offer two appointments."}, "questions", "booking", "goodbye"],
            "transitions": [
                {"from": "greeting", "to": "offer", "condition": "the patient has time"},
                {"from": "greeting", "to": "goodbye", "condition": "the patient does not want to talk"},
                {"from": "offer", "to": "questions", "condition": "the patient asks something"},
                {"from": "offer", "to": "booking", "condition": "an appointment suits"},
                {"from": "questions", "to": "booking"},
                {"from": "booking", "to": "goodbye"}
            ]
        },
        "agent": {"handoff_criteria": {"pain": "the patient is in pain"}, "crm_field_mapping": {"city": "City"}},
        "tools": [{"name": "check_availability"}, {"name": "book_appointment"}, {"name": "transfer_to_operator"}],
        "voice": {"tts_provider": "cartesia", "tts_voice_id": "warm-receptionist", "stt_provider": "deepgram", "stt_language": "en"},
        "llm": {"provider": "groq", "model": "llama-3.1-8b-instant", "temperature": 0.4}
    });
    serde_json::from_value(config).map_err(|e| DemoError(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::parse;

    #[test]
    fn the_demo_lets_other_companies_register_and_keeps_a_higher_speed() {
        let demo = |flags: &[&str]| faster(parse(flags).unwrap());
        assert_eq!(demo(&["--registration", "closed"]).identity.registration, RegistrationMode::Open);
        assert!((demo(&[]).simulator.speed - SPEED).abs() < f64::EPSILON);
        assert!((demo(&["--simulator-speed", "100"]).simulator.speed - 100.0).abs() < f64::EPSILON);
    }
}
