//! What the service and the client receive in a handshake that is accepted.

use super::{ACCEPT, HANDSHAKE, KEY, Tunnels, handshake, switch};
use crate::support::client::{Connection, handshake as connect, tls};
use crate::support::request;

#[tokio::test]
async fn the_service_receives_the_handshake_with_the_fields_of_the_gateway() {
    let tunnels = Tunnels::start_with(", headers_from_claims = { 'X-Webauth-User' = 'identity' }", &[]).await;
    let sent = handshake(
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nCookie: a=b\r\nX-Auth-Identity: admin\r\n\
         X-Webauth-User: admin\r\nX_Webauth_User: admin\r\nX-Forwarded-For: 1.2.3.4\r\nKeep-Alive: 1\r\nTE: trailers\r\n",
    );
    let answer = switch("Sec-WebSocket-Extensions: permessage-deflate\r\nServer: chat/1\r\nX-Service: 1\r\n");
    let (_client, head, service) = tunnels.open_with(&sent, &answer).await;
    assert!(service.head.starts_with("GET /ws HTTP/1.1\r\n"), "{}", service.head);
    for (name, expected) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", KEY),
        ("sec-websocket-version", "13"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ("cookie", "a=b"),
        ("x-auth-identity", "user01"),
        ("x-webauth-user", "user01"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "localhost"),
    ] {
        assert_eq!(service.values(name), [expected], "{name}");
    }
    assert_eq!(service.values("x-request-id").len(), 1);
    for name in ["authorization", "keep-alive", "te", "x_webauth_user", "content-length", "sec-websocket-protocol"] {
        assert!(service.values(name).is_empty(), "{name}");
    }
    let values = |name: &str| -> Vec<String> {
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
    };
    for (name, expected) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", ACCEPT),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("x-service", "1"),
        ("x-content-type-options", "nosniff"),
        ("x-request-id", service.values("x-request-id")[0]),
    ] {
        assert_eq!(values(name), [expected], "{name}: {head}");
    }
    for name in ["server", "content-length", "transfer-encoding", "sec-websocket-protocol"] {
        assert!(values(name).is_empty(), "{name}: {head}");
    }
}

#[tokio::test]
async fn a_public_route_needs_no_token_and_forwards_none() {
    let tunnels = Tunnels::start().await;
    let without = format!("GET /open HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n");
    let header = request("GET", "/open", HANDSHAKE);
    let offered = without.replace("Upgrade: ", "Sec-WebSocket-Protocol: holodule, holodule.token.x, a\r\nUpgrade: ");
    for (sent, protocols) in [(&without, &[][..]), (&header, &[]), (&offered, &["a"])] {
        let (mut client, head, mut service) = tunnels.open_with(sent, &switch("")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(!service.head.contains("holodule") && service.values("authorization").is_empty(), "{}", service.head);
        assert!(service.values("x-auth-identity").is_empty());
        assert_eq!(service.values("sec-websocket-protocol"), protocols);
        client.send("a").await;
        assert_eq!(service.read(1).await, b"a");
    }
}

#[tokio::test]
async fn other_spellings_of_a_handshake_are_accepted() {
    let tunnels = Tunnels::start().await;
    for sent in [
        handshake("").replace("Connection: Upgrade", "Connection: keep-alive, upgrade"),
        handshake("").replace("Upgrade: websocket", "upgrade: h2c, WebSocket"),
        handshake("").replace("GET /ws", "GET https://localhost/ws"),
    ] {
        let (mut client, head, mut service) = tunnels.open_with(&sent, &switch("")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(service.values("upgrade"), ["websocket"]);
        client.send("a").await;
        assert_eq!(service.read(1).await, b"a");
    }
}

#[tokio::test]
async fn tls_1_2_and_clients_without_alpn_have_tunnels_too() {
    let tunnels = Tunnels::start().await;
    for (versions, alpn) in [(&[&rustls::version::TLS12][..], &["http/1.1"][..]), (rustls::ALL_VERSIONS, &[])] {
        let stream = connect(tunnels.gateway.https, tls(versions, alpn)).await.unwrap();
        let mut client = Connection::over(stream);
        client.send(handshake("")).await;
        let mut service = tunnels.service.accept().await;
        service.send(switch("")).await;
        assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
        service.send("a").await;
        assert_eq!(client.read_bytes(1).await, b"a");
    }
}
