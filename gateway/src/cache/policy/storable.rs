//! Which answers are stored, and for how long.

use std::time::{Duration, SystemTime};

use http::header::{AGE, CONTENT_RANGE, DATE, EXPIRES, HeaderName, SET_COOKIE, VARY};
use http::{HeaderMap, StatusCode};

use super::control::{Directives, MAX_SECONDS, Seconds, delta_seconds};
use super::lifetime::{Lifetime, Standing};
use super::validator::Validators;
use super::{date, members};

/// The longest that a `404` is fresh: what is not there yet may be at any moment.
pub const NOT_FOUND_FRESH: Duration = Duration::from_secs(5);

/// When an answer came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The moment of its head, to compare with its `Date`.
    pub at: SystemTime,
    /// Since it was asked for.
    pub delay: Duration,
}

/// For how long an answer to a GET may be stored; `None` where it may not, or need not since it
/// could never be given again.
///
/// `declared` are the request fields that are part of the key: an answer that varies by others
/// (RFC 9111, section 4.1) is not stored. Stored is only what says `public` or `s-maxage`, and
/// neither `no-store` nor `private` (sections 3 and 3.5): a whole `200`, and a `404` for at most
/// [`NOT_FOUND_FRESH`], neither with `Set-Cookie`. A `200` that has to be revalidated every time
/// is stored where it has a validator.
///
/// The stale windows are those that the answer states. By itself `s-maxage` forbids stale answers
/// as `proxy-revalidate` does (section 5.2.2.10); but a backend that writes a window beside it
/// allows just those, which is what RFC 5861 is for, and takes nothing back. It has `no-cache`,
/// `must-revalidate` and `proxy-revalidate` to forbid them, which is heeded.
pub fn storable(
    status: StatusCode,
    headers: &HeaderMap,
    declared: &[HeaderName],
    arrival: Arrival,
) -> Option<Lifetime> {
    let directives = Directives::parse(headers);
    if !is_for_all_by(&directives, headers, declared) {
        return None;
    }
    let fresh = if directives.no_cache { Duration::ZERO } else { freshness(&directives, headers, arrival) };
    let (fresh, may_be_stale) = match status {
        StatusCode::OK => (fresh, !directives.no_cache && !directives.must_revalidate),
        StatusCode::NOT_FOUND => (fresh.min(NOT_FOUND_FRESH), false),
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
        lifetime.standing(Duration::ZERO) != Standing::Expired || Validators::of(status, headers).can_revalidate();
    is_useful.then_some(lifetime)
}

/// Whether an answer says that everybody gets the same who sends the same `declared` fields: by
/// `public` or `s-maxage`, and by nothing that takes it back. Whether it can be stored is another matter.
pub fn is_for_all(headers: &HeaderMap, declared: &[HeaderName]) -> bool {
    is_for_all_by(&Directives::parse(headers), headers, declared)
}

fn is_for_all_by(directives: &Directives, headers: &HeaderMap, declared: &[HeaderName]) -> bool {
    let is_allowed = directives.public || matches!(directives.s_maxage, Seconds::Given(_));
    let is_forbidden = directives.no_store
        || directives.private
        || headers.contains_key(SET_COOKIE)
        || headers.contains_key(CONTENT_RANGE)
        || !varies_within(headers, declared);
    is_allowed && !is_forbidden
}

/// RFC 9111, section 4.2.1, for a shared cache; zero where no lifetime is stated.
fn freshness(directives: &Directives, headers: &HeaderMap, arrival: Arrival) -> Duration {
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

/// RFC 9111, section 4.2.3.
fn initial_age(headers: &HeaderMap, arrival: Arrival) -> Duration {
    // Of several the first is taken, and one that is no number is none (section 5.1).
    let told = members(headers, &AGE).next().and_then(delta_seconds).unwrap_or_default();
    // `Date` counts whole seconds, so less than one tells nothing.
    let apparent = date(headers, &DATE).and_then(|date| arrival.at.duration_since(date).ok()).unwrap_or_default();
    bounded(Duration::from_secs(apparent.as_secs()).max(told.saturating_add(arrival.delay)))
}

fn bounded(duration: Duration) -> Duration {
    duration.min(Duration::from_secs(MAX_SECONDS.into()))
}

/// Whether `Vary` names nothing but `declared` fields (RFC 9111, section 4.1).
fn varies_within(headers: &HeaderMap, declared: &[HeaderName]) -> bool {
    members(headers, &VARY)
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

    /// What a `200` with a tag and this `Cache-Control` is stored for: fresh and stale seconds.
    fn tagged(control: &str) -> Option<[u64; 3]> {
        let lifetime = of(200, &[("cache-control", control), ("etag", "\"x\"")])?;
        assert_eq!(lifetime.initial_age, Duration::ZERO);
        Some([lifetime.fresh, lifetime.while_revalidate, lifetime.if_error].map(|time| time.as_secs()))
    }

    fn fresh(fields: &[(&'static str, &str)]) -> Option<u64> {
        of(200, fields).map(|lifetime| lifetime.fresh.as_secs())
    }

    /// RFC 9111, section 3.5: the answer to a request with a token needs to say so.
    #[test]
    fn only_what_a_shared_cache_is_allowed_is_stored() {
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
    fn what_forbids_wins_over_what_allows() {
        for forbids in ["no-store", "private", "PRIVATE=\"set-cookie\"", "no-store=x", "(junk)"] {
            assert_eq!(tagged(&format!("{BACKEND}, {forbids}")), None, "{forbids}");
            assert_eq!(tagged(&format!("{forbids}, {BACKEND}")), None, "{forbids}");
            assert_eq!(of(200, &[("cache-control", BACKEND), ("cache-control", forbids)]), None, "{forbids}");
        }
    }

    /// RFC 9111, section 3: what is not understood whole is not stored; the rest is by choice.
    #[test]
    fn only_whole_answers_that_are_common_are_stored() {
        let stored: Vec<u16> =
            (100..1000).filter(|status| of(*status, &[("cache-control", BACKEND)]).is_some()).collect();
        assert_eq!(stored, [200, 404]);
        assert_eq!(of(200, &[("cache-control", BACKEND), ("content-range", "bytes 0-1/2")]), None);
        assert_eq!(of(200, &[("cache-control", BACKEND), ("set-cookie", "a=b")]), None);
    }

    /// A missing thing may appear: it is fresh for seconds, and never stale.
    #[test]
    fn what_was_not_found_is_stored_briefly() {
        let not_found = |control: &str| of(404, &[("cache-control", control), ("etag", "\"x\"")]);
        let at_most = |time: u64| {
            let none = Duration::ZERO;
            Some(Lifetime { fresh: seconds(time), while_revalidate: none, if_error: none, initial_age: none })
        };
        assert_eq!(not_found(BACKEND), at_most(5));
        assert_eq!(not_found("public, s-maxage=86400, stale-if-error=86400"), at_most(5));
        assert_eq!(not_found("public, max-age=3"), at_most(3));
        // Nothing can be asked about it (RFC 9110, section 13.2.1), so the tag is of no use.
        assert_eq!(not_found("public, max-age=0"), None);
        assert_eq!(not_found("public, no-cache, s-maxage=5"), None);
    }

    /// RFC 9111, section 4.2.1: the first that applies of `s-maxage`, `max-age`, `Expires`.
    #[test]
    fn the_lifetime_is_the_one_for_shared_caches() {
        let control = |control| ("cache-control", control);
        let expires = |expires| ("expires", expires);
        let later = "Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(fresh(&[control("public, max-age=7, s-maxage=5"), expires(later)]), Some(5));
        assert_eq!(fresh(&[control("public, max-age=7"), expires(later)]), Some(7));
        assert_eq!(fresh(&[control("public"), expires(later)]), Some(60));
        // Against the backend's own clock where it tells it.
        assert_eq!(fresh(&[control("public"), expires(later), ("date", "Sun, 06 Nov 1994 08:49:57 GMT")]), Some(40));
        assert_eq!(fresh(&[control("public"), expires("Fri, 31 Dec 9999 23:59:59 GMT")]), Some(1 << 31));
        for useless in ["0", "", NOW, "Sun, 06 Nov 1994 08:49:36 GMT", "tomorrow"] {
            assert_eq!(fresh(&[control("public"), expires(useless)]), None, "{useless}");
        }
        assert_eq!(fresh(&[control("public"), expires(later), expires(later)]), None);
    }

    /// RFC 9111, section 4.2.2: a cache may guess a lifetime, or not.
    #[test]
    fn no_lifetime_is_guessed() {
        assert_eq!(fresh(&[("cache-control", "public"), ("date", NOW)]), None);
        let modified = ("last-modified", "Sat, 06 Nov 1993 08:49:37 GMT");
        assert_eq!(fresh(&[("cache-control", "public"), modified]), Some(0));
    }

    /// RFC 9111, section 5.2.2.4, and sections 4.2.1 and 4.3 for what has no time to be fresh.
    #[test]
    fn what_is_never_fresh_is_stored_where_it_can_be_revalidated() {
        for control in ["public, no-cache, max-age=5, stale-if-error=9", "public, max-age=0", "s-maxage=0", "public"] {
            assert_eq!(tagged(control), Some([0, 0, 0]), "{control}");
            assert_eq!(of(200, &[("cache-control", control)]), None, "{control}");
            assert_eq!(of(200, &[("cache-control", control), ("etag", "x")]), None, "{control}");
        }
        // A time to be stale is a use as well.
        assert!(of(200, &[("cache-control", "public, max-age=0, stale-if-error=1")]).is_some());
        // One that came too old for all of them has none.
        assert_eq!(of(200, &[("cache-control", "public, max-age=5"), ("age", "5")]), None);
        assert!(of(200, &[("cache-control", "public, max-age=5"), ("age", "4")]).is_some());
    }

    /// RFC 5861, sections 3 and 4; RFC 9111, sections 4.2.4, 5.2.2.2, 5.2.2.8 and 5.2.2.10.
    #[test]
    fn stale_windows_are_those_that_are_stated_and_not_forbidden() {
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
    fn what_varies_by_more_than_the_key_is_not_stored() {
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
    fn the_age_on_arrival_is_the_greater_of_two_reckonings() {
        let age = |fields: &[(&'static str, &str)], delay| {
            let mut headers = headers(fields);
            headers.insert("cache-control", BACKEND.parse().unwrap());
            // Worth storing however old.
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
        // The first of several; what is no number is none.
        assert_eq!(age(&[("age", "2, 7")], delay), seconds(2) + delay);
        assert_eq!(age(&[("age", "2"), ("age", "7")], delay), seconds(2) + delay);
        for none in ["", "-1", "1.5", "x", "\"2\""] {
            assert_eq!(age(&[("age", none)], delay), delay, "{none}");
        }
        assert_eq!(age(&[("age", "99999999999999999999")], delay), seconds(1 << 31));
    }

    /// `Date` is in whole seconds, so that an answer of this very second is of no age.
    #[test]
    fn a_part_of_a_second_is_no_age() {
        let at = |after: Duration| {
            let arrival = Arrival { at: arrival().at + after, delay: Duration::ZERO };
            let headers = headers(&[("cache-control", BACKEND), ("date", NOW)]);
            storable(StatusCode::OK, &headers, &[], arrival).unwrap().initial_age
        };
        assert_eq!(at(Duration::from_millis(999)), Duration::ZERO);
        assert_eq!(at(Duration::from_millis(1000)), seconds(1));
    }
}
