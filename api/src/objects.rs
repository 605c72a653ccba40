//! JSON in which an object is an object: what serde derives takes an array for a struct too, field by field.

use serde::{
    Deserializer,
    de::{
        Error as _, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Value};

/// Reads a value, whose objects are objects all the way down but for what is in enums.
pub struct Objects(pub Value);

impl IntoDeserializer<'_, Error> for Objects {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Objects {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Self));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(fields) => {
                let mut fields = MapDeserializer::new(fields.into_iter().map(|(name, value)| (name, Self(value))));
                let value = visitor.visit_map(&mut fields)?;
                fields.end()?;
                Ok(value)
            }
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        if self.0.is_object() { self.deserialize_any(visitor) } else { Err(Error::custom("must be an object")) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        n: u8,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        One,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Outer {
        maybe: Option<Inner>,
        all: Vec<Inner>,
        by_name: BTreeMap<String, Inner>,
        word: Option<Word>,
        anything: Option<Value>,
    }

    fn read(value: Value) -> Result<Outer, String> {
        Outer::deserialize(Objects(value)).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_are_read_as_serde_json_reads_them() {
        let anything = json!({"a": [1, -2, 2.5, null, true, "x"]});
        let value = json!({"maybe": {"n": 1}, "all": [{"n": 2}], "by_name": {"x": {"n": 3}}, "word": "one", "anything": anything});
        assert_eq!(read(value.clone()), Ok(serde_json::from_value(value).unwrap()));
        assert_eq!(read(json!({"maybe": null})), Ok(Outer::default()));
        for bad in [json!({"all": [{"n": 256}]}), json!({"word": "two"}), json!({"more": 1}), json!({"all": {}})] {
            assert_eq!(read(bad.clone()), Err(serde_json::from_value::<Outer>(bad).unwrap_err().to_string()));
        }
    }

    #[test]
    fn nothing_else_is_an_object() {
        for bad in
            [json!([]), json!([null, [], {}, null, null]), json!({"maybe": [1]}), json!({"all": [[1]]}), json!({"by_name": {"x": [1]}})]
        {
            assert_eq!(read(bad.clone()), Err("must be an object".to_owned()), "{bad}");
        }
    }
}
