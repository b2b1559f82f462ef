//! The description of the API, as OpenAPI 3.1: generated from the handlers and the types of their responses.
//!
//! It describes what clients of the gateway see, so it also has the gateway's own endpoints ([`gateway`]) and what the
//! gateway responds on every route.

mod gateway;
mod parameters;
mod responses;

use std::sync::LazyLock;

use http::HeaderValue;
use http::request::Parts;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::tagged::Tagged;
use super::{HandlerResult, calendar, holodules, lists};
use crate::respond::{HttpError, Problem};

pub(in crate::handler) use parameters::{DayParameters, FilterParameters, ListParameters, StreamerListParameters};
pub(in crate::handler) use responses::{
    CalendarErrors, DayErrors, FeedErrors, ListErrors, PlainErrors, StreamerErrors,
};

/// The name of the security scheme.
pub(in crate::handler) const TOKEN: &str = "token";

/// For clients and caches: it changes with the program only.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=0, s-maxage=60");

#[derive(OpenApi)]
#[openapi(
    info(
        title = "holodules",
        description = "The schedule of hololive streams. Log in by `POST /auth`, and send the token in `Authorization` \
                       with every other request.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        gateway::log_in,
        gateway::log_out,
        gateway::issue_ticket,
        holodules::day::day,
        lists::page::holodules,
        lists::now::now,
        lists::page::of_streamer,
        lists::streamers::streamers,
        lists::streamers::streamer,
        calendar::manage::create,
        calendar::manage::list,
        calendar::manage::delete,
        calendar::read::read,
        openapi,
    ),
    components(schemas(Problem<'_>, gateway::Described, gateway::Refused)),
    modifiers(&Tokens),
    security(("token" = [])),
    tags(
        (name = "login", description = "Tokens. These endpoints are the gateway's own."),
        (name = "holodules", description = "Streams."),
        (name = "streamers", description = "Streamers and their groups."),
        (name = "calendar", description = "Feeds for calendar programs."),
        (name = "contract", description = "This document."),
    ),
)]
struct Document;

/// Adds the security scheme.
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("JWT".to_owned());
        scheme.description =
            Some("The `access_token` of `POST /auth`, or a static token. The scheme `JWT` is accepted too.".to_owned());
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
    }
}

/// The document, serialized once.
static SERIALIZED: LazyLock<Result<Tagged, HttpError>> = LazyLock::new(|| Tagged::json(&Document::openapi()));

/// This document
///
/// OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "contract",
    responses((status = 200, description = "The document.", body = Object), PlainErrors),
)]
pub(crate) async fn openapi(parts: &Parts) -> HandlerResult {
    Ok(SERIALIZED.clone()?.into_response(&parts.headers, CACHED))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn document() -> serde_json::Value {
        serde_json::to_value(Document::openapi()).unwrap()
    }

    #[test]
    fn it_is_of_version_3_1_and_of_this_program() {
        let document = document();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_is_described() {
        fn references<'a>(value: &'a serde_json::Value, found: &mut BTreeSet<&'a str>) {
            match value {
                serde_json::Value::Object(members) => members.iter().for_each(|(name, member)| match member.as_str() {
                    Some(text) if name == "$ref" => _ = found.insert(text),
                    _ => references(member, found),
                }),
                serde_json::Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 5, "{found:?}");
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert!(operation["responses"].as_object().unwrap().len() > 1, "{method} {path}");
            }
        }
    }

    #[test]
    fn only_the_login_and_calendar_feeds_need_no_token() {
        let document = document();
        let mut open = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if operation["security"] == serde_json::json!([{}]) {
                    open.push(format!("{method} {path}"));
                }
            }
        }
        assert_eq!(open, ["post /auth", "get /calendar/{key}.ics"]);
        assert_eq!(document["security"], serde_json::json!([{ "token": [] }]));
    }
}
