//! Which fields are forwarded and returned.

use super::*;

fn facts() -> ForwardingInfo<'static> {
    ForwardingInfo {
        client: Some("192.0.2.1".parse().unwrap()),
        host: "example.org:8443",
        request_id: "id",
        identity: Some("ユーザー 01\r\nX: y"),
        target: "/holodules/20201209",
        prefix: None,
        passes_host: false,
    }
}

fn for_client(parts: &http::response::Parts) -> ResponseHeader {
    for_client_of(parts, true)
}

fn for_client_of(parts: &http::response::Parts, needs_token: bool) -> ResponseHeader {
    let upstream = crate::upstream::location::upstream("127.0.0.1:8080");
    super::for_client(
        parts,
        &upstream,
        &PublicAuthority { authority: "example.org", is_forwarded: false, needs_token, prefixes: None },
    )
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
}

fn forwarded(fields: &[(&'static str, &'static str)]) -> Parts {
    for_upstream(&Method::GET, &headers(fields), &facts()).unwrap()
}

#[test]
fn several_cookie_fields_become_one() {
    let parts = forwarded(&[("cookie", "a=b"), ("accept", "*/*"), ("cookie", "c=d")]);
    let cookies: Vec<_> = parts.headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=b; c=d"]);
    assert!(!forwarded(&[("accept", "*/*")]).headers.contains_key("cookie"));
}

#[test]
fn fields_that_only_the_gateway_sets_are_removed_from_requests() {
    let sent = [
        "authorization",
        "proxy-authorization",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-anything",
        "x-real-ip",
        "x-auth-identity",
        "x-auth-role",
        "x_auth_identity",
        "x_forwarded-for",
        "x-request-id",
        "remote-user",
        "remote_user",
        "true-client-ip",
        "x-http-method-override",
        "x-original-url",
        "x-rewrite-url",
        "proxy",
        "host",
        "expect",
        "upgrade",
        "te",
        "transfer-encoding",
    ];
    let mut fields: Vec<_> = sent.iter().map(|name| (*name, "spoofed")).collect();
    fields.push(("accept", "kept"));
    let parts = forwarded(&fields);
    assert!(!parts.headers.values().any(|value| value == "spoofed"), "{:?}", parts.headers);
    assert_eq!(parts.headers["accept"], "kept");
    assert_eq!(parts.uri, "/holodules/20201209");
    assert_eq!(parts.headers["x-forwarded-for"], "192.0.2.1");
    assert_eq!(parts.headers["x-forwarded-proto"], "https");
    assert_eq!(parts.headers["x-forwarded-host"], "example.org:8443");
    assert_eq!(parts.headers.len(), 6, "{:?}", parts.headers);
}

#[test]
fn connection_options_are_removed_but_none_of_the_gateways_fields() {
    let parts = forwarded(&[
        ("connection", "close, X-Hop ,x-auth-identity"),
        ("connection", "x-request-id"),
        ("x-hop", "gone"),
        ("x-kept", "kept"),
    ]);
    assert!(!parts.headers.contains_key("x-hop") && !parts.headers.contains_key("connection"));
    assert_eq!(parts.headers["x-kept"], "kept");
    assert_eq!(parts.headers["x-request-id"], "id");
    assert!(parts.headers.contains_key("x-auth-identity"));
}

#[test]
fn addresses_are_written_in_canonical_form() {
    for address in
        ["255.255.255.255", "1.0.10.100", "fe80:1111:2222:3333:4444:5555:6666:7777", "::ffff:255.255.255.255", "::"]
    {
        let info = ForwardingInfo { client: Some(address.parse().unwrap()), ..facts() };
        let parts = for_upstream(&Method::GET, &HeaderMap::new(), &info).unwrap();
        assert_eq!(parts.headers["x-forwarded-for"], address);
    }
}

#[test]
fn similar_names_are_forwarded() {
    for name in ["x-auth", "x-forwarded", "proxy-", "xauth-role", "x-request-id-2", "remote-users", "x--auth-a"] {
        assert!(is_forwarded(&name.parse().unwrap()), "{name}");
    }
}

#[test]
fn identities_are_percent_encoded() {
    let percent_encoded = |text| Texts::with_room_for(&facts()).percent_encoded(text);
    assert_eq!(percent_encoded("user-01._~"), "user-01._~");
    assert_eq!(percent_encoded("a b\r\n%é"), "a%20b%0D%0A%25%C3%A9");
}

#[test]
fn a_content_length_is_sent_once_or_not_at_all() {
    let length = |status: StatusCode, fields: &[(&'static str, &'static str)]| {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        (parts.status, parts.headers) = (status, headers(fields));
        let response = for_client(&parts);
        let lengths: Vec<_> = response.headers.get_all(CONTENT_LENGTH).iter().cloned().collect();
        assert!(lengths.len() <= 1, "{lengths:?}");
        lengths.first().map(|length| length.to_str().unwrap().to_owned())
    };
    let (ok, cl) = (StatusCode::OK, "content-length");
    for fields in [&[(cl, "5")][..], &[(cl, "5"), (cl, "5")], &[(cl, "5, 5")], &[(cl, "05")]] {
        assert_eq!(length(ok, fields).as_deref(), Some("5"), "{fields:?}");
    }
    for fields in [&[(cl, "5"), (cl, "6")][..], &[(cl, "5, 6")], &[(cl, "+5")], &[(cl, "")], &[(cl, "5,")]] {
        assert_eq!(length(ok, fields), None, "{fields:?}");
    }
    assert_eq!(length(ok, &[(cl, "5"), ("transfer-encoding", "chunked")]), None);
    assert_eq!(length(ok, &[(cl, "5"), ("connection", "content-length")]), None);
    assert_eq!(length(StatusCode::NO_CONTENT, &[(cl, "5")]), None);
    // The length of the response to a GET (RFC 9110, section 8.6).
    assert_eq!(length(StatusCode::NOT_MODIFIED, &[(cl, "5")]).as_deref(), Some("5"));
}

#[test]
fn responses_are_private_and_reveal_nothing_about_the_backend() {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.headers = headers(&[
        ("server", "b"),
        ("x-cache", "hit"),
        ("cache-control", "public, s-maxage=5"),
        ("expires", "x"),
        ("age", "1"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("etag", "\"e\""),
        ("connection", "x-hop"),
        ("x-hop", "gone"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
    ]);
    let response = for_client(&parts);
    assert_eq!(response.headers["Cache-Control"], "private, no-cache");
    assert_eq!(response.headers["ETag"], "\"e\"");
    assert_eq!(response.headers.len(), 2);
}

#[test]
fn only_a_response_that_needed_no_token_keeps_its_own_freshness() {
    let fields = [
        ("cache-control", "public"),
        ("cache-control", "max-age=5"),
        ("age", "1"),
        ("expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("pragma", "no-cache"),
        ("surrogate-control", "max-age=5"),
        ("cdn-cache-control", "max-age=5"),
    ];
    let (mut parts, ()) = http::Response::new(()).into_parts();
    for (name, value) in fields {
        parts.headers.append(name, HeaderValue::from_static(value));
    }
    let names = |response: &ResponseHeader| response.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
    let response = for_client_of(&parts, true);
    assert_eq!(names(&response), ["cache-control"]);
    assert_eq!(response.headers.get_all("cache-control").iter().collect::<Vec<_>>(), ["private, no-cache"]);
    let response = for_client_of(&parts, false);
    assert_eq!(names(&response), ["cache-control", "age", "expires"]);
    assert_eq!(response.headers.get_all("cache-control").iter().collect::<Vec<_>>(), ["public", "max-age=5"]);
    parts.headers.clear();
    assert!(for_client_of(&parts, false).headers.is_empty());
}
