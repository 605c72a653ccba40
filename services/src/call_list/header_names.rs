//! Headers that are not `phone_number` but clearly mean it. An error names them, so that the user can rename the column.

use domain::phone::is_invisible;

/// The name of the column that a call list needs.
pub(super) const PHONE_NUMBER: &str = "phone_number";

/// Headers that mean a phone number, in the form that `plain` returns: lower case, only letters and digits.
///
/// | language | headers |
/// |---|---|
/// | English | Phone, Phone 1 (- Value), Phone No., Phone Number, Telephone (Number), Tel., Tel. No., Mobile (Phone, Number), Cell (Phone, Number), Contact Number, Primary Phone, Home / Work / Business Phone, MSISDN, E.164, WhatsApp |
/// | Spanish | Teléfono, Número de teléfono, Nº de teléfono, Teléfono móvil, Móvil, Celular, Número de celular |
/// | Czech | Telefon, Telefonní číslo, Číslo telefonu, Tel. číslo, Mobil, Mobilní telefon, Mobilní číslo |
/// | Russian | Телефон, Номер телефона, Тел., Мобильный (телефон), Номер, Сотовый (телефон), Контактный телефон |
/// | German | Telefonnummer, Rufnummer, Tel.-Nr., Telefon-Nr., Handy, Handynummer, Mobilnummer, Mobiltelefon, Mobilfunknummer |
#[rustfmt::skip]
const MEANING_PHONE_NUMBER: &[&str] = &[
    // English, and the exports of CRM systems
    "phone", "phoneno", "phonenr", "phonenumber", "phonenumbers", "phonenum", "phone1", "phone1value", "telephone", "telephoneno",
    "telephonenumber", "tel", "telno", "telnumber", "mobile", "mobileno", "mobilenumber", "mobilephone",
    "mobilephonenumber", "cell", "cellno", "cellnumber", "cellphone", "cellphonenumber", "contactnumber", "contactphone",
    "primaryphone", "homephone", "workphone", "businessphone", "customerphone", "msisdn", "e164", "whatsapp", "whatsappnumber",
    // Spanish
    "teléfono", "telefono", "númerodeteléfono", "numerodetelefono", "nºdeteléfono", "nodetelefono", "teléfonomóvil",
    "telefonomovil", "móvil", "movil", "celular", "númerodecelular", "numerodecelular", "teléfonocelular",
    // Czech
    "telefon", "telefonníčíslo", "telefonnicislo", "číslotelefonu", "cislotelefonu", "telčíslo", "telcislo", "mobil",
    "mobilnítelefon", "mobilnitelefon", "mobilníčíslo", "mobilnicislo",
    // Russian
    "телефон", "номертелефона", "тел", "номертел", "мобильный", "мобильныйтелефон", "мобильныйномер", "номер", "сотовый",
    "сотовыйтелефон", "контактныйтелефон",
    // German
    "telefonnummer", "telefonnr", "telnr", "rufnummer", "handy", "handynummer", "handynr", "mobilnummer", "mobilnr",
    "mobiltelefon", "mobilfunknummer", "festnetz", "festnetznummer",
];

/// Headers that mean the contact's name, in the same form: names in full, in the languages of [`MEANING_PHONE_NUMBER`].
const MEANING_CONTACT_NAME: &[&str] = &[
    "fullname",
    "customername",
    "clientname",
    "customer",
    "client",
    "nombre",
    "nombrecompleto",
    "nombreyapellidos",
    "cliente",
    "jméno",
    "jmeno",
    "jménoapříjmení",
    "jmenoaprijmeni",
    "celéjméno",
    "zákazník",
    "zakaznik",
    "имя",
    "фио",
    "имяифамилия",
    "клиент",
    "vollständigername",
    "kunde",
    "kundenname",
    "vorundnachname",
];

/// Headers that mean the priority.
const MEANING_PRIORITY: &[&str] = &["prio", "prioridad", "priorita", "приоритет", "priorität", "prioritaet"];

/// Maximum number of columns of one sheet that an error names, and maximum number of characters of each name.
const NAMED_COLUMNS_MAX: usize = 100;
const NAME_MAX_CHARS: usize = 60;
/// Maximum number of sheets that an error names.
const NAMED_SHEETS_MAX: usize = 20;

/// The text of a header cell, for comparison with the known column names.
pub(super) fn lower_case(header: &str) -> String {
    let visible: String = header.chars().filter(|c| !is_invisible(*c)).collect();
    visible.trim().to_lowercase()
}

/// A header cell without invisible characters at its beginning and end. Some languages need them within a word.
pub(super) fn trim(header: &str) -> &str {
    header.trim_matches(|c: char| c.is_whitespace() || is_invisible(c))
}

fn means_phone_number(header: &str) -> bool {
    let is_meant = |header: &str| MEANING_PHONE_NUMBER.contains(&plain(header).as_str());
    // `phone_number (required)`
    let without_remark = header.trim_end().strip_suffix(')').and_then(|header| header.rsplit_once('('));
    is_meant(header) || without_remark.is_some_and(|(header, _)| is_meant(header))
}

/// The column of a call list that a header means without being named so, if the list has no such column.
pub(super) fn means_other(header: &str, has_name: bool, has_priority: bool) -> Option<&'static str> {
    let header = plain(header);
    if !has_name && MEANING_CONTACT_NAME.contains(&header.as_str()) {
        Some("contact_name")
    } else {
        (!has_priority && MEANING_PRIORITY.contains(&header.as_str())).then_some("priority")
    }
}

fn plain(header: &str) -> String {
    header.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A table without a column `phone_number`: the data that an error shows about it. All names are cut.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Name of the sheet in a workbook.
    sheet: Option<String>,
    /// The first columns, and the number of further columns.
    columns: Vec<String>,
    more_columns: usize,
    /// The first column that clearly means a phone number.
    alike: Option<String>,
}

impl Candidate {
    pub fn new<'a>(sheet: Option<&str>, columns: impl Iterator<Item = &'a str>) -> Self {
        let mut candidate = Self { sheet: sheet.map(cut), columns: Vec::new(), more_columns: 0, alike: None };
        for column in columns {
            if candidate.alike.is_none() && means_phone_number(column) {
                candidate.alike = Some(cut(column));
            }
            if candidate.columns.len() < NAMED_COLUMNS_MAX {
                candidate.columns.push(cut(column));
            } else {
                candidate.more_columns += 1;
            }
        }
        candidate
    }

    pub const fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Whether its first row may be a title: it has one cell.
    fn may_be_title(&self) -> bool {
        self.columns.len() == 1
    }

    fn list(&self) -> String {
        let mut names = self.columns.join(", ");
        if self.more_columns > 0 {
            names.push_str(&format!(", and {} more", self.more_columns));
        }
        names
    }
}

/// Explains why none of the tables is a call list: names the column that looks like the missing one, and the existing columns.
pub(super) fn describe_missing(tables: &[Candidate], hidden_sheets: usize) -> String {
    let mut parts = Vec::new();
    if let Some((name, sheet)) = tables.iter().find_map(|table| Some((table.alike.as_ref()?, &table.sheet))) {
        let place = sheet.as_ref().map(|sheet| format!(" on the sheet \"{sheet}\"")).unwrap_or_default();
        let advice = if lower_case(name) == PHONE_NUMBER {
            "leave out the field phone_column".to_owned()
        } else {
            format!("name it in the field phone_column, or rename it to {PHONE_NUMBER}")
        };
        parts.push(format!("\"{name}\"{place} looks like it: {advice}"));
    }
    for table in tables.iter().take(NAMED_SHEETS_MAX) {
        parts.push(match &table.sheet {
            Some(sheet) if table.is_empty() => format!("the sheet \"{sheet}\" is empty"),
            Some(sheet) => format!("the columns of the sheet \"{sheet}\" are: {}", table.list()),
            None => format!("the columns are: {}", table.list()),
        });
    }
    match tables.len().saturating_sub(NAMED_SHEETS_MAX) {
        0 => {}
        more => parts.push(format!("{more} more sheets have none either")),
    }
    match hidden_sheets {
        0 => {}
        1 => parts.push("1 hidden sheet was not read".to_owned()),
        n => parts.push(format!("{n} hidden sheets were not read")),
    }
    if tables.iter().all(|table| table.alike.is_none()) && tables.iter().any(Candidate::may_be_title) {
        parts.push("a first row with one cell looks like a title: the first row must have the names of the columns".to_owned());
    }
    parts.join("; ")
}

/// The name, cut to the length that errors and notes show.
pub(super) fn cut(name: &str) -> String {
    let name = name.trim();
    match name.char_indices().nth(NAME_MAX_CHARS) {
        Some((at, _)) => format!("{}…", name.get(..at).unwrap_or_default()),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_mean_the_number_are_known_in_five_languages() {
        for header in [
            "Phone",
            "Phone Number",
            "PHONE-NUMBER",
            "Mobile",
            "tel",
            "Tel.",
            " Cell ",
            "MSISDN",
            "Telefon",
            "Telefonní číslo",
            "Teléfono",
            "Móvil",
            "Телефон",
            "Номер телефона",
            "Telefonnummer",
            "Handy",
            "Phone 1 - Value",
            "phone_number (required)",
            "Phone\u{200B} (with +) ",
        ] {
            assert!(means_phone_number(header), "{header}");
        }
        for header in
            ["name", "city", "phone type", "number of calls", "hotel", "mobile plan", "", "Phone 1 - Label", "Name (of the phone)", ")"]
        {
            assert!(!means_phone_number(header), "{header}");
        }
    }

    #[test]
    fn headers_that_mean_name_or_priority_are_known_where_the_list_has_none() {
        assert_eq!(means_other("Nombre", false, false), Some("contact_name"));
        assert_eq!(means_other("Jméno a příjmení", false, true), Some("contact_name"));
        assert_eq!(means_other("Priorität", true, false), Some("priority"));
        for (header, has_name, has_priority) in [("Nombre", true, false), ("Priorität", false, true), ("city", false, false)] {
            assert_eq!(means_other(header, has_name, has_priority), None, "{header}");
        }
    }

    #[test]
    fn a_title_above_the_header_is_named_as_the_likely_reason() {
        let missing = |columns: &[&str]| describe_missing(&[Candidate::new(None, columns.iter().copied())], 0);
        assert!(missing(&["Customers, November"]).contains("looks like a title"));
        assert!(!missing(&["name", "city"]).contains("title") && !missing(&["Phone"]).contains("title"));
    }

    #[test]
    fn an_error_stays_short_however_many_columns_there_are() {
        let columns: Vec<String> = (0..10_000).map(|i| format!("{i}{}", "x".repeat(1_000))).collect();
        let text = describe_missing(&[Candidate::new(None, columns.iter().map(String::as_str))], 0);
        assert!(text.len() < 10_000 && text.ends_with("and 9900 more"), "{}", text.len());
    }
}
