//! Phone numbers as E.164, read by Google's numbering plans.

mod written;

use std::fmt;

use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber as Parsed, PhoneNumberFormat, PhoneNumberType, Region};

use written::{Written, count_digits, digits_of, is_written_with_plus};

/// Fewest digits of a national number whose range is not assigned: the local numbers of a town are shorter.
const UNASSIGNED_DIGITS_MIN: usize = 7;
/// From this many digits on, a number without its country's trunk prefix is as long as one with a country code.
const INTERNATIONAL_DIGITS_MIN: usize = 11;
/// Fewest digits of two numbers with nothing but a blank between them.
const TWO_NUMBERS_DIGITS_MIN: usize = 14;
/// Most digits of a direct dial after ` - `.
const DIRECT_DIAL_DIGITS_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
/// A possible length suffices, because numbering plans change faster than libraries. Text that can be read as two different numbers, or that
/// holds two, is refused: another person would be called.
pub fn parse(raw: &str, region: Option<&str>) -> Result<PhoneNumber, PhoneError> {
    let Written { number, extension } = written::read(raw)?;
    let e164 = read_number(&number, region.and_then(region_of))?;
    Ok(PhoneNumber { e164, extension })
}

fn region_of(region: &str) -> Option<Region> {
    let known = Region::from_code(region).ok()?;
    // World, the region of satellites and the like, has no national numbers.
    (*known.as_region_str() == *region && PHONE_NUMBER_UTIL.get_country_code_for_region(known).is_some()).then_some(known)
}

fn read_number(text: &str, region: Option<Region>) -> Result<String, PhoneError> {
    if holds_two_numbers(text, region) {
        return Err(PhoneError::Several);
    }
    if text.contains(|c: char| c.is_ascii_alphabetic()) {
        return vanity(text, region);
    }
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

/// Whether the number has a length that numbers of its country have when dialled from abroad.
fn is_possible(number: &Parsed) -> bool {
    PHONE_NUMBER_UTIL.is_possible_number_with_reason(number) == Ok(NumberLengthType::IsPossible)
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

/// A number that begins with 00: the international prefix of most countries, of some only together with a carrier's digits.
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
    let is_full = |number: &Parsed| is_possible(number) && number.national_number.to_string().len() >= UNASSIGNED_DIGITS_MIN;
    number.filter(is_full).map(|number| e164(&number)).ok_or(PhoneError::Unparsable)
}

/// Whether digits that are a valid national number look more like a country code with its number. Plans such as Germany's allow nearly all
/// digits of many lengths: 420601123456 is a Czech mobile and, without the 0 that Germans write, a German landline. Mobile ranges are narrow,
/// and spreadsheets drop the 0 of many.
fn looks_international(number: &Parsed, digits: &str) -> bool {
    let kind = PHONE_NUMBER_UTIL.get_number_type(number);
    let as_usual = digits_of(&PHONE_NUMBER_UTIL.format(number, PhoneNumberFormat::National)) == digits;
    digits.len() >= INTERNATIONAL_DIGITS_MIN
        && !matches!(kind, PhoneNumberType::Mobile | PhoneNumberType::FixedLineOrMobile)
        && (!as_usual || kind == PhoneNumberType::VoiceMail)
}

/// A number whose last digits are written as letters (1-800-FLOWERS). Elsewhere than in North America only free numbers are written so.
fn vanity(text: &str, region: Option<Region>) -> Result<String, PhoneError> {
    let number = valid(text, region).ok_or(PhoneError::Unparsable)?;
    let kind = PHONE_NUMBER_UTIL.get_number_type(&number);
    let is_usual = number.country_code == 1 || matches!(kind, PhoneNumberType::TollFree | PhoneNumberType::SharedCost);
    // A word after a whole number is not part of it.
    let is_whole_without = text.find(|c: char| c.is_ascii_alphabetic()).is_some_and(|at| valid(&text[..at], region).is_some());
    if is_usual && !is_whole_without { Ok(e164(&number)) } else { Err(PhoneError::Unparsable) }
}

/// Whether the text holds two numbers: what stands before a slash is a whole number by itself, or both sides of ` - ` or a blank are.
/// Where lengths vary, both together could pass for one.
fn holds_two_numbers(text: &str, region: Option<Region>) -> bool {
    let is_long = count_digits(text) >= TWO_NUMBERS_DIGITS_MIN;
    text.match_indices(['/', ' ']).any(|(at, separator)| {
        let (left, right) = (&text[..at], &text[at + 1..]);
        let ends_here = match separator {
            "/" => count_digits(right) > 0,
            _ if right.starts_with("- ") => count_digits(right) > DIRECT_DIAL_DIGITS_MAX,
            _ => is_long && right.starts_with('0') && count_digits(right) >= UNASSIGNED_DIGITS_MIN && valid(right, region).is_some(),
        };
        ends_here && valid(left, region).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(raw: &str, region: Option<&str>, e164: &str) {
        assert_eq!(to_e164(raw, region).as_deref(), Ok(e164), "{raw:?} in {region:?}");
    }

    #[track_caller]
    fn refuses(raw: &str, region: Option<&str>, error: PhoneError) {
        assert_eq!(parse(raw, region), Err(error), "{raw:?} in {region:?}");
    }

    #[test]
    fn numbers_written_in_many_ways_become_e164() {
        for raw in ["202.555.0100", "1-202-555-0100", "(202) 555 0100", "+12025550100", " +1 202 555 0100 ", "(+1) 202 555 0100"] {
            reads(raw, Some("US"), "+12025550100");
        }
        reads("+420 601 123 456", None, "+420601123456");
        reads("+15551234567", None, "+15551234567");
        reads("(555) 123-4567", Some("US"), "+15551234567");
        reads("1-800-FLOWERS", Some("US"), "+18003569377");
    }

    #[test]
    fn a_campaign_s_region_changes_no_international_number() {
        for region in ["US", "DE", "FR", "GB", "IN", "IT", "CN"] {
            reads("+4915112345678", Some(region), "+4915112345678");
            reads("+8613800138000", Some(region), "+8613800138000");
            reads("+390612345678", Some(region), "+390612345678");
            reads("+44 (0)20 7946 0018", Some(region), "+442079460018");
            reads("+420 (0)601 123 456", Some(region), "+420601123456");
        }
    }

    #[test]
    fn a_national_number_keeps_digits_that_are_its_country_code() {
        reads("91234 56789", Some("IN"), "+919123456789");
        reads("392 546 7782", Some("IT"), "+393925467782");
        reads("06 6982 1234", Some("IT"), "+390669821234");
        reads("919812345678", Some("IN"), "+919812345678");
        reads("０９０－１２３４－５６７８", Some("JP"), "+819012345678");
    }

    #[test]
    fn a_number_begins_with_double_zero_in_every_region() {
        for region in [None, Some("US"), Some("DE"), Some("JP"), Some("BR"), Some("AU")] {
            reads("00420601123456", region, "+420601123456");
            reads("00 44 20 7946 0018", region, "+442079460018");
        }
        reads("0011 44 20 7946 0018", Some("AU"), "+442079460018");
        // Dialled in Singapore 009 is a carrier's prefix: Belgium, or Afghanistan.
        refuses("0093234567890", Some("SG"), PhoneError::Ambiguous);
        refuses("0012345", Some("US"), PhoneError::Unparsable);
    }

    #[test]
    fn digits_that_are_a_number_here_and_another_abroad_are_refused() {
        for raw in ["420601123456", "4915112345678", "4915112345678.0", "33612345678", "12025550100"] {
            refuses(raw, Some("DE"), PhoneError::Ambiguous);
        }
        refuses("4915112345678", Some("US"), PhoneError::Ambiguous);
        refuses("375291234567", Some("IT"), PhoneError::Ambiguous);
        reads("15112345678", Some("DE"), "+4915112345678");
        reads("16012345678", Some("DE"), "+4916012345678");
        reads("2025550100", Some("US"), "+12025550100");
        reads("8 (495) 123-45-67", Some("RU"), "+74951234567");
    }

    #[test]
    fn spreadsheets_decimals_are_no_digits() {
        reads("9812345678.0", Some("IN"), "+919812345678");
        reads("2025550100.00", Some("US"), "+12025550100");
        reads("+4915112345678.0", Some("DE"), "+4915112345678");
        refuses("03012345678.0", Some("DE"), PhoneError::Ambiguous);
        refuses("123456.0", Some("DE"), PhoneError::Decimal);
        for raw in ["4.91511E+12", "4,91511E+12", "2E9", "4.915112345678e12"] {
            refuses(raw, Some("DE"), PhoneError::Decimal);
        }
    }

    #[test]
    fn extensions_are_read() {
        for raw in
            ["202-555-0100 x123", "(202) 555-0100 (ext. 123)", "202-555-0100 EXT: 123", "+1 202-555-0100;ext=123", "2025550100,,123#"]
        {
            let number = PhoneNumber { e164: "+12025550100".to_owned(), extension: Some("123".to_owned()) };
            assert_eq!(parse(raw, Some("US")), Ok(number), "{raw}");
        }
        refuses("202-555-0100 x123;ext=4", Some("US"), PhoneError::Unparsable);
    }

    #[test]
    fn two_numbers_are_no_number() {
        let two = ["2025550100 / 2025550111", "2025550100, 2025550111", "2025550100 or 2025550111", "2025550100;2025550111"];
        for raw in two.into_iter().chain(["2025550100 x 2025550111", "+12025550100 +12025550111", "2025550100\n2025550111"]) {
            refuses(raw, Some("US"), PhoneError::Several);
        }
        for raw in ["030 123456 / 123457", "030 123456 - 123457", "030 123456 030 123457", "030 1234567/8"] {
            refuses(raw, Some("DE"), PhoneError::Several);
        }
        reads("030/1234567", Some("DE"), "+49301234567");
        reads("030 - 12345 - 67", Some("DE"), "+49301234567");
        reads("0664 / 123 45 67", Some("AT"), "+436641234567");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        refuses("", Some("US"), PhoneError::Empty);
        refuses(" ' \u{200B}", Some("US"), PhoneError::Empty);
        refuses("202-555-0100", None, PhoneError::NeedsRegion);
        let words =
            ["n/a", "call me", "call me 2025550100", "Mr Smith 2025550100", "2025550100 Mr Smith", "2025550100 MOBILE", "202 555 Mike"];
        let digits = ["12", "123", "555-0100", "+", "++1", "٠٠", "*67 2025550100", "2025550100%", &"1".repeat(500)];
        for raw in words.into_iter().chain(digits) {
            refuses(raw, Some("US"), PhoneError::Unparsable);
        }
        refuses("601 123 456 mob", Some("CZ"), PhoneError::Unparsable);
        refuses("030 123 SMITH", Some("DE"), PhoneError::Unparsable);
        refuses("2024", Some("DE"), PhoneError::Unparsable);
    }

    #[test]
    fn regions_are_those_with_a_numbering_plan() {
        assert!(["US", "DE", "XK", "TA"].into_iter().all(is_region));
        assert!(!["", "us", "ZZ", "XX", "001", "EU", "USA"].into_iter().any(is_region));
    }

    #[test]
    fn the_oracle_s_numbers_are_read_as_it_reads_them() {
        for line in include_str!("../../testdata/phone_numbers.tsv").lines().filter(|line| !line.starts_with('#')) {
            let [region, text, expected] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let answer = parse(text, Some(region).filter(|region| !region.is_empty()));
            assert_eq!(answer.map_or_else(|_| "!".to_owned(), |number| number.to_string()), expected, "{line}");
        }
    }

    mod properties {
        use proptest::prelude::*;

        use super::super::*;

        fn regions() -> impl Strategy<Value = Option<&'static str>> {
            proptest::sample::select(vec![None, Some("US"), Some("DE"), Some("IT"), Some("BR"), Some("CO"), Some("AR"), Some("JP")])
        }

        proptest! {
            #[test]
            fn any_text_is_read_or_refused(raw in any::<String>(), region in regions()) {
                let _ = parse(&raw, region);
            }

            #[test]
            fn what_is_read_reads_as_itself(raw in "[+0]{0,2}[0-9]{3,14}([-0-9 ()./x#;,=ext]{0,6}|[A-Z]{3})", region in regions()) {
                if let Ok(number) = parse(&raw, region) {
                    prop_assert!(number.e164.len() <= 19 && number.e164[1..].bytes().all(|b| b.is_ascii_digit()), "{number}");
                    prop_assert_eq!(to_e164(&number.e164, region), Ok(number.e164));
                }
            }
        }
    }
}
