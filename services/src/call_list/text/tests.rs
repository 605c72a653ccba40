//! Quotes: the content of quoted cells, and files that are refused because a quote is missing or superfluous.

use super::super::{
    Reading, Unreadable, read_contacts,
    tests::{LIMITS, read, unreadable},
};

#[track_caller]
fn assert_refused(text: &str, expected: Unreadable) {
    for text in [text.to_owned(), text.replace('\n', "\r\n"), text.replace('\n', "\r"), text.replace(',', ";")] {
        assert_eq!(read(text.as_bytes()).map(|(contacts, errors)| (contacts.len(), errors)), Err(expected.clone()), "{text}");
    }
}

#[test]
fn a_quote_that_is_never_closed_refuses_the_file_and_names_its_row() {
    let rows: String = (0..900).map(|i| format!("+1202555{i:04},x\n")).collect();
    assert_refused(&format!("phone_number,note\n+12025550100,x\n+12025550101,\"oops\n{rows}"), Unreadable::OpenQuote { row: 3 });
    assert_refused("phone_number,note\n\n+12025550101,\"a\nb\"\n+12025550102,\"\n", Unreadable::OpenQuote { row: 4 });
    assert_refused("phone_number,\"note\n+12025550101,x\n", Unreadable::OpenQuote { row: 1 });
}

#[test]
fn two_stray_quotes_do_not_swallow_the_rows_between_them() {
    let refused = |row, text: &str| assert_refused(text, Unreadable::StrayQuote { row });
    refused(
        3,
        "phone_number,name,note\n+12025550100,A,x\n+12025550101,B,\"oops\n+12025550102,C,y\n+12025550103,D,also\"\n+12025550104,E,z\n",
    );
    refused(2, "phone_number,name,note\n+12025550101,B,\"oops\n+12025550102,C,y\n+12025550103,D,\"also\n");
    refused(2, "phone_number,note\n+12025550101,\"oops\n+12025550102,x\"\n");
    refused(2, "phone_number,note\n202-555-0101,\"oops\n202-555-0102,x\n202-555-0103,y\"\n");
    refused(2, "phone_number,note\n+12025550101,\"\n+12025550102,\"\n");
    refused(2, "name,phone_number\nA,+12025550101\nB\"\n".replace("A,", "\"A,").as_str());
    refused(2, "\"phone_number\",\"note\"\n\"+12025550101\",\"oops\n\"+12025550102\",\"x\"\n");
    refused(1, "phone_number,\"note\n+12025550101,x\n+12025550102,y\"\n");
    refused(
        2,
        "phone_number,name,city,note\n+12025550100,Ada,X,\"oops\n+12025550101\n+12025550102\n+12025550103,Ben,Y,bye\"\n+12025550104,Cy,Z,\n",
    );
    refused(2, "phone_number,name,note\n+12025550100,\"Ada\nx\ny\n+12025550101,Ben\nz\",bye\n+12025550104,Cy,\n");
}

#[test]
fn numbers_in_groups_are_no_dates() {
    let text = "name,phone_number,note\nKari,412 34 567,\"ring\nOla,412 34 568,\nPer,412 34 569,\nAnne,412 34 570,ok\"\nLiv,412 34 571,\n";
    let reading = Reading { limits: LIMITS, region: Some("NO"), phone_column: None };
    assert_eq!(read_contacts(text.as_bytes(), reading, |_| Ok(())), Err(Unreadable::StrayQuote { row: 2 }));
    let dates = "phone_number,note\n41234567,\"calls\n22.11.2026\n2026-11-23\n24/11/26\"\n";
    assert!(read_contacts(dates.as_bytes(), reading, |_| Ok(())).is_ok());
}

#[test]
fn a_note_in_which_a_few_lines_look_like_rows_is_read_and_noted() {
    for text in [
        "phone_number,name\n+12025550100,\"Ada\n+12025550101,Ben\nsee note,Cy\nsee note,Di\"\n+12025550104,Ed\n",
        "phone_number,note\n+12025550100,\"her son:\n202-555-0101\nin the evening\nor on Sunday\"\n+12025550104,\"a\nb\"\n",
    ] {
        let (contacts, errors) = read(text.as_bytes()).unwrap();
        assert!(errors.is_empty() && contacts.len() == 2, "{errors:?}");
        assert_eq!(contacts[0].notes, ["a cell holds several lines, one of which looks like a row"]);
        assert_eq!(contacts[1].notes, Vec::<String>::new());
    }
}

#[test]
fn a_line_of_a_note_that_is_no_whole_row_swallows_nothing() {
    for text in [
        "phone_number,note,agent\n+12025550100,\"her son:\n202-555-0101\nin the evening\",Bob\n",
        "phone_number,note\n+12025550100,\"her son:\n202-555-0101\"\n",
        "phone_number,note,agent\n+12025550100,\"her sons:\n202-555-0101\n202-555-0102\",Bob\n",
        "phone_number,note,agent\n+12025550100,\"call:\n202-555-0101, 202-555-0102, or her son, in the evening\",Bob\n",
        "notes,phone_number\n\"prefers mobile, +12025550101\nafter 5\",+12025550100\n",
    ] {
        let (contacts, errors) = read(text.as_bytes()).unwrap();
        assert!(errors.is_empty() && contacts.len() == 1, "{text} {errors:?}");
        assert_eq!(contacts[0].phone_number.reveal(), "+12025550100");
        assert_eq!(contacts[0].notes, ["a cell holds several lines, one of which looks like a row"], "{text}");
    }
    // If one line is a row, the file is refused, regardless of the other lines.
    assert_refused(
        "phone_number,note,agent\n+12025550100,\"oops\n+12025550101\n+12025550102,x,Bob\n+12025550103,\"\n",
        Unreadable::StrayQuote { row: 2 },
    );
    assert_refused("notes,phone_number\n\"oops,+12025550101\nx,+12025550102\nbye\",+12025550103\n", Unreadable::StrayQuote { row: 2 });
}

#[test]
fn a_first_line_of_nothing_but_delimiters_is_blank() {
    for blank in [",,,", " , ,,", "\"\",\"\",,"] {
        // The header's first line is compared with the rows that its unclosed quote swallows.
        let text = format!("{blank}\nphone_number,\"note\n+12025550101,x\n+12025550102,y\"\n");
        assert_eq!(read(text.as_bytes()), Err(Unreadable::StrayQuote { row: 2 }), "{blank}");
        let text = format!("{blank}\nphone_number,note\n+12025550101,x\n");
        assert_eq!(read(text.as_bytes()).unwrap().0[0].row, 3, "{blank}");
    }
}

#[test]
fn two_numbers_in_one_cell_are_an_error_of_their_row() {
    for text in ["phone_number\n\"+12025550100\n+12025550101\"\n", "phone_number,name\n\"+12025550100\n+12025550101\",Ada\n"] {
        let (contacts, errors) = read(text.as_bytes()).unwrap();
        assert_eq!((contacts.len(), errors.len(), errors[0].row), (0, 1, 2), "{text}");
    }
}

#[test]
fn an_honest_note_over_many_lines_stays_one_cell() {
    for note in [
        "two\nlines",
        "Called Monday, no answer\nCall back Tuesday, or Wednesday, or later\nHe said \"\"later\"\", twice",
        "12 Main St, Apt 4\nSpringfield, IL\n\nUSA",
        "2026-11-20, no answer, busy\n20.11.2026, no answer\n11/21/2026, called back",
        "\n- one\n- two, three\n",
        "Met in Brno.\nLikes tea, jazz",
    ] {
        let text = format!("phone_number,name,note\n+12025550100,A,\"{note}\"\n+12025550101,\"B\",x\n");
        let (contacts, errors) = read(text.as_bytes()).unwrap();
        assert!(errors.is_empty() && contacts.len() == 2, "{errors:?}");
        assert_eq!(contacts[0].contact_data.reveal()["note"], note.replace("\"\"", "\"").trim());
        assert_eq!(contacts[1].row, 3);
    }
}

#[test]
fn a_note_with_as_many_commas_as_the_header_is_read() {
    let text = "First Name,Last Name,phone_number,Company,Notes\nAda,L,+12025550100,Acme,\"Met in Brno.\nLikes tea, jazz, chess, hiking\"\n\
                Ben,M,+12025550101,Acme,\n";
    let (contacts, errors) = read(text.as_bytes()).unwrap();
    assert!(errors.is_empty() && contacts.len() == 2, "{errors:?}");
}

#[test]
fn text_after_a_closing_quote_is_an_error_of_its_row() {
    let text =
        "phone_number,name,note\n+12025550100,\"abc\"def,\n+12025550101,\"B\" ,x\n+12025550102,C,5\" pipe \"x\"\n+12025550103,\"\",\n";
    let (contacts, errors) = read(text.as_bytes()).unwrap();
    assert_eq!(errors, [unreadable(2, "text follows a closing quote")]);
    assert_eq!(contacts.iter().map(|c| c.row).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(contacts[0].contact_name.as_ref().unwrap().reveal(), "B");
    assert_eq!(contacts[1].contact_data.reveal()["note"], "5\" pipe \"x\"");
}
