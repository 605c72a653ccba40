//! Whether a phrase counts, by the words around it in the same text.

use super::phrases::{BUT, Language, NEGATION_WORDS, negates};

/// Ends of clauses among the words of a text. [`STOP`] and [`QUESTION`] also end the sentence.
pub(super) const COMMA: &str = ",";
pub(super) const STOP: &str = ".";
pub(super) const QUESTION: &str = "?";

/// Words that make consent depend on something: before it in the same sentence, after it in the same clause or as the first
/// word of the next one. Spanish "si" is not listed: speech recognition writes "sí" the same way.
const CONDITIONS: &[&str] = &["if", "unless", "kdyby", "kdybych", "pokud", "jestli", "jestliže", "если"];

/// A text with one of these complains: what sounds like consent in it is irony or no consent.
const COMPLAINTS: &[&str] = &["spam", "scam", "scammer", "scammers", "estafa", "podvod", "спам", "мошенники"];

/// Refusals of something that the sentence names: none when it is a change ("nechci to zrušit").
const REFUSALS_OF_SOMETHING: &[&str] = &["nechci", "не надо", "не хочу", "мне не нужно", "мне это не нужно"];

/// How words for a change begin.
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

/// Refusals of calls: none when a time limits them or the caller asks for another way.
const REFUSALS_OF_CALLS: &[&str] = &["don't call", "do not call", "no me llame", "no me llamen", "nevolejte", "не звоните"];

/// Words in the same clause that limit a refusal of calls to a time.
const TIME_LIMITS: &[&str] =
    &["before", "until", "till", "after", "during", "antes", "hasta", "před", "dřív", "dříve", "до", "раньше", "после"];

/// Words in the same sentence that ask for another way than a call.
const OTHER_WAYS: &[&str] = &["text", "email", "escríbame", "napište", "pošlete", "напишите", "пришлите"];

/// Words in the same sentence that make a refusal of calls stand whatever else it says: "don't call or text me".
const NO_LIMITS: &[&str] =
    &["or", "nor", "again", "ever", "anymore", "ni", "más", "nunca", "ani", "už", "nikdy", "больше", "ни", "никогда"];

/// What announcements of the network speak of. Without it in the same sentence, a person speaks of another one:
/// "Bob is not available right now".
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
}

impl<'a> PhraseContext<'a> {
    /// The words before the phrase, the nearest first.
    fn before(&self) -> impl Iterator<Item = &'a str> {
        self.words.get(..self.start).unwrap_or_default().iter().rev().map(String::as_str)
    }

    fn after(&self) -> impl Iterator<Item = &'a str> {
        self.words.get(self.end..).unwrap_or_default().iter().map(String::as_str)
    }

    fn clause_after(&self) -> impl Iterator<Item = &'a str> {
        self.after().take_while(|word| !is_stop(word))
    }

    fn sentence_after(&self) -> impl Iterator<Item = &'a str> {
        self.after().take_while(|word| !ends_sentence(word))
    }

    /// Whether a phrase of success counts.
    pub(super) fn is_consent(&self, language: Language) -> bool {
        let is_asked = self.after().find(|word| is_stop(word)) == Some(QUESTION);
        let is_taken_back = self.sentence_after().any(|word| BUT.contains(&word));
        let is_complaint = self.words.iter().any(|word| COMPLAINTS.contains(&word.as_str()));
        !(self.is_negated(language) || self.is_conditional() || is_asked || is_taken_back || is_complaint)
    }

    /// Whether a word shortly before the phrase in the same clause negates it.
    fn is_negated(&self, language: Language) -> bool {
        let clause = self.before().take_while(|word| !is_stop(word) && !BUT.contains(word));
        clause.take(NEGATION_WORDS).any(|word| negates(language, word))
    }

    fn is_conditional(&self) -> bool {
        let mut before = self.before().take_while(|word| !ends_sentence(word));
        let next_clause = self.sentence_after().skip_while(|word| !is_stop(word)).nth(1);
        before.any(|word| CONDITIONS.contains(&word)) || self.clause_after().chain(next_clause).any(|word| CONDITIONS.contains(&word))
    }

    /// Whether a phrase of refusal counts.
    pub(super) fn is_refusal(&self) -> bool {
        if REFUSALS_OF_SOMETHING.contains(&self.phrase) {
            return !self.clause_after().any(|word| CHANGES.iter().any(|stem| word.starts_with(stem)));
        }
        !(REFUSALS_OF_CALLS.contains(&self.phrase) && self.has_limit())
    }

    /// Whether a refusal of calls is for a time only or asks for another way.
    fn has_limit(&self) -> bool {
        let is_of_time = self.clause_after().any(|word| TIME_LIMITS.contains(&word));
        let has_other_way = self.sentence_after().any(|word| OTHER_WAYS.contains(&word));
        (is_of_time || has_other_way) && !self.sentence_after().any(|word| NO_LIMITS.contains(&word))
    }

    /// Whether the sentence up to the phrase's end speaks of a number, a line or a subscriber.
    pub(super) fn is_network_announcement(&self) -> bool {
        let sentence_start = self.start - self.before().take_while(|word| !ends_sentence(word)).count();
        let sentence = format!(" {} ", self.words.get(sentence_start..self.end).unwrap_or_default().join(" "));
        NETWORK_SUBJECTS.iter().any(|subject| sentence.contains(&format!(" {subject} ")))
    }
}
