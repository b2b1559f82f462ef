//! The parts of all views: the parameters of their addresses, the headers of their responses, and how long they wait
//! for the store.

use std::time::Duration;

use http::header::{ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::super::parameters::Parameters;
use super::super::tagged::Tagged;
use super::super::{App, HandlerResult};
use crate::page::{self, Language, View};
use crate::respond::{self, Body, HttpError};
use crate::store::StoreError;

/// Only files of this service, no frames, no markup made by scripts.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// For scripts and styles.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The view that a request is for. An unknown language is ignored.
pub(super) fn view(parts: &Parts, parameters: &Parameters) -> View {
    let accept: Vec<&str> =
        parts.headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok()).collect();
    let chosen = parameters.first("lang").and_then(Language::of_tag);
    View {
        language: chosen.unwrap_or_else(|| Language::negotiate(&accept.join(","))),
        is_chosen: chosen.is_some(),
        path: parts.uri.path().to_owned(),
        query: parameters.pairs().iter().filter(|(name, _)| name != "lang").cloned().collect(),
    }
}

/// The document of a view, or of its error. `known` are the parameters of its address besides `lang`.
pub(super) async fn respond<F>(
    parts: &Parts,
    known: &[&'static str],
    make: impl FnOnce(Parameters, View) -> F,
) -> HandlerResult
where
    F: Future<Output = Result<String, HttpError>>,
{
    let known: Vec<&'static str> = known.iter().copied().chain(["lang"]).collect();
    let parsed = Parameters::decode(parts.uri.query()).and_then(|all| all.only(&known)?.unrepeated());
    let (view, made) = match parsed {
        Ok(parameters) => {
            let view = view(parts, &parameters);
            (view.clone(), make(parameters, view).await)
        }
        Err(error) => (view(parts, &Parameters::default()), Err(error)),
    };
    Ok(match made {
        Ok(document) => html(respond::with(StatusCode::OK, respond::full(document))),
        Err(error) => {
            let document = page::failure(&view, &error.description);
            let mut response = error.into_response(respond::Shape::Described);
            *response.body_mut() = respond::full(document);
            html(response)
        }
    })
}

/// How long a view waits for a store that does not respond to a probe. Operations of a store that does may take longer.
pub(super) const SILENCE: Duration = Duration::from_secs(2);

/// [`respond()`] for a view that reads the store: an error after [`SILENCE`] if the store does not respond, although the
/// timeout of each operation is longer.
pub(super) async fn respond_from_store<F>(
    app: &App,
    parts: &Parts,
    known: &[&'static str],
    make: impl FnOnce(Parameters, View) -> F,
) -> HandlerResult
where
    F: Future<Output = Result<String, HttpError>>,
{
    respond(parts, known, async |parameters, view| {
        let silence = async {
            // An error of the probe is also one of the view.
            if tokio::time::timeout(SILENCE, app.store.check_ready()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            made = make(parameters, view) => made,
            () = silence => Err(app.store_failed(&no_response())),
        }
    })
    .await
}

/// The error of a store that has not responded for [`SILENCE`].
pub(super) fn no_response() -> StoreError {
    StoreError::Unavailable(format!("no response within {} s", SILENCE.as_secs()))
}

/// `404` with a document: there is no such view.
pub(crate) async fn unknown(parts: &Parts) -> HandlerResult {
    respond(parts, &[], async |_, _| Err(HttpError::not_found("no such page"))).await
}

fn html(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Language"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A script or style: `200`, or `304` if the client has it. It can be cached for a year, because its path has its hash.
pub(crate) fn asset(parts: &Parts, path: &str) -> HandlerResult {
    let asset = page::asset(path).ok_or_else(|| HttpError::not_found("no such file"))?;
    let tagged = Tagged::new(asset.content, HeaderValue::from_static(asset.media_type));
    let mut response = tagged.into_response(&parts.headers, CACHED);
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}
