//! Tickets: issued for one path, and accepted once in the query of a request to it.

mod abuse;
mod configuration;
mod issue;
mod leak;
mod redeem;
mod stream;

use std::sync::{Arc, LazyLock};

use holodule_gateway::scope::Scopes;
use holodule_gateway::token::{Key, Keys, Parent, Settings, Ticket, Verified, ticket_target};
use serde_json::json;

use crate::support::Gateway;
use crate::support::backend::{Seen, Step, answer};
use crate::support::client::Answer;
use crate::support::token::{now, secret};

/// Routes with and without tickets.
pub const ROUTES: &str = "[{ name = 'events', methods = ['GET', 'POST'], path = '/events', tickets = true, query = ['since'] }, \
     { name = 'rooms', methods = ['GET'], path = '/rooms/{*rest}', tickets = true, query = '*', encoded = 'preserve' }, \
     { name = 'roles', methods = ['GET'], path = '/roles', tickets = true, require = { any = ['viewer'] }, \
       headers_from_claims = { 'X-Auth-Roles' = 'scope' } }, \
     { name = 'notes', methods = ['GET'], path = '/notes', query = ['ticket'] }]";

/// The service returns the target that it received.
pub fn echo(seen: &Seen) -> Vec<Step> {
    answer("200 OK", &[("Content-Type", "text/plain")], &seen.target)
}

/// The request for a ticket for `path`.
pub fn request_for(token: &str, path: &str) -> String {
    post(token, "Content-Type: application/json\r\n", &json!({ "path": path }).to_string())
}

/// A `POST /auth/ticket` with these headers (each with its CRLF) and this body.
pub fn post(token: &str, headers: &str, body: &str) -> String {
    format!(
        "POST /auth/ticket HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A ticket for `path`.
pub async fn ticket(gateway: &Gateway, token: &str, path: &str) -> String {
    let answer = gateway.exchange(request_for(token, path)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["ticket"].as_str().unwrap().to_owned()
}

/// A request without a token.
pub fn bare(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

pub async fn get(gateway: &Gateway, target: &str) -> Answer {
    gateway.exchange(bare("GET", target, "")).await
}

pub fn assert_refused(answer: &Answer) {
    answer.assert_json(401, r#"{"status_code":401,"error":"Invalid ticket","description":"The ticket is not valid"}"#);
    let offers = answer.values("www-authenticate");
    assert_eq!(offers[1], r#"Bearer realm="Login Required", error="invalid_token""#);
}

/// The response to a request without a token.
pub fn assert_no_token(answer: &Answer) {
    let body = r#"{"status_code":401,"error":"Authorization Required","description":"Request does not contain an access token"}"#;
    answer.assert_json(401, body);
}

/// A ticket of `user01` for `/events`.
pub fn of_user01(id: u128, issued_at: i64) -> Ticket {
    let now = now();
    let verified = Verified {
        identity: "user01".into(),
        issued_at: now,
        not_before: now,
        expires_at: now + 300,
        id: "jti:1".into(),
        password_mark: None,
        scopes: Scopes::default(),
    };
    Ticket { id, issued_at, target: ticket_target("localhost", "/events"), parent: Parent::Token(Arc::new(verified)) }
}

/// Signs any ticket as a gateway of the tests does.
pub fn sign(ticket: &Ticket) -> String {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
        Keys::new(vec![Key::unnamed(secret().as_bytes()).unwrap()], settings).unwrap()
    });
    KEYS.issue_ticket(ticket).unwrap()
}
