//! Detects the encoding of a text. Excel writes `.csv` in the code page of its Windows: 1250 in Central Europe, 1251 for Cyrillic
//! languages, 1252 in Western countries.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, ISO_8859_2, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252};

use super::super::Unreadable;

const UTF_8_MARK: &[u8] = b"\xEF\xBB\xBF";
/// Size of the sample for detecting an encoding without a byte-order mark, in bytes.
const SAMPLE_BYTES: usize = 1 << 20;
const NEARLY_ALL_PERCENT: usize = 90;
const HALF_PERCENT: usize = 50;

/// A text in which line ends, delimiters and quotes are ASCII bytes; the cells are decoded one by one.
pub(super) struct Decoded<'a> {
    pub data: Cow<'a, [u8]>,
    /// Name of the encoding, as the answer shows it.
    pub name: &'static str,
    /// None for UTF-8.
    code_page: Option<&'static Encoding>,
}

impl Decoded<'_> {
    /// The text of a cell; `None` if its bytes are not valid in this encoding.
    pub fn text<'c>(&self, cell: &'c [u8]) -> Option<Cow<'c, str>> {
        match self.code_page {
            None => std::str::from_utf8(cell).ok().map(Cow::Borrowed),
            Some(code_page) => text_in(code_page, cell),
        }
    }
}

/// `None` if the bytes are not valid in the code page. The WHATWG tables map the undefined bytes to C1 control characters.
fn text_in<'b>(code_page: &'static Encoding, bytes: &'b [u8]) -> Option<Cow<'b, str>> {
    let text = code_page.decode_without_bom_handling_and_without_replacement(bytes)?;
    (!text.chars().any(|c| matches!(c, '\u{80}'..='\u{9F}'))).then_some(text)
}

/// Detects the encoding: by the byte-order mark, else UTF-16 or UTF-8 if the bytes are valid, else the code page that fits the letters. A
/// file is UTF-8 if at least half of its lines with non-ASCII characters are valid UTF-8, so that one damaged line does not change the
/// result for all other lines.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded<'_>, Unreadable> {
    if is_utf_32(bytes) {
        return Err(Unreadable::NoSpreadsheet("its encoding is UTF-32; save it as UTF-8".to_owned()));
    }
    let utf_8 = |data| Decoded { data: Cow::Borrowed(data), name: "UTF-8", code_page: None };
    if bytes.starts_with(UTF_8_MARK) {
        return Ok(utf_8(after_marks(bytes)));
    }
    if let Some(byte_order) = utf_16(bytes) {
        let data = transcode(bytes, byte_order);
        let data = after_marks(&data).to_vec();
        return Ok(Decoded { data: Cow::Owned(data), name: byte_order.name(), code_page: None });
    }
    if std::str::from_utf8(bytes).is_ok() {
        return Ok(utf_8(bytes));
    }
    let (valid, invalid) =
        high_lines(bytes).fold(
            (0_u64, 0_u64),
            |(valid, invalid), line| {
                if std::str::from_utf8(line).is_ok() { (valid + 1, invalid) } else { (valid, invalid + 1) }
            },
        );
    if valid >= invalid {
        return Ok(utf_8(bytes));
    }
    let code_page = code_page(bytes)?;
    Ok(Decoded { data: Cow::Borrowed(bytes), name: code_page.name(), code_page: Some(code_page) })
}

/// Skips byte-order marks. Files that were joined or exported twice have several.
fn after_marks(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(UTF_8_MARK) {
        bytes = rest;
    }
    bytes
}

/// Detects UTF-32 by its mark, or by the zero bytes around each of its first characters. The mark of little-endian UTF-32 begins like that
/// of UTF-16.
fn is_utf_32(bytes: &[u8]) -> bool {
    const LOOKED_AT: usize = 16;
    let (characters, _) = bytes.as_chunks::<4>();
    let begin = characters.get(..LOOKED_AT).unwrap_or(characters);
    let is_little_endian = |character: &[u8; 4]| matches!(character, [1..=0x7F, 0, 0, 0]);
    let is_big_endian = |character: &[u8; 4]| matches!(character, [0, 0, 0, 1..=0x7F]);
    let is_marked = matches!(bytes, [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..]);
    is_marked || (!begin.is_empty() && (begin.iter().all(is_little_endian) || begin.iter().all(is_big_endian)))
}

/// Byte order of a UTF-16 code unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    LittleEndian,
    BigEndian,
}

impl ByteOrder {
    const fn name(self) -> &'static str {
        match self {
            Self::LittleEndian => "UTF-16LE",
            Self::BigEndian => "UTF-16BE",
        }
    }

    const fn unit(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::LittleEndian => u16::from_le_bytes(bytes),
            Self::BigEndian => u16::from_be_bytes(bytes),
        }
    }
}

/// The byte order if the text is UTF-16. A text without a mark is UTF-16 if at least a third of its first characters are ASCII (delimiters,
/// digits, the header) and almost none of them has the opposite byte order.
fn utf_16(bytes: &[u8]) -> Option<ByteOrder> {
    const LOOKED_AT_BYTES: usize = 4 << 10;
    match bytes {
        [0xFF, 0xFE, ..] => return Some(ByteOrder::LittleEndian),
        [0xFE, 0xFF, ..] => return Some(ByteOrder::BigEndian),
        _ => {}
    }
    let (mut units, mut low_zero, mut high_zero) = (0, 0, 0);
    for unit in bytes.get(..LOOKED_AT_BYTES).unwrap_or(bytes).as_chunks::<2>().0 {
        units += 1;
        match unit {
            [0, 0] => return None,
            [0, _] => low_zero += 1,
            [_, 0] => high_zero += 1,
            _ => {}
        }
    }
    let clear = |ascii: usize, other: usize| ascii * 3 >= units && other * 100 <= units;
    match units {
        0 => None,
        _ if clear(high_zero, low_zero) => Some(ByteOrder::LittleEndian),
        _ if clear(low_zero, high_zero) => Some(ByteOrder::BigEndian),
        _ => None,
    }
}

/// Converts UTF-16 to UTF-8. An invalid code unit becomes a byte that is not UTF-8, so that its row is reported as an error.
fn transcode(bytes: &[u8], byte_order: ByteOrder) -> Vec<u8> {
    const NO_CHARACTER: u8 = 0xFF;
    let (units, rest) = bytes.as_chunks::<2>();
    let units = units.iter().map(|unit| byte_order.unit(*unit));
    let mut data = Vec::with_capacity(bytes.len() / 2);
    for character in char::decode_utf16(units) {
        match character {
            Ok(c) => data.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(_) => data.push(NO_CHARACTER),
        }
    }
    if !rest.is_empty() {
        data.push(NO_CHARACTER);
    }
    data
}

fn high_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|b| matches!(b, b'\n' | b'\r')).filter(|line| !line.is_ascii())
}

/// Detects the code page of a text that is not UTF-8. A page is chosen if the detector finds it in the lines that are valid in it, and
/// nearly all lines are valid: a few undefined bytes must not exclude the page for the whole file. If there is no such page, one is chosen
/// in which at least half of the lines are valid.
fn code_page(bytes: &[u8]) -> Result<&'static Encoding, Unreadable> {
    let mut rest = SAMPLE_BYTES;
    let lines: Vec<&[u8]> = high_lines(bytes)
        .take_while(|line| {
            let fits = rest > 0;
            rest = rest.saturating_sub(line.len());
            fits
        })
        .collect();
    let candidates = [WINDOWS_1252, WINDOWS_1250, WINDOWS_1251, ISO_8859_2].map(|page| {
        let readable: Vec<&[u8]> = lines.iter().copied().filter(|line| text_in(page, line).is_some()).collect();
        (page, readable)
    });
    let find = |least_percent: usize| {
        candidates.iter().find(|(page, readable)| {
            let are_enough = !readable.is_empty() && readable.len() * 100 >= lines.len() * least_percent;
            are_enough && central_european(detect(readable), readable) == *page
        })
    };
    let best = find(NEARLY_ALL_PERCENT).or_else(|| find(HALF_PERCENT));
    best.map(|(page, _)| *page).ok_or_else(|| {
        let name = detect(&lines).name();
        Unreadable::NoSpreadsheet(format!("its encoding is not known for sure (it looks like {name}); save it as UTF-8"))
    })
}

fn detect(lines: &[&[u8]]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    for line in lines {
        detector.feed(line, false);
        detector.feed(b"\n", false);
    }
    detector.feed(b"", true);
    detector.guess(None, Utf8Detection::Deny)
}

/// Decides between Windows-1250 and ISO-8859-2. Most letters have the same codes in both, and the detector prefers ISO for Polish. The
/// decision uses the bytes that differ: first the letters that only one of them has, then B9 (`ą` or `š`) and BE (`ľ` or `ž`) with the
/// language of the other letters. If both are inconclusive, the text is Windows-1250, which Excel writes.
fn central_european(guess: &'static Encoding, lines: &[&[u8]]) -> &'static Encoding {
    if guess != WINDOWS_1250 && guess != ISO_8859_2 {
        return guess;
    }
    if Letters::count(lines.iter().copied().flatten()).are_iso_8859_2() { ISO_8859_2 } else { WINDOWS_1250 }
}

/// Counts of the letters that distinguish Windows-1250 from ISO-8859-2, and of letters that identify the language.
#[derive(Default)]
struct Letters {
    /// Š Ś Ť Ž Ź š ś ť ž ź where only Windows-1250 has them.
    windows_1250_only: u64,
    /// Š Ś Ť Ž Ą š ś ť ą where only ISO-8859-2 has them.
    iso_8859_2_only: u64,
    byte_b9: u64,
    byte_be: u64,
    /// Ł ł Ż ż ę Ę ń Ń
    polish: u64,
    /// ř Ř ě Ě ů Ů
    czech: u64,
    /// č Č á Á í Í ý Ý: Czech, Slovak, South Slavic or Hungarian, but not Polish.
    not_polish: u64,
}

impl Letters {
    fn count<'b>(bytes: impl Iterator<Item = &'b u8>) -> Self {
        let mut letters = Self::default();
        for byte in bytes {
            let count = match byte {
                0x8A | 0x8C..=0x8F | 0x9A | 0x9C..=0x9F => &mut letters.windows_1250_only,
                0xA9 | 0xA6 | 0xAB | 0xAE | 0xA1 | 0xB6 | 0xBB | 0xB1 => &mut letters.iso_8859_2_only,
                0xB9 => &mut letters.byte_b9,
                0xBE => &mut letters.byte_be,
                0xA3 | 0xB3 | 0xAF | 0xBF | 0xEA | 0xCA | 0xF1 | 0xD1 => &mut letters.polish,
                0xF8 | 0xD8 | 0xEC | 0xCC | 0xF9 | 0xD9 => &mut letters.czech,
                0xE8 | 0xC8 | 0xE1 | 0xC1 | 0xED | 0xCD | 0xFD | 0xDD => &mut letters.not_polish,
                _ => continue,
            };
            *count += 1;
        }
        letters
    }

    const fn are_iso_8859_2(&self) -> bool {
        if self.windows_1250_only > 0 || self.iso_8859_2_only > 0 {
            return self.iso_8859_2_only > self.windows_1250_only;
        }
        let has_b9_as_s = self.byte_b9 > 0 && self.czech + self.not_polish > self.polish;
        let has_be_as_z = self.byte_be > 0 && self.czech > self.polish;
        has_b9_as_s || has_be_as_z
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CZECH: [&str; 5] = ["Jiří", "Žofie", "Šťastný", "Dvořák", "Kučera"];
    const POLISH: [&str; 5] = ["Łukasz", "Dąbrowska", "Wójcik", "Kamiński", "Zieliński"];
    const SLOVAK: [&str; 5] = ["Ľuboš", "Šťastná", "Kováč", "Žiak", "Ďurica"];
    const HUNGARIAN: [&str; 5] = ["Kovács", "Szűcs", "Tóth", "Erdős", "Zoltán"];
    const RUSSIAN: [&str; 5] = ["Мария", "Иван Петров", "Сидоров", "Ольга", "Анна"];
    const UKRAINIAN: [&str; 5] = ["Олексій", "Ірина", "Шевченко", "Їжак", "Євген"];
    const SPANISH: [&str; 5] = ["María", "José Núñez", "Peña", "Martínez", "Ángel"];
    const GERMAN: [&str; 5] = ["Müller", "Jörg Schäfer", "Weiß", "Günther", "Köhler"];
    const FRENCH: [&str; 5] = ["François", "Hélène", "Benoît", "Zoë", "Noël"];
    const DANISH: [&str; 5] = ["Søren Møller", "Bjørn", "Østergård", "Åse", "Kjær"];

    /// A list that begins with rows in ASCII.
    fn list(names: &[&str]) -> String {
        let ascii = "+420601123456;John Smith;Brno\n".repeat(20);
        let rows: String = names.iter().map(|name| format!("+420602123456;{name};Praha\n")).collect();
        format!("phone_number;name;city\n{ascii}{rows}")
    }

    fn encode(text: &str, encoding: &'static Encoding) -> Vec<u8> {
        let (bytes, _, unmappable) = encoding.encode(text);
        assert!(!unmappable, "{text}");
        bytes.into_owned()
    }

    #[track_caller]
    fn assert_read(names: &[&str], encoding: &'static Encoding) {
        let text = list(names);
        let bytes = encode(&text, encoding);
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.text(&decoded.data).as_deref(), Some(text.as_str()), "{} as {}", encoding.name(), decoded.name);
    }

    #[test]
    fn short_lists_of_names_come_out_as_they_were_written() {
        for names in [CZECH, POLISH, SLOVAK, HUNGARIAN] {
            assert_read(&names, WINDOWS_1250);
            assert_read(&names, ISO_8859_2);
        }
        for names in [RUSSIAN, UKRAINIAN] {
            assert_read(&names, WINDOWS_1251);
        }
        for names in [SPANISH, GERMAN, FRENCH, DANISH] {
            assert_read(&names, WINDOWS_1252);
        }
    }

    #[test]
    fn two_names_or_one_are_enough() {
        for names in [["Łukasz", "Dąbrowska"], ["Tomáš", "Růžičková"], ["Jiří Novák", "Ťapka"]] {
            assert_read(&names, WINDOWS_1250);
            assert_read(&names, ISO_8859_2);
        }
        assert_read(&["Анна"], WINDOWS_1251);
        assert_read(&["Mary López"], WINDOWS_1252);
        assert_read(&["Pat O’Brien"], WINDOWS_1252);
        assert_read(&["pays 5 €"], WINDOWS_1252);
    }

    #[test]
    fn one_damaged_row_does_not_decide_for_the_others() {
        let damaged = |names: &[&str], encoding, row: &[u8]| [&encode(&list(names), encoding), row].concat();
        let utf_8 = damaged(&CZECH, encoding_rs::UTF_8, b"+420602123456;Ji\xF8\xED;x\n");
        assert_eq!(decode(&utf_8).unwrap().name, "UTF-8");
        let spanish = damaged(&[SPANISH, FRENCH].concat(), WINDOWS_1252, b"+420602123456;a\x9Db;x\n");
        let spanish = decode(&spanish).unwrap();
        assert_eq!((spanish.name, spanish.text(b"a\x9Db"), spanish.text(b"Pe\xF1a").as_deref()), ("windows-1252", None, Some("Peña")));
        let czech = damaged(&CZECH, WINDOWS_1250, b"+420602123456;a\x81b;x\n");
        assert_eq!(decode(&czech).unwrap().name, "windows-1250");
    }

    #[test]
    fn utf_16_is_known_with_and_without_a_mark() {
        for names in [RUSSIAN, CZECH] {
            let text = list(&names);
            for (name, unit) in [("UTF-16LE", u16::to_le_bytes as fn(u16) -> [u8; 2]), ("UTF-16BE", u16::to_be_bytes)] {
                for mark in ["", "\u{feff}"] {
                    let bytes: Vec<u8> = mark.encode_utf16().chain(text.encode_utf16()).flat_map(unit).collect();
                    let decoded = decode(&bytes).unwrap();
                    assert_eq!((decoded.name, &decoded.data[..]), (name, text.as_bytes()));
                }
            }
        }
    }

    #[test]
    fn other_encodings_are_refused_by_name() {
        let greek = encode(&list(&["Γιώργος Παπαδόπουλος", "Μαρία Ιωάννου", "Ελένη"]), encoding_rs::WINDOWS_1253);
        let refused = decode(&greek).err().unwrap().to_string();
        assert!(refused.contains("windows-1253") || refused.contains("ISO-8859-7"), "{refused}");
    }
}
