//! Delimited text. Encoding and delimiter are detected.

mod delimiter;
mod encoding;
mod records;
mod swallowed;
#[cfg(test)]
mod tests;

use domain::phone::to_e164;

use self::{
    encoding::Decoded,
    records::{Record, Records},
    swallowed::{Shape, Swallowed},
};
use super::{Cells, Line, Reading, Sink, Unreadable};
use crate::tables::csv;

/// Size of the sample that distinguishes texts from other files, in bytes, and the maximum percentage of control characters in it.
const BINARY_SAMPLE_BYTES: usize = 4 << 10;
const CONTROL_MAX_PERCENT: usize = 2;
/// The end-of-file character of CP/M and DOS.
const END_OF_FILE: u8 = 0x1A;
/// The note for a row that may contain another row.
const LOOKS_LIKE_A_ROW: &str = "a cell holds several lines, one of which looks like a row";

/// Properties of a text that was read.
pub(super) struct TextSource {
    pub encoding: &'static str,
    pub delimiter: char,
}

pub(super) fn read(bytes: &[u8], reading: Reading<'_>, sink: Sink<'_>) -> Result<TextSource, Unreadable> {
    if let Some(kind) = known_kind(bytes) {
        return Err(Unreadable::NoSpreadsheet(format!("it is {kind}")));
    }
    let decoded = encoding::decode(bytes)?;
    let data = before_end_of_file(&decoded.data);
    if is_binary(data) {
        return Err(Unreadable::NoSpreadsheet("it is binary".to_owned()));
    }
    let (delimiter, data) = delimiter::hint(data).unwrap_or_else(|| (delimiter::detect(data, &decoded, reading), data));
    let is_phone_number = |cell: &[u8]| is_written_phone_number(cell, reading.region);
    let shape_of = |header: &[&[u8]]| Shape {
        delimiter,
        cells: header.len(),
        phone_column: header.iter().position(|cell| decoded.text(cell).is_some_and(|cell| is_phone_column(&cell, reading))),
        is_phone_number: &is_phone_number,
    };
    let mut records = Records::new(data, delimiter);
    let mut record = Record::default();
    let mut shape: Option<Shape<'_>> = None;
    while records.read(&mut record)? {
        if record.is_blank() {
            continue;
        }
        let is_header = shape.is_none();
        // The shape of the header's first line is compared with the header itself.
        let row_shape = shape.get_or_insert_with(|| shape_of(&first_line(data, delimiter)));
        let swallowed = row_shape.most_swallowed(&record, data);
        if swallowed == Swallowed::Rows || (record.has_text_after_quote && !record.multi_line.is_empty()) {
            return Err(Unreadable::StrayQuote { row: record.row });
        }
        let header_cells = if is_header { record.width() } else { row_shape.cells };
        if is_header {
            shape = Some(shape_of(&record.cells().collect::<Vec<_>>()));
        }
        if record.has_text_after_quote {
            sink(record.row, Line::Faulty("text follows a closing quote".to_owned()))?;
            continue;
        }
        if record.cells().skip(header_cells).any(|cell| !cell.trim_ascii().is_empty()) {
            let delimiter = name_of(delimiter);
            let message = format!("has more cells than the header: is a {delimiter} in a cell not quoted?");
            sink(record.row, Line::Faulty(message))?;
            continue;
        }
        let note = (swallowed == Swallowed::Doubtful).then_some(LOOKS_LIKE_A_ROW);
        match decode_cells(&record, &decoded) {
            Some(cells) => sink(record.row, Line::Cells { cells: &cells, note })?,
            None => sink(record.row, Line::Faulty(format!("is not {} text", decoded.name)))?,
        }
    }
    Ok(TextSource { encoding: decoded.name, delimiter: char::from(delimiter) })
}

/// `None` if a cell is not valid in the encoding.
fn decode_cells(record: &Record, decoded: &Decoded<'_>) -> Option<Cells> {
    let mut cells = Cells::default();
    for (column, cell) in (0..).zip(record.cells()) {
        let text = decoded.text(cell)?;
        cells.push(column, csv::unguarded(&text));
    }
    Some(cells)
}

/// The cells of the first line that is not blank, split without regard to quotes.
fn first_line(data: &[u8], delimiter: u8) -> Vec<&[u8]> {
    let mut lines = data.split(|b| matches!(b, b'\r' | b'\n')).map(|line| line.split(|b| *b == delimiter));
    let line = lines.find(|cells| !records::are_blank(cells.clone().map(trim_quotes)));
    line.map_or_else(Vec::new, Iterator::collect)
}

fn trim_quotes(cell: &[u8]) -> &[u8] {
    let start = cell.iter().position(|b| *b != b'"').unwrap_or(cell.len());
    let end = cell.iter().rposition(|b| *b != b'"').map_or(start, |last| last + 1);
    cell.get(start..end).unwrap_or_default()
}

fn is_phone_column(cell: &str, reading: Reading<'_>) -> bool {
    reading.is_phone_column(cell.trim().trim_matches('"'))
}

/// Whether a cell is a valid phone number. A date is not one, although some countries have numbers of eight digits.
fn is_written_phone_number(cell: &[u8], region: Option<&str>) -> bool {
    let Ok(cell) = std::str::from_utf8(cell) else { return false };
    let number = cell.trim().trim_matches(['"', '\'', '=']);
    !is_date(number) && to_e164(number, region).is_ok()
}

/// Whether a text is a date: `2026-11-20`, `20.11.2026`, `11/20/26`. Groups of digits with blanks between them are not a date (`412 34
/// 567`).
fn is_date(text: &str) -> bool {
    let is_shape = |separator: char| {
        let groups: Vec<&str> = text.split(separator).collect();
        let [first, second, third] = groups[..] else { return false };
        let numbers_of = |group: &str| group.bytes().all(|b| b.is_ascii_digit()).then(|| group.parse::<u32>().ok()).flatten();
        let is_day_and_month = |one: &str, other: &str| {
            let (Some(a), Some(b)) = (numbers_of(one), numbers_of(other)) else { return false };
            one.len() <= 2 && other.len() <= 2 && a.min(b) >= 1 && a.min(b) <= 12 && a.max(b) <= 31
        };
        let is_year = |group: &str, lengths: &[usize]| lengths.contains(&group.len()) && numbers_of(group).is_some();
        (is_year(first, &[4]) && is_day_and_month(second, third)) || (is_year(third, &[2, 4]) && is_day_and_month(first, second))
    };
    ['.', '-', '/'].into_iter().any(is_shape)
}

fn name_of(delimiter: u8) -> &'static str {
    match delimiter {
        b';' => "semicolon",
        b'\t' => "tab",
        b'|' => "vertical bar",
        _ => "comma",
    }
}

/// The type of a file that is not a text, by its first bytes.
fn known_kind(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 9] = [
        (b"\x89PNG", "a picture (PNG)"),
        (b"\xFF\xD8\xFF", "a picture (JPEG)"),
        (b"GIF8", "a picture (GIF)"),
        (b"%PDF-", "a PDF document"),
        (b"{\\rtf", "a text document (RTF)"),
        (b"\x1F\x8B", "a gzip archive"),
        (b"7z\xBC\xAF\x27\x1C", "a 7z archive"),
        (b"Rar!\x1A\x07", "a RAR archive"),
        (b"SQLite format 3\0", "a database (SQLite)"),
    ];
    const MARKUP: [&[u8]; 4] = [b"<!doctype", b"<html", b"<table", b"<?xml"];
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
    let begins_with = |tag: &&[u8]| text.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag));
    if MARKUP.iter().any(begins_with) {
        return Some("a web page or XML; save it as .csv or .xlsx");
    }
    KINDS.iter().find(|(begin, _)| bytes.starts_with(begin)).map(|(_, kind)| *kind)
}

/// Whether the data has too many control characters for a text, or one in its first line. Tabs, vertical tabs and form feeds occur in
/// texts; a NUL is an error of its row.
fn is_binary(data: &[u8]) -> bool {
    let is_control = |b: &&u8| (b.is_ascii_control()) && !matches!(b, b'\t' | b'\r' | b'\n' | 0x0B | 0x0C | 0);
    let sample = data.get(..BINARY_SAMPLE_BYTES).unwrap_or(data);
    let first_line = sample.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    first_line.iter().any(|b| is_control(&b)) || sample.iter().filter(is_control).count() * 100 > sample.len() * CONTROL_MAX_PERCENT
}

fn before_end_of_file(data: &[u8]) -> &[u8] {
    let is_end = |b: &u8| matches!(*b, b'\r' | b'\n' | END_OF_FILE);
    let text = data.iter().rposition(|b| !is_end(b)).map_or(0, |last| last + 1);
    let mark = data.iter().skip(text).position(|b| *b == END_OF_FILE);
    data.get(..mark.map_or(data.len(), |mark| text + mark)).unwrap_or(data)
}
