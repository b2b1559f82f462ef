//! ops/WIRE.md: failures of the backend: 502, 503 and 504, timeouts, and the single retry.

use std::time::{Duration, Instant};

use crate::support::backend::Step::{Close, CloseIdle, Hang, Reset, Wait, Write};
use crate::support::backend::{Backend, Seen, Step};
use crate::support::client::Answer;
use crate::support::{DAY, DAY_BODY, Gateway, admin, get, request, serve_day, until};

/// Short enough for a test, long enough for a busy machine.
const TIMEOUTS: [(&str, &str); 2] = [("UPSTREAM_READ_TIMEOUT", "0.5"), ("UPSTREAM_REQUEST_TIMEOUT", "1")];

/// Far above these timeouts, far below the default ones.
const SOON: Duration = Duration::from_secs(8);

fn assert_failed(answer: &Answer, status: u16) {
    let reason = match status {
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Gateway Timeout",
    };
    assert_eq!(answer.status, status, "{answer:?}");
    answer.assert_json(status, &format!(r#"{{"error":"{reason}"}}"#));
    assert_eq!(answer.values("retry-after"), if status == 503 { &["1"][..] } else { &[] });
    assert_eq!(answer.value("cache-control"), "no-store");
    assert_eq!(answer.value("x-content-type-options"), "nosniff");
    assert_eq!(answer.value("x-request-id").len(), 32);
}

/// A gateway with short timeouts, and the backend's api responding by `script`.
async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> (Backend, Backend, Gateway) {
    let (api, admin) = (Backend::start(script).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &TIMEOUTS);
    (api, admin, gateway)
}

/// Sends `text` one byte at a time, each well within the read timeout.
fn send_slowly(text: &[u8]) -> Vec<Step> {
    text.iter().flat_map(|byte| [Write(vec![*byte]), Wait(Duration::from_millis(100))]).collect()
}

#[tokio::test]
async fn a_refused_connection_is_503_until_the_backend_is_back() {
    let (mut api, admin) = (Backend::start(serve_day).await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let address = api.address.parse().unwrap();
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    api.stop().await;
    for _ in 0..2 {
        assert_failed(&gateway.get(DAY).await, 503);
    }
    let restarted = Backend::start_at(address, serve_day).await;
    assert_eq!(gateway.get(DAY).await.body, DAY_BODY);
    assert_eq!(restarted.seen().len(), 1);
}

#[tokio::test]
async fn the_log_states_whether_the_backend_was_reached() {
    let (mut api, admin) = (Backend::start(|_| vec![Close]).await, admin().await);
    let (gateway, log) = Gateway::start_logged(&api, &admin, &[]);
    assert_failed(&gateway.get(DAY).await, 502);
    api.stop().await;
    assert_failed(&gateway.get(DAY).await, 503);
    until("both are logged", async || log.lines().len() == 2).await;
    let reasons: Vec<_> = log.lines().iter().map(|line| (line["status"].clone(), line["reason"].clone())).collect();
    assert_eq!(reasons, [(502.into(), "upstream".into()), (503.into(), "upstream_unreachable".into())]);
}

/// The accept queue of the port is full, so no connection is established.
#[tokio::test]
async fn a_connection_not_established_in_time_is_503() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // The system accepts connections until the queue is full.
    let mut waiting = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(stream.unwrap());
    }
    let (address, admin) = (address.to_string(), admin().await);
    let settings = [
        ("UPSTREAM_API", address.as_str()),
        ("UPSTREAM_ADMIN", admin.address.as_str()),
        ("UPSTREAM_CONNECT_TIMEOUT", "0.3"),
    ];
    let gateway = Gateway::start_from(&settings);
    assert_failed(&gateway.get(DAY).await, 503);
}

/// Programs may disagree on the end of such responses (RFC 9112, sections 6.1 and 6.3).
#[tokio::test]
async fn a_response_with_ambiguous_framing_is_502_and_closes_its_connection() {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let heads = [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked,\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: xchunked\r\n",
        "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: gzip, chunked\r\n",
    ];
    for head in heads {
        let has_body = head.contains("200");
        let text = format!("{head}\r\n{}", if has_body { chunks } else { "" });
        let (api, _admin, gateway) = start(move |_| vec![Write(text.clone().into_bytes())]).await;
        gateway.ready().await;
        for method in ["GET", "HEAD"] {
            api.forget();
            for _ in 0..2 {
                let answer = gateway.exchange(request(method, DAY, "")).await;
                assert_eq!(answer.status, 502, "{method} {head}: {answer:?}");
            }
            let seen = api.seen();
            assert_eq!(seen.len(), 2, "{method} {head}: {seen:?}");
            assert_ne!(seen[0].connection, seen[1].connection, "{method} {head}");
        }
    }
}

/// A proxy must remove white space before the colon (RFC 9112, section 5.1).
#[tokio::test]
async fn white_space_before_the_colon_of_a_response_field_is_removed() {
    let text = "HTTP/1.1 200 OK\r\nX-A : a\r\nX-B\t: b\r\nContent-Length : 2\r\n\r\nok";
    let (_api, _admin, gateway) = start(move |_| vec![Write(text.into())]).await;
    let mut connection = gateway.connect().await;
    for _ in 0..2 {
        let answer = connection.exchange(get(DAY, "")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{answer:?}");
        assert_eq!((answer.value("x-a"), answer.value("x-b"), answer.value("content-length")), ("a", "b", "2"));
    }
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding : xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let (_api, _admin, gateway) = start(move |_| vec![Write(text.into())]).await;
    assert_failed(&gateway.get(DAY).await, 502);
}

#[tokio::test]
async fn an_invalid_response_is_502() {
    let (_api, _admin, gateway) = start(|seen| match seen.target.rsplit('/').next().unwrap() {
        "reset" => vec![Reset],
        "close" => vec![Close],
        "garbage" => vec![Write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()), Close],
        "half" => vec![Write(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), Close],
        other => panic!("{other}"),
    })
    .await;
    for case in ["reset", "close", "garbage", "half"] {
        let answer = gateway.get(&format!("/holodules/{case}")).await;
        assert_eq!(answer.status, 502, "{case}: {answer:?}");
        assert_failed(&answer, 502);
    }
}

#[tokio::test]
async fn silence_is_504_after_the_read_timeout() {
    let (api, _admin, gateway) = start(|_| vec![Hang]).await;
    let began = Instant::now();
    assert_failed(&gateway.get(DAY).await, 504);
    assert!((Duration::from_millis(400)..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(api.seen().len(), 1, "a request that the backend may have processed is not repeated");
}

#[tokio::test]
async fn a_slow_response_head_is_504() {
    let routes = "[{name = 'notes', methods = ['GET', 'POST'], path = '/notes'}]";
    let api = Backend::start(|_| send_slowly(&[b"HTTP/1.1 200 OK\r\nX-A: ".as_slice(), &[b'a'; 300]].concat())).await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&api, &admin, &[TIMEOUTS[0], TIMEOUTS[1], ("ROUTE", routes)]);
    let post = format!("{}x=1", request("POST", "/notes", "Content-Length: 3\r\n"));
    for request in [get("/notes", ""), post] {
        let began = Instant::now();
        assert_failed(&gateway.exchange(request).await, 504);
        assert!((Duration::from_millis(400)..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_response_body_is_forwarded_as_it_arrives() {
    let first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n".to_vec();
    let (_api, _admin, gateway) = start(move |_| vec![Write(first.clone()), Hang]).await;
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    connection.read_until("5\r\nfirst\r\n").await;
}

#[tokio::test]
async fn a_slow_response_body_ends_at_the_request_timeout() {
    let (_api, _admin, gateway) = start(|_| {
        let mut steps = vec![Write(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n".to_vec())];
        steps.extend(send_slowly(&[b'a'; 200]));
        steps
    })
    .await;
    let began = Instant::now();
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    // A truncated response must not look complete.
    match connection.try_answer("GET").await {
        Ok(answer) => assert_failed(&answer, 504),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof),
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_response_that_the_client_does_not_read_ends_at_the_request_timeout() {
    // More than the socket buffers hold.
    let answer = Write(response_of(32 * 1024 * 1024));
    let (_api, _admin, gateway) = start(move |_| vec![answer.clone()]).await;
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    connection.read_until("\r\n\r\n").await;
    let began = Instant::now();
    until("the request has ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
    // The write timeout alone would allow 30 s.
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

fn response_of(length: usize) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + length, b'a');
    answer
}

#[tokio::test]
async fn a_truncated_response_never_looks_complete() {
    let (_api, _admin, gateway) = start(|seen| {
        let framing = if seen.target.ends_with("chunks") {
            "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
        } else {
            "Content-Length: 10\r\n\r\nabcde"
        };
        vec![Write(format!("HTTP/1.1 200 OK\r\n{framing}").into_bytes()), Close]
    })
    .await;
    for case in ["chunks", "length"] {
        let mut connection = gateway.connect().await;
        connection.send(get(&format!("/holodules/{case}"), "")).await;
        match connection.try_answer("GET").await {
            Ok(answer) => assert_failed(&answer, 502),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{case}"),
        }
    }
}

#[tokio::test]
async fn a_get_on_a_connection_that_was_just_closed_is_repeated() {
    let (api, _admin, gateway) = start(|seen| {
        // Closes the first connection on its second request, without a response.
        if (seen.connection, seen.place) == (first_connection(), 1) { vec![Close] } else { serve_day(seen) }
    })
    .await;
    // The readiness probe opens a connection as well, so it must be done before the first request.
    gateway.ready().await;
    let mut connection = gateway.connect().await;
    for _ in 0..3 {
        let answer = connection.exchange(get(DAY, "")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY), "{answer:?}");
    }
    let seen = api.seen();
    assert_eq!(seen.len(), 4, "three requests, one of them repeated: {seen:?}");
    assert_ne!(seen[1].connection, seen[2].connection);
    assert_eq!(seen[2].place, 0, "the second attempt uses a new connection");
}

/// The connection of the first forwarded request: the readiness probe opened connection 0 and holds it.
fn first_connection() -> usize {
    1
}

#[tokio::test]
async fn a_connection_closed_while_idle_fails_no_request() {
    let routes = "[{name = 'notes', methods = ['GET', 'POST'], path = '/notes'}]";
    let api = Backend::start(|seen| [serve_day(seen), vec![CloseIdle]].concat()).await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", routes)]);
    let mut connection = gateway.connect().await;
    let closed = async |count| until("the idle connection is closed", async || api.closed() == count).await;
    for round in 0..3 {
        assert_eq!(connection.exchange(get("/notes", "")).await.status, 200);
        closed(2 * round + 1).await;
        let post = format!("{}x=1", request("POST", "/notes", "Content-Length: 3\r\n"));
        assert_eq!(connection.exchange(post).await.status, 200);
        closed(2 * round + 2).await;
    }
    assert_eq!(api.seen().len(), 6);
}

/// Repeating an idempotent request has the same effect (RFC 9110, section 9.2.2).
#[tokio::test]
async fn an_idempotent_request_on_a_connection_that_was_just_closed_is_repeated() {
    let routes = "[{name = 'notes', methods = ['GET', 'PUT', 'DELETE', 'OPTIONS'], path = '/notes'}]";
    let long = "a".repeat(60_000);
    for (method, body) in [("PUT", "x=1"), ("PUT", &long), ("PUT", ""), ("DELETE", ""), ("OPTIONS", "")] {
        let api = Backend::start(|seen| {
            if (seen.connection, seen.place) == (first_connection(), 1) { vec![Close] } else { serve_day(seen) }
        })
        .await;
        let admin = admin().await;
        let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", routes)]);
        gateway.ready().await;
        let mut connection = gateway.connect().await;
        assert_eq!(connection.exchange(get("/notes", "")).await.status, 200);
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let answer = connection.exchange(format!("{}{body}", request(method, "/notes", &length))).await;
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
        let seen = api.seen();
        assert_eq!(seen.len(), 3, "{method}: {seen:?}");
        for attempt in &seen[1..] {
            assert_eq!((attempt.method.as_str(), attempt.body.as_slice()), (method, body.as_bytes()));
        }
        assert_eq!((seen[1].place, seen[2].place), (1, 0), "{method}: the second attempt uses a new connection");
    }
}

/// Connections are closed while the next request is being sent, and all connections are in use.
#[tokio::test]
async fn a_backend_that_closes_soon_after_each_response_fails_no_request() {
    let api = Backend::start(|seen| [serve_day(seen), vec![Wait(Duration::from_millis(3)), Close]].concat()).await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&api, &admin, &[("UPSTREAM_MAX_CONNECTIONS", "4")]);
    gateway.ready().await;
    let client = async || {
        let mut connection = gateway.connect().await;
        for pause in 0..60 {
            let answer = connection.exchange(get(DAY, "")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            // The pause varies, so that requests and closures coincide in different ways.
            tokio::time::sleep(Duration::from_millis(pause % 5)).await;
        }
    };
    tokio::join!(client(), client(), client(), client(), client(), client(), client(), client());
}

#[tokio::test]
async fn a_post_is_never_repeated() {
    let routes = "[{name = 'notes', methods = ['GET', 'POST'], path = '/notes'}]";
    let api = Backend::start(|seen| if seen.method == "POST" { vec![Close] } else { serve_day(seen) }).await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", routes)]);
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get("/notes", "")).await.status, 200);
    let post = format!("{}x=1", request("POST", "/notes", "Content-Length: 3\r\n"));
    assert_failed(&connection.exchange(post).await, 502);
    let posts = api.seen().iter().filter(|seen| seen.method == "POST").count();
    assert_eq!(posts, 1, "the backend may have processed it");
}

#[tokio::test]
async fn a_request_on_a_new_connection_is_not_repeated() {
    let (api, _admin, gateway) = start(|_| vec![Close]).await;
    assert_failed(&gateway.get(DAY).await, 502);
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn a_client_that_disconnects_ends_the_request_to_the_backend() {
    let (_api, _admin, gateway) = start(|_| vec![Hang]).await;
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    until("the request is active", async || gateway.metric("gateway_requests_in_flight").await == Some(1.0)).await;
    drop(connection);
    until("it has ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
}

#[tokio::test]
async fn a_backend_that_is_not_http_1_is_502() {
    let (_api, _admin, gateway) =
        start(|_| vec![Write(b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())]).await;
    assert_failed(&gateway.get(DAY).await, 502);
}
