//! Limits and timeouts of connections change with a reload.

use crate::support::client::Connection;
use crate::support::{DAY, Gateway, admin, api, get, until};

#[tokio::test]
async fn fewer_connections_are_accepted_and_open_ones_remain() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut open = [gateway.connect().await, gateway.connect().await, gateway.connect().await];
    gateway.reload(&[("LISTENER_MAX_CONNECTIONS", "2")]).unwrap();
    assert!(Connection::open(gateway.https).await.is_err());
    for connection in &mut open {
        assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    }
    let [first, second, _third] = open;
    drop((first, second));
    until("another connection is accepted", async || Connection::open(gateway.https).await.is_ok()).await;
    gateway.reload(&[("LISTENER_MAX_CONNECTIONS", "10"), ("LISTENER_MAX_CONNECTIONS_PER_ADDRESS", "1")]).unwrap();
    assert!(Connection::open(gateway.https).await.is_err());
    assert_eq!(Connection::open_from(2, gateway.https).await.exchange(get(DAY, "")).await.status, 200);
}

#[tokio::test]
async fn an_idle_timeout_applies_from_the_next_request_of_a_connection() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    gateway.reload(&[("LISTENER_KEEPALIVE_TIMEOUT", "0.3")]).unwrap();
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    connection.assert_closed().await;
    let reaped = "gateway_connections_reaped_total{reason=\"keepalive_timeout\"}";
    assert_eq!(gateway.metric(reaped).await, Some(1.0));
}

#[tokio::test]
async fn the_proxy_protocol_can_be_enabled() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut open = gateway.connect().await;
    let changed = [("LISTENER_PROXY_PROTOCOL", "true"), ("CLIENT_TRUSTED_PROXIES", "['192.0.2.1']")];
    gateway.reload(&changed).unwrap();
    assert!(Connection::open(gateway.https).await.is_err(), "not from a proxy");
    assert_eq!(open.exchange(get(DAY, "")).await.status, 200);
}
