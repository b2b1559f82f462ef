//! HTTP/2 requests.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{ROUTES, answer, assert_is_now, chunks, dated, framing_backend, text};
use crate::auth::user01;
use crate::support::backend::Step::{Close, Hang, Reset, WaitFor, Write};
use crate::support::backend::{Backend, Step};
use crate::support::client::PATIENCE;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM, WINDOW_UPDATE, frame, receive_frame,
    request_block,
};
use crate::support::h2::{Http2, read};
use crate::support::token::token;
use crate::support::{Gateway, admin, answer_of, until};

const MEBIBYTE: usize = 1024 * 1024;

/// The default window (RFC 9113, section 6.9.2), in bytes.
const WINDOW: usize = 65_535;

/// A request with a valid token.
fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .header("authorization", format!("JWT {}", token("user01")))
}

/// Requests `path` and returns the frames of the response, up to the one that ends the stream or the connection.
async fn frames_of(gateway: &Gateway, path: &str) -> Vec<Frame> {
    observe_frames(gateway, path, |_| {}).await
}

/// As [`frames_of`], and calls `observe` with all frames so far after each of them.
async fn observe_frames(gateway: &Gateway, path: &str, mut observe: impl FnMut(&[Frame])) -> Vec<Frame> {
    // The largest windows of the stream and of the connection.
    let mut client = Frames::connect(gateway.https, &[(4, 0x7fff_ffff)]).await;
    let fields = request_block("GET", path, &format!("JWT {}", token("user01")));
    let window = frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    client.write_all(&[window, frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields)].concat()).await.unwrap();
    client.flush().await.unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = timeout(PATIENCE, receive_frame(&mut client)).await.expect("the stream stays open") {
        let is_last = ends(&frame) || matches!(frame.kind, RST_STREAM | GOAWAY);
        if matches!(frame.kind, HEADERS | DATA | RST_STREAM | GOAWAY) {
            frames.push(frame);
            observe(&frames);
        }
        if is_last {
            break;
        }
    }
    frames
}

/// Whether a frame ends a complete stream.
fn ends(frame: &Frame) -> bool {
    matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0
}

/// The body in these frames.
fn body(frames: &[Frame]) -> Vec<u8> {
    frames.iter().filter(|frame| frame.kind == DATA).flat_map(|frame| frame.payload.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_body_larger_than_the_window_arrives_complete() {
    let (api, admin) = (Backend::start(|_| answer_of("taken")).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let client = Http2::open(gateway.https).await;
    let body = text(MEBIBYTE);
    for length in [Some("1048576"), None] {
        api.forget();
        let mut put = request("PUT", "/notes/1");
        if let Some(length) = length {
            put = put.header("content-length", length);
        }
        let answer = client.exchange(put.body(body.as_str()).unwrap()).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "taken"), "{answer:?}");
        let seen = api.only();
        assert!(seen.body == body.as_bytes(), "{length:?}: {} bytes", seen.body.len());
        assert_eq!(seen.values("content-length"), Vec::from_iter(length));
        assert_eq!(seen.values("transfer-encoding").is_empty(), length.is_some(), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_body_in_pieces_arrives_complete() {
    let (api, admin) = (Backend::start(|_| answer_of("taken")).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let client = Http2::open(gateway.https).await;
    let put = request("PUT", "/notes/1").body(()).unwrap();
    let (answer, mut stream) = client.begin(put, false).await.unwrap();
    for piece in ["a", "", "bc"] {
        stream.send_data(Bytes::from_static(piece.as_bytes()), false).unwrap();
        tokio::task::yield_now().await;
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_eq!(read(answer).await.unwrap().body, "taken");
    assert_eq!(api.only().body, b"abc");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_larger_than_the_window_waits_for_the_client() {
    let large = text(MEBIBYTE);
    let body = large.clone();
    let (api, admin) = (Backend::start(move |_| answer_of(&body)).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let client = Http2::open(gateway.https).await;
    let (answer, _) = client.begin(request("GET", "/notes/1").body(()).unwrap(), true).await.unwrap();
    let mut answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    until("the window is full", async || answer.body_mut().flow_control().used_capacity() == WINDOW).await;
    let answer = timeout(PATIENCE, read(answer)).await.expect("the rest does not arrive").unwrap();
    assert!(answer.body == large, "{} bytes", answer.body.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_of_any_framing_end_their_stream() {
    let large = text(MEBIBYTE);
    let (api, admin) = (framing_backend(&large).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    for note in ["length", "chunks", "close"] {
        let frames = frames_of(&gateway, &format!("/notes/{note}")).await;
        assert!(frames.last().is_some_and(ends), "{note}: {:?}", frames.last());
        assert_eq!(frames[0].kind, HEADERS, "{note}");
        assert!(body(&frames) == large.as_bytes(), "{note}: {} bytes", body(&frames).len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_chunk_that_arrives_after_the_content_ends_the_stream() {
    let large = text(MEBIBYTE);
    let received = Arc::new(Semaphore::new(0));
    let (content, end) = (chunks(&[&large]), Arc::clone(&received));
    let api = Backend::start(move |_| {
        let content = answer("Transfer-Encoding: chunked\r\n", &content);
        vec![content, WaitFor(Arc::clone(&end)), Write(b"0\r\n\r\n".to_vec())]
    });
    let (api, admin) = (api.await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let frames = observe_frames(&gateway, "/notes/1", |frames| {
        if body(frames).len() == large.len() {
            received.add_permits(1);
        }
    })
    .await;
    assert!(frames.last().is_some_and(ends), "{:?}", frames.last());
    assert_eq!(frames[0].kind, HEADERS);
    assert!(body(&frames) == large.as_bytes(), "{} bytes", body(&frames).len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_without_a_body_end_their_stream_with_the_head() {
    let api = Backend::start(|seen| {
        let head = match seen.target.as_str() {
            "/notes/nothing" => "204 No Content\r\n",
            "/notes/unchanged" => "304 Not Modified\r\nETag: \"a\"\r\n",
            _ => "200 OK\r\nContent-Length: 0\r\n",
        };
        vec![Write(format!("HTTP/1.1 {head}\r\n").into_bytes())]
    });
    let (api, admin) = (api.await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let client = Http2::open(gateway.https).await;
    for (note, status) in [("nothing", 204), ("unchanged", 304), ("empty", 200)] {
        let path = format!("/notes/{note}");
        let frames = frames_of(&gateway, &path).await;
        assert!(matches!(&frames[..], [only] if ends(only)), "{note}: {frames:?}");
        let answer = client.exchange(request("GET", &path).body("").unwrap()).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{answer:?}");
    }
}

/// The ways in which a backend can truncate a response. It waits until the client has the head.
fn truncated(target: &str, head_received: &Arc<Semaphore>) -> Vec<Step> {
    let first = chunks(&["first"]);
    let wait = WaitFor(Arc::clone(head_received));
    match target {
        "/notes/length" => vec![answer("Content-Length: 10\r\n", "first"), wait, Close],
        "/notes/length-reset" => vec![answer("Content-Length: 10\r\n", "first"), wait, Reset],
        "/notes/chunks" => vec![answer("Transfer-Encoding: chunked\r\n", &first), wait, Close],
        "/notes/chunks-reset" => vec![answer("Transfer-Encoding: chunked\r\n", &first), wait, Reset],
        "/notes/odd-chunks" => vec![answer("Transfer-Encoding: chunked\r\n", &first), wait, Write(b"zz\r\n".to_vec())],
        _ => vec![answer("Content-Length: 10\r\n", ""), wait, Close],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_response_resets_its_stream() {
    let head_received = Arc::new(Semaphore::new(0));
    let end = Arc::clone(&head_received);
    let (api, admin) = (Backend::start(move |seen| truncated(&seen.target, &end)).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    for note in ["length", "length-reset", "chunks", "chunks-reset", "odd-chunks", "head-alone"] {
        let frames = observe_frames(&gateway, &format!("/notes/{note}"), |frames| {
            if frames.len() == 1 {
                head_received.add_permits(1);
            }
        })
        .await;
        assert_eq!(frames.last().map(|frame| frame.kind), Some(RST_STREAM), "{note}: {frames:?}");
        assert_eq!(frames[0].kind, HEADERS, "{note}: {frames:?}");
        assert!(!frames.iter().any(ends), "{note}: {frames:?}");
    }
    // Other streams of the connection are not affected.
    let client = Http2::open(gateway.https).await;
    let (answer, _) = client.begin(request("GET", "/notes/length").body(()).unwrap(), true).await.unwrap();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    head_received.add_permits(1);
    assert!(timeout(PATIENCE, read(answer)).await.unwrap().is_err());
    assert_eq!(client.exchange(request("GET", "/nothing").body("").unwrap()).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_response_arrives_before_the_rest() {
    let api = Backend::start(|seen| match seen.target.as_str() {
        "/notes/length" => vec![answer("Content-Length: 10\r\n", "first"), Hang],
        "/notes/head" => vec![answer("Content-Length: 10\r\n", ""), Hang],
        _ => vec![answer("Transfer-Encoding: chunked\r\n", &chunks(&["first"])), Hang],
    });
    let (api, admin) = (api.await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let client = Http2::open(gateway.https).await;
    for note in ["length", "chunks", "head"] {
        let get = request("GET", &format!("/notes/{note}")).body(()).unwrap();
        let (answer, _) = client.begin(get, true).await.unwrap();
        let mut answer = timeout(PATIENCE, answer).await.expect(note).unwrap();
        if note != "head" {
            let first = timeout(PATIENCE, answer.body_mut().data()).await.expect(note).unwrap().unwrap();
            assert_eq!(first, "first", "{note}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_response_has_one_date_from_the_gateway() {
    let (api, admin) = (Backend::start(dated).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let client = Http2::open(gateway.https).await;
    for (method, path, body, status) in
        [("GET", "/notes/1", "", 200), ("PUT", "/notes/1", "x=1", 200), ("GET", "/nothing", "", 404)]
    {
        let answer = client.exchange(request(method, path).body(body).unwrap()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_is_now(&answer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_100_continue_gets_a_100_unless_refused() {
    let (api, admin) = (Backend::start(|_| answer_of("taken")).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let client = Http2::open(gateway.https).await;
    for (method, path, body) in [("PUT", "/notes/1", "x=1".to_owned()), ("POST", "/auth", user01())] {
        for expects in [true, false] {
            let mut head = request(method, path).header("content-type", "application/json");
            if expects {
                head = head.header("expect", "100-continue");
            }
            let (mut answer, mut stream) = client.begin(head.body(()).unwrap(), false).await.unwrap();
            if expects {
                let interim = timeout(PATIENCE, poll_fn(|cx| answer.poll_informational(cx))).await.expect(path);
                assert_eq!(interim.unwrap().unwrap().status(), 100, "{path}");
            }
            stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
            let others = timeout(PATIENCE, poll_fn(|cx| answer.poll_informational(cx))).await.expect(path);
            assert!(others.is_none(), "{path}: {others:?}");
            let answer = timeout(PATIENCE, answer).await.expect(path).unwrap();
            assert_eq!(read(answer).await.unwrap().status, 200, "{path}");
        }
    }
    assert_eq!((api.seen().len(), admin.seen().len()), (2, 2));
    // A refusal needs no 100 and no body.
    let head = request("PUT", "/nothing").header("expect", "100-continue").body(()).unwrap();
    let (mut answer, _stream) = client.begin(head, false).await.unwrap();
    assert!(timeout(PATIENCE, poll_fn(|cx| answer.poll_informational(cx))).await.unwrap().is_none());
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().status(), 404);
}
