//! The configuration of a skillbase in the OpenAPI document. The domain reads and checks configurations; a test compares the fields here with
//! those that the domain knows.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::words::FlowTypeName;

/// What a bot is and says
#[derive(Serialize, ToSchema)]
#[schema(as = SkillbaseConfig, example = json!(example()))]
pub struct ConfigSchema {
    /// Who the bot is and what it knows
    context: ContextSchema,
    /// The course of the conversation
    flow: FlowSchema,
    /// Data for the systems around the bot
    agent: Option<AgentSchema>,
    /// What the bot can do beside talking; each name once
    tools: Option<Vec<ToolConfigSchema>>,
    /// How the bot hears and speaks
    voice: VoiceSchema,
    /// The language model
    llm: LlmSchema,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SkillbaseContext)]
pub struct ContextSchema {
    /// Who the bot is, up to 20,000 characters; the prompt begins with it
    role: String,
    /// How it speaks
    style: Option<String>,
    /// What it must and must not do, up to 1,000 rules
    safety_rules: Option<Vec<String>>,
    /// What it knows, up to 1,000 facts
    facts: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SkillbaseFlow)]
pub struct FlowSchema {
    /// `linear`: from each state to the next; `graph`: along the transitions, from the first state, which must lead to every other
    #[serde(rename = "type")]
    flow_type: FlowTypeName,
    /// 1 to 1,000 states, each name once
    states: Vec<StateSchema>,
    /// For a graph: its edges
    transitions: Option<Vec<TransitionSchema>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SkillbaseTransition)]
pub struct TransitionSchema {
    /// Name of a state; `from_state` is read as well
    from: String,
    /// Name of a state; `to_state` is read as well
    to: String,
    /// When to go there, in words for the language model; absent: always
    condition: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SkillbaseAgent)]
pub struct AgentSchema {
    /// When to hand the call over: any data
    handoff_criteria: Option<HashMap<String, Value>>,
    /// Names of your fields for the bot's data: any data
    crm_field_mapping: Option<HashMap<String, Value>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SkillbaseTool)]
pub struct ToolConfigSchema {
    /// `check_availability`, `book_appointment` and `transfer_to_operator` have parameters of their own; `calendar` without parameters stands
    /// for the first two; others have those that are given
    name: String,
    /// Whether the bot may use it; absent: true
    enabled: Option<bool>,
    /// JSON schema of the tool's parameters, or the properties alone
    parameters: Option<HashMap<String, Value>>,
    /// Settings for your engine: any data. They are stored unencrypted and kept: do not put secrets into them
    config: Option<HashMap<String, Value>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SkillbaseVoice)]
pub struct VoiceSchema {
    /// cartesia, elevenlabs, openai, deepgram, google, azure or custom
    tts_provider: String,
    /// The provider's id of the voice
    tts_voice_id: Option<String>,
    /// deepgram, openai, google, azure, whisper, assemblyai or custom
    stt_provider: String,
    /// The language to recognize, in the provider's form
    stt_language: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SkillbaseLlm)]
pub struct LlmSchema {
    /// openai, groq, anthropic, gemini, openai_realtime, gemini_live, ollama or custom
    provider: String,
    /// The provider's name of the model
    model: String,
    /// 0 to 2
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Limit on the tokens of an answer
    #[schema(minimum = 1, maximum = 10_000_000)]
    max_tokens: Option<u32>,
}

/// A state with data of its own
#[derive(Serialize, ToSchema)]
#[schema(as = SkillbaseStateObject)]
pub struct StateObjectSchema {
    /// Name of the state. A state with an `id` has that as its name, and its name as `label`
    name: String,
    /// Any further fields for your dialog engine; a `prompt` becomes a part of the system prompt
    #[serde(flatten)]
    others: HashMap<String, Value>,
}

/// The flow as a graph, whatever its configured form is
#[derive(Serialize, ToSchema)]
#[schema(as = Scenario)]
pub struct ScenarioSchema {
    /// The configured form
    flow_type: FlowTypeName,
    /// Name of the first state
    initial_state: String,
    /// The states, in the configured order
    states: Vec<ScenarioStateSchema>,
    /// Who the bot is and what it knows
    context: ScenarioContextSchema,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ScenarioState)]
pub struct ScenarioStateSchema {
    /// Name of the state
    name: String,
    /// The fields that were configured beside the name
    data: HashMap<String, Value>,
    /// Where the conversation can go from here
    transitions: Vec<ScenarioTransitionSchema>,
    /// No transition leads out of the state: the conversation ends here
    is_final: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ScenarioTransition)]
pub struct ScenarioTransitionSchema {
    /// Name of a state
    to: String,
    /// When to go there; null: always
    condition: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ScenarioContext)]
pub struct ScenarioContextSchema {
    /// Who the bot is
    role: String,
    /// How it speaks
    style: Option<String>,
    /// What it must and must not do
    safety_rules: Vec<String>,
    /// What it knows
    facts: Vec<String>,
}

/// A function tool in the shape of OpenAI's function calling
#[derive(Serialize, ToSchema)]
#[schema(as = Tool)]
pub struct ToolSchema {
    /// Always `function`
    #[serde(rename = "type")]
    tool_type: String,
    /// What the language model can call
    function: FunctionSchema,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ToolFunction)]
pub struct FunctionSchema {
    /// Name of the tool
    name: String,
    /// What it does; empty for tools that are not built in
    description: String,
    /// JSON schema of the arguments
    parameters: HashMap<String, Value>,
}
/// A state: its name alone, or an object with its name
#[derive(Serialize, ToSchema)]
#[schema(as = SkillbaseState)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what the domain reads and writes")]
pub enum StateSchema {
    Name(String),
    Object(StateObjectSchema),
}

/// A configuration that can be pasted.
pub fn example() -> Value {
    serde_json::json!({
        "context": {"role": "You remind people of their appointment.", "style": "short and friendly", "safety_rules": ["Never give medical advice."],
            "facts": ["The practice opens at 8."]},
        "flow": {"type": "graph", "states": ["greeting", {"name": "reminder", "prompt": "Say day and time, and ask whether it suits."}, "goodbye"],
            "transitions": [{"from": "greeting", "to": "reminder", "condition": "the right person is speaking"}, {"from": "greeting", "to": "goodbye"},
                {"from": "reminder", "to": "goodbye"}]},
        "agent": {"handoff_criteria": {"asks_for": "a person"}, "crm_field_mapping": {"name": "full_name"}},
        "tools": [{"name": "book_appointment", "enabled": true},
            {"name": "find_order", "parameters": {"order_id": {"type": "string", "description": "Number of the order"}}}],
        "voice": {"tts_provider": "cartesia", "tts_voice_id": "sonic-2", "stt_provider": "deepgram", "stt_language": "en"},
        "llm": {"provider": "groq", "model": "llama-3.1-8b-instant", "temperature": 0.4}
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use domain::skillbase::{SkillbaseConfig, scenario, tools};
    use utoipa::{
        PartialSchema,
        openapi::{RefOr, Schema},
    };

    use super::*;

    /// Names of the properties of a schema.
    fn properties<T: PartialSchema>() -> BTreeSet<String> {
        match T::schema() {
            RefOr::T(Schema::Object(object)) => object.properties.into_keys().collect(),
            _ => panic!("it is an object"),
        }
    }

    fn keys(value: &Value) -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    }

    /// The fields that the domain lists when it gets an unknown one, without the other names that it reads.
    fn known_to_the_domain(at: &str) -> BTreeSet<String> {
        let mut config = example();
        config.pointer_mut(at).unwrap().as_object_mut().unwrap().insert("?".to_owned(), Value::Null);
        let error = serde_json::from_value::<SkillbaseConfig>(config).unwrap_err().to_string();
        error.split('`').skip(3).step_by(2).filter(|name| !["from_state", "to_state"].contains(name)).map(str::to_owned).collect()
    }

    #[test]
    fn the_document_has_the_fields_of_a_configuration() {
        assert_eq!(properties::<ConfigSchema>(), known_to_the_domain(""));
        assert_eq!(properties::<ContextSchema>(), known_to_the_domain("/context"));
        assert_eq!(properties::<FlowSchema>(), known_to_the_domain("/flow"));
        assert_eq!(properties::<TransitionSchema>(), known_to_the_domain("/flow/transitions/0"));
        assert_eq!(properties::<AgentSchema>(), known_to_the_domain("/agent"));
        assert_eq!(properties::<ToolConfigSchema>(), known_to_the_domain("/tools/0"));
        assert_eq!(properties::<VoiceSchema>(), known_to_the_domain("/voice"));
        assert_eq!(properties::<LlmSchema>(), known_to_the_domain("/llm"));
    }

    #[test]
    fn the_document_has_the_fields_of_scenario_and_tools() {
        let config: SkillbaseConfig = serde_json::from_value(example()).unwrap();
        assert!(config.validate().is_ok());
        let scenario = serde_json::to_value(scenario::adapt(&config)).unwrap();
        assert_eq!(properties::<ScenarioSchema>(), keys(&scenario));
        assert_eq!(properties::<ScenarioStateSchema>(), keys(&scenario["states"][1]));
        assert_eq!(properties::<ScenarioTransitionSchema>(), keys(&scenario["states"][0]["transitions"][0]));
        assert_eq!(properties::<ScenarioContextSchema>(), keys(&scenario["context"]));
        let tool = &tools::schemas(&config)[1];
        assert_eq!(properties::<ToolSchema>(), keys(tool));
        assert_eq!(properties::<FunctionSchema>(), keys(&tool["function"]));
    }
}
