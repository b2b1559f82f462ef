//! ops/WIRE.md: an empty body counts as none, however it is framed. On requests that accept no content, it is refused
//! at its first byte.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::support::backend::Backend;
use crate::support::client::PATIENCE;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, block, frame, receive_frame, request_block,
};
use crate::support::revocation::RevocationStub;
use crate::support::token::token;
use crate::support::{DAY, Gateway, api, request};

/// A route for every method without a body.
const ROUTE: &str = "[{name = 'days', methods = ['GET', 'HEAD', 'DELETE', 'OPTIONS'], path = '/holodules/{day}'}]";

/// Method, path and expected status: that route, an unknown one, and the logout.
const ROWS: [(&str, &str, u16); 6] = [
    ("GET", DAY, 200),
    ("HEAD", DAY, 200),
    ("DELETE", DAY, 200),
    ("OPTIONS", DAY, 200),
    ("GET", "/nothing", 404),
    // Last, since it revokes the token.
    ("POST", "/auth/logout", 204),
];

async fn start() -> (Backend, Backend, Gateway) {
    let (api, (authority, admin)) = (api().await, RevocationStub::start().await);
    let settings = [("ROUTE", ROUTE), ("LOGIN_BODY_TIMEOUT", "0.4"), ("LISTENER_READ_TIMEOUT", "0.4")];
    let gateway = RevocationStub::gateway(&api, &admin, &settings);
    gateway.ready().await;
    drop(authority);
    (api, admin, gateway)
}

/// The status at the start of a field block (RFC 7541, appendix A).
fn status(block: &[u8]) -> u16 {
    match block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        // A literal with the name of entry 8, Huffman-coded (appendix B).
        [0x48, 0x82, 0x68, 0x01, ..] => 401,
        [0x48, 0x83, 0x68, 0x0f, ..] => 408,
        other => panic!("{other:x?}"),
    }
}

/// Sends a request with a valid token over HTTP/2, followed by the frames in `rest`, and returns the status.
async fn exchange(gateway: &Gateway, method: &str, path: &str, rest: &[Vec<u8>]) -> u16 {
    let mut client = Frames::connect(gateway.https, &[]).await;
    let fields = request_block(method, path, &format!("JWT {}", token("user01")));
    client.write_all(&[frame(HEADERS, END_HEADERS, 1, &fields), rest.concat()].concat()).await.unwrap();
    client.flush().await.unwrap();
    let answered = async {
        loop {
            let received = receive_frame(&mut client).await.expect("the connection ended");
            if received.kind == HEADERS {
                return status(&received.payload);
            }
        }
    };
    timeout(PATIENCE, answered).await.expect("no response")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_requests_without_content_may_end_in_any_way() {
    let (api, _admin, gateway) = start().await;
    let data = |flags| frame(DATA, flags, 1, b"");
    let padding = frame(DATA, END_STREAM | 8, 1, &[2, 0, 0]);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-trailer", "b")]));
    for (method, path, expected) in ROWS {
        for rest in [
            vec![data(END_STREAM)],
            vec![data(0), data(0), data(END_STREAM)],
            vec![padding.clone()],
            vec![trailers.clone()],
        ] {
            let status = exchange(&gateway, method, path, &rest).await;
            // The first logout revokes the token of the later ones.
            let is_expected = status == expected || expected == 204 && status == 401;
            assert!(is_expected, "{method} {path} {rest:x?}: {status}");
        }
    }
    let seen = api.seen();
    assert_eq!(seen.len(), 16);
    let is_plain = |name| seen.iter().all(|seen| seen.values(name).is_empty());
    assert!(is_plain("transfer-encoding") && is_plain("content-length"), "no body is forwarded: {seen:?}");
}

#[tokio::test]
async fn http_1_requests_may_consist_of_the_last_chunk() {
    let (api, _admin, gateway) = start().await;
    for (method, path, expected) in ROWS {
        for body in ["0\r\n\r\n", "000;a=b\r\nX-Trailer: b\r\n\r\n"] {
            let mut connection = gateway.connect().await;
            connection.send(request(method, path, "Transfer-Encoding: chunked\r\n")).await;
            connection.send(body).await;
            let answer = connection.answer(method).await;
            let is_expected = answer.status == expected || expected == 204 && answer.status == 401;
            assert!(is_expected, "{method} {path} {body:?}: {answer:?}");
            if expected == 200 {
                // The connection can be reused.
                assert_eq!(connection.exchange(request("GET", DAY, "")).await.status, 200, "{method} {body:?}");
            }
        }
        if expected == 200 {
            let mut connection = gateway.connect().await;
            let head = request(method, path, "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n");
            if method != "HEAD" {
                assert_eq!(connection.expect_continue(head, "0\r\n\r\n").await.status, 200, "{method}");
            }
        }
    }
    let seen = api.seen();
    let is_plain = |name| seen.iter().all(|seen| seen.values(name).is_empty());
    assert!(is_plain("transfer-encoding") && is_plain("content-length"), "no body is forwarded: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_refused_at_once_and_a_missing_end_after_the_timeout() {
    let (api, admin, gateway) = start().await;
    let before = admin.seen().len();
    for (method, path, expected) in ROWS.into_iter().filter(|(_, _, expected)| *expected != 404) {
        let began = Instant::now();
        let one = [frame(DATA, 0, 1, b""), frame(DATA, 0, 1, b"x")];
        assert_eq!(exchange(&gateway, method, path, &one).await, 400, "{method} {path}");
        let mut connection = gateway.connect().await;
        connection.send(request(method, path, "Transfer-Encoding: chunked\r\n") + "5\r\nx").await;
        assert_eq!(connection.answer(method).await.status, 400, "{method} {path}");
        let mut connection = gateway.connect().await;
        connection.send(request(method, path, "Content-Length: 1\r\n")).await;
        assert_eq!(connection.answer(method).await.status, 400, "{method} {path}");
        assert!(began.elapsed() < Duration::from_secs(5), "{method} {path}: {:?}", began.elapsed());

        assert_eq!(exchange(&gateway, method, path, &[frame(DATA, 0, 1, b"")]).await, 408, "{method} {path}");
        let mut connection = gateway.connect().await;
        connection.send(request(method, path, "Transfer-Encoding: chunked\r\n") + "0\r\n").await;
        assert_eq!(connection.answer(method).await.status, 408, "{method} {path}, {expected}");
    }
    assert!(api.seen().is_empty());
    let logouts = admin.seen().iter().skip(before).filter(|seen| seen.target == "/revocation/logout").count();
    assert_eq!(logouts, 0);
}
