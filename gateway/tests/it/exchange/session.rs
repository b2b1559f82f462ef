//! HTTP/1.1 requests with a body, and HTTP/1.0 requests.

use std::io::ErrorKind;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{ROUTES, Via, answer, assert_is_now, assert_part_arrives, chunks, dated, framing_backend, post, text};
use crate::support::backend::Step::{Close, Hang, Reset, WaitFor};
use crate::support::backend::{Backend, Step};
use crate::support::client::Connection;
use crate::support::token::token;
use crate::support::{Gateway, admin, answer_of, get, request, until};

/// The ways in which a backend can truncate a response. A reset discards what the gateway has not read, so the backend
/// waits for a permit before it.
fn truncated(target: &str, permits: &Arc<Semaphore>) -> Vec<Step> {
    let (first, pause) = (chunks(&["first"]), WaitFor(Arc::clone(permits)));
    match target {
        "/notes/length" => vec![answer("Content-Length: 10\r\n", "first"), Close],
        "/notes/length-reset" => vec![answer("Content-Length: 10\r\n", "first"), pause, Reset],
        "/notes/chunks" => vec![answer("Transfer-Encoding: chunked\r\n", &first), Close],
        "/notes/chunks-reset" => vec![answer("Transfer-Encoding: chunked\r\n", &first), pause, Reset],
        "/notes/odd-chunks" => vec![answer("Transfer-Encoding: chunked\r\n", &format!("{first}zz\r\n")), Close],
        other => panic!("{other}"),
    }
}

const TRUNCATED: [&str; 5] = ["length", "length-reset", "chunks", "chunks-reset", "odd-chunks"];

#[tokio::test]
async fn a_truncated_response_is_never_taken_for_complete() {
    for via in Via::BOTH {
        assert_never_complete(via).await;
    }
}

async fn assert_never_complete(via: Via) {
    let permits = Arc::new(Semaphore::new(0));
    let paused = Arc::clone(&permits);
    let (api, admin) = (Backend::start(move |seen| truncated(&seen.target, &paused)).await, admin().await);
    let gateway = via.start(&api, &admin);
    for case in TRUNCATED {
        let mut connection = gateway.connect().await;
        connection.send(post(&format!("/notes/{case}"), "")).await;
        if case.ends_with("-reset") {
            assert_cut_off_after_a_part(&mut connection, &permits).await;
        } else {
            match connection.try_answer("POST").await {
                Ok(answer) => assert_eq!(answer.status, 502, "{case}: {answer:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{case}"),
            }
        }
        // An orderly end of the connection would complete this response (RFC 9112, section 9.8).
        let mut connection = gateway.connect().await;
        let token = token("user01");
        let head = format!("GET /notes/{case} HTTP/1.0\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n\r\n");
        connection.send(head).await;
        if case.ends_with("-reset") {
            assert_cut_off_after_a_part(&mut connection, &permits).await;
        } else {
            match connection.read_to_close_notify().await {
                Ok(answer) => assert!(answer.starts_with(b"HTTP/1.1 502 "), "{case}: {:?}", String::from_utf8(answer)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{case}"),
            }
        }
    }
}

/// Permits the reset when the first part has arrived, and asserts that the connection ends without a close_notify.
async fn assert_cut_off_after_a_part(connection: &mut Connection, permits: &Semaphore) {
    connection.read_until("first").await;
    permits.add_permits(1);
    assert_eq!(connection.read_to_close_notify().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_part_of_a_response_arrives_before_the_rest() {
    let api = Backend::start(|seen| match seen.target.as_str() {
        "/notes/length" => vec![answer("Content-Length: 10\r\n", "first"), Hang],
        _ => vec![answer("Transfer-Encoding: chunked\r\n", &chunks(&["first"])), Hang],
    });
    let (api, admin) = (api.await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    for path in ["/notes/length", "/notes/chunks"] {
        let mut connection = gateway.connect().await;
        connection.send(post(path, "")).await;
        connection.read_until("first").await;
    }
}

#[tokio::test]
async fn a_part_that_fills_the_socket_buffers_arrives_before_the_rest() {
    assert_part_arrives(|path| post(path, "")).await;
}

#[tokio::test]
async fn bodies_of_any_framing_arrive_complete_in_both_directions() {
    let large = text(1024 * 1024);
    let (api, admin) = (framing_backend(&large).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let (head, tail) = large.split_at(5_000);
    let sent = [
        ("Content-Length: 1048576\r\n", large.clone()),
        ("Transfer-Encoding: chunked\r\n", format!("{}0\r\n\r\n", chunks(&[head, tail]))),
    ];
    let mut connection = gateway.connect().await;
    for (framing, body) in &sent {
        for (note, status, expected) in
            [("length", 200, large.as_str()), ("chunks", 200, &large), ("close", 200, &large), ("none", 204, "")]
        {
            api.forget();
            let path = format!("/notes/{note}");
            let answer = connection.exchange(format!("{}{body}", request("PUT", &path, framing))).await;
            assert_eq!((answer.status, answer.value("connection")), (status, "keep-alive"), "{path} {framing}");
            assert!(answer.body == expected, "{path} {framing}: {} bytes", answer.body.len());
            assert!(api.only().body == large.as_bytes(), "{path} {framing}: {} bytes", api.only().body.len());
        }
    }
}

#[tokio::test]
async fn connection_close_is_honoured_in_any_spelling() {
    let (api, admin) = (Backend::start(|_| answer_of("good")).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    for line in ["Connection: close\r\n", "Connection: CLOSE\r\n", "Connection: x, close\r\n"] {
        let mut connection = gateway.connect().await;
        let answer = connection.exchange(post("/notes/1", line)).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.value("connection")), (200, "good", "close"), "{line}");
        connection.assert_closed().await;
    }
}

#[tokio::test]
async fn each_response_has_one_date_from_the_gateway() {
    let (api, admin) = (Backend::start(dated).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let old = get("/notes/1", "Connection: close\r\n").replace("HTTP/1.1", "HTTP/1.0");
    for (request, status) in [(post("/notes/1", ""), 200), (post("/nothing", ""), 404), (old, 200)] {
        let answer = gateway.exchange(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_is_now(&answer);
    }
}

#[tokio::test]
async fn requests_with_and_without_a_body_share_a_connection() {
    let api = Backend::start(|seen| answer_of(&format!("{} {} {}", seen.method, seen.target, seen.body.len())));
    let (api, admin) = (api.await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let mut connection = gateway.connect().await;
    let chunked = format!("{}3\r\nx=1\r\n0\r\n\r\n", request("PUT", "/notes/3", "Transfer-Encoding: chunked\r\n"));
    let requests = [
        (get("/notes/1", ""), "GET /notes/1 0"),
        (post("/notes/2", ""), "POST /notes/2 3"),
        (get("/notes/1", ""), "GET /notes/1 0"),
        (chunked, "PUT /notes/3 3"),
        (post("/notes/2", ""), "POST /notes/2 3"),
        (get("/notes/1", ""), "GET /notes/1 0"),
    ];
    for (request, expected) in &requests {
        let answer = connection.exchange(request).await;
        assert_eq!((answer.body.as_str(), answer.value("connection")), (*expected, "keep-alive"), "{answer:?}");
    }
    // All of them pipelined.
    connection.send(requests.iter().map(|(request, _)| request.as_str()).collect::<String>()).await;
    for (_, expected) in &requests {
        let answer = connection.answer("GET").await;
        assert_eq!((answer.body.as_str(), answer.value("connection")), (*expected, "keep-alive"), "{answer:?}");
    }
    assert_eq!(api.seen().len(), 12);
}

#[tokio::test]
async fn requests_received_before_a_drain_are_answered_and_the_last_closes_the_connection() {
    for first in ["GET", "POST"] {
        for second in ["GET", "POST"] {
            let request = |method| if method == "GET" { get("/notes/1", "") } else { post("/notes/1", "") };
            let permits = Arc::new(Semaphore::new(0));
            let paused = Arc::clone(&permits);
            let api = Backend::start(move |_| [vec![WaitFor(Arc::clone(&paused))], answer_of("good")].concat());
            let (api, admin) = (api.await, admin().await);
            let mut gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
            let mut connection = gateway.connect().await;
            connection.send(format!("{}{}", request(first), request(second))).await;
            until("the backend has the request", async || !api.seen().is_empty()).await;
            gateway.stop();
            until("no connection is accepted", async || Connection::open(gateway.https).await.is_err()).await;
            permits.add_permits(2);
            assert_eq!(connection.answer(first).await.body, "good", "{first}");
            let last = connection.answer(second).await;
            assert_eq!((last.body.as_str(), last.value("connection")), ("good", "close"), "{second}");
            connection.assert_closed().await;
        }
    }
}
