//! Responses with an entity tag.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::model::tag_of;
use crate::respond::{self, Body, HttpError};

/// A complete body with its strong entity tag. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Tagged {
    body: Bytes,
    tag: HeaderValue,
    content_type: HeaderValue,
}

impl Tagged {
    /// The JSON of `value`.
    ///
    /// # Errors
    /// `500` if it cannot be expressed in JSON; no response type here has such a value.
    pub(super) fn json(value: &impl Serialize) -> Result<Self, HttpError> {
        let text = respond::json_bytes(value).map_err(|error| {
            tracing::error!(%error, "a response could not be serialized");
            HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the response could not be serialized")
        })?;
        Ok(Self::new(text, HeaderValue::from_static("application/json")))
    }

    pub(super) fn new(body: impl Into<Bytes>, content_type: HeaderValue) -> Self {
        let body = body.into();
        // Hexadecimal digits between quotes are a header value.
        let tag = HeaderValue::try_from(tag_of(&body)).unwrap_or(HeaderValue::from_static("\"\""));
        Self { body, tag, content_type }
    }

    /// `200` with the body, or `304` if the client has it (RFC 9110, sections 13.1.2 and 15.4.5).
    pub(super) fn into_response(self, headers: &HeaderMap, cache_control: HeaderValue) -> Response<Body> {
        let Self { body, tag, content_type } = self;
        let mut known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut response = if known.any(|list| matches(list, tag.to_str().unwrap_or_default())) {
            respond::with(StatusCode::NOT_MODIFIED, respond::empty())
        } else {
            let mut response = respond::with(StatusCode::OK, respond::full(body));
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            response
        };
        response.headers_mut().insert(CACHE_CONTROL, cache_control);
        response.headers_mut().insert(ETAG, tag);
        response
    }
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
        let cached = HeaderValue::from_static("public");
        let tag: HeaderValue = tag_of(b"{}\n").parse().unwrap();
        let response =
            |headers: &HeaderMap| Tagged::json(&serde_json::json!({})).unwrap().into_response(headers, cached.clone());
        let mut headers = HeaderMap::new();
        let whole = response(&headers);
        assert_eq!(whole.status(), StatusCode::OK);
        assert_eq!(whole.headers()[CONTENT_TYPE], "application/json");
        headers.insert(IF_NONE_MATCH, tag.clone());
        let response = response(&headers);
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(response.headers()[ETAG], tag);
        assert_eq!(response.headers()[CACHE_CONTROL], "public");
    }
}
