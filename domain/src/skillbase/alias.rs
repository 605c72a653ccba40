//! The names that clients of NEW-VOICE use in a configuration. They are read in every request; the log and the answers have the canonical
//! names only.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::{ConfigFault, FlowState, STATE_NAME_MAX, SkillbaseConfig, Transition};
use crate::validation::Invalid;

/// A transition with its canonical names, those of NEW-VOICE, or both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTransition {
    from: Option<String>,
    to: Option<String>,
    from_state: Option<String>,
    to_state: Option<String>,
    condition: Option<String>,
}

impl TryFrom<WrittenTransition> for Transition {
    type Error = String;

    fn try_from(written: WrittenTransition) -> Result<Self, String> {
        let WrittenTransition { from, to, from_state, to_state, condition } = written;
        Ok(Self { from: one_of("from", from, from_state)?, to: one_of("to", to, to_state)?, condition })
    }
}

/// The value of a field that is given under its name, under `<name>_state`, or under both with one value.
fn one_of(name: &str, value: Option<String>, of_alias: Option<String>) -> Result<String, String> {
    match (value, of_alias) {
        (Some(value), Some(of_alias)) if value != of_alias => Err(format!("{name} and {name}_state are different")),
        (Some(value), _) | (None, Some(value)) => Ok(value),
        // As serde words it, so that the field's name becomes a part of the path.
        (None, None) => Err(format!("missing field `{name}`")),
    }
}

impl SkillbaseConfig {
    /// The configuration with canonical names: a state `{id, name}` of NEW-VOICE, whose transitions lead to its `id`, has its `id` as `name`
    /// and its `name` as `label`.
    pub fn with_canonical_names(mut self) -> Result<Self, Invalid> {
        let mut invalid = Invalid::default();
        for (i, state) in self.flow.states.iter_mut().enumerate() {
            if let FlowState::Object(object) = state {
                rename(object, &format!("config.flow.states[{i}]"), &mut invalid);
            }
        }
        invalid.into_result().map(|()| self)
    }
}

/// The fields of a state that have a meaning beside its name. All of them are texts.
const TEXTS: [&str; 4] = ["id", "label", "prompt", "description"];

/// Gives a state its canonical names.
fn rename(state: &mut Map<String, Value>, path: &str, invalid: &mut Invalid) {
    for field in TEXTS {
        let is_text = state.get(field).is_none_or(|value| value.is_string() || value.is_null());
        invalid.require(is_text, &format!("{path}.{field}"), ConfigFault::NotText);
    }
    let Some(Value::String(id)) = state.get("id").cloned() else { return };
    invalid.text(&format!("{path}.id"), &id, STATE_NAME_MAX);
    state.remove("id");
    let Some(label) = state.insert("name".to_owned(), Value::from(id.clone())).filter(|name| *name != id) else { return };
    let has_this_label = *state.entry("label").or_insert_with(|| label.clone()) == label;
    invalid.require(has_this_label, &format!("{path}.label"), ConfigFault::LabelDiffers);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::skillbase::config::tests::config;

    fn read(change: impl FnOnce(&mut Value)) -> Result<Value, String> {
        let mut value = config();
        change(&mut value);
        let config: SkillbaseConfig = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let canonical = config.with_canonical_names().map_err(|Invalid(errors)| errors[0].path.clone())?;
        assert_eq!(canonical.clone().with_canonical_names().as_ref(), Ok(&canonical), "it is canonical");
        Ok(canonical.to_api())
    }

    #[test]
    fn the_names_of_new_voice_become_the_canonical_ones() {
        let theirs = json!({"type": "graph",
            "states": ["greeting", {"id": "offer", "name": "Make an offer", "prompt": "Offer a slot"}, {"id": "bye", "name": "bye"}],
            "transitions": [{"from_state": "greeting", "to_state": "offer"}, {"from_state": "offer", "to": "bye", "to_state": "bye"}]});
        let ours = json!({"type": "graph",
            "states": ["greeting", {"name": "offer", "label": "Make an offer", "prompt": "Offer a slot"}, {"name": "bye"}],
            "transitions": [{"from": "greeting", "to": "offer"}, {"from": "offer", "to": "bye"}]});
        assert_eq!(read(|config| config["flow"] = theirs).unwrap()["flow"], ours);
        assert_eq!(read(|config| config["flow"] = ours.clone()).unwrap()["flow"], ours);
    }

    #[test]
    fn two_names_of_one_thing_must_have_one_value() {
        let transition = |transition: Value| read(|config| config["flow"]["transitions"] = json!([transition]));
        assert_eq!(transition(json!({"from": "a", "from_state": "b", "to": "c"})).unwrap_err(), "from and from_state are different");
        assert_eq!(transition(json!({"from": "a"})).unwrap_err(), "missing field `to`");
        let state = |state: Value| read(|config| config["flow"]["states"] = json!([state]));
        assert_eq!(state(json!({"id": "a", "name": "A", "label": "B"})).unwrap_err(), "config.flow.states[0].label");
        assert!(state(json!({"id": "a", "name": "A", "label": "A"})).is_ok());
        assert_eq!(state(json!({"id": null, "name": "A"})).unwrap()["flow"]["states"], json!([{"id": null, "name": "A"}]));
    }

    #[test]
    fn what_has_a_meaning_is_a_text() {
        for field in TEXTS {
            let mut state = json!({"name": "A"});
            state[field] = json!(7);
            assert_eq!(read(|config| config["flow"]["states"][1] = state).unwrap_err(), format!("config.flow.states[1].{field}"));
        }
        let state = json!({"id": " ", "name": "A"});
        assert_eq!(read(|config| config["flow"]["states"][1] = state).unwrap_err(), "config.flow.states[1].id");
    }
}
