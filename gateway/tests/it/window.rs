//! Uploads beside each other on one HTTP/2 connection: one that waits for the backend holds up no other, and clients
//! may write as little at a time as they like.

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::support::client::PATIENCE;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, frame, receive_frame, request_block,
};
use crate::support::h2::{Http2, read};
use crate::support::token::token;
use crate::upload::{Stream, backend, gateway, put};

/// More than all buffers on the way to the backend hold, in bytes.
const LARGE: usize = 32 * 1024 * 1024;

/// Reads an upload of `x` to its end and answers; of any other it reads no more than the beginning.
async fn take_or_stall(mut stream: Box<dyn Stream>, mut read: Vec<u8>) {
    while !read.contains(&b'x') {
        if read.contains(&b's') {
            return std::future::pending().await;
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
async fn an_upload_that_the_backend_does_not_take_holds_up_no_other() {
    let (gateway, _log) = gateway(&backend(take_or_stall).await, &[]).await;
    let client = Http2::open(gateway.https).await;
    let begin = async |byte: u8| {
        let (answer, mut stream) = client.begin(put("/notes/a").body(()).unwrap(), false).await.unwrap();
        stream.send_data(Bytes::from(vec![byte; LARGE]), true).unwrap();
        answer
    };
    let stalled = join_all((0..3).map(|_| begin(b's'))).await;
    for _ in 0..2 {
        let answer = timeout(PATIENCE, begin(b'x').await).await.expect("the upload is held up").unwrap();
        let answer = read(answer).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_many_small_frames_are_served() {
    let (gateway, _log) = gateway(&backend(take_or_stall).await, &[]).await;
    let fields = request_block("PUT", "/notes/a", &format!("JWT {}", token("user01")));
    for (streams, pieces, size) in [(1, 1000, 1), (60, 4, 30), (100, 9, 8)] {
        let mut client = Frames::connect(gateway.https, &[]).await;
        let ids = || (0..streams).map(|place| 2 * place + 1);
        let heads: Vec<u8> = ids().flat_map(|id| frame(HEADERS, END_HEADERS, id, &fields)).collect();
        let data = |id| frame(DATA, 0, id, &vec![b'x'; size]);
        let ends = ids().flat_map(|id| frame(DATA, END_STREAM, id, b""));
        // In as few reads as possible, so that the frames wait for each other.
        let bodies: Vec<u8> = (0..pieces).flat_map(|_| ids().flat_map(data)).chain(ends).collect();
        client.write_all(&heads).await.unwrap();
        client.write_all(&bodies).await.unwrap();
        client.flush().await.unwrap();
        let answered = async {
            let mut answers = 0;
            while answers < streams {
                let received = receive_frame(&mut client).await.expect("the connection ended");
                assert_ne!(received.kind, GOAWAY, "{streams} streams of {pieces} frames: {received:?}");
                if received.kind == HEADERS {
                    // RFC 7541, appendix A: entry 8.
                    assert_eq!(received.payload[0], 0x88, "{received:x?}");
                    answers += 1;
                }
            }
        };
        timeout(PATIENCE, answered).await.expect("no answer");
    }
}
