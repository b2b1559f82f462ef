//! Abuse of HTTP/2 at the level of frames: its cost is bounded, the connection ends, and other clients are served.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;

use crate::support::backend::Backend;
use crate::support::backend::Step::Hang;
use crate::support::client::PATIENCE;
use crate::support::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, receive_frame, request_block,
};
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, answer_of, api, until};

/// The number of bytes after which a connection without a request is closed.
const MEBIBYTE: usize = 1024 * 1024;

/// The maximum number of bytes in the socket buffers of both peers.
const IN_FLIGHT: usize = 12 * MEBIBYTE;

/// The fields of a request with a valid token.
fn fields(authorization: &str) -> Vec<u8> {
    request_block("GET", DAY, authorization)
}

fn authorization() -> String {
    format!("JWT {}", token("user01"))
}

/// The ID of a client's `n`-th stream, counted from 0.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

/// The number of connections closed for this reason.
async fn reaped(gateway: &Gateway, reason: &str) -> Option<f64> {
    gateway.metric(&format!(r#"gateway_connections_reaped_total{{reason="{reason}"}}"#)).await
}

/// Asserts that a well-behaved client is served, and that no request or connection remains.
async fn assert_idle_and_serving(gateway: &Gateway) {
    assert_eq!(gateway.get(DAY).await.status, 200);
    until("all requests have ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
    until("all connections have ended", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mebibyte_of_frames_without_a_request_ends_the_connection() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let rows: [(&str, Vec<u8>); 4] = [
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 3, 16])),
        ("an unknown type", frame(0x77, 0, 0, &[0; 64])),
    ];
    for (index, (kind, one)) in rows.iter().enumerate() {
        let mut client = Frames::open(gateway.https, &[]).await;
        let many = one.repeat(1000);
        let sent = client.flood(u32::MAX, |_| many.clone()).await;
        assert!((MEBIBYTE..MEBIBYTE + IN_FLIGHT).contains(&sent), "{kind}: {sent} bytes");
        client.ended().await;
        until(kind, async || reaped(&gateway, "flood").await == Some((index + 1) as f64)).await;
    }
    assert!(api.seen().is_empty());
    assert_idle_and_serving(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_without_a_request_do_not_extend_the_idle_timeout() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_KEEPALIVE_TIMEOUT", "0.5")]);
    let authorization = authorization();
    let half = frame(HEADERS, END_STREAM, 1, &fields(&authorization));
    let rows: [(&str, &[u8], Vec<u8>); 4] = [
        ("nothing", &[], Vec::new()),
        ("PING", &[], frame(PING, 0, 0, &[7; 8])),
        ("SETTINGS", &[], frame(SETTINGS, 0, 0, &[])),
        // A complete request without END_HEADERS.
        ("CONTINUATION", &half, frame(CONTINUATION, 0, 1, &[])),
    ];
    for (index, (kind, first, again)) in rows.iter().enumerate() {
        let mut client = Frames::open(gateway.https, &[]).await;
        let began = Instant::now();
        assert!(client.send(first).await);
        // Sent slowly enough to stay below the rate limits.
        while began.elapsed() < Duration::from_millis(400) {
            assert!(client.send(again).await, "{kind}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let received = client.ended().await;
        assert!((Duration::from_millis(450)..PATIENCE / 2).contains(&began.elapsed()), "{kind}: {:?}", began.elapsed());
        assert_eq!(received.count(HEADERS), 0);
        assert_eq!(received.goaway_code(), Some(0), "{kind}");
        until(kind, async || reaped(&gateway, "keepalive_timeout").await == Some((index + 1) as f64)).await;
    }
    assert!(api.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_restarts_the_idle_timeout() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_KEEPALIVE_TIMEOUT", "0.8")]);
    let mut client = Frames::open(gateway.https, &[]).await;
    let (began, fields) = (Instant::now(), fields(&authorization()));
    for n in 0..4 {
        assert!(client.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &fields)).await);
        until("the backend has the request", async || api.seen().len() == n as usize + 1).await;
        // The connection is idle for half the timeout.
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let received = client.ended().await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(received.count(HEADERS), 4);
    assert_eq!((received.goaway_code(), received.last_stream()), (Some(0), Some(stream(3))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_continuation_flood_ends_the_connection() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let one_field = block(&[("x-more", &"a".repeat(1000))]);
    // CVE-2024-27316 and similar: endless fields, and frames without fields.
    for piece in [one_field, Vec::new(), vec![0x20]] {
        let mut client = Frames::open(gateway.https, &[]).await;
        assert!(client.send(&frame(HEADERS, 0, 1, &fields(&authorization()))).await);
        let sent = client.flood(u32::MAX, |_| frame(CONTINUATION, 0, 1, &piece).repeat(10)).await;
        assert!(sent < IN_FLIGHT, "{sent}");
        let received = client.ended().await;
        assert!(received.goaway_code().is_none_or(|reason| reason != 0), "{:?}", received.goaway_code());
    }
    assert!(api.seen().is_empty());
    assert_idle_and_serving(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hpack_bomb_is_not_expanded() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    // One entry of 3 KB in the dynamic table, followed by one-byte references to it.
    let mut bomb = fields(&authorization());
    bomb.push(0x40);
    bomb.extend(crate::support::h2::text("x-bomb"));
    bomb.extend(crate::support::h2::text(&"b".repeat(3000)));
    bomb.extend(vec![0x80 | 62; 12_000]);
    let mut client = Frames::open(gateway.https, &[]).await;
    for n in 0..20 {
        if !client.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &bomb)).await {
            break;
        }
    }
    assert_serving(&gateway).await;
    assert_eq!(api.seen().len(), 1, "only the request of the other client");
    drop(client);
    assert_idle_and_serving(&gateway).await;
}

/// [`assert_idle_and_serving`] while a connection may still be open.
async fn assert_serving(gateway: &Gateway) {
    assert_eq!(gateway.get(DAY).await.status, 200);
    until("all requests have ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_are_limited() {
    // The backend never responds, so that only the reset ends a request.
    let hanging = Backend::start(|_| vec![Hang]).await;
    let admin = admin().await;
    let gateway = Gateway::start(&hanging, &admin);
    let fields = fields(&authorization());
    let mut client = Frames::open(gateway.https, &[]).await;
    let pair = |n| {
        let reset = frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes());
        [frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &fields), reset].concat()
    };
    // CVE-2023-44487: many pairs in each write.
    let many = |n: u32| (0..100).flat_map(|k| pair(100 * n + k)).collect::<Vec<_>>();
    client.flood(100, many).await;
    let received = client.ended().await;
    assert_eq!(received.goaway_code(), Some(ENHANCE_YOUR_CALM));
    // The requests of a disconnected client end.
    until("all requests have ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
    assert!(hanging.seen().len() <= 200, "{} requests", hanging.seen().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_provoked_by_the_client_are_limited() {
    let hanging = Backend::start(|_| vec![Hang]).await;
    let admin = admin().await;
    let gateway = Gateway::start(&hanging, &admin);
    let fields = fields(&authorization());
    let mut client = Frames::open(gateway.https, &[]).await;
    // CVE-2025-8671 (MadeYouReset): a window that is too large is a stream error.
    let pair = |n| {
        let too_large = frame(WINDOW_UPDATE, 0, stream(n), &0x7fff_ffff_u32.to_be_bytes());
        [frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &fields), too_large].concat()
    };
    client.flood(10_000, pair).await;
    let received = client.ended().await;
    assert_eq!(received.goaway_code(), Some(ENHANCE_YOUR_CALM));
    assert!(received.count(RST_STREAM) <= 40, "{} resets", received.count(RST_STREAM));
    until("all requests have ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
    assert!(hanging.seen().len() <= 100, "{} requests", hanging.seen().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_without_a_window_is_reset_after_the_write_timeout() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_WRITE_TIMEOUT", "0.5")]);
    // SETTINGS_INITIAL_WINDOW_SIZE is 0: the head of the response can be sent, but none of its body.
    let mut stream = Frames::connect(gateway.https, &[(4, 0)]).await;
    let began = Instant::now();
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&authorization()))).await.unwrap();
    stream.flush().await.unwrap();
    let reset = async {
        while let Some(frame) = receive_frame(&mut stream).await {
            if frame.kind == RST_STREAM {
                return;
            }
        }
        panic!("the connection ended");
    };
    tokio::time::timeout(PATIENCE, reset).await.expect("the stream stays open");
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_serving(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_is_not_read_ends_the_connection() {
    let large = Backend::start(|_| answer_of(&"x".repeat(32 * MEBIBYTE))).await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&large, &admin, &[("LISTENER_WRITE_TIMEOUT", "0.5")]);
    // The maximum window, and a client that does not read.
    let mut stream = Frames::connect(gateway.https, &[(4, 0x7fff_ffff)]).await;
    let window = frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&authorization()));
    stream.write_all(&[window, request].concat()).await.unwrap();
    stream.flush().await.unwrap();
    until("the backend has the request", async || !large.seen().is_empty()).await;
    until("the request has ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
    until("the connection has ended", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_arrive_in_time_is_408() {
    let (api, admin) = (api().await, admin().await);
    let settings = [
        ("LOGIN_BODY_TIMEOUT", "0.4"),
        ("LISTENER_READ_TIMEOUT", "0.4"),
        ("ROUTE", "[{ methods = ['PUT'], path = '/holodules/{day}' }]"),
    ];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let authorization = authorization();
    for (method, path) in [("POST", "/auth"), ("PUT", DAY)] {
        let mut client = Frames::connect(gateway.https, &[]).await;
        let began = Instant::now();
        let fields = block(&[
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
            ("authorization", &authorization),
            ("content-type", "application/json"),
            ("content-length", "100"),
        ]);
        client.write_all(&frame(HEADERS, END_HEADERS, 1, &fields)).await.unwrap();
        client.write_all(&frame(0, 0, 1, b"{\"username\":")).await.unwrap();
        client.flush().await.unwrap();
        let answered = async {
            while let Some(frame) = receive_frame(&mut client).await {
                if frame.kind == HEADERS {
                    return frame.payload[0];
                }
            }
            panic!("the connection ended");
        };
        let status = tokio::time::timeout(PATIENCE, answered).await.expect("the stream stays open");
        // 408: a literal with the name of entry 8 (RFC 7541, appendix A).
        assert_eq!(status, 0x48, "{path}");
        assert!((Duration::from_millis(300)..PATIENCE / 4).contains(&began.elapsed()), "{path}: {:?}", began.elapsed());
        until("the request has ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
    }
    assert!(admin.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_without_content_are_limited_during_a_request() {
    let (hanging, admin) = (Backend::start(|_| vec![Hang]).await, admin().await);
    let gateway = Gateway::start(&hanging, &admin);
    let floods = [
        ("PING", frame(PING, 0, 0, b"torture!")),
        ("PING with ACK", frame(PING, 1, 0, b"torture!")),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("an unknown type", frame(0xfe, 0, 0, b"")),
    ];
    for (index, (kind, flood)) in floods.into_iter().enumerate() {
        let mut client = Frames::open(gateway.https, &[]).await;
        let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&authorization()));
        assert!(client.send(&request).await);
        until("the backend has the request", async || hanging.seen().len() == index + 1).await;
        // A small number is within the limit.
        assert!(client.send(&flood.repeat(500)).await, "{kind}");
        assert_eq!(reaped(&gateway, "flood").await, Some(index as f64), "{kind}");
        client.flood(1000, |_| flood.repeat(100)).await;
        let received = client.ended().await;
        assert_eq!(received.goaway_code(), Some(ENHANCE_YOUR_CALM), "{kind}");
        assert!(received.count(PING) <= 20_000 && received.count(SETTINGS) <= 20_000, "{kind}");
        until(kind, async || reaped(&gateway, "flood").await == Some((index + 1) as f64)).await;
        until("the request to the backend has ended", async || hanging.abandoned() == index + 1).await;
    }
}
