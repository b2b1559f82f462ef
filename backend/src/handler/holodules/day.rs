//! The public read: the holodules of a day.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::super::{App, HandlerResult, store_failed};
use crate::hex;
use crate::model::{Day, Public};
use crate::record::Metrics;
use crate::respond::{self, Body, HttpError};
use crate::store::Store;

/// For the edge cache: fresh for five seconds, then stale while it revalidates or the backend fails.
const CACHED: HeaderValue =
    HeaderValue::from_static("public, max-age=0, s-maxage=5, stale-while-revalidate=30, stale-if-error=86400");
/// A day without holodules is never served stale, because it may get some soon.
const CACHED_BRIEFLY: HeaderValue = HeaderValue::from_static("public, max-age=0, s-maxage=5");

/// Bytes of the SHA-256 digest in the entity tag.
const TAG_BYTES: usize = 16;
/// The maximum number of `_id`s in one log line.
const NAMED_UNREADABLE: usize = 20;

#[derive(Serialize)]
struct DayBody<'a> {
    result: usize,
    holodules: Vec<Public<'a>>,
}

/// The result of a coalesced read; `None` if the day has no holodules.
pub(crate) type Read = Result<Option<DayResponse>, HttpError>;

/// The serialized holodules of a day. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct DayResponse {
    body: Bytes,
    tag: HeaderValue,
}

/// `200` with the day's holodules, newest first, or `304`; `404` if there are none, `400` if `day` is not a day.
pub(crate) async fn day(app: &App, headers: &HeaderMap, day: &str) -> HandlerResult {
    let day = Day::parse(day).map_err(|error| HttpError::bad_request(error.to_string()))?;
    let begin = || read(app.store.clone(), Arc::clone(&app.metrics), day);
    let Some(response) = app.reads.join((day, app.store.version()), begin).await? else {
        let mut response = HttpError::not_found("no holodules on this day").into_response(respond::Shape::Plain);
        response.headers_mut().insert(CACHE_CONTROL, CACHED_BRIEFLY);
        return Ok(response);
    };
    Ok(tagged(headers, response))
}

async fn read(store: Store, metrics: Arc<Metrics>, day: Day) -> Read {
    let listing = store.day(day).await.map_err(|error| store_failed(&metrics, &error))?;
    if !listing.unreadable.is_empty() {
        metrics.unreadable(listing.unreadable.len());
        let named: Vec<&str> = listing.unreadable.iter().take(NAMED_UNREADABLE).map(String::as_str).collect();
        tracing::warn!(documents = listing.unreadable.len(), ids = ?named, "unreadable documents were left out");
    }
    if listing.holodules.is_empty() {
        return Ok(None);
    }
    let holodules: Vec<_> = listing.holodules.iter().map(|holodule| holodule.public()).collect();
    let not_serialized = |error: &dyn std::error::Error| {
        tracing::error!(%error, "the holodules of a day could not be serialized");
        HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the response could not be serialized")
    };
    let text = respond::json_bytes(&DayBody { result: holodules.len(), holodules });
    let body: Bytes = text.map_err(|error| not_serialized(&error))?.into();
    let tag = HeaderValue::try_from(entity_tag(&body)).map_err(|error| not_serialized(&error))?;
    Ok(Some(DayResponse { body, tag }))
}

/// `200` with the body, or `304` if the client has it (RFC 9110, sections 13.1.2 and 15.4.5).
fn tagged(headers: &HeaderMap, DayResponse { body, tag }: DayResponse) -> Response<Body> {
    let mut known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut response = if known.any(|list| matches(list, tag.to_str().unwrap_or_default())) {
        respond::with(StatusCode::NOT_MODIFIED, respond::empty())
    } else {
        let mut response = respond::with(StatusCode::OK, respond::full(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    response.headers_mut().insert(CACHE_CONTROL, CACHED);
    response.headers_mut().insert(ETAG, tag);
    response
}

/// A strong entity tag: unique to the body.
fn entity_tag(body: &[u8]) -> String {
    let hash = digest(&SHA256, body);
    let tag = hash.as_ref().get(..TAG_BYTES).unwrap_or_default();
    format!("\"{}\"", hex::encode(tag))
}

/// Whether an `If-None-Match` list contains `tag`, by weak comparison (RFC 9110, section 8.8.3.2).
fn matches(list: &str, tag: &str) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let opaque = rest.strip_prefix("W/").unwrap_or(rest);
        // Anything but a quoted tag ends the list: its remainder cannot be split.
        let Some(end) = opaque.strip_prefix('"').and_then(|inner| inner.find('"')) else { return false };
        let (found, after) = opaque.split_at_checked(end + 2).unwrap_or((opaque, ""));
        if found == tag {
            return true;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_of_the_body() {
        assert_eq!(entity_tag(b"a"), entity_tag(b"a"));
        assert_ne!(entity_tag(b"a"), entity_tag(b"b"));
        assert_eq!(entity_tag(b"").len(), 34);
    }

    #[test]
    fn a_list_names_a_tag() {
        for list in ["*", " * ", "\"x\"", "W/\"x\"", "\"y\", \"x\"", "\"y\",,W/\"x\"", "\"a,b\", \"x\", junk"] {
            assert!(matches(list, "\"x\""), "{list}");
        }
        for list in ["", "x", "\"y\"", "\"x", "\"xx\"", "junk, \"x\"", "\"y, \"x\"", "w/\"x\"", "**"] {
            assert!(!matches(list, "\"x\""), "{list}");
        }
    }

    #[test]
    fn a_known_body_is_not_sent_again() {
        let body = Bytes::from_static(b"body");
        let tag: HeaderValue = entity_tag(&body).parse().unwrap();
        let response = || DayResponse { body: body.clone(), tag: tag.clone() };
        let mut headers = HeaderMap::new();
        assert_eq!(tagged(&headers, response()).status(), StatusCode::OK);
        headers.insert(IF_NONE_MATCH, tag.clone());
        let response = tagged(&headers, response());
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(response.headers()[ETAG], tag);
        assert_eq!(response.headers()[CACHE_CONTROL], CACHED);
    }
}
