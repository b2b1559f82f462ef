//! Graceful shutdown: requests complete, no connection is accepted, what has no end of its own is ended, and `run` returns.

mod goaway;
mod spread;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::support::backend::Step::{Hang, Wait, WaitFor};
use crate::support::backend::{self, Backend};
use crate::support::client::Connection;
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{DAY, DAY_BODY, Gateway, admin, api, get, request, serve_day, until};

#[tokio::test]
async fn an_active_request_completes_and_no_new_connection_is_accepted() {
    let received = Arc::new(AtomicBool::new(false));
    let seen_by_api = Arc::clone(&received);
    let permits = Arc::new(Semaphore::new(0));
    let paused = Arc::clone(&permits);
    let api = Backend::start(move |seen| {
        seen_by_api.store(true, Ordering::SeqCst);
        [vec![WaitFor(Arc::clone(&paused))], serve_day(seen)].concat()
    })
    .await;
    let admin = admin().await;
    let mut gateway = Gateway::start_with(&api, &admin, &[("DRAIN_TIMEOUT", "60")]);
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    until("the backend has the request", async || received.load(Ordering::SeqCst)).await;
    gateway.stop();
    until("no connection is accepted", async || Connection::open(gateway.https).await.is_err()).await;
    assert!(!gateway.has_ended(), "a request is active");
    permits.add_permits(1);
    let answer = connection.answer("GET").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY));
    connection.assert_closed().await;
    until("run returns", async || gateway.has_ended()).await;
}

#[tokio::test]
async fn connections_that_wait_for_a_request_serve_one_more() {
    let (api, admin) = (api().await, admin().await);
    let route = ("ROUTE", "[{methods = ['GET', 'POST'], path = '/holodules/{day}'}]");
    let post = format!("{}x=1", request("POST", DAY, "Content-Length: 3\r\n"));
    for request in [get(DAY, ""), post] {
        let mut gateway = Gateway::start_with(&api, &admin, &[route, ("DRAIN_TIMEOUT", "60")]);
        let mut used = gateway.connect().await;
        assert_eq!(used.exchange(get(DAY, "")).await.value("connection"), "keep-alive");
        let unused = gateway.connect().await;
        gateway.stop();
        until("no connection is accepted", async || Connection::open(gateway.https).await.is_err()).await;
        for mut connection in [used, unused] {
            connection.send(&request).await;
            let answer = connection.answer("GET").await;
            assert_eq!((answer.status, answer.body.as_str(), answer.value("connection")), (200, DAY_BODY, "close"));
            connection.assert_closed().await;
        }
        until("run returns", async || gateway.has_ended()).await;
    }
}

#[tokio::test]
async fn connections_without_a_further_request_end_with_their_timeout_or_the_window() {
    let settings = [
        [("LISTENER_KEEPALIVE_TIMEOUT", "0.5"), ("LISTENER_HEADER_TIMEOUT", "0.5"), ("DRAIN_TIMEOUT", "60")],
        [("LISTENER_KEEPALIVE_TIMEOUT", "60"), ("LISTENER_HEADER_TIMEOUT", "60"), ("DRAIN_TIMEOUT", "1")],
    ];
    for settings in settings {
        let (api, admin) = (api().await, admin().await);
        let mut gateway = Gateway::start_with(&api, &admin, &settings);
        let mut used = gateway.connect().await;
        assert_eq!(used.exchange(get(DAY, "")).await.status, 200);
        let mut unused = gateway.connect().await;
        gateway.stop();
        assert_eq!(used.read_to_close_notify().await.unwrap(), b"");
        assert_eq!(unused.read_to_close_notify().await.unwrap(), b"");
        until("run returns", async || gateway.has_ended()).await;
    }
}

#[tokio::test]
async fn requests_still_active_at_the_drain_timeout_are_aborted() {
    let (api, admin) = (Backend::start(|_| vec![Hang]).await, admin().await);
    let mut gateway = Gateway::start_with(&api, &admin, &[("DRAIN_TIMEOUT", "1")]);
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    until("the backend has the request", async || !api.seen().is_empty()).await;
    let began = Instant::now();
    gateway.stop();
    until("run returns", async || gateway.has_ended()).await;
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&began.elapsed()), "{:?}", began.elapsed());
    connection.assert_closed().await;
}

#[tokio::test]
async fn the_last_response_has_connection_close() {
    let api = Backend::start(|seen| [vec![Wait(Duration::from_secs(1))], serve_day(seen)].concat()).await;
    let admin = admin().await;
    let route = ("ROUTE", "[{methods = ['GET', 'POST'], path = '/holodules/{day}'}]");
    let mut gateway = Gateway::start_with(&api, &admin, &[route]);
    let mut connections = [gateway.connect().await, gateway.connect().await];
    let post = format!("{}x=1", request("POST", DAY, "Content-Length: 3\r\n"));
    for (connection, request) in connections.iter_mut().zip([get(DAY, ""), post]) {
        connection.send(request).await;
    }
    until("the backend has the requests", async || api.seen().len() == 2).await;
    gateway.stop();
    for connection in &mut connections {
        let answer = connection.answer("GET").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY));
        assert_eq!(answer.value("connection"), "close");
        connection.assert_closed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_aborted_at_the_drain_timeout_are_logged() {
    let (api, admin) = (Backend::start(|_| vec![Hang]).await, admin().await);
    let route = ("ROUTE", "[{methods = ['GET', 'POST'], path = '/holodules/{day}'}]");
    let (mut gateway, log) = Gateway::start_logged(&api, &admin, &[route, ("DRAIN_TIMEOUT", "1")]);
    let mut connections = [gateway.connect().await, gateway.connect().await];
    let post = format!("{}x=1", request("POST", DAY, "Content-Length: 3\r\n"));
    for (connection, request) in connections.iter_mut().zip([get(DAY, ""), post]) {
        connection.send(request).await;
    }
    let client = Http2::open(gateway.https).await;
    let authorization = format!("JWT {}", token("user01"));
    let request = http::Request::get(format!("https://localhost{DAY}")).header("authorization", authorization);
    let request = request.body(()).unwrap();
    let (_answer, _stream) = client.begin(request, true).await.unwrap();
    until("the backend has the requests", async || api.seen().len() == 3).await;
    gateway.stop();
    until("run returns", async || gateway.has_ended()).await;
    until("the lines are written", async || log.lines().len() >= 3).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let is_cut = |line: &serde_json::Value| {
        line["reason"] == "drain" && line["status"] == 0 && line["total_ms"].as_f64().unwrap() >= 900.0
    };
    assert!(lines.iter().all(is_cut), "{lines:?}");
}

/// Sends `request` repeatedly without a pause, stops the gateway after some responses, and returns the total number of
/// responses. Fails unless the connection is closed in order after a response with `Connection: close`.
async fn pipeline_until_closed(gateway: &mut Gateway, request: &str) -> usize {
    let (first, second) = request.split_at(request.len() / 2);
    let mut connection = gateway.connect().await;
    // The received bytes always end within a request.
    connection.send(format!("{}{first}", request.repeat(10))).await;
    let block = format!("{second}{}{first}", request.repeat(9));
    let mut count = 0;
    loop {
        connection.send_until_closed(&block).await;
        for _ in 0..10 {
            let answer = connection.answer("GET").await;
            assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY));
            count += 1;
            if answer.value("connection") == "close" {
                assert_eq!(connection.read_to_close_notify().await.unwrap(), b"", "bytes after the last response");
                return count;
            }
        }
        if count == 20 {
            gateway.stop();
        }
    }
}

#[tokio::test]
async fn a_client_that_keeps_sending_does_not_delay_the_stop() {
    let routes = "[{name = 'cached', methods = ['GET'], path = '/holodules/{day}', shared = true}, \
                  {methods = ['GET', 'POST'], path = '/notes/{note}'}]";
    let post = format!("{}{}", request("POST", "/notes/1", "Content-Length: 3000\r\n"), "x".repeat(3000));
    let chunks = format!("bb8\r\n{}\r\n0\r\n\r\n", "x".repeat(3000));
    let chunked = format!("{}{chunks}", request("POST", "/notes/1", "Transfer-Encoding: chunked\r\n"));
    for (name, request, is_cached) in [
        ("cached", get(DAY, ""), true),
        ("proxied", get("/notes/1", ""), false),
        ("uploaded", post, false),
        ("chunked", chunked, false),
    ] {
        let fresh = backend::answer("200 OK", &[("Cache-Control", "public, s-maxage=600")], DAY_BODY);
        let (api, admin) = (Backend::start(move |_| fresh.clone()).await, admin().await);
        let settings = [
            ("ROUTE", routes),
            ("CACHE_MAX_BYTES", "67108864"),
            ("DRAIN_TIMEOUT", "20"),
            ("LIMIT_ADDRESS_RATE", "0"),
            ("LIMIT_IDENTITY_RATE", "0"),
        ];
        let mut gateway = Gateway::start_with(&api, &admin, &settings);
        let began = Instant::now();
        let answered = pipeline_until_closed(&mut gateway, &request).await;
        until("run returns", async || gateway.has_ended()).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{name}: {answered} responses in {:?}", began.elapsed());
        let expected = if is_cached { 1 } else { answered };
        assert_eq!(api.seen().len(), expected, "{name}: every request that the backend received was answered");
    }
}

#[tokio::test]
async fn every_request_received_before_the_stop_is_answered() {
    let received = Arc::new(AtomicBool::new(false));
    let seen_by_api = Arc::clone(&received);
    let api = Backend::start(move |seen| {
        let is_first = !seen_by_api.swap(true, Ordering::SeqCst);
        let wait = is_first.then_some(Wait(Duration::from_secs(1)));
        wait.into_iter().chain(serve_day(seen)).collect()
    })
    .await;
    let admin = admin().await;
    let route = ("ROUTE", "[{methods = ['GET', 'POST'], path = '/holodules/{day}'}]");
    let (get, post) = (get(DAY, ""), format!("{}x=1", request("POST", DAY, "Content-Length: 3\r\n")));
    for requests in [vec![&get; 40], [&get, &post, &post, &get].repeat(10), [&post, &get].repeat(20)] {
        received.store(false, Ordering::SeqCst);
        let mut gateway = Gateway::start_with(&api, &admin, &[route]);
        let mut connection = gateway.connect().await;
        let sent: String = requests.iter().map(|request| request.as_str()).collect();
        assert!((8 * 1024..16 * 1024).contains(&sent.len()), "one TLS record: {} bytes", sent.len());
        connection.send(sent).await;
        until("the backend has the first request", async || received.load(Ordering::SeqCst)).await;
        gateway.stop();
        until("no connection is accepted", async || Connection::open(gateway.https).await.is_err()).await;
        for left in (0..requests.len()).rev() {
            let answer = connection.answer("GET").await;
            assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY));
            assert_eq!(answer.value("connection"), if left == 0 { "close" } else { "keep-alive" }, "{left} left");
        }
        connection.assert_closed().await;
    }
}
