//! The description of the API, as OpenAPI 3.1: generated from the handlers and the types of their responses.
//!
//! It describes what clients of the gateway see, so it also has the gateway's own endpoints and what the gateway responds
//! on every route.

mod common;
mod docs;
mod examples;

use std::sync::LazyLock;

use http::HeaderValue;
use http::request::Parts;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use self::common::Common;
use super::contract::{PlainErrors, gateway, refusals};
use super::tagged::Tagged;
use super::{HandlerResult, calendar, holodules, lists, live};
use crate::respond::{HttpError, Problem};

pub(crate) use docs::{docs, docs_redirect, docs_style};

/// The name of the security scheme of tokens.
const TOKEN: &str = "token";
/// The name of the security scheme of tickets, which only some routes accept.
const TICKET: &str = "ticket";

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
        live::stream,
        lists::page::of_streamer,
        lists::streamers::streamers,
        lists::streamers::streamer,
        calendar::manage::create,
        calendar::manage::list,
        calendar::manage::delete,
        calendar::read::read,
        lists::schedules::schedules,
        lists::schedules::schedule,
        openapi,
    ),
    components(schemas(Problem<'_>, refusals::Described, refusals::Refused)),
    servers((url = "/", description = "The gateway that serves this document.")),
    modifiers(&Credentials, &Common),
    security(("token" = [])),
    tags(
        (name = "login", description = "Tokens. These endpoints are the gateway's own."),
        (name = "holodules", description = "Streams."),
        (name = "streamers", description = "Streamers and their groups."),
        (name = "calendar", description = "Feeds for calendar programs."),
        (name = "schedules", description = "Streams in the form of the author's later service."),
        (name = "contract", description = "This document."),
    ),
)]
struct Document;

/// Adds the security schemes.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("JWT".to_owned());
        scheme.description =
            Some("The `access_token` of `POST /auth`, or a static token. The scheme `JWT` is accepted too.".to_owned());
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
        let ticket = ApiKeyValue::with_description("ticket", "The `ticket` of `POST /auth/ticket`, for one request.");
        components.add_security_scheme(TICKET, SecurityScheme::ApiKey(ApiKey::Query(ticket)));
    }
}

/// The document.
static DOCUMENT: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(Document::openapi);
/// The document, serialized once.
static SERIALIZED: LazyLock<Result<Tagged, HttpError>> = LazyLock::new(|| Tagged::json(&*DOCUMENT));

/// The document, for tests of routes.
#[cfg(test)]
pub(crate) fn document() -> serde_json::Value {
    serde_json::to_value(&*DOCUMENT).unwrap()
}

/// This document
///
/// OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "readOpenApi",
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
        let text = document.to_string();
        assert!(!text.contains("[`"), "a link of rustdoc: {text}");
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
        assert_eq!(open, ["post /auth", "get /calendar/{key}.ics", "head /calendar/{key}.ics"]);
        assert_eq!(document["security"], serde_json::json!([{ "token": [] }]));
    }
}
