//! Clients that close their sending direction with a close_notify (RFC 8446, section 6.1) and wait for responses.

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{ROUTES, answer, post, text};
use crate::support::backend::Backend;
use crate::support::backend::Step::{Hang, WaitFor};
use crate::support::client::{Connection, PATIENCE, handshake, tls};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, frame, receive_frame, request_block,
};
use crate::support::token::token;
use crate::support::{Gateway, admin, get, until};

/// Two of these fit the default window (RFC 9113, section 6.9.2).
const BODY_BYTES: usize = 30_000;

/// A backend that needs a permit for each response. For `/notes/silent`, it does not respond.
async fn backend(body: &str) -> (Backend, Arc<Semaphore>) {
    let (body, permits) = (body.to_owned(), Arc::new(Semaphore::new(0)));
    let paused = Arc::clone(&permits);
    let backend = Backend::start(move |seen| match seen.target.as_str() {
        "/notes/silent" => vec![Hang],
        _ => vec![WaitFor(Arc::clone(&paused)), answer(&format!("Content-Length: {BODY_BYTES}\r\n"), &body)],
    });
    (backend.await, permits)
}

/// Closes the sending direction, of TLS only or of TCP too.
pub async fn close_sending(stream: &mut TlsStream<TcpStream>, with_fin: bool) {
    stream.get_mut().1.send_close_notify();
    stream.flush().await.unwrap();
    if with_fin {
        stream.get_mut().0.shutdown().await.unwrap();
    }
}

/// Waits until the gateway has read everything from this client's connection, by the queues in the kernel's table of
/// sockets.
async fn until_read(gateway: &Gateway, stream: &TlsStream<TcpStream>) {
    let ports = [stream.get_ref().0.local_addr().unwrap().port(), gateway.https.port()];
    let number = |hex: &str| u32::from_str_radix(hex, 16).unwrap();
    let port = |address: &str| address.split_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    until("the gateway has read everything", async || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let (mut is_delivered, mut is_read) = (false, false);
        for line in table.lines() {
            let [_, local, remote, _, queues, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
            let (Some(local), Some(remote)) = (port(local), port(remote)) else { continue };
            let (sent, received) = queues.split_once(':').unwrap();
            is_delivered |= [local, remote] == ports && number(sent) == 0;
            // The FIN is in the queue until the end is read.
            is_read |= [remote, local] == ports && number(received) <= 1;
        }
        is_delivered && is_read
    })
    .await;
}

#[tokio::test]
async fn an_http_1_client_gets_its_response_and_a_close_notify() {
    let body = text(BODY_BYTES);
    let ((api, permits), admin) = (backend(&body).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    for with_fin in [false, true] {
        for request in [get("/notes/1", ""), post("/notes/1", "")] {
            let case = format!("{request}, with a FIN: {with_fin}");
            let mut stream = handshake(gateway.https, tls(rustls::ALL_VERSIONS, &["http/1.1"])).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            close_sending(&mut stream, with_fin).await;
            until_read(&gateway, &stream).await;
            permits.add_permits(1);
            let mut connection = Connection::over(stream);
            let answer = connection.answer("GET").await;
            assert_eq!(answer.status, 200, "{case}");
            assert!(answer.body == body, "{case}");
            assert_eq!(answer.value("connection"), "close", "{case}");
            assert_eq!(connection.read_to_close_notify().await.unwrap(), b"", "{case}");
        }
    }
    assert_eq!(gateway.metric("gateway_requests_in_flight").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_2_client_gets_all_its_responses_and_the_end_of_the_connection() {
    let body = text(BODY_BYTES);
    let ((api, permits), admin) = (backend(&body).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let authorization = format!("JWT {}", token("user01"));
    for with_fin in [false, true] {
        let mut client = Frames::connect(gateway.https, &[]).await;
        let fields = |method| request_block(method, "/notes/1", &authorization);
        let requests = [
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields("GET")),
            frame(HEADERS, END_HEADERS, 3, &fields("PUT")),
            frame(DATA, END_STREAM, 3, b"x=1"),
        ];
        client.write_all(&requests.concat()).await.unwrap();
        close_sending(&mut client, with_fin).await;
        until_read(&gateway, &client).await;
        permits.add_permits(2);
        let (mut received, mut ended) = (0, 0);
        let all = async {
            while let Some(frame) = receive_frame(&mut client).await {
                assert_ne!(frame.kind, RST_STREAM);
                if frame.kind == DATA {
                    received += frame.payload.len();
                    ended += usize::from(frame.flags & END_STREAM != 0);
                }
            }
        };
        timeout(PATIENCE, all).await.expect("the connection stays open");
        assert_eq!((received, ended), (2 * BODY_BYTES, 2), "with a FIN: {with_fin}");
    }
    assert_eq!(gateway.metric("gateway_requests_in_flight").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed_at_once() {
    let ((api, _permits), admin) = (backend("").await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let mut client = Frames::connect(gateway.https, &[]).await;
    close_sending(&mut client, false).await;
    let all = async { while receive_frame(&mut client).await.is_some() {} };
    timeout(PATIENCE, all).await.expect("the connection stays open");
    until("the connection is closed", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_after_the_close_notify_cancels_the_request() {
    let ((api, _permits), admin) = (backend("").await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let request = request_block("GET", "/notes/silent", &format!("JWT {}", token("user01")));
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &request);
    for count in 1..=3 {
        let mut client = match count {
            1 | 2 => handshake(gateway.https, tls(rustls::ALL_VERSIONS, &["http/1.1"])).await.unwrap(),
            _ => Frames::connect(gateway.https, &[]).await,
        };
        let bytes = match count {
            1 => get("/notes/silent", "").into_bytes(),
            2 => post("/notes/silent", "").into_bytes(),
            _ => request.clone(),
        };
        client.write_all(&bytes).await.unwrap();
        close_sending(&mut client, false).await;
        until("the backend has the request", async || api.seen().len() == count).await;
        assert_eq!(api.abandoned(), count - 1);
        client.get_mut().0.set_zero_linger().unwrap();
        drop(client);
        until("the request is cancelled", async || api.abandoned() == count).await;
    }
}

/// More than 4 KiB of the next request are buffered during the first. The gateway then stops reading from the client,
/// so that no event of the client wakes the task.
#[tokio::test]
async fn a_long_next_request_does_not_delay_the_first() {
    let body = text(BODY_BYTES);
    let ((api, permits), admin) = (backend(&body).await, admin().await);
    let settings = [ROUTES, ("UPSTREAM_REQUEST_TIMEOUT", "1"), ("UPSTREAM_READ_TIMEOUT", "1")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let next = get("/notes/2", &format!("X-Long: {}\r\n", "a".repeat(12_000)));
    for first in [get("/notes/1", ""), post("/notes/1", "")] {
        let mut connection = gateway.connect().await;
        connection.send(format!("{first}{next}")).await;
        until("the backend has the request", async || !api.seen().is_empty()).await;
        api.forget();
        permits.add_permits(2);
        for _ in 0..2 {
            assert!(connection.answer("GET").await.body == body);
        }
    }
    for first in [get("/notes/silent", ""), post("/notes/silent", "")] {
        let mut connection = gateway.connect().await;
        connection.send(format!("{first}{next}")).await;
        assert_eq!(connection.answer("GET").await.status, 504);
    }
}
