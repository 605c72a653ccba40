//! A bot's configuration: its shape and the checks that it must pass.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Map, Value};

use super::alias::WrittenTransition;
use crate::{
    Coded,
    decimal::{self, DecimalError},
    validation::{FieldFault, Invalid},
};

pub const LLM_PROVIDERS: &[&str] = &["openai", "groq", "anthropic", "gemini", "openai_realtime", "gemini_live", "ollama", "custom"];
pub const STT_PROVIDERS: &[&str] = &["deepgram", "openai", "google", "azure", "whisper", "assemblyai", "custom"];
pub const TTS_PROVIDERS: &[&str] = &["cartesia", "elevenlabs", "openai", "deepgram", "google", "azure", "custom"];

/// Longest single text in a configuration, in characters.
pub const TEXT_MAX: usize = 20_000;
/// Most entries of a list in a configuration: rules, facts, states, transitions, tools.
pub const ENTRIES_MAX: usize = 1_000;
/// Longest name of a state, in characters.
pub(super) const STATE_NAME_MAX: usize = 200;
/// Largest limit on the tokens of an answer.
const TOKENS_MAX: u32 = 10_000_000;

/// The configuration as the API accepts it. Fields that the client did not give stay absent, so that the API returns what the client sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillbaseConfig {
    pub context: Context,
    pub flow: Flow,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    pub voice: Voice,
    pub llm: Llm,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety_rules: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FlowType {
    Linear,
    Graph,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    #[serde(rename = "type")]
    pub flow_type: FlowType,
    pub states: Vec<FlowState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transitions: Option<Vec<Transition>>,
}

/// A state: its name alone, or an object with a name and any other fields that the customer's engine needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FlowState {
    Name(String),
    Object(Map<String, Value>),
}

impl FlowState {
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Object(object) => object.get("name").and_then(Value::as_str).unwrap_or_default(),
        }
    }

    /// A text of the state's object, e.g. its `prompt`.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self {
            Self::Name(_) => None,
            Self::Object(object) => object.get(key).and_then(Value::as_str),
        }
    }
}

impl<'de> Deserialize<'de> for FlowState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(name) => Ok(Self::Name(name)),
            Value::Object(object) if object.get("name").is_some_and(Value::is_string) => Ok(Self::Object(object)),
            _ => Err(D::Error::custom("a state is its name, or an object with a name")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenTransition")]
pub struct Transition {
    pub from: String,
    pub to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handoff_criteria: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crm_field_mapping: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
    /// Settings for the customer's engine; the language model does not get them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voice {
    pub tts_provider: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tts_voice_id: Option<String>,
    pub stt_provider: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stt_language: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llm {
    pub provider: String,
    pub model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
    /// Limit on the tokens of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

/// 0 to 2. A JSON number in the API, a decimal string in the log, which holds no floating-point numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Temperature(Decimal);

impl<'de> Deserialize<'de> for Temperature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decimal::read_value(&Value::deserialize(deserializer)?).map(Self).map_err(|error| match error {
            DecimalError::Malformed => D::Error::custom("must be a number from 0 to 2"),
            DecimalError::TooManyDigits => D::Error::custom(error),
        })
    }
}

impl SkillbaseConfig {
    /// The configuration as the API shows it: as stored, with `llm.temperature` as a number.
    #[expect(clippy::expect_used, reason = "texts, lists, maps with text keys and decimals can be written as JSON")]
    pub fn to_api(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("a configuration can be written as JSON");
        if let (Some(temperature), Some(llm)) = (self.llm.temperature, value.get_mut("llm").and_then(Value::as_object_mut)) {
            let number = temperature.0.to_string().parse().expect("a decimal is written as JSON writes numbers");
            llm.insert("temperature".into(), Value::Number(number));
        }
        value
    }

    /// Names of the enabled tools, in order.
    pub fn enabled_tools(&self) -> impl Iterator<Item = &Tool> {
        self.tools.iter().flatten().filter(|tool| tool.enabled.unwrap_or(true))
    }

    /// Checks the configuration as a whole. Paths start with `config`.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::default();
        self.context.validate(&mut invalid);
        self.flow.validate(&mut invalid);
        self.validate_tools(&mut invalid);
        known(&mut invalid, "config.voice.tts_provider", &self.voice.tts_provider, TTS_PROVIDERS);
        known(&mut invalid, "config.voice.stt_provider", &self.voice.stt_provider, STT_PROVIDERS);
        known(&mut invalid, "config.llm.provider", &self.llm.provider, LLM_PROVIDERS);
        invalid.text("config.llm.model", &self.llm.model, 200);
        if let Some(Temperature(t)) = self.llm.temperature {
            invalid.range("config.llm.temperature", t, Decimal::ZERO, Decimal::TWO);
        }
        if let Some(tokens) = self.llm.max_tokens {
            invalid.range("config.llm.max_tokens", tokens, 1, TOKENS_MAX);
        }
        invalid.into_result()
    }

    fn validate_tools(&self, invalid: &mut Invalid) {
        let count = self.tools.iter().flatten().count();
        invalid.require(count <= ENTRIES_MAX, "config.tools", FieldFault::TooManyEntries { max: ENTRIES_MAX });
        let mut names = BTreeSet::new();
        for (i, tool) in self.tools.iter().flatten().enumerate() {
            let path = format!("config.tools[{i}].name");
            invalid.text(&path, &tool.name, 64);
            invalid.require(names.insert(&tool.name), &path, ConfigFault::ToolRepeated);
        }
    }
}

impl Context {
    fn validate(&self, invalid: &mut Invalid) {
        invalid.text("config.context.role", &self.role, TEXT_MAX);
        for (field, texts) in [("safety_rules", &self.safety_rules), ("facts", &self.facts)] {
            let texts = texts.as_deref().unwrap_or_default();
            invalid.require(
                texts.len() <= ENTRIES_MAX,
                &format!("config.context.{field}"),
                FieldFault::TooManyEntries { max: ENTRIES_MAX },
            );
            for (i, text) in texts.iter().enumerate() {
                invalid.text(&format!("config.context.{field}[{i}]"), text, TEXT_MAX);
            }
        }
    }
}

impl Flow {
    fn validate(&self, invalid: &mut Invalid) {
        let transitions = self.transitions.as_deref().unwrap_or_default();
        invalid.require(!self.states.is_empty(), "config.flow.states", FieldFault::TooFewEntries { min: 1 });
        invalid.require(self.states.len() <= ENTRIES_MAX, "config.flow.states", FieldFault::TooManyEntries { max: ENTRIES_MAX });
        invalid.require(transitions.len() <= ENTRIES_MAX, "config.flow.transitions", FieldFault::TooManyEntries { max: ENTRIES_MAX });
        let mut index = BTreeMap::new();
        for (i, state) in self.states.iter().enumerate() {
            let path = match state {
                FlowState::Name(_) => format!("config.flow.states[{i}]"),
                FlowState::Object(_) => format!("config.flow.states[{i}].name"),
            };
            invalid.text(&path, state.name(), STATE_NAME_MAX);
            if index.insert(state.name(), i).is_some() {
                invalid.add(path, ConfigFault::StateRepeated { name: state.name().to_owned() });
            }
        }
        for (i, transition) in transitions.iter().enumerate() {
            for (end, name) in [("from", &transition.from), ("to", &transition.to)] {
                if !index.contains_key(name.as_str()) {
                    invalid.add(format!("config.flow.transitions[{i}].{end}"), ConfigFault::NoState { name: name.clone() });
                }
            }
        }
        if self.flow_type == FlowType::Graph && invalid.0.is_empty() {
            self.require_reachable(transitions, &index, invalid);
        }
    }

    /// Every state of a graph must be reachable from the first.
    fn require_reachable(&self, transitions: &[Transition], index: &BTreeMap<&str, usize>, invalid: &mut Invalid) {
        let mut reached = vec![false; self.states.len()];
        let mut open: Vec<&str> = self.states.first().map(FlowState::name).into_iter().collect();
        while let Some(name) = open.pop() {
            let Some(seen) = index.get(name).and_then(|i| reached.get_mut(*i)) else { continue };
            if !std::mem::replace(seen, true) {
                open.extend(transitions.iter().filter(|t| t.from == name).map(|t| t.to.as_str()));
            }
        }
        for (i, state) in self.states.iter().enumerate().filter(|(i, _)| !reached[*i]) {
            invalid.add(format!("config.flow.states[{i}]"), ConfigFault::StateUnreachable { name: state.name().to_owned() });
        }
    }
}

/// What can be wrong with a configuration.
#[derive(Clone, Debug, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConfigFault {
    #[error("another tool has this name")]
    ToolRepeated,
    #[error("the state has an id, so its name is its label, and the two are different")]
    LabelDiffers,
    #[error("must be a text")]
    NotText,
    #[error("another state is named '{name}'")]
    StateRepeated { name: String },
    #[error("there is no state '{name}'")]
    NoState { name: String },
    #[error("state '{name}' cannot be reached from the first state")]
    StateUnreachable { name: String },
    #[error("unknown provider '{provider}'; known are {}", known.join(", "))]
    UnknownProvider { provider: String, known: Vec<String> },
}

impl Coded for ConfigFault {
    const AREA: &'static str = "config";
}

fn known(invalid: &mut Invalid, path: &str, provider: &str, known: &[&str]) {
    if !known.contains(&provider) {
        let known = known.iter().map(|name| (*name).to_owned()).collect();
        invalid.add(path, ConfigFault::UnknownProvider { provider: provider.to_owned(), known });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub fn config() -> Value {
        json!({
            "context": {"role": "Receptionist", "style": "warm", "safety_rules": ["Never give medical advice"], "facts": ["Open 9-5"]},
            "flow": {"type": "graph",
                "states": ["greeting", {"name": "offer", "prompt": "Offer a slot"}, "bye"],
                "transitions": [{"from": "greeting", "to": "offer", "condition": "interested"}, {"from": "offer", "to": "bye"}, {"from": "greeting", "to": "bye"}]},
            "agent": {"handoff_criteria": {"angry": true}, "crm_field_mapping": {"name": "Name"}},
            "tools": [{"name": "book_appointment", "enabled": true, "parameters": {"calendar": "main"}}],
            "voice": {"tts_provider": "cartesia", "tts_voice_id": "v1", "stt_provider": "deepgram", "stt_language": "en"},
            "llm": {"provider": "groq", "model": "llama-3.1-8b-instant", "temperature": 0.7}
        })
    }

    fn errors(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut value = config();
        change(&mut value);
        let config: SkillbaseConfig = serde_json::from_value(value).unwrap();
        config.validate().err().map(|e| e.0.into_iter().map(|e| e.path).collect()).unwrap_or_default()
    }

    #[test]
    fn what_was_sent_comes_back_and_the_log_holds_no_floats() {
        let parsed: SkillbaseConfig = serde_json::from_value(config()).unwrap();
        assert_eq!(parsed.validate(), Ok(()));
        assert_eq!(parsed.to_api(), config());
        assert_eq!(serde_json::to_value(&parsed).unwrap()["llm"]["temperature"], json!("0.7"));
        let stored: SkillbaseConfig = serde_json::from_value(serde_json::to_value(&parsed).unwrap()).unwrap();
        assert_eq!(stored, parsed);
    }

    #[test]
    fn transitions_must_lead_to_states_that_are_there() {
        assert_eq!(errors(|c| c["flow"]["transitions"][1]["to"] = json!("nowhere")), ["config.flow.transitions[1].to"]);
    }

    #[test]
    fn state_names_are_unique() {
        assert_eq!(errors(|c| c["flow"]["states"][1]["name"] = json!("greeting"))[0], "config.flow.states[1].name");
    }

    #[test]
    fn every_state_of_a_graph_can_be_reached() {
        let unreachable = |c: &mut Value| c["flow"]["states"].as_array_mut().unwrap().push(json!("island"));
        assert_eq!(errors(unreachable), ["config.flow.states[3]"]);
        assert!(
            errors(|c| {
                unreachable(c);
                c["flow"]["type"] = json!("linear");
            })
            .is_empty()
        );
    }

    #[test]
    fn providers_are_known_ones_or_custom() {
        assert_eq!(errors(|c| c["llm"]["provider"] = json!("acme")), ["config.llm.provider"]);
        assert_eq!(errors(|c| c["voice"]["stt_provider"] = json!("cartesia")), ["config.voice.stt_provider"]);
        assert!(errors(|c| c["voice"]["tts_provider"] = json!("custom")).is_empty());
    }

    #[test]
    fn temperature_is_from_zero_to_two() {
        assert_eq!(errors(|c| c["llm"]["temperature"] = json!(2.1)), ["config.llm.temperature"]);
        assert!(errors(|c| c["llm"]["temperature"] = json!(2)).is_empty());
    }

    #[test]
    fn a_configuration_has_a_thousand_tools_at_most() {
        let tools = |count: usize| (0..count).map(|i| json!({"name": format!("tool{i}")})).collect::<Value>();
        assert!(errors(|c| c["tools"] = tools(ENTRIES_MAX)).is_empty());
        assert_eq!(errors(|c| c["tools"] = tools(ENTRIES_MAX + 1)), ["config.tools"]);
    }

    #[test]
    fn an_answer_has_at_least_one_token() {
        assert_eq!(errors(|c| c["llm"]["max_tokens"] = json!(0)), ["config.llm.max_tokens"]);
        assert!(errors(|c| c["llm"]["max_tokens"] = json!(1024)).is_empty());
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let all = errors(|c| {
            c["context"]["role"] = json!(" ");
            c["flow"]["states"] = json!([]);
            c["llm"]["model"] = json!("");
        });
        assert!(
            all.contains(&"config.context.role".into())
                && all.contains(&"config.flow.states".into())
                && all.contains(&"config.llm.model".into())
        );
    }
}
