//! Phone numbers as E.164, read with Google's numbering plans.

#[cfg(test)]
mod tests;
mod written;

use std::fmt;

use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber as Parsed, PhoneNumberFormat, PhoneNumberType, Region};
use serde::Serialize;

use crate::Coded;
pub use written::is_invisible;
use written::{Written, count_digits, digits_of, is_written_with_plus};

/// Most digits of a number in E.164, with the country code.
const E164_DIGITS_MAX: usize = 15;
/// Fewest digits of a second number in one text; an extension has fewer.
const SECOND_NUMBER_DIGITS_MIN: usize = 7;
/// Country code of North America and the digits of a national number there.
const NORTH_AMERICA: i32 = 1;
const NORTH_AMERICAN_DIGITS: usize = 10;
const FICTIONAL_AREA_CODE: &str = "555";
/// A number without its country's trunk prefix that has at least this many digits is as long as a number with a country code.
const INTERNATIONAL_DIGITS_MIN: usize = 11;
/// Fewest digits of two numbers that only a blank separates.
const TWO_NUMBERS_DIGITS_MIN: usize = 14;
/// Most digits of a direct dial after ` - `.
const DIRECT_DIAL_DIGITS_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum PhoneError {
    #[error("phone number is empty")]
    Empty,
    #[error("not a phone number")]
    Unparsable,
    #[error("not a valid phone number: write it with + and the country code; national numbers need the campaign's default_region")]
    NeedsRegion,
    #[error("the digits can be read as more than one phone number: write it with + and the country code")]
    Ambiguous,
    #[error("more than one phone number: give each a row of its own")]
    Several,
    #[error("a decimal number: format the column as text, so that the phone number keeps all of its digits")]
    Decimal,
}

impl Coded for PhoneError {
    const AREA: &'static str = "phone";
}

/// A phone number and the extension that was written after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneNumber {
    /// `+12025550100`
    pub e164: String,
    /// Digits that are dialled once the call is connected.
    pub extension: Option<String>,
}

/// RFC 3966 without the scheme: `+12025550100;ext=7`.
impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.e164)?;
        self.extension.as_ref().map_or(Ok(()), |extension| write!(f, ";ext={extension}"))
    }
}

/// A region whose national numbers can be read, e.g. `US`: upper case ISO 3166, as in Google's numbering plans.
pub fn is_region(region: &str) -> bool {
    region_of(region).is_some()
}

/// `raw` as E.164 (`+12025550100`), without its extension; see [`parse`].
pub fn to_e164(raw: &str, region: Option<&str>) -> Result<String, PhoneError> {
    parse(raw, region).map(|number| number.e164)
}

/// Reads a phone number as people write and paste it. A number without `+` or `00` is national in `region` (ISO 3166, `US`).
///
/// With the country code a possible length suffices, because numbering plans change faster than libraries. A national number must be valid:
/// a missing or additional digit often leaves a possible length. North American numbers are the exception, also those with area codes that
/// are not in use (555-123-4567). A text that can be read as two different numbers, or that holds two numbers, is refused: otherwise the
/// wrong person would be called.
pub fn parse(raw: &str, region: Option<&str>) -> Result<PhoneNumber, PhoneError> {
    let Written { number, extension } = written::read(raw)?;
    let e164 = read_number(&number, region.and_then(region_of))?;
    if count_digits(&e164) > E164_DIGITS_MAX {
        return Err(PhoneError::Unparsable);
    }
    Ok(PhoneNumber { e164, extension })
}

fn region_of(region: &str) -> Option<Region> {
    let known = Region::from_code(region).ok()?;
    // The region "World" (satellites and the like) has no national numbers.
    (*known.as_region_str() == *region && PHONE_NUMBER_UTIL.get_country_code_for_region(known).is_some()).then_some(known)
}

fn read_number(text: &str, region: Option<Region>) -> Result<String, PhoneError> {
    if holds_two_numbers(text, region) {
        return Err(PhoneError::Several);
    }
    if text.contains(|c: char| c.is_ascii_alphabetic()) {
        return vanity(text, region);
    }
    let e164 = dialled(text, region)?;
    if may_mean_plus_seven(text, &e164) { Err(PhoneError::Ambiguous) } else { Ok(e164) }
}

/// A number in digits.
fn dialled(text: &str, region: Option<Region>) -> Result<String, PhoneError> {
    if is_written_with_plus(text) {
        return international(text);
    }
    let digits = digits_of(text);
    match (digits.strip_prefix("00"), region) {
        (Some(rest), None) => international(&format!("+{rest}")),
        (Some(rest), Some(region)) => double_zero(text, rest, region),
        (None, Some(region)) => national(text, &digits, region),
        (None, None) => Err(PhoneError::NeedsRegion),
    }
}

fn parsed(text: &str, region: Option<Region>) -> Option<Parsed> {
    PHONE_NUMBER_UTIL.parse(text, region).ok()
}

fn valid(text: &str, region: Option<Region>) -> Option<Parsed> {
    parsed(text, region).filter(|number| PHONE_NUMBER_UTIL.is_valid_number(number))
}

/// Whether the number has a length that numbers of its country have when dialled from abroad, and reads back as itself. From `+43 00…` the
/// parser removes one zero as Austria's trunk prefix; reading the rest again would remove the next zero.
fn is_possible(number: &Parsed) -> bool {
    let e164 = e164(number);
    PHONE_NUMBER_UTIL.is_possible_number_with_reason(number) == Ok(NumberLengthType::IsPossible)
        && parsed(&e164, None).is_some_and(|again| self::e164(&again) == e164)
}

fn e164(number: &Parsed) -> String {
    PHONE_NUMBER_UTIL.format(number, PhoneNumberFormat::E164).into_owned()
}

fn international(text: &str) -> Result<String, PhoneError> {
    // (0) is dialled within the country only. Where the zero is part of the number (Italy) it is valid with it.
    let number = valid(text, None).or_else(|| valid(&text.replacen("(0)", "", 1), None));
    let number = number.or_else(|| parsed(text, None).filter(|number| is_possible(number) && !text.contains("(0)")));
    number.map(|number| e164(&number)).ok_or(PhoneError::Unparsable)
}

/// Whether the 8 at the beginning of a number's country code is separate from the digits after it, behind `+`, `00` or another prefix that
/// a region dials before a country code. Russians and Kazakhs dial 8 before a national number and write +7 for it, so that
/// `+8 495 123 45 67` is mostly a mistake for a number of Moscow; by its digits it is a number of Vietnam. No country code is 8.
fn may_mean_plus_seven(text: &str, e164: &str) -> bool {
    let digits = e164.trim_start_matches('+');
    // (0) is not part of the number.
    let text = text.replacen("(0)", "()", 1);
    let first = text.char_indices().rev().filter(|(_, c)| c.is_ascii_digit()).nth(digits.len().saturating_sub(1));
    let from_first = first.and_then(|(at, _)| text.get(at..)).unwrap_or_default();
    let is_alone = from_first.strip_prefix('8').is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
    is_alone && digits_of(from_first) == digits
}

/// A number that begins with 00, which is the international prefix of most countries; some use it only together with a carrier's digits.
fn double_zero(text: &str, rest: &str, region: Region) -> Result<String, PhoneError> {
    let plus = format!("+{rest}");
    match (valid(text, Some(region)), valid(&plus, None)) {
        (Some(here), Some(there)) if e164(&here) != e164(&there) => Err(PhoneError::Ambiguous),
        (Some(number), _) | (None, Some(number)) => Ok(e164(&number)),
        (None, None) => {
            let possible = |number: &Parsed| is_possible(number) && parsed(&plus, None).is_some_and(|plus| e164(&plus) == e164(number));
            parsed(text, Some(region)).filter(possible).map(|number| e164(&number)).ok_or(PhoneError::Unparsable)
        }
    }
}

fn national(text: &str, digits: &str, region: Region) -> Result<String, PhoneError> {
    let abroad = valid(&format!("+{digits}"), None).map(|number| e164(&number));
    let number = parsed(text, Some(region));
    if let Some(number) = number.as_ref().filter(|number| PHONE_NUMBER_UTIL.is_valid_number(number)) {
        let here = e164(number);
        let is_ambiguous = abroad.is_some_and(|abroad| abroad != here) && looks_international(number, digits);
        return if is_ambiguous { Err(PhoneError::Ambiguous) } else { Ok(here) };
    }
    if abroad.is_some() {
        return Err(PhoneError::Ambiguous);
    }
    number.filter(is_north_american).map(|number| e164(&number)).ok_or(PhoneError::Unparsable)
}

/// Whether it has the form of a North American number, `[2-9]XX[2-9]XXXXXX`. After 555, the area code of fiction, any digits are accepted.
fn is_north_american(number: &Parsed) -> bool {
    let e164 = e164(number);
    let digits = e164.strip_prefix("+1").filter(|digits| digits.len() == NORTH_AMERICAN_DIGITS).unwrap_or_default();
    let begins_well = |at: usize| digits.as_bytes().get(at).is_some_and(|digit| *digit >= b'2');
    number.country_code == NORTH_AMERICA && begins_well(0) && (begins_well(3) || digits.starts_with(FICTIONAL_AREA_CODE))
}

/// Whether digits that are a valid national number look more like a country code with its number. Plans such as Germany's allow nearly all
/// digits of many lengths: 420601123456 is a Czech mobile number and, without the 0 that Germans write, a German landline number. Mobile
/// ranges are narrow, and spreadsheets remove the 0 of many numbers.
fn looks_international(number: &Parsed, digits: &str) -> bool {
    let kind = PHONE_NUMBER_UTIL.get_number_type(number);
    let as_usual = digits_of(&PHONE_NUMBER_UTIL.format(number, PhoneNumberFormat::National)) == digits;
    digits.len() >= INTERNATIONAL_DIGITS_MIN
        && !matches!(kind, PhoneNumberType::Mobile | PhoneNumberType::FixedLineOrMobile)
        && (!as_usual || kind == PhoneNumberType::VoiceMail)
}

/// A number whose last digits are written as letters (1-800-FLOWERS). Outside North America only toll-free numbers are written this way.
fn vanity(text: &str, region: Option<Region>) -> Result<String, PhoneError> {
    let number = valid(text, region).ok_or(PhoneError::Unparsable)?;
    let kind = PHONE_NUMBER_UTIL.get_number_type(&number);
    let is_usual = number.country_code == NORTH_AMERICA || matches!(kind, PhoneNumberType::TollFree | PhoneNumberType::SharedCost);
    // A word after a whole number is not part of it.
    let is_whole_without = text.find(|c: char| c.is_ascii_alphabetic()).is_some_and(|at| valid(&text[..at], region).is_some());
    if is_usual && !is_whole_without { Ok(e164(&number)) } else { Err(PhoneError::Unparsable) }
}

/// Whether the text holds two numbers: the part before a slash is a whole number by itself, or both sides of ` - ` or a blank are. Where
/// lengths vary, both parts together could be read as one number.
fn holds_two_numbers(text: &str, region: Option<Region>) -> bool {
    let is_long = count_digits(text) >= TWO_NUMBERS_DIGITS_MIN;
    text.match_indices(['/', ' ']).any(|(at, separator)| {
        let (left, right) = (&text[..at], &text[at + 1..]);
        let ends_here = match separator {
            "/" => count_digits(right) > 0,
            _ if right.starts_with("- ") => count_digits(right) > DIRECT_DIAL_DIGITS_MAX,
            _ => is_long && right.starts_with('0') && count_digits(right) >= SECOND_NUMBER_DIGITS_MIN && valid(right, region).is_some(),
        };
        ends_here && valid(left, region).is_some()
    })
}
