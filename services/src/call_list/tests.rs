use super::*;

pub(super) const LIMITS: Limits = Limits { rows: 1_000, columns: 20 };

pub(super) fn read(bytes: &[u8]) -> Result<(Vec<Contact>, Vec<RowError>), Unreadable> {
    let (mut contacts, mut errors) = (Vec::new(), Vec::new());
    read_contacts(bytes, Reading { limits: LIMITS, region: Some("US"), phone_column: None }, |row| {
        match row {
            Ok(contact) => contacts.push(contact),
            Err(error) => errors.push(error),
        }
        Ok(())
    })?;
    Ok((contacts, errors))
}

pub(super) fn unreadable(row: u32, detail: &str) -> RowError {
    RowError { row, cell: None, fault: RowFault::Unreadable { detail: detail.to_owned() } }
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
fn the_column_of_the_numbers_can_be_named() {
    let read = |text: &str, phone_column| {
        let (mut contacts, mut errors) = (Vec::new(), Vec::new());
        let reading = Reading { limits: LIMITS, region: Some("US"), phone_column: Some(phone_column) };
        let read = read_contacts(text.as_bytes(), reading, |row| {
            match row {
                Ok(contact) => contacts.push(contact),
                Err(error) => errors.push(error),
            }
            Ok(())
        });
        read.map(|_| (contacts, errors))
    };
    let text = "phone_number;Mobil 2;name\n111;+12025550100;Anna\n;x;Ben\n";
    let (contacts, errors) = read(text, " MOBIL 2").unwrap();
    assert_eq!(contacts[0].phone_number.reveal(), "+12025550100");
    assert_eq!(contacts[0].contact_data.reveal()["phone_number"], "111", "a column like any other");
    let cell = Some(CellError { column: "Mobil 2".to_owned(), value: "x".to_owned() });
    assert_eq!(errors, [RowError { row: 3, cell, fault: RowFault::Phone(domain::phone::PhoneError::Unparsable) }]);
    let (contacts, _) = read("name,contact_name\n+12025550100,Anna\n", "name").unwrap();
    assert_eq!(contacts[0].contact_name.as_ref().unwrap().reveal(), "Anna");
    assert!(read("name,priority\n+12025550100,5\n", "name").unwrap().0[0].contact_name.is_none(), "a number is no name");
    let missing = read(text, "Phone").unwrap_err().to_string();
    assert!(missing.starts_with("there is no column Phone; "), "{missing}");
    assert_eq!(read("a,A,b\n1,2,3\n", "a").unwrap_err(), Unreadable::ColumnTwice("a".to_owned()));
}

#[test]
fn row_numbers_are_those_of_the_spreadsheet() {
    let text = "phone_number,note\r\n\r\nbad,\"two\nlines\"\r\n\r\n202-555-0101,\r\n,x\r\n202-555-0102,x,\r\n";
    let (contacts, errors) = read(text.as_bytes()).unwrap();
    assert_eq!(contacts.iter().map(|c| c.row).collect::<Vec<_>>(), [5, 7]);
    assert_eq!(errors.iter().map(|e| e.row).collect::<Vec<_>>(), [3, 6]);
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
fn an_extension_is_stored_with_the_contact_and_reported() {
    let (contacts, errors) = read(b"phone_number,phone_extension\n+1 202-555-0100 x7,main desk\n+12025550101,\n").unwrap();
    assert!(errors.is_empty());
    assert_eq!(contacts[0].phone_number.reveal(), "+12025550100");
    let data = contacts[0].contact_data.reveal();
    assert_eq!(data["phone_extension"], "main desk", "the column of the list keeps its value");
    let stored: Vec<_> = data.iter().filter(|(_, value)| **value == "7").map(|(name, _)| name.as_str()).collect();
    assert_eq!(stored.len(), 1);
    assert_eq!(contacts[0].notes, [format!("the phone number's extension is stored as {:?}", stored[0])]);
    assert!(contacts[1].notes.is_empty());
}

#[test]
fn what_is_no_call_list_is_refused_as_a_whole() {
    assert_eq!(read(b""), Err(Unreadable::Empty));
    assert_eq!(read(b"\n\n"), Err(Unreadable::Empty));
    assert!(matches!(read(b"name,phone\nA,1\n"), Err(Unreadable::NoPhoneColumn { .. })));
    assert_eq!(read(b"phone_number,phone_number\n1,2\n"), Err(Unreadable::ColumnTwice("phone_number".to_owned())));
    assert!(matches!(read(b"PK\x03\x04nonsense"), Err(Unreadable::NoSpreadsheet(_))));
    assert!(matches!(read(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1nonsense"), Err(Unreadable::NoSpreadsheet(_))));
}

#[test]
fn other_kinds_of_files_are_refused_by_their_name() {
    for (bytes, kind) in [
        (&b"\x89PNG\r\n\x1a\n\0\0\0"[..], "PNG"),
        (b"%PDF-1.7\nphone_number\n", "PDF"),
        (b"\x1F\x8B\x08\0\0", "gzip"),
        (b"<html><table><tr><td>phone_number", "web page"),
        (b"phone\x01\x02\x03\x04\n\x05\x06\x07", "binary"),
    ] {
        let refused = read(bytes).unwrap_err();
        assert!(matches!(&refused, Unreadable::NoSpreadsheet(why) if why.contains(kind)), "{refused}");
    }
}

#[test]
fn limits_hold() {
    let rows = format!("phone_number\n{}", "x\n".repeat(1_001));
    assert_eq!(read(rows.as_bytes()), Err(Unreadable::TooMany("rows")));
    let columns = format!("phone_number{0}\n1{0}\n", ",x".repeat(20));
    assert_eq!(read(columns.as_bytes()), Err(Unreadable::TooMany("columns")));
    let spread: String = (0..20).map(|i| format!("1,{}x\n", ",".repeat(i))).collect();
    assert_eq!(
        read(format!("phone_number{}\n{spread}", ",".repeat(20)).as_bytes()),
        Err(Unreadable::TooMany("columns")),
        "each row has two"
    );
    let cells = format!("phone_number\n1{}\n", ",".repeat(20_000));
    assert_eq!(read(cells.as_bytes()), Err(Unreadable::TooMany("columns")), "none of them holds anything");
}

#[test]
fn columns_that_hold_nothing_do_not_count() {
    let names: String = (0..260).map(|i| format!(",property {i}")).collect();
    for header in [names.as_str(), &",".repeat(260)] {
        let text = format!("phone_number{header}\n+12025550100{}x{}\n", ",".repeat(100), ",".repeat(160));
        let (contacts, errors) = read(text.as_bytes()).unwrap();
        assert!(errors.is_empty(), "{errors:?}");
        let data = contacts[0].contact_data.reveal();
        assert_eq!((data.len(), data.values().next().unwrap().as_str()), (1, Some("x")), "{data:?}");
    }
}

#[test]
fn a_row_that_is_wider_than_the_header_is_an_error() {
    let text = "id,name,work,phone_number\n1,Smith, John,+12025550100,+12025550101\n2,\"Smith, John\",,+12025550102\n\
                3, \"Smith, John\",+12025550103,+12025550104\n4,A,,+12025550105,, ,\n";
    let (contacts, errors) = read(text.as_bytes()).unwrap();
    let message = "has more cells than the header: is a comma in a cell not quoted?";
    assert_eq!(errors, [2, 4].map(|row| unreadable(row, message)));
    assert_eq!(contacts.iter().map(|contact| contact.row).collect::<Vec<_>>(), [3, 5]);
    let (contacts, errors) = read(b"phone_number;;\n+12025550100;a;b\n+12025550101;a;b;c\n").unwrap();
    assert_eq!(contacts[0].contact_data.reveal()["column 3"], "b");
    assert!(errors[0].fault.to_string().contains("is a semicolon in a cell"), "{errors:?}");
}

#[test]
fn invisible_characters_around_headers_are_left_out() {
    let text = "\u{200B}phone\u{200B}_number\u{200B},\u{200B}name,city\u{200B},\u{200B}\n+12025550100,Ada,Brno,x\n";
    let (contacts, errors) = read(text.as_bytes()).unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(contacts[0].contact_name.as_ref().unwrap().reveal(), "Ada");
    assert_eq!(serde_json::Value::from(contacts[0].contact_data.reveal().clone()), serde_json::json!({"city": "Brno", "column 4": "x"}));
}

#[test]
fn utf_32_is_refused_by_its_name() {
    for mark in ["", "\u{feff}"] {
        for unit in [u32::to_le_bytes as fn(u32) -> [u8; 4], u32::to_be_bytes] {
            let text = format!("{mark}phone_number,name\n+12025550100,Jiří\n");
            let bytes: Vec<u8> = text.chars().flat_map(|c| unit(c.into())).collect();
            let refused = read(&bytes).unwrap_err().to_string();
            assert!(refused.contains("UTF-32"), "{refused}");
        }
    }
}

#[test]
fn rows_that_are_not_in_the_encoding_are_errors_and_the_others_are_read() {
    let rows = |names: &[&str]| names.iter().map(|name| format!("+12025550100,{name}\n")).collect::<String>();
    let text = format!("phone_number,name\n{}", rows(&["John", "Jiří", "Žofie", "Šťastný", "Łukasz"]));
    let bytes = [text.as_bytes(), b"+12025550101,Ji\xF8\xED\n+12025550102,Anna\n"].concat();
    let (contacts, errors) = read(&bytes).unwrap();
    assert_eq!(errors, [unreadable(7, "is not UTF-8 text")]);
    assert_eq!(contacts.len(), 6);
    let names = ["María", "José Núñez", "Peña", "Martínez", "Ángel"].repeat(2);
    let text = format!("phone_number,name\n{}", rows(&names));
    let (windows_1252, ..) = encoding_rs::WINDOWS_1252.encode(&text);
    let (contacts, errors) = read(&[&windows_1252[..], b"+12025550101,a\x9D\n"].concat()).unwrap();
    assert_eq!(errors, [unreadable(12, "is not windows-1252 text")]);
    assert_eq!(contacts.iter().map(|c| c.contact_name.as_ref().unwrap().reveal().as_str()).collect::<Vec<_>>(), names);
    let utf_16: Vec<u8> = "\u{feff}phone_number\n+12025550100".encode_utf16().flat_map(u16::to_le_bytes).chain([0xD8]).collect();
    assert_eq!(read(&utf_16).unwrap().1, [unreadable(2, "is not UTF-16LE text")]);
}

#[test]
fn the_hint_of_excel_is_obeyed_and_counts_as_no_row() {
    for hint in ["sep=;\n", "\u{feff}sep=;\r\n", "\"sep=;\"\n", "SEP=; \n"] {
        let text = format!("{hint}phone_number;a,b\n+12025550100;1,2\nbad;3\n");
        let (contacts, errors) = read(text.as_bytes()).unwrap();
        assert_eq!((contacts[0].row, errors[0].row), (2, 3), "{hint}");
        assert_eq!(contacts[0].contact_data.reveal()["a,b"], "1,2");
    }
    for delimiter in [",", "|", "\t"] {
        let text = format!("sep={delimiter}\nphone_number{delimiter}name\n+12025550100{delimiter}Anna\n");
        assert_eq!(read(text.as_bytes()).unwrap().0[0].contact_name.as_ref().unwrap().reveal(), "Anna");
    }
    let utf_16: Vec<u8> = "\u{feff}sep=;\nphone_number;name\n+12025550100;Ána".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(read(&utf_16).unwrap().0[0].row, 2);
}

#[test]
fn the_delimiter_that_shows_the_column_wins() {
    let text = "a,b,c;phone_number\n1,2,3;+12025550100\n4,5,6;+12025550101\n";
    let (contacts, errors) = read(text.as_bytes()).unwrap();
    assert!(errors.is_empty() && contacts.len() == 2, "{errors:?}");
    assert_eq!(contacts[1].contact_data.reveal()["a,b,c"], "4,5,6");
}

#[test]
fn columns_of_the_same_name_all_keep_their_values() {
    let mut source = Source::default();
    let mut stored = Vec::new();
    let text = b"phone_number,note,note,note (2),,column 5,note,\n+12025550100,a,b,c,d,e,f,g\n";
    for_each(text, |row| stored.push(row.unwrap().contact_data.reveal().clone()), &mut source);
    let expected = serde_json::json!(
        {"note": "a", "note (3)": "b", "note (2)": "c", "column 5 (2)": "d", "column 5": "e", "note (4)": "f", "column 8": "g"}
    );
    assert_eq!(serde_json::Value::from(stored.remove(0)), expected);
    assert_eq!(source.notes.len(), 2);
    assert_eq!(source.notes[0], "Column 3: another column has the name \"note\"; the values are stored as \"note (3)\"");
}

#[test]
fn a_row_with_too_long_a_name_is_an_error_as_with_any_other_cell() {
    let long = "x".repeat(900_000);
    let text = format!("phone_number,name,note\n+12025550100,Ada,\n+12025550101,{long},\n+12025550102,,{long}\n+12025550103,Ben,\n");
    let (contacts, errors) = read(text.as_bytes()).unwrap();
    let too_long = |row| RowError { row, cell: None, fault: RowFault::TooLong { max: 100_000 } };
    assert_eq!(errors, [3, 4].map(too_long));
    assert_eq!(contacts.iter().map(|contact| contact.row).collect::<Vec<_>>(), [2, 5]);
    let half = "y".repeat(50_000);
    let (_, errors) = read(format!("phone_number,name,note\n+12025550100,{half},{half}\n").as_bytes()).unwrap();
    assert_eq!(errors, [too_long(2)], "together they are too long");
}

#[test]
fn notes_cut_long_names_of_columns() {
    let long = "x".repeat(50_000);
    let mut source = Source::default();
    for_each(format!("phone_number,{long},{long}\n+12025550100,,\n").as_bytes(), |row| assert!(row.is_err()), &mut source);
    assert!(source.notes.len() == 1 && source.notes[0].len() < 500, "{:?}", source.notes);
}

fn for_each(bytes: &[u8], mut each: impl FnMut(Result<Contact, RowError>), source: &mut Source) {
    let reading = Reading { limits: LIMITS, region: Some("US"), phone_column: None };
    *source = read_contacts(bytes, reading, |row| {
        each(row);
        Ok(())
    })
    .unwrap();
}

#[test]
fn control_characters_of_old_programs_are_text() {
    let (contacts, errors) = read(b"phone_number,note\n+12025550100,line1\x0bline2\x0cend\n\x1a").unwrap();
    assert!(errors.is_empty() && contacts.len() == 1, "{errors:?}");
    assert_eq!(contacts[0].contact_data.reveal()["note"], "line1\u{b}line2\u{c}end");
    assert_eq!(read(b"phone_number\r\n+12025550100\x1a\x1a").unwrap().0.len(), 1);
}

#[test]
fn names_that_programs_write_for_no_name_are_none() {
    let rows = ["#N/A", "#REF!", "NULL", "nan", "None", "Nan Null", "none", "Null"].map(|name| format!("+12025550100,{name}\n"));
    let (contacts, _) = read(format!("phone_number,contact_name\n{}", rows.concat()).as_bytes()).unwrap();
    let names: Vec<_> = contacts.iter().map(|c| c.contact_name.as_ref().map(|name| name.reveal().as_str())).collect();
    assert_eq!(names, [None, None, None, None, None, Some("Nan Null"), Some("none"), None]);
    assert_eq!(contacts[0].notes, ["the name \"#N/A\" is read as no name"]);
}

#[test]
fn priorities_are_whole_numbers_also_with_a_decimal_point() {
    let (contacts, errors) =
        read(b"phone_number,priority\n+12025550100,5.0\n+12025550101,-2\n+12025550102,5.5\n+12025550103,5.\n").unwrap();
    assert_eq!(contacts.iter().map(|c| c.priority).collect::<Vec<_>>(), [5, -2]);
    assert_eq!(errors.iter().map(|e| e.row).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn a_column_that_looks_like_the_missing_one_is_proposed() {
    let refused = read(b"Name,Mobile,City\nA,1,B\n").unwrap_err().to_string();
    assert_eq!(
        refused,
        "there is no column phone_number; \"Mobile\" looks like it: name it in the field phone_column, or rename it to phone_number; the columns are: Name, Mobile, City"
    );
    let google = read(b"Name,Phone 1 - Label,Phone 1 - Value\nA,1,B\n").unwrap_err().to_string();
    assert!(google.contains("\"Phone 1 - Value\" looks like it"), "{google}");
    assert_eq!(read(b"Name,City\nA,B\n").unwrap_err().to_string(), "there is no column phone_number; the columns are: Name, City");
}
