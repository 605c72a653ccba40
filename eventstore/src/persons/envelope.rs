//! How personal data stands in the log: in the payload's clear part there is a placeholder, and beside it an envelope with the values.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use domain::ERASED;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Cipher, PersonalValues};

/// The field of a payload that holds the envelope.
const FIELD: &str = "personal";

/// Personal data, encrypted with the person's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub person_id: Uuid,
    /// Base64 (RFC 4648, without padding) of an encrypted JSON object: the values by the JSON pointers of their places.
    data: String,
}

/// Something that shows personal data once its envelopes are opened.
pub trait HoldsPersonal {
    /// The stream that the envelopes come from; they open nowhere else.
    fn stream(&self) -> String;

    fn envelopes(&self) -> Vec<Envelope>;

    /// Puts the values in their places.
    fn reveal(&mut self, values: PersonalValues);
}

fn aad(company_id: Uuid, stream: &str) -> Vec<u8> {
    [company_id.as_bytes(), stream.as_bytes()].concat()
}

impl Envelope {
    fn close(person_id: Uuid, key: &Cipher, company_id: Uuid, stream: &str, values: PersonalValues) -> Self {
        let sealed = key.encrypt(&aad(company_id, stream), Value::Object(values).to_string().as_bytes());
        Self { person_id, data: STANDARD_NO_PAD.encode(sealed) }
    }

    /// The values; `None` if they were not encrypted with this key, for this stream.
    pub(super) fn open(&self, key: &Cipher, company_id: Uuid, stream: &str) -> Option<PersonalValues> {
        let sealed = STANDARD_NO_PAD.decode(&self.data).ok()?;
        serde_json::from_slice(&key.decrypt(&aad(company_id, stream), &sealed)?).ok()
    }

    /// Bytes of what it holds, as text.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// The envelope of a payload, as it is stored.
    pub fn of(payload: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Holder {
            personal: Option<Envelope>,
        }
        // Most payloads have none, and need not be parsed to tell.
        if !payload.contains("\"personal\"") {
            return None;
        }
        serde_json::from_str::<Holder>(payload).ok()?.personal
    }
}

/// Takes the personal values at `fields` out of a payload, and puts their envelope into it; without a key they are gone for good.
pub(crate) fn conceal(payload: &mut Value, fields: &[&str], person_id: Uuid, key: Option<&Cipher>, company_id: Uuid, stream: &str) {
    let mut values = Map::new();
    for field in fields {
        let Some(value) = payload.pointer_mut(field).filter(|value| !value.is_null()) else { continue };
        let placeholder = if value.is_object() { json!({}) } else { json!(ERASED) };
        values.insert((*field).to_owned(), std::mem::replace(value, placeholder));
    }
    if let (Some(key), Some(object), false) = (key, payload.as_object_mut(), values.is_empty()) {
        let envelope = Envelope::close(person_id, key, company_id, stream, values);
        object.insert(FIELD.to_owned(), json!(envelope));
    }
}

/// A payload without its envelope, with `values` in their places.
pub(crate) fn fill_in(payload: &mut Value, values: PersonalValues) {
    for (field, value) in values {
        if let Some(place) = payload.pointer_mut(&field) {
            *place = value;
        }
    }
    without_envelope(payload);
}

pub(crate) fn without_envelope(payload: &mut Value) {
    // A skillbase may have a field of that name.
    if let Some(object) = payload.as_object_mut()
        && object.get(FIELD).is_some_and(|envelope| envelope.get("person_id").is_some() && envelope.get("data").is_some())
    {
        object.remove(FIELD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persons::MasterKey;

    const PERSON: Uuid = Uuid::from_u128(1);
    const COMPANY: Uuid = Uuid::from_u128(2);
    const FIELDS: &[&str] = &["/subject/phone_number", "/contact_data", "/not_there", "/null"];

    fn key() -> Cipher {
        "07".repeat(32).parse::<MasterKey>().unwrap().cipher("test")
    }

    fn payload() -> Value {
        json!({"subject": {"phone_number": "+12025550100"}, "contact_data": {"city": "Prague"}, "null": null, "count": 7})
    }

    #[test]
    fn what_is_concealed_comes_back_with_the_key_and_not_without() {
        let mut stored = payload();
        conceal(&mut stored, FIELDS, PERSON, Some(&key()), COMPANY, "call-1");
        let text = stored.to_string();
        assert!(!text.contains("2025550100") && !text.contains("Prague") && text.contains("\"count\":7"));
        let envelope = Envelope::of(&text).unwrap();
        assert_eq!(envelope.person_id, PERSON);
        assert_eq!((envelope.open(&key(), COMPANY, "call-2"), envelope.open(&key(), PERSON, "call-1")), (None, None));
        let mut revealed = stored.clone();
        fill_in(&mut revealed, envelope.open(&key(), COMPANY, "call-1").unwrap());
        assert_eq!(revealed, payload());
        without_envelope(&mut stored);
        assert_eq!(stored, json!({"subject": {"phone_number": "erased"}, "contact_data": {}, "null": null, "count": 7}));
    }

    #[test]
    fn of_an_erased_person_nothing_is_kept() {
        let mut stored = payload();
        conceal(&mut stored, FIELDS, PERSON, None, COMPANY, "call-1");
        assert_eq!(stored, json!({"subject": {"phone_number": "erased"}, "contact_data": {}, "null": null, "count": 7}));
        assert_eq!(Envelope::of(&stored.to_string()), None);
    }

    #[test]
    fn what_only_looks_like_an_envelope_is_none() {
        for payload in [r#"{"personal": "assistant"}"#, r#"{"text": "\"personal\""}"#, r#"{"config": {"personal": {"data": "x"}}}"#] {
            assert_eq!(Envelope::of(payload), None, "{payload}");
            let mut value: Value = serde_json::from_str(payload).unwrap();
            without_envelope(&mut value);
            assert_eq!(value, serde_json::from_str::<Value>(payload).unwrap());
        }
    }
}
