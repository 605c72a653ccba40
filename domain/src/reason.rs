//! Reasons that rules give: a stable code with arguments, for programs and other languages, and a sentence in English.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;
use serde_json::{Map, Value};

/// The reasons of one kind of rule. Its `Display` is a sentence for the caller; variants with data are written with named fields, which are
/// the arguments.
pub trait Coded: Serialize + Display {
    /// The first part of the codes; the second part is the variant's name. Empty for reasons that any field can have.
    const AREA: &'static str;
}

/// A reason, independent of its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// `campaign_no_tasks`; it does not change.
    pub code: String,
    /// `{"max": 200}`
    pub args: Map<String, Value>,
    pub sentence: String,
}

impl Display for Reason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl<C: Coded> From<C> for Reason {
    #[expect(clippy::expect_used, reason = "the reasons are enums of plain fields")]
    fn from(coded: C) -> Self {
        let (variant, args) = match serde_json::to_value(&coded).expect("a reason can be serialized") {
            Value::Object(variant) => variant.into_iter().next().expect("a variant has a name"),
            variant => (variant.as_str().expect("a variant has a name").to_owned(), Value::Null),
        };
        let code = if C::AREA.is_empty() { variant } else { format!("{}_{variant}", C::AREA) };
        let args = match args {
            Value::Object(args) => args,
            _ => Map::new(),
        };
        Self { code, args, sentence: coded.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize, thiserror::Error, Debug)]
    #[serde(rename_all = "snake_case")]
    enum Weather {
        #[error("it rains")]
        RainsNow,
        #[error("it is {degrees} degrees")]
        TooWarm { degrees: u8 },
    }

    impl Coded for Weather {
        const AREA: &'static str = "weather";
    }

    #[test]
    fn a_reason_has_a_code_with_arguments_and_a_sentence() {
        let rain = Reason::from(Weather::RainsNow);
        assert_eq!((rain.code.as_str(), rain.args.len(), rain.sentence.as_str()), ("weather_rains_now", 0, "it rains"));
        let warm = Reason::from(Weather::TooWarm { degrees: 40 });
        assert_eq!(
            (warm.code.as_str(), json!(warm.args), warm.to_string().as_str()),
            ("weather_too_warm", json!({"degrees": 40}), "it is 40 degrees")
        );
    }
}
