//! Concurrent uploads on one HTTP/2 connection: one that waits for the backend does not block the others, frames may
//! be of any size, and refused uploads do not affect the others.

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::support::client::PATIENCE;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM, frame, receive_frame, request_block,
};
use crate::support::h2::{Http2, read};
use crate::support::token::token;
use crate::upload::{Stream, backend, gateway, put};

/// More than all buffers between client and backend hold, in bytes.
const LARGE: usize = 32 * 1024 * 1024;

/// The status 200 in a field block (RFC 7541, appendix A: entry 8).
const OK: u8 = 0x88;

/// The next frame, which is not a GOAWAY.
async fn next(client: &mut (impl AsyncRead + Unpin)) -> Frame {
    let received = timeout(PATIENCE, receive_frame(client)).await.expect("no frame").expect("the connection ended");
    assert_ne!(received.kind, GOAWAY, "{received:?}");
    received
}

/// The field block of the next response.
async fn next_head(client: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    loop {
        let received = next(client).await;
        if received.kind == HEADERS {
            return received.payload;
        }
    }
}

/// Reads an upload of `x` to its end and responds with 200, refuses one of `r` at its beginning, and stops reading one
/// of `s` after its beginning.
async fn read_refuse_or_stall(mut stream: Box<dyn Stream>, mut read: Vec<u8>) {
    while !read.contains(&b'x') {
        if read.contains(&b's') {
            return std::future::pending().await;
        }
        if read.contains(&b'r') {
            let refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return stream.write_all(refusal).await.unwrap();
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    while !read.ends_with(b"\r\n0\r\n\r\n") {
        read.drain(..read.len().saturating_sub(7));
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_the_backend_does_not_read_does_not_block_others() {
    let (gateway, _log) = gateway(&backend(read_refuse_or_stall).await, &[]).await;
    let client = Http2::open(gateway.https).await;
    let begin = async |byte: u8| {
        let (answer, mut stream) = client.begin(put("/notes/a").body(()).unwrap(), false).await.unwrap();
        stream.send_data(Bytes::from(vec![byte; LARGE]), true).unwrap();
        (answer, stream)
    };
    let stalled = join_all((0..3).map(|_| begin(b's'))).await;
    for _ in 0..2 {
        let (answer, _stream) = begin(b'x').await;
        let answer = timeout(PATIENCE, answer).await.expect("the upload is blocked").unwrap();
        let answer = read(answer).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_many_small_frames_are_served() {
    let (gateway, _log) = gateway(&backend(read_refuse_or_stall).await, &[]).await;
    let fields = request_block("PUT", "/notes/a", &format!("JWT {}", token("user01")));
    for (streams, pieces, size) in [(1, 1000, 1), (60, 4, 30), (100, 9, 8)] {
        let mut client = Frames::connect(gateway.https, &[]).await;
        let ids = || (0..streams).map(|place| 2 * place + 1);
        let heads: Vec<u8> = ids().flat_map(|id| frame(HEADERS, END_HEADERS, id, &fields)).collect();
        let data = |id| frame(DATA, 0, id, &vec![b'x'; size]);
        let ends = ids().flat_map(|id| frame(DATA, END_STREAM, id, b""));
        // Sent together, so that the gateway reads many frames at once.
        let bodies: Vec<u8> = (0..pieces).flat_map(|_| ids().flat_map(data)).chain(ends).collect();
        client.write_all(&heads).await.unwrap();
        client.write_all(&bodies).await.unwrap();
        client.flush().await.unwrap();
        for _ in 0..streams {
            let answer = next_head(&mut client).await;
            assert_eq!(answer[0], OK, "{streams} streams of {pieces} frames: {answer:x?}");
        }
    }
}

/// RFC 9113, section 5.1: frames that a client sent before it received a reset are ignored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_crosses_resets_does_not_fail_other_requests() {
    /// All but one are refused uploads.
    const STREAMS: u32 = 100;
    let (gateway, _log) = gateway(&backend(read_refuse_or_stall).await, &[]).await;
    let fields = request_block("PUT", "/notes/a", &format!("JWT {}", token("user01")));
    let mut client = Frames::connect(gateway.https, &[]).await;
    let refused = || (1..STREAMS).map(|place| 2 * place + 1);
    let begin = |id, data: &[u8]| [frame(HEADERS, END_HEADERS, id, &fields), frame(DATA, 0, id, data)].concat();
    client.write_all(&begin(1, b"x")).await.unwrap();
    client.write_all(&refused().flat_map(|id| begin(id, b"r")).collect::<Vec<_>>()).await.unwrap();
    client.flush().await.unwrap();
    let (mut answers, mut resets) = (0, 0);
    while (answers, resets) != (STREAMS - 1, STREAMS - 1) {
        match next(&mut client).await.kind {
            HEADERS => answers += 1,
            RST_STREAM => resets += 1,
            _ => {}
        }
    }
    let crossing = refused().flat_map(|id| frame(DATA, 0, id, b"more"));
    client.write_all(&crossing.chain(frame(DATA, END_STREAM, 1, b"x")).collect::<Vec<_>>()).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(next_head(&mut client).await[0], OK);
}
