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
    streamers: Vec<ShownStreamer<'a>>,
}

/// A streamer as in the author's later service.
#[derive(Serialize, ToSchema)]
#[schema(as = Streamer)]
pub(in crate::handler) struct ShownStreamer<'a> {
    /// The id in the store, as text.
    id: &'a str,
    /// The code, such as `HL0503`.
    #[schema(required)]
    code: Option<&'a str>,
    /// The name.
    #[schema(required)]
    name: Option<&'a str>,
    /// The group, such as `hololive`.
    #[schema(required)]
    group: Option<&'a str>,
    /// Further affiliations; null if there are none.
    #[schema(required)]
    affiliations: Option<&'a [String]>,
    /// The name of an image.
    #[schema(required)]
    image_name: Option<&'a str>,
    /// The id of the channel at YouTube.
    #[schema(required)]
    channel_id: Option<&'a str>,
    /// Whether the streamer is retired; false if that is not stored.
    is_retired: bool,
}

impl<'a> From<&'a Streamer> for ShownStreamer<'a> {
    fn from(streamer: &'a Streamer) -> Self {
        let Streamer { id, code, name, group, affiliations, image_name, channel_id, is_retired } = streamer;
        Self {
            id,
            code: Some(code.as_str()).filter(|code| !code.is_empty()),
            name: name.as_deref(),
            group: group.as_deref(),
            affiliations: Some(affiliations.as_slice()).filter(|affiliations| !affiliations.is_empty()),
            image_name: image_name.as_deref(),
            channel_id: channel_id.as_deref(),
            is_retired: is_retired.unwrap_or(false),
        }
    }
}

/// An error in the form of the author's later service.
#[derive(Serialize)]
pub(super) struct IdentifiedError<'a> {
    /// The message.
    message: &'a str,
    /// The id in the path, or the name of the parameter.
    identifier: &'a str,
}

/// List streamers
///
/// `200` with the streamers, by code, or those of `group`; `304`. Other parameters are ignored, as in the author's
/// service.
#[utoipa::path(
    get,
    path = "/streamers",
    operation_id = "listStreamers",
    tag = "streamers",
    params(("group" = Option<String>, Query, description = "Only the streamers of this group.")),
    responses((status = 200, description = "The streamers.", body = StreamerList<'_>), PlainErrors),
)]
pub(crate) async fn streamers(app: &App, parts: &Parts) -> HandlerResult {
    let parameters = Parameters::decode(parts.uri.query())?;
    let group = parameters.first("group");
    let all = app.streamers().await?;
    let is_listed = |streamer: &&Streamer| group.is_none_or(|group| streamer.group.as_deref() == Some(group));
    let list = StreamerList { streamers: all.stored().into_iter().filter(is_listed).map(Into::into).collect() };
    Ok(Tagged::json(&list)?.into_response(&parts.headers, CACHED))
}

/// Read a streamer
///
/// `200` with the streamer with this id, or else this code; `304`, `404`.
#[utoipa::path(
    get,
    path = "/streamers/{id}",
    operation_id = "readStreamer",
    tag = "streamers",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9_-]+$", description = "The id or the code of a streamer.")),
    responses((status = 200, description = "The streamer.", body = ShownStreamer<'_>), StreamerErrors),
)]
pub(crate) async fn streamer(app: &App, parts: &Parts, id: &str) -> HandlerResult {
    let all = app.streamers().await?;
    match all.stored().into_iter().find(|streamer| streamer.id == id).or_else(|| all.get(id)) {
        Some(streamer) => Ok(Tagged::json(&ShownStreamer::from(streamer))?.into_response(&parts.headers, CACHED)),
        None => Ok(missing("Streamer not found", id)),
    }
}

/// A `404` in the form of the author's later service.
pub(super) fn missing(message: &str, identifier: &str) -> http::Response<respond::Body> {
    identified(StatusCode::NOT_FOUND, message, identifier)
}

/// An error in the form of the author's later service, which caches must not store.
pub(super) fn identified(status: StatusCode, message: &str, identifier: &str) -> http::Response<respond::Body> {
    respond::no_store(respond::json(status, &IdentifiedError { message, identifier }))
}
