//! ops/WIRE.md, "POST /auth": the roles in issued tokens, and the claims that are accepted.

use holodule_gateway::scope::MAX_SCOPES_BYTES;
use serde_json::{Value, json};

use crate::auth::{login, user01};
use crate::support::backend::{Backend, json_answer};
use crate::support::token::{HEADER, decode, now, signed};
use crate::support::{DAY, Gateway, api};

/// The answer to a login if the backend returns these members besides the name, and the stub and the gateway.
async fn log_in(more: Value) -> (Backend, Gateway, crate::support::client::Answer) {
    let mut body = json!({"username": "user01", "password_changed_at": null});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let admin = Backend::start(move |_| json_answer("200 OK", &body.to_string())).await;
    let api = api().await;
    let gateway = Gateway::start(&api, &admin);
    let answer = gateway.exchange(login(user01())).await;
    (api, gateway, answer)
}

fn claims_of(answer: &crate::support::client::Answer) -> Value {
    decode(answer.json()["access_token"].as_str().unwrap().split('.').nth(1).unwrap())
}

#[tokio::test]
async fn a_login_issues_the_roles_as_one_text() {
    let (_api, _gateway, answer) = log_in(json!({"roles": ["editor", "viewer"]})).await;
    let claims = claims_of(&answer);
    assert_eq!(claims["scope"], "editor viewer");
    let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["exp", "iat", "identity", "jti", "nbf", "scope"]);
}

#[tokio::test]
async fn without_roles_the_token_has_no_scope() {
    for more in [json!({}), json!({"roles": []})] {
        let (_api, _gateway, answer) = log_in(more.clone()).await;
        let claims = claims_of(&answer);
        let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["exp", "iat", "identity", "jti", "nbf"], "{more}");
    }
}

#[tokio::test]
async fn a_token_with_the_most_roles_is_issued_and_accepted() {
    let mut roles: Vec<_> = (0..64).map(|number| format!("{number:02}{}", "r".repeat(29))).collect();
    roles[63].push('r');
    assert_eq!(roles.join(" ").len(), MAX_SCOPES_BYTES);
    let (_api, gateway, answer) = log_in(json!({"roles": roles})).await;
    assert_eq!(claims_of(&answer)["scope"], roles.join(" "));
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let request = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(gateway.exchange(&request).await.status, 200);
    }
}

#[tokio::test]
async fn a_login_with_invalid_roles_is_503_and_issues_no_token() {
    for roles in [json!(null), json!("editor"), json!([1]), json!(["a b"]), json!(["a", ""]), json!(["s".repeat(2049)])]
    {
        let (_api, _gateway, answer) = log_in(json!({"roles": roles})).await;
        answer.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    }
}

#[tokio::test]
async fn tokens_of_other_issuers_may_have_either_claim() {
    let (_api, gateway, _) = log_in(json!({})).await;
    for more in [
        json!({"scope": null}),
        json!({"scope": ""}),
        json!({"scope": "openid profile"}),
        json!({"scp": "a"}),
        json!({"scp": ["b", "a", "a"]}),
        json!({"scp": []}),
        json!({"scope": "b a", "scp": ["a", "b"]}),
    ] {
        let now = now();
        let mut claims = json!({"exp": now + 300, "iat": now, "nbf": now, "identity": "user01"});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let token = signed(HEADER, &claims.to_string());
        let request = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n\r\n");
        assert_eq!(gateway.exchange(request).await.status, 200, "{more}");
    }
}
