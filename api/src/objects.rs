//! Strict JSON: a struct must be a JSON object, and a whole number is accepted in every notation.
//!
//! The code that serde derives also accepts an array for a struct, field by field, and refuses `420.0` and `4.2e2` for an integer.

use domain::decimal::read_exact;
use rust_decimal::prelude::ToPrimitive as _;
use serde::{
    Deserializer,
    de::{
        Error as _, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Number, Value};

/// Reads a value in which all structs must be objects, except inside enums.
pub struct Objects(pub Value);

/// The integer that a number represents, if it is an integer of 64 bits.
fn whole(number: &Number) -> Option<Number> {
    let exact = read_exact(&number.to_string()).ok().filter(|exact| exact.is_integer())?;
    exact.to_u64().map(Number::from).or_else(|| exact.to_i64().map(Number::from))
}

/// For integer fields: `420.0` and `4.2e2` are read as 420.
macro_rules! deserialize_integers {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match &self.0 {
                Value::Number(number) if number.is_f64() => match whole(number) {
                    Some(whole) => whole.deserialize_any(visitor),
                    None => self.deserialize_any(visitor),
                },
                _ => self.deserialize_any(visitor),
            }
        })+
    };
}

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

    deserialize_integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
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

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Numbers {
        small: Option<u8>,
        signed: i64,
        unsigned: u64,
        list: Vec<i32>,
        free: Value,
        fraction: f64,
    }

    #[test]
    fn a_whole_number_is_whole_however_it_is_written() {
        let text = r#"{"small": 2.0e1, "signed": -4.2e2, "unsigned": 1e19, "list": [1, -0.0, 7.0], "free": 420.0, "fraction": 2.0}"#;
        let read = Numbers::deserialize(Objects(serde_json::from_str(text).unwrap())).unwrap();
        let list = vec![1, 0, 7];
        let unsigned = 10_000_000_000_000_000_000;
        assert_eq!(read, Numbers { small: Some(20), signed: -420, unsigned, list, free: json!(420.0), fraction: 2.0 });
    }

    #[test]
    fn a_number_that_is_not_whole_or_does_not_fit_is_no_integer() {
        for (bad, path) in [
            (json!({"small": 420.5}), "small"),
            (json!({"small": 256.0}), "small"),
            (json!({"small": -1.0}), "small"),
            (json!({"signed": 1e19}), "signed"),
            (json!({"unsigned": 1e300}), "unsigned"),
            (json!({"list": [1.0, 0.1]}), "list[1]"),
        ] {
            let error = serde_path_to_error::deserialize::<_, Numbers>(Objects(bad.clone())).unwrap_err();
            assert_eq!(error.path().to_string(), path, "{bad}: {error}");
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
