//! Enumerations as the OpenAPI document lists them. A test compares them with the domain's own, except those that the platform only writes
//! or parses by hand: reasons of claims, states of projections and workers, groups, and formats of lists.

use serde::Serialize;
use utoipa::ToSchema;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident: $($word:ident),+;)+) => {
        $($(#[$doc])*
        #[derive(Serialize, strum::VariantNames, ToSchema)]
        #[serde(rename_all = "snake_case")]
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
    CampaignStatusName: Draft, Running, Paused, Completed;
    /// `completed`: an attempt was completed, whatever its outcome; `failed`: no attempt was completed and none is left.
    TaskStatusName: Pending, InProgress, Retry, Completed, Failed, Cancelled;
    CallStatusName: Dialing, InProgress, Ended;
    /// active: not ended; completed: ended, with another outcome than fail; failed: ended with outcome fail.
    CallProgressName: Dialing, InProgress, Ended, Active, Completed, Failed;
    /// What decided the outcome: the agent said it, the final state, the caller's words, or nothing.
    OutcomeMethodName: Explicit, State, Keywords, None;
    /// reported: by the worker; lease_expired: the call gave no sign of life; call_ended: the call ended and no result was reported.
    FailureCauseName: Reported, LeaseExpired, CallEnded;
    BackoffName: Fixed, Exponential;
    UserStatusName: Invited, Active, Disabled;
    ActorKindName: User, ApiKey, Dialer, System;
    /// Why no task can be claimed.
    ClaimReasonName: NotRunning, OutsideSchedule, Empty, Concurrency, Rate, DialedByProvider;
    ProjectionStatusName: Live, CatchingUp, Rebuilding, Failed;
    /// ok; failing: its last round failed, or it failed to do some work and tries again; stuck: it has given up some work; waiting: it has
    /// not finished a round yet.
    WorkerStatusName: Ok, Failing, Stuck, Waiting;
    GroupByName: Hour, Day, Campaign, Skillbase;
    CostGroupByName: Hour, Day, Campaign, Skillbase, Component, Provider;
    FlowTypeName: Linear, Graph;
    /// `json`: one page; `csv` and `xlsx`: all rows as a table.
    TableFormatName: Json, Csv, Xlsx;
}

#[cfg(test)]
mod tests {
    use domain::{
        call::{CallStatus, Direction},
        campaign::CampaignStatus,
        outcome::{Outcome, OutcomeMethod},
        price::{Component, Unit},
        retry::Backoff,
        role::Role,
        skillbase::FlowType,
        task::{FailureCause, TaskStatus},
        user::UserStatus,
    };
    use eventstore::ActorKind;
    use projections::calls::CallProgress;
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
        all_parse::<CampaignStatusName, CampaignStatus>();
        all_parse::<TaskStatusName, TaskStatus>();
        all_parse::<CallStatusName, CallStatus>();
        all_parse::<CallProgressName, CallProgress>();
        all_parse::<OutcomeMethodName, OutcomeMethod>();
        all_parse::<FailureCauseName, FailureCause>();
        all_parse::<BackoffName, Backoff>();
        all_parse::<UserStatusName, UserStatus>();
        all_parse::<ActorKindName, ActorKind>();
        all_parse::<FlowTypeName, FlowType>();
    }
}
