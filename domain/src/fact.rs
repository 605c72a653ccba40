//! Every event type there is, decoded from its stored form.

use serde_json::Value;

use crate::{
    Decider, DomainEvent, api_key::ApiKey, call::Call, campaign::Campaign, company::Company, price_list::PriceList,
    reserved_name::ReservedName, skillbase::Skillbase, task::Task, user::User,
};

/// A stored event that cannot be read: of an unknown type (from a newer release), or not of its type's shape.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("unknown event category '{0}'")]
    UnknownCategory(String),
    #[error("unknown event type '{event_type}' in category '{category}'")]
    UnknownType { category: String, event_type: String },
    #[error("'{event_type}' has schema version {stored}, newer than {known}, the newest this release knows")]
    NewerSchema { event_type: String, stored: i16, known: i16 },
    #[error("'{event_type}' does not have the shape of its schema version: {source}")]
    Shape { event_type: String, source: serde_json::Error },
}

/// Decodes one aggregate's event from its stored type, schema version and payload, through the upcasters.
pub fn decode<E: DomainEvent>(category: &str, event_type: &str, schema_version: i16, payload: Value) -> Result<E, UnreadableEvent> {
    if !E::VARIANTS.contains(&event_type) {
        return Err(UnreadableEvent::UnknownType { category: category.into(), event_type: event_type.into() });
    }
    let known = E::schema_version(event_type);
    if schema_version > known {
        return Err(UnreadableEvent::NewerSchema { event_type: event_type.into(), stored: schema_version, known });
    }
    let mut payload = payload;
    for version in schema_version..known {
        let step = E::UPCASTERS.iter().find(|u| u.event_type == event_type && u.from == version);
        payload = step.map_or(payload.clone(), |u| (u.upcast)(payload));
    }
    let tagged = Value::Object(std::iter::once((event_type.to_owned(), payload)).collect());
    serde_json::from_value(tagged).map_err(|source| UnreadableEvent::Shape { event_type: event_type.into(), source })
}

/// The stored type and payload of an event.
pub fn encode<E: DomainEvent>(event: &E) -> Result<(String, Value), serde_json::Error> {
    match serde_json::to_value(event)? {
        Value::Object(tagged) => tagged.into_iter().next().ok_or_else(|| serde::ser::Error::custom("an event has a type")),
        _ => Err(serde::ser::Error::custom("an event is an enum variant with fields")),
    }
}

macro_rules! facts {
    ($($aggregate:ident),+ $(,)?) => {
        /// An event of any aggregate.
        #[derive(Clone, Debug)]
        pub enum Fact {
            $($aggregate(<$aggregate as Decider>::Event)),+
        }

        impl Fact {
            /// Decodes a stored event by its category.
            pub fn decode(category: &str, event_type: &str, schema_version: i16, payload: Value) -> Result<Self, UnreadableEvent> {
                $(if category == $aggregate::CATEGORY {
                    return decode(category, event_type, schema_version, payload).map(Self::$aggregate);
                })+
                Err(UnreadableEvent::UnknownCategory(category.to_owned()))
            }

            /// Category, event type and current schema version of every event there is.
            pub fn catalogue() -> Vec<(&'static str, &'static str, i16)> {
                let mut all = Vec::new();
                $(for event_type in <<$aggregate as Decider>::Event as strum::VariantNames>::VARIANTS {
                    all.push(($aggregate::CATEGORY, *event_type, <$aggregate as Decider>::Event::schema_version(event_type)));
                })+
                all
            }

            /// The stored type and payload.
            pub fn encode(&self) -> Result<(String, Value), serde_json::Error> {
                match self {
                    $(Self::$aggregate(event) => encode(event)),+
                }
            }
        }
    };
}

facts!(Company, User, ApiKey, ReservedName, Skillbase, Campaign, Task, Call, PriceList);
