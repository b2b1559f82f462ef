//! Bulk upload: each row is stored or rejected with a reason.

use bytes::{Buf, Bytes};
use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;
use serde::Serialize;

use super::super::csrf::{content_type, unsupported};
use super::super::{App, BUSY_RETRY, HandlerResult, body};
use crate::import::{Batch, Bounds, Form, ImportError};
use crate::respond::{self, HttpError};
use crate::store::Upserted;

/// Rows per write. On the embedded store a write is atomic; between two, other writers can proceed.
const STEP: usize = 500;
/// Bounds of one upload, which is held in memory with the reasons of rejected rows. The shortest row has one byte;
/// without these bounds, 64 MiB would take a hundred times as much memory.
const BOUNDS: Bounds = Bounds { rows: 200_000, weight: 2_000_000 };

/// The response: the result of an upload.
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

/// `200` when every valid row is durable, with the reasons for the others; `400` if the file cannot be read at all,
/// `413` if it has too many rows or values. Then nothing is stored.
pub(crate) async fn upload(app: &App, parts: &Parts, incoming: Incoming) -> HandlerResult {
    let form = content_type(&parts.headers).and_then(|essence| Form::of_media_type(&essence));
    let Some(form) = form else {
        return Err(unsupported("the content type must be text/csv, application/x-ndjson or application/json"));
    };
    // Before the body is read, because each upload is held in memory.
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
        "holodules uploaded"
    );
    Ok(respond::json(StatusCode::OK, &summary))
}

/// Parses the rows on a blocking thread: a large file would block a worker for too long.
async fn read(form: Form, body: Bytes) -> Result<Batch, HttpError> {
    let read = tokio::task::spawn_blocking(move || Batch::read_within(form, body.reader(), BOUNDS)).await;
    match read {
        Ok(Ok(batch)) => Ok(batch),
        Ok(Err(
            error @ (ImportError::Header(_)
            | ImportError::UnknownColumns(_)
            | ImportError::NoArray
            | ImportError::AfterArray
            | ImportError::EndsEarly),
        )) => Err(HttpError::bad_request(error.to_string())),
        Ok(Err(error @ (ImportError::TooManyRows(_) | ImportError::TooManyValues))) => {
            let description = format!("the upload {error}: send it in parts");
            Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, description))
        }
        // Reading from memory does not fail, and a panic is logged where it occurs.
        Ok(Err(ImportError::Io(_))) | Err(_) => {
            Err(HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the upload could not be read"))
        }
    }
}
