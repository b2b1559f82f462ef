//! Bulk upload: any of the three forms, each row stored or refused with a reason.

use bytes::{Buf, Bytes};
use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;
use serde::Serialize;

use super::super::defence::{content_type, unsupported};
use super::super::{App, BUSY_RETRY, HandlerResult, body};
use crate::import::{Batch, Bounds, Form, ImportError};
use crate::respond::{self, HttpError};
use crate::store::Upserted;

/// Rows stored in one step. A step is durable, or did not happen, on the embedded
/// store; between two of them other writers have their turn.
const STEP: usize = 500;
/// What one upload may hold. All of it is held in memory, the reason of a refused row too, and
/// the shortest row has one byte: without these bounds 64 MiB would take a hundred times as much.
const BOUNDS: Bounds = Bounds { rows: 200_000, weight: 2_000_000 };

/// What became of an upload.
#[derive(Debug, Default, Serialize)]
struct UploadSummary {
    read: usize,
    inserted: u64,
    updated: u64,
    unchanged: u64,
    rejected: Vec<RejectedRow>,
}

#[derive(Debug, Serialize)]
struct RejectedRow {
    row: u64,
    reason: String,
}

/// `200` once every row that may be stored is durable, with the others and why not;
/// `400` where the file as a whole cannot be read, `413` where it has too many rows or values; then
/// nothing was stored.
pub(crate) async fn upload(app: &App, parts: &Parts, incoming: Incoming) -> HandlerResult {
    let form = content_type(&parts.headers).and_then(|essence| Form::of_media_type(&essence));
    let Some(form) = form else {
        return Err(unsupported("this takes text/csv, application/x-ndjson or application/json"));
    };
    // Before the body is read: each upload is held in memory.
    let Ok(_turn) = app.uploads.try_acquire() else {
        return Err(HttpError::unavailable("too many uploads at once", BUSY_RETRY).closing());
    };
    let body = body::read(incoming, app.settings.body_limit, app.settings.body_timeout).await?;
    let Batch { entries, rejects, .. } = read(form, body).await?;

    let mut summary = UploadSummary { read: entries.len() + rejects.len(), ..UploadSummary::default() };
    summary.rejected =
        rejects.into_iter().map(|reject| RejectedRow { row: reject.row, reason: reject.reason }).collect();
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let step = entries.by_ref().take(STEP).collect();
        for outcome in app.store.upsert(step).await.map_err(|error| app.store_failed(&error))? {
            match outcome {
                Upserted::Inserted => summary.inserted += 1,
                Upserted::Updated => summary.updated += 1,
                Upserted::Unchanged => summary.unchanged += 1,
            }
        }
    }
    app.metrics.rows(summary.inserted, summary.updated, summary.unchanged, summary.rejected.len() as u64);
    tracing::info!(
        read = summary.read,
        inserted = summary.inserted,
        updated = summary.updated,
        unchanged = summary.unchanged,
        rejected = summary.rejected.len(),
        "holodules were uploaded"
    );
    Ok(respond::json(StatusCode::OK, &summary))
}

/// Reads the rows on a thread of their own: a large file takes longer than a request may hold up others.
async fn read(form: Form, body: Bytes) -> Result<Batch, HttpError> {
    let read = tokio::task::spawn_blocking(move || Batch::read_within(form, body.reader(), BOUNDS)).await;
    match read {
        Ok(Ok(batch)) => Ok(batch),
        Ok(Err(error @ (ImportError::Header(_) | ImportError::UnknownColumns(_) | ImportError::NoArray))) => {
            Err(HttpError::bad_request(error.to_string()))
        }
        Ok(Err(error @ (ImportError::TooManyRows(_) | ImportError::TooManyValues))) => {
            let description = format!("the upload {error}: send it in parts");
            Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, description))
        }
        // Memory does not fail to be read, and a thread that died has said why.
        Ok(Err(ImportError::Io(_))) | Err(_) => {
            Err(HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the upload could not be read"))
        }
    }
}
