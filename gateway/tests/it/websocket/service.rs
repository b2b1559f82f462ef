//! The addresses of the service: the first that is reachable gets the handshake, once.

use super::{Service, Tunnels, handshake, switch};
use crate::support::client::Connection;
use crate::support::{Gateway, get, until};

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

#[tokio::test]
async fn an_open_tunnel_counts_for_the_address_with_the_least_connections() {
    let services = [Service::start().await, Service::start().await];
    let gateway = balanced(&services, "least_connections");
    let open = async || {
        let mut client = gateway.connect().await;
        client.send(handshake("")).await;
        let (number, mut service) = tokio::select! {
            service = services[0].accept() => (0, service),
            service = services[1].accept() => (1, service),
        };
        service.send(switch("")).await;
        assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
        (number, client, service)
    };
    let busy = open().await;
    for _ in 0..6 {
        let (number, client, mut service) = open().await;
        assert_ne!(number, busy.0);
        drop(client);
        service.rest().await;
        until("the tunnel has ended", async || gateway.metric(OPEN).await == Some(1.0)).await;
    }
    drop(busy);
    until("no tunnel is open", async || gateway.metric(OPEN).await == Some(0.0)).await;
    let mut counts = [0; 2];
    let mut tunnels = Vec::new();
    for _ in 0..6 {
        let tunnel = open().await;
        counts[tunnel.0] += 1;
        tunnels.push(tunnel);
    }
    assert_eq!(counts, [3, 3], "one that has ended counts no more");
}

#[tokio::test]
async fn a_tunnel_sets_and_follows_the_cookie_of_the_service() {
    let services = [Service::start().await, Service::start().await];
    let gateway = balanced(&services, "sticky");
    let open = async |fields: &str| {
        let mut client = gateway.connect().await;
        client.send(handshake(fields)).await;
        let (number, mut service) = tokio::select! {
            service = services[0].accept() => (0, service),
            service = services[1].accept() => (1, service),
        };
        assert!(service.values("cookie").is_empty(), "{}", service.head);
        service.send(switch("")).await;
        (number, client.read_until("\r\n\r\n").await)
    };
    let (number, head) = open("").await;
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ").or(line.strip_prefix("Set-Cookie: ")));
    let cookie = cookie.unwrap_or_else(|| panic!("{head}")).split(';').next().unwrap();
    for _ in 0..4 {
        let (again, head) = open(&format!("Cookie: {cookie}\r\n")).await;
        assert!(again == number && !head.to_ascii_lowercase().contains("set-cookie"), "{head}");
    }
}

const OPEN: &str = r#"gateway_tunnels{route="ws"}"#;

/// A gateway with one service at the addresses of `services`.
fn balanced(services: &[Service; 2], policy: &str) -> Gateway {
    let [a, b] = services.each_ref().map(Service::address);
    let services =
        format!("[{{ name = 'chat', addresses = ['{a}', '{b}'], policy = '{policy}', max_connections = 32 }}]");
    let routes = "[{ name = 'ws', path = '/ws', methods = ['GET'], upgrade = 'websocket', service = 'chat' }]";
    Gateway::start_from(&[("LOGIN_ENABLED", "false"), ("SERVICE", &services), ("ROUTE", routes)])
}
