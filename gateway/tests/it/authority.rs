//! Equivalent spellings of an authority (RFC 9113, section 8.3.1; RFC 3986, sections 3.2.2 and 6.2).

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::support::client::PATIENCE;
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, block, frame, receive_frame};
use crate::support::token::token;
use crate::support::{DAY, DAY_BODY, Gateway, admin, api, request};

/// Sends these fields, a path and a token over HTTP/2, and returns whether the holodules were received.
async fn is_served(gateway: &Gateway, fields: &[(&str, &str)]) -> bool {
    let authorization = format!("JWT {}", token("user01"));
    let (pseudo, others): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| name.starts_with(':'));
    let common = [(":method", "GET"), (":path", DAY)];
    let all = [&common[..], &pseudo, &others, &[("authorization", authorization.as_str())]].concat();
    let mut client = Frames::connect(gateway.https, &[]).await;
    client.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&all))).await.unwrap();
    client.flush().await.unwrap();
    let served = async {
        while let Some(frame) = receive_frame(&mut client).await {
            if frame.kind == DATA {
                return frame.payload == DAY_BODY.as_bytes();
            }
        }
        false
    };
    timeout(PATIENCE, served).await.expect("neither a response nor the end of the connection")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_accepts_equivalent_authorities() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let https = (":scheme", "https");
    for fields in [
        &[https, (":authority", "localhost")][..],
        &[https, ("host", "localhost")],
        &[https, ("host", "LOCALHOST.:443")],
        // Without `:authority`, the h2 crate drops the scheme.
        &[(":scheme", "http"), ("host", "localhost")],
        &[https, (":authority", "localhost.")],
        &[https, (":authority", "localhost:443")],
        &[https, (":authority", "localhost"), ("host", "LocalHost")],
        &[https, (":authority", "LOCALHOST"), ("host", "localhost.:443")],
        &[(":scheme", "HTTPS"), (":authority", "localhost")],
    ] {
        assert!(is_served(&gateway, fields).await, "{fields:?}");
    }
    let served = api.seen();
    for fields in [
        &[https][..],
        &[(":scheme", "http"), (":authority", "localhost")],
        &[https, (":authority", "localhost"), ("host", "localhost:8443")],
        &[https, (":authority", "localhost"), ("host", "elsewhere.example")],
        &[https, (":authority", "localhost"), ("host", "localhost"), ("host", "localhost")],
        &[https, (":authority", "localhost..")],
        &[https, ("host", "elsewhere.example")],
    ] {
        assert!(!is_served(&gateway, fields).await, "{fields:?}");
    }
    assert_eq!(api.seen().len(), served.len());
    assert!(served.iter().all(|seen| seen.values("x-forwarded-host") == ["localhost"]), "{served:?}");
}

#[tokio::test]
async fn http_1_accepts_equivalent_authorities() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let get =
        |target: &str, host: &str| request("GET", target, "").replace("Host: localhost", &format!("Host: {host}"));
    let absolute = |authority: &str| format!("{authority}{DAY}");
    let rows = [
        (DAY, "localhost."),
        (DAY, "localhost:"),
        (DAY, "LOCALHOST:443"),
        (&absolute("https://localhost"), "LocalHost"),
        (&absolute("HTTPS://LOCALHOST.:443"), "localhost"),
    ];
    for (target, host) in rows {
        let answer = gateway.exchange(get(target, host)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY), "{target} {host}");
    }
    let seen = api.seen();
    assert!(seen.iter().all(|seen| seen.values("x-forwarded-host") == ["localhost"]), "{seen:?}");
    for (target, host, status) in [
        (DAY, "localhost..", 421),
        (DAY, "elsewhere.example.", 421),
        (DAY, "localhost:x", 400),
        (&absolute("https://localhost"), "localhost:8443", 400),
        (&absolute("https://localhost"), "elsewhere.example", 400),
    ] {
        assert_eq!(gateway.exchange(get(target, host)).await.status, status, "{target} {host}");
    }
    assert_eq!(api.seen().len(), rows.len());
}

/// Requests other than GET and HEAD pass through a parser that compares the target with `Host` byte by byte.
#[tokio::test]
async fn an_upload_to_an_absolute_target_is_forwarded() {
    let (api, admin) = (api().await, admin().await);
    let route = "[{methods = ['PUT'], path = '/notes/{note}'}, {name = 'root', methods = ['PUT'], path = '/'}]";
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", route)]);
    let mut connection = gateway.connect().await;
    for (target, host, path) in [
        ("https://localhost/notes/1", "localhost", "/notes/1"),
        ("https://LOCALHOST/notes/2", "localhost", "/notes/2"),
        ("HTTPS://localhost.:443/notes/3", "LocalHost:", "/notes/3"),
        ("https://localhost", "LOCALHOST", "/"),
    ] {
        for body in ["Content-Length: 3\r\n\r\nx=1", "Transfer-Encoding: chunked\r\n\r\n3\r\nx=1\r\n0\r\n\r\n"] {
            let (fields, body) = body.split_once("\r\n\r\n").unwrap();
            let head = request("PUT", target, &format!("{fields}\r\n")).replacen(
                "Host: localhost",
                &format!("Host: {host}"),
                1,
            );
            let answer = connection.exchange(format!("{head}{body}")).await;
            assert_eq!(answer.status, 200, "{target} {host}: {answer:?}");
            let seen = api.seen().pop().unwrap();
            assert_eq!((seen.target.as_str(), seen.body.as_slice()), (path, &b"x=1"[..]), "{target}");
            assert_eq!(seen.values("x-forwarded-host"), ["localhost"], "{target}");
        }
    }
    let other_host = request("PUT", "https://elsewhere.example/notes/1", "Content-Length: 0\r\n");
    assert_eq!(gateway.exchange(other_host).await.status, 400);
}

#[tokio::test]
async fn equivalent_authorities_share_a_cache_entry() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("CACHE_MAX_BYTES", "67108864")]);
    let mut connection = gateway.connect().await;
    for (host, cached) in
        [("localhost", "miss"), ("LOCALHOST.:443", "hit"), ("localhost:", "hit"), ("localhost:8443", "miss")]
    {
        let answer = connection.exchange(request("GET", DAY, "").replace("localhost", host)).await;
        assert_eq!((answer.status, answer.value("x-cache")), (200, cached), "{host}");
    }
    assert_eq!(api.seen().len(), 2);
}
