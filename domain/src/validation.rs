//! The problems of an input, field by field.

use std::fmt;

use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, Serialize};

/// Times from callers must be between these years: from the first, before the second.
const YEARS: (i32, i32) = (1970, 2200);

/// One problem: its place (`config.flow.states[1].name`, or no particular place) and a description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    pub path: String,
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// Collects the problems of an input, so that a caller gets all of them at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(FieldError::to_string).collect::<Vec<_>>().join("; "))]
pub struct Invalid(pub Vec<FieldError>);

impl Invalid {
    pub fn one(path: impl Into<String>, message: impl Into<String>) -> Self {
        let mut invalid = Self::default();
        invalid.add(path, message);
        invalid
    }

    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { path: path.into(), message: message.into() });
    }

    /// Adds `message` at `path` unless `ok`.
    pub fn require(&mut self, ok: bool, path: &str, message: &str) {
        if !ok {
            self.add(path, message);
        }
    }

    /// Requires a text that is present and not too long.
    pub fn text(&mut self, path: &str, value: &str, max_chars: usize) {
        self.require(!value.trim().is_empty(), path, "must not be empty");
        self.require(value.chars().count() <= max_chars, path, &format!("must have at most {max_chars} characters"));
        self.require(!value.contains('\0'), path, "must not contain a NUL character");
    }

    /// Requires a name that is shown to other users: a text without hidden characters. Joiners (U+200C, U+200D) are allowed: Persian,
    /// Indian scripts and emoji need them.
    pub fn name(&mut self, path: &str, value: &str, max_chars: usize) {
        self.text(path, value, max_chars);
        let hides = |c: char| c != '\0' && (c.is_control() || (is_invisible(c) && !matches!(c, '\u{200C}' | '\u{200D}')));
        self.require(!value.contains(hides), path, "must not contain invisible characters or marks of the direction of writing");
    }

    /// Requires a slug: lower-case letters, digits and single hyphens between them.
    pub fn slug(&mut self, path: &str, value: &str) {
        let parts_ok = value.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        self.require(
            parts_ok && value.len() <= 80,
            path,
            "must be a slug: lower-case letters, digits and single hyphens, at most 80 characters",
        );
    }

    /// Requires a time between [`YEARS`].
    pub fn time(&mut self, path: &str, time: Option<DateTime<Utc>>) {
        if let Some(time) = time {
            let is_within = (YEARS.0..YEARS.1).contains(&time.year());
            self.require(is_within, path, &format!("must lie between the years {} and {}", YEARS.0, YEARS.1));
        }
    }

    pub fn range<T: PartialOrd + std::fmt::Display>(&mut self, path: &str, value: T, min: T, max: T) {
        if value < min || value > max {
            self.add(path, format!("must be from {min} to {max}"));
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

/// A slug made from a name: every character that is neither a letter nor a digit becomes a hyphen.
pub fn slug_from(name: &str) -> String {
    let mut slug = String::new();
    for c in name.to_lowercase().chars().take(80) {
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
        assert_eq!(slug_from("  Acme & Söhne, Inc. "), "acme-s-hne-inc");
        assert_eq!(slug_from("Фирма"), "company");
    }
}
