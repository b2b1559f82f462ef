//! `POST /auth/ticket`.

use serde_json::json;

use super::{ROUTES, assert_no_token, bare, echo, post, request_for, ticket};
use crate::support::backend::Backend;
use crate::support::token::{HEADER, now, signed, token};
use crate::support::{Gateway, admin};

#[tokio::test]
async fn a_ticket_is_valid_for_thirty_seconds_or_the_rest_of_its_token() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", ROUTES)]);
    let answer = gateway.exchange(request_for(&token("user01"), "/events")).await;
    let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();
    answer.assert_json(200, &format!(r#"{{"ticket":"{ticket}","expires_in":30}}"#));
    assert_eq!(answer.value("cache-control"), "no-store");
    assert!(ticket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "no escaping: {ticket}");
    let now = now();
    let short = signed(HEADER, &json!({"exp": now + 20, "iat": now, "nbf": now, "identity": "user01"}).to_string());
    let answer = gateway.exchange(request_for(&short, "/events")).await;
    assert!((17..=20).contains(&answer.json()["expires_in"].as_i64().unwrap()), "{answer:?}");
    assert!(service.seen().is_empty());
}

#[tokio::test]
async fn other_requests_are_refused_in_the_form_of_the_contract() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", ROUTES)]);
    let (token, is_json) = (token("user01"), "Content-Type: application/json\r\n");
    for (body, description) in [
        ("", "not JSON"),
        ("[]", "not an object"),
        ("{}", "must have one member, path, which is a string"),
        (r#"{"path":7}"#, "must have one member, path, which is a string"),
        (r#"{"path":"/events","for":"me"}"#, "must have one member, path, which is a string"),
        (r#"{"path":"events"}"#, "path must be the canonical path of a request, without a query"),
        (r#"{"path":"/events?since=1"}"#, "path must be the canonical path of a request, without a query"),
        (r#"{"path":"/a/../events"}"#, "path must be the canonical path of a request, without a query"),
        (r#"{"path":"//events"}"#, "path must be the canonical path of a request, without a query"),
    ] {
        let answer = gateway.exchange(post(&token, is_json, body)).await;
        let expected = format!(r#"{{"status_code":400,"error":"Bad Request","description":"{description}"}}"#);
        answer.assert_json(400, &expected);
    }
    let twice = post(&token, is_json, r#"{"path":"/events","path":"/events"}"#);
    assert_eq!(gateway.exchange(twice).await.status, 400);
    for path in ["/notes", "/none", "/", "/auth/ticket", "/rooms"] {
        gateway.exchange(request_for(&token, path)).await.assert_json(404, r#"{"error":"Not found"}"#);
    }
    for headers in ["", "Content-Type: text/plain\r\n"] {
        assert_eq!(gateway.exchange(post(&token, headers, r#"{"path":"/events"}"#)).await.status, 415);
    }
    let large = post(&token, is_json, &format!("{{\"path\":\"/{}\"}}", "a".repeat(4096)));
    assert_eq!(gateway.exchange(large).await.status, 413);
    let get = request_for(&token, "/events").replace("POST", "GET");
    let answer = gateway.exchange(get).await;
    assert_eq!((answer.status, answer.value("allow")), (405, "POST"));
    assert_no_token(&gateway.exchange(bare("POST", "/auth/ticket", "Content-Length: 0\r\n")).await);
    // A ticket is not accepted for another one.
    let ticket = ticket(&gateway, &token, "/events").await;
    let with_ticket = format!("/auth/ticket?ticket={ticket}");
    assert_no_token(&gateway.exchange(bare("POST", &with_ticket, "Content-Length: 0\r\n")).await);
    assert!(service.seen().is_empty());
}

#[tokio::test]
async fn requests_for_tickets_count_for_the_limit_of_the_identity() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let limits = [("ROUTE", ROUTES), ("LIMIT_IDENTITY_RATE", "1"), ("LIMIT_IDENTITY_BURST", "3")];
    let gateway = Gateway::start_with(&service, &admin, &limits);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(gateway.exchange(request_for(&token("user01"), "/events")).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(gateway.exchange(request_for(&token("user02"), "/events")).await.status, 200);
}

#[tokio::test]
async fn an_allowed_origin_can_read_the_response() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let settings = [("ROUTE", ROUTES), ("CORS_ALLOWED_ORIGINS", "['https://app.example']"), ("LOGIN_ENABLED", "false")];
    let gateway = Gateway::start_with(&service, &admin, &settings);
    let headers = "Content-Type: application/json\r\nOrigin: https://app.example\r\n";
    let answer = gateway.exchange(post(&token("user01"), headers, r#"{"path":"/events"}"#)).await;
    assert_eq!((answer.status, answer.value("access-control-allow-origin")), (200, "https://app.example"));
    let preflight = "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n";
    let answer = gateway.exchange(bare("OPTIONS", "/auth/ticket", preflight)).await;
    assert_eq!((answer.status, answer.value("access-control-allow-methods")), (204, "GET, POST"));
}

#[tokio::test]
async fn a_ticket_that_does_not_fit_into_a_target_is_not_issued() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", ROUTES)]);
    let now = now();
    let scopes: Vec<_> = (0..50).map(|number| format!("{number:02}{}", "r".repeat(30))).collect();
    let claims = json!({"exp": now + 20, "iat": now, "nbf": now, "identity": "user01", "scope": scopes.join(" ")});
    let answer = gateway.exchange(request_for(&signed(HEADER, &claims.to_string()), "/events")).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("too many scopes"), "{answer:?}");
}
