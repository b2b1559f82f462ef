//! The addresses of the service: the first that is reachable gets the handshake, once.

use super::{Service, Tunnels, handshake, switch};
use crate::support::client::Connection;
use crate::support::{Gateway, get};

#[tokio::test]
async fn a_handshake_goes_to_the_next_address_if_the_first_is_down() {
    let (down, up) = (Service::start().await, Service::start().await);
    let address = down.address();
    drop(down);
    let services = format!("[{{ name = 'chat', addresses = ['{address}', '{}'] }}]", up.address());
    let routes = "[{ path = '/ws', methods = ['GET'], upgrade = 'websocket', service = 'chat' }]";
    let gateway = Gateway::start_from(&[("LOGIN_ENABLED", "false"), ("SERVICE", &services), ("ROUTE", routes)]);
    let mut client = gateway.connect().await;
    client.send(handshake("")).await;
    let mut service = up.accept().await;
    service.send(switch("")).await;
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    drop(up);
    drop((client, service));
    // No address is left.
    let answer = gateway.exchange(handshake("")).await;
    answer.assert_json(503, r#"{"error":"Service Unavailable"}"#);
}

#[tokio::test]
async fn the_gateway_connects_again_if_the_service_closed_an_idle_connection() {
    let tunnels = Tunnels::start().await;
    let mut client = tunnels.gateway.connect().await;
    client.send(get("/ws", "")).await;
    let mut first = tunnels.service.accept().await;
    first.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer("GET").await.status, 200);
    let mut client: Connection = tunnels.gateway.connect().await;
    client.send(handshake("")).await;
    // The idle connection receives the handshake, and is closed before a response.
    assert!(String::from_utf8_lossy(&first.read(4).await).starts_with("GET "));
    drop(first);
    let mut second = tunnels.service.accept().await;
    second.send(switch("")).await;
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn a_client_that_leaves_during_the_handshake_leaves_no_connection() {
    let tunnels = Tunnels::start().await;
    let mut client = tunnels.gateway.connect().await;
    client.send(handshake("")).await;
    let mut service = tunnels.service.accept().await;
    drop(client);
    assert_eq!(service.rest().await, b"");
}
