//! The providers and models that the turns of a call name.

use super::turn::Turn;
use crate::price::Component;

/// Most different providers and models, over all components, that a call's turns may name together. A bill has a line for each, and is
/// written again with every turn.
pub const PROVIDERS_MAX: usize = 64;

type Name = (Component, Option<String>, Option<String>);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Providers(Vec<Name>);

impl Providers {
    /// Adds what a turn names. Returns whether all of it is known now: a call from before this limit may name more.
    pub(super) fn add(&mut self, turn: &Turn) -> bool {
        turn.usage().fold(true, |fits, used| {
            let is_same = |(component, provider, model): &Name| {
                *component == used.component && provider.as_deref() == used.provider && model.as_deref() == used.model
            };
            if self.0.iter().any(is_same) {
                return fits;
            }
            if self.0.len() < PROVIDERS_MAX {
                self.0.push((used.component, used.provider.map(str::to_owned), used.model.map(str::to_owned)));
                return fits;
            }
            false
        })
    }

    /// Bytes of the names.
    pub(super) fn bytes(&self) -> usize {
        let text = |name: &Option<String>| name.as_ref().map_or(0, String::len);
        self.0.iter().map(|(_, provider, model)| size_of::<Name>() + text(provider) + text(model)).sum()
    }
}
