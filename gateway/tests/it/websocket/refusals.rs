//! Handshakes that the gateway refuses itself, in the order of refusals. None reaches the service, and what follows a
//! refused handshake is never read as a request.

use super::{HANDSHAKE, Tunnels, handshake};
use crate::support::{DAY, DAY_BODY, get, request};

fn described(status: u16, error: &str, description: &str) -> String {
    format!(r#"{{"status_code":{status},"error":"{error}","description":"{description}"}}"#)
}

#[tokio::test]
async fn each_invalid_handshake_is_refused_and_closes_the_connection() {
    let tunnels = Tunnels::start_with(", deny = ['127.0.0.9/32']", &[]).await;
    let bad = |description: &str| (400, described(400, "Bad Request", description));
    let plain = |status: u16, error: &str| (status, format!(r#"{{"error":"{error}"}}"#));
    let replaced = |from: &str, to: &str| handshake("").replace(from, to);
    let rows = [
        (replaced("GET /ws", "GET /a/b"), plain(501, "Not Implemented")),
        (
            replaced("GET /ws", "POST /a/b").replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"),
            plain(501, "Not Implemented"),
        ),
        (replaced("Host: localhost", "Host: other.example"), plain(421, "Misdirected Request")),
        (replaced("GET /ws", "DELETE /ws"), plain(405, "Method Not Allowed")),
        (handshake("Origin: null\r\n"), plain(403, "Forbidden")),
        (replaced("GET /ws", "POST /ws"), bad("a WebSocket handshake must be a GET")),
        (replaced("HTTP/1.1", "HTTP/1.0"), bad("a WebSocket handshake needs HTTP/1.1")),
        (replaced("Connection: Upgrade", "Connection: close"), bad("a WebSocket handshake needs Connection: Upgrade")),
        (handshake("Content-Length: 0\r\n"), bad("a WebSocket handshake has no body")),
        (handshake("Content-Length: 4\r\n") + "GET ", bad("a WebSocket handshake has no body")),
        (handshake("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", bad("a WebSocket handshake has no body")),
        (replaced("Sec-WebSocket-Key", "X-Key"), bad("Sec-WebSocket-Key must be 16 bytes in base64")),
        (replaced("dGhl", "!!!!"), bad("Sec-WebSocket-Key must be 16 bytes in base64")),
        (replaced("dGhl", ""), bad("Sec-WebSocket-Key must be 16 bytes in base64")),
        (replaced("Sec-WebSocket-Version: 13\r\n", ""), bad("a WebSocket handshake needs one Sec-WebSocket-Version")),
        (
            replaced("Version: 13", "Version: 8"),
            (426, described(426, "Upgrade Required", "Sec-WebSocket-Version must be 13")),
        ),
        (
            handshake("Sec-WebSocket-Protocol: a, a\r\n"),
            bad("Sec-WebSocket-Protocol must be a list of different tokens"),
        ),
        (
            handshake("Sec-WebSocket-Protocol: holodule.token.x\r\n"),
            bad("holodule.token must be offered once, and together with holodule"),
        ),
        (
            handshake("Sec-WebSocket-Protocol: holodule, holodule.token.x\r\n"),
            bad("the token must be in Authorization or in Sec-WebSocket-Protocol, not in both"),
        ),
    ];
    let smuggled = get(DAY, "");
    for (sent, (status, body)) in rows {
        let mut client = tunnels.gateway.connect().await;
        client.send(format!("{sent}{smuggled}")).await;
        let method = sent.split(' ').next().unwrap();
        let answer = client.answer(method).await;
        answer.assert_json(status, &body);
        assert!(answer.values("connection").contains(&"close"), "{sent}: {answer:?}");
        client.assert_closed().await;
        if status == 426 {
            assert_eq!(answer.value("sec-websocket-version"), "13");
            assert_eq!(answer.value("upgrade"), "websocket");
        }
    }
    assert!(tunnels.api.seen().is_empty(), "{:?}", tunnels.api.seen());
    tunnels.service.assert_idle().await;
}

#[tokio::test]
async fn the_token_is_refused_before_the_handshake_and_the_route() {
    let tunnels = Tunnels::start().await;
    let without_token = format!("GET /ws HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n");
    for sent in [
        without_token.clone(),
        without_token.replace("/ws", "/a/b"),
        without_token.replace("Version: 13", "Version: 8"),
        without_token.replace("Upgrade: w", "Origin: null\r\nUpgrade: w"),
    ] {
        let mut client = tunnels.gateway.connect().await;
        let answer = client.exchange(&sent).await;
        assert_eq!((answer.status, answer.value("connection")), (401, "close"), "{sent}");
        client.assert_closed().await;
    }
    tunnels.service.assert_idle().await;
}

#[tokio::test]
async fn roles_and_limits_of_the_route_apply() {
    let requiring = Tunnels::start_with(", require = { all = ['chat'] }", &[]).await;
    let answer = requiring.gateway.exchange(handshake("")).await;
    answer.assert_json(403, r#"{"error":"Forbidden"}"#);
    assert_eq!(answer.value("www-authenticate"), r#"Bearer error="insufficient_scope""#);
    let limited = Tunnels::start_with(", limit = { rate = 1, burst = 1, by = 'identity' }", &[]).await;
    // An invalid handshake takes nothing from the limit.
    assert_eq!(limited.gateway.exchange(handshake("Origin: null\r\n")).await.status, 403);
    let _open = limited.open().await;
    assert_eq!(limited.gateway.exchange(handshake("")).await.status, 429);
}

#[tokio::test]
async fn other_upgrades_and_the_fields_of_a_handshake_alone_are_ignored() {
    let tunnels = Tunnels::start().await;
    let mut client = tunnels.gateway.connect().await;
    for fields in ["Connection: Upgrade\r\nUpgrade: h2c\r\n", "Connection: Upgrade\r\n", "Sec-WebSocket-Version: 8\r\n"]
    {
        let answer = client.exchange(request("GET", "/a/b", fields)).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.value("connection")), (200, DAY_BODY, "keep-alive"));
    }
    for seen in tunnels.api.seen() {
        assert!(seen.values("upgrade").is_empty() && seen.values("connection").is_empty(), "{seen:?}");
    }
    // On a route with upgrades as well.
    client.send(request("GET", "/ws", "Upgrade: h2c\r\nSec-WebSocket-Protocol: holodule.token.x\r\n")).await;
    let mut service = tunnels.service.accept().await;
    assert!(service.values("upgrade").is_empty() && !service.head.contains("token"), "{}", service.head);
    service.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.answer("GET").await.status, 204);
}
