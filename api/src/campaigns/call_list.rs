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
    call_list::{Limits, Source},
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
    extract::Id,
    problem::Problem,
    state::App,
    uploads::{UploadPermit, read_form},
};

const FILE_NAME_MAX_CHARS: usize = 200;

pub fn router() -> OpenApiRouter<App> {
    // The handler itself limits the size of the file; see `Settings::upload_max_bytes`.
    OpenApiRouter::new().routes(routes!(upload).layer(DefaultBodyLimit::disable()))
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the multipart body")]
struct UploadForm {
    /// A .csv, .xlsx or .xls file with a column phone_number
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// What came of an upload.
#[derive(Serialize, ToSchema)]
pub struct Import {
    /// Id of the upload
    pub import_id: Uuid,
    /// Rows under the header that are not blank
    pub total: u64,
    /// Tasks that were created
    pub created: u64,
    /// `Row 5: …`, where the header is row 1; at most 1,000, then `and 12 more`
    pub errors: Vec<String>,
    /// The sheet of the workbook that was read: the first visible one with a column phone_number. Null for text files
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

impl From<ImportReport> for Import {
    fn from(report: ImportReport) -> Self {
        let Source { sheet, encoding, delimiter, hidden_rows, .. } = report.source;
        Self {
            import_id: report.import_id,
            total: report.total,
            created: report.created,
            errors: report.errors,
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
) -> Result<Answer<Import>, Problem> {
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
    let (name, bytes) = find_file(&form, &boundary, max_bytes).await?;
    drop(form);
    let limits = Limits { rows: app.settings.uploads.max_rows, columns: app.settings.uploads.max_columns };
    let file = CallListFile { name, bytes, limits, memory: Arc::new(permit) };
    let (report, position) = app.services.import_call_list(&by.op(), id, by.ids.make("import"), file).await?;
    Ok(Answer::ok(position, report.into()))
}

fn boundary(headers: &HeaderMap) -> Result<String, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    multer::parse_boundary(content_type)
        .map_err(|_| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be multipart/form-data"))
}

/// Name and content of the form's field `file`.
async fn find_file(form: &Bytes, boundary: &str, max_bytes: usize) -> Result<(String, Bytes), Problem> {
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
        return Ok((name, bytes));
    }
    Err(Problem::invalid("file", FieldFault::Required))
}
