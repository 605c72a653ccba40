//! `.xlsx`, cell by cell: a sheet of one far-out cell takes no more memory than that cell.

use std::io::{Cursor, Read};

use calamine::{DataRef, ExcelDateTime, Reader, SheetType, Xlsx, XlsxError};

use super::{Limits, Sink, Unreadable};

/// Entries of the archive, bytes of all of them inflated, and of one that is not a sheet.
const ENTRIES_MAX: usize = 2_000;
const INFLATED_MAX_BYTES: u64 = 1 << 30;
const PART_MAX_BYTES: u64 = 200 << 20;
/// Longest stretch of XML without a tag, in bytes: the XML reader holds it in memory.
const XML_TEXT_MAX_BYTES: usize = 1 << 20;
/// Shared strings a workbook may announce; memory is reserved for as many as it says.
const SHARED_STRINGS_MAX: u64 = 5_000_000;

pub(super) fn read(bytes: &[u8], limits: Limits, sink: Sink<'_>) -> Result<(), Unreadable> {
    check_archive(bytes)?;
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(unreadable)?;
    let sheets = book.sheets_metadata();
    let sheet = sheets.iter().find(|sheet| sheet.typ == SheetType::WorkSheet).map(|sheet| sheet.name.clone());
    let sheet = sheet.ok_or_else(|| Unreadable::NoSpreadsheet("it has no sheet".to_owned()))?;
    let mut cells = book.worksheet_cells_reader(&sheet).map_err(unreadable)?;
    let mut current: Option<u32> = None;
    let mut row: Vec<String> = Vec::new();
    while let Some(cell) = cells.next_cell().map_err(unreadable)? {
        if matches!(cell.get_value(), DataRef::Empty) {
            continue;
        }
        let (r, column) = cell.get_position();
        if r > limits.rows {
            return Err(Unreadable::TooMany("rows"));
        }
        if column >= limits.columns {
            return Err(Unreadable::TooMany("columns"));
        }
        if current != Some(r) {
            if let Some(done) = current {
                if r < done {
                    return Err(Unreadable::NoSpreadsheet("its rows are out of order".to_owned()));
                }
                sink(done + 1, &row)?;
            }
            current = Some(r);
            row.clear();
        }
        let column = column as usize;
        if row.len() <= column {
            row.resize(column + 1, String::new());
        }
        if let Some(slot) = row.get_mut(column) {
            *slot = text(cell.get_value());
        }
    }
    current.map_or(Ok(()), |done| sink(done + 1, &row))
}

fn unreadable(error: XlsxError) -> Unreadable {
    match error {
        XlsxError::Password => Unreadable::Encrypted,
        error => Unreadable::NoSpreadsheet(error.to_string()),
    }
}

fn text(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Empty => String::new(),
        DataRef::String(text) => text.clone(),
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Float(number) => number_text(*number),
        DataRef::Int(number) => number.to_string(),
        DataRef::Bool(value) => value.to_string(),
        DataRef::DateTime(at) => date_text(at),
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
        DataRef::Error(error) => error.to_string(),
    }
}

/// A number as its digits: 41, not 41.0. Spreadsheets keep 15 significant digits.
#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
pub(super) fn number_text(number: f64) -> String {
    if !number.is_finite() {
        String::new()
    } else if number.fract() == 0.0 && number.abs() < 1e15 {
        (number as i64).to_string()
    } else {
        format!("{number:.14e}").parse::<f64>().unwrap_or(number).to_string()
    }
}

pub(super) fn date_text(at: &ExcelDateTime) -> String {
    if at.is_duration() {
        return number_text(at.as_f64());
    }
    let (year, month, day, hour, minute, second, _) = at.to_ymd_hms_milli();
    if (hour, minute, second) == (0, 0, 0) {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

/// Inflates everything once, piece by piece, and refuses what would take too much memory when it is read.
fn check_archive(bytes: &[u8]) -> Result<(), Unreadable> {
    let broken = |e: zip::result::ZipError| Unreadable::NoSpreadsheet(e.to_string());
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.len() > ENTRIES_MAX {
        return Err(Unreadable::TooMany("parts"));
    }
    let mut total = 0;
    for i in 0..archive.len() {
        let mut part = archive.by_index(i).map_err(broken)?;
        if part.encrypted() {
            return Err(Unreadable::Encrypted);
        }
        let name = part.name().map_err(broken)?.replace('\\', "/").to_ascii_lowercase();
        total += check_part(&mut part, &name, INFLATED_MAX_BYTES - total)?;
    }
    Ok(())
}

fn check_part(part: &mut impl Read, name: &str, rest: u64) -> Result<u64, Unreadable> {
    let limit = if name.contains("/worksheets/") { rest } else { rest.min(PART_MAX_BYTES) };
    let (mut size, mut stretch) = (0_u64, 0_usize);
    let mut carry: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = part.read(&mut buffer).map_err(|e| Unreadable::NoSpreadsheet(e.to_string()))?;
        let Some(piece) = buffer.get(..n).filter(|piece| !piece.is_empty()) else { return Ok(size) };
        size += n as u64;
        if size > limit {
            return Err(Unreadable::TooMany("bytes when inflated"));
        }
        if name.ends_with(".xml") {
            for byte in piece {
                stretch = if *byte == b'<' { 0 } else { stretch + 1 };
                if stretch > XML_TEXT_MAX_BYTES {
                    return Err(Unreadable::TooMany("characters in one cell"));
                }
            }
        }
        if name.ends_with("sharedstrings.xml") {
            carry.extend_from_slice(piece);
            if announced_strings(&carry) > SHARED_STRINGS_MAX {
                return Err(Unreadable::TooMany("shared strings"));
            }
            carry.drain(..carry.len().saturating_sub(256));
        }
    }
}

/// The highest `uniqueCount="…"` in a piece of XML.
fn announced_strings(xml: &[u8]) -> u64 {
    const NAME: &[u8] = b"uniqueCount";
    let values = xml.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).filter_map(|(at, _)| {
        let rest = xml.get(at + NAME.len()..)?.iter().copied();
        let digits = rest.skip_while(|b| b.is_ascii_whitespace() || matches!(b, b'=' | b'"' | b'\'' | b'+')).take_while(u8::is_ascii_digit);
        let digits: String = digits.map(char::from).collect();
        Some(if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) })
    });
    values.max().unwrap_or_default()
}
