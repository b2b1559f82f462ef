//! Which responses are stored, and for how long.

use std::time::{Duration, SystemTime};

use http::header::{AGE, CONTENT_RANGE, DATE, EXPIRES, HeaderName, SET_COOKIE, VARY};
use http::{HeaderMap, StatusCode};

use super::control::{Directives, MAX_SECONDS, Seconds, delta_seconds};
use super::date;
use super::lifetime::{Freshness, Lifetime};
use super::validator::Validators;
use crate::syntax::list_members;

/// The maximum freshness lifetime of a `404`, since a missing resource may be created at any time.
pub const NOT_FOUND_FRESHNESS: Duration = Duration::from_secs(5);

/// When a response arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When its head arrived, to compare with `Date`.
    pub at: SystemTime,
    /// The time since the request was sent.
    pub delay: Duration,
}

/// How long the response to a GET may be stored; `None` if it must not be stored, or could never be served.
///
/// `declared` are the request fields in the key: a response that varies by others (RFC 9111, section 4.1) is not
/// stored. A response is stored only with `public` or `s-maxage`, without `no-store` and `private` (sections 3 and 3.5)
/// and without `Set-Cookie`: a complete `200`, and a `404` for at most [`NOT_FOUND_FRESHNESS`]. A `200` that must be
/// revalidated each time is stored if it has a validator.
///
/// Stale responses are served only within explicit windows. `s-maxage` forbids stale responses like `proxy-revalidate`
/// (section 5.2.2.10), but a window beside it is understood as an exception, which is the purpose of RFC 5861.
/// `no-cache`, `must-revalidate` and `proxy-revalidate` disable all windows.
pub fn storable(
    status: StatusCode,
    headers: &HeaderMap,
    declared: &[HeaderName],
    arrival: Arrival,
) -> Option<Lifetime> {
    let directives = Directives::parse(headers);
    if !is_shared_by(&directives, headers, declared) {
        return None;
    }
    let fresh = if directives.no_cache { Duration::ZERO } else { freshness_lifetime(&directives, headers, arrival) };
    let (fresh, may_be_stale) = match status {
        StatusCode::OK => (fresh, !directives.no_cache && !directives.must_revalidate),
        StatusCode::NOT_FOUND => (fresh.min(NOT_FOUND_FRESHNESS), false),
        _ => return None,
    };
    let window = |seconds: Seconds| if may_be_stale { seconds.or_zero() } else { Duration::ZERO };
    let lifetime = Lifetime {
        fresh,
        while_revalidate: window(directives.stale_while_revalidate),
        if_error: window(directives.stale_if_error),
        initial_age: initial_age(headers, arrival),
    };
    let is_useful =
        lifetime.freshness(Duration::ZERO) != Freshness::Expired || Validators::of(status, headers).can_revalidate();
    is_useful.then_some(lifetime)
}

/// Whether a response is the same for all requests with the same `declared` fields: it has `public` or `s-maxage`, and
/// nothing that revokes it. It need not be storable.
pub fn is_shared(headers: &HeaderMap, declared: &[HeaderName]) -> bool {
    is_shared_by(&Directives::parse(headers), headers, declared)
}

fn is_shared_by(directives: &Directives, headers: &HeaderMap, declared: &[HeaderName]) -> bool {
    let is_allowed = directives.public || matches!(directives.s_maxage, Seconds::Given(_));
    let is_forbidden = directives.no_store
        || directives.private
        || headers.contains_key(SET_COOKIE)
        || headers.contains_key(CONTENT_RANGE)
        || !varies_within(headers, declared);
    is_allowed && !is_forbidden
}

/// The freshness lifetime for a shared cache (RFC 9111, section 4.2.1); zero if none is stated.
fn freshness_lifetime(directives: &Directives, headers: &HeaderMap, arrival: Arrival) -> Duration {
    match (directives.s_maxage, directives.max_age) {
        (Seconds::Absent, Seconds::Absent) => {
            let Some(expires) = date(headers, &EXPIRES) else { return Duration::ZERO };
            let date = date(headers, &DATE).unwrap_or(arrival.at);
            bounded(expires.duration_since(date).unwrap_or_default())
        }
        (Seconds::Absent, max_age) => max_age.or_zero(),
        (s_maxage, _) => s_maxage.or_zero(),
    }
}

/// The age at arrival (RFC 9111, section 4.2.3).
fn initial_age(headers: &HeaderMap, arrival: Arrival) -> Duration {
    // The first of several is used, and a malformed one is ignored (section 5.1).
    let age = list_members(headers, &AGE).next().and_then(delta_seconds).unwrap_or_default();
    // `Date` has whole seconds, so that a fraction is not an age.
    let apparent = date(headers, &DATE).and_then(|date| arrival.at.duration_since(date).ok()).unwrap_or_default();
    bounded(Duration::from_secs(apparent.as_secs()).max(age.saturating_add(arrival.delay)))
}

fn bounded(duration: Duration) -> Duration {
    duration.min(Duration::from_secs(MAX_SECONDS.into()))
}

/// Whether `Vary` names only `declared` fields (RFC 9111, section 4.1).
fn varies_within(headers: &HeaderMap, declared: &[HeaderName]) -> bool {
    list_members(headers, &VARY)
        .all(|name| declared.iter().any(|declared| name.eq_ignore_ascii_case(declared.as_str().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BACKEND: &str = "public, max-age=0, s-maxage=5, stale-while-revalidate=30, stale-if-error=86400";

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn arrival() -> Arrival {
        Arrival { at: SystemTime::UNIX_EPOCH + seconds(784_111_777), delay: Duration::ZERO }
    }

    fn of(status: u16, fields: &[(&'static str, &str)]) -> Option<Lifetime> {
        let declared = [HeaderName::from_static("accept"), HeaderName::from_static("accept-language")];
        storable(StatusCode::from_u16(status).unwrap(), &headers(fields), &declared, arrival())
    }

    /// The seconds (fresh, stale-while-revalidate, stale-if-error) for a `200` with an entity tag and this
    /// `Cache-Control`.
    fn tagged(control: &str) -> Option<[u64; 3]> {
        let lifetime = of(200, &[("cache-control", control), ("etag", "\"x\"")])?;
        assert_eq!(lifetime.initial_age, Duration::ZERO);
        Some([lifetime.fresh, lifetime.while_revalidate, lifetime.if_error].map(|time| time.as_secs()))
    }

    fn fresh(fields: &[(&'static str, &str)]) -> Option<u64> {
        of(200, fields).map(|lifetime| lifetime.fresh.as_secs())
    }

    /// RFC 9111, section 3.5: the response to a request with a token must allow it explicitly.
    #[test]
    fn a_response_is_stored_only_if_shared_caches_are_allowed_to() {
        for control in ["public, max-age=5", "s-maxage=5", "s-maxage=5, max-age=9", "public, s-maxage=5"] {
            assert_eq!(tagged(control), Some([5, 0, 0]), "{control}");
        }
        for control in [
            "",
            "max-age=5",
            "must-revalidate, max-age=5",
            "stale-while-revalidate=5, max-age=5",
            "s-maxage=x, max-age=5",
            "immutable, max-age=5",
        ] {
            assert_eq!(tagged(control), None, "{control}");
        }
        assert_eq!(fresh(&[("expires", "Sun, 06 Nov 1994 08:49:42 GMT"), ("etag", "\"x\"")]), None);
    }

    /// RFC 9111, sections 5.2.2.5 and 5.2.2.7.
    #[test]
    fn restrictions_override_permissions() {
        for forbids in ["no-store", "private", "PRIVATE=\"set-cookie\"", "no-store=x", "(junk)"] {
            assert_eq!(tagged(&format!("{BACKEND}, {forbids}")), None, "{forbids}");
            assert_eq!(tagged(&format!("{forbids}, {BACKEND}")), None, "{forbids}");
            assert_eq!(of(200, &[("cache-control", BACKEND), ("cache-control", forbids)]), None, "{forbids}");
        }
    }

    /// RFC 9111, section 3; other statuses are not stored by choice.
    #[test]
    fn only_complete_responses_for_all_clients_are_stored() {
        let stored: Vec<u16> =
            (100..1000).filter(|status| of(*status, &[("cache-control", BACKEND)]).is_some()).collect();
        assert_eq!(stored, [200, 404]);
        assert_eq!(of(200, &[("cache-control", BACKEND), ("content-range", "bytes 0-1/2")]), None);
        assert_eq!(of(200, &[("cache-control", BACKEND), ("set-cookie", "a=b")]), None);
    }

    /// A missing resource may be created: fresh for seconds, and never stale.
    #[test]
    fn a_404_is_stored_briefly() {
        let not_found = |control: &str| of(404, &[("cache-control", control), ("etag", "\"x\"")]);
        let at_most = |time: u64| {
            let none = Duration::ZERO;
            Some(Lifetime { fresh: seconds(time), while_revalidate: none, if_error: none, initial_age: none })
        };
        assert_eq!(not_found(BACKEND), at_most(5));
        assert_eq!(not_found("public, s-maxage=86400, stale-if-error=86400"), at_most(5));
        assert_eq!(not_found("public, max-age=3"), at_most(3));
        // A `404` is not revalidated (RFC 9110, section 13.2.1), so that its tag has no effect.
        assert_eq!(not_found("public, max-age=0"), None);
        assert_eq!(not_found("public, no-cache, s-maxage=5"), None);
    }

    /// RFC 9111, section 4.2.1: the first of `s-maxage`, `max-age` and `Expires`.
    #[test]
    fn the_freshness_lifetime_is_that_of_shared_caches() {
        let control = |control| ("cache-control", control);
        let expires = |expires| ("expires", expires);
        let later = "Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(fresh(&[control("public, max-age=7, s-maxage=5"), expires(later)]), Some(5));
        assert_eq!(fresh(&[control("public, max-age=7"), expires(later)]), Some(7));
        assert_eq!(fresh(&[control("public"), expires(later)]), Some(60));
        // Relative to the backend's `Date`.
        assert_eq!(fresh(&[control("public"), expires(later), ("date", "Sun, 06 Nov 1994 08:49:57 GMT")]), Some(40));
        assert_eq!(fresh(&[control("public"), expires("Fri, 31 Dec 9999 23:59:59 GMT")]), Some(1 << 31));
        for useless in ["0", "", NOW, "Sun, 06 Nov 1994 08:49:36 GMT", "tomorrow"] {
            assert_eq!(fresh(&[control("public"), expires(useless)]), None, "{useless}");
        }
        assert_eq!(fresh(&[control("public"), expires(later), expires(later)]), None);
    }

    /// RFC 9111, section 4.2.2: heuristic freshness is optional.
    #[test]
    fn there_is_no_heuristic_freshness() {
        assert_eq!(fresh(&[("cache-control", "public"), ("date", NOW)]), None);
        let modified = ("last-modified", "Sat, 06 Nov 1993 08:49:37 GMT");
        assert_eq!(fresh(&[("cache-control", "public"), modified]), Some(0));
    }

    /// RFC 9111, sections 4.2.1, 4.3 and 5.2.2.4.
    #[test]
    fn a_response_that_is_never_fresh_is_stored_if_it_can_be_revalidated() {
        for control in ["public, no-cache, max-age=5, stale-if-error=9", "public, max-age=0", "s-maxage=0", "public"] {
            assert_eq!(tagged(control), Some([0, 0, 0]), "{control}");
            assert_eq!(of(200, &[("cache-control", control)]), None, "{control}");
            assert_eq!(of(200, &[("cache-control", control), ("etag", "x")]), None, "{control}");
        }
        // A stale window is sufficient.
        assert!(of(200, &[("cache-control", "public, max-age=0, stale-if-error=1")]).is_some());
        // A response that is already too old is not stored.
        assert_eq!(of(200, &[("cache-control", "public, max-age=5"), ("age", "5")]), None);
        assert!(of(200, &[("cache-control", "public, max-age=5"), ("age", "4")]).is_some());
    }

    /// RFC 5861, sections 3 and 4; RFC 9111, sections 4.2.4, 5.2.2.2, 5.2.2.8 and 5.2.2.10.
    #[test]
    fn stale_windows_are_explicit_and_can_be_forbidden() {
        assert_eq!(tagged(BACKEND), Some([5, 30, 86400]));
        assert_eq!(tagged("public, max-age=5, stale-while-revalidate=30"), Some([5, 30, 0]));
        assert_eq!(tagged("s-maxage=5"), Some([5, 0, 0]));
        assert_eq!(
            tagged("s-maxage=5, stale-if-error=x, stale-while-revalidate=1, stale-while-revalidate=2"),
            Some([5, 0, 0])
        );
        for forbids in ["must-revalidate", "proxy-revalidate", "Must-Revalidate=1"] {
            assert_eq!(tagged(&format!("{BACKEND}, {forbids}")), Some([5, 0, 0]), "{forbids}");
        }
        assert_eq!(tagged(&format!("{BACKEND}, no-cache")), Some([0, 0, 0]));
    }

    /// RFC 9111, section 4.1.
    #[test]
    fn a_response_that_varies_by_more_than_the_key_is_not_stored() {
        let varies = |lines: &[&str]| {
            let vary = lines.iter().map(|line| ("vary", *line));
            of(200, &[("cache-control", BACKEND)].into_iter().chain(vary).collect::<Vec<_>>()).is_some()
        };
        for lines in [&[][..], &[""], &["accept"], &["ACCEPT , Accept-Language,"], &["Accept", "accept-language"]] {
            assert!(varies(lines), "{lines:?}");
        }
        for lines in [
            &["*"][..],
            &["Accept, *"],
            &["Accept", "*"],
            &["Accept-Encoding"],
            &["Accept, Authorization"],
            &["Accept", "Cookie"],
            &["Accept Accept-Language"],
            &["Accept; q=1"],
            &["\"Accept\""],
        ] {
            assert!(!varies(lines), "{lines:?}");
        }
    }

    /// RFC 9111, sections 4.2.3 and 5.1.
    #[test]
    fn the_age_at_arrival_is_the_greater_of_two_computations() {
        let age = |fields: &[(&'static str, &str)], delay| {
            let mut headers = headers(fields);
            headers.insert("cache-control", BACKEND.parse().unwrap());
            // A validator, so that the response is stored at any age.
            headers.insert("etag", "\"x\"".parse().unwrap());
            let arrival = Arrival { delay, ..arrival() };
            storable(StatusCode::OK, &headers, &[], arrival).unwrap().initial_age
        };
        let delay = Duration::from_millis(1500);
        let (earlier, later) = ("Sun, 06 Nov 1994 08:49:27 GMT", "Sun, 06 Nov 1994 08:59:37 GMT");
        assert_eq!(age(&[], delay), delay);
        assert_eq!(age(&[("age", "2")], delay), seconds(2) + delay);
        assert_eq!(age(&[("age", "2"), ("date", earlier)], delay), seconds(10));
        assert_eq!(age(&[("age", "20"), ("date", earlier)], delay), seconds(20) + delay);
        assert_eq!(age(&[("date", later)], delay), delay);
        assert_eq!(age(&[("date", "yesterday")], delay), delay);
        // The first of several; a malformed one is ignored.
        assert_eq!(age(&[("age", "2, 7")], delay), seconds(2) + delay);
        assert_eq!(age(&[("age", "2"), ("age", "7")], delay), seconds(2) + delay);
        for none in ["", "-1", "1.5", "x", "\"2\""] {
            assert_eq!(age(&[("age", none)], delay), delay, "{none}");
        }
        assert_eq!(age(&[("age", "99999999999999999999")], delay), seconds(1 << 31));
    }

    /// `Date` has whole seconds.
    #[test]
    fn a_fraction_of_a_second_is_not_an_age() {
        let at = |after: Duration| {
            let arrival = Arrival { at: arrival().at + after, delay: Duration::ZERO };
            let headers = headers(&[("cache-control", BACKEND), ("date", NOW)]);
            storable(StatusCode::OK, &headers, &[], arrival).unwrap().initial_age
        };
        assert_eq!(at(Duration::from_millis(999)), Duration::ZERO);
        assert_eq!(at(Duration::from_millis(1000)), seconds(1));
    }
}
