use std::io::{Cursor, Write as _};

use rust_xlsxwriter::{ExcelDateTime, Format, Workbook, Worksheet};
use serde_json::{Value, json};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::super::{Contact, Limits, Reading, Source, Unreadable, read_contacts};

const LIMITS: Limits = Limits { rows: 1_000, columns: 20 };

fn read(bytes: &[u8]) -> Result<(Source, Vec<Contact>), Unreadable> {
    let mut contacts = Vec::new();
    let source = read_contacts(bytes, Reading { limits: LIMITS, region: None, phone_column: None }, |row| {
        contacts.push(row.unwrap());
        Ok(())
    })?;
    Ok((source, contacts))
}

fn save(mut book: Workbook) -> Vec<u8> {
    book.save_to_buffer().unwrap()
}

fn times_xlsx() -> Vec<u8> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    let header = ["phone_number", "time", "seconds", "midnight", "duration", "date", "date and time", "share"];
    sheet.write_row(0, 0, header).unwrap();
    sheet.write(1, 0, "+12025550100").unwrap();
    let at = ExcelDateTime::from_ymd(2026, 11, 20).unwrap();
    for (column, number, format) in [
        (1, 9.5 / 24.0, "hh:mm"),
        (2, 34_215.0 / 86_400.0, "h:mm:ss"),
        (3, 0.0, "hh:mm"),
        (4, 26.25 / 24.0, "[h]:mm"),
        (5, at.to_excel(), "yyyy-mm-dd"),
        (6, at.to_excel() + 9.5 / 24.0, "yyyy-mm-dd hh:mm"),
        (7, 0.25, "0%"),
    ] {
        sheet.write_with_format(1, column, number, &Format::new().set_num_format(format)).unwrap();
    }
    save(book)
}

#[test]
fn times_dates_and_durations_are_written_as_people_read_them() {
    let xls = include_bytes!("../../../../tests/fixtures/times.xls");
    let xls_1904 = include_bytes!("../../../../tests/fixtures/times-1904.xls");
    for (what, bytes) in [("xlsx", times_xlsx()), ("xls", xls.to_vec()), ("xls of 1904", xls_1904.to_vec())] {
        let (_, contacts) = read(&bytes).unwrap();
        let expected = json!({
            "time": "09:30",
            "seconds": "09:30:15",
            "midnight": "00:00",
            "duration": "26:15",
            "date": "2026-11-20",
            "date and time": "2026-11-20 09:30",
            "share": "0.25",
        });
        assert_eq!(Value::from(contacts[0].contact_data.reveal().clone()), expected, "{what}");
    }
}

fn write_list(sheet: &mut Worksheet, numbers: std::ops::Range<u32>) {
    sheet.write_row(0, 0, ["phone_number", "name"]).unwrap();
    for (row, number) in (1..).zip(numbers) {
        sheet.write_row(row, 0, [format!("+1202555{number:04}"), format!("Person {row}")]).unwrap();
    }
}

#[test]
fn a_cell_beside_the_header_of_a_sheet_is_stored_under_its_column() {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    write_list(sheet, 100..101);
    sheet.write(1, 3, "beside").unwrap();
    let (_, contacts) = read(&save(book)).unwrap();
    assert_eq!(Value::from(contacts[0].contact_data.reveal().clone()), json!({"column 4": "beside"}));
}

fn sheets_xlsx() -> Vec<u8> {
    let mut book = Workbook::new();
    book.add_worksheet().set_name("Cover").unwrap().write(1, 0, "Call list of November").unwrap();
    write_list(book.add_worksheet().set_name("Old").unwrap().set_hidden(true), 199..200);
    write_list(book.add_worksheet().set_name("Older").unwrap().set_very_hidden(true), 199..200);
    let list = book.add_worksheet().set_name("List").unwrap();
    write_list(list, 101..107);
    list.set_row_hidden(2).unwrap();
    list.set_row_height(4, 0).unwrap();
    list.set_row_hidden(9).unwrap();
    save(book)
}

#[test]
fn the_first_visible_sheet_with_the_column_is_read_without_its_hidden_rows() {
    let xls = include_bytes!("../../../../tests/fixtures/sheets.xls");
    for (what, bytes) in [("xlsx", sheets_xlsx()), ("xls", xls.to_vec())] {
        let (source, contacts) = read(&bytes).unwrap();
        assert_eq!((source.sheet.as_deref(), source.hidden_rows), (Some("List"), 2), "{what}");
        assert_eq!(contacts.iter().map(|contact| contact.row).collect::<Vec<_>>(), [2, 4, 6, 7], "{what}");
        assert_eq!(contacts[1].phone_number.reveal(), "+12025550103");
    }
}

#[test]
fn rows_that_a_filter_hides_are_left_out() {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    write_list(sheet, 100..400);
    sheet.autofilter(0, 0, 300, 1).unwrap();
    let condition = rust_xlsxwriter::FilterCondition::new().add_list_filter("Person 7");
    sheet.filter_column(1, &condition).unwrap();
    let (source, contacts) = read(&save(book)).unwrap();
    assert_eq!((source.hidden_rows, contacts.len(), contacts[0].row), (299, 1, 8));
}

#[test]
fn a_workbook_without_a_list_is_refused_with_its_sheets_and_their_columns() {
    let mut book = Workbook::new();
    book.add_worksheet().set_name("Cover").unwrap().write(0, 0, "Call list of November").unwrap();
    book.add_worksheet().set_name("Data").unwrap().write_row(0, 0, ["Jméno", "Telefonní číslo"]).unwrap();
    write_list(book.add_worksheet().set_name("Old").unwrap().set_hidden(true), 1..2);
    let xls = include_bytes!("../../../../tests/fixtures/no-list.xls");
    for bytes in [save(book), xls.to_vec()] {
        assert_eq!(
            read(&bytes).unwrap_err().to_string(),
            "there is no column phone_number; \"Telefonní číslo\" on the sheet \"Data\" looks like it: name it in the field phone_column, or rename it to phone_number; \
             the columns of the sheet \"Cover\" are: Call list of November; \
             the columns of the sheet \"Data\" are: Jméno, Telefonní číslo; 1 hidden sheet was not read"
        );
    }
}

#[test]
fn columns_far_to_the_right_count_only_if_they_hold_something() {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    write_list(sheet, 100..102);
    sheet.write(0, 16_383, "far").unwrap().write(2, 16_383, "out").unwrap();
    let (_, contacts) = read(&save(book)).unwrap();
    assert_eq!(contacts[1].contact_data.reveal()["far"], "out");
}

#[test]
fn errors_of_formulas_are_no_names() {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    write_list(sheet, 100..102);
    sheet.write_formula(1, 1, rust_xlsxwriter::Formula::new("=NA()").set_result("#N/A")).unwrap();
    let (_, contacts) = read(&save(book)).unwrap();
    assert_eq!(contacts[0].contact_name, None);
    assert!(contacts[1].contact_name.is_some());
}

/// The parts of a workbook with these sheets.
fn hostile_xlsx(sheets: &[&str], shared_strings: &str, sheet: &str) -> Vec<u8> {
    let ids = || (1..).zip(sheets);
    let listed: String = ids().map(|(id, _)| format!(r#"<sheet name="S{id}" sheetId="{id}" r:id="r{id}"/>"#)).collect();
    let office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let related: String =
        ids().map(|(id, part)| format!(r#"<Relationship Id="r{id}" Type="{office}/worksheet" Target="{part}"/>"#)).collect();
    let parts = [
        (
            "_rels/.rels",
            format!(r#"<Relationships><Relationship Id="r" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>"#),
        ),
        ("xl/_rels/workbook.xml.rels", format!("<Relationships>{related}</Relationships>")),
        ("xl/workbook.xml", format!("<workbook><sheets>{listed}</sheets></workbook>")),
        ("xl/sharedStrings.xml", format!("<sst>{shared_strings}</sst>")),
        ("xl/worksheets/sheet1.xml", format!("<worksheet><sheetData>{sheet}</sheetData></worksheet>")),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

const SHEET: &[&str] = &["worksheets/sheet1.xml"];
const HEADER: &str = r#"<row r="1"><c t="str"><v>phone_number</v></c><c t="str"><v>note</v></c></row>"#;

#[track_caller]
fn assert_refused(shared_strings: &str, row: &str, what: &'static str) {
    let bytes = hostile_xlsx(SHEET, shared_strings, &format!("{HEADER}<row r=\"2\">{row}</row>"));
    assert_eq!(read(&bytes), Err(Unreadable::TooMany(what)));
}

/// Some programs write only the height.
#[test]
fn a_row_of_zero_height_is_hidden() {
    let row = |r: u32, attributes: &str| format!(r#"<row r="{r}" {attributes}><c t="str"><v>+1202555010{r}</v></c></row>"#);
    let rows = [row(2, ""), row(3, r#"ht="0" customHeight="1""#), row(4, r#"ht="15""#), row(5, r#"ht="0.0""#)].concat();
    let (source, contacts) = read(&hostile_xlsx(SHEET, "", &format!("{HEADER}{rows}"))).unwrap();
    assert_eq!((source.hidden_rows, contacts.iter().map(|contact| contact.row).collect::<Vec<_>>()), (2, vec![2, 4]));
}

#[test]
fn a_long_text_is_refused_before_it_is_copied_into_every_cell_that_names_it() {
    let cells = r#"<c t="s"><v>0</v></c>"#.repeat(16_384);
    let shared = |length: usize| format!("<si><t>{}</t></si>", "x".repeat(length));
    assert_refused(&shared(1_000_000), &cells, "characters in one cell");
    assert_refused(&shared(32_768), &cells, "characters in one cell");
    assert_refused(&shared(32_767), &cells, "characters in one row");
    let inline = |length: usize| format!(r#"<c t="inlineStr"><is><t>{}</t></is></c>"#, "ř".repeat(length));
    assert_refused("", &inline(32_768), "characters in one cell");
    assert_refused("", &inline(30_000).repeat(20), "characters in one row");
    let bytes = hostile_xlsx(
        SHEET,
        &shared(32_767),
        &format!("{HEADER}<row r=\"2\"><c t=\"str\"><v>+12025550100</v></c><c t=\"s\"><v>0</v></c></row>"),
    );
    assert_eq!(read(&bytes).unwrap().1[0].contact_data.reveal()["note"], "x".repeat(32_767));
}

#[test]
fn a_text_in_many_pieces_is_refused_before_it_is_put_together() {
    let piece = "x".repeat(10_000);
    let runs = format!("<r><t>{piece}</t></r>").repeat(200);
    assert_refused(&format!("<si>{runs}</si>"), "", "characters in one cell");
    assert_refused("", &format!(r#"<c t="inlineStr"><is>{runs}</is></c>"#), "characters in one cell");
    assert_refused("", &format!(r#"<c t="str"><v>{}</v></c>"#, format!("{piece}<!-- -->").repeat(200)), "characters in one cell");
    // End tags that the library ignores.
    let unmatched = format!("</si></is></c><t></is></t>{runs}");
    assert_refused("", &format!(r#"<c t="inlineStr"><t/><is><t></is>{unmatched}</t></is></c>"#), "characters in one cell");
    assert_refused("", &format!(r#"<c t="inlineStr"><x:is><is></is>{unmatched}</x:is></c>"#), "characters in one cell");
}

#[test]
fn xml_that_must_be_held_as_a_whole_is_refused() {
    let long = "<".repeat(2 << 20);
    assert_refused("", &format!("<!--{long}-->"), "characters in one cell");
    assert_refused("", &format!("<![CDATA[{long}]]>"), "characters in one cell");
    assert_refused("", &format!(r#"<c r="{long}"/>"#), "characters in one cell");
    assert_refused(&"<si/>".repeat(5_000_001), "", "shared strings");
    assert_refused(r#"<sst uniqueCount="5000001">"#, "", "shared strings");
    assert_refused(&"<xf/>".repeat(250_001), "", "sheets, names or styles");
}

#[test]
fn a_part_that_is_several_sheets_is_refused() {
    let bytes = hostile_xlsx(&["worksheets/sheet1.xml", "/xl/worksheets/sheet1.xml"], "", HEADER);
    assert_eq!(read(&bytes), Err(Unreadable::NoSpreadsheet("two sheets are the same part".to_owned())));
}
