//! The routes of the api listener.

use std::sync::Arc;

use http::{Method, Request};
use hyper::body::{Body as _, Incoming};

use crate::handler::{self, App, HandlerResult};
use crate::record::HEALTHZ;
use crate::respond::{HttpError, Shape};

/// The methods of a route that is only read.
const READ: &[Method] = &[Method::GET, Method::HEAD];

/// A route. To add one: a variant, its path in [`ApiRoute::of`], its template, its methods and the form of its errors,
/// and its handler in [`handle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApiRoute<'a> {
    Day(&'a str),
    Healthz,
    Unknown,
}

impl<'a> ApiRoute<'a> {
    pub(super) fn of(path: &'a str) -> Self {
        if path == "/healthz" {
            return Self::Healthz;
        }
        // The original's examples spell it with a capital.
        let day = path.strip_prefix("/holodules/").or_else(|| path.strip_prefix("/Holodules/"));
        match day {
            Some(day) if !day.is_empty() && !day.contains('/') => Self::Day(day),
            _ => Self::Unknown,
        }
    }

    /// The label for metrics and logs.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::Day(_) => "/holodules/{day}",
            Self::Healthz => HEALTHZ,
            Self::Unknown => "unknown",
        }
    }

    /// The form of its errors.
    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Day(_) | Self::Healthz | Self::Unknown => Shape::Plain,
        }
    }

    /// Its methods.
    fn methods(&self) -> &'static [Method] {
        match self {
            Self::Day(_) | Self::Healthz | Self::Unknown => READ,
        }
    }
}

pub(super) async fn handle(app: &Arc<App>, route: ApiRoute<'_>, request: Request<Incoming>) -> HandlerResult {
    if route == ApiRoute::Unknown {
        return Err(HttpError::not_found("no such route"));
    }
    let methods = route.methods();
    if !methods.contains(request.method()) {
        return Err(HttpError::method_not_allowed(methods));
    }
    let (parts, body) = request.into_parts();
    if READ.contains(&parts.method) && !body.is_end_stream() {
        return Err(HttpError::bad_request("this request takes no body").closing());
    }
    // hyper omits the body of the response to HEAD.
    match route {
        ApiRoute::Day(day) => handler::day(app, &parts.headers, day).await,
        ApiRoute::Healthz | ApiRoute::Unknown => handler::healthz(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_two_spellings() {
        assert_eq!(ApiRoute::of("/holodules/20201209"), ApiRoute::Day("20201209"));
        assert_eq!(ApiRoute::of("/Holodules/x"), ApiRoute::Day("x"));
        for path in ["/", "/holodules", "/holodules/", "/holodules/a/b", "/HOLODULES/20201209", "/users", "/metrics"] {
            assert_eq!(ApiRoute::of(path), ApiRoute::Unknown, "{path}");
        }
    }
}
