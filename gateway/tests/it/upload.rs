//! Uploads whose response begins before their end (RFC 9112, sections 9.3 and 9.5; RFC 9113, section 8.1): both are
//! forwarded until their receiver stops reading, and neither appears complete if it was cut off.

use std::future::Future;
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::{sleep, timeout};

use crate::support::client::PATIENCE;
use crate::support::h2::{Http2, read};
use crate::support::token::token;
use crate::support::{Gateway, Log, admin, request, until, until_unchanged};

const ROUTE: (&str, &str) =
    ("ROUTE", "[{name = 'notes', methods = ['GET', 'HEAD', 'POST', 'PUT'], path = '/notes/{note}'}]");

/// Each request has a new connection to the backend.
const FRESH: (&str, &str) = ("UPSTREAM_IDLE_TIMEOUT", "0");

pub trait Stream: AsyncRead + AsyncWrite + AsFd + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + AsFd + Send + Sync + Unpin> Stream for S {}

/// Starts a backend and returns its address. After the head of a request for a note, it calls `serve` with the
/// connection and the bytes that were read after the head.
pub async fn backend<F>(serve: impl Fn(Box<dyn Stream>, Vec<u8>) -> F + Send + Sync + Copy + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve_connection(Box::new(stream), serve));
        }
    });
    address
}

/// Serves one request: one for a note with `serve`, a health check with 200.
async fn serve_connection<F: Future<Output = ()> + Send>(
    mut stream: Box<dyn Stream>,
    serve: impl Fn(Box<dyn Stream>, Vec<u8>) -> F,
) {
    let mut read = Vec::new();
    let end = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    };
    if read.windows(7).any(|window| window == b"/notes/") {
        let rest = read.split_off(end);
        serve(stream, rest).await;
    } else {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    }
}

pub async fn gateway(api: &str, settings: &[(&str, &str)]) -> (Gateway, Log) {
    let admin = admin().await;
    let api = crate::support::backend::Backend::at(api);
    // Otherwise dropping the gateway would wait for clients whose tasks do not run meanwhile.
    let settings: Vec<_> = [ROUTE, ("DRAIN_TIMEOUT", "0")].into_iter().chain(settings.iter().copied()).collect();
    Gateway::start_logged(&api, &admin, &settings)
}

pub fn put(path: &str) -> http::request::Builder {
    let uri = format!("https://localhost{path}");
    Request::builder().method("PUT").uri(uri).header("authorization", format!("JWT {}", token("user01")))
}

/// Responds before the end of the upload, in pieces.
async fn refuse_in_pieces(mut stream: Box<dyn Stream>, _: Vec<u8>) {
    for (piece, pause) in
        [("HTTP/1.1 401 Unauthorized\r\nContent-Length: 10\r\n\r\n", 200), ("01234", 20), ("56789", 0)]
    {
        stream.write_all(piece.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(pause)).await;
    }
    // Waits until the gateway closes the connection.
    while stream.read_buf(&mut Vec::new()).await.is_ok_and(|count| count > 0) {}
}

async fn refuse_in_chunks(mut stream: Box<dyn Stream>, _: Vec<u8>) {
    let head = "HTTP/1.1 413 Content Too Large\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (piece, pause) in [(head, 20), ("a\r\n0123456789\r\n", 20), ("0\r\n\r\n", 0)] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(pause)).await;
    }
    while stream.read_buf(&mut Vec::new()).await.is_ok_and(|count| count > 0) {}
}

/// Responds and closes without reading the upload, which causes a reset after the response.
pub async fn refuse_and_reset(mut stream: Box<dyn Stream>, _: Vec<u8>) {
    let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789";
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// Sends a part of an upload by HTTP/1.1 and by HTTP/2 and asserts the whole response.
async fn assert_refused(gateway: &Gateway, status: u16, sent: usize, case: &str) {
    let (part, length) = ("x".repeat(sent), sent * 2);
    let mut connection = gateway.connect().await;
    let head = request("POST", "/notes/a", &format!("Content-Length: {length}\r\n"));
    connection.send(format!("{head}{part}")).await;
    let answer = connection.answer("POST").await;
    assert_eq!((answer.status, answer.body.as_str()), (status, "0123456789"), "{case}");
    assert_eq!(answer.value("connection"), "close", "{case}");
    connection.assert_closed().await;

    let client = Http2::open(gateway.https).await;
    let (answer, mut stream) = client.begin(put("/notes/a").body(()).unwrap(), false).await.unwrap();
    stream.reserve_capacity(sent);
    stream.send_data(part.into(), false).unwrap();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap_or_else(|error| panic!("{case}: {error}"));
    let answer = timeout(PATIENCE, read(answer)).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (status, "0123456789"), "{case}");
    // The reset stops the upload without an error (RFC 9113, section 8.1).
    let reset = timeout(PATIENCE, std::future::poll_fn(|cx| stream.poll_reset(cx))).await.unwrap();
    assert_eq!(reset.unwrap(), Reason::NO_ERROR, "{case}");
}

#[tokio::test]
async fn a_response_before_the_end_of_the_upload_is_forwarded_whole() {
    for size in [50, 100_000] {
        let (gateway, _log) = gateway(&backend(refuse_in_pieces).await, &[]).await;
        assert_refused(&gateway, 401, size, "pieces").await;
    }
    for size in [50, 100_000] {
        let (gateway, _log) = gateway(&backend(refuse_in_chunks).await, &[]).await;
        assert_refused(&gateway, 413, size, "chunks").await;
    }
}

#[tokio::test]
async fn a_response_before_a_reset_is_never_lost() {
    let (gateway, _log) = gateway(&backend(refuse_and_reset).await, &[]).await;
    join_all((0..20).map(|_| assert_refused(&gateway, 413, 200_000, "reset"))).await;
}

#[tokio::test]
async fn many_streams_with_small_windows_receive_the_whole_early_response() {
    let (gateway, _log) = gateway(&backend(refuse_in_pieces).await, &[]).await;
    for window in [1, 3, 100] {
        let client = Http2::open_with(gateway.https, window).await;
        let uploads = (0..50).map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let (answer, mut stream) = client.begin(put("/notes/a").body(()).unwrap(), false).await.unwrap();
                stream.send_data(vec![b'x'; 10_000].into(), false).unwrap();
                let answer = read(answer.await.unwrap()).await.unwrap();
                assert_eq!((answer.status, answer.body.as_str()), (401, "0123456789"));
                let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                assert_eq!(reset.unwrap(), Reason::NO_ERROR);
            })
        });
        for upload in uploads.collect::<Vec<_>>() {
            timeout(PATIENCE, upload).await.unwrap().unwrap();
        }
    }
}

/// Sends the head of the response before it reads the chunked upload, and then the number of bytes of that.
async fn count(mut stream: Box<dyn Stream>, mut read: Vec<u8>) {
    until_unchanged("the gateway can send no more", || read.len() + bytes_to_read(&stream)).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let mut total = 0;
    loop {
        let Some(line) = read.windows(2).position(|window| window == b"\r\n") else {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let size = usize::from_str_radix(std::str::from_utf8(&read[..line]).unwrap(), 16).unwrap();
        while read.len() < line + 2 + size + 2 {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        read.drain(..line + 2 + size + 2);
        total += size;
        if size == 0 {
            break;
        }
    }
    let total = total.to_string();
    stream.write_all(format!("{:x}\r\n{total}\r\n0\r\n\r\n", total.len()).as_bytes()).await.unwrap();
    while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {}
}

/// The bytes that have arrived on a connection but are not read.
fn bytes_to_read(stream: &impl AsFd) -> usize {
    usize::try_from(rustix::io::ioctl_fionread(stream).unwrap()).unwrap()
}

/// The largest DATA frame, in bytes.
const FRAME: usize = 16_384;

/// The number of uploads that [`answer_then_read`] has read to their end.
static WHOLE_UPLOADS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Sends the whole response and then reads the upload.
async fn answer_then_read(mut stream: Box<dyn Stream>, mut read: Vec<u8>) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    sleep(Duration::from_millis(5)).await;
    while !read.ends_with(b"\r\n0\r\n\r\n") {
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    WHOLE_UPLOADS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {}
}

async fn upload(client: &Http2, size: usize) -> crate::support::client::Answer {
    let (answer, mut stream) = client.begin(put("/notes/a").body(()).unwrap(), false).await.unwrap();
    let mut left = Bytes::from(vec![b'x'; size]);
    while !left.is_empty() {
        let piece = left.split_to(left.len().min(FRAME));
        stream.send_data(piece, left.is_empty()).unwrap();
    }
    timeout(PATIENCE, async { read(answer.await.unwrap()).await.unwrap() }).await.unwrap()
}

/// At one of these sizes, the socket to the backend is full while the last piece is still in the gateway when the
/// response begins. A Unix socket is full at the same size each time.
#[tokio::test]
async fn an_upload_and_a_response_that_begins_before_its_end_are_both_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve_connection(Box::new(stream), count));
        }
    });
    let (gateway, _log) = gateway(&format!("unix:{}", path.display()), &[FRESH]).await;
    let sizes: Vec<usize> = [1, 100].into_iter().chain((1..=160).map(|steps| steps * FRAME / 2)).collect();
    for sizes in sizes.chunks(54) {
        let answers = sizes.iter().map(async |size| upload(&Http2::open(gateway.https).await, *size).await);
        for (answer, size) in join_all(answers).await.into_iter().zip(sizes) {
            assert_eq!((answer.status, answer.body), (200, size.to_string()));
        }
    }
}

#[tokio::test]
async fn a_received_upload_is_forwarded_after_its_response() {
    let (gateway, _log) = gateway(&backend(answer_then_read).await, &[FRESH]).await;
    let client = Http2::open(gateway.https).await;
    // One DATA frame, so that the gateway has all of it when the response begins.
    let sizes: Vec<usize> = (1..=16).map(|times| times * 1024).collect();
    for (place, size) in sizes.iter().enumerate() {
        let answer = upload(&client, *size).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
        until("the backend has the whole upload", async || {
            WHOLE_UPLOADS.load(std::sync::atomic::Ordering::SeqCst) == place + 1
        })
        .await;
    }
}

/// Sends a response whose second chunk is malformed.
async fn break_the_body(mut stream: Box<dyn Stream>, _: Vec<u8>) {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n";
    let _ = stream.write_all(answer.as_bytes()).await;
}

#[tokio::test]
async fn a_response_that_breaks_before_any_of_it_is_sent_is_502() {
    let (gateway, log) = gateway(&backend(break_the_body).await, &[]).await;
    for method in ["GET", "PUT"] {
        let length = if method == "PUT" { "Content-Length: 1\r\n" } else { "" };
        let body = if method == "PUT" { "x" } else { "" };
        let mut connection = gateway.connect().await;
        let answer = connection.exchange(format!("{}{body}", request(method, "/notes/a", length))).await;
        answer.assert_json(502, r#"{"error":"Bad Gateway"}"#);
        connection.assert_closed().await;
        let request = put("/notes/a").method(method).body(body).unwrap();
        let answer = Http2::open(gateway.https).await.exchange(request).await;
        answer.assert_json(502, r#"{"error":"Bad Gateway"}"#);
    }
    for line in log.lines() {
        assert_eq!((&line["status"], &line["reason"]), (&502.into(), &"upstream".into()), "{line}");
    }
}

/// Sends a response of several chunks in one write.
async fn send_small_chunks(mut stream: Box<dyn Stream>, _: Vec<u8>) {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let answer = format!("{head}3\r\nabc\r\n3\r\ndef\r\n3\r\nghi\r\n0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn chunks_that_arrive_together_are_all_forwarded() {
    let (gateway, _log) = gateway(&backend(send_small_chunks).await, &[]).await;
    let http2 = Http2::open(gateway.https).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/notes/a").await.body, "abcdefghi");
        let answer = http2.exchange(put("/notes/a").method("GET").body("").unwrap()).await;
        assert_eq!(answer.body, "abcdefghi");
    }
}

/// Reads the request and never responds.
async fn never_respond(mut stream: Box<dyn Stream>, mut read: Vec<u8>) {
    while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {}
}

/// Sends a response larger than the buffers between backend and client.
async fn send_large(mut stream: Box<dyn Stream>, _: Vec<u8>) {
    let large = 64 * 1024 * 1024;
    let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {large}\r\n\r\n").as_bytes()).await;
    let _ = stream.write_all(&vec![b'x'; large]).await;
}

/// Sends a part of a response.
async fn send_part(mut stream: Box<dyn Stream>, read: Vec<u8>) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234").await;
    never_respond(stream, read).await;
}

async fn assert_logged(log: &Log, requests: usize, status: u16, reason: &str) {
    until("the request is logged", async || log.lines().len() == requests).await;
    let line = log.lines().remove(requests - 1);
    assert_eq!((&line["status"], &line["reason"]), (&status.into(), &reason.into()), "{line}");
}

#[tokio::test]
async fn an_exceeded_deadline_is_logged_with_the_slow_peer() {
    const SHORT: (&str, &str) = ("UPSTREAM_REQUEST_TIMEOUT", "1");
    let post = |length: usize| request("POST", "/notes/a", &format!("Content-Length: {length}\r\n"));

    // Uploads that stall, and one that is sent slowly.
    let (stalling, log) = gateway(&backend(never_respond).await, &[("LISTENER_READ_TIMEOUT", "1")]).await;
    let mut connection = stalling.connect().await;
    connection.send(format!("{}x", post(10))).await;
    connection.answer("POST").await.assert_json(408, r#"{"error":"Request Timeout"}"#);
    assert_logged(&log, 1, 408, "client_slow").await;
    let client = Http2::open(stalling.https).await;
    let (answer, mut stream) = client.begin(put("/notes/a").body(()).unwrap(), false).await.unwrap();
    stream.send_data(Bytes::from_static(b"x"), false).unwrap();
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().status(), 408);
    assert_logged(&log, 2, 408, "client_slow").await;
    let (dripping, log) = gateway(&backend(never_respond).await, &[SHORT]).await;
    let mut connection = dripping.connect().await;
    connection.send(post(1000)).await;
    for _ in 0..20 {
        if connection.try_send("x").await.is_err() {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    connection.answer("POST").await.assert_json(408, r#"{"error":"Request Timeout"}"#);
    assert_logged(&log, 1, 408, "client_slow").await;

    // A backend that never responds, and one that stops within its response.
    let (silent, log) = gateway(&backend(never_respond).await, &[SHORT]).await;
    let answer = silent.connect().await.exchange(format!("{}x", post(1))).await;
    answer.assert_json(504, r#"{"error":"Gateway Timeout"}"#);
    assert_logged(&log, 1, 504, "upstream_slow").await;
    let (partial, log) = gateway(&backend(send_part).await, &[SHORT]).await;
    let mut connection = partial.connect().await;
    connection.send(request("GET", "/notes/a", "")).await;
    connection.read_until("01234").await;
    assert_logged(&log, 1, 200, "upstream_slow").await;

    // A client that does not read.
    let (large, log) = gateway(&backend(send_large).await, &[SHORT]).await;
    let mut connection = large.connect().await;
    connection.send(request("GET", "/notes/a", "")).await;
    assert_logged(&log, 1, 200, "client_slow").await;
    let client = Http2::open(large.https).await;
    let (answer, _stream) = client.begin(put("/notes/a").method("GET").body(()).unwrap(), true).await.unwrap();
    let _unread = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_logged(&log, 2, 200, "client_slow").await;
}
