//! The rules of the edge cache, as a shared cache of RFC 9111 with the two extensions of
//! RFC 5861, and the conditional requests of RFC 9110, section 13. Pure: the time is an argument.
//!
//! An answer is [`storable()`] for a [`Lifetime`], with the fields that [`kept`] leaves of it. Its
//! [`Standing`] tells later on what it is still good for, and its [`Validators`] let a client and
//! the cache itself ask whether it still holds; a `304` brings it up to date by [`freshened`].
//!
//! Where the RFCs leave a choice, the answer is stored or given again less often rather than more:
//! - A token stands behind every request (RFC 9111, section 3.5), so only `public` or `s-maxage`
//!   allows an answer to be stored; `must-revalidate` alone, which would do, does not.
//! - No lifetime is guessed (section 4.2.2), and nothing is given stale that the answer did not
//!   allow in so many words by `stale-while-revalidate` or `stale-if-error` (section 4.2.4).
//! - What cannot be read is taken as if it forbade: see [`storable()`].
//!
//! What a request says in `Cache-Control` and `Pragma` is advice (section 5.2.1) and is not taken:
//! by `no-cache` or `max-age=0` every client could otherwise make the backend work.

mod control;
mod field;
mod lifetime;
mod storable;
mod validator;

use std::time::SystemTime;

use http::header::{HeaderName, IF_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, Method, StatusCode};

pub use field::{freshened, kept};
pub use lifetime::{Lifetime, Standing};
pub use storable::{Arrival, NOT_FOUND_FRESH, is_for_all, storable};
pub use validator::{EntityTag, Validators, Verdict};

/// Whether a request with `headers` must not be answered from the cache: it asks for a part
/// (RFC 9110, section 14.2), or has conditions that only the origin may judge (RFC 9111,
/// section 4.3.2).
pub fn passes_by(headers: &HeaderMap) -> bool {
    [RANGE, IF_RANGE, IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(|name| headers.contains_key(name))
}

/// Whether an answer with `status` is a failure that a stale one may stand in for (RFC 5861,
/// section 4). Connections and deadlines that failed are others, which have no status.
pub fn may_cover(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether what is stored for a target no longer holds once a request by `method` for it was
/// answered with `status`: it was unsafe, and no error (RFC 9111, section 4.4).
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

/// The one value of `name`; none where the field is missing or repeated.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a http::HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The moment that `name` tells, to the second (RFC 9110, section 5.6.7); none where it is
/// missing, repeated or no date.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(single(headers, name)?.to_str().ok()?).ok()
}

/// The members of a comma-separated list over all lines of `name` (RFC 9110, section 5.6.1),
/// where none has a quoted string.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    lines.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
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
    fn parts_and_conditions_of_the_origin_pass_by() {
        for name in ["range", "if-range", "if-match", "if-unmodified-since"] {
            assert!(passes_by(&headers(&[("accept", "*/*"), (name, "x")])), "{name}");
        }
        assert!(!passes_by(&headers(&[("if-none-match", "\"x\""), ("if-modified-since", "x"), ("accept", "*/*")])));
    }

    /// RFC 5861, section 4: "any of 500, 502, 503, or 504".
    #[test]
    fn only_failures_of_the_backend_are_covered() {
        let covered: Vec<u16> =
            (100..1000).filter(|status| may_cover(StatusCode::from_u16(*status).unwrap())).collect();
        assert_eq!(covered, [500, 502, 503, 504]);
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

    /// RFC 9110, section 5.6.7: the three forms, and nothing that only looks like one.
    #[test]
    fn a_date_is_told_once() {
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
