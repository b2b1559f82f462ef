//! The forms of the refusals of the gateway, and of errors that are not problems.

use serde::Serialize;
use utoipa::ToSchema;

/// A refusal: `{"error":"<reason phrase>"}`.
#[derive(Serialize, ToSchema)]
// Otherwise a refusal with a description would match this schema too.
#[serde(deny_unknown_fields)]
pub(in crate::handler) struct Refused {
    /// The reason phrase of the status.
    #[schema(example = "Not found")]
    error: String,
}

/// A refusal that concerns the login or the token.
#[derive(Serialize, ToSchema)]
pub(in crate::handler) struct Described {
    /// The status.
    #[schema(example = 401)]
    status_code: u16,
    /// The kind of error.
    #[schema(example = "Invalid token")]
    error: String,
    /// What is wrong.
    #[schema(example = "Signature has expired")]
    description: String,
}

/// A refusal, with or without a description.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its description is used")]
pub(in crate::handler) enum Refusal {
    /// With a description.
    Described(Described),
    /// Without a description.
    Plain(Refused),
}
