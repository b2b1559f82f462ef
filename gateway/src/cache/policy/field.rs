//! Which fields of an answer are stored, and how a `304` brings them up to date.

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, HeaderName, PROXY_AUTHENTICATE,
    SET_COOKIE,
};
use http::{HeaderMap, StatusCode};

use super::validator::Validators;
use crate::upstream::is_hop_by_hop;

/// What the stored body depends on (RFC 9111, section 3.2): it stays as it is, whatever a `304`
/// says.
const OF_THE_BODY: [HeaderName; 4] = [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE];

/// Whether the field `name` of an answer with `headers` may be stored (RFC 9111, section 3.1): it
/// does not end with the connection, and is about nobody in particular.
fn is_kept(name: &HeaderName, headers: &HeaderMap) -> bool {
    !is_hop_by_hop(name, headers)
        && *name != SET_COOKIE
        && *name != PROXY_AUTHENTICATE
        && name.as_str() != "proxy-authentication-info"
}

/// The fields of an answer that are stored.
pub fn kept(headers: &HeaderMap) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| is_kept(name, headers));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The fields of a stored `200` after a `304` said that it still holds (RFC 9111, sections 3.2 and
/// 4.3.4); `None` where the `304` speaks of another answer, so that the whole one must be asked
/// for. `Age` and `Date` are those of the `304`: they tell when the answer was confirmed.
///
/// What the result allows is up to [`super::storable()`] again.
pub fn freshened(stored: &HeaderMap, not_modified: &HeaderMap) -> Option<HeaderMap> {
    let validators = |headers| Validators::of(StatusCode::OK, headers);
    if !validators(stored).are_confirmed_by(&validators(not_modified)) {
        return None;
    }
    let mut fresh = stored.clone();
    fresh.remove(AGE);
    fresh.remove(DATE);
    let updates = |name: &HeaderName| is_kept(name, not_modified) && !OF_THE_BODY.contains(name);
    for name in not_modified.keys().filter(|name| updates(name)) {
        fresh.remove(name);
        for value in not_modified.get_all(name) {
            fresh.append(name.clone(), value.clone());
        }
    }
    Some(fresh)
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    /// RFC 9111, section 3.1; RFC 9110, section 7.6.1.
    #[test]
    fn what_ends_with_the_connection_or_is_somebodys_is_not_stored() {
        let stored = kept(&headers(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "gone"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
            ("upgrade", "h2c"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "x"),
            ("set-cookie", "a=b"),
            ("etag", "\"x\""),
            ("link", "a"),
            ("link", "b"),
        ]));
        assert_eq!(stored, headers(&[("etag", "\"x\""), ("link", "a"), ("link", "b")]));
    }

    /// RFC 9111, section 3.2.
    #[test]
    fn a_confirmation_replaces_what_it_names() {
        let stored = headers(&[
            ("etag", "\"x\""),
            ("cache-control", "public, s-maxage=5"),
            ("link", "a"),
            ("link", "b"),
            ("x-kept", "kept"),
        ]);
        let fresh = freshened(
            &stored,
            &headers(&[("etag", "\"x\""), ("cache-control", "no-store"), ("link", "c"), ("link", "d"), ("x-new", "n")]),
        );
        let expected = headers(&[
            ("etag", "\"x\""),
            ("cache-control", "no-store"),
            ("x-kept", "kept"),
            ("link", "c"),
            ("link", "d"),
            ("x-new", "n"),
        ]);
        assert_eq!(fresh, Some(expected));
    }

    /// RFC 9111, sections 3.1 and 3.2.
    #[test]
    fn a_confirmation_changes_nothing_of_the_body_and_brings_nothing_of_its_connection() {
        let stored = headers(&[("content-length", "5"), ("content-type", "application/json"), ("etag", "\"x\"")]);
        let fresh = freshened(
            &stored,
            &headers(&[
                ("content-length", "0"),
                ("content-type", "text/html"),
                ("content-encoding", "gzip"),
                ("content-range", "bytes 0-1/5"),
                ("connection", "x-hop"),
                ("x-hop", "gone"),
                ("transfer-encoding", "chunked"),
                ("set-cookie", "a=b"),
            ]),
        );
        assert_eq!(fresh, Some(stored));
    }

    /// RFC 9111, section 4.2.3: the age of what was confirmed counts from then.
    #[test]
    fn the_time_is_that_of_the_confirmation() {
        let stored = headers(&[("age", "100"), ("date", MODIFIED), ("etag", "\"x\"")]);
        assert_eq!(freshened(&stored, &headers(&[])), Some(headers(&[("etag", "\"x\"")])));
        let confirmed = headers(&[("age", "1"), ("date", LATER), ("etag", "\"x\"")]);
        assert_eq!(freshened(&stored, &confirmed), Some(confirmed));
    }

    /// RFC 9111, section 4.3.4.
    #[test]
    fn a_confirmation_of_another_answer_is_none() {
        let (strong, weak) = (("etag", "\"x\""), ("etag", "W/\"x\""));
        let modified = ("last-modified", MODIFIED);
        for (stored, confirmed, is_same) in [
            (&[strong][..], &[strong][..], true),
            (&[strong], &[weak], true),
            (&[weak], &[weak], true),
            (&[weak], &[strong], false),
            (&[strong], &[("etag", "\"y\"")], false),
            (&[strong], &[("etag", "W/\"y\"")], false),
            (&[modified], &[modified], true),
            (&[modified], &[("last-modified", LATER)], false),
            (&[modified], &[strong], false),
            (&[strong], &[modified], false),
            (&[strong, modified], &[modified], true),
            (&[strong, modified], &[strong, ("last-modified", LATER)], true),
            (&[strong, modified], &[("etag", "\"y\""), modified], false),
            (&[strong], &[], true),
        ] {
            let fresh = freshened(&headers(stored), &headers(confirmed));
            assert_eq!(fresh.is_some(), is_same, "{stored:?} {confirmed:?}");
        }
    }
}
