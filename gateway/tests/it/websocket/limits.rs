//! What ends a tunnel: limits, the shutdown of the gateway, and the end of the client's authority.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{Tunnels, handshake, switch};
use crate::support::client::{Connection, PATIENCE};
use crate::support::until;

#[tokio::test]
async fn an_idle_tunnel_ends_after_the_idle_limit_of_the_route() {
    let tunnels = Tunnels::start_with(", timeout = { idle = 0.6 }", &[]).await;
    let (mut client, mut service) = tunnels.open().await;
    // Either direction is activity.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        client.send("a").await;
        assert_eq!(service.read(1).await, b"a");
        tokio::time::sleep(Duration::from_millis(250)).await;
        service.send("b").await;
        assert_eq!(client.read_bytes(1).await, b"b");
    }
    let began = Instant::now();
    assert!(client.read_to_close_notify().await.is_err(), "a clean end would not be seen as 1006");
    assert_eq!(service.rest().await, b"");
    assert!((500..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(tunnels.gateway.metric(r#"gateway_tunnels_ended_total{outcome="idle",route="ws"}"#).await, Some(1.0));
}

#[tokio::test]
async fn a_tunnel_ends_after_the_total_limit_of_the_route() {
    let tunnels = Tunnels::start_with(", timeout = { total = 1 }", &[]).await;
    let began = Instant::now();
    let (mut client, mut service) = tunnels.open().await;
    while client.try_send("a").await.is_ok() && began.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((900..10_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    service.rest().await;
    assert_eq!(tunnels.gateway.metric(r#"gateway_tunnels_ended_total{outcome="total",route="ws"}"#).await, Some(1.0));
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off_after_the_write_timeout_whatever_it_sends() {
    let tunnels = Tunnels::start_with("", &[("LISTENER_WRITE_TIMEOUT", "1")]).await;
    let (mut client, service) = tunnels.open().await;
    let (mut from_gateway, mut to_gateway) = service.stream.into_split();
    let pushing = tokio::spawn(async move { while to_gateway.write_all(&[7; 65_536]).await.is_ok() {} });
    let draining =
        tokio::spawn(async move { while from_gateway.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {} });
    let series = r#"gateway_tunnels_ended_total{outcome="client_slow",route="ws"}"#;
    until("the tunnel has ended", async || {
        let _ = client.try_send("a").await;
        tunnels.gateway.metric(series).await == Some(1.0)
    })
    .await;
    timeout(PATIENCE, pushing).await.expect("the service is not disconnected").unwrap();
    timeout(PATIENCE, draining).await.expect("the service is not disconnected").unwrap();
}

#[tokio::test]
async fn the_service_must_answer_a_handshake_in_time() {
    let tunnels = Tunnels::start_with(", timeout = { first_byte = 0.3 }", &[]).await;
    let mut client = tunnels.gateway.connect().await;
    client.send(handshake("")).await;
    let mut service = tunnels.service.accept().await;
    client.answer("GET").await.assert_json(504, r#"{"error":"Gateway Timeout"}"#);
    assert_eq!(service.rest().await, b"");
}

#[tokio::test]
async fn a_tunnel_has_one_of_the_connections_of_its_service() {
    let tunnels = Tunnels::start_with(", timeout = { connect = 0.5 }", &[]).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(tunnels.open().await);
    }
    let answer = tunnels.gateway.exchange(handshake("")).await;
    answer.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    open.pop();
    let (_client, head, _service) = tunnels.open_with(&handshake(""), &switch("")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[tokio::test]
async fn a_tunnel_outlives_the_timeouts_of_requests_and_idle_connections() {
    let settings = [("LISTENER_KEEPALIVE_TIMEOUT", "1"), ("LISTENER_HEADER_TIMEOUT", "1")];
    let tunnels = Tunnels::start_with("", &settings).await;
    let (mut client, mut service) = tunnels.open().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    client.send("a").await;
    assert_eq!(service.read(1).await, b"a");
}

#[tokio::test]
async fn tunnels_continue_during_a_drain_and_end_over_its_time() {
    let mut tunnels = Tunnels::start_with("", &[("DRAIN_TIMEOUT", "4")]).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(tunnels.open().await);
    }
    tunnels.gateway.stop();
    until("no connection is accepted", async || Connection::open(tunnels.gateway.https).await.is_err()).await;
    let mut ends = Vec::new();
    for (mut client, mut service) in open {
        ends.push(tokio::spawn(async move {
            let _ = service.stream.write_all(b"a").await;
            let is_open = client.try_read_bytes(1).await.is_ok();
            let rest = client.read_to_close_notify().await;
            assert!(rest.is_err(), "a clean end would not be seen as 1006");
            let ended = Instant::now();
            assert_eq!(service.rest().await, b"");
            (ended, is_open)
        }));
    }
    let (mut moments, mut open) = (Vec::new(), 0);
    for end in ends {
        let (ended, was_open) = end.await.unwrap();
        moments.push(ended);
        open += usize::from(was_open);
    }
    assert!(open > 0, "tunnels continue");
    // Of eight moments in a window of 2 s, one in 270,000 runs has all within an eighth of it.
    let spread = *moments.iter().max().unwrap() - *moments.iter().min().unwrap();
    assert!(spread > Duration::from_millis(250), "{spread:?}");
    until("run returns", async || tunnels.gateway.has_ended()).await;
}
