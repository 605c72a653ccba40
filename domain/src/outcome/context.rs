//! Decides from the words around a phrase in the same text whether the phrase is counted.

use super::{
    negation::{BUT, NEGATION_WORDS, WHO, is_adverb, is_link, is_number_link, is_speech, makes_unreal, negates},
    phrases::Language,
};

/// Ends of clauses among the words of a text. [`STOP`] and [`QUESTION`] also end the sentence.
pub(super) const COMMA: &str = ",";
pub(super) const STOP: &str = ".";
pub(super) const QUESTION: &str = "?";

/// Words that make consent conditional: before it in the same sentence, after it in the same clause, or as the first word of the next
/// clause. Spanish "si" is not listed, see [`PhraseContext::is_after_spanish_if`].
const CONDITIONS: &[&str] = &["if", "unless", "kdyby", "kdybych", "pokud", "jestli", "jestliže", "если"];

/// Words that accompany a "yes": after Spanish "si", or after the consent that it begins.
const WITH_SPANISH_YES: &[&str] =
    &["si", "sí", "claro", "señor", "señora", "señorita", "bueno", "por", "supuesto", "favor", "mucho", "muchas", "gracias"];

/// Words of complaints: apparent consent in a text with one of them is irony or no consent.
const COMPLAINTS: &[&str] = &["spam", "scam", "scammer", "scammers", "estafa", "podvod", "спам", "мошенники"];

/// Refusals of something that the sentence names. They are no refusals if the named thing is a change ("nechci to zrušit").
const REFUSALS_OF_SOMETHING: &[&str] = &["nechci", "не надо", "не хочу", "мне не нужно", "мне это не нужно"];

/// The beginnings of words for a change.
const CHANGES: &[&str] = &[
    "měn",
    "změn",
    "zruš",
    "ruš",
    "přesun",
    "přesou",
    "přelož",
    "překlád",
    "posun",
    "posou",
    "odlož",
    "odklád",
    "перен",
    "отмен",
    "менят",
    "измен",
    "помен",
    "сдвиг",
    "сдвин",
    "беспок",
    "волнов",
];

/// Refusals of calls. They are no refusals if a time limits them or the caller asks for another way.
const REFUSALS_OF_CALLS: &[&str] = &["don't call", "do not call", "no me llame", "no me llamen", "nevolejte", "не звоните"];

/// Words in the same clause that limit a refusal of calls to a time.
const TIME_LIMITS: &[&str] =
    &["before", "until", "till", "after", "during", "antes", "hasta", "před", "dřív", "dříve", "до", "раньше", "после"];

/// A word of [`TIME_LIMITS`] with the next word, which together are no limit: from then on, the person wants no call.
const NO_TIME_LIMITS: &[(&str, &str)] = &[
    ("after", "this"),
    ("after", "today"),
    ("after", "now"),
    ("after", "all"),
    ("until", "further"),
    ("hasta", "luego"),
    ("hasta", "nunca"),
    ("hasta", "siempre"),
    ("до", "свидания"),
    ("до", "свиданья"),
    ("после", "этого"),
    ("после", "сегодня"),
    ("после", "сегодняшнего"),
];

/// Words in the same sentence that ask for another way than a call, unless they are refused as well.
const OTHER_WAYS: &[&str] = &["text", "email", "escríbame", "napište", "pošlete", "напишите", "пришлите"];

/// Words that refuse another way: "no text messages", "stop sending me email".
const STOPS: &[&str] = &["no", "stop"];

/// Words that ask for another way, whatever the speaker refused earlier: "I can't talk just text me".
const ASKS: &[&str] = &["just", "please", "only", "instead"];

/// Words in the same sentence that make a refusal of calls final, whatever else the sentence contains: "don't call or text me".
const NO_LIMITS: &[&str] =
    &["or", "nor", "again", "ever", "anymore", "ni", "más", "nunca", "ani", "už", "nikdy", "больше", "ни", "никогда"];

/// Statements that the caller dialed a wrong number. They are not counted in a question or after a negation.
const WRONG_NUMBERS: &[&str] = &[
    "wrong number",
    "wrong person",
    "equivocado de número",
    "equivocó de número",
    "equivoca de número",
    "número equivocado",
    "to je omyl",
    "špatné číslo",
    "не туда попали",
    "ошиблись номером",
];

/// Requests of a greeting that a following "but" does not take back: "Please leave a message, but keep it short."
const MESSAGE_REQUESTS: &[&str] = &[
    "leave a message",
    "leave me a message",
    "leave your message",
    "record your message",
    "leave your name and number",
    "leave your name and phone number",
    "deje un mensaje",
    "deje su mensaje",
    "deja un mensaje",
    "deja tu mensaje",
    "grabe su mensaje",
    "zanechte vzkaz",
    "zanechte zprávu",
    "nechte vzkaz",
    "nechte zprávu",
    "оставьте сообщение",
    "оставьте ваше сообщение",
];

/// Words before a request for a message that make it a person's offer: "You can leave a message, but I can help, too."
const OFFERS: &[&str] = &["can", "could", "may", "might"];

/// Subjects of network announcements. Without one of them in the same sentence, a person speaks about another person: "Bob is not available
/// right now".
const NETWORK_SUBJECTS: &[&str] = &[
    "number",
    "subscriber",
    "subscriber's",
    "customer",
    "party",
    "line",
    "you are calling",
    "you're calling",
    "you have called",
    "you called",
    "you have dialed",
    "you dialed",
    "trying to reach",
    "trying to call",
    "número",
    "abonado",
    "usuario",
    "cliente",
    "teléfono",
    "línea",
    "účastník",
    "stanice",
    "číslo",
    "linka",
    "абонент",
    "абонента",
    "номер",
    "линия",
];

/// Words before and after a phrase that are checked: spoken sentences are not longer. Without this limit, each phrase of a long text would
/// cost time in proportion to the length of the text.
const CONTEXT_WORDS_MAX: usize = 60;

/// Whether a text complains: see [`COMPLAINTS`].
pub(super) fn is_complaint(words: &[String]) -> bool {
    words.iter().any(|word| COMPLAINTS.contains(&word.as_str()))
}

pub(super) fn is_stop(word: &str) -> bool {
    word == COMMA || ends_sentence(word)
}

fn ends_sentence(word: &str) -> bool {
    word == STOP || word == QUESTION
}

/// A phrase in a text and the words before and after it.
pub(super) struct PhraseContext<'a> {
    pub words: &'a [String],
    pub phrase: &'a str,
    /// The index of the phrase's first word.
    pub start: usize,
    /// The index after the phrase's last word.
    pub end: usize,
    /// Whether the whole text is a complaint.
    pub is_complaint: bool,
}

impl<'a> PhraseContext<'a> {
    /// The words before the phrase, the nearest first.
    fn before(&self) -> impl Iterator<Item = &'a str> {
        self.words.get(..self.start).unwrap_or_default().iter().rev().take(CONTEXT_WORDS_MAX).map(String::as_str)
    }

    fn after(&self) -> impl Iterator<Item = &'a str> {
        self.words.get(self.end..).unwrap_or_default().iter().take(CONTEXT_WORDS_MAX).map(String::as_str)
    }

    fn clause_after(&self) -> impl Iterator<Item = &'a str> {
        self.after().take_while(|word| !is_stop(word))
    }

    fn sentence_after(&self) -> impl Iterator<Item = &'a str> {
        self.after().take_while(|word| !ends_sentence(word))
    }

    /// The words before the phrase in its clause, the nearest first.
    fn clause_before(&self) -> impl Iterator<Item = &'a str> {
        self.before().take_while(|word| !is_stop(word) && !BUT.contains(word))
    }

    /// Whether the phrase's clause is a question.
    fn is_asked(&self) -> bool {
        self.after().find(|word| is_stop(word)) == Some(QUESTION)
    }

    /// Whether a phrase of success is counted.
    pub(super) fn is_consent(&self, language: Language) -> bool {
        let is_taken_back = self.sentence_after().any(|word| BUT.contains(&word));
        !(self.is_negated(language) || self.is_conditional(language) || self.is_asked() || is_taken_back || self.is_complaint)
    }

    /// Whether a word shortly before the phrase in the same clause negates it or makes it hypothetical.
    fn is_negated(&self, language: Language) -> bool {
        let negates = |word: &str| negates(language, word) || makes_unreal(language, word) || WHO.contains(&word);
        self.clause_before().take(NEGATION_WORDS).any(negates)
    }

    fn is_conditional(&self, language: Language) -> bool {
        let mut before = self.before().take_while(|word| !ends_sentence(word));
        let next_clause = self.sentence_after().skip_while(|word| !is_stop(word)).nth(1);
        before.any(|word| CONDITIONS.contains(&word))
            || self.clause_after().chain(next_clause).any(|word| CONDITIONS.contains(&word))
            || (language == Language::Spanish && self.is_after_spanish_if())
    }

    /// Whether a "si" before the phrase in the same sentence means "if". Speech recognition writes "sí" (yes) the same way: before a comma
    /// or a word of [`WITH_SPANISH_YES`], or directly before a phrase that ends its sentence, it means "yes".
    fn is_after_spanish_if(&self) -> bool {
        let is_last = self.sentence_after().all(|word| is_stop(word) || WITH_SPANISH_YES.contains(&word));
        let mut next = None;
        for word in self.before().take_while(|word| !ends_sentence(word)) {
            let is_yes = next.map_or(is_last, |next| is_stop(next) || WITH_SPANISH_YES.contains(&next));
            if word == "si" && !is_yes {
                return true;
            }
            next = Some(word);
        }
        false
    }

    /// Whether a phrase of refusal is counted.
    pub(super) fn is_refusal(&self, language: Language) -> bool {
        if self.is_denied(language) || (WRONG_NUMBERS.contains(&self.phrase) && self.is_right_number(language)) {
            return false;
        }
        if REFUSALS_OF_SOMETHING.contains(&self.phrase) {
            return !self.clause_after().any(|word| CHANGES.iter().any(|stem| word.starts_with(stem)));
        }
        !(REFUSALS_OF_CALLS.contains(&self.phrase) && self.has_limit(language))
    }

    /// Whether the speaker denies having said the phrase: "I never said I'm not interested". A negation without a verb of speech
    /// denies nothing ("I can't talk stop calling"), and neither does a question ("Didn't I say stop calling?").
    fn is_denied(&self, language: Language) -> bool {
        let denies = |word: &str| WHO.contains(&word) || (negates(language, word) && !self.is_asked());
        let mut words = self.clause_before().skip_while(|word| is_link(language, word)).peekable();
        let Some(verb) = words.next_if(|word| is_speech(language, word)) else { return false };
        let mut words = words.skip_while(|word| is_speech(language, word) || is_adverb(language, word));
        denies(verb) || words.next().is_some_and(denies)
    }

    /// Whether the clause asks if the number is wrong, or states that it is not: "you don't have the wrong number".
    fn is_right_number(&self, language: Language) -> bool {
        let mut words = self.clause_before().skip_while(|word| is_number_link(language, word));
        self.is_asked() || words.next().is_some_and(|word| negates(language, word))
    }

    /// Whether a refusal of calls is limited to a time or asks for another way.
    fn has_limit(&self, language: Language) -> bool {
        let sentence: Vec<_> = self.sentence_after().collect();
        let clause = sentence.split(|word| is_stop(word)).next().unwrap_or_default();
        let is_of_time = clause.iter().enumerate().any(|(at, word)| {
            let next = clause.get(at + 1).copied().unwrap_or_default();
            TIME_LIMITS.contains(word) && !NO_TIME_LIMITS.contains(&(*word, next))
        });
        let is_refused = |before: &[&str]| {
            let mut clause = before.iter().rev().take_while(|word| !is_stop(word) && !BUT.contains(word) && !ASKS.contains(word));
            clause.any(|word| negates(language, word) || STOPS.contains(word))
        };
        let mut ways = sentence.iter().enumerate().filter(|(_, word)| OTHER_WAYS.contains(word));
        let has_other_way = ways.any(|(at, _)| !is_refused(sentence.get(..at).unwrap_or_default()));
        (is_of_time || has_other_way) && !sentence.iter().any(|word| NO_LIMITS.contains(word))
    }

    /// Whether the phrase asks to leave a message, as machines do.
    pub(super) fn asks_for_message(&self) -> bool {
        MESSAGE_REQUESTS.contains(&self.phrase) && !self.before().next().is_some_and(|word| OFFERS.contains(&word))
    }

    /// Whether the sentence mentions a number, a line or a subscriber before the phrase's end.
    pub(super) fn is_network_announcement(&self) -> bool {
        let sentence_start = self.start - self.before().take_while(|word| !ends_sentence(word)).count();
        let sentence = format!(" {} ", self.words.get(sentence_start..self.end).unwrap_or_default().join(" "));
        NETWORK_SUBJECTS.iter().any(|subject| sentence.contains(&format!(" {subject} ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::phrases::KEYWORDS;

    #[test]
    fn phrases_with_rules_of_their_own_are_in_the_tables() {
        let known: Vec<_> = KEYWORDS.iter().flat_map(|(_, _, phrases)| *phrases).collect();
        for phrase in [REFUSALS_OF_SOMETHING, REFUSALS_OF_CALLS, WRONG_NUMBERS, MESSAGE_REQUESTS].concat() {
            assert!(known.contains(&&phrase), "{phrase}");
        }
    }
}
