//! The stream of changes of a list.

use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::contract::{StreamErrors, StreamParameters};
use super::lists::StreamQuery;
use super::{App, HandlerResult, STORE_RETRY};
use crate::live::{DAYS_LIMIT, DEFAULT_DAYS, LiveError, Query, Span, Subscription};
use crate::model::Day;
use crate::respond::{self, Cut, HttpError};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// `Retry-After` when there are too many streams, in seconds.
const FULL_RETRY: u32 = 30;

/// Follow the changes of a list
///
/// `200` with an endless stream of server-sent events: `snapshot`, `upsert`, `delete` and `start`, with data as JSON in
/// one line. `400` for a wrong query, or one that contains too much; `503` when there are too many streams.
#[utoipa::path(
    get,
    path = "/holodules/stream",
    operation_id = "streamHolodules",
    tag = "holodules",
    params(StreamParameters),
    security(("token" = []), ("ticket" = [])),
    responses((status = 200, description = "The events.", body = String, content_type = "text/event-stream"), StreamErrors),
)]
pub(crate) async fn stream(app: &App, parts: &Parts) -> HandlerResult {
    let streamers = app.streamers().await?;
    let StreamQuery { from, to, filter, last_event_id } = StreamQuery::parse(parts.uri.query(), &streamers)?;
    let query = Query { span: span(from, to, app.settings.lists.assumed_duration)?, filter };
    let header = parts.headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let subscription =
        app.live.subscribe(query, header.or(last_event_id.as_deref())).await.map_err(|error| match error {
            LiveError::TooLarge => HttpError::bad_request(error.to_string()),
            LiveError::Full => HttpError::unavailable(error.to_string(), FULL_RETRY),
            LiveError::Ended => HttpError::unavailable(error.to_string(), STORE_RETRY),
            LiveError::Store(error) => app.store_failed(&error),
        })?;
    let blocks = stream::unfold(subscription, async |mut subscription: Subscription| {
        let block: Bytes = subscription.next().await?;
        Some((Ok::<_, Cut>(Frame::data(block)), subscription))
    });
    let mut response = respond::with(StatusCode::OK, StreamBody::new(blocks).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The stream ends only when the service stops.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// The days from `from` to `to`, either of which may be missing.
fn span(from: Option<Day>, to: Option<Day>, assumed_duration: u32) -> Result<Span, HttpError> {
    let outside = || HttpError::bad_request("the days are outside of the years 0000 to 9999");
    let (first, last) = match (from, to) {
        (None, None) => return Ok(Span::FromToday { assumed_duration }),
        (Some(from), None) => (from, from.checked_add(DEFAULT_DAYS - 1).ok_or_else(outside)?),
        (None, Some(to)) => (to.checked_add(1 - DEFAULT_DAYS).ok_or_else(outside)?, to),
        (Some(from), Some(to)) => (from, to),
    };
    match last.days_since(first) {
        ..0 => Err(HttpError::bad_parameter("to", "to is before from", None)),
        DAYS_LIMIT.. => Err(HttpError::bad_parameter("to", format!("at most {DAYS_LIMIT} days can be streamed"), None)),
        _ => Ok(Span::Fixed(first, last)),
    }
}
