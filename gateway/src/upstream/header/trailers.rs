//! Trailer fields (RFC 9110, section 6.5), and the request for them (section 10.1.4).

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPECT, HOST,
    HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED, LINK, LOCATION, MAX_FORWARDS, PROXY_AUTHENTICATE, RANGE, REFRESH, RETRY_AFTER, SET_COOKIE, TE, VARY,
    WARNING, WWW_AUTHENTICATE,
};

use super::{HopByHop, is_reserved, is_returned};
use crate::syntax::accepts_trailers;

/// Fields that have a meaning only in front of the content (RFC 9110, section 6.5.1): of routing, conditions,
/// authentication and response control, and those that describe the content. A recipient that merged them into the
/// head would act on what no proxy has checked. `Link` has URLs that are rewritten in the head only.
const HEAD_ONLY: [HeaderName; 26] = [
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
    ETAG,
    EXPECT,
    HOST,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    LAST_MODIFIED,
    LINK,
    LOCATION,
    MAX_FORWARDS,
    PROXY_AUTHENTICATE,
    RANGE,
    REFRESH,
    RETRY_AFTER,
    SET_COOKIE,
    TE,
    VARY,
    WARNING,
    WWW_AUTHENTICATE,
];

/// The trailers of a response for the client. `head` has the fields of its head.
pub fn trailers_for_client(trailers: &HeaderMap, head: &HeaderMap) -> HeaderMap {
    let (of_head, of_trailers) = (HopByHop::of(head), HopByHop::of(trailers));
    let may_pass = |name: &HeaderName| {
        // A dash and an underscore are the same for some recipients.
        let Ok(dashed) = name.as_str().replace('_', "-").parse::<HeaderName>() else { return false };
        is_returned(&dashed)
            && !is_reserved(&dashed)
            && !HEAD_ONLY.contains(&dashed)
            && !of_head.contains(&dashed)
            && !of_trailers.contains(&dashed)
            && !of_head.contains(name)
            && !of_trailers.contains(name)
    };
    let passed = trailers.iter().filter(|(name, _)| may_pass(name));
    passed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Requests trailers from the service if the client does, whose fields are `client`: many services send none otherwise.
pub fn request_trailers(client: &HeaderMap, service: &mut HeaderMap) {
    if accepts_trailers(client) {
        service.insert(TE, HeaderValue::from_static("trailers"));
        service.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(names: &[&'static str]) -> HeaderMap {
        let field = |name: &&'static str| (HeaderName::from_static(name), HeaderValue::from_static("a"));
        names.iter().map(field).collect()
    }

    #[test]
    fn fields_that_belong_into_the_head_are_no_trailers() {
        let passed = ["grpc-status", "server-timing", "content-digest", "x-checksum"];
        assert_eq!(trailers_for_client(&fields(&passed), &HeaderMap::new()), fields(&passed));
        for name in HEAD_ONLY.iter().map(HeaderName::as_str).chain([
            "content-length",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "trailer",
            "upgrade",
            "age",
            "date",
            "expires",
            "x-auth-identity",
            "x_auth_identity",
            "x-forwarded-for",
            "authorization",
            "set_cookie",
            "access-control-allow-origin",
            "access_control_allow_origin",
            "strict-transport-security",
            "x-request-id",
            "x-cache",
        ]) {
            let name = HeaderName::try_from(name).unwrap();
            let trailers = HeaderMap::from_iter([(name, HeaderValue::from_static("a"))]);
            assert_eq!(trailers_for_client(&trailers, &HeaderMap::new()), HeaderMap::new(), "{trailers:?}");
        }
    }

    #[test]
    fn fields_that_connection_names_are_no_trailers() {
        let head = HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static("close, X-Hop"))]);
        assert_eq!(trailers_for_client(&fields(&["x-hop", "x_hop", "x-end"]), &head), fields(&["x-end"]).clone());
        let trailers = HeaderMap::from_iter([
            (CONNECTION, HeaderValue::from_static("x-hop")),
            (HeaderName::from_static("x-hop"), HeaderValue::from_static("a")),
        ]);
        assert!(trailers_for_client(&trailers, &HeaderMap::new()).is_empty());
    }

    #[test]
    fn trailers_are_requested_for_clients_that_request_them() {
        for (te, expected) in [
            (None, None),
            (Some("gzip"), None),
            (Some("trailers"), Some("trailers")),
            (Some("gzip;q=0.5, Trailers"), Some("trailers")),
            (Some("xtrailers"), None),
        ] {
            let client: HeaderMap = te.map(|te| (TE, HeaderValue::from_static(te))).into_iter().collect();
            let mut service = HeaderMap::new();
            request_trailers(&client, &mut service);
            assert_eq!(service.get(TE).map(|value| value.to_str().unwrap()), expected, "{te:?}");
            assert_eq!(service.contains_key(CONNECTION), expected.is_some());
        }
    }
}
