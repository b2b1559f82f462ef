//! The reference page, and its style.

use std::sync::LazyLock;

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

use super::super::HandlerResult;
use super::super::tagged::Tagged;
use super::{CACHED, DOCUMENT};
use crate::reference;
use crate::respond::{Body, HttpError, empty};

/// No scripts, no frames, and nothing of another origin. The icon is empty.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");

/// The page, rendered once.
static PAGE: LazyLock<Result<Tagged, HttpError>> = LazyLock::new(|| {
    let document = serde_json::to_value(&*DOCUMENT).map_err(|error| {
        tracing::error!(%error, "the reference could not be rendered");
        HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the reference could not be rendered")
    })?;
    Ok(Tagged::new(reference::page(&document), HTML))
});

/// `200` with the human-readable reference of the API, or `304`.
pub(crate) fn docs(parts: &Parts) -> HandlerResult {
    Ok(protected(PAGE.clone()?.into_response(&parts.headers, CACHED)))
}

/// `308` to the reference, whose links are relative to its path. The target is relative too, for a gateway that removes
/// a prefix.
pub(crate) fn docs_redirect() -> HandlerResult {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("docs/"));
    response.headers_mut().insert(CACHE_CONTROL, CACHED);
    Ok(response)
}

/// `200` with the style of the reference, or `304`.
pub(crate) fn docs_style(parts: &Parts) -> HandlerResult {
    Ok(protected(Tagged::new(reference::STYLE, CSS).into_response(&parts.headers, CACHED)))
}

fn protected(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
