//! Detects the delimiter of a text.

use crate::call_list::Reading;

use super::{
    encoding::Decoded,
    first_line, is_phone_column,
    records::{Record, Records},
};

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Maximum size of the sample in bytes, and maximum number of records in it.
const SAMPLE_BYTES: usize = 64 << 10;
const SAMPLE_RECORDS: usize = 50;

/// Excel's own hint: `sep=;` as the first line, also in quotes. Excel does not show this line, so it is not a row. Returns the delimiter
/// and the text after the line.
pub(super) fn hint(data: &[u8]) -> Option<(u8, &[u8])> {
    let end = data.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(data.len());
    let (line, rest) = data.split_at_checked(end)?;
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    let (name, value) = line.split_at_checked(4)?;
    let &[delimiter, ref blanks @ ..] = value else { return None };
    if !blanks.iter().all(|b| *b == b' ') {
        return None;
    }
    let rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\r")).or_else(|| rest.strip_prefix(b"\n")).unwrap_or(rest);
    (name.eq_ignore_ascii_case(b"sep=") && DELIMITERS.contains(&delimiter)).then_some((delimiter, rest))
}

/// Properties of the first records under one delimiter.
struct Look {
    delimiter: u8,
    has_phone_number: bool,
    /// Number of cells in the first record.
    width: usize,
    /// Percentage of records with the same number of cells; 0 if that number is one.
    alike_percent: usize,
}

/// The delimiter under which the header has a column `phone_number`. If several or none qualify: the one under which most records have as
/// many cells as the first record.
pub(super) fn detect(data: &[u8], decoded: &Decoded<'_>, reading: Reading<'_>) -> u8 {
    let sample = data.get(..SAMPLE_BYTES).unwrap_or(data);
    let looks = DELIMITERS.map(|delimiter| look(sample, delimiter, decoded, reading));
    let any_has_phone_number = looks.iter().any(|look| look.has_phone_number);
    let possible = looks.iter().rev().filter(|look| look.width > 1 && (look.has_phone_number || !any_has_phone_number));
    possible.max_by_key(|look| (look.alike_percent, look.width)).map_or(b',', |look| look.delimiter)
}

fn look(sample: &[u8], delimiter: u8, decoded: &Decoded<'_>, reading: Reading<'_>) -> Look {
    let mut records = Records::new(sample, delimiter);
    let mut record = Record::default();
    let first_line = first_line(sample, delimiter);
    let is_number = |cell: &[u8]| decoded.text(cell).is_some_and(|cell| is_phone_column(&cell, reading));
    let mut has_phone_number = first_line.iter().any(|cell| is_number(cell));
    let mut widths = Vec::new();
    while widths.len() < SAMPLE_RECORDS && records.read(&mut record).is_ok_and(|there_was_one| there_was_one) {
        if record.is_blank() {
            continue;
        }
        has_phone_number |= widths.is_empty() && record.cells().any(is_number);
        widths.push(record.width());
    }
    // A header with an unclosed quote yields no record.
    let width = widths.first().copied().unwrap_or(first_line.len());
    let alike = widths.iter().filter(|other| **other == width).count();
    let alike_percent = if width < 2 { 0 } else { alike * 100 / widths.len().max(1) };
    Look { delimiter, has_phone_number, width, alike_percent }
}
