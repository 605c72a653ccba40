//! Finds what a JSON text has and the value that is read from it has not: numbers that are rounded, and fields that are there twice.
//!
//! serde_json reads a number as `u64`, `i64` or `f64`. Beyond some 15 digits an `f64` is only close to the written number, and its shortest
//! form is another number. Of two fields with one name, it reads the last one.

use std::collections::HashSet;

use crate::{decimal::is_rounded, validation::FieldFault};

/// Where a value is in the document.
enum Place {
    Field { name: String, names: HashSet<String> },
    Item(usize),
}

/// The first fault in a valid JSON text, and its path (`rates[0].price`).
pub fn find_fault(json: &str) -> Option<(String, FieldFault)> {
    let mut path: Vec<Place> = Vec::new();
    let mut last_text = "";
    let mut rest = json;
    while let Some(first) = rest.bytes().next() {
        let length = match first {
            b'"' => text_length(rest),
            b'-' | b'0'..=b'9' => rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(rest.len()),
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        let (token, after) = rest.split_at(length);
        match first {
            b'"' => last_text = token,
            b'{' => path.push(Place::Field { name: String::new(), names: HashSet::new() }),
            b'[' => path.push(Place::Item(0)),
            b'}' | b']' => drop(path.pop()),
            b':' => {
                if let Some(Place::Field { name, names }) = path.last_mut() {
                    *name = serde_json::from_str(last_text).ok()?;
                    if !names.insert(name.clone()) {
                        return Some((written(&path), FieldFault::Repeated));
                    }
                }
            }
            b',' => {
                if let Some(Place::Item(index)) = path.last_mut() {
                    *index += 1;
                }
            }
            b'-' | b'0'..=b'9' if is_rounded(token) => return Some((written(&path), FieldFault::RoundedNumber)),
            _ => {}
        }
        rest = after;
    }
    None
}

/// The length of the quoted text that `rest` begins with.
fn text_length(rest: &str) -> usize {
    let mut is_escaped = false;
    let end = rest.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.map_or(rest.len(), |end| end + 2)
}

fn written(path: &[Place]) -> String {
    path.iter().fold(String::new(), |path, place| match place {
        Place::Field { name, .. } if path.is_empty() => name.clone(),
        Place::Field { name, .. } => format!("{path}.{name}"),
        Place::Item(index) => format!("{path}[{index}]"),
    })
}

#[cfg(test)]
mod tests {
    use num_rational::BigRational;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::decimal::tests::oracle;

    fn find_rounded_number(json: &str) -> Option<String> {
        find_fault(json).map(|(path, fault)| {
            assert_eq!(fault, FieldFault::RoundedNumber, "{json}");
            path
        })
    }

    #[test]
    fn a_field_that_is_there_twice_is_found() {
        for (json, path) in [
            (r#"{"a": 1, "b": 2, "a": 1}"#, Some("a")),
            (r#"{"a": {"x": 1}, "b": [{"x": 1}, {"x": 1, "\u0078": 2}]}"#, Some("b[1].x")),
            (r#"{"a": {"a": {"a": 1}}, "b": "a"}"#, None),
            (r#"[{"a": 1}, {"a": 1}]"#, None),
            (r#"{"": 1, "": 2}"#, Some("")),
        ] {
            let found = path.map(|path| (path.to_owned(), FieldFault::Repeated));
            assert_eq!(find_fault(json), found, "{json}");
        }
    }

    #[test]
    fn a_number_that_reads_back_as_another_is_found_with_its_path() {
        for (json, path) in [
            (r#"{"rates": [{"price": 1}, {"price": 0.12345678901234567890}]}"#, "rates[1].price"),
            (r#"{"a": {"b\n\"": [[], {}, [7, 123456789012345678901234567890]]}}"#, "a.b\n\"[2][1]"),
            (r#"[{"é]\\": "1"}, 1e-400]"#, "[1]"),
            (r#"{"price":0.1000000000000000055511151231257827}"#, "price"),
            ("9007199254740993.0", ""),
            ("-18446744073709551617", ""),
        ] {
            assert_eq!(find_rounded_number(json).as_deref(), Some(path), "{json}");
        }
    }

    #[test]
    fn a_number_that_reads_back_as_itself_is_not() {
        for json in [
            r#"{"text": "0.12345678901234567890", "0.12345678901234567890": "\\\"", "n": 0.30000000000000004}"#,
            "[18446744073709551615, -9223372036854775808, 100000000000000000000, 1e300, 4.20e2, 0.100000000000000000000, -0.0, 0e-999]",
            "[0.1, 123456789.012345, true, null, \"\"]",
        ] {
            assert_eq!(find_rounded_number(json), None, "{json}");
        }
    }

    /// The value of a JSON number by arithmetic with numbers of any size.
    fn value(number: &str) -> BigRational {
        let unsigned = number.trim_start_matches('-');
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let size = oracle(whole, fraction, exponent.parse().unwrap());
        if number.starts_with('-') { -size } else { size }
    }

    proptest! {
        #[test]
        fn exactly_the_numbers_that_read_back_as_others_are_found(
            literal in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?",
        ) {
            let json = format!("[{literal}]");
            let read: Value = serde_json::from_str(&json).unwrap();
            let is_same = value(&read[0].to_string()) == value(&literal);
            prop_assert_eq!(find_rounded_number(&json).is_none(), is_same);
        }
    }
}
