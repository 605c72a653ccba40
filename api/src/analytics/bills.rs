use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::price::{Rate, choose};
use projections::cost_rollups::{CallCosts, Change, Line, NamedList, Piece, Repricing};
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::view::CostView;
use crate::{
    numbers::seconds,
    price_lists::RateView,
    words::{ComponentName, UnitName},
};

/// The costs of one call and their reasons: each line of the bill, and each later change by a new price list or its
/// withdrawal.
#[derive(Serialize, ToSchema)]
pub struct BillView {
    /// Id of the call
    pub call_id: Uuid,
    #[serde(flatten)]
    pub costs: CostView,
    /// One line for each component and provider
    pub lines: Vec<LineView>,
    /// Oldest first
    pub repricings: Vec<RepricingView>,
}

/// The cost of one component from one provider.
#[derive(Serialize, ToSchema)]
pub struct LineView {
    /// What was used
    #[schema(value_type = ComponentName)]
    pub component: String,
    /// The provider, as the turns name it
    pub provider: Option<String>,
    /// Cost of the line, an exact decimal
    pub cost: Decimal,
    /// What was used, by model and price list
    pub usage: Vec<PieceView>,
}

#[derive(Serialize, ToSchema)]
pub struct PieceView {
    /// The model, as the turns name it
    pub model: Option<String>,
    /// In `unit`
    pub quantity: f64,
    /// The unit of `quantity`
    #[schema(value_type = UnitName)]
    pub unit: String,
    /// The list that was in force when the component was used; null when no list was in force
    pub price_list: Option<PriceListName>,
    /// The list's rate for the component; null when the list has no rate for it: then the component is unpriced and costs nothing
    #[schema(value_type = Option<RateView>)]
    pub rate: Option<Rate>,
}

#[derive(Clone, Serialize, ToSchema)]
pub struct PriceListName {
    /// Id of the price list
    pub id: Uuid,
    /// Null for a short time after the list was published
    pub name: Option<String>,
    /// When the list came into force
    pub effective_from: DateTime<Utc>,
}

/// A publication or withdrawal of a price list that was in force when the call took place.
#[derive(Serialize, ToSchema)]
pub struct RepricingView {
    /// When it was published or withdrawn
    pub repriced_at: DateTime<Utc>,
    /// Position of the publication or withdrawal in the log
    pub position: i64,
    /// The list that was published or withdrawn
    pub price_list: Option<PriceListName>,
    /// The reason, a sentence in English
    pub why: String,
    /// The lines whose cost or price list changed
    pub changes: Vec<ChangeView>,
}

#[derive(Serialize, ToSchema)]
pub struct ChangeView {
    /// The component whose cost changed
    #[schema(value_type = ComponentName)]
    pub component: String,
    /// The provider of the component, as the turns name it
    pub provider: Option<String>,
    /// Cost before, an exact decimal
    pub cost_before: Decimal,
    /// Cost afterwards, an exact decimal
    pub cost_after: Decimal,
    /// The lists that priced the call before
    pub price_lists_before: Vec<PriceListName>,
}

/// The price lists that a bill names, with their rates.
pub struct PriceLists(HashMap<Uuid, (PriceListName, Vec<Rate>)>);

impl PriceLists {
    pub fn new(lists: Vec<NamedList>) -> Self {
        let lists = lists.into_iter().map(|list| {
            let name = PriceListName { id: list.id, name: list.name, effective_from: list.effective_from };
            (list.id, (name, list.rates))
        });
        Self(lists.collect())
    }

    fn name(&self, id: Uuid) -> Option<PriceListName> {
        self.0.get(&id).map(|(name, _)| name.clone())
    }

    fn rates(&self, id: Option<Uuid>) -> &[Rate] {
        id.and_then(|id| self.0.get(&id)).map_or(&[], |(_, rates)| rates)
    }
}

impl BillView {
    pub fn new(call_id: Uuid, bill: CallCosts, repricings: Vec<Repricing>, lists: &PriceLists) -> Self {
        Self {
            call_id,
            costs: (&bill.costs).into(),
            lines: bill.lines.into_iter().map(|line| line_view(line, lists)).collect(),
            repricings: repricings.into_iter().map(|repricing| repricing_view(repricing, lists)).collect(),
        }
    }
}

fn line_view(line: Line, lists: &PriceLists) -> LineView {
    let piece = |piece: Piece| PieceView {
        quantity: seconds(piece.quantity),
        unit: line.component.usage_unit().to_string(),
        price_list: piece.price_list_id.and_then(|id| lists.name(id)),
        rate: choose(lists.rates(piece.price_list_id), line.component, line.provider.as_deref(), piece.model.as_deref()).cloned(),
        model: piece.model,
    };
    LineView {
        component: line.component.to_string(),
        cost: line.cost.normalize(),
        usage: line.usage.into_iter().map(piece).collect(),
        provider: line.provider.clone(),
    }
}

fn repricing_view(repricing: Repricing, lists: &PriceLists) -> RepricingView {
    let price_list = lists.name(repricing.price_list_id);
    let name = price_list.as_ref().and_then(|list| list.name.as_deref()).unwrap_or_default();
    let (at, from) = (repricing.repriced_at.to_rfc3339(), repricing.effective_from.to_rfc3339());
    let why = if repricing.is_withdrawal {
        format!("price list '{name}', in force from {from} on, was withdrawn {at}: what it priced is priced by the list before it")
    } else {
        format!("price list '{name}', published {at}, is in force from {from} on: what the call used from then on is priced by it")
    };
    let change = |change: Change| ChangeView {
        component: change.component.to_string(),
        provider: change.provider,
        cost_before: change.cost_before.normalize(),
        cost_after: change.cost_after.normalize(),
        price_lists_before: change.price_lists_before.into_iter().filter_map(|id| lists.name(id)).collect(),
    };
    RepricingView {
        repriced_at: repricing.repriced_at,
        position: repricing.position,
        price_list,
        why,
        changes: repricing.changes.into_iter().map(change).collect(),
    }
}
