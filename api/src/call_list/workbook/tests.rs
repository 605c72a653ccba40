use rust_xlsxwriter::{ExcelDateTime, Format, Workbook, Worksheet};
use serde_json::{Value, json};

use super::super::{Contact, Limits, Reading, Source, Unreadable, read_contacts};

const LIMITS: Limits = Limits { rows: 1_000, columns: 20 };

fn read(bytes: &[u8]) -> Result<(Source, Vec<Contact>), Unreadable> {
    let mut contacts = Vec::new();
    let source = read_contacts(bytes, Reading { limits: LIMITS, region: None }, |row| {
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
            "there is no column phone_number; \"Telefonní číslo\" on the sheet \"Data\" looks like it: rename it to phone_number; \
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
