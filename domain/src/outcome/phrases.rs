//! The phrases an outcome is told from, in English, Spanish, Czech and Russian: in lower case, whole words are compared.
//!
//! A longer phrase hides the shorter ones inside it: "no me interesa" hides "me interesa".

use super::Outcome;

/// The languages with phrases. What negates depends on the language: "no" does in Spanish, in English it is an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Spanish,
    Czech,
    Russian,
}

use Language::{Czech, English, Russian, Spanish};

/// What the caller says and the outcome it tells.
pub(super) const KEYWORDS: &[(Outcome, Language, &[&str])] = &[
    (
        Outcome::Success,
        English,
        &[
            "sounds good",
            "sign me up",
            "book it",
            "i agree",
            "i'm interested",
            "i am interested",
            "that works for me",
            "see you then",
            "appointment is confirmed",
            "you are booked",
        ],
    ),
    (Outcome::Success, Spanish, &["de acuerdo", "me interesa", "perfecto", "confirmado", "nos vemos", "queda reservado"]),
    (
        Outcome::Success,
        Czech,
        &["souhlasím", "domluveno", "mám zájem", "mám o to zájem", "to mi vyhovuje", "vyhovuje mi to", "potvrzuji", "máte rezervaci"],
    ),
    (Outcome::Success, Russian, &["согласен", "согласна", "договорились", "мне интересно", "подтверждаю", "вы записаны", "запишите меня"]),
    (
        Outcome::Fail,
        English,
        &[
            "not interested",
            "no longer interested",
            "stop calling",
            "do not call",
            "don't call",
            "wrong number",
            "remove me",
            "take me off your list",
            "take me off the list",
            "i disagree",
            "don't agree",
            "do not agree",
            "i agree with nothing",
            "i agree to nothing",
            "doesn't work for me",
            "does not work for me",
        ],
    ),
    (
        Outcome::Fail,
        Spanish,
        &[
            "no me interesa",
            "no estoy interesado",
            "no estoy interesada",
            "no me llame",
            "no me llamen",
            "no llame más",
            "número equivocado",
            "no estoy de acuerdo",
            "no estamos de acuerdo",
            "de acuerdo con nada",
            "de acuerdo en nada",
        ],
    ),
    (
        Outcome::Fail,
        Czech,
        &[
            "nemám zájem",
            "nemáme zájem",
            "nemám o to zájem",
            "nevolejte",
            "špatné číslo",
            "nechci",
            "nesouhlasím",
            "to mi nevyhovuje",
            "nevyhovuje mi to",
        ],
    ),
    (
        Outcome::Fail,
        Russian,
        &[
            "не интересно",
            "неинтересно",
            "не интересует",
            "не звоните",
            "ошиблись номером",
            "не надо",
            "не хочу",
            "не согласен",
            "не согласна",
            "согласен ни с чем",
            "согласна ни с чем",
        ],
    ),
    (
        Outcome::Voicemail,
        English,
        &[
            "leave a message",
            "leave me a message",
            "leave your message",
            "record your message",
            "can't come to the phone",
            "after the tone",
            "at the tone",
            "after the beep",
            "voicemail",
            "voice mail",
            "mailbox",
        ],
    ),
    (
        Outcome::Voicemail,
        Spanish,
        &[
            "deje un mensaje",
            "deje su mensaje",
            "grabe su mensaje",
            "después de la señal",
            "después del tono",
            "al oír la señal",
            "buzón de voz",
            "contestador automático",
        ],
    ),
    (
        Outcome::Voicemail,
        Czech,
        &[
            "zanechte vzkaz",
            "zanechte zprávu",
            "nechte vzkaz",
            "nechte zprávu",
            "po zaznění tónu",
            "po zaznění signálu",
            "hlasová schránka",
            "hlasové schránky",
            "záznamník",
        ],
    ),
    (
        Outcome::Voicemail,
        Russian,
        &["оставьте сообщение", "оставьте ваше сообщение", "после сигнала", "после звукового сигнала", "голосовая почта", "автоответчик"],
    ),
    (
        Outcome::NoAnswer,
        English,
        &["is not available", "cannot be reached", "is unavailable", "no answer", "is switched off", "is turned off"],
    ),
    (Outcome::NoAnswer, Spanish, &["no está disponible", "no contesta", "fuera de cobertura", "se encuentra apagado"]),
    (Outcome::NoAnswer, Czech, &["není dostupný", "volaný účastník", "nezvedá", "dočasně nedostupný"]),
    (
        Outcome::NoAnswer,
        Russian,
        &[
            "абонент недоступен",
            "абонент временно недоступен",
            "аппарат абонента выключен",
            "телефон абонента выключен",
            "не отвечает",
            "вне зоны",
        ],
    ),
    (Outcome::Busy, English, &["line is busy", "number is busy", "subscriber is busy"]),
    (Outcome::Busy, Spanish, &["está ocupado", "línea ocupada", "línea está ocupada"]),
    (Outcome::Busy, Czech, &["linka je obsazena", "obsazeno"]),
    (Outcome::Busy, Russian, &["линия занята", "номер занят", "абонент занят"]),
];

/// Phrases that contain one of the [`KEYWORDS`] and tell nothing.
pub(super) const NEUTRAL: &[&str] = &[
    // A person offers or asks, which no machine does.
    "can i leave a message",
    "could i leave a message",
    "may i leave a message",
    "should i leave a message",
    "do i leave a message",
    "want to leave a message",
    "like to leave a message",
    "puedo dejar un mensaje",
    // A refusal or a machine that is denied.
    "not the wrong number",
    "isn't the wrong number",
    "not a wrong number",
    "don't remove me",
    "do not remove me",
    "not a voicemail",
    "not voicemail",
    "isn't voicemail",
    "isn't a voicemail",
    "don't leave a message",
    "do not leave a message",
    "no deje un mensaje",
    "žádný záznamník",
    "не автоответчик",
    // Consent that is asked about or depends on something.
    "if i agree",
    "before i agree",
    "should i agree",
    "do i agree",
];

/// Words that negate consent, as far as [`NEGATION_WORDS`] words before it in the same clause. Czech verbs carry theirs, so that
/// only phrases around the verb are listed.
pub(super) fn negates(language: Language, word: &str) -> bool {
    match language {
        English => {
            word.ends_with("n't")
                || ["not", "never", "nothing", "without", "hardly", "cannot", "dont", "doesnt", "didnt", "cant", "wont", "isnt"]
                    .contains(&word)
        }
        Spanish => ["no", "nunca", "jamás", "tampoco", "nada", "ni", "sin"].contains(&word),
        Czech => {
            ["není", "nebylo", "nebude", "nemáme", "nemůžu", "nemohu", "nemyslím", "neříkám", "nevím", "nikdy", "ničím"].contains(&word)
        }
        Russian => ["не", "ни", "никогда", "нельзя"].contains(&word),
    }
}

/// How far before a phrase of consent a negation reaches, in words.
pub(super) const NEGATION_WORDS: usize = 3;

/// Words after which a speaker takes back what was said before: "He is not available, but I can help."
pub(super) const BUT: &[&str] = &["but", "pero", "ale", "но"];

/// Words that begin a subordinate clause after a comma that Czech and Russian demand: "nemyslím, že souhlasím" is one statement.
pub(super) const THAT: &[&str] = &["že", "что", "чтобы"];
