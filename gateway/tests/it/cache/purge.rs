//! Purging: by the ops listener, by the backend's feed, and by writes.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::broadcast;

use super::{CACHE_ENABLED, Edge, FRESH, Origin, assert_answer, page, x_cache};
use crate::support::backend::{Step, answer};
use crate::support::revocation::RevocationStub;
use crate::support::{DAY, Gateway, get, request, until};

const OTHER: &str = "/holodules/20201210";

const JSON: &str = "Content-Type: application/json\r\n";

/// Sends `POST /cache/purge` and returns the status of the response.
pub(super) async fn purge(gateway: &Gateway, headers: &str, body: &str) -> u16 {
    let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
    let request = format!(
        "POST /cache/purge HTTP/1.1\r\n{host}{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(gateway.ops).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// An edge that has cached both days.
async fn filled() -> Edge {
    let edge = Edge::start(page("old", FRESH, &[])).await;
    for path in [DAY, OTHER] {
        edge.gateway.get(path).await;
        assert_answer(&edge.gateway.get(path).await, 200, "old", "hit");
    }
    edge.origin.respond(page("new", FRESH, &[]));
    edge
}

#[tokio::test]
async fn a_purge_removes_its_path_and_no_other() {
    let edge = filled().await;
    assert_eq!(purge(&edge.gateway, JSON, &json!({"path": DAY}).to_string()).await, 204);
    assert_answer(&edge.gateway.get(DAY).await, 200, "new", "miss");
    assert_answer(&edge.gateway.get(OTHER).await, 200, "old", "hit");
    assert_eq!(edge.gateway.metric(r#"gateway_cache_purges_total{by="ops"}"#).await, Some(1.0));
}

/// The cache key has the canonical path.
#[tokio::test]
async fn every_spelling_of_a_path_purges_it() {
    for path in ["/Holodules/20201209", "/holoapi/holodules/20201209", "/holoapi/Holodules/20201209"] {
        let edge = Edge::start_with(page("old", FRESH, &[]), &[("STRIP_PREFIX", "['/holoapi']")]).await;
        for cached in [DAY, OTHER] {
            edge.gateway.get(cached).await;
            assert_answer(&edge.gateway.get(cached).await, 200, "old", "hit");
        }
        edge.origin.respond(page("new", FRESH, &[]));
        assert_eq!(purge(&edge.gateway, JSON, &json!({"path": path}).to_string()).await, 204, "{path}");
        assert_answer(&edge.gateway.get(DAY).await, 200, "new", "miss");
        assert_answer(&edge.gateway.get(OTHER).await, 200, "old", "hit");
    }
}

/// The backend serves `/a/b`, which clients request as `/a/a/b`.
#[tokio::test]
async fn a_path_that_begins_with_a_stripped_prefix_is_purged_literally() {
    let route = "[{ path = '/a/{x}', methods = ['GET'], shared = true }]";
    let edge = Edge::start_with(page("old", FRESH, &[]), &[("ROUTE", route), ("STRIP_PREFIX", "['/a']")]).await;
    edge.gateway.get("/a/a/b").await;
    assert_answer(&edge.gateway.get("/a/a/b").await, 200, "old", "hit");
    edge.origin.respond(page("new", FRESH, &[]));
    assert_eq!(purge(&edge.gateway, JSON, r#"{"path":"/a/b"}"#).await, 204);
    assert_answer(&edge.gateway.get("/a/a/b").await, 200, "new", "miss");
}

#[tokio::test]
async fn a_purge_of_all_removes_everything() {
    let edge = filled().await;
    assert_eq!(purge(&edge.gateway, JSON, r#"{"all":true}"#).await, 204);
    for path in [DAY, OTHER] {
        assert_answer(&edge.gateway.get(path).await, 200, "new", "miss");
    }
}

/// The ops listener has no authentication, so that it is a target of DNS rebinding.
#[tokio::test]
async fn cross_site_and_malformed_purges_are_refused() {
    let edge = filled().await;
    let all = r#"{"all":true}"#;
    for (headers, body, status) in [
        (String::new(), all, 415),
        ("Content-Type: text/plain\r\n".to_owned(), all, 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n".to_owned(), all, 415),
        (format!("{JSON}Host: evil.example\r\n"), all, 421),
        (format!("{JSON}Sec-Fetch-Site: cross-site\r\n"), all, 403),
        (JSON.to_owned(), "", 400),
        (JSON.to_owned(), "{}", 400),
        (JSON.to_owned(), r#"{"all":false}"#, 400),
        (JSON.to_owned(), r#"{"path":"holodules"}"#, 400),
        (JSON.to_owned(), r#"{"path":"/a/../b"}"#, 400),
        (JSON.to_owned(), r#"{"path":"/a","all":true}"#, 400),
        (JSON.to_owned(), r#"{"path":"/a","other":1}"#, 400),
    ] {
        assert_eq!(purge(&edge.gateway, &headers, body).await, status, "{headers} {body}");
    }
    for method in ["GET", "PUT", "DELETE"] {
        assert_ne!(edge.gateway.ops_with(method, "/cache/purge").await.0, 204, "{method}");
    }
    for path in [DAY, OTHER] {
        assert_answer(&edge.gateway.get(path).await, 200, "old", "hit");
    }
}

#[tokio::test]
async fn a_purged_response_is_not_served_stale() {
    let stale = page("old", "public, s-maxage=5, stale-while-revalidate=600, stale-if-error=600", &[("Age", "10")]);
    let edge = Edge::start(stale).await;
    edge.get("").await;
    edge.origin.respond(answer("503 Service Unavailable", &[], "failed"));
    assert_answer(&edge.get("").await, 200, "old", "stale");
    assert_eq!(purge(&edge.gateway, JSON, &json!({"path": DAY}).to_string()).await, 204);
    let failed = edge.get("").await;
    assert_eq!((failed.status, failed.body.as_str()), (503, "failed"), "{failed:?}");
}

/// A response that was requested before a purge may be older than the change.
#[tokio::test]
async fn a_response_in_flight_at_a_purge_is_not_stored() {
    let response = broadcast::channel(4).0;
    let edge = Edge::start(vec![Step::Follow(response.clone())]).await;
    let mut first = edge.gateway.connect().await;
    first.send(get(DAY, "")).await;
    until("the backend has the request", async || response.receiver_count() > 0).await;
    assert_eq!(purge(&edge.gateway, JSON, &json!({"path": DAY}).to_string()).await, 204);
    // A request after the purge does not wait for that response.
    edge.origin.respond(page("new", FRESH, &[]));
    assert_answer(&edge.get("").await, 200, "new", "miss");
    for step in page("old", FRESH, &[("Connection", "close")]) {
        let Step::Write(bytes) = step else { panic!("{step:?}") };
        response.send(bytes).unwrap();
    }
    assert_eq!(first.answer("GET").await.body, "old");
    assert_answer(&edge.get("").await, 200, "new", "hit");
}

#[tokio::test]
async fn the_feed_purges_a_path_or_everything() {
    let (revocation, admin) = RevocationStub::start().await;
    let origin = Origin::start(page("old", FRESH, &[])).await;
    let gateway = RevocationStub::gateway(&origin.backend, &admin, &[CACHE_ENABLED]);
    gateway.ready().await;
    let fill = async || {
        for path in [DAY, OTHER] {
            until("it is cached", async || x_cache(&gateway.get(path).await) == Some("hit")).await;
        }
    };
    fill().await;
    origin.respond(page("new", FRESH, &[]));
    revocation.send_line(&json!({"purge": DAY}));
    until("the day is purged", async || gateway.get(DAY).await.body == "new").await;
    assert_answer(&gateway.get(OTHER).await, 200, "old", "hit");
    fill().await;
    origin.respond(page("newest", FRESH, &[]));
    revocation.send_line(&json!({"purge_all": true}));
    for path in [DAY, OTHER] {
        until("everything is purged", async || gateway.get(path).await.body == "newest").await;
    }
    assert!(gateway.metric(r#"gateway_cache_purges_total{by="feed"}"#).await >= Some(2.0));
}

/// Purges may have been missed while there was no feed.
#[tokio::test]
async fn after_an_interrupted_feed_cached_responses_are_requested_again() {
    let (revocation, admin) = RevocationStub::start().await;
    let control = "public, s-maxage=600, stale-if-error=600";
    let origin = Origin::start(page("old", control, &[])).await;
    let gateway = RevocationStub::gateway(&origin.backend, &admin, &[CACHE_ENABLED]);
    gateway.ready().await;
    until("it is cached", async || x_cache(&gateway.get(DAY).await) == Some("hit")).await;
    origin.respond(page("new", control, &[]));
    revocation.end_feeds();
    until("the new response is served", async || gateway.get(DAY).await.body == "new").await;
}

/// RFC 9111, section 4.4.
#[tokio::test]
async fn a_successful_write_purges_its_target() {
    let route = "[{ path = '/holodules/{day}', methods = ['GET', 'PUT'], shared = true }]";
    let edge = Edge::start_with(page("old", FRESH, &[]), &[("ROUTE", route)]).await;
    for (status, source) in [("403 Forbidden", "hit"), ("204 No Content", "miss")] {
        edge.origin.respond(page("old", FRESH, &[]));
        until("it is cached", async || x_cache(&edge.get("").await) == Some("hit")).await;
        edge.origin.respond(vec![Step::Write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes())]);
        edge.gateway.exchange(request("PUT", DAY, "Content-Length: 0\r\n")).await;
        edge.origin.respond(page("new", FRESH, &[]));
        assert_eq!(x_cache(&edge.get("").await), Some(source), "{status}");
    }
}

/// The backend may have made the change.
#[tokio::test]
async fn a_write_without_a_response_purges_its_target() {
    let route = "[{ path = '/holodules/{day}', methods = ['GET', 'PUT'], shared = true }]";
    let edge = Edge::start_with(page("old", FRESH, &[]), &[("ROUTE", route)]).await;
    until("it is cached", async || x_cache(&edge.get("").await) == Some("hit")).await;
    let before = edge.origin.request_count();
    edge.origin.respond(vec![Step::Hang]);
    let mut client = edge.gateway.connect().await;
    client.send(request("PUT", DAY, "Content-Length: 0\r\n")).await;
    until("the backend has the request", async || edge.origin.request_count() > before).await;
    edge.origin.respond(page("new", FRESH, &[]));
    drop(client);
    until("the new response is served", async || edge.get("").await.body == "new").await;
}
