//! The gateway's own endpoints. They are described here, since clients see one service; `ops/checks/test_contract.py`
//! compares them with the gateway.

use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

use super::refusals::{Described, Refusal, Refused};
use super::responses::EndpointErrors;

/// A name and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the gateway reads it; only its description is used")]
pub(in crate::handler) struct Credentials {
    /// The name of the user.
    #[schema(min_length = 1, example = "user01")]
    username: String,
    /// The password.
    #[schema(min_length = 1, format = Password, example = "password01")]
    password: String,
}

/// A token.
#[derive(Serialize, ToSchema)]
pub(in crate::handler) struct AccessToken {
    /// A JWT, valid for 300 s by default.
    access_token: String,
}

/// The path that a ticket is for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the gateway reads it; only its description is used")]
pub(in crate::handler) struct TicketRequest {
    /// The canonical path, without a query, of a route that accepts tickets.
    #[schema(
        min_length = 1,
        max_length = 2048,
        pattern = r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$",
        example = "/holodules/stream"
    )]
    path: String,
}

/// A ticket.
#[derive(Serialize, ToSchema)]
pub(in crate::handler) struct Ticket {
    /// The value of the parameter `ticket`.
    ticket: String,
    /// How long it is valid, in seconds.
    #[schema(example = 30)]
    expires_in: u32,
}

/// The errors of a body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
enum BodyErrors {
    /// The body does not arrive in time.
    #[response(status = 408)]
    Late(Described),
    /// The body is over 4 KiB.
    #[response(status = 413)]
    TooLarge(Described),
    /// The Content-Type is not `application/json`.
    #[response(status = 415)]
    OtherType(Described),
}

/// Log in
///
/// Returns a token for a name and a password.
#[utoipa::path(
    post,
    path = "/auth",
    operation_id = "logIn",
    tag = "login",
    request_body = Credentials,
    security(()),
    responses(
        (status = 200, description = "The token.", body = AccessToken),
        EndpointErrors,
        (
            status = 400,
            description = "The body is not a JSON object of the two strings, or the request is malformed.",
            body = Refusal,
        ),
        (status = 401, description = "The credentials are not valid.", body = Described),
        BodyErrors,
        (status = 429, description = "Too many failed logins, or too many requests of this address.", body = Described),
        (status = 503, description = "The credentials cannot be checked at present.", body = Described),
    ),
)]
#[expect(dead_code, reason = "the gateway implements it; only its description is used")]
pub(in crate::handler) fn log_in() {}

/// Log out
///
/// Revokes the token of the request.
#[utoipa::path(
    post,
    path = "/auth/logout",
    operation_id = "logOut",
    tag = "login",
    responses(
        EndpointErrors,
        (status = 204, description = "The token is revoked."),
        (status = 400, description = "The request has a body, or is malformed.", body = Refused),
        (status = 401, description = "There is no valid token.", body = Described),
        (status = 404, description = "The token is a static one.", body = Refused),
        (status = 429, description = "Too many requests.", body = Refused),
        (status = 503, description = "The logout cannot be stored at present.", body = Refused),
    ),
)]
#[expect(dead_code, reason = "the gateway implements it; only its description is used")]
pub(in crate::handler) fn log_out() {}

/// Issue a ticket
///
/// For `EventSource` and `WebSocket`, which cannot send a token: the request of that path has `?ticket=` instead.
#[utoipa::path(
    post,
    path = "/auth/ticket",
    operation_id = "issueTicket",
    tag = "login",
    request_body = TicketRequest,
    responses(
        (status = 200, description = "A ticket for one request.", body = Ticket),
        EndpointErrors,
        (status = 400, description = "The body is not as described, or the request is malformed.", body = Refusal),
        (status = 401, description = "There is no valid token.", body = Described),
        (status = 404, description = "No route with this path accepts tickets.", body = Refused),
        BodyErrors,
        (status = 429, description = "Too many requests.", body = Refused),
        (status = 503, description = "The token cannot be checked at present.", body = Refused),
    ),
)]
#[expect(dead_code, reason = "the gateway implements it; only its description is used")]
pub(in crate::handler) fn issue_ticket() {}
