//! Finds the phrases of the tables in one text of the caller, without those that are negated or taken back.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use super::{
    Outcome,
    context::{COMMA, PhraseContext, QUESTION, STOP, is_complaint, is_stop},
    negation::{BUT, THAT},
    neutral::NEUTRAL,
    phrases::{KEYWORDS, Language},
};

/// Occurrences of one phrase in a text that are checked: a speaker repeats an answer less often in one turn. Without this limit, a long
/// text would cost a check of the surrounding words for each of thousands of phrases.
const OCCURRENCES_MAX: usize = 10;

/// Characters of one text in which phrases are searched: some ten minutes of speech without a pause.
const SEARCHED_MAX_CHARS: usize = 10_000;

/// A phrase of the tables and the outcome that it indicates.
pub(super) type PhraseMatch = (Outcome, &'static str);

/// The phrases that are counted in a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TextMatches {
    /// Whether the text has any word.
    pub has_words: bool,
    /// Consent and refusal.
    pub answers: BTreeSet<PhraseMatch>,
    /// Phrases of machines: voicemail, no answer, busy.
    pub machine: BTreeSet<PhraseMatch>,
}

/// Whether machines, not persons, say phrases of this outcome.
const fn is_machine(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Voicemail | Outcome::NoAnswer | Outcome::Busy)
}

struct Phrase {
    words: Vec<&'static str>,
    text: &'static str,
    /// `None` for a phrase that indicates no outcome.
    tells: Option<(Outcome, Language)>,
}

/// All phrases by their first word, those with more words first.
static BY_FIRST_WORD: LazyLock<HashMap<&'static str, Vec<Phrase>>> = LazyLock::new(|| {
    let told = KEYWORDS.iter().flat_map(|(outcome, language, texts)| texts.iter().map(|text| (*text, Some((*outcome, *language)))));
    let mut all: HashMap<&str, Vec<Phrase>> = HashMap::new();
    for (text, tells) in told.chain(NEUTRAL.iter().map(|text| (*text, None))) {
        let words: Vec<_> = text.split(' ').collect();
        if let Some(first) = words.first() {
            all.entry(first).or_default().push(Phrase { words, text, tells });
        }
    }
    all.values_mut().for_each(|phrases| phrases.sort_by_key(|phrase| std::cmp::Reverse(phrase.words.len())));
    all
});

/// Finds the phrases that are counted in a text.
pub(super) fn match_phrases(text: &str) -> TextMatches {
    let searched = text.char_indices().nth(SEARCHED_MAX_CHARS).map_or(text, |(end, _)| &text[..end]);
    let mut words = split_words(searched);
    words.push(STOP.to_owned());
    let last_but = words.iter().rposition(|word| BUT.contains(&word.as_str()));
    let mut matches = TextMatches { has_words: words.iter().any(|word| !is_stop(word)), ..TextMatches::default() };
    let is_complaint = is_complaint(&words);
    let mut looked_at: HashMap<&str, usize> = HashMap::new();
    let mut at = 0;
    while at < words.len() {
        let Some(phrase) = phrase_at(&words, at) else {
            at += 1;
            continue;
        };
        let (begin, end) = (at, at + phrase.words.len());
        at = end;
        let times = looked_at.entry(phrase.text).or_default();
        *times += 1;
        if *times > OCCURRENCES_MAX {
            continue;
        }
        // Some phrases end with a stop; that stop is the end of their clause.
        let last_word = end - usize::from(phrase.words.last().is_some_and(|word| is_stop(word)));
        let context = PhraseContext { words: &words, phrase: phrase.text, start: begin, end: last_word, is_complaint };
        if let Some((outcome, language)) = phrase.tells {
            let counts = match outcome {
                Outcome::Success => context.is_consent(language),
                Outcome::Fail => context.is_refusal(language),
                Outcome::Voicemail => true,
                Outcome::NoAnswer | Outcome::Busy => context.is_network_announcement(),
            };
            let is_taken_back = is_machine(outcome) && last_but.is_some_and(|but| begin < but) && !context.asks_for_message();
            if counts && !is_taken_back {
                let phrases = if is_machine(outcome) { &mut matches.machine } else { &mut matches.answers };
                phrases.insert((outcome, phrase.text));
            }
        }
    }
    matches
}

fn phrase_at(words: &[String], at: usize) -> Option<&'static Phrase> {
    let rest = words.get(at..)?;
    let phrases = BY_FIRST_WORD.get(rest.first()?.as_str())?;
    phrases.iter().find(|phrase| rest.len() >= phrase.words.len() && rest.iter().zip(&phrase.words).all(|(word, of)| word == of))
}

/// The words in lower case, with [`COMMA`], [`STOP`] or [`QUESTION`] where a clause ends.
fn split_words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase().replace('’', "'");
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    // A blank at the end closes the last word.
    for c in lower.chars().chain([' ']) {
        if c.is_alphanumeric() || c == '\'' {
            word.push(c);
            continue;
        }
        let whole = std::mem::take(&mut word);
        let whole = whole.trim_matches('\'');
        if !whole.is_empty() {
            if THAT.contains(&whole) && words.last().is_some_and(|last| last == COMMA) {
                words.pop();
            }
            words.push(whole.to_owned());
        }
        match c {
            ',' => words.push(COMMA.to_owned()),
            '?' => words.push(QUESTION.to_owned()),
            '.' | '!' | ';' | ':' | '…' | '¿' | '¡' | '—' | '–' | '\n' => words.push(STOP.to_owned()),
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(text: &str) -> Vec<&'static str> {
        match_phrases(text).answers.into_iter().map(|(_, phrase)| phrase).collect()
    }

    #[test]
    fn parts_of_words_do_not_match() {
        assert_eq!(match_phrases("the mailboxes are full").machine, BTreeSet::new());
    }

    #[test]
    fn a_longer_phrase_hides_the_ones_inside_it() {
        assert_eq!(answers("No me interesa"), ["no me interesa"]);
        assert_eq!(answers("I agree with nothing"), ["i agree with nothing"]);
        assert_eq!(match_phrases("Should I leave a message?").machine, BTreeSet::new());
    }

    #[test]
    fn a_negation_reaches_to_the_end_of_its_clause() {
        assert_eq!(answers("I never said I agree"), Vec::<&str>::new());
        assert_eq!(answers("Not today. Sounds good"), ["sounds good"]);
        assert_eq!(answers("No, me interesa"), ["me interesa"]);
        assert_eq!(answers("Nemyslím, že souhlasím"), Vec::<&str>::new());
        assert_eq!(answers("Не думаю, что мне интересно"), Vec::<&str>::new());
        assert_eq!(answers("I did not expect it but sounds good"), ["sounds good"]);
    }

    #[test]
    fn consent_with_a_condition_or_in_a_question_does_not_count() {
        assert_eq!(answers("If it is cheaper, I agree"), Vec::<&str>::new());
        assert_eq!(answers("Souhlasím, pokud to bude levnější"), Vec::<&str>::new());
        assert_eq!(answers("You think I'm interested?"), Vec::<&str>::new());
        assert_eq!(answers("Sounds good, let me know if it moves"), ["sounds good"]);
        assert_eq!(answers("Sounds good, what time?"), ["sounds good"]);
    }

    #[test]
    fn announcements_speak_of_a_number_or_a_line() {
        assert_eq!(match_phrases("The number is not mine. Bob is not available").machine, BTreeSet::new());
        assert_eq!(match_phrases("The number you dialed is not available").machine.len(), 1);
    }

    #[test]
    fn what_is_taken_back_does_not_count() {
        assert_eq!(match_phrases("He is not available, but I can help").machine, BTreeSet::new());
        assert_eq!(match_phrases("I am out, but leave a message").machine, BTreeSet::from([(Outcome::Voicemail, "leave a message")]));
    }

    #[test]
    fn of_a_phrase_the_first_occurrences_are_looked_at() {
        let denied = "I never said I agree. ";
        assert_eq!(answers(&format!("{}I agree", denied.repeat(OCCURRENCES_MAX - 1))), ["i agree"]);
        assert_eq!(answers(&format!("{}I agree", denied.repeat(OCCURRENCES_MAX))), Vec::<&str>::new());
    }

    #[test]
    fn the_beginning_of_a_long_text_is_searched() {
        let silence = |chars: usize| "¿".repeat(chars);
        assert_eq!(answers(&format!("{}I agree", silence(SEARCHED_MAX_CHARS - 7))), ["i agree"]);
        assert_eq!(answers(&format!("{}I agree", silence(SEARCHED_MAX_CHARS))), Vec::<&str>::new());
    }

    #[test]
    fn the_words_near_a_phrase_are_looked_at() {
        let words = |count: usize| "word ".repeat(count);
        assert_eq!(answers(&format!("if {}I agree", words(59))), Vec::<&str>::new());
        assert_eq!(answers(&format!("if {}I agree", words(60))), ["i agree"]);
    }

    #[test]
    fn punctuation_is_no_word() {
        assert!(!match_phrases(" ... '' ?!").has_words);
        assert!(match_phrases("ok").has_words);
    }

    #[test]
    fn the_tables_are_in_the_form_in_which_texts_are_compared() {
        for text in KEYWORDS.iter().flat_map(|(_, _, texts)| *texts).chain(NEUTRAL) {
            assert_eq!(split_words(text).join(" "), **text);
        }
    }
}
