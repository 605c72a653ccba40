//! The log as a table.

use eventstore::{EventStore, StoredEvent};
use services::tables::{Cell, RowWriter};

use super::{Column, Kind, Scope};

const PAGE: i64 = 5_000;

/// Events of a scope, by `recorded_at`, in log order.
pub struct Events<'a> {
    pub store: &'a EventStore,
    pub scope: Scope,
}

impl Events<'_> {
    pub fn columns() -> Vec<Column> {
        let columns = [
            ("position", Kind::Int),
            ("stream", Kind::Text),
            ("version", Kind::Int),
            ("event_id", Kind::Uuid),
            ("event_type", Kind::Text),
            ("schema_version", Kind::Int),
            ("company_id", Kind::Uuid),
            ("occurred_at", Kind::Time),
            ("recorded_at", Kind::Time),
            ("payload", Kind::Json),
            ("metadata", Kind::Json),
        ];
        columns.map(|(name, kind)| Column::new(name, kind)).into()
    }

    /// Writes the events; `progress` gets the position in the log.
    pub async fn write(&self, writer: &mut dyn RowWriter, mut progress: impl FnMut(i64)) -> anyhow::Result<()> {
        let head = self.store.last_position().await?;
        let mut position = match self.scope.from {
            Some(from) => self.store.position_before(from).await?,
            None => 0,
        };
        while position < head {
            let page = self.store.read_page(position, PAGE).await?;
            position = page.last().map_or(head, |event| event.position);
            for event in page {
                // recorded_at never decreases: no later event belongs to the period.
                if event.position > head || self.scope.to.is_some_and(|to| event.recorded_at >= to) {
                    return Ok(());
                }
                if self.is_wanted(&event) {
                    writer.write(row(event))?;
                }
            }
            progress(position);
        }
        Ok(())
    }

    fn is_wanted(&self, event: &StoredEvent) -> bool {
        self.scope.company.is_none_or(|company| event.company_id == company)
    }
}

fn row(event: StoredEvent) -> Vec<Cell> {
    vec![
        event.position.into(),
        event.stream.to_string().into(),
        event.version.into(),
        event.event_id.into(),
        event.event_type.into(),
        i64::from(event.schema_version).into(),
        event.company_id.into(),
        event.occurred_at.into(),
        event.recorded_at.into(),
        Cell::Json(event.payload),
        Cell::Json(event.metadata),
    ]
}
