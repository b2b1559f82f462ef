//! ops/WIRE.md, "The order of refusals": malformed requests are 400, and the connection is closed.

use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api, get};

const BAD_REQUEST: &str = r#"{"error":"Bad Request"}"#;

/// Sends each request on a new connection, followed by a smuggled one, and asserts a 400: with the default routes, and
/// where a tail matches every path, for a service.
pub async fn assert_refused(rows: &[(&str, Vec<u8>)]) {
    assert_refused_by(rows, |_| Vec::new()).await;
    assert_refused_by(rows, tail_with_service).await;
}

/// Settings for a tail that matches every path, any method and query, and forwards to the service at `address`.
fn tail_with_service(address: &str) -> Vec<(&'static str, String)> {
    let route = "[{ path = '/{*rest}', methods = ['GET', 'POST', 'PUT', 'OPTIONS'], query = '*', service = 'tail' }]";
    let service = format!("[{{ name = 'tail', addresses = ['{address}'] }}]");
    vec![("ROUTE", route.to_owned()), ("SERVICE", service)]
}

async fn assert_refused_by(rows: &[(&str, Vec<u8>)], settings: impl Fn(&str) -> Vec<(&'static str, String)>) {
    let (api, admin) = (api().await, admin().await);
    let settings = settings(&api.address);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let smuggled = get("/holodules/20201210", "");
    for (row, request) in rows {
        let mut connection = gateway.connect().await;
        connection.send([request, smuggled.as_bytes()].concat()).await;
        let answer = connection.answer("GET").await;
        assert_eq!(answer.status, 400, "{row}: {answer:?}");
        answer.assert_json(400, BAD_REQUEST);
        assert_eq!(answer.value("connection"), "close", "{row}");
        assert_eq!(answer.value("x-content-type-options"), "nosniff", "{row}");
        answer.value("x-request-id");
        // The rest is never read as a request.
        connection.assert_closed().await;
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty(), "{:?}", api.seen());
}

/// A `POST` with a valid token, these headers and this body.
fn post(headers: &str, body: &str) -> Vec<u8> {
    let token = token("user01");
    format!("POST {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n{headers}\r\n{body}").into_bytes()
}

/// A `GET` of this target with a valid token and this `Host` line.
fn target(target: &str, host: &str) -> Vec<u8> {
    let token = token("user01");
    format!("GET {target} HTTP/1.1\r\n{host}Authorization: JWT {token}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn ambiguous_body_lengths_are_400() {
    let rows = [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3 3\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: \x0cchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 3.0\r\n",
        "Content-Length: 3e0\r\n",
        "Content-Length: 3;\r\n",
        "Content-Length: ,3\r\n",
        "Content-Length: \u{0663}\r\n",
        "Content-Length: 18446744073709551616\r\n",
    ];
    let rows: Vec<_> = rows.iter().map(|headers| (*headers, post(headers, "x=1"))).collect();
    assert_refused(&rows).await;
}

#[tokio::test]
async fn ambiguous_lines_are_400() {
    let valid = get(DAY, "");
    let with = |line: &str| get(DAY, line).into_bytes();
    let rows = [
        ("bare LF everywhere", valid.replace("\r\n", "\n").into_bytes()),
        ("bare LF after the request line", valid.replacen("\r\n", "\n", 1).into_bytes()),
        ("bare LF between headers", with("X-A: 1\nX-B: 2\r\n")),
        ("a folded line", with("X-A: 1\r\n 2\r\n")),
        ("a folded line with a tab", with("X-A: 1\r\n\t2\r\n")),
        ("a space before the colon", with("X-A : 1\r\n")),
        ("a tab before the colon", with("X-A\t: 1\r\n")),
        ("a bare CR in a value", with("X-A: 1\rX-B: 2\r\n")),
        ("a NUL in a value", with("X-A: 1\0\r\n")),
        ("no colon", with("X-A\r\n")),
        ("no name", with(": 1\r\n")),
        ("a name with a space", with("X A: 1\r\n")),
        ("a name that is not a token", with("X(A): 1\r\n")),
        ("a space before the first header", valid.replacen("\r\nHost", "\r\n Host", 1).into_bytes()),
    ];
    assert_refused(&rows).await;
}

#[tokio::test]
async fn underscore_spellings_of_protected_headers_are_400() {
    // Some programs treat underscores as dashes, and would mistake these for headers of the gateway.
    let names = [
        "x_auth_identity",
        "X_Auth_Identity",
        "X-Auth_Identity",
        "x_auth_role",
        "x_forwarded_for",
        "X-Forwarded_For",
        "X_FORWARDED_PROTO",
        "X_Real_IP",
        "X_Request_Id",
        "Content_Length",
        "Transfer_Encoding",
    ];
    let rows: Vec<_> = names.iter().map(|name| (*name, get(DAY, &format!("{name}: 1\r\n")).into_bytes())).collect();
    assert_refused(&rows).await;
}

#[tokio::test]
async fn missing_repeated_or_malformed_hosts_are_400() {
    let rows = [
        ("missing", target(DAY, "")),
        ("empty", target(DAY, "Host:\r\n")),
        ("two", target(DAY, "Host: localhost\r\nHost: localhost\r\n")),
        ("a list", target(DAY, "Host: localhost, localhost\r\n")),
        ("with a path", target(DAY, "Host: localhost/x\r\n")),
        ("with a user", target(DAY, "Host: user@localhost\r\n")),
        ("with an invalid port", target(DAY, "Host: localhost:x\r\n")),
        ("with a port too large", target(DAY, "Host: localhost:65536\r\n")),
        ("only a port", target(DAY, "Host: :443\r\n")),
        ("with a space", target(DAY, "Host: local host\r\n")),
        ("unterminated IPv6", target(DAY, "Host: [::1\r\n")),
        ("other than in the target", target(&format!("https://localhost{DAY}"), "Host: 127.0.0.1\r\n")),
        ("another port than in the target", target(&format!("https://localhost:1{DAY}"), "Host: localhost:2\r\n")),
        ("missing, with an absolute target", target(&format!("https://localhost{DAY}"), "")),
        ("a zone", target(DAY, "Host: [::1%25lo]\r\n")),
        ("a control character", target(DAY, "Host: local\x0bhost\r\n")),
        ("a fragment", target(DAY, "Host: localhost#x\r\n")),
        ("an escape", target(DAY, "Host: localhos%74\r\n")),
        ("a backslash", target(DAY, "Host: localhost\\x\r\n")),
        ("a target with another scheme", target(&format!("http://localhost{DAY}"), "Host: localhost\r\n")),
        ("a target with a user", target(&format!("https://user@localhost{DAY}"), "Host: localhost\r\n")),
        ("a target without a scheme", target(&format!("//localhost{DAY}"), "Host: localhost\r\n")),
        ("a target without a host", target("https:///holodules/20201209", "Host: localhost\r\n")),
        ("an opaque target", target("https:holodules", "Host: localhost\r\n")),
    ];
    assert_refused(&rows).await;
}

#[tokio::test]
async fn malformed_request_lines_are_400() {
    let host = "Host: localhost\r\n";
    let rows = [
        ("a space", target("/holodules/2020 1209", host)),
        ("two spaces", format!("GET  {DAY} HTTP/1.1\r\n{host}\r\n").into_bytes()),
        ("a tab", target("/holodules/2020\t1209", host)),
        ("relative", target("holodules/20201209", host)),
        ("the asterisk", target("*", host)),
        ("an authority", target("localhost:443", host)),
        ("a fragment", target(&format!("{DAY}#x"), host)),
        ("a control character", target("/holodules/\u{1}", host)),
        ("raw UTF-8", target("/holodules/é", host)),
        ("no version", format!("GET {DAY}\r\n{host}\r\n").into_bytes()),
        ("another version", format!("GET {DAY} HTTP/1.2\r\n{host}\r\n").into_bytes()),
        ("another protocol", format!("GET {DAY} HTTP/2.0\r\n{host}\r\n").into_bytes()),
        ("a method that is not a token", format!("G(T {DAY} HTTP/1.1\r\n{host}\r\n").into_bytes()),
    ];
    assert_refused(&rows).await;
}

#[tokio::test]
async fn paths_that_are_not_canonical_are_400() {
    let paths = [
        "//holodules/20201209",
        "/holodules//20201209",
        "/./holodules/20201209",
        "/holodules/../holodules/20201209",
        "/holodules/..",
        "/holodules/%2e%2e/users",
        "/holodules/%2E%2E/users",
        "/holodules%2F20201209",
        "/holodules/2020120%39",
        "/holodules/%e3%83%9b",
        "/holodules/%00",
        "/holodules/%0D%0A",
        "/holodules/%",
        "/holodules/%G0",
        "/holodules/%C0%AF",
        "/holodules/%E0%80%AF",
        "/holodules/%F0%80%80%AF",
        "/holodules/%ED%A0%80",
        "/holodules/%FF",
        "/holodules/%2F",
        "/holodules/%2f..%2fusers",
        "/holodules/%5C",
        "/holodules%5c20201209",
        "/holodules/%3B",
        "/holodules/20201209/.",
        "/holodules/20201209/..",
        "/holodules/20201209//",
        "/%2e/holodules/20201209",
        "/holodules/%u0032",
        "/holodules/%252e",
        "/holodules/20201209;x=1",
        "/holodules\\20201209",
        "/holodules/\"x\"",
        "/holodules/{day}",
        "/holodules/<>",
        "/%61uth",
    ];
    let rows: Vec<_> = paths.iter().map(|path| (*path, target(path, "Host: localhost\r\n"))).collect();
    assert_refused(&rows).await;
}

#[tokio::test]
async fn trace_connect_and_the_asterisk_form_are_400() {
    let token = token("user01");
    let rows = [
        (
            "TRACE",
            format!("TRACE {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n\r\n").into_bytes(),
        ),
        ("TRACE of the server", b"TRACE * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("OPTIONS of the server", b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("CONNECT", b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n".to_vec()),
        ("CONNECT with a path", format!("CONNECT {DAY} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()),
    ];
    assert_refused(&rows).await;
}

#[tokio::test]
async fn an_absolute_target_with_the_same_host_is_accepted() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for (target_form, host) in [
        (format!("https://localhost{DAY}"), "Host: localhost\r\n"),
        (format!("https://localhost:8443{DAY}"), "Host: localhost:8443\r\n"),
    ] {
        let answer = gateway.exchange(target(&target_form, host)).await;
        assert_eq!(answer.status, 200, "{target_form}: {answer:?}");
    }
    assert_eq!(api.seen()[0].target, DAY);
}

#[tokio::test]
async fn unknown_hosts_are_421() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("HOSTS", "['api.example.org']")]);
    for host in
        ["elsewhere.example", "localhost.example", "sub.localhost", "127.0.0.2", "[::2]", "localhost..", "example.org"]
    {
        let answer = gateway.exchange(target(DAY, &format!("Host: {host}\r\n"))).await;
        assert_eq!(answer.status, 421, "{host}: {answer:?}");
        answer.assert_json(421, r#"{"error":"Misdirected Request"}"#);
    }
    assert!(api.seen().is_empty());
    for host in [
        "localhost",
        "localhost.",
        "LocalHost:443",
        "127.0.0.1:8443",
        "[::1]",
        "[::1]:8443",
        "api.example.org",
        "API.example.org:1",
    ] {
        let answer = gateway.exchange(target(DAY, &format!("Host: {host}\r\n"))).await;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
    }
}
