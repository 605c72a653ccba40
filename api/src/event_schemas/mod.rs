//! Events in the OpenAPI document: one schema for each event type, told apart by `event_type`.

mod payloads;

use utoipa::{
    PartialSchema as _, ToSchema,
    openapi::{
        OpenApi, Ref, RefOr,
        schema::{Discriminator, ObjectBuilder, OneOf, Schema, Type},
    },
};

use crate::event_view::EventView;
use payloads as p;

/// An event type: what the event says, and its payload.
struct Described {
    event_type: &'static str,
    sentence: &'static str,
    /// The name of its schema.
    payload: String,
    /// This schema, and those that it refers to.
    schemas: Vec<(String, RefOr<Schema>)>,
}

fn of<P: ToSchema>(event_type: &'static str, sentence: &'static str) -> Described {
    let mut schemas = Vec::new();
    P::schemas(&mut schemas);
    let payload = P::name().into_owned();
    schemas.push((payload.clone(), P::schema()));
    Described { event_type, sentence, payload, schemas }
}

fn all() -> Vec<Described> {
    vec![
        of::<p::Profile>("CompanyRegistered", "The company was registered"),
        of::<p::Profile>("CompanyUpdated", "The company's profile changed"),
        of::<p::Identity>("UserRegistered", "The user registered a company, or came with it"),
        of::<p::Identity>("UserInvited", "An admin invited the user"),
        of::<p::Empty>("UserJoined", "The user accepted the invitation"),
        of::<p::RoleOnly>("UserRoleChanged", "An admin changed the user's role"),
        of::<p::Empty>("UserDisabled", "An admin disabled the user"),
        of::<p::Empty>("UserEnabled", "An admin enabled the user again"),
        of::<p::IssuedKey>("ApiKeyIssued", "An admin issued an API key"),
        of::<p::Empty>("ApiKeyRevoked", "An admin revoked the API key"),
        of::<p::Empty>("PersonErased", "The person's key was destroyed: what was encrypted with it is unreadable"),
        of::<p::Holder>("NameReserved", "A name that must be unique was reserved"),
        of::<p::Holder>("NameReleased", "The name is free again"),
        of::<p::ContentOfVersion>("SkillbaseCreated", "The skillbase was created"),
        of::<p::ContentOfVersion>("SkillbaseUpdated", "The skillbase has a new version"),
        of::<p::Empty>("SkillbaseDeleted", "The skillbase was deleted"),
        of::<p::SettingsOnly>("CampaignCreated", "The campaign was created"),
        of::<p::SettingsOnly>("CampaignUpdated", "The campaign's settings changed"),
        of::<p::Added>("TasksAdded", "A part of a call list was added"),
        of::<p::Reopened>("TasksReopened", "Failed tasks were put back"),
        of::<p::ImportResult>("CallListImported", "A whole call list was read"),
        of::<p::Empty>("CampaignStarted", "The campaign was started"),
        of::<p::Empty>("CampaignPaused", "The campaign was paused"),
        of::<p::Empty>("CampaignResumed", "The campaign was resumed"),
        of::<p::Empty>("CampaignFinished", "The company ended the campaign early"),
        of::<p::Empty>("CampaignCompleted", "No task of the campaign is left"),
        of::<p::Empty>("CampaignDeleted", "The campaign was deleted"),
        of::<p::Contact>("TaskCreated", "A person is to be called"),
        of::<p::Claim>("TaskClaimed", "An attempt began"),
        of::<p::Completion>("TaskCompleted", "An attempt was completed"),
        of::<p::Retry>("TaskRetryScheduled", "An attempt failed, and another one follows"),
        of::<p::LastFailure>("TaskFailed", "The last attempt failed"),
        of::<p::CampaignOnly>("TaskCancelled", "The person will not be called"),
        of::<p::ReopenedTask>("TaskReopened", "The company put the failed task back"),
        of::<p::Subject>("CallDialed", "A claim made the call the task's attempt; the person has not answered yet"),
        of::<p::Start>("CallStarted", "The call started, or details of its start were reported; the last event of this type is valid"),
        of::<p::Turn>("TurnRecorded", "A turn of the conversation was recorded"),
        of::<p::End>("CallEnded", "The call ended; the last event of this type is valid"),
        of::<p::Classification>("CallOutcomeClassified", "The outcome was classified; the last event of this type is valid"),
        of::<p::Publication>("PriceListPublished", "A price list was published"),
        of::<p::Empty>("PriceListWithdrawn", "The price list was withdrawn"),
    ]
}

/// The schema's name of an event of a type.
fn schema_name(event_type: &str) -> String {
    format!("{event_type}Event")
}

/// Replaces the schema of all events by one for each event type.
pub fn describe(document: &mut OpenApi) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let mut event = OneOf::default();
    let mut discriminator = Discriminator::new("event_type");
    for described in all() {
        let name = schema_name(described.event_type);
        let reference = Ref::from_schema_name(&name);
        discriminator.mapping.insert(described.event_type.to_owned(), reference.ref_location.clone());
        event.items.push(reference.into());
        schemas.insert(name, of_type(&described));
        schemas.extend(described.schemas);
    }
    event.discriminator = Some(discriminator);
    event.description = Some("An event; its type is `event_type`.".to_owned());
    schemas.insert(EventView::name().into_owned(), Schema::OneOf(event).into());
}

/// The schema of an event with its own type and payload.
fn of_type(described: &Described) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut object)) = EventView::schema() else { unreachable!("EventView is a struct") };
    object.description = Some(described.sentence.to_owned());
    let event_type =
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some([described.event_type])).description(Some("What happened")).build();
    object.properties.insert("event_type".to_owned(), Schema::Object(event_type).into());
    let mut payload = Ref::from_schema_name(&described.payload);
    payload.description = "The facts of the event".to_owned();
    object.properties.insert("payload".to_owned(), payload.into());
    Schema::Object(object).into()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use domain::Fact;
    use serde_json::Value;

    use super::*;

    /// The schema that a reference leads to.
    fn target<'a>(schema: &'a Value, schemas: &'a Value) -> &'a Value {
        schema["$ref"].as_str().map_or(schema, |to| &schemas[to.rsplit('/').next().unwrap()])
    }

    /// Compares a payload with its schema: names, types, words of enumerations, and whether each field that must be there is there.
    fn compare(place: &str, value: &Value, schema: &Value, schemas: &Value) {
        let schema = target(schema, schemas);
        let Some(properties) = schema["properties"].as_object() else { return };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(value.get(name).is_some(), "{place}.{name} is required");
        }
        for (name, field) in value.as_object().unwrap() {
            let described = properties.get(name).unwrap_or_else(|| panic!("{place}.{name} is not described"));
            compare_field(&format!("{place}.{name}"), field, described, schemas);
        }
    }

    fn compare_field(place: &str, field: &Value, described: &Value, schemas: &Value) {
        let is_null = |schema: &&Value| schema["type"] == "null";
        let alternatives = described["oneOf"].as_array();
        let may_be_null = alternatives.map_or(described["type"].to_string().contains("null"), |all| all.iter().any(|one| is_null(&one)));
        let described = alternatives.and_then(|all| all.iter().find(|one| !is_null(one))).unwrap_or(described);
        let described = target(described, schemas);
        let type_name = match field {
            Value::Null => return assert!(may_be_null, "{place} may be null"),
            Value::Object(_) => return compare(place, field, described, schemas),
            Value::Array(items) => return items.iter().for_each(|item| compare_field(place, item, &described["items"], schemas)),
            Value::String(_) => "string",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
        };
        assert!(described["type"].to_string().contains(type_name), "{place} is {field}, described as {described}");
        let words = described["enum"].as_array();
        assert!(words.is_none_or(|words| words.contains(field)), "{place} is {field}, described as {described}");
    }

    #[test]
    fn each_event_type_is_described_as_it_is_stored() {
        let described: BTreeSet<_> = all().iter().map(|described| described.event_type).collect();
        let catalogue = Fact::catalogue();
        assert_eq!(described, catalogue.iter().map(|(_, event_type, _)| *event_type).collect());
        let document = serde_json::to_value(crate::router::openapi()).unwrap();
        let schemas = &document["components"]["schemas"];
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../domain/golden");
        for (category, event_type, schema_version) in catalogue {
            let file = golden.join(category).join(format!("{event_type}.v{schema_version}.json"));
            let payload: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            let schema = &schemas[schema_name(event_type)]["properties"];
            assert_eq!(schema["event_type"]["enum"][0], event_type);
            compare(event_type, &payload, &schema["payload"], schemas);
        }
    }
}
