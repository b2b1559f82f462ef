//! Connection limits: in total, per client and to the backend.

use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::backend::Step::Wait;
use crate::support::client::{Connection, connect_from};
use crate::support::{DAY, Gateway, admin, api, get, serve_day, until};

/// The number of connections refused for this reason.
async fn refusals(gateway: &Gateway, reason: &str) -> Option<f64> {
    gateway.metric(&format!(r#"gateway_connections_refused_total{{reason="{reason}"}}"#)).await
}

#[tokio::test]
async fn connections_above_the_total_limit_are_closed() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_MAX_CONNECTIONS", "2")]);
    let mut first = gateway.connect().await;
    let second = gateway.connect().await;
    let refused = Connection::open(gateway.https).await;
    assert!(refused.is_err());
    assert_eq!(first.exchange(get(DAY, "")).await.status, 200);
    assert_eq!(refusals(&gateway, "max_connections").await, Some(1.0));
    drop(second);
    until("a connection has ended", async || gateway.metric("gateway_connections").await == Some(1.0)).await;
    until("a connection is accepted", async || Connection::open(gateway.https).await.is_ok()).await;
}

#[tokio::test]
async fn connections_above_the_limit_per_client_are_closed_and_other_clients_served() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_MAX_CONNECTIONS_PER_ADDRESS", "2")]);
    // Connections count once accepted, before the TLS handshake.
    let silent = connect_from([127, 0, 0, 2], gateway.https).await.unwrap();
    let mut first = Connection::try_open_from([127, 0, 0, 2], gateway.https).await.unwrap();
    assert!(Connection::try_open_from([127, 0, 0, 2], gateway.https).await.is_err());
    assert_eq!(refusals(&gateway, "per_address").await, Some(1.0));
    assert_eq!(first.exchange(get(DAY, "")).await.status, 200, "existing connections are served");
    let mut other = Connection::try_open_from([127, 0, 0, 3], gateway.https).await.unwrap();
    assert_eq!(other.exchange(get(DAY, "")).await.status, 200);
    drop(silent);
    until("a connection is accepted", async || Connection::try_open_from([127, 0, 0, 2], gateway.https).await.is_ok())
        .await;
    assert_eq!(refusals(&gateway, "max_connections").await, Some(0.0));
}

#[tokio::test]
async fn a_trusted_proxy_is_exempt_from_the_limit_per_client() {
    let (api, admin) = (api().await, admin().await);
    let settings = [("LISTENER_MAX_CONNECTIONS_PER_ADDRESS", "1"), ("CLIENT_TRUSTED_PROXIES", "['127.0.0.2']")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Connection::try_open_from([127, 0, 0, 2], gateway.https).await.unwrap());
    }
    for connection in &mut open {
        assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    }
    assert_eq!(refusals(&gateway, "per_address").await, Some(0.0));
}

#[tokio::test]
async fn connections_to_the_backend_are_limited_and_waiting_too_long_is_503() {
    let slow = Backend::start(|seen| {
        let wait = if seen.target == "/holodules/slow" { Wait(Duration::from_secs(3)) } else { Wait(Duration::ZERO) };
        [vec![wait], serve_day(seen)].concat()
    })
    .await;
    let admin = admin().await;
    // The readiness probe holds one of the connections.
    let settings = [("UPSTREAM_MAX_CONNECTIONS", "4"), ("UPSTREAM_CONNECT_TIMEOUT", "0.5")];
    let gateway = Gateway::start_with(&slow, &admin, &settings);
    gateway.ready().await;
    let mut first = Vec::new();
    for _ in 0..3 {
        let mut client = gateway.connect().await;
        client.send(get("/holodules/slow", "")).await;
        first.push(client);
    }
    until("the backend has received all requests", async || slow.seen().len() == 3).await;
    let refused = gateway.get(DAY).await;
    refused.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert!(refused.value("retry-after").parse::<u32>().is_ok());
    assert_eq!(slow.seen().len(), 3, "no connection was available");
    for client in &mut first {
        assert_eq!(client.answer("GET").await.status, 200);
    }
    assert_eq!(gateway.get(DAY).await.status, 200);
}
