//! Tokens among the subprotocols, for browsers, which cannot send `Authorization`.

use super::{HANDSHAKE, Tunnels, switch};
use crate::support::token::{HEADER, now, signed, token};
use crate::ticket::{assert_refused, bare, ticket};

fn with_token(token: &str, others: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\
         Sec-WebSocket-Protocol: holodule, holodule.token.{token}{others}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_token_among_the_subprotocols_is_verified_and_not_forwarded() {
    let tunnels = Tunnels::start().await;
    let token = token("user02");
    for (others, forwarded) in [("", &[][..]), (", a, b", &["a, b"])] {
        let (mut client, head, mut service) = tunnels.open_with(&with_token(&token, others), &switch("")).await;
        assert!(
            head.starts_with("HTTP/1.1 101 ") && head.contains("\r\nsec-websocket-protocol: holodule\r\n"),
            "{head}"
        );
        assert!(!head.contains(&token) && !service.head.contains(&token), "{}", service.head);
        assert_eq!(service.values("sec-websocket-protocol"), forwarded);
        assert_eq!(service.values("x-auth-identity"), ["user02"]);
        client.send("a").await;
        assert_eq!(service.read(1).await, b"a");
    }
}

#[tokio::test]
async fn an_invalid_token_among_the_subprotocols_is_refused_like_one_in_authorization() {
    let tunnels = Tunnels::start().await;
    let past = serde_json::json!({"exp": now() - 10, "iat": now() - 100, "nbf": now() - 100, "identity": "user01"});
    let expired = signed(HEADER, &past.to_string());
    for (token, error, description) in [
        (expired.as_str(), "Invalid token", "Signature has expired"),
        ("x", "Invalid token", "Not enough segments"),
        ("", "Invalid JWT header", "Token missing"),
    ] {
        let answer = tunnels.gateway.exchange(with_token(token, "")).await;
        let body = format!(r#"{{"status_code":401,"error":"{error}","description":"{description}"}}"#);
        answer.assert_json(401, &body);
    }
    tunnels.service.assert_idle().await;
}

#[tokio::test]
async fn without_an_upgrade_the_subprotocols_hold_no_token() {
    let tunnels = Tunnels::start().await;
    let sent = with_token(&token("user01"), "").replace("Upgrade: websocket\r\n", "");
    assert_eq!(tunnels.gateway.exchange(sent).await.status, 401);
    tunnels.service.assert_idle().await;
}

#[tokio::test]
async fn a_ticket_opens_one_tunnel_and_no_other_credential_is_allowed_beside_it() {
    let tunnels = Tunnels::start_with(", tickets = true, query = '*'", &[]).await;
    let text = ticket(&tunnels.gateway, &token("user01"), "/ws").await;
    let target = format!("/ws?a=1&ticket={text}");
    let sent = |fields: &str| bare("GET", &target, &format!("{HANDSHAKE}{fields}"));
    let both = r#"{"status_code":400,"error":"Bad Request","description":"The request must have one ticket and no Authorization"}"#;
    for fields in [
        format!("Authorization: JWT {}\r\n", token("user01")),
        format!("Sec-WebSocket-Protocol: holodule, holodule.token.{}\r\n", token("user02")),
        "Sec-WebSocket-Protocol: holodule, holodule.token.\r\n".to_owned(),
    ] {
        tunnels.gateway.exchange(sent(&fields)).await.assert_json(400, both);
    }
    let (mut client, head, mut service) =
        tunnels.open_with(&sent("Sec-WebSocket-Protocol: holodule, chat\r\n"), &switch("")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(service.head.starts_with("GET /ws?a=1 HTTP/1.1\r\n") && !service.head.contains(&text), "{}", service.head);
    assert_eq!(service.values("sec-websocket-protocol"), ["chat"]);
    assert_eq!(service.values("x-auth-identity"), ["user01"]);
    client.send("a").await;
    assert_eq!(service.read(1).await, b"a");
    assert_refused(&tunnels.gateway.exchange(sent("")).await);
    // One of another page, and one for another path.
    let text = ticket(&tunnels.gateway, &token("user01"), "/ws").await;
    let foreign = format!("{HANDSHAKE}Origin: https://evil.example\r\n");
    assert_eq!(tunnels.gateway.exchange(bare("GET", &format!("/ws?ticket={text}"), &foreign)).await.status, 403);
    let elsewhere = bare("GET", &format!("/rest?ticket={text}"), HANDSHAKE);
    assert_eq!(tunnels.gateway.exchange(elsewhere).await.status, 401);
    tunnels.service.assert_idle().await;
}
