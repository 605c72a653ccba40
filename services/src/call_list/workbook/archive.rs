//! Checks the archive of an `.xlsx` before it is read: the library that reads it holds some parts in memory regardless of their size.

use std::io::{self, BufReader, Cursor, Read};

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

use super::super::Unreadable;

/// Maximum number of entries in the archive, maximum inflated size of all of them, and of one that is not a sheet, in bytes.
const ENTRIES_MAX: usize = 2_000;
const INFLATED_MAX_BYTES: u64 = 1 << 30;
const PART_MAX_BYTES: u64 = 200 << 20;
/// Maximum size of all parts whose names are not those of XML, such as pictures, in bytes. Only their size is checked.
const OTHER_PARTS_MAX_BYTES: u64 = 64 << 20;
/// Maximum size of one tag, one text or one comment, in bytes: the XML reader holds it in memory.
const XML_EVENT_MAX_BYTES: u64 = 1 << 20;
const XML_BUFFER_BYTES: usize = 64 << 10;
/// Elements whose text the library collects until they end, and the maximum size of one of them in XML, in bytes.
const COLLECTED_ELEMENTS: [&str; 5] = ["si", "is", "t", "v", "definedName"];
const COLLECTED_MAX_BYTES: u64 = 1 << 20;
/// Maximum number of shared strings that a workbook may have or announce; the library reserves memory for the announced number.
const SHARED_STRINGS_MAX: u64 = 5_000_000;
/// Elements that the library stores in lists, and their maximum number in one part.
const LISTED_ELEMENTS: [&str; 8] = ["sheet", "definedName", "Relationship", "xf", "numFmt", "font", "fill", "border"];
const LISTED_MAX: u64 = 250_000;

/// Inflates all entries once, piece by piece, and refuses a file that would need too much memory when it is read.
pub(super) fn check_archive(bytes: &[u8]) -> Result<(), Unreadable> {
    let broken = |e: zip::result::ZipError| Unreadable::NoSpreadsheet(e.to_string());
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.len() > ENTRIES_MAX {
        return Err(Unreadable::TooMany("parts"));
    }
    let (mut total_bytes, mut other_bytes) = (0, 0);
    for i in 0..archive.len() {
        let part = archive.by_index(i).map_err(broken)?;
        if part.encrypted() {
            return Err(Unreadable::Encrypted);
        }
        let name = part.name().map_err(broken)?.replace('\\', "/").to_ascii_lowercase();
        let rest = INFLATED_MAX_BYTES - total_bytes;
        let limit = if name.contains("/worksheets/") { rest } else { rest.min(PART_MAX_BYTES) };
        if name.ends_with(".xml") || name.ends_with(".rels") {
            total_bytes += check_xml(part, limit)?;
        } else {
            let size = check_size(part, limit.min(OTHER_PARTS_MAX_BYTES - other_bytes))?;
            other_bytes += size;
            total_bytes += size;
        }
    }
    Ok(())
}

fn check_size(part: impl Read, limit: u64) -> Result<u64, Unreadable> {
    let mut part = LimitedPart::new(part, limit, u64::MAX);
    match io::copy(&mut part, &mut io::sink()) {
        Ok(size) => Ok(size),
        Err(error) => Err(part.fault.unwrap_or_else(|| Unreadable::NoSpreadsheet(error.to_string()))),
    }
}

/// Reads a part's XML with the settings of the library. Broken XML is accepted here: the library stops at the same place.
fn check_xml(part: impl Read, limit: u64) -> Result<u64, Unreadable> {
    let part = LimitedPart::new(part, limit, XML_EVENT_MAX_BYTES);
    let mut xml = Reader::from_reader(BufReader::with_capacity(XML_BUFFER_BYTES, part));
    let config = xml.config_mut();
    config.check_end_names = false;
    config.expand_empty_elements = true;
    let mut elements = Elements::default();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let event = xml.read_event_into(&mut buffer);
        let position = xml.buffer_position();
        match event {
            Ok(Event::Start(element)) => elements.start(&element, position)?,
            Ok(Event::End(element)) => elements.end(element.name().as_ref()),
            Ok(Event::Eof) | Err(_) => break,
            Ok(_) => {}
        }
        elements.check_collected(position)?;
        xml.get_mut().get_mut().event_bytes = 0;
    }
    let part = xml.into_inner().into_inner();
    part.fault.map_or(Ok(part.total_bytes), Err)
}

/// A part that ends with an error when it, or one event of its XML, exceeds its limit of bytes.
struct LimitedPart<R> {
    part: R,
    total_bytes: u64,
    total_max_bytes: u64,
    /// Number of bytes read since the last event.
    event_bytes: u64,
    event_max_bytes: u64,
    /// Why reading ended.
    fault: Option<Unreadable>,
}

impl<R: Read> LimitedPart<R> {
    fn new(part: R, total_max_bytes: u64, event_max_bytes: u64) -> Self {
        Self { part, total_bytes: 0, total_max_bytes, event_bytes: 0, event_max_bytes, fault: None }
    }
}

impl<R: Read> Read for LimitedPart<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.part.read(buffer).inspect_err(|e| self.fault = Some(Unreadable::NoSpreadsheet(e.to_string())))?;
        self.total_bytes += size as u64;
        self.event_bytes += size as u64;
        if self.total_bytes > self.total_max_bytes {
            self.fault = Some(Unreadable::TooMany("bytes when inflated"));
        } else if self.event_bytes > self.event_max_bytes {
            self.fault = Some(Unreadable::TooMany("characters in one cell"));
        }
        if self.fault.is_some() { Err(io::Error::other("a limit is exceeded")) } else { Ok(size) }
    }
}

/// Counts of the elements of one part.
#[derive(Default)]
struct Elements {
    /// The open elements among [`COLLECTED_ELEMENTS`], by their full names, outermost first. In a malicious file, tags may not match: an
    /// element is closed only by its own end tag, and never earlier than the library regards it as closed.
    collected: Vec<String>,
    /// Start of the outermost of them.
    collected_from: u64,
    shared_strings: u64,
    listed: u64,
}

impl Elements {
    fn start(&mut self, element: &BytesStart<'_>, position: u64) -> Result<(), Unreadable> {
        let name = element.local_name();
        let name: &str = name.as_ref();
        if COLLECTED_ELEMENTS.contains(&name) {
            if self.collected.is_empty() {
                self.collected_from = position;
            }
            self.collected.push(element.name().as_ref().to_owned());
        }
        self.listed += u64::from(LISTED_ELEMENTS.contains(&name));
        self.shared_strings += u64::from(name == "si");
        let announced = if name == "sst" { announced_strings(element) } else { 0 };
        if self.shared_strings.max(announced) > SHARED_STRINGS_MAX {
            return Err(Unreadable::TooMany("shared strings"));
        }
        if self.listed > LISTED_MAX { Err(Unreadable::TooMany("sheets, names or styles")) } else { Ok(()) }
    }

    fn end(&mut self, name: &str) {
        self.collected.pop_if(|open| open == name);
    }

    fn check_collected(&self, position: u64) -> Result<(), Unreadable> {
        let is_too_long = !self.collected.is_empty() && position - self.collected_from > COLLECTED_MAX_BYTES;
        if is_too_long { Err(Unreadable::TooMany("characters in one cell")) } else { Ok(()) }
    }
}

/// The highest `uniqueCount="…"` in a tag.
fn announced_strings(tag: &str) -> u64 {
    const NAME: &str = "uniqueCount";
    let values = tag.match_indices(NAME).filter_map(|(at, _)| {
        let rest = tag.get(at + NAME.len()..)?;
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '"' | '\'' | '+'));
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        Some(if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) })
    });
    values.max().unwrap_or_default()
}
