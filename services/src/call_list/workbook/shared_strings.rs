//! The lengths of the shared strings of an `.xls` ([MS-XLS] 2.4.265), without reading their text.

use super::{
    super::Unreadable,
    biff::{broken, u16_at, u32_at},
};

// Flags of a string, from [MS-XLS] 2.5.293.
const HAS_WIDE_CHARACTERS: u8 = 0x01;
const HAS_EXTENSION: u8 = 0x04;
const HAS_FORMATS: u8 = 0x08;
/// Size of the counters before the first string, and of one formatting run, in bytes.
const HEAD_BYTES: usize = 8;
const FORMAT_BYTES: usize = 4;
/// Maximum size of a two-byte character in UTF-8.
const WIDE_CHARACTER_MAX_BYTES: u64 = 3;

/// Maximum size of each string in UTF-8, from the table's record and its continuation records.
pub(super) fn sizes(record: &[u8], continuations: &[&[u8]]) -> Result<Vec<u64>, Unreadable> {
    let data = record.get(HEAD_BYTES..).ok_or_else(broken)?;
    let mut table = Table { data, rest: continuations.iter() };
    let mut sizes = Vec::new();
    while !table.data.is_empty() || table.continues() {
        sizes.push(table.read_size()?);
    }
    Ok(sizes)
}

/// The rest of the table that has not been read.
struct Table<'a> {
    data: &'a [u8],
    rest: std::slice::Iter<'a, &'a [u8]>,
}

impl Table<'_> {
    /// Moves to the next record.
    fn continues(&mut self) -> bool {
        match self.rest.next() {
            Some(next) => {
                self.data = next;
                true
            }
            None => false,
        }
    }

    fn read_size(&mut self) -> Result<u64, Unreadable> {
        if self.data.is_empty() {
            return Ok(0);
        }
        let characters = u16_at(self.data, 0)?;
        let flags = *self.data.get(2).ok_or_else(broken)?;
        let (mut head, mut tail) = (3, 0);
        if flags & HAS_FORMATS != 0 {
            tail += u16_at(self.data, head)? as usize * FORMAT_BYTES;
            head += 2;
        }
        if flags & HAS_EXTENSION != 0 {
            tail += u32_at(self.data, head)? as usize;
            head += 4;
        }
        self.data = self.data.get(head..).ok_or_else(broken)?;
        let size = self.skip_characters(characters as usize, flags & HAS_WIDE_CHARACTERS != 0)?;
        self.skip(tail)?;
        Ok(size)
    }

    /// If a record continues a string, the flags of its characters are repeated there.
    fn skip_characters(&mut self, mut left: usize, mut are_wide: bool) -> Result<u64, Unreadable> {
        let mut size = 0;
        loop {
            let width = if are_wide { 2 } else { 1 };
            let here = left.min(self.data.len() / width);
            let (characters, rest) = self.data.split_at_checked(here * width).ok_or_else(broken)?;
            size += if are_wide {
                here as u64 * WIDE_CHARACTER_MAX_BYTES
            } else {
                // Latin-1: characters from 0x80 take two bytes.
                here as u64 + characters.iter().filter(|character| !character.is_ascii()).count() as u64
            };
            self.data = rest;
            left -= here;
            if left == 0 {
                return Ok(size);
            }
            if !self.continues() {
                return Err(broken());
            }
            let (flags, rest) = self.data.split_first().ok_or_else(broken)?;
            are_wide = flags & HAS_WIDE_CHARACTERS != 0;
            self.data = rest;
        }
    }

    fn skip(&mut self, mut bytes: usize) -> Result<(), Unreadable> {
        while bytes > 0 {
            if self.data.is_empty() && !self.continues() {
                return Err(broken());
            }
            let here = bytes.min(self.data.len());
            self.data = self.data.get(here..).unwrap_or_default();
            bytes -= here;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A string of the table: number of characters, flags and content.
    fn string(characters: u16, flags: u8, content: &[u8]) -> Vec<u8> {
        [&characters.to_le_bytes()[..], &[flags], content].concat()
    }

    #[test]
    fn sizes_are_those_of_the_text_as_utf_8() {
        let strings = [
            string(3, 0, b"abc"),
            string(2, 0, b"a\xE9"),
            string(2, HAS_WIDE_CHARACTERS, b"a\0b\0"),
            // One formatting run and an extension of two bytes.
            string(1, HAS_FORMATS | HAS_EXTENSION, b"\x01\0\x02\0\0\0x1234yz"),
            string(0, 0, b""),
            string(1, 0, b"z"),
        ];
        let record = [&[0; HEAD_BYTES][..], &strings.concat()].concat();
        assert_eq!(sizes(&record, &[]), Ok(vec![3, 3, 6, 1, 0, 1]));
        // Splits: within the first string, where the flags are repeated; between strings, where they are not repeated; within formatting
        // runs.
        let parts = [&b"\0bc"[..], &strings[1..3].concat(), &strings[3][..12], &strings[3][12..], &strings[4..].concat()];
        let first = [&[0; HEAD_BYTES][..], &strings[0][..4]].concat();
        assert_eq!(sizes(&first, &parts), Ok(vec![3, 3, 6, 1, 0, 1]));
        assert_eq!(sizes(&first, &[b"\0b"]), Err(broken()));
        assert_eq!(sizes(&first, &[]), Err(broken()));
        assert_eq!(sizes(&[0; 4], &[]), Err(broken()));
    }
}
