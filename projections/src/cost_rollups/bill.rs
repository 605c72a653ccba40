//! A call's bill: what the call used, from which provider and under which price list, and what that costs.

use std::collections::BTreeMap;

use domain::{
    call::turn::Usage as Used,
    price::{self, Component, Rate},
};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lists::Rates;

/// What a call used, from which provider and under which list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UsageKey {
    pub component: Component,
    pub provider: Option<String>,
    pub model: Option<String>,
    /// `None` when no list was in force.
    pub price_list_id: Option<Uuid>,
}

/// Quantities in the components' usage units.
pub(super) type Usage = BTreeMap<UsageKey, Decimal>;

/// Adds what a turn used. A call uses mostly what it has used before: then no new key is made.
pub(super) fn add(usage: &mut Usage, used: &Used<'_>, price_list_id: Option<Uuid>) {
    let is_same = |key: &UsageKey| {
        key.component == used.component
            && key.provider.as_deref() == used.provider
            && key.model.as_deref() == used.model
            && key.price_list_id == price_list_id
    };
    match usage.iter_mut().find(|(key, _)| is_same(key)) {
        Some((_, quantity)) => *quantity += used.quantity,
        None => {
            let (provider, model) = (used.provider.map(str::to_owned), used.model.map(str::to_owned));
            usage.insert(UsageKey { component: used.component, provider, model, price_list_id }, used.quantity);
        }
    }
}

/// The cost of one component from one provider in a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub component: Component,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    pub cost: Decimal,
    pub usage: Vec<Piece>,
}

/// One piece of a line's usage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The list that was in force at the time of use; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_list_id: Option<Uuid>,
    /// In the component's usage unit.
    pub quantity: Decimal,
    /// Whether that list has a rate for it.
    pub priced: bool,
}

impl Line {
    pub(super) fn price_lists(&self) -> Vec<Uuid> {
        let mut ids: Vec<_> = self.usage.iter().filter_map(|piece| piece.price_list_id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// The lines of `usage` under the rates of the lists that it names.
pub(super) fn lines(usage: &Usage, rates: &Rates) -> Vec<Line> {
    let billed = usage.iter().map(|(key, quantity)| {
        let rates = key.price_list_id.and_then(|id| rates.get(&id)).map_or(&[][..], Vec::as_slice);
        let rate = price::choose(rates, key.component, key.provider.as_deref(), key.model.as_deref());
        Billed { component: key.component, provider: key.provider.as_deref(), quantity: *quantity, rate }
    });
    let billed: Vec<_> = billed.collect();
    let mut lines: Vec<Line> = Vec::new();
    let costs = costs_of(&billed);
    for ((key, quantity), billed) in usage.iter().zip(&billed) {
        let piece = Piece {
            model: key.model.clone(),
            price_list_id: key.price_list_id,
            quantity: quantity.normalize(),
            priced: billed.rate.is_some(),
        };
        match lines.last_mut() {
            Some(line) if (line.component, &line.provider) == (key.component, &key.provider) => line.usage.push(piece),
            _ => {
                let cost = costs.get(&(key.component, key.provider.as_deref())).copied().unwrap_or_default();
                lines.push(Line { component: key.component, provider: key.provider.clone(), cost, usage: vec![piece] });
            }
        }
    }
    lines
}

/// One billed piece of usage and its rate, if there is one.
pub struct Billed<'a> {
    pub component: Component,
    pub provider: Option<&'a str>,
    pub quantity: Decimal,
    pub rate: Option<&'a Rate>,
}

/// Costs by component and provider. Each component of a call is rounded once; if several providers share it, the last provider that has a
/// rate gets the remainder of the rounding, so that the costs add up exactly.
pub fn costs_of<'a>(billed: &[Billed<'a>]) -> BTreeMap<(Component, Option<&'a str>), Decimal> {
    let mut costs = BTreeMap::new();
    let mut components: BTreeMap<Component, BTreeMap<Option<&'a str>, Vec<&Billed<'a>>>> = BTreeMap::new();
    for piece in billed {
        components.entry(piece.component).or_default().entry(piece.provider).or_default().push(piece);
    }
    let cost = |pieces: &mut dyn Iterator<Item = &&Billed<'a>>| price::cost(pieces.filter_map(|p| Some((p.quantity, p.rate?))));
    for (component, providers) in components {
        let mut rest = cost(&mut providers.values().flatten());
        let is_priced = |pieces: &Vec<&Billed<'a>>| pieces.iter().any(|p| p.rate.is_some());
        let last = providers.iter().filter(|(_, pieces)| is_priced(pieces)).map(|(provider, _)| *provider).next_back();
        for (provider, pieces) in &providers {
            let part = if Some(*provider) == last { rest } else { cost(&mut pieces.iter()) };
            rest -= part;
            costs.insert((component, *provider), part);
        }
    }
    costs
}

/// Costs by component.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs {
    pub stt: Decimal,
    pub llm: Decimal,
    pub tts: Decimal,
    pub livekit: Decimal,
}

impl Costs {
    pub fn total(&self) -> Decimal {
        self.stt.saturating_add(self.llm).saturating_add(self.tts).saturating_add(self.livekit)
    }

    pub fn add(&mut self, component: Component, cost: Decimal) {
        let sum = match component {
            Component::Stt => &mut self.stt,
            Component::LlmInput | Component::LlmOutput => &mut self.llm,
            Component::Tts => &mut self.tts,
            Component::Livekit => &mut self.livekit,
        };
        *sum = sum.saturating_add(cost);
    }

    pub(super) fn of(lines: &[Line]) -> Self {
        let mut costs = Self::default();
        lines.iter().for_each(|line| costs.add(line.component, line.cost));
        costs
    }
}
