//! Phone numbers as E.164.

use phonenumber::{Metadata, Mode, country, metadata::DATABASE};

/// Longest text that is tried as a phone number, in characters; the longest E.164 number has 16.
const PHONE_TEXT_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    #[error("phone number is empty")]
    Empty,
    #[error("not a phone number")]
    Unparsable,
    #[error("not a valid phone number; national numbers need the campaign's default_region")]
    NeedsRegion,
}

/// An ISO 3166 country whose national numbers can be read, e.g. `US`.
pub fn is_region(region: &str) -> bool {
    region.parse::<country::Id>().is_ok()
}

/// `raw` as E.164 (`+12025550100`). A number without `+` is read as national in `region` (ISO 3166, `US`).
///
/// Possible lengths are checked, not whether a range is assigned: numbering plans change faster than libraries.
pub fn to_e164(raw: &str, region: Option<&str>) -> Result<String, PhoneError> {
    let raw = raw.trim();
    if raw.is_empty() {
        return Err(PhoneError::Empty);
    }
    if raw.chars().count() > PHONE_TEXT_MAX || !raw.is_ascii() || raw.bytes().any(|b| b.is_ascii_alphabetic()) {
        return Err(PhoneError::Unparsable);
    }
    let region = region.and_then(|r| r.parse::<country::Id>().ok());
    if region.is_none() && !raw.starts_with('+') && !raw.starts_with("00") {
        return Err(PhoneError::NeedsRegion);
    }
    let international = raw.strip_prefix("00").filter(|_| region.is_none()).map(|rest| format!("+{rest}"));
    let number = phonenumber::parse(region, international.as_deref().unwrap_or(raw)).map_err(|_| PhoneError::Unparsable)?;
    let e164 = number.format().mode(Mode::E164).to_string();
    if has_possible_length(&number, &e164) { Ok(e164) } else { Err(PhoneError::Unparsable) }
}

/// Whether the number has as many digits after its country code as numbers of that code can have.
fn has_possible_length(number: &phonenumber::PhoneNumber, e164: &str) -> bool {
    let code = number.code().value();
    let Some(national) = e164.strip_prefix(&format!("+{code}")) else { return false };
    let possible = |country: &Metadata| {
        let kinds = country.descriptors();
        let kinds = [kinds.fixed_line(), kinds.mobile(), kinds.toll_free(), kinds.voip(), kinds.uan()];
        kinds.into_iter().flatten().any(|kind| kind.possible_length().iter().any(|n| usize::from(*n) == national.len()))
    };
    // The first country of a shared code is the one whose plan the others follow.
    DATABASE.by_code(&code).unwrap_or_default().into_iter().take(1).any(possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_written_in_many_ways_become_e164() {
        for raw in ["202.555.0100", "1-202-555-0100", "(202) 555 0100", "+12025550100", " +1 202 555 0100 "] {
            assert_eq!(to_e164(raw, Some("US")).as_deref(), Ok("+12025550100"), "{raw}");
        }
        assert_eq!(to_e164("+420 601 123 456", None).as_deref(), Ok("+420601123456"));
        assert_eq!(to_e164("00420601123456", None).as_deref(), Ok("+420601123456"));
        assert_eq!(to_e164("+15551234567", None).as_deref(), Ok("+15551234567"), "an area code that is not assigned today");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert_eq!(to_e164("", Some("US")), Err(PhoneError::Empty));
        assert_eq!(to_e164("202-555-0100", None), Err(PhoneError::NeedsRegion));
        for raw in ["12", "123", "555-0100", "n/a", "call me", "+", "++1", "٠٠", &"1".repeat(500)] {
            assert_eq!(to_e164(raw, Some("US")), Err(PhoneError::Unparsable), "{raw}");
        }
    }
}
