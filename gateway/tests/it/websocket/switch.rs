//! The response of the service: a 101 is checked, and any other is forwarded.

use super::{ACCEPT, Tunnels, handshake, switch};
use crate::support::backend::{Backend, Step};
use crate::support::{Gateway, admin, get};

#[tokio::test]
async fn a_101_that_is_no_answer_to_the_handshake_is_a_502() {
    let tunnels = Tunnels::start().await;
    for answer in [
        switch("").replace("Upgrade: websocket\r\n", ""),
        switch("").replace("Upgrade: websocket", "Upgrade: h2c"),
        switch("").replace("Connection: Upgrade\r\n", ""),
        switch("").replace("Connection: Upgrade", "Connection: close"),
        switch("").replace(ACCEPT, "s3pPLMBiTxaQ9kYGzzhZRbK+xOp="),
        switch("").replace("Accept", "Except"),
        switch("Sec-WebSocket-Protocol: a\r\n"),
        switch("Sec-WebSocket-Protocol: holodule\r\n"),
        switch("Content-Length: 0\r\n"),
        "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
    ] {
        let mut client = tunnels.gateway.connect().await;
        client.send(handshake("Sec-WebSocket-Protocol: holodule\r\n")).await;
        let mut service = tunnels.service.accept().await;
        service.send(format!("{answer}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).await;
        client.answer("GET").await.assert_json(502, r#"{"error":"Bad Gateway"}"#);
        client.assert_closed().await;
        // The connection is not reused.
        assert_eq!(service.rest().await, b"", "{answer}");
    }
}

#[tokio::test]
async fn a_101_to_any_other_request_is_a_502() {
    let service = Backend::start(|_| vec![Step::Write(switch("").into_bytes()), Step::Hang]).await;
    let admin = admin().await;
    let gateway = Gateway::start(&service, &admin);
    let answer = gateway.exchange(get("/holodules/20201209", "Connection: Upgrade\r\nUpgrade: h2c\r\n")).await;
    answer.assert_json(502, r#"{"error":"Bad Gateway"}"#);
}

#[tokio::test]
async fn any_other_response_is_forwarded_and_closes_the_connection() {
    let tunnels = Tunnels::start().await;
    for (status, fields, body) in [
        ("403 Forbidden", "X-Reason: full\r\n", "no"),
        ("302 Found", "Location: /elsewhere\r\n", ""),
        ("426 Upgrade Required", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "13"),
        ("200 OK", "", "a page"),
        ("503 Service Unavailable", "Retry-After: 9\r\n", ""),
    ] {
        let mut client = tunnels.gateway.connect().await;
        client.send(handshake("") + &get("/a/b", "")).await;
        let mut service = tunnels.service.accept().await;
        service.send(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        let answer = client.answer("GET").await;
        assert_eq!((answer.status.to_string().as_str(), answer.body.as_str()), (&status[..3], body));
        assert_eq!(answer.value("connection"), "close", "{answer:?}");
        assert!(answer.values("upgrade").is_empty(), "{answer:?}");
        client.assert_closed().await;
        assert_eq!(service.early, b"");
    }
    assert!(tunnels.api.seen().is_empty(), "what follows the handshake is not a request");
}

#[tokio::test]
async fn a_subprotocol_is_selected_by_the_service_or_is_that_of_the_gateway() {
    let tunnels = Tunnels::start().await;
    for (offered, forwarded, selected, answered) in [
        ("a, b", &["a, b"][..], "b", Some("b")),
        ("a, b", &["a, b"], "", None),
        ("a, holodule, b", &["a, b"], "a", Some("a")),
        ("a, holodule, b", &["a, b"], "", Some("holodule")),
        ("holodule", &[], "", Some("holodule")),
    ] {
        let selection =
            if selected.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {selected}\r\n") };
        let sent = handshake(&format!("Sec-WebSocket-Protocol: {offered}\r\n"));
        let (_client, head, service) = tunnels.open_with(&sent, &switch(&selection)).await;
        assert_eq!(service.values("sec-websocket-protocol"), forwarded, "{offered}");
        let answer = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(answer, answered, "{offered}: {head}");
    }
}
