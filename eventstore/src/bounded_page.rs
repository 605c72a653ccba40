//! Pages of rows that may be long: limited in rows and in bytes, and read from the database a few rows at a time.

/// A page.
#[derive(Debug)]
pub struct BoundedPage<T> {
    pub rows: Vec<T>,
    pub has_more: bool,
}

/// A page that is being read: `while let Some(count) = reader.rows_to_read() { reader.add(…) }`.
pub struct PageReader<T> {
    page: BoundedPage<T>,
    rows_max: usize,
    bytes_max: usize,
    rows_at_once: usize,
    bytes: usize,
    is_complete: bool,
}

impl<T> PageReader<T> {
    /// A page of at most `rows_max` rows. A page that has `bytes_max` bytes gets no further row; it has at least one row.
    pub fn new(rows_max: usize, bytes_max: usize, rows_at_once: usize) -> Self {
        let page = BoundedPage { rows: Vec::new(), has_more: false };
        Self { page, rows_max, bytes_max, rows_at_once, bytes: 0, is_complete: false }
    }

    /// How many rows to read behind [`Self::last`]; `None` when the page is complete. Reading one row more than the page may have shows
    /// whether there are more.
    pub fn rows_to_read(&self) -> Option<usize> {
        (!self.is_complete).then(|| self.rows_at_once.min(self.rows_max + 1 - self.page.rows.len()))
    }

    pub fn last(&self) -> Option<&T> {
        self.page.rows.last()
    }

    /// Adds the rows that were read; if there are fewer than requested, they are the last ones.
    pub fn add(&mut self, rows: Vec<T>, bytes_of: impl Fn(&T) -> usize) {
        self.is_complete = self.rows_to_read().is_none_or(|wanted| rows.len() < wanted);
        for row in rows {
            if self.page.rows.len() == self.rows_max || self.bytes >= self.bytes_max {
                (self.page.has_more, self.is_complete) = (true, true);
                return;
            }
            self.bytes += bytes_of(&row);
            self.page.rows.push(row);
        }
    }

    pub fn into_page(self) -> BoundedPage<T> {
        self.page
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A page of the numbers from `after` to below `count`, each of so many bytes, and how many were read at once.
    fn read(count: usize, rows_max: usize, bytes_max: usize, rows_at_once: usize, bytes: usize) -> (BoundedPage<usize>, Vec<usize>) {
        let (mut reader, mut reads) = (PageReader::new(rows_max, bytes_max, rows_at_once), Vec::new());
        while let Some(wanted) = reader.rows_to_read() {
            let begin = reader.last().map_or(0, |last| last + 1);
            let rows: Vec<_> = (begin..count.min(begin + wanted)).collect();
            reads.push(rows.len());
            reader.add(rows, |_| bytes);
        }
        (reader.into_page(), reads)
    }

    proptest! {
        #[test]
        fn a_page_has_the_first_rows_and_says_whether_there_are_more(
            count in 0..40_usize, rows_max in 1..20_usize, bytes_max in 1..100_usize, rows_at_once in 1..10_usize, bytes in 0..30_usize,
        ) {
            let (page, reads) = read(count, rows_max, bytes_max, rows_at_once, bytes);
            let fit = if bytes == 0 { usize::MAX } else { bytes_max.div_ceil(bytes) };
            let expected = count.min(rows_max).min(fit);
            prop_assert_eq!(&page.rows, &(0..expected).collect::<Vec<_>>());
            prop_assert_eq!(page.has_more, expected < count);
            prop_assert!(reads.iter().all(|rows| *rows <= rows_at_once));
        }
    }
}
