//! The meaning of the columns of a call list, and the contact of one row.

use std::collections::{HashMap, HashSet};

use domain::{
    Personal,
    phone::{self, PhoneNumber},
};
use serde_json::{Map, Value};

use super::{
    CellError, Cells, Reading, RowError, RowFault, Unreadable,
    header_names::{self, Candidate, PHONE_NUMBER, cut, describe_missing},
};

/// Maximum size of the stored data of one row, in bytes: number, name, and the names and cells of its data. Even if each byte is escaped to
/// six, the row fits into an event.
const ROW_MAX_BYTES: usize = 100_000;
/// The column name under which an extension is stored, if no column has this name.
const EXTENSION: &str = "phone_extension";
/// Values that programs write for a missing name: they are read as no name. The last two are compared without regard to case.
const NO_NAMES: [&str; 3] = ["#N/A", "#REF!", "None"];
const NO_NAMES_IN_ANY_CASE: [&str; 2] = ["null", "nan"];

/// A person to call, from one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    pub row: u32,
    /// E.164
    pub phone_number: Personal<String>,
    pub contact_name: Option<Personal<String>>,
    pub contact_data: Personal<Map<String, Value>>,
    pub priority: i32,
    /// Values that were interpreted differently from their text, or set aside; without personal content.
    pub notes: Vec<String>,
    /// Size of number, name and data.
    pub size_bytes: usize,
}

/// A person to call, as a program sends it.
#[derive(Clone, Debug)]
pub struct NewContact {
    /// In the national form of the campaign's region, or E.164.
    pub phone_number: String,
    pub contact_name: Option<String>,
    pub contact_data: Map<String, Value>,
    pub priority: i32,
}

impl NewContact {
    /// Reads it by the rules of a call list's row.
    pub(crate) fn read(self, row: u32, region: Option<&str>) -> Result<Contact, RowError> {
        let fault = |fault| RowError { row, cell: None, fault };
        let Self { phone_number, contact_name, contact_data: mut data, priority } = self;
        let texts = [Some(phone_number.as_str()), contact_name.as_deref()];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) || holds_nul(&data) {
            return Err(fault(RowFault::NulCharacter));
        }
        let PhoneNumber { e164: phone_number, extension } = phone::parse(&phone_number, region).map_err(|error| RowError {
            row,
            cell: Some(CellError::new(PHONE_NUMBER, &phone_number)),
            fault: RowFault::Phone(error),
        })?;
        let mut notes = Vec::new();
        let name = contact_name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let contact_name = name.and_then(|name| person_name(name, &mut notes));
        if let Some(extension) = extension {
            let taken = data.keys().cloned().collect();
            let key = unless_taken(EXTENSION.to_owned(), &taken);
            notes.push(format!("the phone number's extension is stored as {key:?}"));
            data.insert(key, Value::from(extension));
        }
        let data_bytes = data.iter().map(|(name, value)| name.len() + value.to_string().len()).sum::<usize>();
        let size_bytes = phone_number.len() + name.map_or(0, str::len) + data_bytes;
        if size_bytes > ROW_MAX_BYTES {
            return Err(fault(RowFault::TooLong { max: ROW_MAX_BYTES }));
        }
        Ok(Contact { row, phone_number: phone_number.into(), contact_name, contact_data: Personal::new(data), priority, notes, size_bytes })
    }
}

/// The meaning of each column.
pub(super) struct Columns {
    phone_number: u32,
    /// The header of the column with the phone numbers.
    phone_header: String,
    contact_name: Option<u32>,
    priority: Option<u32>,
    /// The other columns that have a name, by column number.
    data: Vec<(u32, String)>,
    taken: HashSet<String>,
    /// The generated names of columns without a name, for the columns in which some row has a cell.
    unnamed: HashMap<u32, String>,
    /// The name under which the extension of a phone number is stored.
    extension: String,
    /// Whether empty cells are stored as empty texts. Some exports have hundreds of columns that are empty in every row.
    stores_empty: bool,
    /// Notes about columns that are stored under a name other than their header.
    pub notes: Vec<String>,
}

impl Columns {
    pub fn of(header: &Cells, reading: Reading<'_>) -> Result<Self, Unreadable> {
        if header.iter().any(|(_, cell)| cell.contains('\0')) {
            return Err(Unreadable::NulInHeader);
        }
        let names: Vec<(u32, String)> = header.iter().map(|(column, cell)| (column, header_names::lower_case(cell))).collect();
        let phone_column = header_names::lower_case(reading.phone_column.unwrap_or(PHONE_NUMBER));
        let find = |name: &str| {
            let mut found = names.iter().filter(|(_, n)| *n == name).map(|(column, _)| *column);
            let first = found.next();
            if found.next().is_some() { Err(Unreadable::ColumnTwice(cut(name))) } else { Ok(first) }
        };
        let missing = || {
            let candidate = Candidate::new(None, header.iter().map(|(_, cell)| cell));
            Unreadable::NoPhoneColumn { column: reading.phone_column(), detail: describe_missing(&[candidate], 0) }
        };
        let phone_number = find(&phone_column)?.ok_or_else(missing)?;
        // The column of the numbers has no second meaning.
        let find_other = |name: &str| Ok::<_, Unreadable>(find(name)?.filter(|column| *column != phone_number));
        let contact_name = match find_other("contact_name")? {
            Some(column) => Some(column),
            None => find_other("name")?,
        };
        let priority = find_other("priority")?;
        let known = [Some(phone_number), contact_name, priority];
        let others = header.iter().filter(|(column, _)| !known.contains(&Some(*column)));
        let others: Vec<(u32, &str)> = others.map(|(column, name)| (column, header_names::trim(name))).collect();
        let others: Vec<(u32, &str)> = others.into_iter().filter(|(_, name)| !name.is_empty()).collect();
        let taken: HashSet<String> = others.iter().map(|(_, name)| (*name).to_owned()).collect();
        let mut columns = Self {
            phone_number,
            phone_header: cut(header.get(phone_number)),
            contact_name,
            priority,
            data: Vec::with_capacity(others.len()),
            extension: unless_taken(EXTENSION.to_owned(), &taken),
            taken,
            unnamed: HashMap::new(),
            stores_empty: names.len() <= reading.limits.columns as usize,
            notes: Vec::new(),
        };
        columns.note_meanings(&others);
        columns.name_data(&others);
        Ok(columns)
    }

    /// Notes columns that are stored as data although they seem to be the name or the priority.
    fn note_meanings(&mut self, others: &[(u32, &str)]) {
        for (column, name) in others {
            if let Some(meant) = header_names::means_other(name, self.contact_name.is_some(), self.priority.is_some()) {
                let (number, name) = (column + 1, cut(name));
                self.notes.push(format!("Column {number}: {name:?} is stored as data; if it is the {meant}, rename it to {meant}"));
            }
        }
    }

    /// If several columns have the same name, the first one keeps it; each further one gets a name that no other column has.
    fn name_data(&mut self, others: &[(u32, &str)]) {
        let mut next_number: HashMap<&str, u32> = HashMap::new();
        for (column, name) in others {
            let Some(number) = next_number.get_mut(name) else {
                next_number.insert(name, 2);
                self.data.push((*column, (*name).to_owned()));
                continue;
            };
            let free = free_name(name, number, &self.taken);
            let (number, name, stored) = (column + 1, cut(name), cut(&free));
            self.notes.push(format!("Column {number}: another column has the name {name:?}; the values are stored as {stored:?}"));
            self.taken.insert(free.clone());
            self.data.push((*column, free));
        }
    }

    pub fn contact(&mut self, row: u32, cells: &Cells, region: Option<&str>) -> Result<Contact, RowError> {
        let fault = |fault| RowError { row, cell: None, fault };
        let of_cell = |name: &str, column, fault| RowError { row, cell: Some(CellError::new(name, cells.get(column))), fault };
        if cells.iter().any(|(_, cell)| cell.contains('\0')) {
            return Err(fault(RowFault::NulCharacter));
        }
        let read = phone::parse(cells.get(self.phone_number), region);
        let read = read.map_err(|error| of_cell(&self.phone_header, self.phone_number, RowFault::Phone(error)))?;
        let PhoneNumber { e164: phone_number, extension } = read;
        let priority = match self.priority {
            None => 0,
            Some(column) => priority(cells.get(column)).ok_or_else(|| of_cell("priority", column, RowFault::PriorityNotWhole))?,
        };
        let mut notes = Vec::new();
        let name = self.contact_name.map(|column| cells.get(column)).filter(|name| !name.is_empty());
        let contact_name = name.and_then(|name| person_name(name, &mut notes));
        self.name_unnamed(cells);
        let mut data = self.data(cells);
        if let Some(extension) = &extension {
            notes.push(format!("the phone number's extension is stored as {:?}", self.extension));
            data.push((&self.extension, extension));
        }
        let data_bytes = data.iter().map(|(name, cell)| name.len() + cell.len()).sum::<usize>();
        let size_bytes = phone_number.len() + name.map_or(0, str::len) + data_bytes;
        if size_bytes > ROW_MAX_BYTES {
            return Err(fault(RowFault::TooLong { max: ROW_MAX_BYTES }));
        }
        let data = data.into_iter().map(|(name, cell)| (name.to_owned(), Value::from(cell)));
        let contact_data = Personal::new(data.collect());
        Ok(Contact { row, phone_number: phone_number.into(), contact_name, contact_data, priority, notes, size_bytes })
    }

    /// Names the columns without a name in which this row has a cell. A name applies to all rows.
    fn name_unnamed(&mut self, cells: &Cells) {
        for (column, _) in cells.iter() {
            let known = [Some(self.phone_number), self.contact_name, self.priority];
            if !known.contains(&Some(column)) && self.name_of(column).is_none() {
                self.unnamed.insert(column, unless_taken(format!("column {}", column + 1), &self.taken));
            }
        }
    }

    /// The name under which the cells of a column are stored.
    fn name_of(&self, column: u32) -> Option<&str> {
        let named = self.data.binary_search_by_key(&column, |(column, _)| *column).ok().and_then(|at| self.data.get(at));
        named.map(|(_, name)| name).or_else(|| self.unnamed.get(&column)).map(String::as_str)
    }

    /// Names and cells as they are stored: the non-empty cells, and the empty ones if they are stored.
    fn data<'a>(&'a self, cells: &'a Cells) -> Vec<(&'a str, &'a str)> {
        let filled = cells.iter().filter_map(|(column, cell)| Some((self.name_of(column)?, cell)));
        let stored_empty = if self.stores_empty { self.data.as_slice() } else { &[] };
        let empty = stored_empty.iter().filter(|(column, _)| cells.get(*column).is_empty());
        filled.chain(empty.map(|(_, name)| (name.as_str(), ""))).collect()
    }
}

/// The name itself, or the name with a number if another column has it.
fn unless_taken(name: String, taken: &HashSet<String>) -> String {
    if taken.contains(&name) { free_name(&name, &mut 2, taken) } else { name }
}

/// `name (2)`, or the name with the first number from `number` upwards that no column has.
fn free_name(name: &str, number: &mut u32, taken: &HashSet<String>) -> String {
    loop {
        let free = format!("{name} ({number})");
        *number += 1;
        if !taken.contains(&free) {
            return free;
        }
    }
}

/// Whether a name or a text in the data has a NUL character, at any depth.
fn holds_nul(data: &Map<String, Value>) -> bool {
    fn is_in(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(values) => values.iter().any(is_in),
            Value::Object(fields) => holds_nul(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    data.iter().any(|(name, value)| name.contains('\0') || is_in(value))
}

/// A name, unless a program wrote it for a missing one.
fn person_name(name: &str, notes: &mut Vec<String>) -> Option<Personal<String>> {
    if is_no_name(name) {
        notes.push(format!("the name {name:?} is read as no name"));
        return None;
    }
    Some(Personal::new(name.to_owned()))
}

fn is_no_name(name: &str) -> bool {
    NO_NAMES.contains(&name) || NO_NAMES_IN_ANY_CASE.iter().any(|no_name| no_name.eq_ignore_ascii_case(name))
}

/// A whole number, also written as `5.0`; 0 if the cell is empty.
fn priority(text: &str) -> Option<i32> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    };
    if text.is_empty() { Some(0) } else { whole.parse().ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call_list::Limits;

    fn cells(texts: &[&str]) -> Cells {
        let mut cells = Cells::default();
        (0..).zip(texts).for_each(|(column, text)| cells.push(column, text));
        cells
    }

    /// The search for a free name checks all columns: it must not be repeated for every row.
    #[test]
    fn a_column_without_a_name_is_named_once_for_all_rows() {
        let header = cells(&["phone_number", "", "column 2", "column 2 (2)"]);
        let mut columns =
            Columns::of(&header, Reading { limits: Limits { rows: 10, columns: 2 }, region: None, phone_column: None }).unwrap();
        let mut names = || {
            let contact = columns.contact(2, &cells(&["+12025550100", "x"]), None).unwrap();
            // A search after this line would find another name.
            columns.taken.clear();
            contact.contact_data.reveal().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(names(), ["column 2 (3)"]);
        assert_eq!(names(), ["column 2 (3)"]);
    }

    #[test]
    fn a_nul_character_is_found_at_any_depth_and_its_escape_is_text() {
        let read = |data: Value| {
            let contact_data = data.as_object().unwrap().clone();
            NewContact { phone_number: "+12025550143".to_owned(), contact_name: None, contact_data, priority: 0 }.read(1, None)
        };
        for data in [json!({"a": "\0"}), json!({"a": [{"b": "x\0"}]}), json!({"a\0": 1}), json!({"a": {"b\0": null}})] {
            assert_eq!(read(data).unwrap_err().fault, RowFault::NulCharacter);
        }
        let written = json!({"path": "C:\\u0000", "n": 1});
        assert_eq!(Value::Object(read(written.clone()).unwrap().contact_data.reveal().clone()), written);
    }
}
