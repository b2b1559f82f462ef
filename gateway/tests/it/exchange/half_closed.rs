//! Clients that end their sending side by a close_notify (RFC 8446, section 6.1) and wait for answers.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{ROUTES, answer, post, text};
use crate::support::backend::Backend;
use crate::support::backend::Step::{Hang, Wait};
use crate::support::client::{Connection, PATIENCE, handshake, tls};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, frame, receive_frame, request_block,
};
use crate::support::token::token;
use crate::support::{Gateway, admin, get, until};

/// So that the end has come before the answer.
const LATE: Duration = Duration::from_millis(200);

/// Fits the windows that a client grants without being asked (RFC 9113, section 6.9.2), twice.
const BODY_BYTES: usize = 30_000;

async fn backend(body: &str) -> Backend {
    let body = body.to_owned();
    Backend::start(move |seen| match seen.target.as_str() {
        "/notes/silent" => vec![Hang],
        _ => vec![Wait(LATE), answer(&format!("Content-Length: {BODY_BYTES}\r\n"), &body)],
    })
    .await
}

/// Ends the sending side, of TLS alone or of TCP as well.
async fn end(stream: &mut TlsStream<TcpStream>, with_fin: bool) {
    stream.get_mut().1.send_close_notify();
    stream.flush().await.unwrap();
    if with_fin {
        stream.get_mut().0.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_client_of_http_1_gets_its_answer_and_then_the_end() {
    let body = text(BODY_BYTES);
    let (api, admin) = (backend(&body).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    for with_fin in [false, true] {
        for request in [get("/notes/1", ""), post("/notes/1", "")] {
            let case = format!("{request}, with a FIN: {with_fin}");
            let mut stream = handshake(gateway.https, tls(rustls::ALL_VERSIONS, &["http/1.1"])).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            end(&mut stream, with_fin).await;
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
async fn a_client_of_http_2_gets_all_its_answers_and_then_the_end() {
    let body = text(BODY_BYTES);
    let (api, admin) = (backend(&body).await, admin().await);
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
        end(&mut client, with_fin).await;
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
async fn an_idle_connection_ends_at_once() {
    let (api, admin) = (backend("").await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let mut client = Frames::connect(gateway.https, &[]).await;
    end(&mut client, false).await;
    let all = async { while receive_frame(&mut client).await.is_some() {} };
    timeout(PATIENCE, all).await.expect("the connection stays open");
    until("it is closed", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_after_it_still_cancels() {
    let (api, admin) = (backend("").await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let request = request_block("GET", "/notes/silent", &format!("JWT {}", token("user01")));
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &request);
    for left in 1..=3 {
        let mut client = match left {
            1 | 2 => handshake(gateway.https, tls(rustls::ALL_VERSIONS, &["http/1.1"])).await.unwrap(),
            _ => Frames::connect(gateway.https, &[]).await,
        };
        let bytes = match left {
            1 => get("/notes/silent", "").into_bytes(),
            2 => post("/notes/silent", "").into_bytes(),
            _ => request.clone(),
        };
        client.write_all(&bytes).await.unwrap();
        end(&mut client, false).await;
        until("the backend is asked", async || api.seen().len() == left).await;
        assert_eq!(api.abandoned(), left - 1);
        client.get_mut().0.set_zero_linger().unwrap();
        drop(client);
        until("it is given up", async || api.abandoned() == left).await;
    }
}

/// Over 4 KiB of the next request are buffered while the first is answered; nothing reads on then, or
/// wakes the task by what the client does.
#[tokio::test]
async fn a_long_next_request_does_not_hold_the_first() {
    let body = text(BODY_BYTES);
    let (api, admin) = (backend(&body).await, admin().await);
    let settings = [ROUTES, ("UPSTREAM_REQUEST_TIMEOUT", "1"), ("UPSTREAM_READ_TIMEOUT", "1")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let next = get("/notes/2", &format!("X-Long: {}\r\n", "a".repeat(12_000)));
    for first in [get("/notes/1", ""), post("/notes/1", "")] {
        let mut connection = gateway.connect().await;
        connection.send(format!("{first}{next}")).await;
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
