//! The rules of a shared cache (RFC 9111) with stale responses (RFC 5861), and conditional requests (RFC 9110,
//! section 13). Pure: the time is an argument.
//!
//! A response is [`storable()`] for a [`Lifetime`], with its [`storable_fields`]. Its [`Freshness`] is computed from
//! the lifetime, and its [`Validators`] evaluate conditional requests and revalidate it; a `304` updates it with
//! [`freshened`].
//!
//! Where the RFCs leave a choice, the cache stores and serves less:
//! - Every request has a token (RFC 9111, section 3.5), so only responses with `public` or `s-maxage` are stored.
//!   `must-revalidate` alone would also allow it, but does not here.
//! - No heuristic freshness (section 4.2.2), and no stale responses without an explicit `stale-while-revalidate` or
//!   `stale-if-error` (section 4.2.4).
//! - Malformed fields count as restrictions: see [`storable()`].
//!
//! `Cache-Control` and `Pragma` of requests are advisory (section 5.2.1) and are ignored. Otherwise any client could
//! force requests to the backend with `no-cache` or `max-age=0`.

mod control;
mod field;
mod lifetime;
mod storable;
mod validator;

use std::time::SystemTime;

use http::header::{HeaderName, IF_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, Method, StatusCode};

pub use field::{freshened, storable_fields};
pub use lifetime::{Freshness, Lifetime};
pub use storable::{Arrival, NOT_FOUND_FRESHNESS, is_shared, storable};
pub use validator::{ConditionalResult, EntityTag, Validators};

use crate::syntax::single;

/// Whether a request with `headers` bypasses the cache: range requests (RFC 9110, section 14.2), and preconditions that
/// only the origin can evaluate (RFC 9111, section 4.3.2).
pub fn bypasses_cache(headers: &HeaderMap) -> bool {
    [RANGE, IF_RANGE, IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(|name| headers.contains_key(name))
}

/// Whether `status` is an error for which stale-if-error applies (RFC 5861, section 4). It also applies to failed
/// connections and timeouts, which have no status.
pub fn allows_stale_if_error(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether a request with `method` that was answered with `status` invalidates the stored responses of its target: it
/// was unsafe and not an error (RFC 9111, section 4.4).
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

/// The date in `name` (RFC 9110, section 5.6.7); `None` if it is missing, repeated or malformed.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(single(headers, name)?.to_str().ok()?).ok()
}

#[cfg(test)]
fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| (name.parse().unwrap(), value.parse().unwrap());
    fields.iter().map(field).collect::<Vec<(HeaderName, http::HeaderValue)>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9110, sections 13.1.1, 13.1.4, 13.1.5 and 14.2.
    #[test]
    fn range_requests_and_preconditions_of_the_origin_bypass_the_cache() {
        for name in ["range", "if-range", "if-match", "if-unmodified-since"] {
            assert!(bypasses_cache(&headers(&[("accept", "*/*"), (name, "x")])), "{name}");
        }
        assert!(!bypasses_cache(&headers(&[
            ("if-none-match", "\"x\""),
            ("if-modified-since", "x"),
            ("accept", "*/*")
        ])));
    }

    /// RFC 5861, section 4: "any of 500, 502, 503, or 504".
    #[test]
    fn stale_if_error_applies_to_server_errors() {
        let allowed: Vec<u16> =
            (100..1000).filter(|status| allows_stale_if_error(StatusCode::from_u16(*status).unwrap())).collect();
        assert_eq!(allowed, [500, 502, 503, 504]);
    }

    /// RFC 9111, section 4.4.
    #[test]
    fn an_unsafe_request_that_succeeds_invalidates() {
        let statuses = |method: Method| {
            [200, 204, 303, 304, 400, 404, 500]
                .map(|status| invalidates(&method, StatusCode::from_u16(status).unwrap()))
        };
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, "BREW".parse().unwrap()] {
            assert_eq!(statuses(method), [true, true, true, true, false, false, false]);
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
            assert_eq!(statuses(method), [false; 7]);
        }
    }

    /// RFC 9110, section 5.6.7: the three forms, and malformed ones.
    #[test]
    fn a_date_is_parsed_if_it_is_not_repeated() {
        let at = |fields: &[(&'static str, &str)]| date(&headers(fields), &http::header::DATE);
        let expected = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        for form in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(at(&[("date", form)]), Some(expected), "{form}");
            assert_eq!(at(&[("date", form), ("date", form)]), None, "{form}");
        }
        for form in ["", "0", "-1", "Sun, 06 Nov 1994 08:49:37", "Sun, 31 Feb 1994 08:49:37 GMT", "é"] {
            assert_eq!(at(&[("date", form)]), None, "{form}");
        }
    }
}
