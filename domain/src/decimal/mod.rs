//! Reads decimals exactly or refuses them: reading never rounds a number.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Number, Value};

use crate::Coded;

/// Decimal digits of the largest mantissa, 2^96 - 1.
const DIGITS_MAX: usize = 29;
/// Decimal digits that every `f64` holds.
const DIGITS_EXACT: usize = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum DecimalError {
    #[error("must be a decimal, e.g. \"0.05\"")]
    Malformed,
    #[error("has more digits than a decimal holds exactly: 28 decimals, 28 digits in all")]
    TooManyDigits,
}

impl Coded for DecimalError {
    const AREA: &'static str = "decimal";
}

/// Reads digits with an optional sign, one optional point and an optional exponent: no blanks, no separators.
///
/// The value is the one written, without trailing zeros. One that needs more than 28 decimals or 96 bits is refused.
pub fn read_exact(text: &str) -> Result<Decimal, DecimalError> {
    let Literal { is_negative, digits, exponent } = Literal::read(text).ok_or(DecimalError::Malformed)?;
    if digits.is_empty() {
        return Ok(Decimal::ZERO);
    }
    // An integer with more trailing zeros than this does not fit.
    let zeros = usize::try_from(exponent.max(0)).unwrap_or(usize::MAX);
    if digits.len().saturating_add(zeros) > DIGITS_MAX {
        return Err(DecimalError::TooManyDigits);
    }
    let scale = u32::try_from(exponent.min(0).unsigned_abs()).map_err(|_| DecimalError::TooManyDigits)?;
    let mantissa: i128 = (digits + &"0".repeat(zeros)).parse().map_err(|_| DecimalError::TooManyDigits)?;
    Decimal::try_from_i128_with_scale(if is_negative { -mantissa } else { mantissa }, scale).map_err(|_| DecimalError::TooManyDigits)
}

/// For `#[serde(deserialize_with = "decimal::deserialize")]`: a decimal string or a JSON number, exactly.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    read_value(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Reads a decimal string or a JSON number.
pub fn read_value(value: &Value) -> Result<Decimal, DecimalError> {
    match value {
        Value::String(text) => read_exact(text),
        Value::Number(number) => read_exact(&number.to_string()),
        _ => Err(DecimalError::Malformed),
    }
}

/// Whether a JSON number reads back as another one.
pub(crate) fn is_rounded(literal: &str) -> bool {
    if literal.len() <= DIGITS_EXACT && !literal.contains(['e', 'E']) {
        return false;
    }
    let read = literal.parse::<Number>().map(|number| Literal::read(&number.to_string()));
    read.ok().is_none_or(|read| read != Literal::read(literal))
}

/// A number as written: digits without zeros at either end, times a power of ten. Zero has no digits.
#[derive(Debug, PartialEq, Eq)]
struct Literal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Literal {
    fn read(text: &str) -> Option<Self> {
        let is_negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let written = [whole, fraction].concat();
        if written.is_empty() || !written.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let significant = written.trim_start_matches('0');
        let digits = significant.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits, exponent: 0 });
        }
        let [decimals, zeros] = [fraction.len(), significant.len() - digits.len()].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        Some(Self { is_negative, digits, exponent: exponent.saturating_sub(decimals).saturating_add(zeros) })
    }
}

/// Reads an exponent; one that does not fit an `i64` becomes the largest `i64`, with its sign.
fn read_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().unwrap_or(i64::MAX);
    Some(if text.starts_with('-') { -size } else { size })
}

#[cfg(test)]
pub(crate) mod tests {
    use num_bigint::BigInt;
    use num_rational::BigRational;
    use num_traits::Pow as _;
    use proptest::prelude::*;

    use super::*;

    fn dec(text: &str) -> Result<String, DecimalError> {
        read_exact(text).map(|d| d.to_string())
    }

    #[test]
    fn a_decimal_is_the_one_written() {
        for (text, value) in [
            ("0.0043", "0.0043"),
            ("1e-7", "0.0000001"),
            ("+4.20E2", "420"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-0.0", "0"),
            ("0e999999999999999999999", "0"),
            ("79228162514264337593543950335", "79228162514264337593543950335"),
            ("-7.9228162514264337593543950335", "-7.9228162514264337593543950335"),
            ("0.0000000000000000000000000001", "0.0000000000000000000000000001"),
            ("1.500000000000000000000000000000000000000000", "1.5"),
            ("0000000000000000000000000000000000000000001", "1"),
        ] {
            assert_eq!(dec(text).as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn more_digits_than_a_decimal_holds_are_refused() {
        for text in [
            "0.00000000000000000000000000001",
            "1e-29",
            "1e29",
            "1e-99999999999999999999",
            "1e99999999999999999999",
            "79228162514264337593543950336",
            "7.9228162514264337593543950336",
            "12345678901234567890.12345678901",
        ] {
            assert_eq!(dec(text), Err(DecimalError::TooManyDigits), "{text}");
        }
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for text in ["", "-", ".", "e5", "1e", "1e+", "1_000", "1,5", " 1", "1 ", "1\n", "--1", "1.2.3", "1e1.5", "0x10", "٣", "NaN", "inf"]
        {
            assert_eq!(dec(text), Err(DecimalError::Malformed), "{text:?}");
        }
    }

    /// The value by arithmetic with numbers of any size.
    pub(crate) fn oracle(whole: &str, fraction: &str, exponent: i32) -> BigRational {
        let mantissa = BigRational::from_integer(format!("0{whole}{fraction}").parse::<BigInt>().unwrap());
        let ten = BigRational::from_integer(10.into());
        mantissa * ten.pow(exponent - i32::try_from(fraction.len()).unwrap())
    }

    fn rational(value: Decimal) -> BigRational {
        BigRational::new(value.mantissa().into(), BigInt::from(10).pow(value.scale()))
    }

    /// Whether a decimal can hold the value: some scale makes it an integer of 96 bits.
    fn is_held(value: &BigRational) -> bool {
        (0..=28_u32).any(|scale| {
            let scaled = value * BigRational::from_integer(BigInt::from(10).pow(scale));
            scaled.is_integer() && scaled.to_integer().magnitude().bits() <= 96
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn a_decimal_is_read_exactly_or_refused(
            sign in "[+-]?",
            whole in "[0-9]{0,30}|0{0,3}[1-9]0{0,30}",
            fraction in "[0-9]{0,30}|0{0,28}[1-9]0{0,10}",
            exponent in prop_oneof![Just(None), (-40..40).prop_map(Some)],
        ) {
            prop_assume!(!(whole.is_empty() && fraction.is_empty()));
            let text = format!("{sign}{whole}.{fraction}{}", exponent.map(|e| format!("e{e}")).unwrap_or_default());
            let value = oracle(&whole, &fraction, exponent.unwrap_or_default());
            let value = if sign == "-" { -value } else { value };
            match read_exact(&text) {
                Ok(read) => prop_assert_eq!(rational(read), value),
                Err(error) => {
                    prop_assert_eq!(error, DecimalError::TooManyDigits);
                    prop_assert!(!is_held(&value), "{} could be read", text);
                }
            }
        }
    }
}
