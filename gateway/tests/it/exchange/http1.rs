//! HTTP/1.1 requests without a body.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{ROUTES, answer, assert_is_now, assert_part_arrives, chunks, dated, text};
use crate::support::backend::Backend;
use crate::support::backend::Step::{Wait, WaitFor, Write};
use crate::support::client::Connection;
use crate::support::{DAY, Gateway, admin, answer_of, get};

#[tokio::test]
async fn connection_close_is_honoured_in_any_spelling() {
    let (api, admin) = (Backend::start(|_| answer_of("good")).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    for lines in [
        "Connection: close\r\n",
        "Connection: CLOSE\r\n",
        "connection:close\r\n",
        "Connection: x, close\r\n",
        "Connection: keep-alive , Close ,x\r\n",
        "Connection: keep-alive\r\nConnection: close\r\n",
        "Connection: close\r\nConnection: keep-alive\r\n",
    ] {
        for path in ["/notes/1", "/nothing"] {
            let mut connection = gateway.connect().await;
            let answer = connection.exchange(get(path, lines)).await;
            assert_eq!(answer.value("connection"), "close", "{lines}");
            connection.assert_closed().await;
        }
    }
    let mut connection = gateway.connect().await;
    for lines in ["Connection: keep-alive\r\n", "Connection: closed\r\n", "Connection: x-close\r\n", ""] {
        let answer = connection.exchange(get("/notes/1", lines)).await;
        assert_eq!((answer.body.as_str(), answer.value("connection")), ("good", "keep-alive"), "{lines}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let api = Backend::start(|seen| {
        // Some responses take longer than those after them.
        let wait = if seen.target.ends_with('0') { vec![Wait(Duration::from_millis(100))] } else { Vec::new() };
        [wait, answer_of(&seen.target)].concat()
    });
    let (api, admin) = (api.await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let mut connection = gateway.connect().await;
    let paths: Vec<_> = (0..40).map(|number| format!("/notes/{number}")).collect();
    connection.send(paths.iter().map(|path| get(path, "")).collect::<String>()).await;
    for path in &paths {
        assert_eq!(&connection.answer("GET").await.body, path);
    }
    let seen: Vec<_> = api.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, paths);
}

#[tokio::test]
async fn each_response_has_one_date_from_the_gateway() {
    let (api, admin) = (Backend::start(dated).await, admin().await);
    for (settings, requests) in [([ROUTES], 2), ([("CACHE_MAX_BYTES", "67108864")], 1)] {
        api.forget();
        let gateway = Gateway::start_with(&api, &admin, &settings);
        let mut connection = gateway.connect().await;
        let path = if requests == 1 { DAY } else { "/notes/1" };
        for (path, status) in [(path, 200), (path, 200), ("/nothing", 404), ("//", 400)] {
            let answer = connection.exchange(get(path, "")).await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert_is_now(&answer);
        }
        assert_eq!(api.seen().len(), requests);
    }
}

#[tokio::test]
async fn chunks_of_any_size_arrive_complete() {
    let sizes = [1, 1023, 1, 1024, 1025, 2, 16_383, 16_384, 16_385, 5, 100_000, 1023, 1023, 7];
    let pieces: Vec<_> = sizes.into_iter().map(text).collect();
    let (whole, permits) = (pieces.concat(), Arc::new(Semaphore::new(0)));
    let (sent, paused) = (pieces.clone(), Arc::clone(&permits));
    let api = Backend::start(move |seen| {
        let pieces: Vec<_> = sent.iter().map(String::as_str).collect();
        if seen.target == "/notes/at-once" {
            return vec![answer("Transfer-Encoding: chunked\r\n", &format!("{}0\r\n\r\n", chunks(&pieces)))];
        }
        let mut steps = vec![answer("Transfer-Encoding: chunked\r\n", "")];
        for piece in pieces {
            steps.extend([Write(chunks(&[piece]).into_bytes()), WaitFor(Arc::clone(&paused))]);
        }
        steps.push(Write(b"0\r\n\r\n".to_vec()));
        steps
    });
    let (api, admin) = (api.await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let mut connection = gateway.connect().await;
    for _ in 0..2 {
        let answer = connection.exchange(get("/notes/at-once", "")).await;
        assert_eq!((answer.status, answer.value("transfer-encoding")), (200, "chunked"));
        assert!(answer.body == whole, "{} bytes", answer.body.len());
        // The backend sends each piece after the client has read the one before.
        connection.send(get("/notes/one-by-one", "")).await;
        let head = connection.read_until("\r\n\r\n").await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ") && head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
        for piece in &pieces {
            let read = read_chunks(&mut connection, piece.len()).await;
            assert!(read == piece.as_bytes(), "{} of {} bytes", read.len(), piece.len());
            permits.add_permits(1);
        }
        assert_eq!(connection.read_until("\r\n\r\n").await, "0\r\n\r\n");
    }
}

/// Reads chunks until their content has at least `length` bytes.
async fn read_chunks(connection: &mut Connection, length: usize) -> Vec<u8> {
    let mut content = Vec::new();
    while content.len() < length {
        let size = connection.read_until("\r\n").await;
        content.extend(connection.read_bytes(usize::from_str_radix(size.trim_end(), 16).unwrap()).await);
        assert_eq!(connection.read_until("\r\n").await, "\r\n");
    }
    content
}

#[tokio::test]
async fn a_part_that_fills_the_socket_buffers_arrives_before_the_rest() {
    assert_part_arrives(|path| get(path, "")).await;
}
