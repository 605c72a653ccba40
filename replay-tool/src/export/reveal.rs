//! Personal values of a read model's rows, decrypted (`--reveal`).

use std::collections::HashMap;

use eventstore::{
    HoldsPersonal, StoreError,
    persons::{Envelope, PersonalValues, Persons},
};
use projections::PersonalColumns;
use serde_json::Value;
use services::tables::Cell;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

/// SQL expressions that a row needs in addition, to be decrypted: the company, the id of the stream, and for each envelope the envelope
/// itself and its bound fields.
pub fn expressions(personal: &[PersonalColumns]) -> Vec<String> {
    let id = personal.first().map(|columns| format!("{}::uuid", columns.stream.1));
    let of_envelope = personal.iter().flat_map(|columns| {
        let bound = columns.bound.iter().map(|(_, column)| format!("to_jsonb({column})"));
        std::iter::once(columns.envelope.to_owned()).chain(bound)
    });
    std::iter::once("company_id".to_owned()).chain(id).chain(of_envelope).collect()
}

/// A row that is being decrypted.
pub struct SealedRow {
    pub company_id: Uuid,
    pub cells: Vec<Cell>,
    stream: String,
    envelopes: Vec<Envelope>,
    /// The place of each personal column among the cells.
    places: HashMap<&'static str, usize>,
}

impl SealedRow {
    /// A row whose values of [`expressions`] begin at column `first`.
    pub fn new(
        row: &PgRow,
        cells: Vec<Cell>,
        first: usize,
        personal: &'static [PersonalColumns],
        place_of: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, sqlx::Error> {
        let (company_id, id): (Uuid, Uuid) = (row.try_get(first)?, row.try_get(first + 1)?);
        let mut at = first + 2;
        let mut envelopes = Vec::new();
        for columns in personal {
            let envelope: Option<Value> = row.try_get(at)?;
            let envelope = envelope.map(serde_json::from_value::<Envelope>).transpose();
            let mut envelope = envelope.map_err(|error| sqlx::Error::Decode(error.into()))?;
            at += 1;
            for (field, _) in columns.bound {
                let value: Option<Value> = row.try_get(at)?;
                envelope = envelope.map(|envelope| envelope.beside(field, value.unwrap_or_default()));
                at += 1;
            }
            envelopes.extend(envelope);
        }
        let category = personal.first().map_or("", |columns| columns.stream.0);
        let names = personal.iter().flat_map(|columns| columns.placeholders);
        let places = names.filter_map(|name| Some((*name, place_of(name)?))).collect();
        Ok(Self { company_id, cells, stream: format!("{category}-{id}"), envelopes, places })
    }
}

impl HoldsPersonal for SealedRow {
    fn stream(&self) -> String {
        self.stream.clone()
    }

    fn envelopes(&self) -> Vec<Envelope> {
        self.envelopes.clone()
    }

    fn reveal(&mut self, values: PersonalValues) {
        for (field, value) in values {
            // The columns have the names of the fields in the events.
            let place = field.rsplit('/').next().and_then(|name| self.places.get(name));
            if let Some(cell) = place.and_then(|place| self.cells.get_mut(*place)) {
                *cell = match value {
                    Value::Null => Cell::Null,
                    Value::String(text) => Cell::Text(text),
                    other => Cell::Json(other.to_string()),
                };
            }
        }
    }
}

/// Decrypts rows of any companies, in place.
pub async fn reveal(persons: &Persons, rows: &mut [SealedRow]) -> Result<(), StoreError> {
    // Rows of one company are decrypted together, and stay in their order.
    let mut companies: Vec<Uuid> = rows.iter().map(|row| row.company_id).collect();
    companies.sort_unstable();
    companies.dedup();
    for company in companies {
        let mut own: Vec<&mut SealedRow> = rows.iter_mut().filter(|row| row.company_id == company).collect();
        persons.reveal(company, &mut own).await?;
    }
    Ok(())
}
