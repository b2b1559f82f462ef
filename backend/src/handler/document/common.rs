//! The parts of all operations: header fields of responses, the gateway's responses, and HEAD beside GET.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{Components, Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder};

use super::super::contract::shared;

/// Header fields: the statuses that have them, and their descriptions. Those of [`TAGGED`] are on responses that can be
/// revalidated.
const HEADERS: [(&str, &[&str], &str); 9] = [
    ("X-Request-Id", EVERY, "The id of the request in the logs."),
    ("Cache-Control", EVERY, "`private, no-cache` on responses of the backend, otherwise `no-store`."),
    ("ETag", TAGGED, "Identifies the response, for `If-None-Match`."),
    ("X-Cache", TAGGED, "`hit`, `miss`, `stale` or `revalidated`, if the response came through the cache."),
    ("Allow", &["405"], "The methods of the route."),
    ("WWW-Authenticate", &["401"], "The schemes that are accepted."),
    ("Retry-After", &["429", "503"], "Seconds until another attempt."),
    ("RateLimit", &["429"], "On a request limit: what remains, and the seconds until the next request."),
    ("RateLimit-Policy", &["429"], "On a request limit: its quota and its window in seconds."),
];
/// Every status.
const EVERY: &[&str] = &[];
const TAGGED: &[&str] = &["200", "304"];

/// Adds what all operations have.
pub(super) struct Common;

impl Modify for Common {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut components = openapi.components.take().unwrap_or_default();
        for (name, _, description) in HEADERS {
            components.headers.insert(name.to_owned(), header(name, description).into());
        }
        for (status, name, response) in shared() {
            components.responses.insert(name.to_owned(), with_headers(response, status, true).into());
        }
        for item in openapi.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
                describe_headers(operation);
            }
            item.head = head(item, &components);
        }
        openapi.components = Some(components);
    }
}

fn describe_headers(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    let is_tagged = responses.contains_key("304");
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            *response = with_headers(std::mem::take(response), status, is_tagged);
        }
    }
}

fn with_headers(mut response: Response, status: &str, is_tagged: bool) -> Response {
    for (name, statuses, _) in HEADERS {
        if (statuses.is_empty() || statuses.contains(&status)) && (statuses != TAGGED || is_tagged) {
            response.headers.insert(name.to_owned(), RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))));
        }
    }
    response
}

fn header(name: &str, description: &str) -> Header {
    let kind = if name == "Retry-After" { Type::Integer } else { Type::String };
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
    head.operation_id = head.operation_id.map(|id| format!("head_{id}"));
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
