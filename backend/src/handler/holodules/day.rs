//! The public read: the holodules of a day.

use std::sync::Arc;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::contract::{DayErrors, DayParameters};
use super::super::tagged::Tagged;
use super::super::{App, HandlerResult, report_unreadable, store_failed};
use crate::model::{Day, Public};
use crate::record::Metrics;
use crate::respond::{self, HttpError};
use crate::store::Store;

/// For the edge cache: fresh for five seconds, then stale while it revalidates or the backend fails.
const CACHED: HeaderValue =
    HeaderValue::from_static("public, max-age=0, s-maxage=5, stale-while-revalidate=30, stale-if-error=86400");
/// A day without holodules is never served stale, because it may get some soon.
const CACHED_BRIEFLY: HeaderValue = HeaderValue::from_static("public, max-age=0, s-maxage=5");

/// The response to `GET /holodules/{day}`.
#[derive(Serialize, ToSchema)]
#[schema(as = Day)]
pub(in crate::handler) struct DayBody<'a> {
    /// The number of streams.
    #[schema(example = 17)]
    result: usize,
    /// The streams, latest first.
    holodules: Vec<Public<'a>>,
}

/// The result of a coalesced read; `None` if the day has no holodules.
pub(crate) type Read = Result<Option<Tagged>, HttpError>;

/// The streams of a day
///
/// `200` with the day's holodules, newest first, or `304`; `404` if there are none, `400` if `day` is not a day.
#[utoipa::path(
    get,
    path = "/holodules/{day}",
    operation_id = "readDay",
    tag = "holodules",
    params(DayParameters),
    responses((status = 200, description = "The streams.", body = DayBody<'_>), DayErrors),
)]
pub(crate) async fn day(app: &App, headers: &HeaderMap, day: &str) -> HandlerResult {
    let day = Day::parse(day).map_err(|error| HttpError::bad_request(error.to_string()))?;
    let begin = || read(app.store.clone(), Arc::clone(&app.metrics), day);
    let Some(response) = app.reads.join((day, app.store.version()), begin).await? else {
        let mut response = HttpError::not_found("no holodules on this day").into_response(respond::Shape::Plain);
        response.headers_mut().insert(CACHE_CONTROL, CACHED_BRIEFLY);
        return Ok(response);
    };
    Ok(response.into_response(headers, CACHED))
}

async fn read(store: Store, metrics: Arc<Metrics>, day: Day) -> Read {
    let listing = store.day(day).await.map_err(|error| store_failed(&metrics, &error))?;
    report_unreadable(&metrics, &listing.unreadable);
    if listing.holodules.is_empty() {
        return Ok(None);
    }
    let holodules: Vec<_> = listing.holodules.iter().map(|holodule| holodule.public()).collect();
    Tagged::json(&DayBody { result: holodules.len(), holodules }).map(Some)
}
