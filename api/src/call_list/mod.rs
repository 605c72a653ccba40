//! Call lists: spreadsheets as people send them, read row by row within limits.

mod text;
mod xls;
mod xlsx;

use std::collections::HashMap;

use domain::{Personal, phone};
use serde_json::{Map, Value};

/// Names and cells of one row at most, in bytes: escaped six times over they still fit into an event.
const ROW_MAX_BYTES: usize = 100_000;
/// The field of contact data that holds the extension written after a phone number.
const EXTENSION_NAME: &str = "phone_extension";

/// What a file may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub rows: u32,
    pub columns: u32,
}

/// Why a file is no call list; nothing of it is imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the file is empty")]
    Empty,
    #[error("the file is no spreadsheet that can be read (.csv, .xlsx, .xls): {0}")]
    NoSpreadsheet(String),
    #[error("the file is encrypted")]
    Encrypted,
    #[error("the file has too many {0}")]
    TooMany(&'static str),
    #[error("there is no column phone_number; the columns are: {0}")]
    NoPhoneColumn(String),
    #[error("a column's name holds a NUL character")]
    NulInHeader,
    #[error("the column {0} is there twice")]
    ColumnTwice(&'static str),
}

/// Called with each row's number (the header is row 1) and cells.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(u32, &[String]) -> Result<(), Unreadable>;

/// Reads the rows of the first sheet, whatever kind of file it is; blank rows are left out but keep their number.
pub fn read_rows(bytes: &[u8], limits: Limits, sink: Sink<'_>) -> Result<(), Unreadable> {
    let mut checked = |row: u32, cells: &[String]| {
        if row > limits.rows.saturating_add(1) {
            return Err(Unreadable::TooMany("rows"));
        }
        if cells.len() > limits.columns as usize && cells.iter().skip(limits.columns as usize).any(|cell| !cell.trim().is_empty()) {
            return Err(Unreadable::TooMany("columns"));
        }
        if cells.iter().all(|cell| cell.trim().is_empty()) { Ok(()) } else { sink(row, cells) }
    };
    match bytes {
        [] => Err(Unreadable::Empty),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => xlsx::read(bytes, limits, &mut checked),
        [0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1, ..] => xls::read(bytes, limits, &mut checked),
        _ => text::read(bytes, limits, &mut checked),
    }
}

/// Somebody to call, from one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    pub row: u32,
    /// E.164
    pub phone_number: Personal<String>,
    pub contact_name: Option<Personal<String>>,
    pub contact_data: Personal<Map<String, Value>>,
    pub priority: i32,
}

/// What is wrong with one row, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    pub row: u32,
    pub message: String,
}

/// Which column means what.
struct Columns {
    phone_number: usize,
    contact_name: Option<usize>,
    priority: Option<usize>,
    /// The others, with their names.
    data: Vec<(usize, String)>,
}

impl Columns {
    fn of(header: &[String]) -> Result<Self, Unreadable> {
        if header.iter().any(|cell| cell.contains('\0')) {
            return Err(Unreadable::NulInHeader);
        }
        let names: Vec<String> = header.iter().map(|cell| cell.trim().to_lowercase()).collect();
        let find = |name: &'static str| {
            let mut found = names.iter().enumerate().filter(|(_, n)| *n == name).map(|(i, _)| i);
            let first = found.next();
            if found.next().is_some() { Err(Unreadable::ColumnTwice(name)) } else { Ok(first) }
        };
        let phone_number = find("phone_number")?
            .ok_or_else(|| Unreadable::NoPhoneColumn(header.iter().map(|c| c.trim()).collect::<Vec<_>>().join(", ")))?;
        let contact_name = match find("contact_name")? {
            Some(column) => Some(column),
            None => find("name")?,
        };
        let priority = find("priority")?;
        let known = [Some(phone_number), contact_name, priority];
        let mut seen: HashMap<String, u32> = HashMap::new();
        let data = header.iter().enumerate().filter(|(i, _)| !known.contains(&Some(*i))).map(|(i, cell)| {
            let name = if cell.trim().is_empty() { format!("column {}", i + 1) } else { cell.trim().to_owned() };
            let times = seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(1);
            (i, if *times > 1 { format!("{name} ({times})") } else { name })
        });
        Ok(Self { phone_number, contact_name, priority, data: data.collect() })
    }

    fn contact(&self, row: u32, cells: &[String], region: Option<&str>) -> Result<Contact, RowError> {
        let cell = |i: usize| cells.get(i).map_or("", |cell| cell.trim());
        let fault = |message: String| RowError { row, message };
        let phone_number = phone::parse(cell(self.phone_number), region).map_err(|e| fault(e.to_string()))?;
        let priority = match self.priority.map(cell).unwrap_or_default() {
            "" => 0,
            text => text.parse().map_err(|_| fault("priority is not a whole number".to_owned()))?,
        };
        let contact_name = self.contact_name.map(cell).filter(|name| !name.is_empty()).map(|name| Personal::new(name.to_owned()));
        let size: usize = self.data.iter().map(|(i, name)| name.len() + cell(*i).len()).sum();
        if size > ROW_MAX_BYTES {
            return Err(fault(format!("the row has more than {ROW_MAX_BYTES} bytes")));
        }
        let extension = phone_number.extension.map(|extension| (EXTENSION_NAME.to_owned(), Value::from(extension)));
        let data = self.data.iter().map(|(i, name)| (name.clone(), Value::from(cell(*i))));
        let contact_data = Personal::new(data.chain(extension).collect());
        Ok(Contact { row, phone_number: phone_number.e164.into(), contact_name, contact_data, priority })
    }
}

/// Reads a call list: every row under the header is a contact or an error. National numbers are read in `region`.
pub fn read_contacts(
    bytes: &[u8],
    limits: Limits,
    region: Option<&str>,
    mut each: impl FnMut(Result<Contact, RowError>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut columns: Option<Columns> = None;
    read_rows(bytes, limits, &mut |row, cells| match &columns {
        None => {
            columns = Some(Columns::of(cells)?);
            Ok(())
        }
        Some(_) if cells.iter().any(|cell| cell.contains('\0')) => {
            each(Err(RowError { row, message: "a cell holds a NUL character".to_owned() }))
        }
        Some(columns) => each(columns.contact(row, cells, region)),
    })?;
    if columns.is_none() { Err(Unreadable::Empty) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { rows: 1_000, columns: 20 };

    fn read(bytes: &[u8]) -> Result<(Vec<Contact>, Vec<RowError>), Unreadable> {
        let (mut contacts, mut errors) = (Vec::new(), Vec::new());
        read_contacts(bytes, LIMITS, Some("US"), |row| {
            match row {
                Ok(contact) => contacts.push(contact),
                Err(error) => errors.push(error),
            }
            Ok(())
        })?;
        Ok((contacts, errors))
    }

    #[test]
    fn columns_are_found_whatever_their_case_and_blanks() {
        let (contacts, errors) = read(b"\xef\xbb\xbf Phone_Number ,NAME,Priority,City\n+12025550100,Anna,7,Brno\n").unwrap();
        assert!(errors.is_empty());
        assert_eq!(contacts[0].phone_number.reveal(), "+12025550100");
        assert_eq!(contacts[0].contact_name.as_ref().unwrap().reveal(), "Anna");
        assert_eq!((contacts[0].priority, contacts[0].row), (7, 2));
        assert_eq!(contacts[0].contact_data.reveal()["City"], "Brno");
        assert_eq!(contacts[0].contact_data.reveal().len(), 1);
    }

    #[test]
    fn row_numbers_are_those_of_the_spreadsheet() {
        let text = "phone_number,note\r\n\r\nbad,\"two\nlines\"\r\n\r\n202-555-0101,\r\n,x\r\n202-555-0102,x,\r\n";
        let (contacts, errors) = read(text.as_bytes()).unwrap();
        assert_eq!(contacts.iter().map(|c| c.row).collect::<Vec<_>>(), [5, 7]);
        assert_eq!(errors.iter().map(|e| e.row).collect::<Vec<_>>(), [3, 6]);
    }

    #[test]
    fn an_extension_is_kept_with_the_contact() {
        let (contacts, errors) = read(b"phone_number,city\n202-555-0100 x123,Brno\n\"=\"\"+12025550101\"\"\",Praha\n").unwrap();
        assert!(errors.is_empty(), "{errors:?}");
        let numbers = contacts.iter().map(|c| (c.phone_number.reveal().as_str(), c.contact_data.reveal().get(EXTENSION_NAME)));
        let extension = Value::from("123");
        assert_eq!(numbers.collect::<Vec<_>>(), [("+12025550100", Some(&extension)), ("+12025550101", None)]);
    }

    #[test]
    fn delimiters_and_encodings_are_detected() {
        let text = "phone_number;name\n+12025550100;Мария Петрова\n";
        let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let (windows_1251, ..) = encoding_rs::WINDOWS_1251.encode(text);
        for bytes in [text.as_bytes(), &utf16, &windows_1251, text.replace(';', "\t").as_bytes(), text.replace(';', "|").as_bytes()] {
            let (contacts, _) = read(bytes).unwrap();
            assert_eq!(contacts[0].contact_name.as_ref().unwrap().reveal(), "Мария Петрова");
        }
        let (windows_1252, ..) = encoding_rs::WINDOWS_1252.encode("phone_number,name\n+12025550100,Mary López\n");
        assert_eq!(read(&windows_1252).unwrap().0[0].contact_name.as_ref().unwrap().reveal(), "Mary López");
    }

    #[test]
    fn what_is_no_call_list_is_refused_as_a_whole() {
        assert_eq!(read(b""), Err(Unreadable::Empty));
        assert_eq!(read(b"\n\n"), Err(Unreadable::Empty));
        assert!(matches!(read(b"name,phone\nA,1\n"), Err(Unreadable::NoPhoneColumn(_))));
        assert_eq!(read(b"phone_number,phone_number\n1,2\n"), Err(Unreadable::ColumnTwice("phone_number")));
        assert!(matches!(read(b"PK\x03\x04nonsense"), Err(Unreadable::NoSpreadsheet(_))));
        assert!(matches!(read(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1nonsense"), Err(Unreadable::NoSpreadsheet(_))));
        assert!(matches!(read(b"\x89PNG\r\n\x1a\n\0\0\0"), Err(Unreadable::NoSpreadsheet(_) | Unreadable::NoPhoneColumn(_))));
    }

    #[test]
    fn limits_hold() {
        let rows = format!("phone_number\n{}", "x\n".repeat(1_001));
        assert_eq!(read(rows.as_bytes()), Err(Unreadable::TooMany("rows")));
        let columns = format!("phone_number{}\n", ",x".repeat(20));
        assert_eq!(read(columns.as_bytes()), Err(Unreadable::TooMany("columns")));
    }
}
