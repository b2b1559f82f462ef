//! The routes of the api listener.

use std::borrow::Cow;
use std::sync::Arc;

use http::{Method, Request};
use hyper::body::{Body as _, Incoming};

use super::segment;
use crate::handler::{self, App, HandlerResult};
use crate::record::HEALTHZ;
use crate::respond::{HttpError, Shape};

/// The methods of a route that is only read.
const READ: &[Method] = &[Method::GET, Method::HEAD];
/// The template of streams, which end only when the service stops.
pub(super) const STREAM: &str = "/holodules/stream";
/// The reference of the API for people. Its links are relative to this path.
const DOCS: &str = "/docs/";
const DOCS_WITHOUT_SLASH: &str = "/docs";
const DOCS_STYLE: &str = "/docs/style.css";

/// A route. To add one: a variant, its path in [`ApiRoute::of`], its template, its methods and the form of its errors,
/// and its handler in [`handle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApiRoute<'a> {
    Day(&'a str),
    Holodules,
    Now,
    OpenApi,
    Docs,
    DocsWithoutSlash,
    DocsStyle,
    Streamers,
    Streamer(Cow<'a, str>),
    StreamerHolodules(Cow<'a, str>),
    Stream,
    Schedules,
    Schedule(Cow<'a, str>),
    Calendars,
    /// With the id.
    Calendar(&'a str),
    /// With the key.
    CalendarFeed(&'a str),
    Healthz,
    Unknown,
}

impl<'a> ApiRoute<'a> {
    pub(super) fn of(path: &'a str) -> Self {
        match path {
            "/holodules" => return Self::Holodules,
            STREAM => return Self::Stream,
            "/now" => return Self::Now,
            "/openapi.json" => return Self::OpenApi,
            DOCS => return Self::Docs,
            DOCS_WITHOUT_SLASH => return Self::DocsWithoutSlash,
            DOCS_STYLE => return Self::DocsStyle,
            "/streamers" => return Self::Streamers,
            "/schedules" => return Self::Schedules,
            "/calendar" => return Self::Calendars,
            HEALTHZ => return Self::Healthz,
            _ => {}
        }
        if let Some(id) = path.strip_prefix("/schedules/") {
            return segment(id).map_or(Self::Unknown, Self::Schedule);
        }
        if let Some(name) = path.strip_prefix("/calendar/") {
            return match name.strip_suffix(".ics") {
                _ if name.contains('/') => Self::Unknown,
                Some(key) => Self::CalendarFeed(key),
                None if name.is_empty() => Self::Unknown,
                None => Self::Calendar(name),
            };
        }
        if let Some(rest) = path.strip_prefix("/streamers/") {
            let route = match rest.strip_suffix("/holodules") {
                Some(code) => segment(code).map(Self::StreamerHolodules),
                None => segment(rest).map(Self::Streamer),
            };
            return route.unwrap_or(Self::Unknown);
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
            Self::Holodules => "/holodules",
            Self::Now => "/now",
            Self::OpenApi => "/openapi.json",
            Self::Docs => DOCS,
            Self::DocsWithoutSlash => DOCS_WITHOUT_SLASH,
            Self::DocsStyle => DOCS_STYLE,
            Self::Streamers => "/streamers",
            Self::Streamer(_) => "/streamers/{id}",
            Self::StreamerHolodules(_) => "/streamers/{code}/holodules",
            Self::Stream => STREAM,
            Self::Schedules => "/schedules",
            Self::Schedule(_) => "/schedules/{id}",
            Self::Calendars => "/calendar",
            Self::Calendar(_) => "/calendar/{id}",
            Self::CalendarFeed(_) => "/calendar/{key}.ics",
            Self::Healthz => HEALTHZ,
            Self::Unknown => "unknown",
        }
    }

    /// The form of its errors.
    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Holodules
            | Self::Stream
            | Self::Now
            | Self::StreamerHolodules(_)
            | Self::Calendars
            | Self::Calendar(_)
            | Self::CalendarFeed(_) => Shape::Problem,
            Self::Day(_)
            | Self::Streamers
            | Self::Streamer(_)
            | Self::Schedules
            | Self::Schedule(_)
            | Self::OpenApi
            | Self::Docs
            | Self::DocsWithoutSlash
            | Self::DocsStyle
            | Self::Healthz
            | Self::Unknown => Shape::Plain,
        }
    }

    /// Its methods.
    fn methods(&self) -> &'static [Method] {
        match self {
            Self::Day(_)
            | Self::Holodules
            | Self::Now
            | Self::OpenApi
            | Self::Docs
            | Self::DocsWithoutSlash
            | Self::DocsStyle
            | Self::Streamers
            | Self::Streamer(_)
            | Self::StreamerHolodules(_)
            | Self::Schedules
            | Self::Schedule(_)
            | Self::CalendarFeed(_)
            | Self::Healthz
            | Self::Unknown => READ,
            // A HEAD would subscribe without reading anything.
            Self::Stream => &[Method::GET],
            Self::Calendars => &[Method::GET, Method::HEAD, Method::POST],
            Self::Calendar(_) => &[Method::DELETE],
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
    if parts.method != Method::POST && !body.is_end_stream() {
        return Err(HttpError::bad_request("this request takes no body").closing());
    }
    // hyper omits the body of the response to HEAD.
    match route {
        ApiRoute::Day(day) => handler::day(app, &parts.headers, day).await,
        ApiRoute::Holodules => handler::list_holodules(app, &parts).await,
        ApiRoute::Now => handler::now(app, &parts).await,
        ApiRoute::OpenApi => handler::openapi(&parts).await,
        ApiRoute::Docs => handler::docs(&parts),
        ApiRoute::DocsWithoutSlash => handler::docs_redirect(),
        ApiRoute::DocsStyle => handler::docs_style(&parts),
        ApiRoute::Streamers => handler::list_streamers(app, &parts).await,
        ApiRoute::Streamer(id) => handler::streamer(app, &parts, &id).await,
        ApiRoute::StreamerHolodules(code) => handler::list_of_streamer(app, &parts, &code).await,
        ApiRoute::Stream => handler::stream(app, &parts).await,
        ApiRoute::Schedules => handler::schedules(app, &parts).await,
        ApiRoute::Schedule(id) => handler::schedule(app, &parts, &id).await,
        ApiRoute::Calendars if parts.method == Method::POST => handler::create_calendar(app, &parts, body).await,
        ApiRoute::Calendars => handler::list_calendars(app, &parts.headers).await,
        ApiRoute::Calendar(id) => handler::delete_calendar(app, &parts.headers, id).await,
        ApiRoute::CalendarFeed(key) => handler::read_calendar(app, &parts.headers, key).await,
        ApiRoute::Healthz | ApiRoute::Unknown => handler::healthz(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn a_day_has_two_spellings() {
        assert_eq!(ApiRoute::of("/holodules/20201209"), ApiRoute::Day("20201209"));
        assert_eq!(ApiRoute::of("/Holodules/x"), ApiRoute::Day("x"));
        for path in ["/", "/holodules/", "/holodules/a/b", "/HOLODULES/20201209", "/users", "/metrics"] {
            assert_eq!(ApiRoute::of(path), ApiRoute::Unknown, "{path}");
        }
    }

    /// A route of each variant.
    fn all() -> Vec<ApiRoute<'static>> {
        let all = vec![
            ApiRoute::Day("20201209"),
            ApiRoute::Holodules,
            ApiRoute::Now,
            ApiRoute::OpenApi,
            ApiRoute::Docs,
            ApiRoute::DocsWithoutSlash,
            ApiRoute::DocsStyle,
            ApiRoute::Streamers,
            ApiRoute::Streamer("a".into()),
            ApiRoute::StreamerHolodules("a".into()),
            ApiRoute::Schedules,
            ApiRoute::Schedule("a".into()),
            ApiRoute::Stream,
            ApiRoute::Calendars,
            ApiRoute::Calendar("a"),
            ApiRoute::CalendarFeed("a"),
            ApiRoute::Healthz,
            ApiRoute::Unknown,
        ];
        for route in &all {
            // To add a variant here is to add it to the list above.
            match route {
                ApiRoute::Day(_)
                | ApiRoute::Holodules
                | ApiRoute::Now
                | ApiRoute::OpenApi
                | ApiRoute::Docs
                | ApiRoute::DocsWithoutSlash
                | ApiRoute::DocsStyle
                | ApiRoute::Streamers
                | ApiRoute::Streamer(_)
                | ApiRoute::StreamerHolodules(_)
                | ApiRoute::Schedules
                | ApiRoute::Schedule(_)
                | ApiRoute::Stream
                | ApiRoute::Calendars
                | ApiRoute::Calendar(_)
                | ApiRoute::CalendarFeed(_)
                | ApiRoute::Healthz
                | ApiRoute::Unknown => {}
            }
        }
        all
    }

    #[test]
    fn the_document_has_the_routes_of_clients_with_their_methods() {
        let document = handler::document();
        let documented: BTreeMap<&str, BTreeSet<String>> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            // The gateway's own.
            .filter(|(path, _)| !path.starts_with("/auth"))
            .map(|(path, item)| (path.as_str(), item.as_object().unwrap().keys().cloned().collect()))
            .collect();
        let all = all();
        let for_clients = all
            .iter()
            .filter(|route| ![DOCS, DOCS_WITHOUT_SLASH, DOCS_STYLE, HEALTHZ, "unknown"].contains(&route.template()))
            .map(|route| {
                (route.template(), route.methods().iter().map(|method| method.as_str().to_lowercase()).collect())
            });
        assert_eq!(for_clients.collect::<BTreeMap<_, _>>(), documented);
    }

    #[test]
    fn a_streamer_is_one_decoded_segment() {
        assert_eq!(ApiRoute::of("/streamers/HL0001"), ApiRoute::Streamer("HL0001".into()));
        assert_eq!(ApiRoute::of("/streamers/a%2Fb"), ApiRoute::Streamer("a/b".into()));
        assert_eq!(ApiRoute::of("/streamers/holodules"), ApiRoute::Streamer("holodules".into()));
        assert_eq!(ApiRoute::of("/streamers/HL0001/holodules"), ApiRoute::StreamerHolodules("HL0001".into()));
        assert_eq!((ApiRoute::of("/streamers"), ApiRoute::of("/now")), (ApiRoute::Streamers, ApiRoute::Now));
        for path in ["/streamers/", "/streamers//holodules", "/streamers/a/b", "/streamers/%FF", "/Streamers", "/now/"]
        {
            assert_eq!(ApiRoute::of(path), ApiRoute::Unknown, "{path}");
        }
    }

    #[test]
    fn a_feed_has_a_suffix() {
        assert_eq!(ApiRoute::of("/calendar"), ApiRoute::Calendars);
        assert_eq!(ApiRoute::of("/calendar/0f"), ApiRoute::Calendar("0f"));
        assert_eq!(ApiRoute::of("/calendar/0f.ics"), ApiRoute::CalendarFeed("0f"));
        assert_eq!(ApiRoute::of("/calendar/.ics"), ApiRoute::CalendarFeed(""));
        for path in ["/calendar/", "/calendar/a/b.ics", "/calendar/a.ics/", "/Calendar/a.ics", "/calendars"] {
            assert_eq!(ApiRoute::of(path), ApiRoute::Unknown, "{path}");
        }
    }
}
