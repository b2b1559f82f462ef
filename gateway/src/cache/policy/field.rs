//! Which fields of a response are stored, and how a `304` updates them.

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, HeaderName, PROXY_AUTHENTICATE,
    SET_COOKIE,
};
use http::{HeaderMap, StatusCode};

use super::validator::Validators;
use crate::upstream::is_hop_by_hop;

/// Fields about the stored body, which a `304` does not update (RFC 9111, section 3.2).
const REPRESENTATION_FIELDS: [HeaderName; 4] = [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE];

/// Whether the field `name` of a response with `headers` may be stored (RFC 9111, section 3.1): it is neither
/// hop-by-hop nor for one client.
fn is_storable_field(name: &HeaderName, headers: &HeaderMap) -> bool {
    !is_hop_by_hop(name, headers)
        && *name != SET_COOKIE
        && *name != PROXY_AUTHENTICATE
        && name.as_str() != "proxy-authentication-info"
}

/// The fields of a response that are stored.
pub fn storable_fields(headers: &HeaderMap) -> HeaderMap {
    let fields = headers.iter().filter(|(name, _)| is_storable_field(name, headers));
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The fields of a stored `200` updated by a `304` (RFC 9111, sections 3.2 and 4.3.4); `None` if the `304` is about
/// another response, so that a complete one must be requested. `Age` and `Date` are those of the `304`, when the
/// response was validated.
///
/// Whether the result may be stored is decided by [`super::storable()`].
pub fn freshened(stored: &HeaderMap, not_modified: &HeaderMap) -> Option<HeaderMap> {
    let validators = |headers| Validators::of(StatusCode::OK, headers);
    if !validators(stored).matches_not_modified(&validators(not_modified)) {
        return None;
    }
    let mut fresh = stored.clone();
    fresh.remove(AGE);
    fresh.remove(DATE);
    let updates = |name: &HeaderName| is_storable_field(name, not_modified) && !REPRESENTATION_FIELDS.contains(name);
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
    fn hop_by_hop_fields_and_fields_of_one_client_are_not_stored() {
        let stored = storable_fields(&headers(&[
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
    fn a_304_replaces_the_fields_that_it_has() {
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
    fn a_304_updates_neither_fields_of_the_body_nor_hop_by_hop_fields() {
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

    /// RFC 9111, section 4.2.3: the age counts from the validation.
    #[test]
    fn age_and_date_are_those_of_the_304() {
        let stored = headers(&[("age", "100"), ("date", MODIFIED), ("etag", "\"x\"")]);
        assert_eq!(freshened(&stored, &headers(&[])), Some(headers(&[("etag", "\"x\"")])));
        let validated = headers(&[("age", "1"), ("date", LATER), ("etag", "\"x\"")]);
        assert_eq!(freshened(&stored, &validated), Some(validated));
    }

    /// RFC 9111, section 4.3.4.
    #[test]
    fn a_304_about_another_response_does_not_match() {
        let (strong, weak) = (("etag", "\"x\""), ("etag", "W/\"x\""));
        let modified = ("last-modified", MODIFIED);
        for (stored, not_modified, is_same) in [
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
            let fresh = freshened(&headers(stored), &headers(not_modified));
            assert_eq!(fresh.is_some(), is_same, "{stored:?} {not_modified:?}");
        }
    }
}
