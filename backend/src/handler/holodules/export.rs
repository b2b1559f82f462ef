//! Exports all holodules as a stream.

use std::mem;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::super::{App, HandlerResult};
use crate::import::{Exporter, Form};
use crate::respond::{self, Cut, HttpError};
use crate::store::{Exported, StoreError};

/// Records are combined to chunks of about this many bytes.
const PIECE: usize = 32 * 1024;

/// The number of documents that could not be read and are not in the export.
pub(crate) const UNREADABLE_DOCUMENTS: HeaderName = HeaderName::from_static("x-unreadable-documents");

/// `200` with all holodules by time and key, as `format=ndjson` (the default), `csv` or `json`. With
/// `format=csv&spreadsheet=true`, cells that a spreadsheet would execute are escaped.
///
/// The store is read twice: the columns and the count of unreadable documents, which come first, depend on all records.
pub(crate) async fn export(app: &App, query: Option<&str>) -> HandlerResult {
    let csv = "attachment; filename=\"holodules.csv\"";
    let (form, guarded, disposition) = match query.unwrap_or_default() {
        "" | "format=ndjson" => (Form::Ndjson, false, "attachment; filename=\"holodules.ndjson\""),
        "format=csv" => (Form::Csv, false, csv),
        "format=csv&spreadsheet=true" => (Form::Csv, true, csv),
        "format=json" => (Form::Json, false, "attachment; filename=\"holodules.json\""),
        _ => return Err(HttpError::bad_request("the query may be format=csv, format=ndjson or format=json")),
    };
    let Survey { code, unreadable } = survey(app).await?;
    let records = app.store.export().await.map_err(|error| app.store_failed(&error))?;
    let exporter = Exporter::new(form, code);
    let exporter = if guarded { exporter.guarded() } else { exporter };
    let export = Export { exporter, records, state: ExportState::Begin };
    let pieces = stream::unfold(export, |mut export| async move { Some((export.piece().await?, export)) });
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync();

    let mut response = respond::with(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(disposition));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(UNREADABLE_DOCUMENTS, HeaderValue::from(unreadable));
    Ok(response)
}

/// What must be known of all records before the first is written.
#[derive(Default)]
struct Survey {
    code: bool,
    unreadable: u64,
}

async fn survey(app: &App) -> Result<Survey, HttpError> {
    let failed = |error| app.store_failed(&error);
    let mut survey = Survey::default();
    let mut records = app.store.export().await.map_err(failed)?;
    while let Some(record) = records.next().await {
        match record.map_err(failed)? {
            Ok(holodule) => survey.code |= Exporter::needs_code(&holodule),
            Err(id) => {
                app.metrics.unreadable(1);
                tracing::warn!(id, "an unreadable document is left out of an export");
                survey.unreadable += 1;
            }
        }
    }
    Ok(survey)
}

/// An export in progress.
struct Export {
    exporter: Exporter,
    records: BoxStream<'static, Result<Exported, StoreError>>,
    state: ExportState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ExportState {
    Begin,
    Records,
    Ended,
}

impl Export {
    /// The next chunk; `None` after the last. An error aborts the response, so that the client cannot mistake a part
    /// for the whole.
    async fn piece(&mut self) -> Option<Result<Bytes, Cut>> {
        let mut piece = match mem::replace(&mut self.state, ExportState::Records) {
            ExportState::Begin => self.exporter.begin(),
            ExportState::Records => Vec::new(),
            ExportState::Ended => return None,
        };
        while piece.len() < PIECE {
            match self.records.next().await {
                Some(Ok(Ok(holodule))) => match self.exporter.record(&holodule) {
                    Ok(record) => piece.extend(record),
                    Err(error) => return Some(Err(self.cut(&error))),
                },
                // Counted and logged by the survey.
                Some(Ok(Err(_unreadable))) => {}
                Some(Err(error)) => return Some(Err(self.cut(&error))),
                None => {
                    self.state = ExportState::Ended;
                    piece.extend(self.exporter.end());
                    break;
                }
            }
        }
        Some(Ok(piece.into()))
    }

    fn cut(&mut self, error: &dyn std::error::Error) -> Cut {
        tracing::warn!(%error, "export aborted");
        self.state = ExportState::Ended;
        Cut
    }
}
