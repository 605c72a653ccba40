//! The phrases of the caller in a call so far that indicate an outcome.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Outcome,
    matching::{PhraseMatch, TextMatches, match_phrases},
};
use crate::ERASED;

/// In how many turns of the caller phrases of machines are counted, from the lowest turn index.
const OPENING_TURNS: usize = 2;
/// Confidence by how many distinct phrases agree: one, two, three or more.
const CONFIDENCE_PERCENT: [u8; 3] = [50, 65, 80];
/// Percent that each distinct phrase for another outcome subtracts.
const CONTRADICTION_PERCENT: usize = 10;
/// The least confidence of an outcome that has a majority.
const CONFIDENCE_MIN_PERCENT: u8 = 30;

/// The caller's phrases. Turns give the same tally in any order, each turn once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhraseTally {
    answers: BTreeSet<PhraseMatch>,
    /// Phrases of machines in the caller's first turns, by turn index.
    opening: BTreeMap<u32, BTreeSet<PhraseMatch>>,
    /// Turns of the caller without a phrase of a machine.
    personal_turns: usize,
    has_erased_text: bool,
}

impl PhraseTally {
    /// Adds the caller's text of a turn. The agent's text indicates nothing and is not added.
    pub fn add(&mut self, turn_index: u32, user_text: &str) {
        if user_text == ERASED {
            self.has_erased_text = true;
            return;
        }
        let TextMatches { has_words, answers, machine } = match_phrases(user_text);
        if !has_words {
            return;
        }
        self.answers.extend(answers);
        self.personal_turns += usize::from(machine.is_empty());
        self.opening.insert(turn_index, machine);
        if self.opening.len() > OPENING_TURNS {
            self.opening.pop_last();
        }
    }

    /// Whether a text is missing because the person was erased: no outcome can be derived from the rest.
    pub fn has_erased_text(&self) -> bool {
        self.has_erased_text
    }

    /// The outcome that most distinct phrases indicate, and its confidence in percent; `None` for a tie and for a conversation that an
    /// erasure made incomplete.
    pub(super) fn majority(&self) -> Option<(Outcome, u8)> {
        if self.has_erased_text {
            return None;
        }
        let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
        for (outcome, _) in self.answers.iter().copied().chain(self.machine_phrases()) {
            *counts.entry(outcome).or_default() += 1;
        }
        let total: usize = counts.values().sum();
        let most = *counts.values().max()?;
        let mut leaders = counts.into_iter().filter(|(_, count)| *count == most);
        let (outcome, _) = leaders.next()?;
        leaders.next().is_none().then(|| (outcome, confidence_percent(most, total - most)))
    }

    /// The phrases of machines that are counted: none once a person has spoken after the opening turns. Of a greeting that takes messages,
    /// only the phrases about messages are counted, not its reason ("is not available").
    fn machine_phrases(&self) -> BTreeSet<PhraseMatch> {
        let opening_personal_turns = self.opening.values().filter(|machine| machine.is_empty()).count();
        if self.personal_turns > opening_personal_turns {
            return BTreeSet::new();
        }
        let mut phrases: BTreeSet<PhraseMatch> = self.opening.values().flatten().copied().collect();
        if phrases.iter().any(|(outcome, _)| *outcome == Outcome::Voicemail) {
            phrases.retain(|(outcome, _)| *outcome == Outcome::Voicemail);
        }
        phrases
    }
}

fn confidence_percent(agreeing: usize, contradicting: usize) -> u8 {
    let [one, two, more] = CONFIDENCE_PERCENT;
    let base = match agreeing {
        0 | 1 => one,
        2 => two,
        _ => more,
    };
    let less = u8::try_from(contradicting.saturating_mul(CONTRADICTION_PERCENT)).unwrap_or(u8::MAX);
    base.saturating_sub(less).max(CONFIDENCE_MIN_PERCENT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn majority(texts: &[&str]) -> Option<(Outcome, u8)> {
        let mut tally = PhraseTally::default();
        (0..).zip(texts).for_each(|(index, text)| tally.add(index, text));
        tally.majority()
    }

    #[test]
    fn confidence_follows_from_how_many_distinct_phrases_agree() {
        assert_eq!(majority(&["Sounds good"]), Some((Outcome::Success, 50)));
        assert_eq!(majority(&["Sounds good", "sounds good, sounds good"]), Some((Outcome::Success, 50)));
        assert_eq!(majority(&["Sounds good, see you then"]), Some((Outcome::Success, 65)));
        assert_eq!(majority(&["Sounds good", "Book it", "I agree", "See you then"]), Some((Outcome::Success, 80)));
        assert_eq!(majority(&["Sounds good, see you then", "Remove me"]), Some((Outcome::Success, 55)));
        assert_eq!(confidence_percent(9, 8), CONFIDENCE_MIN_PERCENT);
    }

    #[test]
    fn a_tie_or_silence_tells_nothing() {
        assert_eq!(majority(&["sounds good", "wrong number"]), None);
        assert_eq!(majority(&[]), None);
    }

    #[test]
    fn the_rest_of_an_erased_conversation_tells_nothing() {
        assert_eq!(majority(&[ERASED, "wrong number"]), None);
        assert_eq!(majority(&["wrong number", ERASED]), None);
    }

    #[test]
    fn phrases_of_machines_count_in_the_first_two_turns_only() {
        let greeting = "Please leave a message after the tone";
        assert_eq!(majority(&["", "Hello", greeting]), Some((Outcome::Voicemail, 65)));
        assert_eq!(majority(&["Hello", "Speaking", greeting]), None);
    }

    #[test]
    fn a_person_who_goes_on_speaking_is_no_machine() {
        assert_eq!(majority(&["He is not available", "I can help", "We want ten units"]), None);
        let greeting = ["Please leave a message", "After the tone", "Or leave a message with the desk"];
        assert_eq!(majority(&greeting), Some((Outcome::Voicemail, 65)));
    }

    #[test]
    fn a_greeting_that_takes_messages_is_voicemail_whatever_its_reason() {
        assert_eq!(majority(&["The customer is unavailable. Leave a message."]), Some((Outcome::Voicemail, 50)));
    }

    proptest! {
        #[test]
        fn the_order_of_turns_does_not_matter(order in Just((0..8_u32).collect::<Vec<_>>()).prop_shuffle()) {
            let said = ["", "hello", "leave a message", "sounds good", "is not available", "no, wrong number", "mailbox", "bye"];
            let tally = |order: &[u32]| {
                let mut tally = PhraseTally::default();
                order.iter().for_each(|index| tally.add(*index, said[*index as usize]));
                tally
            };
            prop_assert_eq!(tally(&order), tally(&[0, 1, 2, 3, 4, 5, 6, 7]));
        }
    }
}
