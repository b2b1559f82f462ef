use http::HeaderName;

use super::*;

fn request(head: &str) -> Result<Target, HeadError> {
    let mut lines = head.lines();
    let request_line = lines.next().unwrap();
    let (method, rest) = request_line.split_once(' ').unwrap();
    let (uri, version) = rest.rsplit_once(' ').unwrap();
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(HeaderName::try_from(name.trim()).unwrap(), value.trim().parse().unwrap());
    }
    let head = RequestHead {
        method: &method.parse().unwrap(),
        uri: &uri.parse().unwrap(),
        version: if version == "HTTP/1.0" { Version::HTTP_10 } else { Version::HTTP_11 },
        headers: &headers,
    };
    inspect(head, &Settings::default())
}

fn malformed(head: &str) -> bool {
    matches!(request(head), Err(HeadError::Malformed(_)))
}

#[test]
fn a_plain_request_is_accepted() {
    let target = request("GET /a/b?c=d HTTP/1.1\nHost: LocalHost:8443\n\n").unwrap();
    assert_eq!((target.host(), target.authority.as_str()), ("localhost", "localhost:8443"));
    assert_eq!((target.path().as_str(), target.query(), target.body), ("/a/b", Some("c=d"), BodyFraming::None));
}

#[test]
fn the_host_excludes_the_port() {
    for (sent, host, authority) in [
        ("a", "a", "a"),
        ("A.b:1", "a.b", "a.b:1"),
        ("a.:443", "a", "a"),
        ("a:", "a", "a"),
        ("[::1]", "[::1]", "[::1]"),
        ("[FE80::1]:8443", "[fe80::1]", "[fe80::1]:8443"),
        ("1.2.3.4:5", "1.2.3.4", "1.2.3.4:5"),
    ] {
        let target = request(&format!("GET / HTTP/1.1\nHost: {sent}\n\n")).unwrap();
        assert_eq!((target.host(), target.authority.as_str()), (host, authority));
    }
}

#[test]
fn an_absolute_target_must_name_the_same_host() {
    assert!(request("GET https://a:1/b HTTP/1.1\nHost: a:1\n\n").is_ok());
    assert!(request("GET HTTPS://A:1/b HTTP/1.1\nHost: a.:1\n\n").is_ok());
    assert!(request("GET https://a/b HTTP/1.1\nHost: A:443\n\n").is_ok());
    for (target, host) in [("a:1", "b:1"), ("a:1", "a:2"), ("a:1", "a"), ("a", "a:80"), ("a", ""), ("a", "a b")] {
        assert!(malformed(&format!("GET https://{target}/b HTTP/1.1\nHost: {host}\n\n")), "{target} {host}");
    }
}

#[test]
fn a_target_of_another_scheme_is_refused() {
    for target in ["http://a/b", "ftp://a/b", "wss://a/b"] {
        assert!(malformed(&format!("GET {target} HTTP/1.1\nHost: a\n\n")), "{target}");
    }
}

#[test]
fn http_2_requests_have_an_authority_or_a_host() {
    let inspect = |uri: &str, host: &[&str]| {
        let headers = host.iter().map(|host| (HOST, host.parse().unwrap())).collect::<HeaderMap>();
        let (method, uri) = (&Method::GET, &uri.parse().unwrap());
        inspect(RequestHead { method, uri, version: Version::HTTP_2, headers: &headers }, &Settings::default())
    };
    for (uri, host) in [
        ("https://a/b", &["a"][..]),
        ("HTTPS://a/b", &[]),
        ("/b", &["a"]),
        ("/b", &["A.:443"]),
        ("https://A/b", &["a"]),
    ] {
        assert_eq!(inspect(uri, host).unwrap().authority, "a", "{uri} {host:?}");
    }
    for (uri, host) in [("/b", &[][..]), ("http://a/b", &["a"]), ("https://a/b", &["b"]), ("/b", &["a", "a"])] {
        assert!(inspect(uri, host).is_err(), "{uri} {host:?}");
    }
}

#[test]
fn protected_names_with_underscores_are_refused() {
    for name in ["x_auth_identity", "X-Auth_Role", "x_forwarded_for", "X_Real-IP", "x-request_id", "Content_Length"] {
        assert!(malformed(&format!("GET / HTTP/1.1\nHost: a\n{name}: b\n\n")), "{name}");
    }
    for name in ["x_other", "_", "x_authority", "content_type", "x-auth-identity"] {
        assert!(!malformed(&format!("GET / HTTP/1.1\nHost: a\n{name}: b\n\n")), "{name}");
    }
}

#[test]
fn missing_repeated_or_malformed_hosts_are_refused() {
    for head in [
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/1.0\n\n",
        "GET / HTTP/1.1\nHost: a\nHost: a\n\n",
        "GET / HTTP/1.1\nHost:\n\n",
        "GET / HTTP/1.1\nHost: a b\n\n",
        "GET / HTTP/1.1\nHost: a@b\n\n",
        "GET / HTTP/1.1\nHost: a:x\n\n",
        "GET / HTTP/1.1\nHost: a:+1\n\n",
        "GET / HTTP/1.1\nHost: a:65536\n\n",
        "GET / HTTP/1.1\nHost: a:1:2\n\n",
        "GET / HTTP/1.1\nHost: [::1]1\n\n",
        "GET / HTTP/1.1\nHost: [::1\n\n",
        "GET / HTTP/1.1\nHost: ::1\n\n",
        "GET / HTTP/1.1\nHost: a/b\n\n",
        "GET / HTTP/1.1\nHost: a%62\n\n",
        "GET / HTTP/1.1\nHost: a;b\n\n",
        "GET / HTTP/1.1\nHost: [a]\n\n",
        "GET / HTTP/1.1\nHost: [::1%25a]\n\n",
        "GET / HTTP/1.1\nHost: [v1.a]\n\n",
        "GET / HTTP/1.1\nHost: :1\n\n",
    ] {
        assert!(malformed(head), "{head}");
    }
}

#[test]
fn unsupported_methods_are_refused() {
    assert!(malformed("TRACE / HTTP/1.1\nHost: a\n\n"));
    assert!(malformed("OPTIONS * HTTP/1.1\nHost: a\n\n"));
}

#[test]
fn ambiguous_lengths_are_refused() {
    for fields in [
        "Content-Length: 1\nTransfer-Encoding: chunked",
        "Content-Length: 1\nContent-Length: 1",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: 0x1",
        "Content-Length: 1 1",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
    ] {
        assert!(malformed(&format!("POST / HTTP/1.1\nHost: a\n{fields}\n\n")), "{fields}");
    }
    assert!(malformed("POST / HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n"));
}

#[test]
fn a_length_of_zero_is_no_body() {
    let body = |fields| request(&format!("POST / HTTP/1.1\nHost: a\n{fields}\n\n")).unwrap().body;
    assert_eq!(body("Content-Length: 0"), BodyFraming::None);
    assert_eq!(body("Content-Length: 1"), BodyFraming::Length(1));
    assert_eq!(body("Transfer-Encoding: Chunked"), BodyFraming::Chunked);
}

#[test]
fn size_limits() {
    let long = |length| request(&format!("GET /{} HTTP/1.1\nHost: a\n\n", "a".repeat(length)));
    assert!(long(2047).is_ok());
    assert_eq!(long(2048), Err(HeadError::TargetTooLong));
    let large = |length| request(&format!("GET / HTTP/1.1\nHost: a\nX-A: {}\n\n", "a".repeat(length)));
    assert!(large(16 * 1024 - 20).is_ok());
    assert_eq!(large(16 * 1024), Err(HeadError::HeadersTooLarge));
    let many = |count| request(&format!("GET / HTTP/1.1\nHost: a\n{}\n", "X-A: b\n".repeat(count)));
    assert!(many(99).is_ok());
    assert_eq!(many(100), Err(HeadError::HeadersTooLarge));
}
