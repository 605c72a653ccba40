//! Uploading call lists.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use axum::{
    Extension,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, header},
};
use domain::{
    campaign::{Campaign, CampaignCommand},
    task::{Task, TaskContact, TaskEvent},
};
use eventstore::{CommandContext, ExpectedVersion, Loaded, StoreError, retry_conflicts};
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};
use uuid::Uuid;

use crate::{
    answer::Answer,
    app::App,
    auth::{By, Manager},
    call_list::{Contact, Limits, Reading, RowError, Source, Unreadable, read_contacts},
    extract::Id,
    problem::Problem,
    uploads::{UploadPermit, read_form},
};

/// Tasks that are appended in one step.
const CHUNK_ROWS: usize = 1_000;
/// What the tasks of one step hold, in bytes.
const CHUNK_MAX_BYTES: usize = 16 << 20;
/// Chunks that are read ahead of the log.
const CHUNKS_AHEAD: usize = 2;
/// Lines of errors that are answered and kept, and of notes that are answered; the rest is counted.
const ERROR_LINES_MAX: usize = 1_000;
const FILE_NAME_MAX_CHARS: usize = 200;
/// A call list as it was sent.
#[derive(Debug)]
pub struct CallListFile {
    pub name: String,
    pub bytes: Bytes,
    pub permit: UploadPermit,
}

pub fn router() -> OpenApiRouter<App> {
    // The handler itself counts the bytes of the file; see `Settings::upload_max_bytes`.
    OpenApiRouter::new().routes(routes!(upload).layer(DefaultBodyLimit::disable()))
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the multipart body")]
struct UploadForm {
    /// .csv, .xlsx or .xls with a column phone_number
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// What came of an upload.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Import {
    pub import_id: Uuid,
    /// Rows under the header that are not blank
    pub total: u64,
    pub created: u64,
    /// `Row 5: …`, where the header is row 1; at most 1,000, then `and 12 more`
    pub errors: Vec<String>,
    /// The sheet of the workbook that was read: the first visible one with a column phone_number. Null for text
    pub sheet: Option<String>,
    /// The encoding of the text, by its mark or as it was detected: UTF-8, UTF-16LE, UTF-16BE, windows-1250, windows-1251, windows-1252 or
    /// ISO-8859-2. Null for workbooks
    pub encoding: Option<String>,
    /// The character between the text's cells: a comma, a semicolon, a tab or `|`. Null for workbooks
    pub delimiter: Option<String>,
    /// Rows of the sheet that hold something but are hidden, by the user, a filter or a height of zero: they are left out and not part of
    /// the total
    pub hidden_rows: u64,
    /// What was read in another way than it is written, or set aside: `Row 5: the name "#N/A" is read as no name`. At most 1,000, then
    /// `and 12 more`
    pub notes: Vec<String>,
}

/// Upload a call list. Bad rows are reported and the others go in; a file that is no call list changes nothing.
#[utoipa::path(post, path = "/campaigns/{id}/call-list", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses((status = 200, body = Import), (status = 404, body = Problem), (status = 413, body = Problem), (status = 422, body = Problem)))]
async fn upload(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    permit: Option<Extension<UploadPermit>>,
    request: Request,
) -> Result<Answer<Import>, Problem> {
    let boundary = boundary(request.headers())?;
    // Refuse early what has no campaign to go to.
    app.store.load_fresh::<Campaign>(by.company_id(), id).await?.state.live().ok_or_else(|| Problem::not_found("campaign"))?;
    let max_bytes = app.settings.upload_max_bytes;
    // The body of a request with an Idempotency-Key was received, and has its memory, already.
    let (form, permit) = match permit {
        Some(Extension(permit)) => {
            (axum::body::to_bytes(request.into_body(), usize::MAX).await.map_err(|e| Problem::internal(&e))?, permit)
        }
        None => app.uploads.receive(by.company_id(), request.into_body(), max_bytes).await?,
    };
    let file = find_file(&form, &boundary, max_bytes, permit).await?;
    let (import, position) = import(&app, &by.context(), id, by.ids.make("import"), file).await?;
    Ok(Answer::ok(position, import))
}

fn boundary(headers: &HeaderMap) -> Result<String, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    multer::parse_boundary(content_type)
        .map_err(|_| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be multipart/form-data"))
}

/// The form's field `file`.
async fn find_file(form: &Bytes, boundary: &str, max_bytes: usize, permit: UploadPermit) -> Result<CallListFile, Problem> {
    let broken = |error: multer::Error| Problem::bad_request(format!("the form cannot be read: {error}"));
    let mut form = read_form(form, boundary);
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if field.name() != Some("file") {
            continue;
        }
        let name = field.file_name().unwrap_or("call-list").replace('\0', "").chars().take(FILE_NAME_MAX_CHARS).collect();
        let bytes = field.bytes().await.map_err(broken)?;
        if bytes.len() > max_bytes {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the file has more than {max_bytes} bytes")));
        }
        return Ok(CallListFile { name, bytes, permit });
    }
    Err(Problem::invalid("file", "the form has no field `file`"))
}

type Row = Result<Contact, RowError>;

/// Imports a call list into a campaign. Each number of a campaign is one task whatever is uploaded how often: the task's
/// stream is named after the number, and the log refuses a second one.
pub async fn import(
    app: &App,
    context: &CommandContext,
    campaign_id: Uuid,
    import_id: Uuid,
    file: CallListFile,
) -> Result<(Import, i64), Problem> {
    let loaded: Loaded<Campaign> = app.store.load_fresh(context.company_id, campaign_id).await?;
    let region = loaded.state.live().ok_or_else(|| Problem::not_found("campaign"))?.settings.default_region.clone();
    let limits = Limits { rows: app.settings.upload_max_rows, columns: app.settings.upload_max_columns };
    let file = Arc::new(file);
    // Once for nothing but to know that the whole file can be read: nothing of a broken one goes in.
    let source = parse(file.clone(), limits, region.clone(), None).await?;
    let (chunks, mut parsed) = mpsc::channel(CHUNKS_AHEAD);
    let reading = tokio::spawn(parse(file.clone(), limits, region, Some(chunks)));
    let mut importer =
        Importer { app, context, campaign_id, seen: HashMap::new(), result: describe(import_id, &source), error_count: 0, note_count: 0 };
    source.notes.into_iter().for_each(|note| importer.add_note(note));
    while let Some(chunk) = parsed.recv().await {
        importer.take(chunk).await?;
    }
    reading.await.map_err(|e| Problem::internal(&e))??;
    importer.finish(file.name.clone()).await
}

/// The answer before the first row.
fn describe(import_id: Uuid, source: &Source) -> Import {
    Import {
        import_id,
        sheet: source.sheet.clone(),
        encoding: source.encoding.map(str::to_owned),
        delimiter: source.delimiter.map(String::from),
        hidden_rows: source.hidden_rows,
        ..Import::default()
    }
}

/// Reads the file on a thread of its own, sending the rows in chunks. A reader that panics has met a broken file.
async fn parse(
    file: Arc<CallListFile>,
    limits: Limits,
    region: Option<String>,
    to: Option<mpsc::Sender<Vec<Row>>>,
) -> Result<Source, Problem> {
    let reading = tokio::task::spawn_blocking(move || {
        let (mut chunk, mut chunk_bytes): (Vec<Row>, _) = (Vec::new(), 0);
        let source = read_contacts(&file.bytes, Reading { limits, region: region.as_deref() }, |row| {
            let Some(to) = &to else { return Ok(()) };
            chunk_bytes += row.as_ref().map_or(0, |contact| contact.size_bytes);
            chunk.push(row);
            if chunk.len() >= CHUNK_ROWS || chunk_bytes >= CHUNK_MAX_BYTES {
                chunk_bytes = 0;
                // Nobody listens any more: the import failed, and says why itself.
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
    result.map_err(|unreadable| Problem::invalid("file", unreadable.to_string()))
}

/// A contact and who it is.
struct Known {
    task_id: Uuid,
    person_id: Uuid,
    contact: Contact,
}

struct Importer<'a> {
    app: &'a App,
    context: &'a CommandContext,
    campaign_id: Uuid,
    /// The row each task of this file came from.
    seen: HashMap<Uuid, u32>,
    result: Import,
    error_count: u64,
    note_count: u64,
}

impl Importer<'_> {
    async fn take(&mut self, rows: Vec<Row>) -> Result<(), Problem> {
        self.result.total += rows.len() as u64;
        let (mut contacts, mut errors) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match row {
                Ok(contact) => contacts.push(contact),
                Err(error) => errors.push(error),
            }
        }
        let numbers: Vec<&str> = contacts.iter().map(|contact: &Contact| contact.phone_number.reveal().as_str()).collect();
        let persons = self.app.store.persons().of_numbers(self.context.company_id, &numbers).await?;
        let mut fresh: Vec<Known> = Vec::with_capacity(contacts.len());
        for (contact, person_id) in contacts.into_iter().zip(persons) {
            let task_id = Task::id(self.campaign_id, person_id);
            match self.seen.insert(task_id, contact.row) {
                Some(first) => {
                    errors.push(RowError { row: contact.row, message: format!("phone number repeats row {first}") });
                    self.seen.insert(task_id, first);
                }
                None => fresh.push(Known { task_id, person_id, contact }),
            }
        }
        let known = retry_conflicts(|p: &Problem| p.lost_race(None), || self.append(&fresh)).await?;
        for Known { task_id, contact, .. } in fresh {
            // Those of this very import were stored when it was begun before; it is now repeated.
            if known.get(&task_id).is_some_and(|import_id| *import_id != self.result.import_id) {
                errors.push(RowError { row: contact.row, message: "phone number is in the campaign already".to_owned() });
                continue;
            }
            self.result.created += 1;
            contact.notes.iter().for_each(|note| self.add_note(format!("Row {}: {note}", contact.row)));
        }
        errors.sort_by_key(|error| error.row);
        for error in errors {
            self.error_count += 1;
            if self.result.errors.len() < ERROR_LINES_MAX {
                self.result.errors.push(format!("Row {}: {}", error.row, error.message));
            }
        }
        Ok(())
    }

    fn add_note(&mut self, note: String) {
        self.note_count += 1;
        if self.result.notes.len() < ERROR_LINES_MAX {
            self.result.notes.push(note);
        }
    }

    /// Appends the tasks that are not there yet, together with the campaign's count of them. Answers which were there, and
    /// from which import.
    async fn append(&self, contacts: &[Known]) -> Result<HashMap<Uuid, Uuid>, Problem> {
        let ids: Vec<Uuid> = contacts.iter().map(|known| known.task_id).collect();
        let there = self.app.store.existing::<Task>(&ids).await?;
        let known = self.imports_of(there).await?;
        let mut unit = self.app.store.unit(self.context);
        let mut count = 0;
        for Known { task_id, person_id, contact } in contacts.iter().filter(|contact| !known.contains_key(&contact.task_id)) {
            let contact = contact.clone();
            let created = TaskEvent::TaskCreated(Box::new(TaskContact {
                campaign_id: self.campaign_id,
                import_id: self.result.import_id,
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
        let add = CampaignCommand::AddTasks { import_id: self.result.import_id, count };
        unit.decide::<Campaign>(self.campaign_id, add).await?;
        unit.commit().await?;
        Ok(known)
    }

    /// Which import brought each of the tasks. Only a repeated request needs to know; others get nil.
    async fn imports_of(&self, ids: HashSet<Uuid>) -> Result<HashMap<Uuid, Uuid>, StoreError> {
        let repeated = self.context.metadata.idempotency_key.is_some();
        let mut imports = HashMap::with_capacity(ids.len());
        for id in ids {
            let import_id = if repeated {
                let task: Loaded<Task> = self.app.store.load(self.context.company_id, id).await?;
                task.state.created().map(|task| task.contact.import_id)
            } else {
                None
            };
            imports.insert(id, import_id.unwrap_or_default());
        }
        Ok(imports)
    }

    async fn finish(mut self, file_name: String) -> Result<(Import, i64), Problem> {
        let more = self.error_count - self.result.errors.len() as u64;
        if more > 0 {
            self.result.errors.push(format!("and {more} more"));
        }
        let more = self.note_count - self.result.notes.len() as u64;
        if more > 0 {
            self.result.notes.push(format!("and {more} more"));
        }
        let command = CampaignCommand::FinishImport {
            import_id: self.result.import_id,
            file_name,
            total: self.result.total,
            created: self.result.created,
            error_count: self.error_count,
            errors: self.result.errors.clone(),
        };
        let committed = self.app.store.execute::<Campaign>(self.context, self.campaign_id, command).await?;
        Ok((self.result, committed.position))
    }
}
