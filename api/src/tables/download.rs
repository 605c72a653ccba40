//! Sends a table while its pages are read. Each page takes a share of the company's expensive reads and is charged to the company, like a
//! page of JSON; between the pages the download holds neither.

use std::{
    collections::BTreeSet,
    io::{self, Read as _, Seek as _},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use services::{
    identity::Identity,
    tables::{RowWriter, csv, xlsx},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use uuid::Uuid;

use super::{
    CSV_UTF8, List, Row, TableFormat, TableRequest, XLSX,
    columns::{Columns, NoColumn},
};
use crate::{
    answer::EVENT_POSITION,
    edge::{Bill, Payer, Share, spawn_apart},
    extract::{LIMIT_MAX, Paging},
    live::Watch,
    problem::Problem,
    state::App,
};

/// How often the columns are read again because the list grew meanwhile.
const COLUMNS_ATTEMPTS_MAX: u32 = 10;
/// How often a download asks for a share, and the time between two requests.
const SHARE_ATTEMPTS_MAX: usize = 30;
const RETRY_AFTER: Duration = Duration::from_secs(1);
const PIECE_BYTES: usize = 64 << 10;

/// Marks the answer to a request for a whole list, in this format: the audit records it.
#[derive(Clone, Copy)]
pub struct Exported(pub &'static str);

/// Why a download ends early. The connection is closed without the end of the body, so that the client does not take a part for the whole.
enum Stop {
    /// The client is gone or has lost its rights, or the process stops.
    Cancelled,
    /// Rows that were added meanwhile have fields for which the table has no column.
    OtherColumns,
    Failed(Problem),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(Problem::internal(&error))
    }
}

impl From<NoColumn> for Stop {
    fn from(_: NoColumn) -> Self {
        Self::OtherColumns
    }
}

/// Parts of the body, on their way to the client.
type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// Answers with the whole list; a HEAD request gets the headers only.
pub async fn answer<L: List>(app: App, identity: Identity, table: TableRequest, list: L) -> Result<Response, Problem> {
    let permit = app.shares.of_download(identity.company_id)?;
    // A wrong request is refused before the answer begins.
    let (bill, share) = share(&app, identity.company_id).await?;
    let position = bill.measure(list.page(&app, Paging { limit: 1, cursor: None })).await?.position;
    drop(share);
    let format = table.format;
    let body = if table.is_head {
        Body::empty()
    } else {
        let download = Download { watch: Watch::new(identity), app, list, has_sent: false };
        body(download, format, permit)
    };
    let (media_type, extension) = match format {
        TableFormat::Csv { .. } => (CSV_UTF8, "csv"),
        TableFormat::Xlsx => (XLSX, "xlsx"),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::VARY, HeaderValue::from_static("accept")),
        (EVENT_POSITION, position.into()),
    ];
    let mut response = (StatusCode::OK, headers, body).into_response();
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{}.{extension}\"", L::NAME)) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    }
    if !table.is_head {
        response.extensions_mut().insert(Exported(extension));
    }
    Ok(response)
}

/// The table as a body. Dropping it ends the download.
fn body<L: List>(mut download: Download<L>, format: TableFormat, permit: OwnedSemaphorePermit) -> Body {
    let (pieces, received) = mpsc::channel(1);
    let sending = spawn_apart(async move {
        let _permit = permit;
        if let Err(stop) = download.send(format, &pieces).await {
            let detail = match stop {
                Stop::Cancelled => "the download was cancelled".to_owned(),
                Stop::OtherColumns => {
                    let detail = "the list got rows with other columns while it was read";
                    tracing::warn!(detail, "a table was not sent to its end");
                    detail.to_owned()
                }
                Stop::Failed(problem) => {
                    tracing::warn!(detail = %problem.detail, "a table was not sent to its end");
                    problem.detail
                }
            };
            // The client may be gone.
            let _ = pieces.send(Err(io::Error::other(detail))).await;
        }
    });
    let body = stream::unfold(Some((received, sending)), |state| async {
        let (mut received, sending) = state?;
        if let Some(piece) = received.recv().await {
            return Some((piece, Some((received, sending))));
        }
        // A task that panicked has not sent everything.
        sending.await.err().map(|error| (Err(io::Error::other(error)), None))
    });
    // Compression asks again after the end.
    Body::from_stream(body.fuse())
}

/// Waits for the company's share of the processor and of the expensive reads.
async fn share(app: &App, company_id: Uuid) -> Result<(Bill, Share), Problem> {
    let bill = app.processor_time.wait(Payer::Company(company_id)).await?;
    Ok((bill, app.shares.of_expensive(company_id).await?))
}

struct Download<L> {
    app: App,
    watch: Watch,
    list: L,
    /// Whether the client has got a part.
    has_sent: bool,
}

impl<L: List> Download<L> {
    async fn send(&mut self, format: TableFormat, pieces: &Pieces) -> Result<(), Stop> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let columns = self.columns().await?;
            let sent = match format {
                TableFormat::Csv { has_mark } => self.send_text(&columns, has_mark, pieces).await,
                TableFormat::Xlsx => self.send_workbook(&columns, pieces).await,
            };
            match sent {
                Err(Stop::OtherColumns) if !self.has_sent && attempts < COLUMNS_ATTEMPTS_MAX => {}
                sent => return sent,
            }
        }
    }

    /// The columns: those of the view, and the fields that the objects of all rows have.
    async fn columns(&mut self) -> Result<Columns, Stop> {
        let mut fields = BTreeSet::new();
        let mut next = L::Item::OBJECT.is_some().then_some(None);
        while let Some(cursor) = next {
            let add = |items: Vec<L::Item>| {
                items.iter().for_each(|item| Columns::add_fields(item, &mut fields));
                Ok(())
            };
            next = self.page(cursor, add).await?.filter(|_| !Columns::are_too_many(&fields));
        }
        Ok(Columns::new(fields))
    }

    async fn send_text(&mut self, columns: &Columns, has_mark: bool, pieces: &Pieces) -> Result<(), Stop> {
        let names = columns.names::<L::Item>();
        let mut writer = csv::Writer::new(names.iter().map(String::as_str), Vec::new(), has_mark)?;
        let mut next = Some(None);
        while let Some(cursor) = next {
            next = self.page(cursor, |items| write(&mut writer, columns, &items)).await?;
            self.send_piece(writer.take()?, pieces).await?;
        }
        Ok(())
    }

    async fn send_workbook(&mut self, columns: &Columns, pieces: &Pieces) -> Result<(), Stop> {
        let mut file = tempfile::tempfile()?;
        let mut writer = Box::new(xlsx::Writer::new(columns.names::<L::Item>(), io::BufWriter::new(file.try_clone()?))?);
        let mut next = Some(None);
        while let Some(cursor) = next {
            next = self.page(cursor, |items| write(&mut *writer, columns, &items)).await?;
        }
        // The workbook is compressed: the company pays for it, and its reads go on meanwhile.
        let bill = self.app.processor_time.wait(Payer::Company(self.watch.company_id())).await?;
        let finished = tokio::task::spawn_blocking(move || bill.charge(|| writer.finish()));
        finished.await.map_err(|error| Problem::internal(&error))??;
        file.rewind()?;
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            io::Read::by_ref(&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
            if piece.is_empty() {
                return Ok(());
            }
            self.send_piece(piece, pieces).await?;
        }
    }

    async fn send_piece(&mut self, piece: Vec<u8>, pieces: &Pieces) -> Result<(), Stop> {
        self.require_rights().await?;
        self.has_sent = true;
        pieces.send(Ok(piece.into())).await.map_err(|_| Stop::Cancelled)
    }

    /// The caller must have the rights that it had when the download began.
    async fn require_rights(&mut self) -> Result<(), Stop> {
        let may_go_on = !*self.app.shutdown.borrow() && self.watch.may_go_on(&self.app).await;
        if may_go_on { Ok(()) } else { Err(Stop::Cancelled) }
    }

    /// Reads a page and uses its items, within a share. Returns the cursor of the next page, if there is one.
    async fn page(
        &mut self,
        cursor: Option<String>,
        use_items: impl FnOnce(Vec<L::Item>) -> Result<(), Stop>,
    ) -> Result<Option<Option<String>>, Stop> {
        let (bill, _share) = self.share().await?;
        let work = async {
            let page = self.list.page(&self.app, Paging { limit: LIMIT_MAX, cursor }).await?.body;
            use_items(page.items)?;
            Ok::<_, Stop>(page.next_cursor)
        };
        Ok(bill.measure(work).await?.map(Some))
    }

    /// Waits for a share, longer than a request does.
    async fn share(&mut self) -> Result<(Bill, Share), Stop> {
        let mut attempts = 0;
        loop {
            self.require_rights().await?;
            attempts += 1;
            match share(&self.app, self.watch.company_id()).await {
                Ok(share) => return Ok(share),
                Err(problem) if attempts == SHARE_ATTEMPTS_MAX => return Err(problem.into()),
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }
}

fn write<R: Row>(writer: &mut dyn RowWriter, columns: &Columns, items: &[R]) -> Result<(), Stop> {
    items.iter().try_for_each(|item| Ok(writer.write(columns.cells(item)?)?))
}
