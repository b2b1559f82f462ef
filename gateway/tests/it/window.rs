//! Uploads beside each other on one HTTP/2 connection: one that waits for the backend holds up no other.

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::support::client::PATIENCE;
use crate::support::h2::{Http2, read};
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
