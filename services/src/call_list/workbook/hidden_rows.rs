//! The hidden rows of an `.xlsx`: the library that reads the cells does not report them. Workbook and relationships are read in the same
//! way as the library does, so that both use the same part.

use std::{
    collections::{HashMap, HashSet},
    io::{BufReader, Cursor},
};

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};
use zip::{ZipArchive, read::ZipFile};

use super::super::Unreadable;

/// The parts of an archive that contain sheets.
pub(super) struct Parts<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    /// Names as in the archive, by the name in lower case with `/`.
    names: HashMap<String, String>,
    /// The part of each sheet, in the order of the workbook.
    sheets: Vec<String>,
}

type PartReader<'p, 'a> = Reader<BufReader<ZipFile<'p, Cursor<&'a [u8]>>>>;

fn broken(error: impl std::fmt::Display) -> Unreadable {
    Unreadable::NoSpreadsheet(error.to_string())
}

impl<'a> Parts<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
        let mut names = HashMap::with_capacity(archive.len());
        for name in archive.file_names() {
            let name = name.map_err(broken)?;
            names.insert(name.replace('\\', "/").to_ascii_lowercase(), name.to_string());
        }
        let mut parts = Self { archive, names, sheets: Vec::new() };
        let mut workbook = "xl/workbook.xml".to_owned();
        parts.each_element("_rels/.rels", |element| {
            if attribute(element, "Type").is_some_and(|kind| kind.ends_with("/relationships/officeDocument")) {
                workbook = attribute(element, "Target").unwrap_or_default();
            }
        })?;
        let workbook = workbook.strip_prefix('/').unwrap_or(&workbook).to_owned();
        let (folder, file) = workbook.rfind('/').map_or(("", workbook.as_str()), |at| workbook.split_at(at + 1));
        let mut targets = HashMap::new();
        parts.each_element(&format!("{folder}_rels/{file}.rels"), |element| {
            if let Some(id) = attribute(element, "Id") {
                targets.insert(id, attribute(element, "Target").unwrap_or_default());
            }
        })?;
        let mut sheets = Vec::new();
        parts.each_element(&workbook, |element| {
            if element.local_name().as_ref() == "sheet" {
                let target = attribute(element, "id").and_then(|id| targets.get(&id)).map(String::as_str).unwrap_or_default();
                sheets.push(target.strip_prefix('/').map_or_else(|| format!("{folder}{target}"), str::to_owned));
            }
        })?;
        let mut distinct = HashSet::new();
        if !sheets.iter().all(|sheet| distinct.insert(sheet.to_ascii_lowercase())) {
            return Err(broken("two sheets are the same part"));
        }
        parts.sheets = sheets;
        Ok(parts)
    }

    /// The hidden rows of the sheet with this number, from 0.
    pub fn hidden_rows(&mut self, sheet: usize) -> Result<HiddenRows<'_, 'a>, Unreadable> {
        let part = self.sheets.get(sheet).cloned().unwrap_or_default();
        Ok(HiddenRows { xml: self.part(&part)?, buffer: Vec::new(), next_row: 1, current: None, at_end: false })
    }

    fn part(&mut self, name: &str) -> Result<PartReader<'_, 'a>, Unreadable> {
        let name = self.names.get(&name.to_ascii_lowercase()).map_or(name, String::as_str);
        let part = self.archive.by_name(name).map_err(broken)?;
        let mut xml = Reader::from_reader(BufReader::new(part));
        let config = xml.config_mut();
        config.check_end_names = false;
        config.expand_empty_elements = true;
        Ok(xml)
    }

    fn each_element(&mut self, part: &str, mut each: impl FnMut(&BytesStart<'_>)) -> Result<(), Unreadable> {
        let mut xml = self.part(part)?;
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            match xml.read_event_into(&mut buffer).map_err(broken)? {
                Event::Start(element) => each(&element),
                Event::Eof => return Ok(()),
                _ => {}
            }
        }
    }
}

/// The value of an attribute in any namespace.
fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = element.attributes();
    attributes.with_checks(false);
    let found = attributes.flatten().find(|attribute| attribute.key.local_name().as_ref() == name)?;
    Some(found.normalized_value(XmlVersion::Implicit1_0).map_or_else(|_| found.value.to_string(), |value| value.into_owned()))
}

/// Walks the rows of a sheet once, from the top.
pub(super) struct HiddenRows<'p, 'a> {
    xml: PartReader<'p, 'a>,
    buffer: Vec<u8>,
    /// Number of the next row if it has no number itself.
    next_row: u32,
    /// The row that was read last, and whether it is hidden.
    current: Option<(u32, bool)>,
    at_end: bool,
}

impl HiddenRows<'_, '_> {
    /// Whether a row is hidden or has no height. The caller must ask for rows in ascending order.
    pub fn contains(&mut self, row: u32) -> Result<bool, Unreadable> {
        loop {
            match self.current {
                Some((current, hidden)) if current >= row => return Ok(current == row && hidden),
                _ if self.at_end => return Ok(false),
                _ => self.advance()?,
            }
        }
    }

    fn advance(&mut self) -> Result<(), Unreadable> {
        loop {
            self.buffer.clear();
            match self.xml.read_event_into(&mut self.buffer).map_err(broken)? {
                Event::Start(element) if element.local_name().as_ref() == "row" => {
                    let number = attribute(&element, "r").and_then(|number| number.trim().parse().ok());
                    let row = number.unwrap_or(self.next_row);
                    let is_true = |value: String| matches!(value.as_str(), "1" | "true");
                    let hidden = attribute(&element, "hidden").is_some_and(is_true)
                        || attribute(&element, "ht").is_some_and(|height| height.parse() == Ok(0.0));
                    self.next_row = row.saturating_add(1);
                    self.current = Some((row, hidden));
                    return Ok(());
                }
                Event::End(element) if element.local_name().as_ref() == "sheetData" => break,
                Event::Eof => break,
                _ => {}
            }
        }
        self.at_end = true;
        Ok(())
    }
}
