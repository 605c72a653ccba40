//! Uploads of call lists.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, header},
};
use domain::{campaign::Campaign, validation::FieldFault};
use serde::Serialize;
use services::{
    CallListFile, ImportReport,
    call_list::{Limits, RowError, Source},
};
use utoipa::ToSchema;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};
use uuid::Uuid;

use crate::{
    answer::Answer,
    auth::{By, Manager},
    edge::Unchanged,
    extract::Id,
    problem::Problem,
    state::App,
    uploads::{UploadPermit, read_form},
};

const FILE_NAME_MAX_CHARS: usize = 200;
const COLUMN_NAME_MAX_CHARS: usize = 1_000;
/// Maximum number of characters of an unknown field's name that a problem repeats.
const FIELD_NAME_MAX_CHARS: usize = 100;

pub fn router() -> OpenApiRouter<App> {
    // The handler itself limits the size of the file; see `Settings::upload_max_bytes`.
    OpenApiRouter::new().routes(routes!(upload).layer(DefaultBodyLimit::disable()))
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the multipart body")]
struct UploadForm {
    /// A .csv, .xlsx or .xls file whose first row that is not blank has the names of the columns: `phone_number` (required), `contact_name` or
    /// `name`, `priority` (a whole number, 0 by default; higher ones are called first). Every other column is data that the agent gets with
    /// the task. Case, blanks around a name and the order do not matter
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// The name of the column with the phone numbers, if it is not `phone_number`
    phone_column: Option<String>,
    /// `true`: only report what the upload would do; nothing is stored
    dry_run: Option<bool>,
}

/// What came of an upload.
#[derive(Serialize, ToSchema)]
pub struct Import {
    /// Id of the upload; null for a dry run
    pub import_id: Option<Uuid>,
    /// Whether nothing was stored
    pub dry_run: bool,
    /// Rows under the header that are not blank
    pub total: u64,
    /// Tasks that were created; for a dry run, tasks that an upload would create
    pub created: u64,
    /// `Row 5: …`, where the header is row 1; at most 1,000, then `and 12 more`
    pub errors: Vec<String>,
    /// The same errors, for programs; at most 1,000
    pub row_errors: Vec<RowErrorView>,
    /// The sheet of the workbook that was read: the first visible one with the column of the phone numbers. Null for text files
    pub sheet: Option<String>,
    /// The encoding of the text, from its byte-order mark or detected: UTF-8, UTF-16LE, UTF-16BE, windows-1250, windows-1251, windows-1252
    /// or ISO-8859-2. Null for workbooks
    pub encoding: Option<String>,
    /// The character between the cells of the text: a comma, a semicolon, a tab or `|`. Null for workbooks
    pub delimiter: Option<String>,
    /// Rows of the sheet that hold a value but are hidden (by the user, a filter or a height of zero): they are skipped and not part of the
    /// total
    pub hidden_rows: u64,
    /// Values that were interpreted differently from their text, or set aside: `Row 5: the name "#N/A" is read as no name`. At most 1,000,
    /// then `and 12 more`
    pub notes: Vec<String>,
}

/// Why a row became no task.
#[derive(Serialize, ToSchema)]
pub struct RowErrorView {
    /// Number of the row, where the header is row 1; of contacts in JSON, the first is 1
    row: u32,
    /// Name of the column with the error; null if the error is not in one cell
    column: Option<String>,
    /// `phone_unparsable`, `row_in_campaign`, …; it does not change
    code: String,
    /// What the cell holds, at most 60 characters of it; null if the error is not in one cell
    value: Option<String>,
    /// The error in English
    message: String,
}

impl From<RowError> for RowErrorView {
    fn from(RowError { row, cell, fault }: RowError) -> Self {
        let reason = fault.reason();
        let (column, value) = cell.map(|cell| (cell.column, cell.value)).unzip();
        Self { row, column, code: reason.code, value, message: reason.sentence }
    }
}

impl Import {
    fn new(report: ImportReport, is_dry_run: bool) -> Self {
        let Source { sheet, encoding, delimiter, hidden_rows, .. } = report.source;
        Self {
            import_id: (!is_dry_run).then_some(report.import_id),
            dry_run: is_dry_run,
            total: report.total,
            created: report.created,
            errors: report.errors,
            row_errors: report.row_errors.into_iter().map(RowErrorView::from).collect(),
            sheet,
            encoding: encoding.map(str::to_owned),
            delimiter: delimiter.map(String::from),
            hidden_rows,
            notes: report.notes,
        }
    }
}

/// Upload a call list. Bad rows are reported and the others go in; a file that is no call list changes nothing.
#[utoipa::path(post, path = "/campaigns/{id}/call-list", operation_id = "upload_call_list", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses((status = 200, body = Import), (status = 404, body = Problem), (status = 413, body = Problem), (status = 422, body = Problem)))]
async fn upload(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    permit: Option<Extension<UploadPermit>>,
    request: Request,
) -> Result<(Option<Extension<Unchanged>>, Answer<Import>), Problem> {
    let boundary = boundary(request.headers())?;
    // Refuses the upload early if the campaign does not exist.
    app.store.load_fresh::<Campaign>(by.company_id(), id).await?.state.present().ok_or_else(|| Problem::not_found("campaign"))?;
    let max_bytes = app.settings.uploads.max_bytes;
    // The body of a request with an Idempotency-Key is already received, and its memory is already acquired.
    let (form, permit) = match permit {
        Some(Extension(permit)) => {
            (axum::body::to_bytes(request.into_body(), usize::MAX).await.map_err(|e| Problem::internal(&e))?, permit)
        }
        None => app.uploads.receive(by.company_id(), request.into_body(), max_bytes).await?,
    };
    let UploadedForm { name, bytes, phone_column, is_dry_run } = UploadedForm::read(&form, &boundary, max_bytes).await?;
    drop(form);
    let limits = Limits { rows: app.settings.uploads.max_rows, columns: app.settings.uploads.max_columns };
    let file = CallListFile { name, bytes, limits, phone_column, is_dry_run, memory: Arc::new(permit) };
    let (report, position) = app.services.import_call_list(&by.op(), id, by.ids.make("import"), file).await?;
    let unchanged = is_dry_run.then_some(Extension(Unchanged));
    Ok((unchanged, Answer::ok(position, Import::new(report, is_dry_run))))
}

fn boundary(headers: &HeaderMap) -> Result<String, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    multer::parse_boundary(content_type)
        .map_err(|_| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be multipart/form-data"))
}

/// The fields of the form.
struct UploadedForm {
    /// Name and content of the file.
    name: String,
    bytes: Bytes,
    phone_column: Option<String>,
    is_dry_run: bool,
}

impl UploadedForm {
    async fn read(form: &Bytes, boundary: &str, max_bytes: usize) -> Result<Self, Problem> {
        let broken = |error: multer::Error| Problem::bad_request(format!("the form cannot be read: {error}"));
        let mut form = read_form(form, boundary);
        let (mut file, mut phone_column, mut is_dry_run) = (None, None, None);
        while let Some(field) = form.next_field().await.map_err(broken)? {
            let field_name = field.name().unwrap_or_default().to_owned();
            let file_name = field.file_name().unwrap_or("call-list").replace('\0', "").chars().take(FILE_NAME_MAX_CHARS).collect();
            let bytes = field.bytes().await.map_err(broken)?;
            let repeated = match field_name.as_str() {
                "file" if bytes.len() > max_bytes => {
                    return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the file has more than {max_bytes} bytes")));
                }
                "file" => file.replace((file_name, bytes)).is_some(),
                "phone_column" => phone_column.replace(column_name(&bytes)?).is_some(),
                "dry_run" => is_dry_run.replace(flag(&bytes)?).is_some(),
                other => {
                    let name: String = other.chars().take(FIELD_NAME_MAX_CHARS).collect();
                    return Err(Problem::bad_request(format!("the form has no field {name:?}; it has file, phone_column, dry_run")));
                }
            };
            if repeated {
                return Err(Problem::invalid(&field_name, FieldFault::Repeated));
            }
        }
        let (name, bytes) = file.ok_or_else(|| Problem::invalid("file", FieldFault::Required))?;
        Ok(Self { name, bytes, phone_column, is_dry_run: is_dry_run.unwrap_or_default() })
    }
}

fn column_name(bytes: &Bytes) -> Result<String, Problem> {
    let invalid = |fault| Err(Problem::invalid("phone_column", fault));
    match std::str::from_utf8(bytes) {
        Err(_) => invalid(FieldFault::Malformed { detail: "must be UTF-8 text".to_owned() }),
        Ok(name) if name.trim().is_empty() => invalid(FieldFault::Empty),
        Ok(name) if name.contains('\0') => invalid(FieldFault::NulCharacter),
        Ok(name) if name.chars().count() > COLUMN_NAME_MAX_CHARS => invalid(FieldFault::TooLong { max: COLUMN_NAME_MAX_CHARS }),
        Ok(name) => Ok(name.to_owned()),
    }
}

fn flag(bytes: &Bytes) -> Result<bool, Problem> {
    // Generated clients of Python send `True`.
    match bytes.to_ascii_lowercase().as_slice() {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(Problem::invalid("dry_run", FieldFault::NotOneOf { allowed: ["true", "false"].map(str::to_owned).into() })),
    }
}
