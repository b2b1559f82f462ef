//! Lists of holodules by pages.

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::contract::{ListErrors, ListParameters, StreamerListErrors, StreamerListParameters};
use super::super::tagged::Tagged;
use super::super::{App, HandlerResult, report_unreadable, store_failed};
use super::cursor::{self, QueryDigest};
use super::query::{ListQuery, Moment, Resolved, is_known_code};
use super::{CACHED, CACHED_BY_CLOCK};
use crate::model::{Entry, PageRequest, Selection, Streamers};
use crate::record::Metrics;
use crate::respond::HttpError;
use crate::store::{Listing, StoreError};

/// The key of a coalesced read: two requests with the same key get the same response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListKey {
    selection: Selection,
    page: PageRequest,
    digest: QueryDigest,
    version: u64,
}

/// The result of a coalesced read.
pub(crate) type ListRead = Result<Tagged, HttpError>;

/// The response to `GET /holodules` and `GET /streamers/{code}/holodules`.
#[derive(Serialize, ToSchema)]
#[schema(as = List)]
pub(in crate::handler) struct ListBody<'a> {
    /// The exact number of holodules of the whole list.
    total: u64,
    /// The holodules of this page.
    holodules: Vec<Entry<'a>>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    next: Option<String>,
}

/// List streams
///
/// `200` with a page of holodules, which may be empty, or `304`; `400` if the query is wrong, `429` and `503` if there
/// are too many searches.
#[utoipa::path(
    get,
    path = "/holodules",
    operation_id = "listHolodules",
    tag = "holodules",
    params(ListParameters),
    responses((status = 200, description = "A page, also of no streams.", body = ListBody<'_>), ListErrors),
)]
pub(crate) async fn holodules(app: &App, parts: &Parts) -> HandlerResult {
    let query = ListQuery::parse(parts.uri.query())?;
    let streamers = app.streamers().await?;
    page(app, parts, &query, streamers).await
}

/// List the streams of a streamer
///
/// The list of one streamer; `404` if there is no streamer with this code.
#[utoipa::path(
    get,
    path = "/streamers/{code}/holodules",
    operation_id = "listHolodulesOfStreamer",
    tag = "streamers",
    params(
        ("code" = String, Path, pattern = "^[A-Za-z0-9_-]+$", description = "The code of a streamer."),
        StreamerListParameters,
    ),
    responses((status = 200, description = "A page, also of no streams.", body = ListBody<'_>), StreamerListErrors),
)]
pub(crate) async fn of_streamer(app: &App, parts: &Parts, code: &str) -> HandlerResult {
    let query = ListQuery::parse_of_streamer(parts.uri.query(), code)?;
    let streamers = app.streamers().await?;
    if !is_known_code(code, &streamers) {
        return Err(HttpError::not_found("no streamer with this code"));
    }
    page(app, parts, &query, streamers).await
}

async fn page(app: &App, parts: &Parts, query: &ListQuery, streamers: Arc<Streamers>) -> HandlerResult {
    let moment = Moment { now: app.now(), assumed_duration: app.settings.lists.assumed_duration };
    let Resolved { selection, page, digest, depends_on_clock } = query.resolve(moment, &streamers)?;
    let cache_control = if depends_on_clock { CACHED_BY_CLOCK } else { CACHED };
    if selection.text.is_some() {
        app.lists.search.count(Instant::now())?;
    }
    let key = ListKey { selection, page, digest, version: app.store.version() };
    let begin = || {
        let (store, metrics, search) = (app.store.clone(), Arc::clone(&app.metrics), Arc::clone(&app.lists.search));
        let ListKey { selection, page, digest, .. } = key.clone();
        async move {
            let listing = search.read(&store, &selection, &page).await?;
            respond(&metrics, listing, &digest, &streamers)
        }
    };
    Ok(app.lists.reads.join(key.clone(), begin).await?.into_response(&parts.headers, cache_control))
}

fn respond(
    metrics: &Metrics,
    listing: Result<Listing, StoreError>,
    digest: &QueryDigest,
    streamers: &Streamers,
) -> ListRead {
    let Listing { total, entries, next, unreadable } = listing.map_err(|error| store_failed(metrics, &error))?;
    report_unreadable(metrics, &unreadable);
    Tagged::json(&ListBody {
        total,
        holodules: entries.iter().map(|holodule| Entry::of(holodule, streamers)).collect(),
        next: next.map(|position| cursor::encode(digest, &position)),
    })
}
