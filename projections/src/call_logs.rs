//! Call logs: one row per turn.

use std::collections::{HashMap, VecDeque};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact, Personal,
    call::{Call, CallEvent, Turn},
    count,
};
use eventstore::{
    BoundedPage, HoldsPersonal, StreamName,
    persons::{Envelope, PersonalValues},
};
use rust_decimal::Decimal;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    engine::{ApplyError, PersonalColumns, Projection, ReadModel, Recorded, Table, fit},
    page::{After, long_rows},
    personal::text_of,
};

pub const READ_MODEL: ReadModel = ReadModel::new("call_logs");

pub struct CallLogs;

const PERSONAL: &[PersonalColumns] = &[PersonalColumns {
    envelope: "personal",
    placeholders: &["user_text", "agent_text", "state"],
    stream: (Call::CATEGORY, "call_id"),
    bound: &[("/turn_index", "turn_index")],
}];

/// Number of calls that are read at once for the turns of a campaign.
const CALLS_AT_ONCE: i64 = 20;

/// A turn as it was recorded.
pub struct CallLogRow {
    pub call_id: Uuid,
    pub turn_index: i32,
    pub occurred_at: DateTime<Utc>,
    pub recorded_at: DateTime<Utc>,
    pub user_text: Option<String>,
    pub agent_text: Option<String>,
    pub state: Option<String>,
    pub ttfb_stt_us: Option<i64>,
    pub latency_llm_us: Option<i64>,
    pub ttfb_tts_us: Option<i64>,
    pub eou_latency_us: Option<i64>,
    pub stt_duration_sec: Option<Decimal>,
    pub llm_input_tokens: Option<i64>,
    pub llm_output_tokens: Option<i64>,
    pub tts_characters: Option<i64>,
    pub interrupted: bool,
    pub stt_provider: Option<String>,
    pub llm_provider: Option<String>,
    pub llm_model: Option<String>,
    pub tts_provider: Option<String>,
    /// What was said, and the state; the columns have placeholders until this envelope is opened.
    pub personal: Option<Json<Envelope>>,
}

impl HoldsPersonal for CallLogRow {
    fn stream(&self) -> String {
        StreamName::of::<Call>(self.call_id).to_string()
    }

    fn envelopes(&self) -> Vec<Envelope> {
        self.personal.iter().map(|Json(envelope)| envelope.clone().beside("/turn_index", self.turn_index)).collect()
    }

    fn reveal(&mut self, values: PersonalValues) {
        for (field, value) in values {
            match field.as_str() {
                "/user_text" => self.user_text = Some(text_of(value)),
                "/agent_text" => self.agent_text = Some(text_of(value)),
                "/state" => self.state = Some(text_of(value)),
                _ => {}
            }
        }
    }
}

crate::register!(CallLogs);

#[async_trait]
impl Projection for CallLogs {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("call_logs", "occurred_at").with_personal(PERSONAL)] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[Call::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        let turns = events.iter().filter_map(|event| match &event.fact {
            Fact::Call(CallEvent::TurnRecorded(turn)) => Some((*event, turn.as_ref())),
            _ => None,
        });
        let turns: Vec<_> = turns.collect();
        if !turns.is_empty() {
            insert(db, &turns).await?;
        }
        Ok(())
    }
}

async fn insert(db: &mut PgConnection, turns: &[(&Recorded, &Turn)]) -> Result<(), ApplyError> {
    fn column<'a, T>(turns: &[(&'a Recorded, &'a Turn)], of: impl Fn(&'a Recorded, &'a Turn) -> T) -> Vec<T> {
        turns.iter().map(|(event, turn)| of(event, turn)).collect()
    }
    let text = |of: fn(&Turn) -> &Option<Personal<String>>| column(turns, |_, t| of(t).as_ref().map(|text| text.reveal().clone()));
    let indexes = turns.iter().map(|(_, turn)| fit(turn.turn_index)).collect::<Result<Vec<i32>, _>>()?;
    sqlx::query!(
        "insert into call_logs (company_id, call_id, turn_index, occurred_at, recorded_at, user_text, agent_text, state,
                ttfb_stt_us, latency_llm_us, ttfb_tts_us, eou_latency_us, stt_duration_sec, llm_input_tokens, llm_output_tokens,
                tts_characters, interrupted, stt_provider, llm_provider, llm_model, tts_provider, personal)
         select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
                $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::numeric[], $14::bigint[], $15::bigint[],
                $16::bigint[], $17::bool[], $18::text[], $19::text[], $20::text[], $21::text[], $22::jsonb[])",
        &column(turns, |e, _| e.company_id),
        &column(turns, |e, _| e.id),
        &indexes,
        &column(turns, |e, _| e.occurred_at),
        &column(turns, |e, _| e.recorded_at),
        &text(|t| &t.user_text) as &[Option<String>],
        &text(|t| &t.agent_text) as &[Option<String>],
        &text(|t| &t.state) as &[Option<String>],
        &column(turns, |_, t| t.ttfb_stt_us) as &[Option<i64>],
        &column(turns, |_, t| t.latency_llm_us) as &[Option<i64>],
        &column(turns, |_, t| t.ttfb_tts_us) as &[Option<i64>],
        &column(turns, |_, t| t.eou_latency_us) as &[Option<i64>],
        &column(turns, |_, t| t.stt_duration_sec) as &[Option<Decimal>],
        &column(turns, |_, t| t.llm_input_tokens) as &[Option<i64>],
        &column(turns, |_, t| t.llm_output_tokens) as &[Option<i64>],
        &column(turns, |_, t| t.tts_characters) as &[Option<i64>],
        &column(turns, |_, t| t.interrupted),
        &column(turns, |_, t| t.stt_provider.clone()) as &[Option<String>],
        &column(turns, |_, t| t.llm_provider.clone()) as &[Option<String>],
        &column(turns, |_, t| t.llm_model.clone()) as &[Option<String>],
        &column(turns, |_, t| t.tts_provider.clone()) as &[Option<String>],
        &column(turns, |e, _| e.personal.clone().map(Json)) as &[Option<Json<Envelope>>]
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A call's turns after `after`, by turn index: at most `limit`, and fewer if they are long.
pub async fn page_of_call(
    db: &mut PgConnection,
    company_id: Uuid,
    call_id: Uuid,
    after: Option<i32>,
    limit: usize,
) -> Result<BoundedPage<CallLogRow>, sqlx::Error> {
    let mut reader = long_rows::<CallLogRow>(limit);
    while let Some(count) = reader.rows_to_read() {
        let after = reader.last().map_or(after, |row| Some(row.turn_index));
        let rows = of_call(&mut *db, company_id, call_id, after, count::to_i64(count)).await?;
        reader.add(rows, |row| row.envelopes().iter().map(Envelope::size).sum());
    }
    Ok(reader.into_page())
}

/// The place of a turn among the turns of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnPlace {
    pub call: After,
    pub turn_index: i32,
}

/// A page of a campaign's turns, and the place of its last one.
pub struct CampaignTurns {
    pub page: BoundedPage<CallLogRow>,
    pub last: Option<TurnPlace>,
}

/// The turns of a campaign's calls after `after`: newest call first, the turns of a call by turn index. At most `limit`, and fewer if they
/// are long.
pub async fn page_of_campaign(
    db: &mut PgConnection,
    company_id: Uuid,
    campaign_id: Uuid,
    after: Option<TurnPlace>,
    limit: usize,
) -> Result<CampaignTurns, sqlx::Error> {
    let mut reader = long_rows::<CallLogRow>(limit);
    let (mut read_to, mut calls) = (after.map(|place| place.turn_index), VecDeque::from_iter(after.map(|place| place.call)));
    let mut last_call = after.map(|place| place.call);
    let mut places = HashMap::new();
    while let Some(count) = reader.rows_to_read() {
        let mut rows = Vec::new();
        while rows.len() < count {
            if calls.is_empty() {
                calls.extend(calls_with_turns(&mut *db, company_id, campaign_id, last_call).await?);
                last_call = calls.back().copied().or(last_call);
            }
            let Some(call) = calls.front().copied() else { break };
            places.insert(call.id, call);
            let wanted = count - rows.len();
            let of_call = of_call(&mut *db, company_id, call.id, read_to, count::to_i64(wanted)).await?;
            read_to = of_call.last().map(|row| row.turn_index).or(read_to);
            if of_call.len() < wanted {
                calls.pop_front();
                read_to = None;
            }
            rows.extend(of_call);
        }
        reader.add(rows, |row| row.envelopes().iter().map(Envelope::size).sum());
    }
    let page = reader.into_page();
    let last = page.rows.last().and_then(|row| Some(TurnPlace { call: *places.get(&row.call_id)?, turn_index: row.turn_index }));
    Ok(CampaignTurns { page, last })
}

/// The campaign's next calls that have turns, newest first: many calls have none, because the person did not answer.
async fn calls_with_turns(
    db: &mut PgConnection,
    company_id: Uuid,
    campaign_id: Uuid,
    after: Option<After>,
) -> Result<Vec<After>, sqlx::Error> {
    sqlx::query_as!(
        After,
        "select started_at as at, call_id as id from calls c
          where company_id = $1 and campaign_id = $2 and ($3::timestamptz is null or (started_at, call_id) < ($3, $4::uuid))
            and exists (select from call_logs l where l.company_id = c.company_id and l.call_id = c.call_id)
          order by started_at desc, call_id desc limit $5",
        company_id,
        campaign_id,
        after.map(|after| after.at),
        after.map(|after| after.id),
        CALLS_AT_ONCE
    )
    .fetch_all(db)
    .await
}

/// A call's turns after `after`, by turn index.
async fn of_call(
    db: &mut PgConnection,
    company_id: Uuid,
    call_id: Uuid,
    after: Option<i32>,
    limit: i64,
) -> Result<Vec<CallLogRow>, sqlx::Error> {
    sqlx::query_as!(
        CallLogRow,
        r#"select call_id, turn_index, occurred_at, recorded_at, user_text, agent_text, state, ttfb_stt_us, latency_llm_us, ttfb_tts_us, eou_latency_us,
                stt_duration_sec, llm_input_tokens, llm_output_tokens, tts_characters, interrupted, stt_provider, llm_provider, llm_model,
                tts_provider, personal as "personal: Json<Envelope>"
           from call_logs where company_id = $1 and call_id = $2 and ($3::int is null or turn_index > $3)
          order by turn_index limit $4"#,
        company_id,
        call_id,
        after,
        limit
    )
    .fetch_all(db)
    .await
}
