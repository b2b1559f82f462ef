//! The parts of all operations: header fields of responses, the gateway's responses, and HEAD beside GET.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{Components, Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder};

use super::super::contract::shared;
use super::examples;

/// Where a header field is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    /// On every response.
    Every,
    /// On every response of a route, which the gateway's own endpoints are not.
    Routed,
    /// On responses that can be revalidated, and on those of the same operation that the cache serves.
    Cached,
    /// On responses that can be revalidated.
    Tagged,
    /// On these statuses.
    Statuses(&'static [&'static str]),
}

/// Header fields, where they are sent, and their descriptions.
const HEADERS: [(&str, On, &str); 16] = [
    ("X-Request-Id", On::Every, "The id of the request in the logs."),
    ("Cache-Control", On::Every, "`private, no-cache` on responses of the backend, otherwise `no-store`."),
    ("X-Content-Type-Options", On::Every, "`nosniff`."),
    ("Strict-Transport-Security", On::Every, "If the gateway is configured with `hsts.max_age`."),
    ("Access-Control-Allow-Origin", On::Every, "If the origin of the request is one of `cors.allowed_origins`."),
    ("Access-Control-Expose-Headers", On::Every, "If the origin of the request is one of `cors.allowed_origins`."),
    (
        "Vary",
        On::Every,
        "`Accept-Encoding`, where that selects the form of the response; `Origin`, if `cors.allowed_origins` is set.",
    ),
    (
        "Content-Encoding",
        On::Routed,
        "`zstd`, `br` or `gzip`, as `Accept-Encoding` allows, for bodies from 256 bytes of a response of the backend.",
    ),
    ("ETag", On::Tagged, "Identifies the response, for `If-None-Match`."),
    ("X-Cache", On::Cached, "`hit`, `miss`, `stale` or `revalidated`, if the response came through the cache."),
    ("Age", On::Cached, "Seconds since the response was received, if it is from the cache."),
    ("Allow", On::Statuses(&["405"]), "The methods of the route."),
    (
        "WWW-Authenticate",
        On::Statuses(&["401", "403"]),
        "The schemes that are accepted; on a 403, if a role is missing.",
    ),
    ("Retry-After", On::Statuses(&["429", "503"]), "Seconds until another attempt."),
    ("RateLimit", On::Statuses(&["429"]), "On a request limit: what remains, and the seconds until the next request."),
    ("RateLimit-Policy", On::Statuses(&["429"]), "On a request limit: its quota and its window in seconds."),
];

/// The operations that the gateway answers itself begin with this.
const ENDPOINTS: &str = "/auth";

/// Adds what all operations have.
pub(super) struct Common;

impl Modify for Common {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut components = openapi.components.take().unwrap_or_default();
        for (name, _, description) in HEADERS {
            components.headers.insert(name.to_owned(), header(name, description).into());
        }
        for (status, name, response) in shared() {
            components.responses.insert(name.to_owned(), with_headers(response, status, true, true).into());
        }
        for (path, item) in &mut openapi.paths.paths {
            let is_routed = !path.starts_with(ENDPOINTS);
            for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
                describe_headers(operation, is_routed);
                examples::add(operation);
            }
            item.head = head(item, &components);
        }
        for (status, name, _) in shared() {
            if let Some(RefOr::T(response)) = components.responses.get_mut(name) {
                examples::add_to_error(response, status);
            }
        }
        openapi.components = Some(components);
    }
}

fn describe_headers(operation: &mut Operation, is_routed: bool) {
    let responses = &mut operation.responses.responses;
    let is_tagged = responses.contains_key("304");
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            *response = with_headers(std::mem::take(response), status, is_tagged, is_routed);
        }
    }
}

fn with_headers(mut response: Response, status: &str, is_tagged: bool, is_routed: bool) -> Response {
    for (name, on, _) in HEADERS {
        let is_sent = match on {
            On::Every => true,
            On::Routed => is_routed && !matches!(status, "204" | "304"),
            On::Cached => is_tagged && matches!(status, "200" | "304" | "404"),
            On::Tagged => is_tagged && matches!(status, "200" | "304"),
            On::Statuses(statuses) => statuses.contains(&status),
        };
        if is_sent {
            response.headers.insert(name.to_owned(), RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))));
        }
    }
    response
}

fn header(name: &str, description: &str) -> Header {
    let kind = if matches!(name, "Retry-After" | "Age") { Type::Integer } else { Type::String };
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(kind)).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// HEAD, which every GET has except a stream, without the bodies of its responses.
fn head(item: &PathItem, components: &Components) -> Option<Operation> {
    let mut head = item.get.clone()?;
    let is_stream = |response: &RefOr<Response>| matches!(response, RefOr::T(response) if response.content.contains_key("text/event-stream"));
    if head.responses.responses.values().any(is_stream) {
        return None;
    }
    head.operation_id = head.operation_id.map(|id| format!("{id}Head"));
    head.summary = head.summary.map(|summary| format!("{summary}: the header fields"));
    head.description = Some("As GET, without the body.".to_owned());
    for response in head.responses.responses.values_mut() {
        if let Some(without_body) = without_body(response, components) {
            *response = without_body.into();
        }
    }
    Some(head)
}

fn without_body(response: &RefOr<Response>, components: &Components) -> Option<Response> {
    match response {
        RefOr::T(response) => {
            let mut bare = ResponseBuilder::new().description(&response.description).build();
            bare.headers = response.headers.clone();
            Some(bare)
        }
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next()?;
            without_body(components.responses.get(name)?, components)
        }
    }
}
