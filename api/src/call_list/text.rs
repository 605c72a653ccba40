//! Delimited text: encoding and delimiter are detected.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1251, WINDOWS_1252};

use super::{Limits, Sink, Unreadable};

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Text that is looked at to tell the delimiter, in bytes, and records of it.
const SAMPLE_BYTES: usize = 64 << 10;
const SAMPLE_RECORDS: usize = 50;

pub(super) fn read(bytes: &[u8], limits: Limits, sink: Sink<'_>) -> Result<(), Unreadable> {
    let (encoding, mark) = detect(bytes);
    let body = bytes.get(mark..).unwrap_or_default();
    let (text, malformed) = encoding.decode_without_bom_handling(body);
    if malformed {
        return Err(Unreadable::NoSpreadsheet(format!("it is not {} text", encoding.name())));
    }
    // A text never begins with these; pictures, archives and PDFs do.
    if text.chars().take(512).any(|c| c.is_control() && !matches!(c, '\t' | '\r' | '\n' | '\0')) {
        return Err(Unreadable::NoSpreadsheet("it is binary".to_owned()));
    }
    records(text.as_bytes(), delimiter(&text), limits, sink)
}

/// By its mark, else UTF-8 if it is valid, else the Windows code page that its letters fit; and the mark's length.
fn detect(bytes: &[u8]) -> (&'static Encoding, usize) {
    if let Some(marked) = Encoding::for_bom(bytes) {
        return marked;
    }
    if Encoding::utf8_valid_up_to(bytes) == bytes.len() { (UTF_8, 0) } else { (code_page(bytes), 0) }
}

/// Cyrillic words are runs of high bytes; Latin words with accents have single ones among ASCII letters.
fn code_page(bytes: &[u8]) -> &'static Encoding {
    let high = |b: u8| b >= 0xC0 || matches!(b, 0xA8 | 0xB8 | 0xA5 | 0xAA | 0xAF | 0xB2 | 0xB3 | 0xB4 | 0xBA | 0xBF);
    let (mut cyrillic, mut latin) = (0_u64, 0_u64);
    for pair in bytes.windows(2) {
        match (pair.first().copied().unwrap_or_default(), pair.last().copied().unwrap_or_default()) {
            (a, b) if high(a) && high(b) => cyrillic += 1,
            (a, b) if (high(a) && b.is_ascii_alphabetic()) || (a.is_ascii_alphabetic() && high(b)) => latin += 1,
            _ => {}
        }
    }
    if cyrillic > latin { WINDOWS_1251 } else { WINDOWS_1252 }
}

/// The delimiter under which most records are as wide as the first.
fn delimiter(text: &str) -> u8 {
    let sample = text.as_bytes().get(..SAMPLE_BYTES).unwrap_or(text.as_bytes());
    let score = |delimiter: u8| {
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(sample);
        let widths: Vec<_> = reader.byte_records().take(SAMPLE_RECORDS).flatten().map(|record| record.len()).collect();
        let first = widths.first().copied().unwrap_or_default();
        let alike = widths.iter().filter(|width| **width == first).count() * 100 / widths.len().max(1);
        if first < 2 { (0, 0) } else { (alike, first) }
    };
    let best = DELIMITERS.into_iter().rev().max_by_key(|delimiter| score(*delimiter));
    best.filter(|delimiter| score(*delimiter).1 > 1).unwrap_or(b',')
}

/// The records with their row in the spreadsheet. The csv crate leaves blank lines out without a word, so they are counted
/// between the end of one record and the beginning of the next; a record is one row however many lines its quotes hold.
fn records(data: &[u8], delimiter: u8, limits: Limits, sink: Sink<'_>) -> Result<(), Unreadable> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(data);
    let mut record = csv::StringRecord::new();
    let mut row: u32 = 0;
    loop {
        let before = usize::try_from(reader.position().byte()).unwrap_or(usize::MAX);
        if !reader.read_record(&mut record).map_err(|e| Unreadable::NoSpreadsheet(e.to_string()))? {
            return Ok(());
        }
        row = row.saturating_add(1).saturating_add(blank_lines(data, before));
        if record.len() > limits.columns as usize * 2 {
            return Err(Unreadable::TooMany("columns"));
        }
        let cells: Vec<String> = record.iter().map(str::to_owned).collect();
        sink(row, &cells)?;
    }
}

/// Line ends from `at` on before anything else; the rest of a CRLF belongs to the record before.
fn blank_lines(data: &[u8], at: usize) -> u32 {
    let mut rest = data.get(at..).unwrap_or_default();
    if at > 0 && data.get(at - 1) == Some(&b'\r') {
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    let mut lines = 0;
    loop {
        rest = match rest {
            [b'\r', b'\n', rest @ ..] | [b'\r' | b'\n', rest @ ..] => rest,
            _ => return lines,
        };
        lines += 1;
    }
}
