use std::collections::BTreeSet;

use rust_decimal::Decimal;
use serde_json::{Map, Value};
use services::tables::Cell;

/// Maximum number of columns that the fields of an object become; if there are more, the object is one column of JSON.
const FIELDS_MAX: usize = 1_000;

/// An item of a list as a row.
pub trait Row {
    /// The column of an object whose fields become columns, such as the other columns of a call list.
    const OBJECT: Option<&'static str> = None;

    fn names() -> Vec<&'static str>;

    /// A cell for each name.
    fn cells(&self) -> Vec<Cell>;

    fn object(&self) -> Option<&Map<String, Value>> {
        None
    }
}

/// Implements [`Row`] with fields as columns.
macro_rules! row {
    ($view:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::tables::Row for $view {
            fn names() -> Vec<&'static str> {
                vec![$(stringify!($field)),+]
            }

            fn cells(&self) -> Vec<services::tables::Cell> {
                vec![$(self.$field.clone().into()),+]
            }
        }
    };
    ($view:ty { $($field:ident),+ $(,)? } and the fields of $object:ident) => {
        impl $crate::tables::Row for $view {
            const OBJECT: Option<&'static str> = Some(stringify!($object));

            fn names() -> Vec<&'static str> {
                vec![$(stringify!($field)),+]
            }

            fn cells(&self) -> Vec<services::tables::Cell> {
                vec![$(self.$field.clone().into()),+]
            }

            fn object(&self) -> Option<&serde_json::Map<String, serde_json::Value>> {
                self.$object.as_object()
            }
        }
    };
}
pub(crate) use row;

/// The columns of a table.
pub struct Columns {
    /// The fields of the object that have a column each; `None` if the object is one column of JSON.
    fields: Option<Vec<String>>,
}

/// A field has no column: the list has got a row with another field since the columns were determined.
#[derive(Debug)]
pub struct NoColumn;

impl Columns {
    /// The columns of rows whose objects have these fields.
    pub fn new(fields: BTreeSet<String>) -> Self {
        Self { fields: (!Self::are_too_many(&fields)).then(|| fields.into_iter().collect()) }
    }

    /// Adds the names of the fields of a row's object, as long as they may become columns.
    pub fn add_fields<R: Row>(row: &R, fields: &mut BTreeSet<String>) {
        for name in row.object().into_iter().flat_map(Map::keys) {
            if !Self::are_too_many(fields) && !fields.contains(name) {
                fields.insert(name.clone());
            }
        }
    }

    /// Whether these fields are one column of JSON.
    pub fn are_too_many(fields: &BTreeSet<String>) -> bool {
        fields.len() > FIELDS_MAX
    }

    /// The names of all columns. A field that has the name of another column gets the object's name before it.
    pub fn names<R: Row>(&self) -> Vec<String> {
        let own = R::names();
        let of_object = R::OBJECT.map(|object| match &self.fields {
            None => vec![object.to_owned()],
            Some(fields) => {
                let is_taken = |name: &String| own.contains(&name.as_str());
                let named = |field: &String| {
                    let mut name = field.clone();
                    while is_taken(&name) || (name != *field && fields.contains(&name)) {
                        name = format!("{object}.{name}");
                    }
                    name
                };
                fields.iter().map(named).collect()
            }
        });
        own.iter().map(ToString::to_string).chain(of_object.into_iter().flatten()).collect()
    }

    pub fn cells<R: Row>(&self, row: &R) -> Result<Vec<Cell>, NoColumn> {
        let mut cells = row.cells();
        let object = row.object();
        match &self.fields {
            None => cells.push(object.map_or(Cell::Null, |object| Cell::Json(Value::Object(object.clone()).to_string()))),
            Some(fields) => {
                let values: Vec<_> = fields.iter().map(|name| object.and_then(|object| object.get(name))).collect();
                if values.iter().flatten().count() < object.map_or(0, Map::len) {
                    return Err(NoColumn);
                }
                cells.extend(values.into_iter().map(|value| value.map_or(Cell::Null, cell)));
            }
        }
        Ok(cells)
    }
}

/// A JSON value as a cell. A number keeps all of its digits.
fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => (*value).into(),
        Value::String(text) => text.clone().into(),
        Value::Number(number) => {
            let written = number.to_string();
            let exact = || written.parse::<Decimal>().ok().filter(|decimal| decimal.normalize().to_string() == written);
            number.as_i64().map(Cell::Int).or_else(|| exact().map(Cell::Decimal)).unwrap_or(Cell::Text(written))
        }
        Value::Array(_) | Value::Object(_) => Cell::Json(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        analytics::CallMetricsView,
        calls::{CallView, TurnView},
        tasks::TaskView,
    };

    struct Contact {
        name: Option<String>,
        data: Value,
    }

    row!(Contact { name } and the fields of data);

    fn contact(data: Value) -> Contact {
        Contact { name: Some("Jan".to_owned()), data }
    }

    fn columns(contacts: &[Contact]) -> Columns {
        let mut fields = BTreeSet::new();
        contacts.iter().for_each(|contact| Columns::add_fields(contact, &mut fields));
        Columns::new(fields)
    }

    #[test]
    fn the_fields_of_the_object_become_columns() {
        let taken = contact(json!({"name": "x", "data.name": "y"}));
        assert_eq!(columns(&[taken]).names::<Contact>(), ["name", "data.name", "data.data.name"]);
        let contacts = [json!({"city": "Brno", "name": "x"}), json!({"age": 42, "tags": [1]}), json!("erased")].map(contact);
        let columns = columns(&contacts);
        assert_eq!(columns.names::<Contact>(), ["name", "age", "city", "data.name", "tags"]);
        let text = |text: &str| Cell::Text(text.to_owned());
        let rows = contacts.each_ref().map(|contact| columns.cells(contact).unwrap());
        assert_eq!(rows[0], [text("Jan"), Cell::Null, text("Brno"), text("x"), Cell::Null]);
        assert_eq!(rows[1], [text("Jan"), Cell::Int(42), Cell::Null, Cell::Null, Cell::Json("[1]".to_owned())]);
        assert_eq!(rows[2], [text("Jan"), Cell::Null, Cell::Null, Cell::Null, Cell::Null]);
        assert!(columns.cells(&contact(json!({"city": "Brno", "new": 1}))).is_err(), "nothing is left out silently");
    }

    #[test]
    fn too_many_fields_become_one_column() {
        let many: Map<String, Value> = (0..2_000).map(|n| (format!("f{n}"), json!(n))).collect();
        let contacts = [contact(Value::Object(many.clone()))];
        let columns = columns(&contacts);
        assert_eq!(columns.names::<Contact>(), ["name", "data"]);
        let Cell::Json(written) = &columns.cells(&contacts[0]).unwrap()[1] else { panic!("no JSON") };
        assert_eq!(serde_json::from_str::<Value>(written).unwrap(), Value::Object(many));
    }

    #[test]
    fn a_number_keeps_all_of_its_digits() {
        assert_eq!(cell(&json!(9_007_199_254_740_993_i64)), Cell::Int(9_007_199_254_740_993));
        assert_eq!(cell(&json!(0.1)), Cell::Decimal("0.1".parse().unwrap()));
        assert_eq!(cell(&json!(u64::MAX)), Cell::Decimal(u64::MAX.into()));
        assert_eq!(cell(&json!(1e300)), Cell::Text("1e+300".to_owned()));
    }

    /// A new field of a view is also a new column.
    #[test]
    fn every_field_of_the_answers_is_a_column() {
        let document = serde_json::to_value(crate::router::openapi()).unwrap();
        let views = [("TaskView", TaskView::names()), ("CallView", CallView::names()), ("TurnView", TurnView::names())];
        for (view, names) in views {
            let mut expected = properties(&document, &document["components"]["schemas"][view]);
            expected.remove("contact_data");
            assert_eq!(names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), expected, "{view}");
        }
        // Beside the call, its metrics do not repeat what it shows itself.
        let shown = ["call_id", "duration_sec", "outcome", "cost_total"];
        let names = CallMetricsView::names().into_iter().chain(shown).map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(names, properties(&document, &document["components"]["schemas"]["CallMetricsView"]));
    }

    /// The names of a schema's properties, and of those that it includes.
    fn properties(document: &Value, schema: &Value) -> BTreeSet<String> {
        let own = schema["properties"].as_object().into_iter().flat_map(Map::keys).cloned();
        let included = schema["allOf"].as_array().into_iter().flatten().flat_map(|part| match part["$ref"].as_str() {
            Some(name) => properties(document, document.pointer(name.trim_start_matches('#')).unwrap()),
            None => properties(document, part),
        });
        own.chain(included).collect()
    }
}
