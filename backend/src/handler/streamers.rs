//! Lists and imports streamers on the admin listener.

use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;
use serde::Serialize;

use super::csrf::{content_type, unsupported};
use super::{App, BUSY_RETRY, HandlerResult, body};
use crate::import::read_streamers;
use crate::model::Streamer;
use crate::respond::{self, HttpError};

/// The largest file of streamers, in bytes.
const BODY_LIMIT: usize = 4 << 20;

/// The response with all streamers.
#[derive(Serialize)]
struct StreamerList<'a> {
    streamers: Vec<&'a Streamer>,
}

/// The response: the result of an import of streamers.
#[derive(Serialize)]
struct StreamersSummary {
    read: usize,
    inserted: usize,
    updated: usize,
    unchanged: usize,
}

/// `200` with all streamers, by code, from the store.
pub(crate) async fn list(app: &App) -> HandlerResult {
    let streamers = app.store.streamers().await.map_err(|error| app.store_failed(&error))?;
    Ok(respond::json(StatusCode::OK, &StreamerList { streamers: streamers.iter().collect() }))
}

/// `200` when all streamers of a CSV are durable. `400` with the rows that are wrong; then nothing is stored.
pub(crate) async fn import(app: &App, parts: &Parts, incoming: Incoming) -> HandlerResult {
    if content_type(&parts.headers).as_deref() != Some("text/csv") {
        return Err(unsupported("the content type must be text/csv"));
    }
    let Ok(_turn) = app.uploads.try_acquire() else {
        return Err(HttpError::unavailable("too many uploads at once", BUSY_RETRY).closing());
    };
    let limit = BODY_LIMIT.min(app.settings.body_limit);
    let file = body::read(incoming, limit, app.settings.body_timeout).await?;
    let streamers = tokio::task::spawn_blocking(move || read_streamers(&file)).await;
    // A panic is logged where it occurs.
    let streamers = streamers
        .map_err(|_| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the upload could not be read"))?
        .map_err(|error| HttpError::bad_request(error.to_string()))?;
    let read = streamers.len();
    let stored = app.store.store_streamers(streamers).await.map_err(|error| app.store_failed(&error))?;
    let summary =
        StreamersSummary { read, inserted: stored.inserted, updated: stored.updated, unchanged: stored.unchanged };
    tracing::info!(read, inserted = summary.inserted, updated = summary.updated, "streamers imported");
    Ok(respond::json(StatusCode::OK, &summary))
}
