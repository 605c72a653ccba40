//! The archive of an `.xlsx`, looked through before it is read.

use std::io::{Cursor, Read};

use super::super::Unreadable;

/// Entries of the archive, bytes of all of them inflated, and of one that is not a sheet.
const ENTRIES_MAX: usize = 2_000;
const INFLATED_MAX_BYTES: u64 = 1 << 30;
const PART_MAX_BYTES: u64 = 200 << 20;
/// Longest stretch of XML without a tag, in bytes: the XML reader holds it in memory.
const XML_TEXT_MAX_BYTES: usize = 1 << 20;
/// Shared strings a workbook may announce; memory is reserved for as many as it says.
const SHARED_STRINGS_MAX: u64 = 5_000_000;

/// Inflates everything once, piece by piece, and refuses what would take too much memory when it is read.
pub(super) fn check_archive(bytes: &[u8]) -> Result<(), Unreadable> {
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
        if name.ends_with(".xml") || name.ends_with(".rels") {
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
