//! How the log stores personal data: the payload's clear part has a placeholder, and an envelope beside it holds the values.

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
    /// The bound fields of the event in which the envelope was found, with their values; these fields stay unencrypted. They are not part
    /// of the envelope but of the additional data that is authenticated with it.
    #[serde(skip)]
    beside: String,
}

/// Something that shows personal data once its envelopes are opened. Each envelope has its bound fields ([beside](Envelope::beside)), the
/// same as those that [`bound_fields`](domain::DomainEvent::bound_fields) defines for its event.
pub trait HoldsPersonal {
    /// The stream that the envelopes come from; they cannot be opened for another stream.
    fn stream(&self) -> String;

    fn envelopes(&self) -> Vec<Envelope>;

    /// Puts the values in their places.
    fn reveal(&mut self, values: PersonalValues);
}

impl<T: HoldsPersonal> HoldsPersonal for &mut T {
    fn stream(&self) -> String {
        (**self).stream()
    }

    fn envelopes(&self) -> Vec<Envelope> {
        (**self).envelopes()
    }

    fn reveal(&mut self, values: PersonalValues) {
        (**self).reveal(values);
    }
}

fn aad(company_id: Uuid, stream: &str, beside: &str) -> Vec<u8> {
    [company_id.as_bytes(), stream.as_bytes(), beside.as_bytes()].concat()
}

/// A bound field with its value, in the form of the additional data. No stream's name has a blank.
fn bound(field: &str, value: &Value) -> String {
    format!(" {field}={value}")
}

/// The bound fields that a payload has.
fn bound_values(payload: &Value, fields: &[&str]) -> String {
    fields.iter().filter_map(|field| Some(bound(field, payload.pointer(field)?))).collect()
}

impl Envelope {
    fn close(person_id: Uuid, key: &Cipher, company_id: Uuid, stream: &str, beside: String, values: PersonalValues) -> Self {
        let sealed = key.encrypt(&aad(company_id, stream, &beside), Value::Object(values).to_string().as_bytes());
        Self { person_id, data: STANDARD_NO_PAD.encode(sealed), beside }
    }

    /// The same envelope, found beside this value of a bound field.
    #[must_use]
    pub fn beside(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.beside.push_str(&bound(field, &value.into()));
        self
    }

    /// The values; `None` if they were not encrypted with this key, for this stream and with these bound fields.
    pub(super) fn open(&self, key: &Cipher, company_id: Uuid, stream: &str) -> Option<PersonalValues> {
        let sealed = STANDARD_NO_PAD.decode(&self.data).ok()?;
        let opened = key.decrypt(&aad(company_id, stream, &self.beside), &sealed);
        // Envelopes from before fields were bound are authenticated without bound fields.
        let opened = opened.or_else(|| key.decrypt(&aad(company_id, stream, ""), &sealed));
        serde_json::from_slice(&opened?).ok()
    }

    /// Bytes of its content, as text.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// The envelope of a stored payload, with the values of its bound fields.
    pub fn of(payload: &str, bound_fields: &[&str]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Holder {
            personal: Option<Envelope>,
        }
        // Most payloads have no envelope, and this check avoids parsing them.
        if !payload.contains("\"personal\"") {
            return None;
        }
        let envelope = serde_json::from_str::<Holder>(payload).ok()?.personal?;
        if bound_fields.is_empty() {
            return Some(envelope);
        }
        let payload: Value = serde_json::from_str(payload).ok()?;
        Some(Self { beside: bound_values(&payload, bound_fields), ..envelope })
    }
}

/// Where an event type holds personal data, and the fields that the data is bound to.
#[derive(Clone, Copy)]
pub(crate) struct PersonalFields {
    pub personal: &'static [&'static str],
    pub bound: &'static [&'static str],
}

/// Removes the personal values from a payload and puts their envelope into it; without a key the values are permanently lost.
pub(crate) fn conceal(payload: &mut Value, fields: PersonalFields, person_id: Uuid, key: Option<&Cipher>, company_id: Uuid, stream: &str) {
    let beside = bound_values(payload, fields.bound);
    let mut values = Map::new();
    for field in fields.personal {
        let Some(value) = payload.pointer_mut(field).filter(|value| !value.is_null()) else { continue };
        let placeholder = if value.is_object() { json!({}) } else { json!(ERASED) };
        values.insert((*field).to_owned(), std::mem::replace(value, placeholder));
    }
    if let (Some(key), Some(object), false) = (key, payload.as_object_mut(), values.is_empty()) {
        let envelope = Envelope::close(person_id, key, company_id, stream, beside, values);
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
    const FIELDS: PersonalFields =
        PersonalFields { personal: &["/subject/phone_number", "/contact_data", "/not_there", "/null"], bound: &[] };

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
        let envelope = Envelope::of(&text, &[]).unwrap();
        assert_eq!(envelope.person_id, PERSON);
        assert_eq!((envelope.open(&key(), COMPANY, "call-2"), envelope.open(&key(), PERSON, "call-1")), (None, None));
        let mut revealed = stored.clone();
        fill_in(&mut revealed, envelope.open(&key(), COMPANY, "call-1").unwrap());
        assert_eq!(revealed, payload());
        without_envelope(&mut stored);
        assert_eq!(stored, json!({"subject": {"phone_number": "erased"}, "contact_data": {}, "null": null, "count": 7}));
    }

    #[test]
    fn an_envelope_opens_beside_its_bound_values_only() {
        let fields = PersonalFields { bound: &["/count", "/not_there"], ..FIELDS };
        let mut stored = payload();
        conceal(&mut stored, fields, PERSON, Some(&key()), COMPANY, "call-1");
        let open = |payload: &Value| Envelope::of(&payload.to_string(), fields.bound).unwrap().open(&key(), COMPANY, "call-1");
        assert!(open(&stored).is_some());
        let mut moved = stored.clone();
        moved["count"] = json!(8);
        assert_eq!(open(&moved), None);
        // A read model's row stores only the envelope; the row itself has the bound fields.
        let kept: Envelope = serde_json::from_value(stored["personal"].clone()).unwrap();
        assert!(kept.clone().beside("/count", 7).open(&key(), COMPANY, "call-1").is_some());
        assert_eq!(kept.clone().beside("/count", 8).open(&key(), COMPANY, "call-1"), None);
        assert_eq!(kept.open(&key(), COMPANY, "call-1"), None);
    }

    #[test]
    fn an_envelope_from_before_fields_were_bound_opens() {
        let mut stored = payload();
        conceal(&mut stored, FIELDS, PERSON, Some(&key()), COMPANY, "call-1");
        assert!(Envelope::of(&stored.to_string(), &["/count"]).unwrap().open(&key(), COMPANY, "call-1").is_some());
    }

    #[test]
    fn of_an_erased_person_nothing_is_kept() {
        let mut stored = payload();
        conceal(&mut stored, FIELDS, PERSON, None, COMPANY, "call-1");
        assert_eq!(stored, json!({"subject": {"phone_number": "erased"}, "contact_data": {}, "null": null, "count": 7}));
        assert_eq!(Envelope::of(&stored.to_string(), &[]), None);
    }

    #[test]
    fn what_only_looks_like_an_envelope_is_none() {
        for payload in [r#"{"personal": "assistant"}"#, r#"{"text": "\"personal\""}"#, r#"{"config": {"personal": {"data": "x"}}}"#] {
            assert_eq!(Envelope::of(payload, &["/count"]), None, "{payload}");
            let mut value: Value = serde_json::from_str(payload).unwrap();
            without_envelope(&mut value);
            assert_eq!(value, serde_json::from_str::<Value>(payload).unwrap());
        }
    }
}
