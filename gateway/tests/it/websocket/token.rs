//! Tokens among the subprotocols, for browsers, which cannot send `Authorization`.

use super::{HANDSHAKE, Tunnels, switch};
use crate::support::token::{HEADER, now, signed, token};

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
