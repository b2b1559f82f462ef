//! The routing lists: one for each listener, one handler for each operation, and the
//! checks before it in their order.
//!
//! The paths are taken as they are spelled: the gateway forwards canonical ones only,
//! and on the admin side a segment is percent-decoded once, where it is a name.

use std::borrow::Cow;
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use percent_encoding::percent_decode_str;

use crate::handler::{self, App, Handled};
use crate::record::{HEALTHZ, Listener};
use crate::respond::{Body, Refusal, Shape};

/// An answer, and the template of the route that gave it.
pub(crate) struct Answer {
    /// What metrics and logs call it: never the raw path.
    pub(crate) route: &'static str,
    /// The answer itself.
    pub(crate) response: Response<Body>,
}

/// Answers a request that came in by `listener`.
pub(crate) async fn answer(app: &Arc<App>, listener: Listener, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let (route, handled, shape) = match listener {
        Listener::Api => {
            let route = Api::of(&path);
            (route.template(), api(app, route, request).await, Shape::Plain)
        }
        Listener::Admin => {
            let route = Admin::of(&path);
            (route.template(), Box::pin(admin(app, route, request)).await, Shape::Described)
        }
    };
    Answer { route, response: handled.unwrap_or_else(|refusal| refusal.into_response(shape)) }
}

/// What the public may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api<'a> {
    Day(&'a str),
    Healthz,
    Unknown,
}

impl<'a> Api<'a> {
    fn of(path: &'a str) -> Self {
        if path == "/healthz" {
            return Self::Healthz;
        }
        // The capital is the spelling of the original's own examples.
        let day = path.strip_prefix("/holodules/").or_else(|| path.strip_prefix("/Holodules/"));
        match day {
            Some(day) if !day.is_empty() && !day.contains('/') => Self::Day(day),
            _ => Self::Unknown,
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::Day(_) => "/holodules/{day}",
            Self::Healthz => HEALTHZ,
            Self::Unknown => "unknown",
        }
    }
}

async fn api(app: &App, route: Api<'_>, request: Request<Incoming>) -> Handled {
    if route == Api::Unknown {
        return Err(Refusal::not_found("no such route"));
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Err(Refusal::method_not_allowed("GET, HEAD"));
    }
    if !request.body().is_end_stream() {
        return Err(Refusal::bad_request("this takes no body").closing());
    }
    match route {
        Api::Day(day) => handler::day(app, request.headers(), day).await,
        Api::Healthz | Api::Unknown => handler::healthz(),
    }
}

/// The internal side.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Admin<'a> {
    Verify,
    RevocationCheck,
    RevocationFeed,
    RevocationLogout,
    Users,
    User(Cow<'a, str>),
    UserPassword(Cow<'a, str>),
    Holodules,
    Holodule(Cow<'a, str>),
    Backup,
    Restore,
    Status,
    Metrics,
    Healthz,
    Readyz,
    Unknown,
}

impl<'a> Admin<'a> {
    fn of(path: &'a str) -> Self {
        match path {
            "/credentials/verify" => return Self::Verify,
            "/revocation/check" => return Self::RevocationCheck,
            "/revocation/feed" => return Self::RevocationFeed,
            "/revocation/logout" => return Self::RevocationLogout,
            "/users" => return Self::Users,
            "/holodules" => return Self::Holodules,
            "/backup" => return Self::Backup,
            "/restore" => return Self::Restore,
            "/status" => return Self::Status,
            "/metrics" => return Self::Metrics,
            "/healthz" => return Self::Healthz,
            "/readyz" => return Self::Readyz,
            _ => {}
        }
        let named = if let Some(id) = path.strip_prefix("/holodules/") {
            segment(id).map(Self::Holodule)
        } else if let Some(rest) = path.strip_prefix("/users/") {
            match rest.strip_suffix("/password") {
                Some(name) => segment(name).map(Self::UserPassword),
                None => segment(rest).map(Self::User),
            }
        } else {
            None
        };
        named.unwrap_or(Self::Unknown)
    }

    fn template(&self) -> &'static str {
        match self {
            Self::Verify => "/credentials/verify",
            Self::RevocationCheck => "/revocation/check",
            Self::RevocationFeed => "/revocation/feed",
            Self::RevocationLogout => "/revocation/logout",
            Self::Users => "/users",
            Self::User(_) => "/users/{username}",
            Self::UserPassword(_) => "/users/{username}/password",
            Self::Holodules => "/holodules",
            Self::Holodule(_) => "/holodules/{id}",
            Self::Backup => "/backup",
            Self::Restore => "/restore",
            Self::Status => "/status",
            Self::Metrics => "/metrics",
            Self::Healthz => HEALTHZ,
            Self::Readyz => "/readyz",
            Self::Unknown => "unknown",
        }
    }
}

async fn admin(app: &Arc<App>, route: Admin<'_>, request: Request<Incoming>) -> Handled {
    let (parts, body) = request.into_parts();
    handler::defend(&parts, app.allowed_hosts())?;
    // hyper leaves the body of an answer to HEAD out.
    let method = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
    match (method.as_str(), &route) {
        ("POST", Admin::Verify) => handler::verify(app, &parts, body).await,
        ("POST", Admin::RevocationCheck) => handler::check(app, &parts, body).await,
        // A HEAD would subscribe and read nothing.
        ("GET", Admin::RevocationFeed) if parts.method == Method::GET => handler::feed(app),
        ("POST", Admin::RevocationLogout) => handler::log_out(app, &parts, body).await,
        ("GET", Admin::Users) => handler::list(app).await,
        ("POST", Admin::Users) => handler::create(app, &parts, body).await,
        ("PATCH", Admin::User(name)) => handler::set_disabled(app, &parts, body, name).await,
        ("DELETE", Admin::User(name)) => handler::delete_user(app, name).await,
        ("PUT", Admin::UserPassword(name)) => handler::change_password(app, &parts, body, name).await,
        ("GET", Admin::Holodules) => handler::export(app, parts.uri.query()).await,
        ("POST", Admin::Holodules) => handler::upload(app, &parts, body).await,
        ("PUT", Admin::Holodule(id)) => handler::put(app, &parts, body, id).await,
        ("DELETE", Admin::Holodule(id)) => handler::delete(app, id).await,
        ("POST", Admin::Backup) => handler::back_up(app, &parts, body).await,
        ("POST", Admin::Restore) => handler::restore(app, &parts, body).await,
        ("GET", Admin::Status) => handler::status(app).await,
        ("GET", Admin::Metrics) => handler::metrics(app),
        ("GET", Admin::Healthz) => handler::healthz(),
        ("GET", Admin::Readyz) => handler::readyz(app).await,
        (_, Admin::Unknown) => Err(Refusal::not_found("no such route")),
        (_, Admin::Verify | Admin::RevocationCheck | Admin::RevocationLogout | Admin::Backup | Admin::Restore) => {
            Err(Refusal::method_not_allowed("POST"))
        }
        (_, Admin::RevocationFeed) => Err(Refusal::method_not_allowed("GET")),
        (_, Admin::Users | Admin::Holodules) => Err(Refusal::method_not_allowed("GET, HEAD, POST")),
        (_, Admin::User(_)) => Err(Refusal::method_not_allowed("PATCH, DELETE")),
        (_, Admin::UserPassword(_)) => Err(Refusal::method_not_allowed("PUT")),
        (_, Admin::Holodule(_)) => Err(Refusal::method_not_allowed("PUT, DELETE")),
        (_, Admin::Status | Admin::Metrics | Admin::Healthz | Admin::Readyz) => {
            Err(Refusal::method_not_allowed("GET, HEAD"))
        }
    }
}

/// One segment of a path, percent-decoded. `None` where it is empty, more than one, or no UTF-8.
fn segment(raw: &str) -> Option<Cow<'_, str>> {
    if raw.is_empty() || raw.contains('/') {
        return None;
    }
    percent_decode_str(raw).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_knows_one_route_in_two_spellings() {
        assert_eq!(Api::of("/holodules/20201209"), Api::Day("20201209"));
        assert_eq!(Api::of("/Holodules/x"), Api::Day("x"));
        for path in ["/", "/holodules", "/holodules/", "/holodules/a/b", "/HOLODULES/20201209", "/users", "/metrics"] {
            assert_eq!(Api::of(path), Api::Unknown, "{path}");
        }
    }

    #[test]
    fn names_are_decoded_once_and_stay_one_segment() {
        assert_eq!(Admin::of("/users/user%2001"), Admin::User("user 01".into()));
        assert_eq!(Admin::of("/users/a%2Fb"), Admin::User("a/b".into()));
        assert_eq!(Admin::of("/users/%2541"), Admin::User("%41".into()));
        assert_eq!(Admin::of("/users/a/password"), Admin::UserPassword("a".into()));
        assert_eq!(Admin::of("/users/password"), Admin::User("password".into()));
        assert_eq!(Admin::of("/holodules/HL0503_20201209_230000"), Admin::Holodule("HL0503_20201209_230000".into()));
        for path in ["/users/", "/users//password", "/users/a/b", "/users/%FF", "/Users", "/metrics/"] {
            assert_eq!(Admin::of(path), Admin::Unknown, "{path}");
        }
    }
}
