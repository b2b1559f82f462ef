//! The responses that several operations have: those of the gateway, and errors.

use std::collections::BTreeMap;

use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{ContentBuilder, Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::gateway::{Described, Refused};
use crate::respond::Problem;

type Responses = BTreeMap<String, RefOr<Response>>;

/// The errors of routes whose errors have only a reason phrase.
pub(in crate::handler) struct PlainErrors;

/// The errors of the list of a day.
pub(in crate::handler) struct DayErrors;

/// The errors of lists.
pub(in crate::handler) struct ListErrors;

/// The errors of the calendar feeds of a user.
pub(in crate::handler) struct CalendarErrors;

/// The errors of one calendar feed.
pub(in crate::handler) struct FeedErrors;

/// The errors of the routes of the author's later service.
pub(in crate::handler) struct StreamerErrors;

/// What the gateway responds on every route that needs a token.
fn of_gateway() -> Responses {
    [
        ("304", ResponseBuilder::new().description("Unchanged since the `ETag` in `If-None-Match`.").build()),
        ("400", plain("The request is malformed; or, from the backend, a parameter is wrong.")),
        ("401", described("There is no valid token: log in, and repeat the request.", &["WWW-Authenticate"])),
        ("404", plain("There is no such route.")),
        ("405", with(plain_builder("The route has other methods."), &["Allow"])),
        ("429", with(plain_builder("Too many requests of this user or address."), &["Retry-After"])),
        ("503", with(plain_builder("The token or the request cannot be handled at present."), &["Retry-After"])),
    ]
    .map(|(status, response)| (status.to_owned(), RefOr::T(response)))
    .into()
}

impl IntoResponses for PlainErrors {
    fn responses() -> Responses {
        of_gateway()
    }
}

impl IntoResponses for DayErrors {
    fn responses() -> Responses {
        let mut responses = of_gateway();
        responses.insert("400".to_owned(), plain("`day` is not a day of the calendar.").into());
        responses.insert("404".to_owned(), plain("No streams on this day.").into());
        responses
    }
}

impl IntoResponses for ListErrors {
    fn responses() -> Responses {
        let mut responses = of_gateway();
        for (status, description, headers) in [
            ("400", "A parameter is wrong.", &[][..]),
            ("404", "There is no streamer with this code.", &[]),
            ("414", "The query is too long.", &[]),
            ("429", "Too many requests, or too many searches.", &["Retry-After"]),
            ("503", "The store, or a search, takes too long.", &["Retry-After"]),
        ] {
            responses.insert(status.to_owned(), with(problem(description), headers).into());
        }
        responses
    }
}

impl IntoResponses for CalendarErrors {
    fn responses() -> Responses {
        let mut responses = of_gateway();
        for (status, description, headers) in [
            ("400", "The body is not as described, or a code or group is unknown.", &[][..]),
            ("403", "The token is a static one, or its user does not exist.", &[]),
            ("404", "The user has no such feed.", &[]),
            ("409", "The user has 20 feeds.", &[]),
            ("413", "The body is over 64 KiB.", &[]),
            ("415", "The Content-Type is not `application/json`.", &[]),
            ("503", "The store does not respond.", &["Retry-After"]),
        ] {
            responses.insert(status.to_owned(), with(problem(description), headers).into());
        }
        responses
    }
}

impl IntoResponses for FeedErrors {
    fn responses() -> Responses {
        [
            ("304", ResponseBuilder::new().description("Unchanged since the `ETag` in `If-None-Match`.").build()),
            ("400", plain("The request is malformed.")),
            ("404", problem("There is no such feed, or it was revoked.").build()),
            ("405", with(plain_builder("The route has other methods."), &["Allow"])),
            ("429", with(plain_builder("Too many requests."), &["Retry-After"])),
            ("503", with(problem("The store does not respond."), &["Retry-After"])),
        ]
        .map(|(status, response)| (status.to_owned(), RefOr::T(response)))
        .into()
    }
}

/// An error of the gateway, or one of the backend as a [`Problem`].
fn problem(description: &str) -> ResponseBuilder {
    plain_builder(description).content("application/problem+json", content::<Problem<'_>>())
}

impl IntoResponses for StreamerErrors {
    fn responses() -> Responses {
        let mut responses = of_gateway();
        let missing = ObjectBuilder::new()
            .property("message", ObjectBuilder::new().schema_type(SchemaType::new(Type::String)))
            .property("identifier", ObjectBuilder::new().schema_type(SchemaType::new(Type::String)))
            .required("message")
            .required("identifier");
        let content = ContentBuilder::new().schema(Some(missing.build())).build();
        let response = ResponseBuilder::new().description("There is none with this id.");
        responses.insert("404".to_owned(), response.content("application/json", content).build().into());
        responses
    }
}

fn plain(description: &str) -> Response {
    plain_builder(description).build()
}

fn plain_builder(description: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(description).content("application/json", content::<Refused>())
}

fn described(description: &str, headers: &[&str]) -> Response {
    let response = ResponseBuilder::new().description(description);
    with(response.content("application/json", content::<Described>()), headers)
}

fn with(response: ResponseBuilder, headers: &[&str]) -> Response {
    headers.iter().fold(response, |response, name| response.header(*name, header(name))).build()
}

fn header(name: &str) -> Header {
    let is_number = name == "Retry-After";
    let kind = if is_number { Type::Integer } else { Type::String };
    let description = match name {
        "Retry-After" => "Seconds until another attempt.",
        "Allow" => "The methods of the route.",
        _ => "The schemes that are accepted.",
    };
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(SchemaType::new(kind)).build()))
        .description(Some(description))
        .build()
}

fn content<T: ToSchema>() -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name()))).build()
}
