//! How people write and paste phone numbers: text marks, invisible characters, other digits, URIs, extensions.

use rlibphonenumber::PHONE_NUMBER_UTIL;

use super::PhoneError;

/// Longest text that is tried as a phone number, in characters; the longest E.164 number has 16.
const PHONE_TEXT_MAX: usize = 64;
/// Fewest digits that are read as a separate number, or as a number that a spreadsheet wrote as a decimal.
const WHOLE_DIGITS_MIN: usize = 7;
/// Most decimals of a number that a spreadsheet wrote as a decimal.
const DECIMALS_MAX: usize = 2;
/// Fewest digits before the letters of a vanity number.
const VANITY_DIGITS_MIN: usize = 3;
/// Fewest letters of a vanity number.
const VANITY_LETTERS_MIN: usize = 3;
/// Longest extension, in digits (RFC 3966 names no limit; libphonenumber has this one).
const EXTENSION_DIGITS_MAX: usize = 20;
/// Longest extension after a sign, in digits: more of them could be a second number.
const SIGNED_EXTENSION_DIGITS_MAX: usize = 7;

/// Marks by which spreadsheets and people quote a text.
const QUOTES: [char; 11] = ['\'', '"', '‘', '’', '‚', '‛', '“', '”', '„', '`', '´'];
/// Words before an extension, in lower case; a longer word is listed before a word that is its ending.
const EXTENSION_WORDS: [&str; 8] = ["extension", "extensión", "extn", "ext", "доб", "anexo", "int", "interno"];
/// Signs before an extension.
const EXTENSION_SIGNS: [&str; 3] = ["x", "#", ",,"];

/// A phone number in ASCII: digits, `+` in front, separators, and the upper case letters of a vanity number at the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) number: String,
    pub(super) extension: Option<String>,
}

/// Splits a text into number and extension. A text that contains more than a number is refused.
pub(super) fn read(raw: &str) -> Result<Written, PhoneError> {
    let text = plain(raw);
    if text.is_empty() {
        return Err(PhoneError::Empty);
    }
    if text.chars().count() > PHONE_TEXT_MAX {
        return Err(PhoneError::Unparsable);
    }
    let text = ["tel:", "p:"].iter().find_map(|scheme| strip_scheme(&text, scheme)).unwrap_or(&text);
    let mut parameters = text.split(';').map(str::trim);
    let number = parameters.next().unwrap_or_default();
    let (mut context, mut extension) = ("", None);
    for parameter in parameters.filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or_else(|| refuse(text))?;
        match name.to_ascii_lowercase().as_str() {
            "ext" if extension.is_none() && is_extension(value, EXTENSION_DIGITS_MAX) => extension = Some(value),
            // Another context than a country code is the name of an exchange.
            "phone-context" if context.is_empty() && is_context(value) => context = value,
            _ => return Err(refuse(text)),
        }
    }
    let number = match split_extension(number)? {
        Some(_) if extension.is_some() => return Err(PhoneError::Unparsable),
        Some((number, digits)) => {
            extension = Some(digits);
            number
        }
        None => number,
    };
    let number = without_decimals(number)?;
    let number = if context.starts_with('+') { format!("{context}-{number}") } else { number.to_owned() };
    if is_number(&number) { Ok(Written { number, extension: extension.map(str::to_owned) }) } else { Err(refuse(&number)) }
}

pub(super) fn count_digits(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_digit).count()
}

pub(super) fn digits_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Whether a `+` stands before the digits, perhaps within brackets.
pub(super) fn is_written_with_plus(text: &str) -> bool {
    text.trim_start_matches(is_separator).starts_with('+')
}

/// The text without quotes, invisible characters and an `="…"` around it; the characters that a phone number may have are converted to
/// ASCII.
fn plain(raw: &str) -> String {
    let is_around = |c: char| c.is_whitespace() || is_invisible(c) || QUOTES.contains(&c);
    let text = raw.trim_matches(is_around);
    // This formula prevents spreadsheets from reading the text as a number.
    let text = text.strip_prefix("=\"").unwrap_or(text).trim_start_matches(is_around);
    text.chars().filter(|c| !is_invisible(*c)).map(ascii).collect()
}

/// Zero-width characters, soft hyphens and marks of the direction of writing.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

fn ascii(c: char) -> char {
    match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{30FC}' | '\u{FE58}' | '\u{FE63}' => '-',
        // Full-width forms have the order of ASCII.
        '\u{FF01}'..='\u{FF5E}' => u8::try_from(u32::from(c) - 0xFEE0).map_or(c, char::from),
        // Two lines are more often two numbers than one.
        '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}' => '/',
        c if c.is_whitespace() => ' ',
        c if !c.is_ascii() && c.is_numeric() => {
            let digit = PHONE_NUMBER_UTIL.normalize_digits_only(c.encode_utf8(&mut [0; 4]));
            digit.chars().next().unwrap_or(c)
        }
        c => c,
    }
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then(|| rest.trim_start())
}

fn strip_suffix_of_any_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let (at, _) = text.char_indices().rev().nth(suffix.chars().count().checked_sub(1)?)?;
    (text[at..].to_lowercase() == suffix).then(|| &text[..at])
}

fn is_extension(digits: &str, digits_max: usize) -> bool {
    (1..=digits_max).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

/// The context of a local number (RFC 3966): a country code with perhaps more digits, or a domain.
fn is_context(value: &str) -> bool {
    let is_domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let is_global = |c: char| c.is_ascii_digit() || matches!(c, '-' | '.' | '(' | ')');
    match value.strip_prefix('+') {
        Some(code) => count_digits(code) > 0 && code.chars().all(is_global),
        None => value.contains(|c: char| c.is_ascii_alphanumeric()) && value.chars().all(is_domain),
    }
}

/// The number and the extension after it: `x12`, `ext. 12`, `#12`, `,,12`.
fn split_extension(text: &str) -> Result<Option<(&str, &str)>, PhoneError> {
    let end = text.trim_end_matches(['#', ')', ' ']);
    let before = end.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &end[before.len()..];
    let before = before.trim_end_matches([' ', '.', ':', '-']);
    let find = |labels: &[&str]| labels.iter().find_map(|label| strip_suffix_of_any_case(before, label));
    let (number, digits_max) = match (find(&EXTENSION_WORDS), find(&EXTENSION_SIGNS)) {
        _ if digits.is_empty() => return Ok(None),
        (Some(number), _) => (number, EXTENSION_DIGITS_MAX),
        (None, Some(number)) => (number, SIGNED_EXTENSION_DIGITS_MAX),
        (None, None) => return Ok(None),
    };
    if is_extension(digits, digits_max) {
        Ok(Some((number.trim_end_matches([' ', ',', '.', '-', '(']), digits)))
    } else {
        Err(refuse(text))
    }
}

/// A number that a spreadsheet wrote as a decimal (`4915112345678.0`) without its decimals. Spreadsheets write such numbers without `+` and
/// with one or two zeros; after a `+` or with more zeros, the zeros may be digits of the number.
fn without_decimals(text: &str) -> Result<&str, PhoneError> {
    let is_digits = |text: &str| !text.is_empty() && count_digits(text) == text.len();
    let unsigned = text.trim_start_matches('+');
    if let Some((mantissa, exponent)) = unsigned.split_once(['e', 'E'])
        && is_digits(&mantissa.replace(['.', ','], ""))
        && is_digits(exponent.trim_start_matches(['+', '-']))
    {
        return Err(PhoneError::Decimal);
    }
    match unsigned.split_once('.') {
        Some((whole, zeros)) if is_digits(whole) && is_digits(zeros) && zeros.bytes().all(|b| b == b'0') => {
            // Spreadsheets write no leading zeros: this may be a direct dial.
            if whole.starts_with('0') {
                Err(PhoneError::Ambiguous)
            } else if text.starts_with('+') || zeros.len() > DECIMALS_MAX || whole.len() < WHOLE_DIGITS_MIN {
                Err(PhoneError::Decimal)
            } else {
                Ok(whole)
            }
        }
        _ => Ok(text),
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '-' | '.' | '/' | '(' | ')' | '[' | ']')
}

/// Whether the text is digits and separators after an optional `+`; letters are allowed only at the end of a vanity number.
fn is_number(text: &str) -> bool {
    let text = text.trim_start_matches(is_separator).trim_start_matches('+');
    let (digits, letters) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let is_vanity = || {
        count_digits(digits) >= VANITY_DIGITS_MIN
            && letters.bytes().filter(u8::is_ascii_uppercase).count() >= VANITY_LETTERS_MIN
            && letters.chars().all(|c| c.is_ascii_uppercase() || is_separator(c))
    };
    count_digits(digits) > 0 && digits.chars().all(|c| c.is_ascii_digit() || is_separator(c)) && (letters.is_empty() || is_vanity())
}

/// Why a text that is not a number is refused.
fn refuse(text: &str) -> PhoneError {
    let parts = text.split(|c: char| !c.is_ascii_digit() && !is_separator(c));
    let numbers = parts.filter(|part| count_digits(part) >= WHOLE_DIGITS_MIN).count();
    if numbers > 1 { PhoneError::Several } else { PhoneError::Unparsable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_text_is_read_as_it_looks() {
        for raw in [
            "\u{202A}+1 202-555-0100\u{202C}",
            "\u{200E}+1\u{A0}202\u{2011}555\u{2013}0100\u{FEFF}",
            "＋１　２０２－５５５－０１００",
            "+1 2\u{200B}02\u{AD}-555\u{2212}0100",
            "+١ ٢٠٢-٥٥٥-٠١٠٠",
            "+۱ ۲۰۲-۵۵۵-۰۱۰۰",
            "+१ २०२-५५५-०१००",
            "‘+1 202-555-0100",
            "'+1 202-555-0100",
            "“+1 202-555-0100”",
            "=\"+1 202-555-0100\"",
            "tel:+1 202-555-0100",
            "Tel: +1 202-555-0100",
            "p:+1 202-555-0100",
            "202-555-0100;phone-context=+1 ",
        ] {
            let written = read(raw).unwrap();
            assert_eq!((digits_of(&written.number).as_str(), written.extension), ("12025550100", None), "{raw:?}");
            assert!(is_written_with_plus(&written.number), "{raw:?}");
        }
        assert_eq!(
            read("tel:2025550100;phone-context=example.com;ext=7").unwrap(),
            Written { number: "2025550100".into(), extension: Some("7".into()) }
        );
        assert_eq!(read("tel:7;phone-context=a b"), Err(PhoneError::Unparsable));
        assert_eq!(read("2025550100;isub=7"), Err(PhoneError::Unparsable));
    }

    #[test]
    fn characters_that_are_no_digits_stay_what_they_are() {
        for raw in ["202555010½", "202555010²", "202555010Ⅷ", "202555010〇"] {
            assert_eq!(read(raw), Err(PhoneError::Unparsable), "{raw}");
        }
    }
}
