//! Cached responses are served only to requests that pass authentication, revocation and the limits.

use serde_json::json;

use super::{CACHE_ENABLED, Edge, FRESH, Origin, assert_answer, page, x_cache};
use crate::support::revocation::RevocationStub;
use crate::support::token::{HEADER, now, signed, token};
use crate::support::{DAY, get, request, until};

fn presenting(token: &str) -> String {
    format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
}

#[tokio::test]
async fn without_a_valid_token_no_cached_response_is_served() {
    let edge = Edge::start(page("body", FRESH, &[("ETag", "\"x\"")])).await;
    edge.get("").await;
    assert_answer(&edge.get("").await, 200, "body", "hit");
    let forged = format!("{}x", token("user01"));
    let now = now();
    let expired = json!({"exp": now - 1, "iat": now - 9, "nbf": now - 9, "identity": "user01"});
    for request in [
        format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: \"x\"\r\n\r\n"),
        format!("HEAD {DAY} HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: *\r\n\r\n"),
        presenting(&forged),
        presenting(&signed(HEADER, &expired.to_string())),
    ] {
        let answer = edge.gateway.exchange(&request).await;
        assert_eq!((answer.status, x_cache(&answer)), (401, None), "{request} {answer:?}");
        assert!(answer.values("etag").is_empty() && answer.values("age").is_empty(), "{answer:?}");
    }
    assert_eq!(edge.origin.request_count(), 1);
}

#[tokio::test]
async fn a_revoked_user_gets_no_cached_response_fresh_or_stale() {
    let (revocation, admin) = RevocationStub::start().await;
    let stale = page("stale", "public, s-maxage=5, stale-if-error=600", &[("Age", "10")]);
    let mut origin = Origin::start(stale).await;
    let gateway = RevocationStub::gateway(&origin.backend, &admin, &[CACHE_ENABLED]);
    gateway.ready().await;
    let (stale, fresh) = (get("/holodules/1", ""), get("/holodules/2", ""));
    assert_answer(&gateway.exchange(&stale).await, 200, "stale", "miss");
    origin.respond(page("fresh", FRESH, &[]));
    assert_answer(&gateway.exchange(&fresh).await, 200, "fresh", "miss");
    origin.backend.stop().await;
    assert_answer(&gateway.exchange(&stale).await, 200, "stale", "stale");
    assert_answer(&gateway.exchange(&fresh).await, 200, "fresh", "hit");
    revocation.change("user01", json!({"active": false, "password_changed_at": null, "logged_out": []}));
    until("the user is refused", async || gateway.exchange(&fresh).await.status == 401).await;
    for request in [&stale, &fresh] {
        let answer = gateway.exchange(request).await;
        assert_eq!((answer.status, x_cache(&answer)), (401, None), "{answer:?}");
    }
    // Other users are not affected.
    let other = presenting(&token("user02")).replace(DAY, "/holodules/2");
    assert_answer(&gateway.exchange(other).await, 200, "fresh", "hit");
}

#[tokio::test]
async fn cached_responses_count_against_the_limits() {
    let settings = [("LIMIT_IDENTITY_RATE", "1"), ("LIMIT_IDENTITY_BURST", "2")];
    let edge = Edge::start_with(page("body", FRESH, &[]), &settings).await;
    let mut connection = edge.gateway.connect().await;
    let mut statuses = Vec::new();
    // More than the limit admits, however slow the machine is.
    for _ in 0..20 {
        statuses.push(connection.exchange(get(DAY, "")).await.status);
    }
    assert_eq!((&statuses[..2], edge.origin.request_count()), (&[200, 200][..], 1));
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn another_method_is_405_though_a_response_is_cached() {
    let edge = Edge::start(page("body", FRESH, &[])).await;
    edge.get("").await;
    let refused = edge.gateway.exchange(request("DELETE", DAY, "")).await;
    assert_eq!((refused.status, x_cache(&refused), edge.origin.request_count()), (405, None, 1));
}

/// The CORS fields depend on each request's `Origin`, not on that of the request that filled the cache.
#[tokio::test]
async fn cors_fields_are_added_after_the_cache() {
    let origins = "['https://a.example', 'https://b.example']";
    let edge = Edge::start_with(page("body", FRESH, &[]), &[("CORS_ALLOWED_ORIGINS", origins)]).await;
    for (number, origin) in ["https://a.example", "https://b.example"].into_iter().enumerate() {
        let answer = edge.get(&format!("Origin: {origin}\r\n")).await;
        assert_answer(&answer, 200, "body", if number == 0 { "miss" } else { "hit" });
        assert_eq!((answer.value("access-control-allow-origin"), answer.value("vary")), (origin, "Origin"));
    }
    let answer = edge.get("").await;
    assert_answer(&answer, 200, "body", "hit");
    assert!(answer.values("access-control-allow-origin").is_empty(), "{answer:?}");
}
