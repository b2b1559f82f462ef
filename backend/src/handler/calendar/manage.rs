//! The feeds of a user, identified by the gateway.

use std::collections::BTreeSet;

use http::header::LOCATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::contract::{CalendarErrors, NewCalendarErrors, RemovedCalendarErrors};
use super::super::lists::check_known;
use super::super::{App, HandlerResult, body};
use super::read::no_such_feed;
use crate::model::{
    CALENDARS_LIMIT, Calendar, CalendarKey, FILTER_VALUES_LIMIT, Filter, NAME_LIMIT, RESERVED_PREFIX, WallClock,
};
use crate::respond::{self, HttpError};
use crate::store::CalendarCreated;
use crate::{clock, hex};

/// The maximum request body, in bytes.
const BODY_LIMIT: usize = 64 * 1024;
/// The longest value of a filter, in characters.
const VALUE_LIMIT: usize = NAME_LIMIT;

/// The request. A missing member does not restrict the feed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateCalendar {
    /// The name of the calendar, without control characters.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", example = "hololive")]
    label: Option<String>,
    /// Codes of streamers.
    #[serde(default)]
    #[schema(max_items = 100, value_type = Vec<FilterValue>, example = json!(["HL0503"]))]
    code: Vec<String>,
    /// Exact names of streamers.
    #[serde(default)]
    #[schema(max_items = 100, value_type = Vec<FilterValue>, example = json!([]))]
    name: Vec<String>,
    /// Groups of streamers.
    #[serde(default)]
    #[schema(max_items = 100, value_type = Vec<FilterValue>, example = json!([]))]
    group: Vec<String>,
    /// Exact tags of videos.
    #[serde(default)]
    #[schema(max_items = 100, value_type = Vec<FilterValue>, example = json!([]))]
    tag: Vec<String>,
}

/// A value of a filter, without control characters.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 512, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
#[expect(dead_code, reason = "only its description is used")]
struct FilterValue(String);

/// A new calendar feed.
#[derive(Serialize, ToSchema)]
struct CreatedCalendar<'a> {
    #[serde(flatten)]
    calendar: ShownCalendar<'a>,
    /// Shown only now: its hash is stored.
    key: &'a str,
    /// The path of the feed at the gateway.
    path: String,
}

/// The calendar feeds of a user.
#[derive(Serialize, ToSchema)]
pub(super) struct CalendarList<'a> {
    /// By their creation.
    calendars: Vec<ShownCalendar<'a>>,
}

impl<'a> CalendarList<'a> {
    /// The response with `calendars`.
    pub(super) fn of(calendars: &'a [Calendar]) -> Self {
        Self { calendars: calendars.iter().map(ShownCalendar::from).collect() }
    }
}

/// A calendar feed without its key.
#[derive(Serialize, ToSchema)]
struct ShownCalendar<'a> {
    /// Identifies it when it is deleted.
    id: &'a str,
    /// Null without one.
    #[schema(required)]
    label: Option<&'a str>,
    /// What it contains.
    filter: ShownFilter<'a>,
    /// RFC 3339, with the offset of Japan.
    #[schema(required, format = DateTime)]
    created_at: Option<String>,
}

/// The filter with the names of the request.
#[derive(Serialize, ToSchema)]
struct ShownFilter<'a> {
    /// Codes of streamers.
    code: &'a BTreeSet<String>,
    /// Exact names of streamers.
    name: &'a BTreeSet<String>,
    /// Groups of streamers.
    group: &'a BTreeSet<String>,
    /// Exact tags of videos.
    tag: &'a BTreeSet<String>,
}

impl<'a> From<&'a Calendar> for ShownCalendar<'a> {
    fn from(calendar: &'a Calendar) -> Self {
        let Filter { codes: code, names: name, groups: group, tags: tag, text: _ } = &calendar.filter;
        Self {
            id: &calendar.id,
            label: calendar.label.as_deref(),
            filter: ShownFilter { code, name, group, tag },
            created_at: WallClock::at_unix(calendar.created_at).map(WallClock::rfc3339),
        }
    }
}

/// Create a calendar feed
///
/// `201` with the key; `403` without a user, `409` if the user has too many feeds, `400` if the filter is invalid.
#[utoipa::path(
    post,
    path = "/calendar",
    operation_id = "createCalendar",
    tag = "calendar",
    request_body = CreateCalendar,
    responses(
        (
            status = 201,
            description = "The feed, with its key, which is in no other response.",
            body = CreatedCalendar<'_>,
            headers(("Location" = String, description = "The path at which the feed is deleted.")),
        ),
        NewCalendarErrors,
    ),
)]
pub(crate) async fn create(app: &App, parts: &Parts, incoming: Incoming) -> HandlerResult {
    const EXPECTED: &str =
        "an object of label, a string, and code, name, group and tag, arrays of strings, each optional";
    let owner = owner(&parts.headers)?;
    let request: CreateCalendar =
        body::json(&parts.headers, incoming, BODY_LIMIT, app.settings.body_timeout, EXPECTED).await?;
    let (label, filter) = checked(request)?;
    let streamers = app.store.streamers().await.map_err(|error| app.store_failed(&error))?;
    check_known(&filter, &streamers)?;
    let no_randomness = |_| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the system has no random bytes");
    let key = CalendarKey::random().map_err(no_randomness)?;
    let id = hex::ordered_id(clock::micros()).map_err(no_randomness)?;
    let calendar = Calendar { id, owner, owner_id: None, key_hash: key.hash(), label, filter, created_at: app.now() };
    match app.store.create_calendar(calendar.clone()).await.map_err(|error| app.store_failed(&error))? {
        CalendarCreated::Done => {}
        CalendarCreated::NoSuchUser => return Err(no_account()),
        CalendarCreated::TooMany => {
            let description = format!("there are {CALENDARS_LIMIT} feeds, which is the limit: delete one first");
            return Err(HttpError::new(StatusCode::CONFLICT, description));
        }
    }
    let path = format!("/calendar/{}.ics", key.expose());
    let created = CreatedCalendar { calendar: (&calendar).into(), key: key.expose(), path };
    let mut response = respond::no_store(respond::json(StatusCode::CREATED, &created));
    // Where the feed is deleted. The path with the key would appear in the logs of proxies that record responses.
    if let Ok(location) = HeaderValue::try_from(format!("/calendar/{}", calendar.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// List the calendar feeds of the user
///
/// `200` with the user's feeds, without their keys.
#[utoipa::path(
    get,
    path = "/calendar",
    operation_id = "listCalendars",
    tag = "calendar",
    responses((status = 200, description = "The feeds, without their keys.", body = CalendarList<'_>), CalendarErrors),
)]
pub(crate) async fn list(app: &App, headers: &HeaderMap) -> HandlerResult {
    let calendars = app.store.calendars(&owner(headers)?).await.map_err(|error| app.store_failed(&error))?;
    Ok(respond::no_store(respond::json(StatusCode::OK, &CalendarList::of(&calendars))))
}

/// Revoke a calendar feed
///
/// `204`: the feed is no longer served. `404` if the user has no such feed.
#[utoipa::path(
    delete,
    path = "/calendar/{id}",
    operation_id = "deleteCalendar",
    tag = "calendar",
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$", description = "The `id` of the feed.")),
    responses((status = 204, description = "The feed is no longer served."), RemovedCalendarErrors),
)]
pub(crate) async fn delete(app: &App, headers: &HeaderMap, id: &str) -> HandlerResult {
    let deleted = app.store.delete_calendar(&owner(headers)?, id).await.map_err(|error| app.store_failed(&error))?;
    if deleted { Ok(respond::no_content()) } else { Err(no_such_feed()) }
}

/// The user of the request, from `X-Auth-Identity`, which the gateway sets and percent-encodes.
fn owner(headers: &HeaderMap) -> Result<String, HttpError> {
    let mut values = headers.get_all("x-auth-identity").iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let identity = value.and_then(|value| percent_decode_str(value).decode_utf8().ok());
    let identity = identity.filter(|identity| !identity.is_empty() && !identity.starts_with(RESERVED_PREFIX));
    identity.map(std::borrow::Cow::into_owned).ok_or_else(no_account)
}

/// `403`: a feed without an account would have no end.
fn no_account() -> HttpError {
    let description = "a calendar feed belongs to a user: this request is from none, or has a static token";
    HttpError::new(StatusCode::FORBIDDEN, description)
}

fn checked(request: CreateCalendar) -> Result<(Option<String>, Filter), HttpError> {
    let CreateCalendar { label, code, name, group, tag } = request;
    if let Some(label) = &label {
        Calendar::check_label(label).map_err(|error| HttpError::bad_parameter(error.field, error.to_string(), None))?;
    }
    let [codes, names] = [values("code", code)?, values("name", name)?];
    let [groups, tags] = [values("group", group)?, values("tag", tag)?];
    Ok((label, Filter { codes, names, groups, tags, text: None }))
}

fn values(parameter: &'static str, values: Vec<String>) -> Result<BTreeSet<String>, HttpError> {
    let values: BTreeSet<String> = values.into_iter().collect();
    let bad = |reason: String| Err(HttpError::bad_parameter(parameter, format!("{parameter} {reason}"), None));
    if values.len() > FILTER_VALUES_LIMIT {
        return bad(format!("has more than {FILTER_VALUES_LIMIT} values"));
    }
    let is_wrong =
        |value: &String| value.is_empty() || value.chars().count() > VALUE_LIMIT || value.contains(char::is_control);
    if values.iter().any(is_wrong) {
        return bad(format!("must have values of 1 to {VALUE_LIMIT} characters without control characters"));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_belongs_to_a_user() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-auth-identity", HeaderValue::from_str(value).unwrap());
            }
            owner(&headers).map_err(|error| error.status)
        };
        assert_eq!(of(&["user%2001"]).as_deref(), Ok("user 01"));
        assert_eq!(of(&["%E5%BD%93"]).as_deref(), Ok("当"));
        for none in [&[][..], &[""], &["static%3Amonitor"], &["static:monitor"], &["%FF"], &["a", "b"]] {
            assert_eq!(of(none), Err(StatusCode::FORBIDDEN), "{none:?}");
        }
    }

    #[test]
    fn values_are_bounded() {
        let many = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(values("tag", many(FILTER_VALUES_LIMIT)).unwrap().len(), FILTER_VALUES_LIMIT);
        assert_eq!(values("tag", vec!["あ".repeat(VALUE_LIMIT)]).unwrap().len(), 1);
        assert!(values("tag", vec!["a".into(); FILTER_VALUES_LIMIT + 1]).unwrap().len() == 1);
        for bad in
            [many(FILTER_VALUES_LIMIT + 1), vec![String::new()], vec!["a\n".into()], vec!["a".repeat(VALUE_LIMIT + 1)]]
        {
            assert_eq!(values("tag", bad).unwrap_err().status, StatusCode::BAD_REQUEST);
        }
    }
}
