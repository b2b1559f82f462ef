//! The routes of the admin listener. A segment that is a name is percent-decoded once.

use std::borrow::Cow;
use std::sync::Arc;

use http::{Method, Request};
use hyper::body::Incoming;

use super::segment;
use crate::handler::{self, App, HandlerResult};
use crate::record::HEALTHZ;
use crate::respond::HttpError;

/// The template of the feed.
pub(super) const FEED: &str = "/revocation/feed";
/// The template of the state of upgrades, which is `holodule_handover::PAGE`.
const UPGRADE: &str = "/upgrade";

/// The routes of the admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AdminRoute<'a> {
    Calendar,
    PageRecord,
    PageSearch,
    PageTransfer,
    PageUsers,
    PageCalendars,
    PageDuplicates,
    PageHealth,
    PageAsset(&'a str),
    PageUnknown,
    Verify,
    RevocationCheck,
    RevocationFeed,
    RevocationLogout,
    Users,
    User(Cow<'a, str>),
    UserPassword(Cow<'a, str>),
    UserRoles(Cow<'a, str>),
    UserCalendars(Cow<'a, str>),
    /// With the id of the feed.
    UserCalendar(Cow<'a, str>, Cow<'a, str>),
    Holodules,
    Holodule(Cow<'a, str>),
    Duplicates,
    /// With the `video_id` and the id of the document.
    Duplicate(Cow<'a, str>, Cow<'a, str>),
    Streamers,
    Backup,
    Restore,
    Status,
    Metrics,
    Healthz,
    Readyz,
    Upgrade,
    Unknown,
}

impl<'a> AdminRoute<'a> {
    pub(super) fn of(path: &'a str) -> Self {
        match path {
            "/" => return Self::Calendar,
            "/page/record" => return Self::PageRecord,
            "/page/search" => return Self::PageSearch,
            "/page/transfer" => return Self::PageTransfer,
            "/page/users" => return Self::PageUsers,
            "/page/calendars" => return Self::PageCalendars,
            "/page/duplicates" => return Self::PageDuplicates,
            "/page/health" => return Self::PageHealth,
            "/credentials/verify" => return Self::Verify,
            "/revocation/check" => return Self::RevocationCheck,
            FEED => return Self::RevocationFeed,
            "/revocation/logout" => return Self::RevocationLogout,
            "/users" => return Self::Users,
            "/holodules" => return Self::Holodules,
            "/duplicates" => return Self::Duplicates,
            "/streamers" => return Self::Streamers,
            "/backup" => return Self::Backup,
            "/restore" => return Self::Restore,
            "/status" => return Self::Status,
            "/metrics" => return Self::Metrics,
            "/healthz" => return Self::Healthz,
            "/readyz" => return Self::Readyz,
            UPGRADE => return Self::Upgrade,
            _ => {}
        }
        if let Some(asset) = path.strip_prefix("/page/assets/") {
            return Self::PageAsset(asset);
        }
        if path.starts_with("/page/") {
            return Self::PageUnknown;
        }
        let named = if let Some(id) = path.strip_prefix("/holodules/") {
            segment(id).map(Self::Holodule)
        } else if let Some((video_id, id)) = path.strip_prefix("/duplicates/").and_then(|rest| rest.split_once('/')) {
            segment(video_id).zip(segment(id)).map(|(video_id, id)| Self::Duplicate(video_id, id))
        } else if let Some(rest) = path.strip_prefix("/users/") {
            Self::of_user(rest)
        } else {
            None
        };
        named.unwrap_or(Self::Unknown)
    }

    /// The route of what follows `/users/`.
    fn of_user(rest: &'a str) -> Option<Self> {
        let Some((name, more)) = rest.split_once('/') else { return segment(rest).map(Self::User) };
        let name = segment(name)?;
        match more.split_once('/') {
            None if more == "password" => Some(Self::UserPassword(name)),
            None if more == "roles" => Some(Self::UserRoles(name)),
            None if more == "calendar" => Some(Self::UserCalendars(name)),
            Some(("calendar", id)) => Some(Self::UserCalendar(name, segment(id)?)),
            _ => None,
        }
    }

    /// The same route, or none if the page is disabled and the route is one of its own.
    pub(super) fn with_page(self, has_page: bool) -> Self {
        match self {
            Self::Calendar
            | Self::PageRecord
            | Self::PageSearch
            | Self::PageTransfer
            | Self::PageUsers
            | Self::PageCalendars
            | Self::PageDuplicates
            | Self::PageHealth
            | Self::PageAsset(_)
            | Self::PageUnknown
                if !has_page =>
            {
                Self::Unknown
            }
            route => route,
        }
    }

    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::Calendar => "/",
            Self::PageRecord => "/page/record",
            Self::PageSearch => "/page/search",
            Self::PageTransfer => "/page/transfer",
            Self::PageUsers => "/page/users",
            Self::PageCalendars => "/page/calendars",
            Self::PageDuplicates => "/page/duplicates",
            Self::PageHealth => "/page/health",
            Self::PageAsset(_) => "/page/assets/{asset}",
            Self::Verify => "/credentials/verify",
            Self::RevocationCheck => "/revocation/check",
            Self::RevocationFeed => FEED,
            Self::RevocationLogout => "/revocation/logout",
            Self::Users => "/users",
            Self::User(_) => "/users/{username}",
            Self::UserPassword(_) => "/users/{username}/password",
            Self::UserRoles(_) => "/users/{username}/roles",
            Self::UserCalendars(_) => "/users/{username}/calendar",
            Self::UserCalendar(..) => "/users/{username}/calendar/{id}",
            Self::Holodules => "/holodules",
            Self::Holodule(_) => "/holodules/{id}",
            Self::Duplicates => "/duplicates",
            Self::Duplicate(..) => "/duplicates/{video_id}/{id}",
            Self::Streamers => "/streamers",
            Self::Backup => "/backup",
            Self::Restore => "/restore",
            Self::Status => "/status",
            Self::Metrics => "/metrics",
            Self::Healthz => HEALTHZ,
            Self::Readyz => "/readyz",
            Self::Upgrade => UPGRADE,
            Self::PageUnknown | Self::Unknown => "unknown",
        }
    }
}

pub(super) async fn handle(app: &Arc<App>, route: AdminRoute<'_>, request: Request<Incoming>) -> HandlerResult {
    let (parts, body) = request.into_parts();
    handler::check_csrf(&parts, app.allowed_hosts())?;
    // hyper omits the body of the response to HEAD.
    let method = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
    match (method.as_str(), &route) {
        ("GET", AdminRoute::Calendar) => handler::calendar_page(app, &parts).await,
        ("GET", AdminRoute::PageRecord) => handler::record(app, &parts).await,
        ("GET", AdminRoute::PageSearch) => handler::search_page(app, &parts).await,
        ("GET", AdminRoute::PageTransfer) => handler::transfer_page(&parts).await,
        ("GET", AdminRoute::PageUsers) => handler::users_page(app, &parts).await,
        ("GET", AdminRoute::PageCalendars) => handler::calendars_page(app, &parts).await,
        ("GET", AdminRoute::PageDuplicates) => handler::duplicates_page(app, &parts).await,
        ("GET", AdminRoute::PageHealth) => handler::health_page(app, &parts).await,
        ("GET", AdminRoute::PageAsset(path)) => handler::asset(&parts, path),
        ("GET", AdminRoute::PageUnknown) => handler::unknown_page(&parts).await,
        ("POST", AdminRoute::Verify) => handler::verify(app, &parts, body).await,
        ("POST", AdminRoute::RevocationCheck) => handler::check(app, &parts, body).await,
        // A HEAD would subscribe without reading anything.
        ("GET", AdminRoute::RevocationFeed) if parts.method == Method::GET => handler::feed(app),
        ("POST", AdminRoute::RevocationLogout) => handler::log_out(app, &parts, body).await,
        ("GET", AdminRoute::Users) => handler::list(app).await,
        ("POST", AdminRoute::Users) => handler::create(app, &parts, body).await,
        ("PATCH", AdminRoute::User(name)) => handler::set_disabled(app, &parts, body, name).await,
        ("DELETE", AdminRoute::User(name)) => handler::delete_user(app, name).await,
        ("PUT", AdminRoute::UserPassword(name)) => handler::change_password(app, &parts, body, name).await,
        ("GET", AdminRoute::UserRoles(name)) => handler::list_roles(app, name).await,
        ("PUT", AdminRoute::UserRoles(name)) => handler::replace_roles(app, &parts, body, name).await,
        ("PATCH", AdminRoute::UserRoles(name)) => handler::edit_roles(app, &parts, body, name).await,
        ("GET", AdminRoute::UserCalendars(name)) => handler::list_calendars_of_user(app, name).await,
        ("DELETE", AdminRoute::UserCalendar(name, id)) => handler::delete_calendar_of_user(app, name, id).await,
        ("GET", AdminRoute::Holodules) => handler::export(app, parts.uri.query()).await,
        ("POST", AdminRoute::Holodules) => handler::upload(app, &parts, body).await,
        ("PUT", AdminRoute::Holodule(id)) => handler::put(app, &parts, body, id).await,
        ("DELETE", AdminRoute::Holodule(id)) => handler::delete(app, &parts, id).await,
        ("GET", AdminRoute::Duplicates) => handler::list_duplicates(app).await,
        ("DELETE", AdminRoute::Duplicate(video_id, id)) => handler::delete_duplicate(app, video_id, id).await,
        ("GET", AdminRoute::Streamers) => handler::list_stored_streamers(app).await,
        ("POST", AdminRoute::Streamers) => handler::import_streamers(app, &parts, body).await,
        ("POST", AdminRoute::Backup) => handler::back_up(app, &parts, body).await,
        ("POST", AdminRoute::Restore) => handler::restore(app, &parts, body).await,
        ("GET", AdminRoute::Status) => handler::status(app).await,
        ("GET", AdminRoute::Metrics) => handler::metrics(app),
        ("GET", AdminRoute::Healthz) => handler::healthz(),
        ("GET", AdminRoute::Readyz) => handler::readyz(app).await,
        ("GET", AdminRoute::Upgrade) => handler::upgrades(app),
        (_, AdminRoute::PageUnknown | AdminRoute::Unknown) => Err(HttpError::not_found("no such route")),
        (
            _,
            AdminRoute::Verify
            | AdminRoute::RevocationCheck
            | AdminRoute::RevocationLogout
            | AdminRoute::Backup
            | AdminRoute::Restore,
        ) => Err(HttpError::method_not_allowed(&[Method::POST])),
        (_, AdminRoute::RevocationFeed) => Err(HttpError::method_not_allowed(&[Method::GET])),
        (_, AdminRoute::Users | AdminRoute::Holodules | AdminRoute::Streamers) => {
            Err(HttpError::method_not_allowed(&[Method::GET, Method::HEAD, Method::POST]))
        }
        (_, AdminRoute::User(_)) => Err(HttpError::method_not_allowed(&[Method::PATCH, Method::DELETE])),
        (_, AdminRoute::UserPassword(_)) => Err(HttpError::method_not_allowed(&[Method::PUT])),
        (_, AdminRoute::UserRoles(_)) => {
            Err(HttpError::method_not_allowed(&[Method::GET, Method::HEAD, Method::PUT, Method::PATCH]))
        }
        (_, AdminRoute::UserCalendar(..) | AdminRoute::Duplicate(..)) => {
            Err(HttpError::method_not_allowed(&[Method::DELETE]))
        }
        (_, AdminRoute::Holodule(_)) => Err(HttpError::method_not_allowed(&[Method::PUT, Method::DELETE])),
        (
            _,
            AdminRoute::Calendar
            | AdminRoute::PageRecord
            | AdminRoute::PageAsset(_)
            | AdminRoute::PageSearch
            | AdminRoute::PageTransfer
            | AdminRoute::PageUsers
            | AdminRoute::PageCalendars
            | AdminRoute::UserCalendars(_)
            | AdminRoute::Duplicates
            | AdminRoute::PageDuplicates
            | AdminRoute::PageHealth
            | AdminRoute::Status
            | AdminRoute::Metrics
            | AdminRoute::Healthz
            | AdminRoute::Readyz
            | AdminRoute::Upgrade,
        ) => Err(HttpError::method_not_allowed(&[Method::GET, Method::HEAD])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once_and_stay_one_segment() {
        assert_eq!(AdminRoute::of("/users/user%2001"), AdminRoute::User("user 01".into()));
        assert_eq!(AdminRoute::of("/users/a%2Fb"), AdminRoute::User("a/b".into()));
        assert_eq!(AdminRoute::of("/users/%2541"), AdminRoute::User("%41".into()));
        assert_eq!(AdminRoute::of("/users/a/password"), AdminRoute::UserPassword("a".into()));
        assert_eq!(AdminRoute::of("/users/password"), AdminRoute::User("password".into()));
        assert_eq!(AdminRoute::of("/users/a%2Froles/roles"), AdminRoute::UserRoles("a/roles".into()));
        assert_eq!(AdminRoute::of("/users/roles"), AdminRoute::User("roles".into()));
        assert_eq!(AdminRoute::of("/users/a%2Fb/calendar"), AdminRoute::UserCalendars("a/b".into()));
        assert_eq!(AdminRoute::of("/users/a/calendar/0f"), AdminRoute::UserCalendar("a".into(), "0f".into()));
        assert_eq!(
            AdminRoute::of("/holodules/HL0503_20201209_230000"),
            AdminRoute::Holodule("HL0503_20201209_230000".into())
        );
        assert_eq!(AdminRoute::of("/duplicates/a%2Fb/0f"), AdminRoute::Duplicate("a/b".into(), "0f".into()));
        for path in [
            "/users/",
            "/users//password",
            "/users//roles",
            "/users/a/b",
            "/users/a/roles/b",
            "/users/a/calendar/",
            "/users/a/calendar/b/c",
            "/users//calendar/b",
            "/duplicates/a",
            "/duplicates/a/",
            "/duplicates//b",
            "/duplicates/a/b/c",
            "/users/%FF",
            "/Users",
            "/metrics/",
        ] {
            assert_eq!(AdminRoute::of(path), AdminRoute::Unknown, "{path}");
        }
    }
}
