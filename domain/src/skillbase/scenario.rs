//! The scenario that a dialog engine runs: the flow as a graph, whatever its configured form is, with context, rules and facts.

use serde::Serialize;
use serde_json::{Map, Value};

use super::config::{FlowState, FlowType, SkillbaseConfig};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scenario {
    pub flow_type: FlowType,
    /// Name of the first state.
    pub initial_state: String,
    pub states: Vec<ScenarioState>,
    pub context: ScenarioContext,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScenarioState {
    pub name: String,
    /// The fields that the customer configured beside the name.
    pub data: Map<String, Value>,
    pub transitions: Vec<ScenarioTransition>,
    /// No transition leads out of this state: the conversation ends here.
    pub is_final: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScenarioTransition {
    pub to: String,
    /// `None`: always.
    pub condition: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScenarioContext {
    pub role: String,
    pub style: Option<String>,
    pub safety_rules: Vec<String>,
    pub facts: Vec<String>,
}

/// Linear flows lead from each state to the next; graphs follow their transitions.
pub fn adapt(config: &SkillbaseConfig) -> Scenario {
    let flow = &config.flow;
    let linear = |i: usize| flow.states.get(i + 1).map(|next| ScenarioTransition { to: next.name().to_owned(), condition: None });
    let graph = |name: &str| {
        let from_here = flow.transitions.iter().flatten().filter(|t| t.from == name);
        from_here.map(|t| ScenarioTransition { to: t.to.clone(), condition: t.condition.clone() }).collect()
    };
    let states = flow.states.iter().enumerate().map(|(i, state)| {
        let transitions: Vec<_> = match flow.flow_type {
            FlowType::Linear => linear(i).into_iter().collect(),
            FlowType::Graph => graph(state.name()),
        };
        ScenarioState { name: state.name().to_owned(), data: data(state), is_final: transitions.is_empty(), transitions }
    });
    Scenario {
        flow_type: flow.flow_type,
        initial_state: flow.states.first().map(|s| s.name().to_owned()).unwrap_or_default(),
        states: states.collect(),
        context: ScenarioContext {
            role: config.context.role.clone(),
            style: config.context.style.clone(),
            safety_rules: config.context.safety_rules.clone().unwrap_or_default(),
            facts: config.context.facts.clone().unwrap_or_default(),
        },
    }
}

fn data(state: &FlowState) -> Map<String, Value> {
    match state {
        FlowState::Name(_) => Map::new(),
        FlowState::Object(object) => object.iter().filter(|(key, _)| *key != "name").map(|(k, v)| (k.clone(), v.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::skillbase::config::tests::config;

    #[test]
    fn a_graph_keeps_its_transitions_and_what_states_carry() {
        let scenario = adapt(&serde_json::from_value(config()).unwrap());
        assert_eq!(scenario.initial_state, "greeting");
        let ways: Vec<_> = scenario.states.iter().map(|s| (s.transitions.len(), s.is_final)).collect();
        assert_eq!(ways, [(2, false), (1, false), (0, true)]);
        assert_eq!(scenario.states[1].data["prompt"], json!("Offer a slot"));
        assert_eq!(scenario.context.facts, ["Open 9-5"]);
    }

    #[test]
    fn a_linear_flow_leads_from_each_state_to_the_next() {
        let mut value = config();
        value["flow"] = json!({"type": "linear", "states": ["a", "b", "c"]});
        let scenario = adapt(&serde_json::from_value(value).unwrap());
        let next: Vec<_> = scenario.states.iter().map(|s| s.transitions.first().map(|t| t.to.as_str())).collect();
        assert_eq!(next, [Some("b"), Some("c"), None]);
    }
}
