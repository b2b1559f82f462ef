//! Tickets in the query of a request, each of which is accepted once. How they are signed: [`token`].

mod used;

use serde_json::Value;

use crate::token;
pub use used::{NotTaken, UsedTickets};

/// The maximum number of used tickets that are remembered, 40 bytes each.
const CAPACITY: usize = 200_000;

/// The state of the tickets of a gateway.
pub struct Tickets {
    /// The tickets that were used.
    pub used: UsedTickets,
    /// When the gateway started, in milliseconds since 1970. It does not know which earlier tickets were used.
    pub started_at: i64,
}

impl Tickets {
    /// The state of a gateway that starts at `now`, in milliseconds since 1970.
    pub fn new(now: i64) -> Self {
        Self { used: UsedTickets::new(CAPACITY), started_at: now }
    }
}

/// Why a ticket is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketError {
    /// It is malformed or forged, or its parent is no credential of this gateway.
    Invalid,
    /// It has expired, or was issued before the gateway started.
    Expired,
    /// It is for another path or host.
    Target,
    /// It was used before.
    Used,
    /// The request has more than one, or an `Authorization` as well.
    Repeated,
    /// Too many tickets were used recently to remember another.
    Full,
}

impl TicketError {
    /// All values of [`TicketError::label`].
    pub const LABELS: [&str; 6] =
        ["ticket_invalid", "ticket_expired", "ticket_target", "ticket_used", "ticket_repeated", "ticket_full"];

    /// The label in metrics and the access log.
    pub fn label(self) -> &'static str {
        match self {
            Self::Invalid => "ticket_invalid",
            Self::Expired => "ticket_expired",
            Self::Target => "ticket_target",
            Self::Used => "ticket_used",
            Self::Repeated => "ticket_repeated",
            Self::Full => "ticket_full",
        }
    }
}

/// Parses the body of a request for a ticket: a JSON object with the member `path` alone.
///
/// # Errors
/// The text for the client.
pub fn parse_request(body: &[u8]) -> Result<String, &'static str> {
    let mut members = token::json_object(body)?;
    match (members.remove("path"), members.is_empty()) {
        (Some(Value::String(path)), true) => Ok(path),
        _ => Err("must have one member, path, which is a string"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_a_path_and_nothing_else() {
        assert_eq!(parse_request(br#"{"path":"/events"}"#).as_deref(), Ok("/events"));
        for body in [
            &b""[..],
            b"[]",
            b"{}",
            br#"{"path":1}"#,
            br#"{"path":null}"#,
            br#"{"path":"/a","path":"/b"}"#,
            br#"{"path":"/a","for":1}"#,
            br#"{"Path":"/a"}"#,
        ] {
            assert!(parse_request(body).is_err(), "{body:?}");
        }
    }
}
