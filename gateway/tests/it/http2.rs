//! The wire contract over HTTP/2 (RFC 9113): responses as over HTTP/1, and refusals specific to HTTP/2.
//!
//! The runtime has two threads, so that clients respond to the end of a connection while a test waits for its gateway
//! to stop. Otherwise stopping would take the whole drain timeout.

use http::Request;
use http::request::Builder;

use crate::auth::user01;
use crate::support::backend::Backend;
use crate::support::backend::Step::Wait;
use crate::support::h2::{Http2, Verdict, send_fields};
use crate::support::token::token;
use crate::support::{DAY, DAY_BODY, Gateway, admin, api, serve_day, until};

/// The fields of a request, including pseudo-header fields.
type Fields = Vec<(&'static str, &'static str)>;

/// A request with a valid token.
fn request(method: &str, path: &str) -> Builder {
    Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .header("authorization", format!("JWT {}", token("user01")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_from_a_login_is_accepted() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let client = Http2::open(gateway.https).await;
    let body = user01();
    let login = Request::post("https://localhost/auth").header("content-type", "application/json");
    let answer = client.exchange(login.body(body.as_str()).unwrap()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let day = Request::get(format!("https://localhost{DAY}")).header("authorization", format!("Bearer {token}"));
    let answer = client.exchange(day.body("").unwrap()).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY));
    assert_eq!(answer.value("cache-control"), "private, no-cache");
    assert_eq!(answer.value("etag"), "\"abc\"");
    assert_eq!(answer.value("x-request-id"), api.only().values("x-request-id")[0]);
    assert!(answer.values("connection").is_empty() && answer.values("server").is_empty(), "{answer:?}");
    let seen = api.only();
    assert_eq!(seen.values("host"), [api.address.as_str()]);
    assert_eq!(seen.values("x-forwarded-host"), ["localhost"]);
    assert_eq!(seen.values("x-auth-identity"), ["user01"]);
    assert!(seen.values("authorization").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_share_a_connection() {
    let slow = Backend::start(|seen| {
        let wait =
            if seen.target.ends_with("slow") { vec![Wait(std::time::Duration::from_secs(1))] } else { Vec::new() };
        [wait, serve_day(seen)].concat()
    })
    .await;
    let admin = admin().await;
    let gateway = Gateway::start(&slow, &admin);
    let client = Http2::open(gateway.https).await;
    let (first, second) = (client.clone(), client.clone());
    let slow_one =
        tokio::spawn(async move { first.exchange(request("GET", "/holodules/slow").body("").unwrap()).await });
    until("the backend has the slow request", async || !slow.seen().is_empty()).await;
    for _ in 0..10 {
        assert_eq!(second.exchange(request("GET", DAY).body("").unwrap()).await.status, 200);
    }
    assert_eq!(slow_one.await.unwrap().status, 200);
    assert_eq!(gateway.metric(r#"gateway_tls_handshakes_total{version="1.3"}"#).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_the_same_as_over_http_1() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let client = Http2::open(gateway.https).await;
    let long = format!("{DAY}?{}", "q".repeat(3000));
    let without_token = || Request::get(format!("https://localhost{DAY}"));
    let login = || Request::post("https://localhost/auth");
    let too_large = "x".repeat(5000);
    let rows = [
        ("path", request("GET", "//holodules/1").body("").unwrap(), 400, "Bad Request"),
        ("unsupported method", request("TRACE", DAY).body("").unwrap(), 400, "Bad Request"),
        ("target", request("GET", &long).body("").unwrap(), 414, "URI Too Long"),
        (
            "headers",
            request("GET", DAY).header("x-long", "a".repeat(17_000)).body("").unwrap(),
            431,
            "Request Header Fields Too Large",
        ),
        ("host", Request::get(format!("https://elsewhere.example{DAY}")).body("").unwrap(), 421, "Misdirected Request"),
        ("token", without_token().body("").unwrap(), 401, "Authorization Required"),
        (
            "two tokens",
            request("GET", DAY).header("authorization", "JWT x").body("").unwrap(),
            401,
            "Invalid JWT header",
        ),
        ("route", request("GET", "/nothing").body("").unwrap(), 404, "Not found"),
        ("method", request("PUT", DAY).body("").unwrap(), 405, "Method Not Allowed"),
        ("body", request("GET", DAY).header("content-length", "3").body("x=1").unwrap(), 400, "Bad Request"),
        ("body without a length", request("GET", DAY).body("x=1").unwrap(), 400, "Bad Request"),
        ("type", login().body("{}").unwrap(), 415, "Unsupported Media Type"),
        (
            "size",
            login().header("content-type", "application/json").body(too_large.as_str()).unwrap(),
            413,
            "Payload Too Large",
        ),
        ("credentials", login().header("content-type", "application/json").body("{}").unwrap(), 401, "Bad Request"),
        ("login's method", Request::get("https://localhost/auth").body("").unwrap(), 405, "Method Not Allowed"),
    ];
    for (row, request, status, error) in rows {
        let answer = client.exchange(request).await;
        assert_eq!(answer.status, status, "{row}: {answer:?}");
        assert_eq!(answer.json()["error"], error, "{row}");
        assert_eq!(answer.value("content-type"), "application/json");
        assert_eq!(answer.value("x-content-type-options"), "nosniff");
    }
    assert!(api.seen().is_empty());
    assert_eq!(admin.seen().len(), 1, "only the login with a valid body");
    // The connection can be reused.
    assert_eq!(client.exchange(request("GET", DAY).body("").unwrap()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_and_get_with_a_length_of_zero_are_served() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let client = Http2::open(gateway.https).await;
    let head = client.exchange(request("HEAD", DAY).body("").unwrap()).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.value("content-length"), DAY_BODY.len().to_string());
    let get = client.exchange(request("GET", DAY).header("content-length", "0").body("").unwrap()).await;
    assert_eq!((get.status, get.body.as_str()), (200, DAY_BODY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_fields_never_reach_the_backend() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let authorization = format!("JWT {}", token("user01"));
    let with = |change: &dyn Fn(&mut Fields)| {
        let mut fields = vec![(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", DAY)];
        change(&mut fields);
        fields
    };
    let rows: Vec<(&str, Fields)> = vec![
        ("host differs from :authority", with(&|fields| fields.push(("host", "127.0.0.1")))),
        ("two hosts", with(&|fields| fields.extend([("host", "localhost"), ("host", "localhost")]))),
        (":authority with a user", with(&|fields| fields[2].1 = "user@localhost")),
        (":authority empty", with(&|fields| fields[2].1 = "")),
        ("no :authority, no host", with(&|fields| fields.retain(|(name, _)| *name != ":authority"))),
        ("no :path", with(&|fields| fields.retain(|(name, _)| *name != ":path"))),
        ("an empty :path", with(&|fields| fields[3].1 = "")),
        ("a relative :path", with(&|fields| fields[3].1 = "holodules/20201209")),
        ("an absolute :path", with(&|fields| fields[3].1 = "https://localhost/holodules/20201209")),
        ("two :path", with(&|fields| fields.push((":path", "/nothing")))),
        ("an unknown pseudo-header field", with(&|fields| fields.push((":other", "x")))),
        ("a pseudo-header field after others", with(&|fields| fields.insert(1, ("accept", "*/*")))),
        ("upper case", with(&|fields| fields.push(("X-Upper", "x")))),
        ("connection", with(&|fields| fields.push(("connection", "x-auth-identity")))),
        ("transfer-encoding", with(&|fields| fields.push(("transfer-encoding", "chunked")))),
        ("te", with(&|fields| fields.push(("te", "gzip")))),
        ("a line break in a value", with(&|fields| fields.push(("x-a", "1\r\nx-auth-identity: admin")))),
        ("a line break in the path", with(&|fields| fields[3].1 = "/holodules/1\r\nx: y")),
        ("a line break in the method", with(&|fields| fields[0].1 = "GET /users HTTP/1.1\r\nx: y")),
        ("a space in the method", with(&|fields| fields[0].1 = "GET /users")),
        ("a line break in :authority", with(&|fields| fields[2].1 = "localhost\r\nx: y")),
        ("a line break in :scheme", with(&|fields| fields[1].1 = "https\r\nx: y")),
        ("a CR in a value", with(&|fields| fields.push(("x-a", "1\rx-auth-identity: admin")))),
        ("a LF in a value", with(&|fields| fields.push(("x-a", "1\nx-auth-identity: admin")))),
        ("a NUL in a value", with(&|fields| fields.push(("x-a", "1\0")))),
        ("a line break in a name", with(&|fields| fields.push(("x-a: b\r\nx-auth-identity", "admin")))),
        ("a colon in a name", with(&|fields| fields.push(("x-a: b", "c")))),
        ("a space in a name", with(&|fields| fields.push(("x a", "b")))),
        ("an empty name", with(&|fields| fields.push(("", "b")))),
        ("two :authority", with(&|fields| fields.insert(3, (":authority", "localhost")))),
        ("two :authority that differ", with(&|fields| fields.insert(3, (":authority", "127.0.0.1")))),
        ("two :method", with(&|fields| fields.insert(1, (":method", "GET")))),
        ("two :scheme", with(&|fields| fields.insert(2, (":scheme", "https")))),
        ("no :method", with(&|fields| fields.retain(|(name, _)| *name != ":method"))),
        ("no :scheme", with(&|fields| fields.retain(|(name, _)| *name != ":scheme"))),
        (":scheme http", with(&|fields| fields[1].1 = "http")),
        (":scheme of another protocol", with(&|fields| fields[1].1 = "ftp")),
        (":scheme empty", with(&|fields| fields[1].1 = "")),
        (":scheme with a path", with(&|fields| fields[1].1 = "https://localhost/x?")),
        (":authority with a path", with(&|fields| fields[2].1 = "localhost/users")),
        (":authority with a fragment", with(&|fields| fields[2].1 = "localhost#")),
        (":authority with an invalid port", with(&|fields| fields[2].1 = "localhost:x")),
        (":authority as a list", with(&|fields| fields[2].1 = "localhost,localhost")),
        ("the asterisk", with(&|fields| fields[3].1 = "*")),
        ("an authority as the path", with(&|fields| fields[3].1 = "localhost:443")),
        ("a path with an authority", with(&|fields| fields[3].1 = "//localhost/holodules/20201209")),
        ("a space in the path", with(&|fields| fields[3].1 = "/holodules/1 HTTP/1.1")),
        ("a tab in the path", with(&|fields| fields[3].1 = "/holodules/1\t")),
        ("a NUL in the path", with(&|fields| fields[3].1 = "/holodules/1\0")),
        ("a backslash in the path", with(&|fields| fields[3].1 = "/holodules\\20201209")),
        ("dots in the path", with(&|fields| fields[3].1 = "/holodules/../users")),
        ("an escaped slash in the path", with(&|fields| fields[3].1 = "/holodules%2f20201209")),
        ("raw UTF-8 in the path", with(&|fields| fields[3].1 = "/holodules/é")),
        (":status", with(&|fields| fields.insert(4, (":status", "200")))),
        (":protocol", with(&|fields| fields.insert(4, (":protocol", "websocket")))),
        ("keep-alive", with(&|fields| fields.push(("keep-alive", "timeout=5")))),
        ("proxy-connection", with(&|fields| fields.push(("proxy-connection", "keep-alive")))),
        ("upgrade", with(&|fields| fields.push(("upgrade", "h2c")))),
        (
            "transfer-encoding with a length",
            with(&|fields| {
                fields.extend([("content-length", "0"), ("transfer-encoding", "chunked")]);
            }),
        ),
        ("two lengths", with(&|fields| fields.extend([("content-length", "0"), ("content-length", "1")]))),
        ("underscores in X-Auth-Identity", with(&|fields| fields.push(("x_auth_identity", "admin")))),
        ("an underscore in X-Forwarded-For", with(&|fields| fields.push(("x-forwarded_for", "192.0.2.1")))),
        ("an underscore in Content-Length", with(&|fields| fields.push(("content_length", "3")))),
        ("TRACE", with(&|fields| fields[0].1 = "TRACE")),
        ("CONNECT with a path", with(&|fields| fields[0].1 = "CONNECT")),
    ];
    for (row, mut fields) in rows {
        fields.push(("authorization", &authorization));
        let verdict = send_fields(gateway.https, &fields, "").await;
        assert!(matches!(verdict, Verdict::BadRequest | Verdict::Ended), "{row}: {verdict:?}");
    }
    let lengths =
        [("content-length", "2"), ("content-length", "4"), ("content-length", "+3"), ("content-length", "3, 3")];
    for length in lengths {
        let mut fields = with(&|fields| fields[0].1 = "POST");
        fields.extend([("content-type", "application/json"), length]);
        fields[3].1 = "/auth";
        let verdict = send_fields(gateway.https, &fields, "{} ").await;
        assert!(matches!(verdict, Verdict::BadRequest | Verdict::Ended), "{length:?}: {verdict:?}");
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty(), "{:?} {:?}", api.seen(), admin.seen());
    // The h2 crate drops a fragment before the gateway sees it.
    let mut fields = with(&|fields| fields[3].1 = "/holodules/20201209#/../users");
    fields.push(("authorization", &authorization));
    assert_eq!(send_fields(gateway.https, &fields, "").await, Verdict::Answered(0x88));
    assert_eq!(api.only().target, DAY);
    api.forget();
    // The fields without a fault are accepted: 200 is entry 8 (RFC 7541, appendix A).
    let mut fields = with(&|fields| fields.push(("host", "localhost")));
    fields.push(("authorization", &authorization));
    assert_eq!(send_fields(gateway.https, &fields, "").await, Verdict::Answered(0x88));
    assert_eq!(api.only().values("host"), [api.address.as_str()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_is_refused() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let verdict = send_fields(gateway.https, &[(":method", "CONNECT"), (":authority", "localhost:443")], "").await;
    assert!(matches!(verdict, Verdict::BadRequest | Verdict::Ended), "{verdict:?}");
    assert!(api.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_request_completes_after_a_stop() {
    let api = Backend::start(|seen| [vec![Wait(std::time::Duration::from_secs(1))], serve_day(seen)].concat()).await;
    let admin = admin().await;
    let mut gateway = Gateway::start(&api, &admin);
    let client = Http2::open(gateway.https).await;
    let active = client.clone();
    let answer = tokio::spawn(async move { active.exchange(request("GET", DAY).body("").unwrap()).await });
    until("the backend has the request", async || !api.seen().is_empty()).await;
    gateway.stop();
    let answer = answer.await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY));
    assert!(client.try_exchange(request("GET", DAY).body("").unwrap()).await.is_err(), "no new stream is accepted");
    until("run returns", async || gateway.has_ended()).await;
}
