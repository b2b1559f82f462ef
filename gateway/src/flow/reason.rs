//! Why a request was not served, as a label in the access log. Refused tokens, rate limits and logins have the same
//! labels in metrics.

use crate::framing;
use crate::login;
use crate::revocation;
use crate::ticket::TicketError;

/// Why a request was refused or failed; for a preflight, why it was answered by the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The head is ambiguous or malformed.
    Framing,
    /// The target is too long, or the header section too large.
    Size,
    /// The host is not one of the gateway's.
    Host,
    /// The limit of this name was exceeded.
    RateLimit(&'static str),
    /// A CORS preflight, which is answered for every path.
    Preflight,
    /// There is no valid token; the label is
    /// [`authenticate::AuthenticationError::label`](crate::authenticate::AuthenticationError::label).
    Token(&'static str),
    /// The token was revoked.
    Revoked(revocation::RevocationReason),
    /// The ticket is not accepted.
    Ticket(TicketError),
    /// The token expired during a stream, and its grace has passed.
    Expired,
    /// A reload removed or changed the credential of a stream.
    Withdrawn,
    /// A reload removed or changed the route of a stream.
    RouteChanged,
    /// Whether the token was revoked is not known.
    RevocationUnknown,
    /// The login was refused; the label is [`login::LoginError::label`].
    Login(&'static str),
    /// No route matches the request.
    Route,
    /// The gateway's own path does not support the method.
    Method,
    /// The client is not in the networks of the route.
    Network,
    /// The principal does not have the scopes that the route requires.
    Scope,
    /// The request has a body but must not.
    Body,
    /// The body exceeds the limit of the route.
    BodySize,
    /// The route does not support the protocol that the client wants to switch to.
    Upgrade,
    /// A WebSocket handshake is not valid.
    Handshake,
    /// A web page of this origin may not open a WebSocket connection.
    Origin,
    /// No byte passed through a tunnel within its idle limit.
    Idle,
    /// A tunnel has reached its total limit.
    Total,
    /// The backend did not store a logout.
    Unavailable,
    /// The backend's response was not valid, or broke off.
    Upstream,
    /// A deadline for the backend passed.
    UpstreamSlow,
    /// No connection to the backend could be made.
    UpstreamUnreachable,
    /// The client disconnected, or sent something invalid.
    Client,
    /// A deadline for the client passed.
    ClientSlow,
    /// An internal error of the gateway.
    Internal,
    /// A panic.
    Panic,
    /// A drain ended the stream, or the request was cut off at the end of the drain timeout.
    Drain,
}

impl Reason {
    /// The value in the access log.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Framing => "framing",
            Self::Size => "size",
            Self::Host => "host",
            Self::RateLimit(name) => name,
            Self::Preflight => "preflight",
            Self::Token(label) | Self::Login(label) => label,
            Self::Revoked(reason) => reason.label(),
            Self::Ticket(error) => error.label(),
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::RouteChanged => "route_changed",
            Self::RevocationUnknown => "revocation",
            Self::Route => "route",
            Self::Method => "method",
            Self::Network => "network",
            Self::Scope => "scope",
            Self::Body => "body",
            Self::BodySize => "body_size",
            Self::Upgrade => "upgrade",
            Self::Handshake => "handshake",
            Self::Origin => "origin",
            Self::Idle => "idle",
            Self::Total => "total",
            Self::Unavailable => "unavailable",
            Self::Upstream => "upstream",
            Self::UpstreamSlow => "upstream_slow",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::Client => "client",
            Self::ClientSlow => "client_slow",
            Self::Internal => "internal",
            Self::Panic => "panic",
            Self::Drain => "drain",
        }
    }
}

impl From<framing::HeadError> for Reason {
    fn from(refusal: framing::HeadError) -> Self {
        match refusal {
            framing::HeadError::Malformed(_) => Self::Framing,
            framing::HeadError::TargetTooLong | framing::HeadError::HeadersTooLarge => Self::Size,
        }
    }
}

impl From<&login::LoginError> for Reason {
    fn from(refusal: &login::LoginError) -> Self {
        match refusal {
            login::LoginError::Throttled { limit, .. } => Self::RateLimit(limit),
            other => Self::Login(other.label()),
        }
    }
}
