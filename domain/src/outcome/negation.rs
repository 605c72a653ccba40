//! The words with which a speaker negates a phrase, or denies having said it.

use super::phrases::Language::{self, Czech, English, Russian, Spanish};

/// How far before a phrase of consent a negation reaches, in words.
pub(super) const NEGATION_WORDS: usize = 3;

/// Words after which a speaker takes back what was said before: "He is not available, but I can help."
pub(super) const BUT: &[&str] = &["but", "pero", "ale", "но"];

/// Words that begin a subordinate clause after a comma that Czech and Russian demand: "nemyslím, že souhlasím" is one statement.
pub(super) const THAT: &[&str] = &["že", "aby", "что", "чтобы"];

/// Words that ask who said something, which is a way to deny it: "who says I'm interested?"
pub(super) const WHO: &[&str] = &["who", "quién", "quien", "kdo", "кто"];

/// Words that negate the words after them in the same clause. A Czech verb includes its negation, so that only verbs of speech and of being
/// are listed.
pub(super) fn negates(language: Language, word: &str) -> bool {
    let words: &[&str] = match language {
        English if word.ends_with("n't") => return true,
        English => &[
            "nobody", "none", "neither", "not", "never", "nothing", "without", "hardly", "cannot", "dont", "doesnt", "didnt", "cant",
            "wont", "isnt",
        ],
        Spanish => &["no", "nunca", "jamás", "tampoco", "nada", "ni", "sin", "nadie"],
        Czech => &[
            "není",
            "nebylo",
            "nebude",
            "nemáme",
            "nemůžu",
            "nemohu",
            "nemyslím",
            "neříkám",
            "neřekl",
            "neřekla",
            "neříkal",
            "neříkala",
            "netvrdím",
            "neznamená",
            "nevím",
            "nikdy",
            "ničím",
            "nikdo",
        ],
        Russian => &["не", "ни", "никогда", "никто", "нельзя"],
    };
    words.contains(&word)
}

/// Words that make consent hypothetical: "I would say I agree".
pub(super) fn makes_unreal(language: Language, word: &str) -> bool {
    let words: &[&str] = match language {
        English => &["would", "i'd"],
        Russian => &["бы"],
        Spanish | Czech => &[],
    };
    words.contains(&word)
}

/// Verbs of speech and thought between a negation and what it denies: "I never *said* I'm not interested".
pub(super) fn is_speech(language: Language, word: &str) -> bool {
    let words: &[&str] = match language {
        English => &["say", "says", "said", "saying", "tell", "told", "mean", "means", "meant", "think", "that"],
        Spanish => &["digo", "dije", "dijo", "dicho", "decir", "diciendo", "significa", "creo"],
        Czech => &["neříkám", "neřekl", "neřekla", "netvrdím", "neříkal", "neříkala", "neznamená", "nemyslím"],
        Russian => &["говорю", "говорил", "говорила", "сказал", "сказала", "думаю", "значит", "утверждаю"],
    };
    words.contains(&word)
}

/// Words that may stand between a negation and a verb of speech: "I never *really* said".
pub(super) fn is_adverb(language: Language, word: &str) -> bool {
    let words: &[&str] = match language {
        English => &["actually", "really", "even", "ever"],
        Spanish => &["he", "ha", "han", "hemos", "quiero", "estoy"],
        Czech => &["jsem", "to"],
        Russian => &["этого", "так"],
    };
    words.contains(&word)
}

/// Words that may stand between a verb of speech and what it reports: "I never said *that you have the* wrong number".
pub(super) fn is_link(language: Language, word: &str) -> bool {
    let words: &[&str] = match language {
        English => &[
            "i", "i'm", "am", "was", "we", "we're", "were", "this", "is", "it's", "you", "you've", "you're", "should", "to", "have", "got",
            "the", "a",
        ],
        Spanish => &["que", "yo", "me", "se", "ha", "es", "tenga", "tiene", "el", "un"],
        Czech => &["že", "já", "to", "je", "mi"],
        Russian => &["что", "мне", "это", "я", "мы", "вы", "вам"],
    };
    words.contains(&word)
}

/// Words that may stand between a negation and a wrong number or person: "you haven't *got the* wrong number".
pub(super) fn is_number_link(language: Language, word: &str) -> bool {
    let words: &[&str] = match language {
        English => &["have", "got", "get", "dial", "dialed", "call", "called", "reach", "reached", "the", "a", "really", "actually"],
        Spanish => &["el", "un", "se", "ha", "es"],
        Czech => &["to"],
        Russian => &[],
    };
    words.contains(&word)
}
