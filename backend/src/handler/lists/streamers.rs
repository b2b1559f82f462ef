//! The streamers: cached for lists, and served as in the author's later service.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::contract::{PlainErrors, StreamerErrors};
use super::super::parameters::Parameters;
use super::super::tagged::Tagged;
use super::super::{App, HandlerResult};
use super::CACHED;
use crate::coalesce::Coalescer;
use crate::model::{Streamer, Streamers};
use crate::respond::{self, HttpError};

/// How long streamers are used without another read, if no change is detected: on a standalone MongoDB, writes of
/// other programs are not.
const AGE_LIMIT: Duration = Duration::from_secs(30);

/// The last read of all streamers, and at which version of the store.
#[derive(Debug)]
pub(super) struct StreamersCache {
    last: Mutex<Option<(u64, Instant, Arc<Streamers>)>>,
    reads: Coalescer<u64, Result<Arc<Streamers>, HttpError>>,
}

impl StreamersCache {
    pub(super) fn new() -> Self {
        Self { last: Mutex::new(None), reads: Coalescer::new() }
    }

    fn at(&self, version: u64, now: Instant) -> Option<Arc<Streamers>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, since, streamers) = last.as_ref()?;
        (*of == version && now.saturating_duration_since(*since) < AGE_LIMIT).then(|| Arc::clone(streamers))
    }
}

impl App {
    /// All streamers, at most 30 s old, and read after every change that is detected.
    ///
    /// # Errors
    /// `503` or `500` if the store cannot be read.
    pub(in crate::handler) async fn streamers(&self) -> Result<Arc<Streamers>, HttpError> {
        let version = self.store.version();
        if let Some(streamers) = self.lists.streamers.at(version, Instant::now()) {
            return Ok(streamers);
        }
        let (store, metrics) = (self.store.clone(), Arc::clone(&self.metrics));
        let read = move || async move {
            let streamers = store.streamers().await;
            streamers.map(Arc::new).map_err(|error| super::super::store_failed(&metrics, &error))
        };
        let streamers = self.lists.streamers.reads.join(version, read).await?;
        let read = Some((version, Instant::now(), Arc::clone(&streamers)));
        *self.lists.streamers.last.lock().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(streamers)
    }
}

/// The response to `GET /streamers`.
#[derive(Serialize, ToSchema)]
pub(in crate::handler) struct StreamerList<'a> {
    /// By code.
    streamers: Vec<&'a Streamer>,
}

/// A `404` in the form of the author's later service.
#[derive(Serialize)]
pub(super) struct Missing<'a> {
    /// The message.
    pub(super) message: &'static str,
    /// The id in the path.
    pub(super) identifier: &'a str,
}

/// List streamers
///
/// `200` with the streamers, by code, or those of `group`; `304`. Other parameters are ignored, as in the author's
/// service.
#[utoipa::path(
    get,
    path = "/streamers",
    tag = "streamers",
    params(("group" = Option<String>, Query, description = "Only the streamers of this group.")),
    responses((status = 200, description = "The streamers.", body = StreamerList<'_>), PlainErrors),
)]
pub(crate) async fn streamers(app: &App, parts: &Parts) -> HandlerResult {
    let parameters = Parameters::decode(parts.uri.query())?;
    let group = parameters.first("group");
    let all = app.streamers().await?;
    let is_listed = |streamer: &&Streamer| group.is_none_or(|group| streamer.group.as_deref() == Some(group));
    let list = StreamerList { streamers: all.iter().filter(is_listed).collect() };
    Ok(Tagged::json(&list)?.into_response(&parts.headers, CACHED))
}

/// Read a streamer
///
/// `200` with the streamer with this id, or else this code; `304`, `404`.
#[utoipa::path(
    get,
    path = "/streamers/{id}",
    tag = "streamers",
    params(("id" = String, Path, description = "The id or the code of a streamer.")),
    responses((status = 200, description = "The streamer.", body = Streamer), StreamerErrors),
)]
pub(crate) async fn streamer(app: &App, parts: &Parts, id: &str) -> HandlerResult {
    let all = app.streamers().await?;
    match all.iter().find(|streamer| streamer.id == id).or_else(|| all.get(id)) {
        Some(streamer) => Ok(Tagged::json(streamer)?.into_response(&parts.headers, CACHED)),
        None => Ok(missing("Streamer not found", id)),
    }
}

/// The `404` of the author's later service, which caches must not store.
pub(super) fn missing(message: &'static str, identifier: &str) -> http::Response<respond::Body> {
    respond::no_store(respond::json(StatusCode::NOT_FOUND, &Missing { message, identifier }))
}
