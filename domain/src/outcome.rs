//! How a call or a task ended, and how that is told from a final state or from what was said.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display, strum::EnumString, strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    Success,
    Fail,
    Voicemail,
    NoAnswer,
    Busy,
}

/// Whether the person was spoken to, so that they are not called again. A call that the platform itself cut off reached nobody.
pub fn was_reached(outcome: Outcome, hangup_by: Option<&str>) -> bool {
    matches!(outcome, Outcome::Success | Outcome::Fail) && hangup_by != Some("system")
}

/// How many of something there are with each outcome, in the order of the enum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts(pub [i64; 5]);

impl OutcomeCounts {
    /// Adds `n` to the count of the outcome of that name; another name counts nowhere.
    pub fn add(&mut self, name: Option<&str>, n: i64) {
        let outcome = name.and_then(|name| name.parse::<Outcome>().ok());
        if let Some(count) = outcome.and_then(|outcome| self.0.get_mut(outcome as usize)) {
            *count += n;
        }
    }
}

/// What an outcome was told from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OutcomeMethod {
    /// The caller of the API said so.
    Explicit,
    /// The final state's name is in [`FINAL_STATES`].
    State,
    /// Words of the transcript are in [`KEYWORDS`].
    Keywords,
    /// Nothing told.
    None,
}

/// An outcome with how sure it is, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classification {
    pub outcome: Option<Outcome>,
    pub confidence_percent: u8,
    pub method: OutcomeMethod,
}

/// Confidence of an outcome told from a final state, in percent.
const STATE_CONFIDENCE_PERCENT: u8 = 90;
/// Confidence bounds of an outcome told from keywords: from a bare majority to every keyword found agreeing.
const KEYWORDS_CONFIDENCE_PERCENT: (u32, u32) = (40, 80);

/// Names of final states, compared in lower case with blanks and hyphens as `_`.
pub const FINAL_STATES: &[(Outcome, &[&str])] = &[
    (
        Outcome::Success,
        &[
            "success",
            "successful",
            "succeeded",
            "completed",
            "complete",
            "done",
            "booked",
            "appointment_booked",
            "confirmed",
            "accepted",
            "agreed",
            "converted",
            "sold",
            "paid",
            "qualified",
            "transferred",
        ],
    ),
    (
        Outcome::Fail,
        &[
            "fail",
            "failed",
            "failure",
            "refused",
            "rejected",
            "declined",
            "not_interested",
            "do_not_call",
            "wrong_number",
            "hangup",
            "hung_up",
            "error",
            "cancelled",
            "canceled",
        ],
    ),
    (Outcome::Voicemail, &["voicemail", "voicemail_left", "voicemail_reached", "left_voicemail", "answering_machine", "machine"]),
    (Outcome::NoAnswer, &["no_answer", "unanswered", "not_answered", "ring_timeout", "timeout", "unreachable"]),
    (Outcome::Busy, &["busy", "line_busy", "user_busy"]),
];

/// Phrases of transcripts in English, Spanish, Czech and Russian, in lower case; whole words are compared.
pub const KEYWORDS: &[(Outcome, &[&str])] = &[
    (
        Outcome::Success,
        &[
            // English
            "sounds good",
            "sign me up",
            "book it",
            "i agree",
            "i'm interested",
            "that works for me",
            "see you then",
            "appointment is confirmed",
            "you are booked",
            // Spanish
            "de acuerdo",
            "me interesa",
            "perfecto",
            "confirmado",
            "nos vemos",
            "queda reservado",
            // Czech
            "souhlasím",
            "domluveno",
            "mám zájem",
            "to mi vyhovuje",
            "potvrzuji",
            "máte rezervaci",
            // Russian
            "согласен",
            "согласна",
            "договорились",
            "мне интересно",
            "подтверждаю",
            "вы записаны",
            "запишите меня",
        ],
    ),
    (
        Outcome::Fail,
        &[
            "not interested",
            "stop calling",
            "do not call",
            "don't call",
            "wrong number",
            "remove me",
            "no me interesa",
            "no me llame",
            "no llame más",
            "número equivocado",
            "nemám zájem",
            "nevolejte",
            "špatné číslo",
            "nechci",
            "не интересно",
            "не интересует",
            "не звоните",
            "ошиблись номером",
            "не надо",
            "не хочу",
        ],
    ),
    (
        Outcome::Voicemail,
        &[
            "leave a message",
            "leave your message",
            "after the tone",
            "after the beep",
            "voicemail",
            "voice mail",
            "mailbox",
            "deje un mensaje",
            "deje su mensaje",
            "después de la señal",
            "después del tono",
            "buzón de voz",
            "zanechte vzkaz",
            "zanechte zprávu",
            "po zaznění tónu",
            "hlasová schránka",
            "оставьте сообщение",
            "после сигнала",
            "голосовая почта",
            "автоответчик",
        ],
    ),
    (
        Outcome::NoAnswer,
        &[
            "is not available",
            "cannot be reached",
            "is unavailable",
            "no answer",
            "no está disponible",
            "no contesta",
            "není dostupný",
            "volaný účastník",
            "nezvedá",
            "абонент недоступен",
            "не отвечает",
            "вне зоны",
        ],
    ),
    (
        Outcome::Busy,
        &[
            "line is busy",
            "number is busy",
            "está ocupado",
            "línea ocupada",
            "linka je obsazena",
            "obsazeno",
            "линия занята",
            "номер занят",
        ],
    ),
];

/// The outcome a final state's name means; `None` for names of the customer's own.
pub fn from_final_state(state: &str) -> Option<Outcome> {
    let name = state.trim().to_lowercase().replace([' ', '-'], "_");
    FINAL_STATES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(outcome, _)| *outcome)
}

/// The phrases, padded, each with the index of its outcome; longer ones first, so that "no me interesa" hides "me interesa".
static LONGEST_FIRST: LazyLock<Vec<(String, usize)>> = LazyLock::new(|| {
    let all = KEYWORDS.iter().enumerate().flat_map(|(i, (_, phrases))| phrases.iter().map(move |phrase| (padded_words(phrase), i)));
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(phrase, _)| std::cmp::Reverse(phrase.len()));
    all
});

/// How often phrases of each outcome were said; turns may be added in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeywordTally([u32; KEYWORDS.len()]);

impl KeywordTally {
    pub fn add(&mut self, text: &str) {
        let mut words = padded_words(text);
        for (phrase, outcome) in LONGEST_FIRST.iter() {
            if words.contains(phrase) {
                words = words.replace(phrase, " | ");
                if let Some(count) = self.0.get_mut(*outcome) {
                    *count = count.saturating_add(1);
                }
            }
        }
    }

    /// The outcome with most phrases; a tie tells nothing.
    fn majority(&self) -> Option<(Outcome, u8)> {
        let total: u32 = self.0.iter().sum();
        let best = *self.0.iter().max().filter(|n| **n > 0)?;
        let mut leaders = self.0.iter().zip(KEYWORDS).filter(|(n, _)| **n == best);
        let (_, (outcome, _)) = leaders.next()?;
        if leaders.next().is_some() {
            return None;
        }
        let (low, high) = KEYWORDS_CONFIDENCE_PERCENT;
        Some((*outcome, u8::try_from(low + (high - low) * best / total).unwrap_or_default()))
    }
}

/// Lower-case words between single blanks, with one before and one after, so that `contains` compares whole words.
fn padded_words(text: &str) -> String {
    let lower = text.to_lowercase().replace('’', "'");
    let words = lower.split(|c: char| !(c.is_alphanumeric() || c == '\'')).filter(|w| !w.is_empty());
    words.fold(String::from(" "), |all, word| all + word + " ")
}

/// Explicit stands; else the final state tells, else the words that were said.
pub fn classify(explicit: Option<Outcome>, final_state: Option<&str>, said: &KeywordTally) -> Classification {
    if let Some(outcome) = explicit {
        return Classification { outcome: Some(outcome), confidence_percent: 100, method: OutcomeMethod::Explicit };
    }
    if let Some(outcome) = final_state.and_then(from_final_state) {
        return Classification { outcome: Some(outcome), confidence_percent: STATE_CONFIDENCE_PERCENT, method: OutcomeMethod::State };
    }
    match said.majority() {
        Some((outcome, confidence_percent)) => {
            Classification { outcome: Some(outcome), confidence_percent, method: OutcomeMethod::Keywords }
        }
        None => Classification { outcome: None, confidence_percent: 0, method: OutcomeMethod::None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(texts: &[&str]) -> Classification {
        let mut tally = KeywordTally::default();
        texts.iter().for_each(|text| tally.add(text));
        classify(None, Some("a state of our own"), &tally)
    }

    #[test]
    fn an_explicit_outcome_stands_over_all_else() {
        let c = classify(Some(Outcome::Busy), Some("booked"), &KeywordTally::default());
        assert_eq!((c.outcome, c.confidence_percent, c.method), (Some(Outcome::Busy), 100, OutcomeMethod::Explicit));
    }

    #[test]
    fn final_states_are_compared_without_regard_to_case_and_hyphens() {
        assert_eq!(from_final_state("Voicemail-Left"), Some(Outcome::Voicemail));
        assert_eq!(from_final_state("appointment booked"), Some(Outcome::Success));
        assert_eq!(from_final_state("greeting"), None);
    }

    #[test]
    fn words_tell_in_four_languages() {
        let cases = [
            ("Please leave a message after the tone.", Outcome::Voicemail),
            ("Sounds good, see you then!", Outcome::Success),
            ("No me interesa, gracias", Outcome::Fail),
            ("Nemám zájem, nevolejte.", Outcome::Fail),
            ("Да, договорились", Outcome::Success),
            ("Volaný účastník není dostupný", Outcome::NoAnswer),
        ];
        for (text, outcome) in cases {
            let c = said(&[text]);
            assert_eq!((c.outcome, c.method), (Some(outcome), OutcomeMethod::Keywords), "{text}");
        }
    }

    /// "No, thank you" answers "anything else?" at the end of calls that went well.
    #[test]
    fn politeness_is_no_refusal() {
        assert_eq!(said(&["is there anything else i can help you with", "no thank you"]).outcome, None);
    }

    #[test]
    fn parts_of_words_do_not_tell() {
        assert_eq!(said(&["the mailboxes are full"]).outcome, None);
    }

    #[test]
    fn a_tie_or_silence_tells_nothing() {
        assert_eq!(said(&["sounds good", "wrong number"]).method, OutcomeMethod::None);
        assert_eq!(said(&[]), Classification { outcome: None, confidence_percent: 0, method: OutcomeMethod::None });
    }
}
