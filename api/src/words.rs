//! The domain's enumerations as the OpenAPI document lists them; a test compares them with the domain's own.

use utoipa::ToSchema;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident: $($word:ident),+;)+) => {
        $($(#[$doc])*
        #[derive(strum::VariantNames, ToSchema)]
        #[schema(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        #[expect(dead_code, reason = "describes what others parse")]
        pub enum $name { $($word),+ })+
    };
}

words! {
    /// A viewer reads; an auditor also reads the audit and the users; an agent also claims tasks and records calls; a manager also configures
    /// skillbases and campaigns; an admin does everything.
    RoleName: Viewer, Auditor, Agent, Manager, Admin;
    OutcomeName: Success, Fail, Voicemail, NoAnswer, Busy;
    DirectionName: Outbound, Inbound;
    ComponentName: Stt, LlmInput, LlmOutput, Tts, Livekit;
    UnitName: Second, Minute, Character, Token;
}

#[cfg(test)]
mod tests {
    use domain::{
        call::Direction,
        outcome::Outcome,
        price::{Component, Unit},
        role::Role,
    };
    use serde::de::DeserializeOwned;
    use strum::VariantNames;

    use super::*;

    fn all_parse<Words: VariantNames, T: DeserializeOwned>() {
        for word in Words::VARIANTS {
            assert!(serde_json::from_value::<T>((*word).into()).is_ok(), "{word}");
        }
        // serde lists the valid values when it gets an invalid one.
        let all = serde_json::from_value::<T>("?".into()).err().unwrap().to_string();
        assert_eq!(all.matches('`').count() / 2 - 1, Words::VARIANTS.len(), "{all}");
    }

    #[test]
    fn the_words_are_those_of_the_domain() {
        all_parse::<RoleName, Role>();
        all_parse::<OutcomeName, Outcome>();
        all_parse::<DirectionName, Direction>();
        all_parse::<ComponentName, Component>();
        all_parse::<UnitName, Unit>();
    }
}
