//! Reads `region<TAB>text` lines from stdin (no region: an empty field) and prints the number of each, `+12025550100[;ext=7]`, or `!error`.
//! `tests/phone_numbers/run` compares the answers with those of Google's libphonenumber.

use std::io::{self, BufRead, BufWriter, Write};

use domain::phone;

fn main() -> io::Result<()> {
    let mut answers = BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (region, text) = line.split_once('\t').unwrap_or(("", &line));
        match phone::parse(text, Some(region).filter(|region| !region.is_empty())) {
            Ok(number) => writeln!(answers, "{number}")?,
            Err(error) => writeln!(answers, "!{error}")?,
        }
    }
    answers.flush()
}
