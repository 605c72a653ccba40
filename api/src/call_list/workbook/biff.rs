//! The records of an `.xls` ([MS-XLS]). The reader builds whole sheets in memory and trusts what the file says of their size, so the
//! records are walked first and a file that spans too much is refused. On the way the hidden rows are collected.

use std::{
    collections::HashSet,
    io::{Cursor, Read as _},
};

use super::super::Unreadable;

/// Cells of the rectangle from the first to the last used cell, over all sheets: 4 million take about 250 MiB.
const GRID_MAX_CELLS: u64 = 4_000_000;
const SHEETS_MAX: usize = 64;
/// A sheet of this format has at most so many rows and columns.
const ROWS_MAX: u32 = 65_536;
const COLUMNS_MAX: u32 = 256;

fn broken() -> Unreadable {
    Unreadable::NoSpreadsheet("its records are broken".to_owned())
}

/// The workbook's stream. The container is validated strictly: its chains of sectors have an end.
pub(super) fn workbook(bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut container = cfb::CompoundFile::open_strict(Cursor::new(bytes)).map_err(|e| Unreadable::NoSpreadsheet(e.to_string()))?;
    if container.exists("/EncryptedPackage") {
        return Err(Unreadable::Encrypted);
    }
    let name = ["/Workbook", "/Book"].into_iter().find(|name| container.is_stream(name)).ok_or_else(broken)?;
    let mut stream = container.open_stream(name).map_err(|e| Unreadable::NoSpreadsheet(e.to_string()))?;
    let mut content = Vec::new();
    stream.read_to_end(&mut content).map_err(|e| Unreadable::NoSpreadsheet(e.to_string()))?;
    Ok(content)
}

/// Records of a BIFF stream from a place on: type and content.
struct Records<'a> {
    stream: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    fn next(&mut self) -> Result<Option<(u32, &'a [u8])>, Unreadable> {
        if self.at >= self.stream.len() {
            return Ok(None);
        }
        let (kind, length) = (u16_at(self.stream, self.at)?, u16_at(self.stream, self.at + 2)? as usize);
        let content = self.stream.get(self.at + 4..self.at + 4 + length).ok_or_else(broken)?;
        self.at += 4 + length;
        Ok(Some((kind, content)))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u32, Unreadable> {
    let pair = bytes.get(at..at + 2).and_then(|pair| <[u8; 2]>::try_from(pair).ok());
    pair.map(|pair| u32::from(u16::from_le_bytes(pair))).ok_or_else(broken)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Unreadable> {
    let four = bytes.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
    four.map(u32::from_le_bytes).ok_or_else(broken)
}

// Record types, from [MS-XLS] 2.3.1.
const BOF: u32 = 0x0809;
const EOF: u32 = 0x000A;
const FILE_PASS: u32 = 0x002F;
const BOUND_SHEET: u32 = 0x0085;
const DIMENSIONS: u32 = 0x0200;
const ROW: u32 = 0x0208;
const FORMULA: u32 = 0x0006;
const STRING: u32 = 0x0207;
const MUL_RK: u32 = 0x00BD;
const CELLS: [u32; 8] = [FORMULA, 0x0203, 0x0204, 0x00D6, 0x0205, 0x027E, 0x00FD, MUL_RK];

// Flags of a row, from [MS-XLS] 2.4.221.
const ROW_IS_HIDDEN: u32 = 0x20;
const ROW_HAS_OWN_HEIGHT: u32 = 0x40;

/// Walks the workbook's globals, then each sheet. Gives the hidden rows of each, numbered from 1.
pub(super) fn check(stream: &[u8]) -> Result<Vec<HashSet<u32>>, Unreadable> {
    let mut records = Records { stream, at: 0 };
    let mut sheets = Vec::new();
    while let Some((kind, content)) = records.next()? {
        match kind {
            FILE_PASS if u16_at(content, 0)? != 0 => return Err(Unreadable::Encrypted),
            BOUND_SHEET => sheets.push(u32_at(content, 0)? as usize),
            EOF => break,
            _ => {}
        }
    }
    if sheets.len() > SHEETS_MAX {
        return Err(Unreadable::TooMany("sheets"));
    }
    let mut cells = 0;
    let mut hidden_rows = Vec::with_capacity(sheets.len());
    for at in sheets {
        if at >= stream.len() {
            return Err(broken());
        }
        let mut hidden = HashSet::new();
        cells += span(Records { stream, at }, &mut hidden)?;
        if cells > GRID_MAX_CELLS {
            return Err(Unreadable::TooMany("cells"));
        }
        hidden_rows.push(hidden);
    }
    Ok(hidden_rows)
}

/// Cells of the rectangle that a sheet's used cells span. Adds its hidden rows to `hidden`.
fn span(mut records: Records<'_>, hidden: &mut HashSet<u32>) -> Result<u64, Unreadable> {
    let (mut rows, mut columns) = ((u32::MAX, 0), (u32::MAX, 0));
    let mut depth = 0_u32;
    let mut formula = (0, 0);
    while let Some((kind, content)) = records.next()? {
        match kind {
            // Charts inside the sheet are sheets of their own.
            BOF => depth += 1,
            EOF if depth <= 1 => break,
            EOF => depth -= 1,
            _ if depth > 1 => {}
            DIMENSIONS => check_dimensions(content)?,
            ROW if content.len() >= 14 => {
                let (row, height, flags) = (u16_at(content, 0)?, u16_at(content, 6)? & 0x7FFF, u16_at(content, 12)?);
                if flags & ROW_IS_HIDDEN != 0 || (height == 0 && flags & ROW_HAS_OWN_HEIGHT != 0) {
                    hidden.insert(row + 1);
                }
            }
            STRING => note(&mut rows, &mut columns, formula.0, formula.1, formula.1)?,
            _ if CELLS.contains(&kind) && content.len() >= 6 => {
                let (row, column) = (u16_at(content, 0)?, u16_at(content, 2)?);
                let last = if kind == MUL_RK { u16_at(content, content.len() - 2)? } else { column };
                if kind == FORMULA {
                    formula = (row, column);
                }
                note(&mut rows, &mut columns, row, column, last)?;
            }
            _ => {}
        }
    }
    if rows.0 == u32::MAX {
        return Ok(0);
    }
    Ok(u64::from(rows.1 - rows.0 + 1) * u64::from(columns.1 - columns.0 + 1))
}

fn note(rows: &mut (u32, u32), columns: &mut (u32, u32), row: u32, first: u32, last: u32) -> Result<(), Unreadable> {
    if last >= COLUMNS_MAX || first > last {
        return Err(Unreadable::TooMany("columns"));
    }
    *rows = (rows.0.min(row), rows.1.max(row));
    *columns = (columns.0.min(first), columns.1.max(last));
    Ok(())
}

/// The reader reserves memory for what this record says.
fn check_dimensions(content: &[u8]) -> Result<(), Unreadable> {
    let (first, last, columns) = match content.len() {
        10 => (u16_at(content, 0)?, u16_at(content, 2)?, u16_at(content, 6)?),
        14 | 16 => (u32_at(content, 0)?, u32_at(content, 4)?, u16_at(content, 10)?),
        _ => return Err(broken()),
    };
    let fits = last <= ROWS_MAX && columns <= COLUMNS_MAX && (last == 0 || first < last);
    if fits { Ok(()) } else { Err(Unreadable::TooMany("rows or columns")) }
}
