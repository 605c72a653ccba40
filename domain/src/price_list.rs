//! A price list: rates that apply from a given time on. Lists are published and can be withdrawn; they do not change.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Coded, Decider, DomainEvent, Lifecycle, Refusal, RefusalKind, decider::STATE_BYTES, price::Rate};

/// These names are part of the storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum PriceListEvent {
    PriceListPublished {
        name: String,
        effective_from: DateTime<Utc>,
        rates: Vec<Rate>,
    },
    /// The list prices nothing any more, as if it had never been published: the list before it is in force in its period.
    PriceListWithdrawn {},
}

impl DomainEvent for PriceListEvent {}

#[derive(Clone, Debug, PartialEq)]
pub struct PublishedPriceList {
    pub name: String,
    pub effective_from: DateTime<Utc>,
    pub rates: Vec<Rate>,
}

#[derive(Clone, Debug)]
pub enum PriceListCommand {
    Publish { name: String, effective_from: DateTime<Utc>, rates: Vec<Rate> },
    Withdraw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum PriceListRefusal {
    #[error("this price list is published already, with other content")]
    PublishedAlready,
    #[error("there is no such price list")]
    Unknown,
}

impl Coded for PriceListRefusal {
    const AREA: &'static str = "price_list";
}

impl Refusal for PriceListRefusal {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::PublishedAlready => RefusalKind::Conflict,
            Self::Unknown => RefusalKind::NotFound("price list"),
        }
    }
}

pub struct PriceList;

impl Decider for PriceList {
    const CATEGORY: &'static str = "price_list";
    type State = Lifecycle<PublishedPriceList>;
    type Event = PriceListEvent;
    type Command = PriceListCommand;
    type Refusal = PriceListRefusal;

    fn evolve(state: &mut Lifecycle<PublishedPriceList>, event: &PriceListEvent) {
        *state = match event {
            PriceListEvent::PriceListPublished { name, effective_from, rates } => {
                Lifecycle::new(PublishedPriceList { name: name.clone(), effective_from: *effective_from, rates: rates.clone() })
            }
            PriceListEvent::PriceListWithdrawn {} => Lifecycle::Deleted,
        };
    }

    fn size_of(state: &Lifecycle<PublishedPriceList>) -> usize {
        state.present().map_or(0, |list| list.rates.len()) * size_of::<Rate>() + STATE_BYTES
    }

    fn decide(state: &Lifecycle<PublishedPriceList>, command: PriceListCommand) -> Result<Vec<PriceListEvent>, PriceListRefusal> {
        use PriceListCommand::{Publish, Withdraw};
        match (state, command) {
            (Lifecycle::None, Publish { name, effective_from, rates }) => {
                Ok(vec![PriceListEvent::PriceListPublished { name, effective_from, rates }])
            }
            (Lifecycle::Present(published), Publish { name, effective_from, rates })
                if (&published.name, published.effective_from, &published.rates) == (&name, effective_from, &rates) =>
            {
                Ok(vec![])
            }
            (Lifecycle::Present(_) | Lifecycle::Deleted, Publish { .. }) => Err(PriceListRefusal::PublishedAlready),
            (Lifecycle::Present(_), Withdraw) => Ok(vec![PriceListEvent::PriceListWithdrawn {}]),
            (Lifecycle::Deleted, Withdraw) => Ok(vec![]),
            (Lifecycle::None, Withdraw) => Err(PriceListRefusal::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{price::default_rates, testing::given};

    fn published(name: &str) -> PriceListEvent {
        PriceListEvent::PriceListPublished { name: name.into(), effective_from: DateTime::UNIX_EPOCH, rates: default_rates() }
    }

    fn publish(name: &str) -> PriceListCommand {
        PriceListCommand::Publish { name: name.into(), effective_from: DateTime::UNIX_EPOCH, rates: default_rates() }
    }

    #[test]
    fn a_list_is_published_once() {
        given::<PriceList>([]).when(publish("a")).then([published("a")]);
        given::<PriceList>([published("a")]).when(publish("a")).then_nothing();
        given::<PriceList>([published("a")]).when(publish("b")).then_refused(PriceListRefusal::PublishedAlready);
    }

    #[test]
    fn a_list_is_withdrawn_once_and_does_not_come_back() {
        let withdrawn = || PriceListEvent::PriceListWithdrawn {};
        given::<PriceList>([published("a")]).when(PriceListCommand::Withdraw).then([withdrawn()]);
        given::<PriceList>([published("a"), withdrawn()]).when(PriceListCommand::Withdraw).then_nothing();
        given::<PriceList>([published("a"), withdrawn()]).when(publish("a")).then_refused(PriceListRefusal::PublishedAlready);
        given::<PriceList>([]).when(PriceListCommand::Withdraw).then_refused(PriceListRefusal::Unknown);
    }
}
