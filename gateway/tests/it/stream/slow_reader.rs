//! A client that reads slowly, or not at all: the gateway buffers little, and the stream still ends with the authority.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{ROUTES, Stream, head};
use crate::support::backend::{Backend, Seen, Step};
use crate::support::h2::Http2;
use crate::support::revocation::RevocationStub;
use crate::support::token::token;
use crate::support::{get, until, until_unchanged};

/// Far more than all buffers between the service and the client hold.
const PIECES: usize = 1024;
const PIECE_BYTES: usize = 64 * 1024;

/// A service that sends without a pause.
fn flood(_: &Seen) -> Vec<Step> {
    let chunk = format!("{PIECE_BYTES:x}\r\n{}\r\n", "x".repeat(PIECE_BYTES));
    let mut steps = vec![Step::Write(head("text/event-stream"))];
    steps.extend(vec![Step::Write(chunk.into_bytes()); PIECES]);
    steps.push(Step::Hang);
    steps
}

#[tokio::test]
async fn little_is_buffered_for_a_client_that_does_not_read_and_a_revocation_still_ends_the_stream() {
    let (stub, admin) = RevocationStub::start().await;
    let service = Backend::start(flood).await;
    let gateway = RevocationStub::gateway(&service, &admin, &[ROUTES]);
    gateway.ready().await;
    for is_http2 in [false, true] {
        stub.change("user01", json!({"active": true, "password_changed_at": null, "logged_out": []}));
        let before = service.written();
        let mut connection = gateway.connect().await;
        let mut stream = None;
        if is_http2 {
            stream =
                Some(Stream::over(Http2::open_with(gateway.https, 65_535).await, "/events", &token("user01")).await);
        } else {
            connection.send(get("/events", "")).await;
        }
        until_unchanged("the service cannot write", || service.written() - before).await;
        let buffered = service.written() - before;
        println!("HTTP/2: {is_http2}: {} KiB were taken from the service, mostly by sockets", buffered / 1024);
        assert!(buffered < PIECES * PIECE_BYTES / 4, "{buffered} bytes");
        let began = Instant::now();
        stub.change("user01", json!({"active": false, "password_changed_at": null, "logged_out": []}));
        until("the request has ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        drop((connection, stream));
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_receives_everything() {
    let admin = crate::support::admin().await;
    let service = Backend::start(|_| {
        let chunk = format!("{PIECE_BYTES:x}\r\n{}\r\n", "x".repeat(PIECE_BYTES));
        let mut steps = vec![Step::Write(head("text/event-stream"))];
        steps.extend(vec![Step::Write(chunk.into_bytes()); 20]);
        steps.push(Step::Write(b"0\r\n\r\n".to_vec()));
        steps
    })
    .await;
    let gateway = crate::support::Gateway::start_with(&service, &admin, &[ROUTES]);
    for codec in super::CODECS {
        let mut stream = Stream::open(codec, gateway.https, "/events", &token("user01")).await;
        let mut received = 0;
        while let Some(piece) = stream.next().await {
            received += piece.len();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(received, 20 * PIECE_BYTES, "{codec:?}");
    }
}
