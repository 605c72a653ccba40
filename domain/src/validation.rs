//! The problems of an input, field by field.

use std::fmt;

use chrono::{DateTime, Datelike as _, Utc};
use serde::Serialize;
use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

use crate::{Coded, Reason};

/// Times from callers must be between these years: from the first, before the second.
const YEARS: (i32, i32) = (1970, 2200);
const SLUG_MAX: usize = 80;

/// One problem: its place (`config.flow.states[1].name`, or no particular place) and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub path: String,
    pub reason: Reason,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { self.reason.fmt(f) } else { write!(f, "{}: {}", self.path, self.reason) }
    }
}

/// What can be wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum FieldFault {
    #[error("is required")]
    Required,
    #[error("must not be null")]
    Null,
    #[error("must not be empty")]
    Empty,
    #[error("must have at most {max} characters")]
    TooLong { max: usize },
    #[error("must not contain a NUL character")]
    NulCharacter,
    #[error("must not contain invisible characters or marks of the direction of writing")]
    InvisibleCharacters,
    #[error("must be a slug: lower-case letters, digits and single hyphens, at most {max} characters")]
    NotASlug { max: usize },
    #[error("must lie between the years {from} and {before}")]
    YearOutOfRange { from: i32, before: i32 },
    #[error("must be from {min} to {max}")]
    OutOfRange { min: String, max: String },
    #[error("must not be negative")]
    Negative,
    #[error("must be at least {min}")]
    TooSmall { min: u64 },
    #[error("must be below {limit}")]
    TooLarge { limit: i64 },
    #[error("must have no prime factor above 7, like 1, 60, 1000 or 1000000")]
    LargePrimeFactor,
    #[error("must have at least {min} {}", entries(*min))]
    TooFewEntries { min: usize },
    #[error("must have at most {max} {}", entries(*max))]
    TooManyEntries { max: usize },
    #[error("must be after {field}")]
    NotAfter { field: String },
    #[error("must not be in the past")]
    InPast,
    #[error("must not be before {field}")]
    IsBefore { field: String },
    #[error("{field} must be given too")]
    NeedsField { field: String },
    #[error("give either {field} or {other}")]
    EitherOr { field: String, other: String },
    #[error("is there twice")]
    Repeated,
    #[error("must be one of {}", allowed.join(", "))]
    NotOneOf { allowed: Vec<String> },
    #[error("there is no such {what}")]
    Unknown { what: String },
    #[error("must be an ISO 3166 country, e.g. US")]
    NotACountry,
    #[error("must be an IANA time zone, e.g. Europe/Prague")]
    NotATimeZone,
    #[error("must be a time of day, HH:MM")]
    NotATimeOfDay,
    #[error("must be an e-mail address, without letters that look like others")]
    NotAnAddress,
    #[error("is one of the most common passwords; choose a longer one, such as four random words")]
    CommonPassword,
    #[error("must not be the e-mail address")]
    PasswordIsAddress,
    #[error("an extension cannot be kept: send the number without it")]
    ExtensionNotKept,
    #[error("the task belongs to another campaign")]
    TaskOfOtherCampaign,
    #[error("has more digits than a JSON number holds exactly")]
    RoundedNumber,
    /// The value has another type or shape; the detail is the parser's.
    #[error("{detail}")]
    Malformed { detail: String },
    /// The file cannot be read; the detail is in English.
    #[error("{detail}")]
    UnreadableFile { detail: String },
}

impl Coded for FieldFault {
    const AREA: &'static str = "";
}

const fn entries(count: usize) -> &'static str {
    if count == 1 { "entry" } else { "entries" }
}

/// Collects the problems of an input, so that a caller gets all of them at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(FieldError::to_string).collect::<Vec<_>>().join("; "))]
pub struct Invalid(pub Vec<FieldError>);

impl Invalid {
    pub fn one(path: impl Into<String>, reason: impl Into<Reason>) -> Self {
        let mut invalid = Self::default();
        invalid.add(path, reason);
        invalid
    }

    pub fn add(&mut self, path: impl Into<String>, reason: impl Into<Reason>) {
        self.0.push(FieldError { path: path.into(), reason: reason.into() });
    }

    /// Adds `reason` at `path` unless `ok`.
    pub fn require(&mut self, ok: bool, path: &str, reason: impl Into<Reason>) {
        if !ok {
            self.add(path, reason);
        }
    }

    /// Requires a text that is present and not too long.
    pub fn text(&mut self, path: &str, value: &str, max_chars: usize) {
        self.require(!value.trim().is_empty(), path, FieldFault::Empty);
        self.optional_text(path, value, max_chars);
    }

    /// Requires a text that may be empty and is not too long.
    pub fn optional_text(&mut self, path: &str, value: &str, max_chars: usize) {
        self.require(value.chars().count() <= max_chars, path, FieldFault::TooLong { max: max_chars });
        self.require(!value.contains('\0'), path, FieldFault::NulCharacter);
    }

    /// Requires a name that is shown to other users: a text without hidden characters. Joiners (U+200C, U+200D) are allowed: Persian,
    /// Indian scripts and emoji need them.
    pub fn name(&mut self, path: &str, value: &str, max_chars: usize) {
        self.text(path, value, max_chars);
        let hides = |c: char| c != '\0' && (c.is_control() || (is_invisible(c) && !matches!(c, '\u{200C}' | '\u{200D}')));
        self.require(!value.contains(hides), path, FieldFault::InvisibleCharacters);
    }

    /// Requires a slug: lower-case letters, digits and single hyphens between them.
    pub fn slug(&mut self, path: &str, value: &str) {
        let parts_ok = value.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        self.require(parts_ok && value.len() <= SLUG_MAX, path, FieldFault::NotASlug { max: SLUG_MAX });
    }

    /// Requires a time between [`YEARS`].
    pub fn time(&mut self, path: &str, time: Option<DateTime<Utc>>) {
        if let Some(time) = time {
            let is_within = (YEARS.0..YEARS.1).contains(&time.year());
            self.require(is_within, path, FieldFault::YearOutOfRange { from: YEARS.0, before: YEARS.1 });
        }
    }

    pub fn range<T: PartialOrd + std::fmt::Display>(&mut self, path: &str, value: T, min: T, max: T) {
        if value < min || value > max {
            self.add(path, FieldFault::OutOfRange { min: min.to_string(), max: max.to_string() });
        }
    }

    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

/// Invisible characters: zero-width ones, soft hyphens, fillers, tags, and marks of the direction of writing.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// A slug made from a name: letters lose their accents, and every other character that is neither a letter nor a digit becomes a hyphen.
pub fn slug_from(name: &str) -> String {
    let mut slug = String::new();
    for c in name.to_lowercase().chars().nfkd().filter(|c| !is_combining_mark(*c)).take(SLUG_MAX) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "company".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_lower_case_words_joined_by_single_hyphens() {
        let ok = |s: &str| {
            let mut invalid = Invalid::default();
            invalid.slug("slug", s);
            invalid.0.is_empty()
        };
        assert!(ok("acme") && ok("acme-2-go"));
        assert!(!ok("") && !ok("-a") && !ok("a--b") && !ok("A") && !ok("a b") && !ok("é"));
    }

    #[test]
    fn a_name_looks_like_what_it_is() {
        let is_name = |text: &str| {
            let mut invalid = Invalid::default();
            invalid.name("name", text, 20);
            invalid.0.is_empty()
        };
        assert!(is_name("Acme & Söhne") && is_name("می\u{200C}خواهم") && is_name("👩\u{200D}💻 ❤\u{FE0F}"));
        assert!(!is_name("A\u{202E}emcA") && !is_name("Ac\u{200B}me") && !is_name("Ac\nme") && !is_name(" ") && !is_name("a\0"));
    }

    #[test]
    fn a_slug_is_made_from_any_name() {
        assert_eq!(slug_from("  Acme & Söhne, Inc. "), "acme-sohne-inc");
        assert_eq!(slug_from("Orto Clínica Ñandú"), "orto-clinica-nandu");
        assert_eq!(slug_from("Фирма"), "company");
    }
}
