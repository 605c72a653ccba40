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
    // When dialled in Singapore, 009 is a carrier's prefix: the number is one of Belgium or of Afghanistan.
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
    refuses("03012345678.0", Some("DE"), PhoneError::Ambiguous);
    // A number with these zeros is also valid.
    reads("+4930123456000", None, "+4930123456000");
    for raw in ["+4930123456.000", "+4930123456.0", "++4930123456.0", "+4915112345678.0", "3012345.000", "tel:+4930123456.00"] {
        refuses(raw, Some("DE"), PhoneError::Decimal);
    }
    refuses("123456.0", Some("DE"), PhoneError::Decimal);
    for raw in ["4.91511E+12", "4,91511E+12", "2E9", "4.915112345678e12"] {
        refuses(raw, Some("DE"), PhoneError::Decimal);
    }
}

#[test]
fn extensions_are_read() {
    for raw in ["202-555-0100 x123", "(202) 555-0100 (ext. 123)", "202-555-0100 EXT: 123", "+1 202-555-0100;ext=123", "2025550100,,123#"] {
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
    let words = ["n/a", "call me", "call me 2025550100", "Mr Smith 2025550100", "2025550100 Mr Smith", "2025550100 MOBILE", "202 555 Mike"];
    let digits = ["12", "123", "555-0100", "+", "++1", "٠٠", "*67 2025550100", "2025550100%", &"1".repeat(500)];
    for raw in words.into_iter().chain(digits) {
        refuses(raw, Some("US"), PhoneError::Unparsable);
    }
    refuses("601 123 456 mob", Some("CZ"), PhoneError::Unparsable);
    refuses("030 123 SMITH", Some("DE"), PhoneError::Unparsable);
    refuses("2024", Some("DE"), PhoneError::Unparsable);
}

#[test]
fn a_national_number_has_to_be_valid_in_its_region() {
    for (region, numbers) in [
        ("CZ", &["0905 123 456", "02/5012 3456", "6011234567"][..]),
        ("PL", &["0601123456"]),
        ("BR", &["91234-5678"]),
        ("AR", &["15 5123-4567"]),
        ("AU", &["9123 4567"]),
        ("RU", &["8495123456"]),
        ("US", &["1202555010", "1111111111", "0202555010", "2021550100", "0791 234 5606"]),
        ("IT", &["612345678"]),
    ] {
        for raw in numbers {
            assert!(parse(raw, Some(region)).is_err(), "{raw} in {region}: {:?}", parse(raw, Some(region)));
        }
    }
    reads("555-123-4567", Some("US"), "+15551234567");
    reads("1 555 123 4567", Some("CA"), "+15551234567");
    reads("(312) 555-0199", Some("US"), "+13125550199");
    reads("601 123 456", Some("CZ"), "+420601123456");
    reads("+49 1999 1234567", None, "+4919991234567");
}

#[test]
fn e164_has_at_most_fifteen_digits() {
    for region in [None, Some("DE"), Some("AT")] {
        reads("+49 30 12345678901", region, "+493012345678901");
        refuses("+49 30 123456789012", region, PhoneError::Unparsable);
        refuses("0049 30 123456789012", region, PhoneError::Unparsable);
    }
    refuses("030 123456789012", Some("DE"), PhoneError::Unparsable);
}

#[test]
fn an_eight_alone_before_a_number_may_be_a_slip_of_plus_seven() {
    for region in [None, Some("RU"), Some("KZ"), Some("US")] {
        for raw in ["+8 495 123 45 67", "+8-495-123-45-67", "+8(495)1234567", "(+8) 495 123 45 67"] {
            refuses(raw, region, PhoneError::Ambiguous);
        }
        for raw in ["+(8) 495 123-45-67", "++8 495 123 45 67", "+ 8 495 123 45 67", "+8 (0)495 123 45 67", "(+(8)) 495 123 45 67"] {
            refuses(raw, region, PhoneError::Ambiguous);
        }
        for raw in ["008 495 123-45-67", "00 8 495 123-45-67", "00(8) 495 123-45-67", "0 0 8 495 123-45-67"] {
            refuses(raw, region, PhoneError::Ambiguous);
        }
        refuses("495 123-45-67;phone-context=+8", region, PhoneError::Ambiguous);
        reads("+7 495 123 45 67", region, "+74951234567");
        reads("+86 138 0013 8000", region, "+8613800138000");
        reads("+84 951 234 567", region, "+84951234567");
        reads("+84951234567", region, "+84951234567");
        reads("++84 951 234 567", region, "+84951234567");
        reads("0084 951 234 567", region, "+84951234567");
        reads("00 84 951 234 567", region, "+84951234567");
        reads("951 234 567;phone-context=+84", region, "+84951234567");
    }
    refuses("011 8 495 123-45-67", Some("US"), PhoneError::Ambiguous);
    refuses("0011 8 495 123-45-67", Some("AU"), PhoneError::Ambiguous);
    reads("011 84 951 234 567", Some("US"), "+84951234567");
    reads("8 (495) 123-45-67", Some("RU"), "+74951234567");
}

#[test]
fn regions_are_those_with_a_numbering_plan() {
    assert!(["US", "DE", "XK", "TA"].into_iter().all(is_region));
    assert!(!["", "us", "ZZ", "XX", "001", "EU", "USA"].into_iter().any(is_region));
}

#[test]
fn cases_on_which_the_oracle_agreed_are_read_as_before() {
    for line in include_str!("../../testdata/phone_numbers.tsv").lines().filter(|line| !line.starts_with('#')) {
        let [region, text, expected] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let answer = parse(text, Some(region).filter(|region| !region.is_empty()));
        assert_eq!(answer.map_or_else(|_| "!".to_owned(), |number| number.to_string()), expected, "{line}");
    }
}

#[test]
fn a_number_that_begins_with_several_trunk_prefixes_is_refused() {
    for text in ["+4300000000", "004300000000", "+49 00 30 123456"] {
        for region in [None, Some("DE")] {
            assert_eq!(parse(text, region), Err(PhoneError::Unparsable), "{text}");
        }
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
                prop_assert!(number.e164.len() <= 16 && number.e164[1..].bytes().all(|b| b.is_ascii_digit()), "{number}");
                prop_assert_eq!(to_e164(&number.e164, region), Ok(number.e164));
            }
        }
    }
}
