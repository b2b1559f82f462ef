//! The responses that several operations have: those of the gateway, and errors.

use std::collections::BTreeMap;

use utoipa::openapi::schema::{Object, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{ContentBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::refusals::{Described, Refusal, Refused};
use crate::respond::Problem;

type Responses = BTreeMap<String, RefOr<Response>>;

/// The errors that all of the gateway's own endpoints can have.
pub(super) struct EndpointErrors;

/// The errors of routes whose errors have only a reason phrase.
pub(in crate::handler) struct PlainErrors;

/// The errors of the list of a day.
pub(in crate::handler) struct DayErrors;

/// The errors of lists.
pub(in crate::handler) struct ListErrors;

/// The errors of lists of a streamer.
pub(in crate::handler) struct StreamerListErrors;

/// The errors of a read of the calendar feeds of a user.
pub(in crate::handler) struct CalendarErrors;

/// The errors of a new calendar feed.
pub(in crate::handler) struct NewCalendarErrors;

/// The errors of the removal of a calendar feed.
pub(in crate::handler) struct RemovedCalendarErrors;

/// The errors of one calendar feed.
pub(in crate::handler) struct FeedErrors;

/// The errors of the stream of changes.
pub(in crate::handler) struct StreamErrors;

/// The errors of the routes of the author's later service.
pub(in crate::handler) struct StreamerErrors;

/// The errors of the list of schedules.
pub(in crate::handler) struct ScheduleErrors;

/// The responses of the gateway on every route that needs a token: status, name and response.
pub(in crate::handler) fn shared() -> [(&'static str, &'static str, Response); 15] {
    [
        (
            "304",
            "NotModified",
            ResponseBuilder::new().description("Unchanged since the `ETag` in `If-None-Match`.").build(),
        ),
        ("400", "BadRequest", plain("The request is malformed, or a parameter is wrong.")),
        ("401", "Unauthorized", described("There is no valid token: log in, and repeat the request.")),
        ("403", "Forbidden", plain("The route is configured for other networks or other roles.")),
        ("404", "NotFound", plain("There is no such route, or it does not exist for this token.")),
        ("405", "MethodNotAllowed", plain("The route has other methods.")),
        ("414", "UriTooLong", plain("The path and the query are too long.")),
        ("421", "MisdirectedRequest", plain("The host is not one of the gateway.")),
        ("429", "TooManyRequests", plain("Too many requests of this user or address.")),
        ("431", "HeadersTooLarge", plain("The header section is too large.")),
        ("500", "InternalServerError", plain("An internal error.")),
        ("501", "NotImplemented", plain("A WebSocket handshake, which the route does not accept.")),
        ("502", "BadGateway", plain("The backend's response is invalid or incomplete.")),
        ("503", "ServiceUnavailable", plain("The token or the request cannot be handled at present.")),
        ("504", "GatewayTimeout", plain("The backend takes too long.")),
    ]
}

/// References to [`shared`].
fn of_gateway() -> Responses {
    shared().map(|(status, name, _)| (status.to_owned(), Ref::from_response_name(name).into())).into()
}

impl IntoResponses for EndpointErrors {
    fn responses() -> Responses {
        let mut responses = of_gateway();
        responses.retain(|status, _| matches!(status.as_str(), "405" | "414" | "421" | "431" | "500"));
        responses
    }
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
        with_problems(
            of_gateway(),
            &[
                ("400", "A parameter is wrong."),
                ("414", "The query is too long."),
                ("429", "Too many requests, or too many searches."),
                ("500", "An internal error."),
                ("503", "The store, or a search, takes too long."),
            ],
        )
    }
}

impl IntoResponses for StreamerListErrors {
    fn responses() -> Responses {
        with_problems(ListErrors::responses(), &[("404", "There is no streamer with this code.")])
    }
}

impl IntoResponses for CalendarErrors {
    fn responses() -> Responses {
        let mut responses = of_gateway();
        // Feeds of a user have no entity tag.
        responses.remove("304");
        with_problems(
            responses,
            &[
                ("403", "The token is a static one, or its user does not exist."),
                ("500", "An internal error."),
                ("503", "The store does not respond."),
            ],
        )
    }
}

impl IntoResponses for NewCalendarErrors {
    fn responses() -> Responses {
        with_problems(
            CalendarErrors::responses(),
            &[
                ("400", "The body is not as described, or a code or group is unknown."),
                ("408", "The body does not arrive in time."),
                ("409", "The user has 20 feeds."),
                ("413", "The body is over 64 KiB."),
                ("415", "The Content-Type is not `application/json`."),
            ],
        )
    }
}

impl IntoResponses for RemovedCalendarErrors {
    fn responses() -> Responses {
        with_problems(CalendarErrors::responses(), &[("404", "The user has no such feed.")])
    }
}

impl IntoResponses for FeedErrors {
    fn responses() -> Responses {
        let mut responses = of_gateway();
        responses.remove("401");
        with_problems(
            responses,
            &[
                ("404", "There is no such feed, or it was revoked."),
                ("500", "An internal error."),
                ("503", "The store does not respond, or too many feeds have changed at once."),
            ],
        )
    }
}

impl IntoResponses for StreamErrors {
    fn responses() -> Responses {
        let mut responses = ListErrors::responses();
        // A stream has no entity tag.
        responses.remove("304");
        let mut responses = with_problems(
            responses,
            &[
                ("400", "A parameter is wrong, the query contains too much, or a ticket is beside another credential."),
                ("503", "The store does not respond, or there are too many streams."),
            ],
        );
        if let Some(RefOr::T(response)) = responses.get_mut("400") {
            response.content.insert("application/json".to_owned(), content::<Refusal>().into());
        }
        responses
    }
}

impl IntoResponses for StreamerErrors {
    fn responses() -> Responses {
        let mut responses = of_gateway();
        responses.insert("404".to_owned(), identified("Nothing has this id.").into());
        responses
    }
}

impl IntoResponses for ScheduleErrors {
    fn responses() -> Responses {
        let mut responses = of_gateway();
        // Other errors of the request have the form of the gateway.
        let forms = OneOfBuilder::new().item(identified_schema()).item(Ref::from_schema_name(Refused::name()));
        let example = serde_json::json!({ "message": "sdate must be a day as yyyy-mm-dd", "identifier": "sdate" });
        let content = ContentBuilder::new().schema(Some(Schema::OneOf(forms.build()))).example(Some(example)).build();
        let description = "A date or the keyword is malformed. `identifier` is the name of the parameter.";
        let response = ResponseBuilder::new().description(description);
        responses.insert("400".to_owned(), response.content("application/json", content).build().into());
        responses
    }
}

/// An error in the form of the author's later service.
fn identified(description: &str) -> Response {
    let example = serde_json::json!({ "message": "Streamer not found", "identifier": "HL0599" });
    let content = ContentBuilder::new().schema(Some(identified_schema())).example(Some(example)).build();
    ResponseBuilder::new().description(description).content("application/json", content).build()
}

fn identified_schema() -> Object {
    let text = || ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
    let error = ObjectBuilder::new().property("message", text()).property("identifier", text());
    error.required("message").required("identifier").build()
}

/// The responses with problems, in place of those with the same status.
fn with_problems(mut responses: Responses, problems: &[(&str, &str)]) -> Responses {
    for (status, description) in problems {
        responses.insert((*status).to_owned(), problem(status, description).into());
    }
    responses
}

fn plain(description: &str) -> Response {
    ResponseBuilder::new().description(description).content("application/json", content::<Refused>()).build()
}

/// A problem of the backend, or a refusal of the gateway. Generators of clients use the first form, so it is the one that
/// the status usually has.
fn problem(status: &str, description: &str) -> Response {
    let problem = ("application/problem+json", content::<Problem<'_>>());
    let refused = ("application/json", content::<Refused>());
    let forms = if matches!(status, "400" | "403" | "404" | "409") { [problem, refused] } else { [refused, problem] };
    let response = ResponseBuilder::new().description(description);
    forms.into_iter().fold(response, |response, (media_type, form)| response.content(media_type, form)).build()
}

fn described(description: &str) -> Response {
    ResponseBuilder::new().description(description).content("application/json", content::<Described>()).build()
}

fn content<T: ToSchema>() -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name()))).build()
}
