//! One turn of a conversation and its measurements.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Personal,
    latency::Latency,
    price::Component,
    validation::{FieldFault, Invalid},
};

/// Longest text of one speaker in a turn, in characters.
pub const TURN_TEXT_MAX: usize = 50_000;
/// Highest turn index.
pub const TURN_INDEX_MAX: u32 = 99_999;
/// Longest latency, in milliseconds (one hour).
pub const LATENCY_MAX_MS: i64 = 3_600_000;
/// Most tokens or characters in a turn.
pub const COUNT_MAX: i64 = 10_000_000;
/// Most speech in a turn, in seconds (one day).
pub const SPEECH_MAX_SEC: i64 = 86_400;

/// An unknown value is `None`, never zero. Latencies are microseconds; speech is seconds as an exact decimal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    pub turn_index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_text: Option<Personal<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_text: Option<Personal<String>>,
    /// The state of the conversation in the agent's own words, which may contain a name. Events from before this field was personal hold it
    /// unencrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Personal<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttfb_stt_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_llm_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttfb_tts_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eou_latency_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stt_duration_sec: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm_input_tokens: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm_output_tokens: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tts_characters: Option<i64>,
    #[serde(default)]
    pub interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stt_provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm_provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tts_provider: Option<String>,
}

/// Billable use of one component in a turn; the quantity is in the component's usage unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage<'a> {
    pub component: Component,
    pub provider: Option<&'a str>,
    pub model: Option<&'a str>,
    pub quantity: Decimal,
}

impl Turn {
    /// A digest of the content: a turn that is sent again has the same digest.
    #[expect(clippy::expect_used, reason = "a turn has no map and no type that refuses to be written")]
    pub fn fingerprint(&self) -> [u8; 16] {
        let json = serde_json::to_vec(self).expect("a turn can be written as JSON");
        let mut short = [0; 16];
        short.copy_from_slice(&Sha256::digest(json)[..16]);
        short
    }

    /// Bytes of the texts of both speakers.
    pub fn text_bytes(&self) -> usize {
        [&self.user_text, &self.agent_text].into_iter().flatten().map(|text| text.reveal().len()).sum()
    }

    /// The measured latencies, in microseconds.
    pub fn latencies(&self) -> impl Iterator<Item = (Latency, i64)> {
        let all = [
            (Latency::TtfbStt, self.ttfb_stt_us),
            (Latency::LatencyLlm, self.latency_llm_us),
            (Latency::TtfbTts, self.ttfb_tts_us),
            (Latency::EouLatency, self.eou_latency_us),
        ];
        all.into_iter().filter_map(|(latency, value)| Some((latency, value?)))
    }

    /// The billable usage of this turn.
    pub fn usage(&self) -> impl Iterator<Item = Usage<'_>> {
        let (stt, tts) = (self.stt_provider.as_deref(), self.tts_provider.as_deref());
        let (llm, model) = (self.llm_provider.as_deref(), self.llm_model.as_deref());
        let all = [
            (Component::Stt, stt, None, self.stt_duration_sec),
            (Component::LlmInput, llm, model, self.llm_input_tokens.map(Decimal::from)),
            (Component::LlmOutput, llm, model, self.llm_output_tokens.map(Decimal::from)),
            (Component::Tts, tts, None, self.tts_characters.map(Decimal::from)),
        ];
        all.into_iter().filter_map(|(component, provider, model, quantity)| Some(Usage { component, provider, model, quantity: quantity? }))
    }

    /// Checks the values; paths start with `prefix`, e.g. `turns[3].`.
    pub fn validate(&self, prefix: &str, invalid: &mut Invalid) {
        let path = |field: &str| format!("{prefix}{field}");
        invalid.range(&path("turn_index"), self.turn_index, 0, TURN_INDEX_MAX);
        for (field, text) in [("user_text", &self.user_text), ("agent_text", &self.agent_text)] {
            if let Some(text) = text.as_ref().map(Personal::reveal) {
                invalid.optional_text(&path(field), text, TURN_TEXT_MAX);
            }
        }
        for (latency, value) in self.latencies() {
            // The message gives the limits in the unit in which clients send the field.
            let is_valid = (0..=LATENCY_MAX_MS * 1_000).contains(&value);
            let fault = FieldFault::OutOfRange { min: "0".to_owned(), max: LATENCY_MAX_MS.to_string() };
            invalid.require(is_valid, &path(&format!("{latency}_ms")), fault);
        }
        for usage in self.usage() {
            let (field, max) = match usage.component {
                Component::Stt | Component::Livekit => ("stt_duration_sec", SPEECH_MAX_SEC),
                Component::LlmInput => ("llm_input_tokens", COUNT_MAX),
                Component::LlmOutput => ("llm_output_tokens", COUNT_MAX),
                Component::Tts => ("tts_characters", COUNT_MAX),
            };
            invalid.range(&path(field), usage.quantity, Decimal::ZERO, Decimal::from(max));
        }
        let names = [
            ("state", self.state.as_ref().map(Personal::reveal)),
            ("stt_provider", self.stt_provider.as_ref()),
            ("llm_provider", self.llm_provider.as_ref()),
            ("llm_model", self.llm_model.as_ref()),
            ("tts_provider", self.tts_provider.as_ref()),
        ];
        for (field, name) in names {
            if let Some(name) = name {
                invalid.text(&path(field), name, 200);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_latency_are_told_in_milliseconds() {
        for us in [-1, LATENCY_MAX_MS * 1_000 + 1] {
            let mut invalid = Invalid::default();
            Turn { ttfb_stt_us: Some(us), ..Turn::default() }.validate("", &mut invalid);
            assert_eq!(invalid.to_string(), "ttfb_stt_ms: must be from 0 to 3600000");
        }
        let mut invalid = Invalid::default();
        Turn { ttfb_stt_us: Some(LATENCY_MAX_MS * 1_000), ..Turn::default() }.validate("", &mut invalid);
        assert_eq!(invalid, Invalid::default());
    }
}
