//! `timeout` of a route: each replaces that of the upstream, and none charges one side for the other's slowness.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use super::{Routed, cacheable};
use crate::support::backend::Step::{Hang, Wait, Write};
use crate::support::backend::{Seen, Step, answer};
use crate::support::{get, request, until};

/// The timeouts of the upstream, which are too short for the service of these tests.
const UPSTREAM: [(&str, &str); 2] = [("UPSTREAM_READ_TIMEOUT", "0.3"), ("UPSTREAM_REQUEST_TIMEOUT", "0.6")];

/// Far above the short timeouts, far below the long ones.
const SOON: Duration = Duration::from_secs(15);

const ROUTES: &str = "[{ path = '/default/{how}', methods = ['GET'] }, \
     { path = '/first/{how}', methods = ['GET'], timeout = { first_byte = 60, total = 60 } }, \
     { path = '/idle/{how}', methods = ['GET'], timeout = { idle = 60, total = 60 } }, \
     { path = '/endless/{how}', methods = ['GET', 'POST'], timeout = { first_byte = 60, total = 0 } }, \
     { path = '/cached/{how}', methods = ['GET'], shared = true, timeout = { first_byte = 60, total = 0 } }]";

/// A service whose head is late by a second, whose body pauses for a second, or whose body takes two.
fn slow(seen: &Seen) -> Vec<Step> {
    let second = Wait(Duration::from_secs(1));
    match seen.target.rsplit('/').next() {
        Some("head") => [vec![second], cacheable("abc")].concat(),
        Some("pause") => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc";
            vec![Write(head.into()), second, Write("def".into())]
        }
        Some("drip") => {
            let mut steps = vec![Write("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n".into())];
            for _ in 0..20 {
                steps.extend([Write("x".into()), Wait(Duration::from_millis(100))]);
            }
            steps
        }
        _ => vec![Hang],
    }
}

/// Whether the response is complete.
async fn is_complete(routed: &Routed, path: &str) -> bool {
    let mut connection = routed.gateway.connect().await;
    connection.send(get(path, "")).await;
    match connection.try_answer("GET").await {
        Ok(answer) if answer.status == 200 => true,
        Ok(answer) => {
            answer.assert_json(504, r#"{"error":"Gateway Timeout"}"#);
            false
        }
        Err(_) => false,
    }
}

#[tokio::test]
async fn each_timeout_of_a_route_replaces_that_of_the_upstream() {
    let routed = Routed::start(ROUTES, &UPSTREAM, slow).await;
    let expected = [
        ("default", [false, false, false]),
        ("first", [true, false, true]),
        ("idle", [false, true, true]),
        ("endless", [true, false, true]),
        ("cached", [true, false, true]),
    ];
    let cases = expected.into_iter().flat_map(|(route, complete)| {
        ["head", "pause", "drip"].into_iter().zip(complete).map(move |(how, complete)| (route, how, complete))
    });
    join_all(cases.map(async |(route, how, expected)| {
        let path = format!("/{route}/{how}");
        assert_eq!(is_complete(&routed, &path).await, expected, "{path}");
    }))
    .await;
}

#[tokio::test]
async fn a_timeout_of_a_route_may_be_shorter_than_that_of_the_upstream() {
    let routes = "[{ path = '/first/{how}', methods = ['GET'], timeout = { first_byte = 0.2 } }, \
         { path = '/idle/{how}', methods = ['GET'], timeout = { idle = 0.2 } }, \
         { path = '/total/{how}', methods = ['GET'], timeout = { total = 0.5 } }, \
         { path = '/cached/{how}', methods = ['GET'], shared = true, timeout = { first_byte = 0.2 } }]";
    let settings = [("UPSTREAM_READ_TIMEOUT", "60"), ("UPSTREAM_REQUEST_TIMEOUT", "60")];
    let routed = Routed::start(routes, &settings, slow).await;
    let began = Instant::now();
    for path in ["/first/head", "/first/hang", "/idle/pause", "/total/drip", "/total/hang", "/cached/head"] {
        assert!(!is_complete(&routed, path).await, "{path}");
    }
    assert!(is_complete(&routed, "/first/pause").await && is_complete(&routed, "/idle/head").await);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_connect_timeout_of_a_route_bounds_the_wait_for_a_connection() {
    let routes = "[{ path = '/hold/{how}', methods = ['GET'] }, \
         { path = '/quick', methods = ['GET'], timeout = { connect = 0.2 } }]";
    let settings = [
        ("UPSTREAM_CONNECT_TIMEOUT", "60"),
        ("UPSTREAM_READ_TIMEOUT", "60"),
        ("UPSTREAM_REQUEST_TIMEOUT", "60"),
        ("UPSTREAM_MAX_CONNECTIONS", "4"),
    ];
    let routed = Routed::start(routes, &settings, slow).await;
    let mut holding = Vec::new();
    for _ in 0..4 {
        let mut connection = routed.gateway.connect().await;
        connection.send(get("/hold/hang", "")).await;
        holding.push(connection);
    }
    until("every connection is in use", async || routed.service.seen().len() >= 3).await;
    let began = Instant::now();
    // A connection that the health check leaves may serve one of them.
    until("no connection is free", async || routed.gateway.get("/quick").await.status == 503).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_slow_client_is_not_charged_to_the_service() {
    let large = move |_: &Seen| answer("200 OK", &[], &"x".repeat(32 << 20));
    let routed = Routed::start(ROUTES, &UPSTREAM, large).await;
    let mut connection = routed.gateway.connect().await;
    connection.send(get("/endless/large", "")).await;
    connection.read_until("\r\n\r\n").await;
    // Longer than every timeout of the upstream, while neither side makes progress.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(connection.read_bytes(32 << 20).await.len(), 32 << 20);
    assert_eq!(connection.exchange(get("/endless/large", "")).await.status, 200);
}

#[tokio::test]
async fn an_upload_has_no_deadline_while_the_client_sends_and_one_while_the_service_does_not_read() {
    let routed = Routed::start(ROUTES, &UPSTREAM, |seen| answer("200 OK", &[], &seen.body.len().to_string())).await;
    let mut connection = routed.gateway.connect().await;
    connection.send(request("POST", "/endless/upload", "Content-Length: 20\r\n")).await;
    for _ in 0..20 {
        connection.send("x").await;
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(connection.answer("POST").await.body, "20");

    let deaf = crate::upload::backend(|mut stream, _| async move {
        sleep(Duration::from_secs(60)).await;
        let _ = stream.write_all(b"").await;
    });
    let route =
        "[{ path = '/notes/{note}', methods = ['POST'], timeout = { first_byte = 60, idle = 0.5, total = 0 } }]";
    let (gateway, log) = crate::upload::gateway(&deaf.await, &[("ROUTE", route)]).await;
    let mut connection = gateway.connect().await;
    let began = Instant::now();
    connection.send(request("POST", "/notes/a", &format!("Content-Length: {}\r\n", 64 << 20))).await;
    // More than the socket buffers hold.
    connection.send_until_closed("x".repeat(32 << 20)).await;
    until("the request is logged", async || !log.lines().is_empty()).await;
    assert_eq!((&log.lines()[0]["reason"], &log.lines()[0]["status"]), (&"upstream_slow".into(), &504.into()));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
