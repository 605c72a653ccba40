//! The records of an `.xls` ([MS-XLS]). The reader builds whole sheets in memory and trusts the sizes in the file. The records are
//! therefore walked first, and a file with too large sheets or too much text in its cells is refused: the reader copies a shared string
//! into each cell that names it, and a formula that names others becomes longer than its record. The walk also collects the hidden rows.

use std::{
    collections::HashSet,
    io::{Cursor, Read as _},
};

use super::{super::Unreadable, shared_strings};

/// Maximum number of cells in the rectangles from the first to the last used cell, over all sheets: 4 million cells take about 250 MiB.
const GRID_MAX_CELLS: u64 = 4_000_000;
const SHEETS_MAX: usize = 64;
/// Maximum size of the shared strings in the cells of all sheets, in bytes; a string counts once per cell.
const TEXT_MAX_BYTES: u64 = 512 << 20;
/// Maximum size of all formulas as text, in bytes, as estimated from their records; and the maximum length of a record.
const FORMULA_TEXT_MAX_BYTES: u64 = 1 << 30;
const RECORD_MAX_BYTES: usize = 8_224;
/// Size of a formula's record before its tokens. A token of 5 bytes stands for a name; the text of a number is, in relation to its size, as
/// long as a name of this many bytes.
const FORMULA_HEAD_BYTES: usize = 22;
const NAME_TOKEN_BYTES: u64 = 5;
const FORMULA_NAME_BYTES: u64 = 200;
/// Maximum numbers of rows and columns of a sheet in this format.
const ROWS_MAX: u32 = 65_536;
const COLUMNS_MAX: u32 = 256;

pub(super) fn broken() -> Unreadable {
    Unreadable::NoSpreadsheet("its records are broken".to_owned())
}

/// Reads the workbook's stream. The container is validated strictly, so that its chains of sectors are finite.
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

/// Records of a BIFF stream from a given place: type and content.
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

    /// The records that continue the last one.
    fn continuations(&mut self) -> Result<Vec<&'a [u8]>, Unreadable> {
        let mut parts = Vec::new();
        while self.at < self.stream.len() && u16_at(self.stream, self.at)? == CONTINUE {
            parts.extend(self.next()?.map(|(_, content)| content));
        }
        Ok(parts)
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Result<u32, Unreadable> {
    let pair = bytes.get(at..at + 2).and_then(|pair| <[u8; 2]>::try_from(pair).ok());
    pair.map(|pair| u32::from(u16::from_le_bytes(pair))).ok_or_else(broken)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Unreadable> {
    let four = bytes.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
    four.map(u32::from_le_bytes).ok_or_else(broken)
}

// Record types, from [MS-XLS] 2.3.1.
const BOF: u32 = 0x0809;
const EOF: u32 = 0x000A;
const FILE_PASS: u32 = 0x002F;
const BOUND_SHEET: u32 = 0x0085;
const CONTINUE: u32 = 0x003C;
const DEFINED_NAME: u32 = 0x0018;
const SHARED_STRINGS: u32 = 0x00FC;
const DIMENSIONS: u32 = 0x0200;
const ROW: u32 = 0x0208;
const FORMULA: u32 = 0x0006;
const STRING: u32 = 0x0207;
const MUL_RK: u32 = 0x00BD;
const LABEL_SST: u32 = 0x00FD;
const CELLS: [u32; 8] = [FORMULA, 0x0203, 0x0204, 0x00D6, 0x0205, 0x027E, LABEL_SST, MUL_RK];

// Flags of a row, from [MS-XLS] 2.4.221.
const ROW_IS_HIDDEN: u32 = 0x20;
const ROW_HAS_OWN_HEIGHT: u32 = 0x40;

/// Walks the workbook's globals, then each sheet. Returns the hidden rows of each sheet, numbered from 1.
pub(super) fn check(stream: &[u8]) -> Result<Vec<HashSet<u32>>, Unreadable> {
    let mut records = Records { stream, at: 0 };
    let mut sheets = Vec::new();
    let mut texts = Texts { formula_name_bytes: FORMULA_NAME_BYTES, ..Texts::default() };
    while let Some((kind, content)) = records.next()? {
        match kind {
            FILE_PASS if u16_at(content, 0)? != 0 => return Err(Unreadable::Encrypted),
            BOUND_SHEET => {
                sheets.push(u32_at(content, 0)? as usize);
                texts.add_name(content.get(6));
            }
            DEFINED_NAME => texts.add_name(content.get(3)),
            SHARED_STRINGS => texts.shared_string_bytes = shared_strings::sizes(content, &records.continuations()?)?,
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
        cells += span(Records { stream, at }, &mut texts, &mut hidden)?;
        if cells > GRID_MAX_CELLS {
            return Err(Unreadable::TooMany("cells"));
        }
        hidden_rows.push(hidden);
    }
    Ok(hidden_rows)
}

/// Sizes of the texts of the cells when they are read.
#[derive(Default)]
struct Texts {
    /// Size of each shared string.
    shared_string_bytes: Vec<u64>,
    /// Size of the longest name that a formula can refer to.
    formula_name_bytes: u64,
    /// Size over all cells that name a shared string.
    cell_bytes: u64,
    formula_bytes: u64,
}

impl Texts {
    /// Adds a name with this number of characters.
    fn add_name(&mut self, characters: Option<&u8>) {
        let bytes = characters.map_or(0, |characters| u64::from(*characters) * 3);
        self.formula_name_bytes = self.formula_name_bytes.max(bytes);
    }

    fn add_cell(&mut self, shared_string: u32) -> Result<(), Unreadable> {
        self.cell_bytes += self.shared_string_bytes.get(shared_string as usize).copied().unwrap_or_default();
        if self.cell_bytes > TEXT_MAX_BYTES { Err(Unreadable::TooMany("characters in its cells")) } else { Ok(()) }
    }

    fn add_formula(&mut self, record_bytes: usize) -> Result<(), Unreadable> {
        let tokens = record_bytes.saturating_sub(FORMULA_HEAD_BYTES) as u64;
        self.formula_bytes += tokens * self.formula_name_bytes / NAME_TOKEN_BYTES;
        let fits = record_bytes <= RECORD_MAX_BYTES && self.formula_bytes <= FORMULA_TEXT_MAX_BYTES;
        if fits { Ok(()) } else { Err(Unreadable::TooMany("characters in its formulas")) }
    }
}

/// Number of cells in the rectangle that a sheet's used cells span. Adds their texts to `texts` and the sheet's hidden rows to `hidden`.
fn span(mut records: Records<'_>, texts: &mut Texts, hidden: &mut HashSet<u32>) -> Result<u64, Unreadable> {
    let (mut rows, mut columns) = ((u32::MAX, 0), (u32::MAX, 0));
    let mut depth = 0_u32;
    let mut formula = (0, 0);
    while let Some((kind, content)) = records.next()? {
        match kind {
            // Charts inside a sheet are separate sheets.
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
                match kind {
                    FORMULA => {
                        formula = (row, column);
                        texts.add_formula(content.len())?;
                    }
                    LABEL_SST => texts.add_cell(u32_at(content, 6)?)?,
                    _ => {}
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

/// The reader reserves memory for the dimensions in this record.
fn check_dimensions(content: &[u8]) -> Result<(), Unreadable> {
    let (first, last, columns) = match content.len() {
        10 => (u16_at(content, 0)?, u16_at(content, 2)?, u16_at(content, 6)?),
        14 | 16 => (u32_at(content, 0)?, u32_at(content, 4)?, u16_at(content, 10)?),
        _ => return Err(broken()),
    };
    let fits = last <= ROWS_MAX && columns <= COLUMNS_MAX && (last == 0 || first < last);
    if fits { Ok(()) } else { Err(Unreadable::TooMany("rows or columns")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, content: &[u8]) -> Vec<u8> {
        [&(kind as u16).to_le_bytes()[..], &(content.len() as u16).to_le_bytes(), content].concat()
    }

    /// A workbook of one sheet with these records, and one shared string of 30,000 characters.
    fn workbook_stream(sheet: &[u8]) -> Vec<u8> {
        let strings = [&[0; 8][..], &30_000_u16.to_le_bytes(), &[0], &b"x".repeat(30_000)].concat();
        let globals = |sheet_at: u32| {
            let name = [&sheet_at.to_le_bytes()[..], &[0, 0, 1, 0, b'S']].concat();
            [record(BOF, &[0; 16]), record(BOUND_SHEET, &name), record(SHARED_STRINGS, &strings), record(EOF, &[])].concat()
        };
        let sheet_at = globals(0).len() as u32;
        [globals(sheet_at), record(BOF, &[0; 16]), sheet.to_vec(), record(EOF, &[])].concat()
    }

    #[test]
    fn a_long_shared_string_in_many_cells_is_refused() {
        let cell = |row: u16| record(LABEL_SST, &[&row.to_le_bytes()[..], &[0; 8]].concat());
        let cells = |count: u16| workbook_stream(&(0..count).flat_map(cell).collect::<Vec<_>>());
        assert!(check(&cells(1_000)).is_ok());
        assert_eq!(check(&cells(20_000)), Err(Unreadable::TooMany("characters in its cells")));
        // If the same cell is repeated, it is read each time.
        let same = workbook_stream(&cell(0).repeat(20_000));
        assert_eq!(check(&same), Err(Unreadable::TooMany("characters in its cells")));
    }

    #[test]
    fn formulas_that_become_long_texts_are_refused() {
        let formula = |tokens: usize| record(FORMULA, &vec![0; FORMULA_HEAD_BYTES + tokens]);
        let refused = Err(Unreadable::TooMany("characters in its formulas"));
        assert!(check(&workbook_stream(&formula(1_000).repeat(1_000))).is_ok());
        assert_eq!(check(&workbook_stream(&formula(1_000).repeat(30_000))), refused);
        assert_eq!(check(&workbook_stream(&formula(RECORD_MAX_BYTES))), refused);
    }
}
