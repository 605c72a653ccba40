//! All event types, decoded from their stored form.

use serde::{
    Deserializer,
    de::{DeserializeSeed, EnumAccess, IntoDeserializer as _, VariantAccess, Visitor, value::StrDeserializer},
};
use serde_json::Value;

use crate::{Decider, DomainEvent};

/// A stored event that cannot be read: its type is unknown (from a newer release), or its payload does not have the shape of its type.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("unknown event category '{0}'")]
    UnknownCategory(String),
    #[error("unknown event type '{event_type}' in category '{category}'")]
    UnknownType { category: String, event_type: String },
    #[error("'{event_type}' has schema version {stored}, newer than {known}, the newest this release knows")]
    NewerSchema { event_type: String, stored: i16, known: i16 },
    #[error("'{event_type}' has no upcaster from schema version {from}")]
    NoUpcaster { event_type: String, from: i16 },
    #[error("'{event_type}' does not have the shape of its schema version: {}", without_values(source))]
    Shape { event_type: String, source: serde_json::Error },
}

/// The error of serde without the texts that it quotes: they may contain a person's name, and every user can see errors.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let parts = text.split('"').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "…" });
    parts.collect::<Vec<_>>().join("\"")
}

/// Decodes one aggregate's event from its stored type, schema version and payload, through the upcasters.
pub fn decode<E: DomainEvent>(category: &str, event_type: &str, schema_version: i16, payload: &str) -> Result<E, UnreadableEvent> {
    if !E::VARIANTS.contains(&event_type) {
        return Err(UnreadableEvent::UnknownType { category: category.into(), event_type: event_type.into() });
    }
    let known = E::schema_version(event_type);
    if schema_version > known {
        return Err(UnreadableEvent::NewerSchema { event_type: event_type.into(), stored: schema_version, known });
    }
    let shape = |source| UnreadableEvent::Shape { event_type: event_type.into(), source };
    if schema_version == known {
        return E::deserialize(Stored { event_type, payload }).map_err(shape);
    }
    let mut value: Value = serde_json::from_str(payload).map_err(shape)?;
    for from in schema_version..known {
        let step = E::UPCASTERS.iter().find(|u| u.event_type == event_type && u.from == from);
        let step = step.ok_or_else(|| UnreadableEvent::NoUpcaster { event_type: event_type.into(), from })?;
        value = (step.upcast)(value);
    }
    E::deserialize(Stored { event_type, payload: &value.to_string() }).map_err(shape)
}

/// An event in its stored form, which serde reads as an enum variant with its content.
struct Stored<'a> {
    event_type: &'a str,
    payload: &'a str,
}

impl<'de> Stored<'de> {
    fn content<T>(self, read: impl FnOnce(&mut Json<'de>) -> Result<T, serde_json::Error>) -> Result<T, serde_json::Error> {
        let mut json = Json::from_str(self.payload);
        let content = read(&mut json)?;
        json.end()?;
        Ok(content)
    }
}

type Json<'de> = serde_json::Deserializer<serde_json::de::StrRead<'de>>;

impl<'de> Deserializer<'de> for Stored<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Stored<'de> {
    type Error = serde_json::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Self::Error> {
        let variant: StrDeserializer<'_, Self::Error> = self.event_type.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> VariantAccess<'de> for Stored<'de> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        Err(serde::de::Error::custom("an event has a content"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        self.content(|json| seed.deserialize(json))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.content(|json| json.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Self::Error> {
        self.content(|json| json.deserialize_struct("", fields, visitor))
    }
}

/// The stored type and payload of an event.
pub fn encode<E: DomainEvent>(event: &E) -> Result<(String, Value), serde_json::Error> {
    match serde_json::to_value(event)? {
        Value::Object(tagged) => tagged.into_iter().next().ok_or_else(|| serde::ser::Error::custom("an event has a type")),
        _ => Err(serde::ser::Error::custom("an event is an enum variant with fields")),
    }
}

macro_rules! facts {
    ($($module:ident::$aggregate:ident),+ $(,)?) => {
        /// An event of any aggregate.
        #[derive(Clone, Debug)]
        pub enum Fact {
            $($aggregate(<crate::$module::$aggregate as Decider>::Event)),+
        }

        impl Fact {
            /// Decodes a stored event by its category.
            pub fn decode(category: &str, event_type: &str, schema_version: i16, payload: &str) -> Result<Self, UnreadableEvent> {
                $(if category == <crate::$module::$aggregate as Decider>::CATEGORY {
                    return decode(category, event_type, schema_version, payload).map(Self::$aggregate);
                })+
                Err(UnreadableEvent::UnknownCategory(category.to_owned()))
            }

            /// Category, event type and current schema version of every event type.
            pub fn catalogue() -> Vec<(&'static str, &'static str, i16)> {
                let mut all = Vec::new();
                $(for event_type in <<crate::$module::$aggregate as Decider>::Event as strum::VariantNames>::VARIANTS {
                    all.push((<crate::$module::$aggregate as Decider>::CATEGORY, *event_type, <crate::$module::$aggregate as Decider>::Event::schema_version(event_type)));
                })+
                all
            }

            /// JSON pointers to the personal data in the payloads of an event type, see [`DomainEvent::personal_fields`].
            pub fn personal_fields(category: &str, event_type: &str) -> &'static [&'static str] {
                $(if category == <crate::$module::$aggregate as Decider>::CATEGORY {
                    return <crate::$module::$aggregate as Decider>::Event::personal_fields(event_type);
                })+
                &[]
            }

            /// The fields that the personal data of an event type is bound to, see [`DomainEvent::bound_fields`].
            pub fn bound_fields(category: &str, event_type: &str) -> &'static [&'static str] {
                $(if category == <crate::$module::$aggregate as Decider>::CATEGORY {
                    return <crate::$module::$aggregate as Decider>::Event::bound_fields(event_type);
                })+
                &[]
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

facts!(
    company::Company,
    user::User,
    api_key::ApiKey,
    person::Person,
    reserved_name::ReservedName,
    skillbase::Skillbase,
    campaign::Campaign,
    task::Task,
    call::Call,
    price_list::PriceList,
);

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::Upcaster;

    /// A type that has had three shapes: `{name}`, then `{first, last}`, then with `honours`. These names are part of the storage format.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
    enum GuestEvent {
        GuestArrived { first: String, last: String, honours: Vec<String> },
        GuestLeft(Box<Farewell>),
        Broken {},
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Farewell {
        word: Option<String>,
    }

    impl DomainEvent for GuestEvent {
        const UPCASTERS: &'static [Upcaster] = &[
            Upcaster { event_type: "GuestArrived", from: 2, upcast: with_honours },
            Upcaster { event_type: "GuestArrived", from: 1, upcast: with_first_and_last },
            Upcaster { event_type: "Broken", from: 2, upcast: |value| value },
        ];
    }

    fn with_first_and_last(mut payload: Value) -> Value {
        let name = payload["name"].take();
        let (first, last) = name.as_str().and_then(|name| name.split_once(' ')).unwrap_or_default();
        json!({"first": first, "last": last})
    }

    fn with_honours(mut payload: Value) -> Value {
        payload["honours"] = json!([]);
        payload
    }

    fn guest(schema_version: i16, payload: &Value) -> Result<GuestEvent, UnreadableEvent> {
        decode("guest", "GuestArrived", schema_version, &payload.to_string())
    }

    #[test]
    fn every_shape_there_ever_was_reads_as_the_present_one() {
        let present = GuestEvent::GuestArrived { first: "Ada".into(), last: "Lovelace".into(), honours: Vec::new() };
        assert_eq!(GuestEvent::schema_version("GuestArrived"), 3);
        assert_eq!(guest(1, &json!({"name": "Ada Lovelace"})).unwrap(), present);
        assert_eq!(guest(2, &json!({"first": "Ada", "last": "Lovelace"})).unwrap(), present);
        let (event_type, payload) = encode(&present).unwrap();
        assert_eq!(decode::<GuestEvent>("guest", &event_type, 3, &payload.to_string()).unwrap(), present);
    }

    #[test]
    fn a_shape_of_a_newer_release_is_refused() {
        assert!(matches!(guest(4, &json!({})), Err(UnreadableEvent::NewerSchema { stored: 4, known: 3, .. })));
        assert!(matches!(decode::<GuestEvent>("guest", "GuestFlew", 1, "{}"), Err(UnreadableEvent::UnknownType { .. })));
    }

    #[test]
    fn a_missing_step_is_an_error_and_no_guess() {
        assert!(matches!(decode::<GuestEvent>("guest", "Broken", 1, "{}"), Err(UnreadableEvent::NoUpcaster { from: 1, .. })));
    }

    #[test]
    fn what_does_not_have_the_shape_is_refused() {
        for payload in ["{\"word\": 5}", "[]x", "", "{\"word\": null} trailing"] {
            assert!(matches!(decode::<GuestEvent>("guest", "GuestLeft", 1, payload), Err(UnreadableEvent::Shape { .. })), "{payload}");
        }
        assert_eq!(decode::<GuestEvent>("guest", "GuestLeft", 1, "{}").unwrap(), GuestEvent::GuestLeft(Box::new(Farewell { word: None })));
    }
}
