//! Function tools in the shape of OpenAI's function calling: `{"type": "function", "function": {name, description, parameters}}`
//! (<https://platform.openai.com/docs/guides/function-calling>).

use serde_json::{Map, Value, json};

use super::config::{SkillbaseConfig, Tool};

/// The tool of NEW-VOICE that stands for two built-in tools, unless it has parameters of its own.
const CALENDAR: &str = "calendar";
const CALENDAR_TOOLS: [&str; 2] = ["check_availability", "book_appointment"];

/// The functions of the enabled tools with their configuration, in the configured order. A function that has an entry of its own, enabled or
/// not, is not one of the calendar's.
pub fn functions(config: &SkillbaseConfig) -> Vec<(&str, &Tool)> {
    let has_entry = |name: &str| config.tools.iter().flatten().any(|tool| tool.name == name);
    let mut functions: Vec<(&str, &Tool)> = Vec::new();
    for tool in config.enabled_tools() {
        if tool.name == CALENDAR && tool.parameters.is_none() {
            functions.extend(CALENDAR_TOOLS.into_iter().filter(|name| !has_entry(name)).map(|name| (name, tool)));
        } else {
            functions.push((&tool.name, tool));
        }
    }
    functions
}

/// Schemas of the functions of the enabled tools, in the configured order. Built-in tools have their own parameters; for other tools the
/// configured `parameters` are the JSON schema.
pub fn schemas(config: &SkillbaseConfig) -> Vec<Value> {
    functions(config).into_iter().map(|(name, tool)| schema(name, tool)).collect()
}

fn schema(name: &str, tool: &Tool) -> Value {
    let (description, parameters) = built_in(name).unwrap_or_else(|| (String::new(), own_parameters(tool.parameters.as_ref())));
    json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}})
}

fn own_parameters(parameters: Option<&Map<String, Value>>) -> Value {
    match parameters {
        Some(schema) if schema.contains_key("type") => Value::Object(schema.clone()),
        Some(properties) => json!({"type": "object", "properties": properties}),
        None => json!({"type": "object", "properties": {}}),
    }
}

/// Description and parameters of a built-in tool.
fn built_in(name: &str) -> Option<(String, Value)> {
    let (description, properties, required) = match name {
        "check_availability" => (
            "Looks up free appointment slots in the calendar.",
            json!({
                "date": {"type": "string", "format": "date", "description": "Day to look at, YYYY-MM-DD"},
                "duration_minutes": {"type": "integer", "minimum": 5, "maximum": 480, "description": "Length of the appointment"}
            }),
            json!(["date"]),
        ),
        "book_appointment" => (
            "Books an appointment in the calendar, after the caller has confirmed day and time.",
            json!({
                "start_time": {"type": "string", "format": "date-time", "description": "Start, RFC 3339"},
                "duration_minutes": {"type": "integer", "minimum": 5, "maximum": 480, "description": "Length of the appointment"},
                "name": {"type": "string", "description": "Name of the caller"},
                "phone_number": {"type": "string", "description": "Number to reach the caller, E.164"},
                "notes": {"type": "string"}
            }),
            json!(["start_time", "name"]),
        ),
        "transfer_to_operator" => (
            "Transfers the call to a person.",
            json!({
                "reason": {"type": "string", "description": "Why a person is needed"},
                "department": {"type": "string", "description": "Where to transfer to"}
            }),
            json!(["reason"]),
        ),
        _ => return None,
    };
    Some((description.to_owned(), json!({"type": "object", "properties": properties, "required": required})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skillbase::config::tests::config;

    #[test]
    fn enabled_tools_become_function_schemas() {
        let mut value = config();
        value["tools"] = json!([
            {"name": "check_availability"},
            {"name": "transfer_to_operator", "enabled": false},
            {"name": "lookup_order", "parameters": {"order_id": {"type": "string"}}}
        ]);
        let schemas = schemas(&serde_json::from_value(value).unwrap());
        let names: Vec<_> = schemas.iter().map(|s| s["function"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["check_availability", "lookup_order"]);
        assert_eq!(schemas[0]["function"]["parameters"]["required"], json!(["date"]));
        assert_eq!(schemas[1]["function"]["parameters"]["properties"]["order_id"]["type"], "string");
    }

    #[test]
    fn a_calendar_stands_for_looking_at_appointments_and_making_them() {
        let names = |tools: Value| {
            let mut value = config();
            value["tools"] = tools;
            let config: SkillbaseConfig = serde_json::from_value(value).unwrap();
            functions(&config).into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        let calendar = json!({"name": "calendar", "config": {"api_url": "https://calendar.example.com"}, "enabled": true});
        assert_eq!(names(json!([calendar])), CALENDAR_TOOLS);
        assert_eq!(names(json!([{"name": "book_appointment"}, calendar])), ["book_appointment", "check_availability"]);
        assert_eq!(names(json!([calendar, {"name": "book_appointment", "enabled": false}])), ["check_availability"]);
        assert_eq!(names(json!([{"name": "calendar", "parameters": {"day": {"type": "string"}}}])), ["calendar"]);
    }
}
