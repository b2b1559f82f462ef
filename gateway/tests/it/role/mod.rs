//! Roles and other scopes: from the backend or a token to what a route requires.

mod claim;
mod current;
mod header;
mod require;

use serde_json::json;

use crate::support::token::{HEADER, now, signed};

/// A token of `user01` with this `scope`.
pub fn scoped(scope: &str) -> String {
    let now = now();
    let claims = json!({"exp": now + 300, "iat": now, "nbf": now, "identity": "user01", "scope": scope});
    signed(HEADER, &claims.to_string())
}

/// A request with a bearer token and these headers (each with its CRLF).
fn with(method: &str, path: &str, token: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\r\n")
}
