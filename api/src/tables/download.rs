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
use futures::stream;
use services::{
    identity::Identity,
    tables::{RowWriter as _, csv, xlsx},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    CSV, List, Row as _, TableFormat, XLSX,
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

/// How often, and after which time, a download that gets no share tries again.
const TRIES: usize = 30;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
const PIECE_BYTES: usize = 64 << 10;

/// Marks the answer to a request for a whole list: the audit records it.
#[derive(Clone, Copy)]
pub struct Exported;

/// Why a download ends early. The connection is closed without the end of the body, so that the client does not take a part for the whole.
enum Stop {
    /// The client is gone or has lost its rights, or the process stops.
    Unwanted,
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
        Self::Failed(Problem::conflict("the list got rows with other columns while it was read"))
    }
}

/// Parts of the body, on their way to the client.
type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// Answers with the whole list.
pub async fn answer<L: List>(app: App, identity: Identity, format: TableFormat, list: L) -> Result<Response, Problem> {
    let place = app.shares.of_stream(identity.company_id)?;
    // What is wrong with the request shows before the answer begins.
    let (bill, _share) = share(&app, identity.company_id).await?;
    let position = bill.measure(list.page(&app, Paging { limit: 1, cursor: None })).await?.position;
    let mut download = Download { watch: Watch::new(identity), app, list };
    let (pieces, received) = mpsc::channel(1);
    let sending = spawn_apart(async move {
        let _place = place;
        if let Err(Stop::Failed(problem)) = download.send(format, &pieces).await {
            tracing::warn!(detail = %problem.detail, "a table was not sent to its end");
            // The client may be gone.
            let _ = pieces.send(Err(io::Error::other(problem.detail))).await;
        }
    });
    // Dropping the body ends the task.
    let body = stream::unfold(Some((received, sending)), |state| async {
        let (mut received, sending) = state?;
        if let Some(piece) = received.recv().await {
            return Some((piece, Some((received, sending))));
        }
        // A task that panicked has not sent everything.
        sending.await.err().map(|error| (Err(io::Error::other(error)), None))
    });
    let (media_type, extension) = match format {
        TableFormat::Csv { .. } => (CSV, "csv"),
        TableFormat::Xlsx => (XLSX, "xlsx"),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::VARY, HeaderValue::from_static("accept")),
        (EVENT_POSITION, position.into()),
    ];
    let mut response = (StatusCode::OK, headers, Body::from_stream(body)).into_response();
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{}.{extension}\"", L::NAME)) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    }
    response.extensions_mut().insert(Exported);
    Ok(response)
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
}

impl<L: List> Download<L> {
    async fn send(&mut self, format: TableFormat, pieces: &Pieces) -> Result<(), Stop> {
        let columns = self.columns().await?;
        match format {
            TableFormat::Csv { has_mark } => self.send_text(&columns, has_mark, pieces).await,
            TableFormat::Xlsx => self.send_workbook(&columns, pieces).await,
        }
    }

    /// The columns: those of the view, and the fields that the objects of all rows have.
    async fn columns(&mut self) -> Result<Columns, Stop> {
        let mut fields = BTreeSet::new();
        if L::Item::OBJECT.is_some() {
            let mut cursor = Some(None);
            while let Some(at) = cursor {
                cursor = self
                    .page(at, |items| {
                        items.iter().for_each(|item| Columns::add_fields(item, &mut fields));
                        Ok(())
                    })
                    .await?;
            }
        }
        Ok(Columns::new(fields))
    }

    async fn send_text(&mut self, columns: &Columns, has_mark: bool, pieces: &Pieces) -> Result<(), Stop> {
        let names = columns.names::<L::Item>();
        let mut writer = csv::Writer::new(names.iter().map(String::as_str), Vec::new(), has_mark)?;
        let mut cursor = Some(None);
        while let Some(at) = cursor {
            cursor = self.page(at, |items| items.iter().try_for_each(|item| Ok(writer.write(columns.cells(item)?)?))).await?;
            send(pieces, writer.take()?).await?;
        }
        Ok(())
    }

    async fn send_workbook(&mut self, columns: &Columns, pieces: &Pieces) -> Result<(), Stop> {
        let mut file = tempfile::tempfile()?;
        let mut writer = Box::new(xlsx::Writer::new(columns.names::<L::Item>(), io::BufWriter::new(file.try_clone()?))?);
        let mut cursor = Some(None);
        while let Some(at) = cursor {
            cursor = self.page(at, |items| items.iter().try_for_each(|item| Ok(writer.write(columns.cells(item)?)?))).await?;
        }
        let (bill, share) = self.share().await?;
        bill.measure(async { writer.finish() }).await?;
        drop(share);
        file.rewind()?;
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            io::Read::by_ref(&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
            if piece.is_empty() {
                return Ok(());
            }
            send(pieces, piece).await?;
        }
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
        let mut tries = 0;
        loop {
            if *self.app.shutdown.borrow() || !self.watch.may_go_on(&self.app).await {
                return Err(Stop::Unwanted);
            }
            tries += 1;
            match share(&self.app, self.watch.company_id()).await {
                Ok(share) => return Ok(share),
                Err(problem) if tries == TRIES => return Err(problem.into()),
                Err(_) => tokio::time::sleep(TRY_AGAIN_AFTER).await,
            }
        }
    }
}

async fn send(pieces: &Pieces, piece: Vec<u8>) -> Result<(), Stop> {
    pieces.send(Ok(piece.into())).await.map_err(|_| Stop::Unwanted)
}
