//! Why a request to an upstream failed.

use std::error::Error as _;
use std::{fmt, io};

use super::balance::Failure;

/// Why there is no response, or no complete one. The first value is the name of the upstream; the text is for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection was made within the connect timeout, so nothing was sent.
    #[error("the {0} upstream is unreachable: {1}")]
    Unreachable(&'static str, String),
    /// The connection failed before the head of a response, or the head is malformed.
    #[error("no response from the {0} upstream: {1}")]
    NoResponse(&'static str, String),
    /// A deadline passed.
    #[error("the {0} upstream did not respond in time")]
    TimedOut(&'static str),
    /// The response is too large, malformed or incomplete.
    #[error("invalid response from the {0} upstream: {1}")]
    InvalidResponse(&'static str, String),
}

/// The error of a connection.
#[derive(Debug)]
pub enum Cause {
    /// Over HTTP/1.1.
    Http1(hyper::Error),
    /// Over HTTP/2.
    Http2(h2::Error),
    /// The request is not valid over HTTP/2.
    Malformed(http::Error),
}

impl Cause {
    /// Whether the head of the response exceeds a limit.
    pub(super) fn is_too_large(&self) -> bool {
        matches!(self, Self::Http1(error) if error.is_parse_too_large())
    }

    /// Whether the connection was closed, if no byte of the response was received.
    pub(super) fn is_closed_before_response(&self) -> bool {
        match self {
            Self::Http1(error) => {
                let broken = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
                // A reset before any byte of a response is equivalent to an orderly close, and so is the end of a TLS
                // connection without a close_notify.
                error.is_incomplete_message()
                    || error.is_closed()
                    || matches!(
                        broken,
                        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof)
                    )
            }
            Self::Http2(error) => error.is_io(),
            Self::Malformed(_) => false,
        }
    }

    /// How the address failed; `None` if it did not.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self {
            // The connection serves other requests.
            Self::Http2(error) if error.is_reset() => Some(Failure::Response),
            Self::Http1(_) | Self::Http2(_) => Some(Failure::Closed),
            Self::Malformed(_) => None,
        }
    }

    /// Whether the service states that it has not processed the request: it refused the stream, or its GOAWAY names an
    /// earlier one as the last (RFC 9113, section 8.7).
    pub(super) fn is_unprocessed(&self) -> bool {
        let Self::Http2(error) = self else { return false };
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (is_refused || error.is_go_away())
    }
}

impl std::error::Error for Cause {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1(error) => {
                write!(f, "{error}")?;
                error.source().map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Self::Http2(error) => error.fmt(f),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}
