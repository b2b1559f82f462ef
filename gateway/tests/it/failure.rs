//! ops/WIRE.md: 502, 503 and 504 in its shape, the deadlines towards the backend, the one retry.

use std::time::{Duration, Instant};

use crate::support::backend::Step::{Close, CloseIdle, Hang, Reset, Wait, Write};
use crate::support::backend::{Backend, Seen, Step};
use crate::support::client::Answer;
use crate::support::{DAY, DAY_BODY, Gateway, admin, get, request, serve_day, until};

/// Short enough to wait for, long enough for a machine that is busy.
const DEADLINES: [(&str, &str); 2] = [("UPSTREAM_READ_TIMEOUT", "0.5"), ("UPSTREAM_REQUEST_TIMEOUT", "1")];

/// Far above the deadlines, far below what would pass without them.
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

/// A gateway with short deadlines, whose api answers by `script`.
async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> (Backend, Backend, Gateway) {
    let (api, admin) = (Backend::start(script).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &DEADLINES);
    (api, admin, gateway)
}

/// Drips `text` a byte at a time, each well within the read deadline.
fn drip(text: &[u8]) -> Vec<Step> {
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
    let back = Backend::start_at(address, serve_day).await;
    assert_eq!(gateway.get(DAY).await.body, DAY_BODY);
    assert_eq!(back.seen().len(), 1);
}

#[tokio::test]
async fn the_log_says_whether_the_backend_was_reached() {
    let (mut api, admin) = (Backend::start(|_| vec![Close]).await, admin().await);
    let (gateway, log) = Gateway::start_logged(&api, &admin, &[]);
    assert_failed(&gateway.get(DAY).await, 502);
    api.stop().await;
    assert_failed(&gateway.get(DAY).await, 503);
    until("both are logged", async || log.lines().len() == 2).await;
    let reasons: Vec<_> = log.lines().iter().map(|line| (line["status"].clone(), line["reason"].clone())).collect();
    assert_eq!(reasons, [(502.into(), "upstream".into()), (503.into(), "upstream_unreachable".into())]);
}

/// The port is bound and nothing listens: its queue is full, and no connection is ever made.
#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_503() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Those that fit the queue are accepted by the system.
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

/// RFC 9112, sections 6.1 and 6.3: there is more than one way to find the end of such an answer.
#[tokio::test]
async fn an_answer_whose_end_is_not_clear_is_502_and_ends_its_connection() {
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

/// RFC 9112, section 5.1: the space before the colon is removed.
#[tokio::test]
async fn a_space_after_a_field_name_of_the_backend_is_removed() {
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
async fn what_is_no_answer_is_502() {
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
async fn silence_is_504_after_the_read_deadline() {
    let (api, _admin, gateway) = start(|_| vec![Hang]).await;
    let began = Instant::now();
    assert_failed(&gateway.get(DAY).await, 504);
    assert!((Duration::from_millis(400)..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(api.seen().len(), 1, "what may have been acted on is not asked again");
}

#[tokio::test]
async fn a_head_that_drips_is_cut_as_silence_is() {
    let routes = "[{name = 'notes', methods = ['GET', 'POST'], path = '/notes'}]";
    let api = Backend::start(|_| drip(&[b"HTTP/1.1 200 OK\r\nX-A: ".as_slice(), &[b'a'; 300]].concat())).await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&api, &admin, &[DEADLINES[0], DEADLINES[1], ("ROUTE", routes)]);
    let post = format!("{}x=1", request("POST", "/notes", "Content-Length: 3\r\n"));
    for request in [get("/notes", ""), post] {
        let began = Instant::now();
        assert_failed(&gateway.exchange(request).await, 504);
        assert!((Duration::from_millis(400)..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_part_of_an_answer_arrives_before_the_rest_is_there() {
    let first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n".to_vec();
    let (_api, _admin, gateway) = start(move |_| vec![Write(first.clone()), Hang]).await;
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    connection.read_until("5\r\nfirst\r\n").await;
}

#[tokio::test]
async fn a_body_that_drips_is_cut_at_the_whole_requests_deadline() {
    let (_api, _admin, gateway) = start(|_| {
        let mut steps = vec![Write(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n".to_vec())];
        steps.extend(drip(&[b'a'; 200]));
        steps
    })
    .await;
    let began = Instant::now();
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    // Never an end that looks like one: the length was not reached.
    match connection.try_answer("GET").await {
        Ok(answer) => assert_failed(&answer, 504),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof),
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_that_does_not_take_the_answer_is_cut_at_the_whole_requests_deadline() {
    // More than all buffers between hold.
    let answer = Write(answer_of_bytes(32 * 1024 * 1024));
    let (_api, _admin, gateway) = start(move |_| vec![answer.clone()]).await;
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    connection.read_until("\r\n\r\n").await;
    let began = Instant::now();
    until("the request has ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
    // A write that stalls may do so for 30 s by itself.
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

fn answer_of_bytes(length: usize) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + length, b'a');
    answer
}

#[tokio::test]
async fn a_body_that_breaks_off_never_looks_whole() {
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
async fn a_kept_connection_that_had_gone_stale_is_not_noticed() {
    let (api, _admin, gateway) = start(|seen| {
        // Closes without an answer on the second request of the first connection.
        if (seen.connection, seen.place) == (first_connection(), 1) { vec![Close] } else { serve_day(seen) }
    })
    .await;
    // The probe's connections are counted, too: no request comes before it is done.
    gateway.ready().await;
    let mut connection = gateway.connect().await;
    for _ in 0..3 {
        let answer = connection.exchange(get(DAY, "")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY), "{answer:?}");
    }
    let seen = api.seen();
    assert_eq!(seen.len(), 4, "three requests, one of them twice: {seen:?}");
    assert_ne!(seen[1].connection, seen[2].connection);
    assert_eq!(seen[2].place, 0, "the second attempt went out on a new connection");
}

/// The probe opens connection 0 and keeps it; the first forwarded request opens the next.
fn first_connection() -> usize {
    1
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_not_noticed_whatever_the_method() {
    let routes = "[{name = 'notes', methods = ['GET', 'POST'], path = '/notes'}]";
    let api = Backend::start(|seen| [serve_day(seen), vec![CloseIdle]].concat()).await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", routes)]);
    let mut connection = gateway.connect().await;
    // The end of the idle connection arrives before the next request leaves.
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

/// RFC 9110, section 9.2.2: what was done twice is as if it was done once.
#[tokio::test]
async fn an_idempotent_request_on_a_connection_that_was_just_closed_is_sent_once_more() {
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
        assert_eq!((seen[1].place, seen[2].place), (1, 0), "{method}: the second attempt is on a new connection");
    }
}

/// It closes a connection just when the next request leaves, and all connections are in use.
#[tokio::test]
async fn a_backend_that_closes_soon_after_each_answer_costs_no_request() {
    let api = Backend::start(|seen| [serve_day(seen), vec![Wait(Duration::from_millis(3)), Close]].concat()).await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&api, &admin, &[("UPSTREAM_MAX_CONNECTIONS", "4")]);
    gateway.ready().await;
    let client = async || {
        let mut connection = gateway.connect().await;
        for pause in 0..60 {
            let answer = connection.exchange(get(DAY, "")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            // The pace of the client, so that requests and closures meet at different moments.
            tokio::time::sleep(Duration::from_millis(pause % 5)).await;
        }
    };
    tokio::join!(client(), client(), client(), client(), client(), client(), client(), client());
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let routes = "[{name = 'notes', methods = ['GET', 'POST'], path = '/notes'}]";
    let api = Backend::start(|seen| if seen.method == "POST" { vec![Close] } else { serve_day(seen) }).await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", routes)]);
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get("/notes", "")).await.status, 200);
    let post = format!("{}x=1", request("POST", "/notes", "Content-Length: 3\r\n"));
    assert_failed(&connection.exchange(post).await, 502);
    let posts = api.seen().iter().filter(|seen| seen.method == "POST").count();
    assert_eq!(posts, 1, "the backend may have acted on it");
}

#[tokio::test]
async fn a_new_connection_that_breaks_is_not_tried_again() {
    let (api, _admin, gateway) = start(|_| vec![Close]).await;
    assert_failed(&gateway.get(DAY).await, 502);
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_to_the_backend() {
    let (_api, _admin, gateway) = start(|_| vec![Hang]).await;
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    until("the request is under way", async || gateway.metric("gateway_requests_in_flight").await == Some(1.0)).await;
    drop(connection);
    until("it has ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
}

#[tokio::test]
async fn a_backend_that_is_not_http_1_is_502() {
    let (_api, _admin, gateway) =
        start(|_| vec![Write(b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())]).await;
    assert_failed(&gateway.get(DAY).await, 502);
}
