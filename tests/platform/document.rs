//! The OpenAPI document: complete for readers and generators, and its examples work as they stand. `tests/clients/run` makes clients from it.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Map, Value, json};
use support::{Client, Platform};

use crate::architecture;

fn document() -> Value {
    serde_json::to_value(newvoice_api::router::openapi()).unwrap()
}

/// All operations with their names in the text: `GET /calls`.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, operation)| (path, method, operation)))
        .map(|(path, method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
        .collect()
}

fn has_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

/// Whether a property has a sentence of its own, or, if it may be null, beside the reference to its type.
fn is_described(property: &Value) -> bool {
    has_text(&property["description"])
        || property["oneOf"].as_array().is_some_and(|all| all.iter().any(|one| has_text(&one["description"])))
}

/// The properties of a schema that have no description.
fn undescribed(name: &str, schema: &Value, found: &mut Vec<String>) {
    for (property, described) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{name}.{property}");
        if !is_described(described) {
            found.push(path.clone());
        }
        undescribed(&path, described, found);
    }
    for part in ["allOf", "oneOf"].into_iter().filter_map(|of| schema[of].as_array()).flatten() {
        undescribed(name, part, found);
    }
    if schema["items"].is_object() {
        undescribed(name, &schema["items"], found);
    }
}

/// Every reference in the document, as `/components/schemas/Problem`.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(|name| name.trim_start_matches('#').to_owned()));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn each_reference_leads_to_a_schema() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    let missing: Vec<_> = found.iter().filter(|name| document.pointer(name).is_none()).collect();
    assert!(found.len() > 50 && missing.is_empty(), "{missing:?}");
}

#[test]
fn each_operation_answer_parameter_and_property_has_a_sentence() {
    let document = document();
    let mut found = Vec::new();
    for (name, operation) in operations(&document) {
        let text = operation["description"].as_str().unwrap_or_default();
        if !has_text(&operation["summary"])
            || !["Role: ", "Only for operators", "Without a credential"].iter().any(|who| text.contains(who))
        {
            found.push(name.clone());
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            if !has_text(&response["description"]) {
                found.push(format!("{name} {status}"));
            }
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if !has_text(&parameter["description"]) {
                found.push(format!("{name} ?{}", parameter["name"]));
            }
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        undescribed(name, schema, &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}

/// The places of objects of which nothing is said, neither their fields nor that they can have any.
fn untyped(at: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(schema) => {
            let is_object =
                schema.get("type").is_some_and(|of| of == "object" || of.as_array().is_some_and(|all| all.contains(&json!("object"))));
            if is_object && !schema.contains_key("properties") && !schema.contains_key("additionalProperties") {
                found.push(at.to_owned());
            }
            schema.iter().filter(|(key, _)| *key != "example").for_each(|(key, value)| untyped(&format!("{at}/{key}"), value, found));
        }
        Value::Array(all) => all.iter().for_each(|value| untyped(at, value, found)),
        _ => {}
    }
}

#[test]
fn free_objects_say_so_and_operations_have_short_names() {
    let document = document();
    let mut found = Vec::new();
    untyped("", &document, &mut found);
    assert_eq!(found, Vec::<String>::new());
    let operations = operations(&document);
    let names: BTreeSet<_> = operations.iter().filter_map(|(_, operation)| operation["operationId"].as_str()).collect();
    assert_eq!(names.len(), operations.len(), "each operation has a name of its own");
    let is_short = |name: &&str| name.len() <= 28 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert!(names.iter().all(is_short), "{names:?}");
}

/// The examples of request bodies, by the name of the operation.
fn examples(document: &Value) -> Map<String, Value> {
    let example = |operation: &Value| {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        // An optional body is `oneOf` null and a reference; one turn or many, `oneOf` a turn and an array.
        let all = std::iter::once(schema).chain(schema["oneOf"].as_array().into_iter().flatten());
        let named =
            all.filter_map(|one| one["$ref"].as_str()).map(|name| &document["components"]["schemas"][name.rsplit('/').next().unwrap()]);
        let with_parts = named.flat_map(|schema| std::iter::once(schema).chain(schema["oneOf"].as_array().into_iter().flatten()));
        let resolved = with_parts.map(|one| match one["$ref"].as_str() {
            Some(name) => &document["components"]["schemas"][name.rsplit('/').next().unwrap()],
            None => one,
        });
        resolved.map(|schema| schema["example"].clone()).find(|example| !example.is_null())
    };
    operations(document).into_iter().filter_map(|(_, op)| Some((op["operationId"].as_str()?.to_owned(), example(op)?))).collect()
}

/// The example with some of its fields replaced: ids that only this installation has.
fn with(mut example: Value, fields: Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        assert!(example[name.as_str()].is_string(), "the example has no {name}: {example}");
        example[name.as_str()] = value.clone();
    }
    example
}

#[tokio::test]
async fn each_example_of_the_document_works_as_it_stands() {
    let platform = Platform::start().await;
    let mut examples = examples(&document());
    let mut example = |name: &str| examples.remove(name).unwrap_or_else(|| panic!("{name} has no example"));
    let anonymous = Client::new(&platform.base(), None);
    anonymous.post("/auth/register", &example("register")).await.expect(201);
    let session = anonymous.post("/auth/login", &example("log_in")).await.expect(200);
    let admin = anonymous.with_token(session["token"].as_str().unwrap());
    admin.post("/api-keys", &example("issue_api_key")).await.expect(201);
    let bot = admin.post("/skillbases", &example("create_skillbase")).await.expect(201).id();
    let campaign = admin.post("/campaigns", &with(example("create_campaign"), json!({"skillbase_id": bot}))).await.expect(201).id();
    let path = format!("/campaigns/{campaign}");
    admin.put(&path, &example("change_campaign")).await.expect(200);
    // Its window may be closed at the moment.
    admin.put(&path, &json!({"daily_start_time": null, "daily_end_time": null, "days_of_week": null, "max_retries": 1})).await.expect(200);
    admin.post(&format!("{path}/tasks"), &example("add_contacts")).await.expect(200);
    admin.act(&format!("{path}/start")).await.expect(200);
    for (verb, name) in [("complete", "complete_task"), ("fail", "fail_task")] {
        let claimed = admin.act(&format!("{path}/tasks/claim")).await.expect(200);
        let task = format!("/tasks/{}/{verb}", claimed["task"]["id"].as_str().unwrap());
        admin.post(&task, &with(example(name), json!({"call_id": claimed["call_id"]}))).await.expect(200);
    }
    assert_eq!(admin.post(&format!("{path}/retry"), &example("retry_failed_tasks")).await.expect(200)["retried"], 1);
    let call = admin.post("/calls", &example("start_call")).await.expect(201).id();
    admin.post(&format!("/calls/{call}/turns"), &example("record_turns")).await.expect(201);
    admin.post(&format!("/calls/{call}/end"), &example("end_call")).await.expect(200);
    admin.post("/price-lists", &example("publish_price_list")).await.expect(201);
    admin.ask("/price-lists/what-if", &example("ask_what_if")).await.expect(200);
    assert_eq!(examples.keys().collect::<Vec<_>>(), Vec::<&String>::new(), "examples that were not tried");
    platform.stop().await;
}

/// The parts of a skillbase's configuration, in the order of the reference.
const SKILLBASE_PARTS: [&str; 9] = [
    "SkillbaseConfig",
    "SkillbaseContext",
    "SkillbaseFlow",
    "SkillbaseStateObject",
    "SkillbaseTransition",
    "SkillbaseAgent",
    "SkillbaseTool",
    "SkillbaseVoice",
    "SkillbaseLlm",
];

/// The type of a property in words: `list of SkillbaseTool`.
fn type_in_words(document: &Value, property: &Value) -> String {
    if let Some(name) = property["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        let is_part = SKILLBASE_PARTS.contains(&name);
        return if is_part {
            format!("[{name}](#{})", name.to_lowercase())
        } else {
            type_in_words(document, &document["components"]["schemas"][name])
        };
    }
    if let Some(words) = property["enum"].as_array() {
        return words.iter().map(|word| format!("`{}`", word.as_str().unwrap())).collect::<Vec<_>>().join(" or ");
    }
    let alternatives = property["oneOf"].as_array().into_iter().chain(property["anyOf"].as_array()).flatten();
    let alternatives: Vec<_> = alternatives.filter(|one| one["type"] != "null").map(|one| type_in_words(document, one)).collect();
    if !alternatives.is_empty() {
        return alternatives.join(" or ");
    }
    let types = property["type"].as_array().cloned().unwrap_or_else(|| vec![property["type"].clone()]);
    match types.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("any value") {
        "array" => format!("list of {}", type_in_words(document, &property["items"])),
        other => other.to_owned(),
    }
}

fn skillbase_reference(document: &Value) -> String {
    let mut text = "# The configuration of a skillbase\n\nA skillbase describes a bot: its role, the course of its conversation, and its voice. \
                    Its configuration is the field `config` of `POST /skillbases` and `PUT /skillbases/{id}`; each change makes a \
                    version, and a call keeps the version that it began with. Required fields are bold; an unknown field is refused. This page \
                    is generated from the OpenAPI document.\n"
        .to_owned();
    for part in SKILLBASE_PARTS {
        let schema = &document["components"]["schemas"][part];
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        text.push_str(&format!("\n## {part}\n\n"));
        if let Some(description) = schema["description"].as_str() {
            text.push_str(&format!("{description}.\n\n"));
        }
        text.push_str("| field | type | meaning |\n|---|---|---|\n");
        let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("{part} has no properties"));
        for (name, property) in properties {
            let field = if required.contains(&name.as_str()) { format!("**`{name}`**") } else { format!("`{name}`") };
            let meaning = [property, &property["oneOf"][0], &property["oneOf"][1]].into_iter().find_map(|one| one["description"].as_str());
            text.push_str(&format!("| {field} | {} | {} |\n", type_in_words(document, property), meaning.unwrap().replace('\n', " ")));
        }
    }
    let example = serde_json::to_string_pretty(&document["components"]["schemas"]["SkillbaseConfig"]["example"]).unwrap();
    text.push_str(&format!("\n## Example\n\n```json\n{example}\n```\n"));
    text
}

/// `NEWVOICE_WRITE_DOCS=1` writes it.
/// The reference of all event types: an example of each payload, from the golden files.
fn event_reference() -> String {
    let mut page = "# Events\n\nEverything that happened is an event in the log. `GET /events`, the live streams and the histories of calls, tasks and campaigns show \
        events;\ntheir `payload` depends on `event_type`. This page shows an example of each payload, as the log stores it: latencies are in\n\
        microseconds, decimals are texts, and a field without a value is left out. Personal fields are encrypted in the log, and read `erased`\n\
        after the person was erased. New fields can be added; a field that is there keeps its meaning, and if the shape of a payload changes,\n\
        `schema_version` increases.\n\nA test writes this page.\n"
        .to_owned();
    let golden = architecture::root().join("domain/golden");
    let mut category_before = "";
    for (category, event_type, version) in domain::Fact::catalogue() {
        if category != category_before {
            write!(page, "\n## {category}\n").unwrap();
            category_before = category;
        }
        let example = std::fs::read_to_string(golden.join(category).join(format!("{event_type}.v{version}.json"))).unwrap();
        write!(page, "\n### {event_type}\n\n").unwrap();
        let personal = domain::Fact::personal_fields(category, event_type);
        if !personal.is_empty() {
            let fields: Vec<_> = personal.iter().map(|field| format!("`{}`", field.trim_start_matches('/').replace('/', "."))).collect();
            write!(page, "Personal: {}.\n\n", fields.join(", ")).unwrap();
        }
        write!(page, "```json\n{}\n```\n", example.trim_end()).unwrap();
    }
    page
}

#[test]
fn the_references_are_what_the_types_say() {
    for (file, reference) in [("skillbase.md", skillbase_reference(&document())), ("events.md", event_reference())] {
        let path = architecture::root().join("docs").join(file);
        if std::env::var_os("NEWVOICE_WRITE_DOCS").is_some() {
            std::fs::write(&path, &reference).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap() == reference, "docs/{file} is old: set NEWVOICE_WRITE_DOCS=1");
    }
}
