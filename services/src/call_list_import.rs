//! Importing a call list into a campaign.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use domain::{
    campaign::{Campaign, CampaignCommand},
    task::{Task, TaskContact, TaskEvent},
    validation::{FieldFault, Invalid},
};
use eventstore::{ExpectedVersion, Loaded, StoreError, Unit};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    OpContext, ServiceError, Services,
    call_list::{Contact, Limits, NewContact, Reading, RowError, RowFault, Source, Unreadable, read_contacts},
};

/// Tasks that are appended in one step.
const CHUNK_ROWS: usize = 1_000;
/// What the tasks of one step hold, in bytes.
const CHUNK_MAX_BYTES: usize = 16 << 20;
/// Chunks that are read ahead of the log.
const CHUNKS_AHEAD: usize = 2;
/// Lines of errors and of notes that are reported; the rest is counted.
const ERROR_LINES_MAX: usize = 1_000;

/// A call list as it was sent.
pub struct CallListFile {
    pub name: String,
    pub bytes: Bytes,
    pub limits: Limits,
    /// Header of the column with the phone numbers; by default `phone_number`.
    pub phone_column: Option<String>,
    /// Only report what an import would do.
    pub is_dry_run: bool,
    /// The right to hold the bytes in memory; dropped with them.
    pub memory: Arc<dyn Any + Send + Sync>,
}

/// What came of an import.
#[derive(Clone, Debug, Default)]
pub struct ImportReport {
    pub import_id: Uuid,
    /// Rows under the header that are not blank.
    pub total: u64,
    pub created: u64,
    /// `Row 5: …`, where the header is row 1; at most 1,000, then `and 12 more`.
    pub errors: Vec<String>,
    /// The same errors, except the line that counts the rest.
    pub row_errors: Vec<RowError>,
    /// What was read in another way than it is written, or set aside; at most 1,000, then `and 12 more`.
    pub notes: Vec<String>,
    /// What was read.
    pub source: Source,
}

impl Services {
    /// Imports a call list into a campaign. Each number of a campaign is one task, however often it is uploaded: the task's stream is named
    /// after the number, and the log refuses a second one. Returns the report and its position.
    pub async fn import_call_list(
        &self,
        op: &OpContext,
        campaign_id: Uuid,
        import_id: Uuid,
        file: CallListFile,
    ) -> Result<(ImportReport, i64), ServiceError> {
        let loaded: Loaded<Campaign> = self.store.load_fresh(op.company_id(), campaign_id).await?;
        let campaign = loaded.state.require("campaign")?;
        let region = campaign.settings.default_region.clone();
        let file = Arc::new(file);
        // The first pass shows that the whole file can be read: of a broken one nothing is imported.
        let mut source = parse(file.clone(), region.clone(), None).await?;
        let (chunks, mut parsed) = mpsc::channel(CHUNKS_AHEAD);
        let reading = tokio::spawn(parse(file.clone(), region, Some(chunks)));
        let notes = std::mem::take(&mut source.notes);
        let report = ImportReport { import_id, source, ..ImportReport::default() };
        let mut importer = Importer {
            services: self,
            op,
            campaign_id,
            is_dry_run: file.is_dry_run,
            row_word: "Row",
            seen: HashMap::new(),
            report,
            error_count: 0,
            note_count: 0,
        };
        notes.into_iter().for_each(|note| importer.add_note(note));
        while let Some(chunk) = parsed.recv().await {
            importer.take(chunk).await?;
        }
        reading.await.map_err(|e| ServiceError::internal(&e))??;
        importer.finish(file.name.clone()).await
    }

    /// Adds contacts to a campaign, by the rules of a call list. The first contact has the row number 1. Returns the report and its
    /// position.
    pub async fn add_contacts(
        &self,
        op: &OpContext,
        campaign_id: Uuid,
        import_id: Uuid,
        contacts: Vec<NewContact>,
    ) -> Result<(ImportReport, i64), ServiceError> {
        let mut invalid = Invalid::default();
        invalid.require(!contacts.is_empty(), "contacts", FieldFault::TooFewEntries { min: 1 });
        invalid.require(contacts.len() <= CHUNK_ROWS, "contacts", FieldFault::TooManyEntries { max: CHUNK_ROWS });
        invalid.into_result()?;
        let loaded: Loaded<Campaign> = self.store.load_fresh(op.company_id(), campaign_id).await?;
        let region = loaded.state.require("campaign")?.settings.default_region.clone();
        let report = ImportReport { import_id, ..ImportReport::default() };
        let mut importer = Importer {
            services: self,
            op,
            campaign_id,
            is_dry_run: false,
            row_word: "Contact",
            seen: HashMap::new(),
            report,
            error_count: 0,
            note_count: 0,
        };
        let rows = (1..).zip(contacts).map(|(row, contact)| contact.read(row, region.as_deref())).collect();
        let position = importer.take(rows).await?;
        Ok((importer.report, position))
    }
}

type Row = Result<Contact, RowError>;

/// Reads the file on a thread of its own, sending the rows in chunks. A reader that panics has met a broken file.
async fn parse(file: Arc<CallListFile>, region: Option<String>, to: Option<mpsc::Sender<Vec<Row>>>) -> Result<Source, ServiceError> {
    let reading = tokio::task::spawn_blocking(move || {
        let (mut chunk, mut chunk_bytes): (Vec<Row>, _) = (Vec::new(), 0);
        let reading = Reading { limits: file.limits, region: region.as_deref(), phone_column: file.phone_column.as_deref() };
        let source = read_contacts(&file.bytes, reading, |row| {
            let Some(to) = &to else { return Ok(()) };
            chunk_bytes += row.as_ref().map_or(0, |contact| contact.size_bytes);
            chunk.push(row);
            if chunk.len() >= CHUNK_ROWS || chunk_bytes >= CHUNK_MAX_BYTES {
                chunk_bytes = 0;
                // It fails when the import has failed; then the import reports the reason.
                let _ = to.blocking_send(std::mem::take(&mut chunk));
            }
            Ok(())
        })?;
        if let Some(to) = to.filter(|_| !chunk.is_empty()) {
            let _ = to.blocking_send(chunk);
        }
        Ok::<_, Unreadable>(source)
    });
    let result = reading.await.unwrap_or_else(|_| Err(Unreadable::NoSpreadsheet("its content is broken".to_owned())));
    result.map_err(|unreadable| ServiceError::invalid("file", FieldFault::UnreadableFile { detail: unreadable.to_string() }))
}

/// A contact and who it is.
struct Known {
    task_id: Uuid,
    person_id: Uuid,
    contact: Contact,
}

struct Importer<'a> {
    services: &'a Services,
    op: &'a OpContext,
    campaign_id: Uuid,
    is_dry_run: bool,
    /// How messages call a row.
    row_word: &'static str,
    /// The row each task of this file came from.
    seen: HashMap<Uuid, u32>,
    report: ImportReport,
    error_count: u64,
    note_count: u64,
}

impl Importer<'_> {
    /// Appends the tasks of these rows; returns the position of the append.
    async fn take(&mut self, rows: Vec<Row>) -> Result<i64, ServiceError> {
        self.report.total += rows.len() as u64;
        let (mut contacts, mut errors) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match row {
                Ok(contact) => contacts.push(contact),
                Err(error) => errors.push(error),
            }
        }
        let numbers: Vec<&str> = contacts.iter().map(|contact: &Contact| contact.phone_number.reveal().as_str()).collect();
        let persons = self.persons(&numbers).await?;
        let mut fresh: Vec<Known> = Vec::with_capacity(contacts.len());
        for (contact, person_id) in contacts.into_iter().zip(persons) {
            let task_id = Task::id(self.campaign_id, person_id);
            match self.seen.insert(task_id, contact.row) {
                Some(first) => {
                    let what = if self.row_word == "Row" { "row" } else { "contact" };
                    errors.push(RowError { row: contact.row, cell: None, fault: RowFault::Repeated { what, first } });
                    self.seen.insert(task_id, first);
                }
                None => fresh.push(Known { task_id, person_id, contact }),
            }
        }
        let (known, position) = if self.is_dry_run {
            (self.would_append(&fresh).await?, self.services.store.last_position().await?)
        } else {
            self.services.store.transact(&self.op.command, |unit| self.append(unit, &fresh)).await?
        };
        for Known { task_id, contact, .. } in fresh {
            // Those of this very import were stored when it was begun before; it is now repeated.
            if known.get(&task_id).is_some_and(|import_id| *import_id != self.report.import_id) {
                errors.push(RowError { row: contact.row, cell: None, fault: RowFault::InCampaign });
                continue;
            }
            self.report.created += 1;
            contact.notes.iter().for_each(|note| self.add_note(format!("{} {}: {note}", self.row_word, contact.row)));
        }
        errors.sort_by_key(|error| error.row);
        for error in errors {
            self.error_count += 1;
            if self.report.errors.len() < ERROR_LINES_MAX {
                self.report.errors.push(format!("{} {}: {}", self.row_word, error.row, error.fault));
                self.report.row_errors.push(error);
            }
        }
        Ok(position)
    }

    /// The persons with these numbers. A dry run gives ids of its own to new ones, because it stores nothing.
    async fn persons(&self, numbers: &[&str]) -> Result<Vec<Uuid>, ServiceError> {
        let persons = self.services.store.persons();
        if !self.is_dry_run {
            return Ok(persons.of_numbers(self.op.company_id(), numbers).await?);
        }
        let known = persons.known_by_numbers(self.op.company_id(), numbers).await?;
        let id = |(known, number): (Option<Uuid>, &&str)| known.unwrap_or_else(|| Uuid::new_v5(&self.campaign_id, number.as_bytes()));
        Ok(known.into_iter().zip(numbers).map(id).collect())
    }

    /// Which of these contacts are tasks of the campaign already. Refuses what an import would refuse.
    async fn would_append(&self, contacts: &[Known]) -> Result<HashMap<Uuid, Uuid>, ServiceError> {
        let ids: Vec<Uuid> = contacts.iter().map(|known| known.task_id).collect();
        let there = self.services.store.existing::<Task>(&ids).await?;
        let mut unit = self.services.store.unit(&self.op.command);
        let count = (ids.len() - there.len()) as u64;
        unit.decide::<Campaign>(self.campaign_id, CampaignCommand::AddTasks { import_id: self.report.import_id, count }).await?;
        Ok(there.into_iter().map(|id| (id, Uuid::nil())).collect())
    }

    fn add_note(&mut self, note: String) {
        self.note_count += 1;
        if self.report.notes.len() < ERROR_LINES_MAX {
            self.report.notes.push(note);
        }
    }

    /// Appends the tasks that are not there yet, together with the campaign's count of them. Answers which were there, and
    /// from which import.
    async fn append<'a>(&self, mut unit: Unit<'a>, contacts: &[Known]) -> Result<(Unit<'a>, HashMap<Uuid, Uuid>), ServiceError> {
        let ids: Vec<Uuid> = contacts.iter().map(|known| known.task_id).collect();
        let there = self.services.store.existing::<Task>(&ids).await?;
        let known = self.imports_of(there).await?;
        let mut count = 0;
        for Known { task_id, person_id, contact } in contacts.iter().filter(|contact| !known.contains_key(&contact.task_id)) {
            let contact = contact.clone();
            let created = TaskEvent::TaskCreated(Box::new(TaskContact {
                campaign_id: self.campaign_id,
                import_id: self.report.import_id,
                row: contact.row,
                person_id: Some(*person_id),
                phone_number: contact.phone_number,
                contact_name: contact.contact_name,
                contact_data: contact.contact_data,
                priority: contact.priority,
            }));
            unit.push::<Task>(*task_id, *person_id, ExpectedVersion::NoStream, &[created]).await?;
            count += 1;
        }
        let add = CampaignCommand::AddTasks { import_id: self.report.import_id, count };
        unit.decide::<Campaign>(self.campaign_id, add).await?;
        Ok((unit, known))
    }

    /// Which import brought each of the tasks. Only a repeated request needs to know; others get nil.
    async fn imports_of(&self, ids: HashSet<Uuid>) -> Result<HashMap<Uuid, Uuid>, StoreError> {
        let repeated = self.op.command.metadata.idempotency_key.is_some();
        let mut imports = HashMap::with_capacity(ids.len());
        for id in ids {
            let import_id = if repeated {
                let task: Loaded<Task> = self.services.store.load(self.op.company_id(), id).await?;
                task.state.present().map(|task| task.contact.import_id)
            } else {
                None
            };
            imports.insert(id, import_id.unwrap_or_default());
        }
        Ok(imports)
    }

    async fn finish(mut self, file_name: String) -> Result<(ImportReport, i64), ServiceError> {
        let more = self.error_count - self.report.errors.len() as u64;
        if more > 0 {
            self.report.errors.push(format!("and {more} more"));
        }
        let more = self.note_count - self.report.notes.len() as u64;
        if more > 0 {
            self.report.notes.push(format!("and {more} more"));
        }
        if self.is_dry_run {
            let position = self.services.store.last_position().await?;
            return Ok((self.report, position));
        }
        let command = CampaignCommand::FinishImport {
            import_id: self.report.import_id,
            file_name,
            total: self.report.total,
            created: self.report.created,
            error_count: self.error_count,
            errors: self.report.errors.clone(),
        };
        let committed = self.services.store.execute::<Campaign>(&self.op.command, self.campaign_id, command).await?;
        Ok((self.report, committed.position))
    }
}
