//! The system prompt: a base text for every bot, then the configuration of this skillbase.

use std::fmt::Write as _;

use super::{
    config::{FlowState, FlowType, SkillbaseConfig},
    tools::functions,
};

/// First level: the rules for every bot on the phone.
pub const BASE_PROMPT: &str = "\
You are a voice agent in a live phone call. Everything you say is spoken aloud.
Speak in short, natural sentences. Ask one question at a time and wait for the answer.
Never read out lists, markup, links or internal names. Say numbers, dates and prices the way people say them.
If you did not understand, ask once more in other words. If asked, say truthfully that you are an automated assistant.";

/// The whole prompt: [`BASE_PROMPT`], then role, style, facts, conversation flow, tools, hand-off and safety rules.
pub fn build(config: &SkillbaseConfig) -> String {
    let mut prompt = format!("{BASE_PROMPT}\n\n# Role\n{}\n", config.context.role.trim());
    if let Some(style) = config.context.style.as_deref().filter(|s| !s.trim().is_empty()) {
        section(&mut prompt, "Style", [style.trim()]);
    }
    if let Some(language) = config.voice.stt_language.as_deref().filter(|s| !s.trim().is_empty()) {
        section(&mut prompt, "Language", [format!("The caller is expected to speak '{language}'; answer in the caller's language.")]);
    }
    bullets(&mut prompt, "Facts", config.context.facts.as_deref().unwrap_or_default());
    flow(&mut prompt, config);
    bullets(&mut prompt, "Tools", &functions(config).into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>());
    if let Some(criteria) = config.agent.as_ref().and_then(|a| a.handoff_criteria.as_ref()).filter(|c| !c.is_empty()) {
        let lines: Vec<_> = criteria.iter().map(|(name, value)| format!("{name}: {}", plain(value))).collect();
        bullets(&mut prompt, "Hand over to a person when", &lines);
    }
    bullets(&mut prompt, "Safety rules, above everything else", config.context.safety_rules.as_deref().unwrap_or_default());
    prompt
}

fn flow(prompt: &mut String, config: &SkillbaseConfig) {
    let flow = &config.flow;
    let title = |state: &FlowState| match state.text("label") {
        Some(label) => format!("{} ({})", state.name(), label.trim()),
        None => state.name().to_owned(),
    };
    let step = |state: &FlowState| match state.text("prompt").or_else(|| state.text("description")) {
        Some(text) => format!("{}: {}", title(state), text.trim()),
        None => title(state),
    };
    match flow.flow_type {
        FlowType::Linear => {
            let steps = flow.states.iter().enumerate().map(|(i, state)| format!("{}. {}", i + 1, step(state)));
            section(prompt, "Conversation, step by step", steps);
        }
        FlowType::Graph => {
            bullets(prompt, "Conversation states, beginning with the first", &flow.states.iter().map(step).collect::<Vec<_>>());
            let moves = flow.transitions.iter().flatten().map(|t| match &t.condition {
                Some(condition) => format!("from {} to {} when {condition}", t.from, t.to),
                None => format!("from {} to {}", t.from, t.to),
            });
            bullets(prompt, "Moves between states", &moves.collect::<Vec<_>>());
        }
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn bullets(prompt: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        section(prompt, title, lines.iter().map(|line| format!("- {}", line.trim())));
    }
}

fn section(prompt: &mut String, title: &str, lines: impl IntoIterator<Item = impl AsRef<str>>) {
    let _ = write!(prompt, "\n# {title}\n");
    for line in lines {
        let _ = writeln!(prompt, "{}", line.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skillbase::config::tests::config;

    #[test]
    fn the_prompt_carries_the_base_and_all_of_the_configuration() {
        let prompt = build(&serde_json::from_value(config()).unwrap());
        assert!(prompt.starts_with(BASE_PROMPT));
        for part in [
            "Receptionist",
            "warm",
            "- Open 9-5",
            "- offer: Offer a slot",
            "from greeting to offer when interested",
            "- book_appointment",
            "- angry: true",
            "- Never give medical advice",
        ] {
            assert!(prompt.contains(part), "{part} in {prompt}");
        }
        assert!(prompt.rfind("Never give").unwrap() > prompt.rfind("book_appointment").unwrap(), "safety rules come last");
    }

    #[test]
    fn a_linear_flow_is_numbered() {
        let mut value = config();
        value["flow"] = serde_json::json!({"type": "linear", "states": ["hello", {"name": "s2", "label": "Say goodbye"}]});
        assert!(build(&serde_json::from_value(value).unwrap()).contains("1. hello\n2. s2 (Say goodbye)\n"));
    }
}
