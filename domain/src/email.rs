//! E-mail addresses in a canonical form.

use unicode_normalization::UnicodeNormalization as _;
use unicode_security::{MixedScript as _, skeleton};

use crate::validation::is_invisible;

/// Most bytes of an address and of the part before the `@` (RFC 5321, 4.5.3.1).
const ADDRESS_MAX_BYTES: usize = 254;
const LOCAL_PART_MAX_BYTES: usize = 64;

/// The address in its canonical form: in lower case, composed (NFKC), the domain in the form of DNS (IDNA, UTS 46). `None` for a text that
/// is not an address, and for an address that looks like another one: with invisible characters, with letters of several scripts before the
/// `@`, or with letters that all look like ASCII (UTS 39). Only an e-mail to the address can show whether it exists.
pub fn canonical_email(written: &str) -> Option<String> {
    let text: String = written.trim().nfkc().collect::<String>().to_lowercase().nfkc().collect();
    let (local, host) = text.rsplit_once('@')?;
    let host = idna::domain_to_ascii_strict(host).ok().filter(|host| !host.is_empty())?;
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !is_invisible(c) && c != '@';
    if local.is_empty() || local.len() > LOCAL_PART_MAX_BYTES || !local.chars().all(is_plain) || is_confusable(local) {
        return None;
    }
    let address = format!("{local}@{host}");
    (address.len() <= ADDRESS_MAX_BYTES).then_some(address)
}

fn is_confusable(local: &str) -> bool {
    !local.is_ascii() && (!local.is_single_script() || skeleton(local).all(|c| c.is_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(written: &str, canonical: &str) {
        assert_eq!(canonical_email(written).as_deref(), Some(canonical), "{written}");
        assert_eq!(canonical_email(canonical).as_deref(), Some(canonical), "{canonical} reads as itself");
    }

    #[test]
    fn one_address_has_one_form() {
        reads(" Anna@Example.COM ", "anna@example.com");
        reads("a@b", "a@b");
        reads("anna.nov\u{e1}kov\u{e1}@example.com", "anna.nov\u{e1}kov\u{e1}@example.com");
        reads("anna.nova\u{301}kova\u{301}@example.com", "anna.nov\u{e1}kov\u{e1}@example.com");
        reads("ｆｕｌｌ@example.com", "full@example.com");
        reads("a@bücher.example", "a@xn--bcher-kva.example");
        reads("a@xn--bcher-kva.example", "a@xn--bcher-kva.example");
        reads("\u{212a}elvin@example.com", "kelvin@example.com");
        reads("иван@пример.рф", "иван@xn--e1afmkfd.xn--p1ai");
        reads("o'hara+x_y=z@example.com", "o'hara+x_y=z@example.com");
    }

    #[test]
    fn what_is_no_address_or_looks_like_another_is_refused() {
        for written in [
            "",
            "a",
            "a@",
            "@b",
            "a b@c",
            "a@b@c",
            "a@b..c",
            "a@-b",
            "adm\u{131}n@example.com",
            "a\u{200b}nna@example.com",
            "a\u{202e}nna@example.com",
            "a\u{ad}nna@example.com",
            "\u{440}\u{430}ypal@example.com",
            "\u{441}\u{43e}\u{441}@example.com",
            "a\0@b",
        ] {
            assert_eq!(canonical_email(written), None, "{written:?}");
        }
        assert_eq!(canonical_email(&format!("{}@b", "a".repeat(65))), None);
    }
}
