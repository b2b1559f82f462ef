//! Purging: at the ops listener, by the backend's feed, and by a write that goes through.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::broadcast;

use super::{Edge, FRESH, KEEPS, Origin, assert_answer, page, x_cache};
use crate::support::backend::{Step, answer};
use crate::support::revocation::RevocationStub;
use crate::support::{DAY, Gateway, get, request, until};

const OTHER: &str = "/holodules/20201210";

const JSON: &str = "Content-Type: application/json\r\n";

/// `POST /cache/purge`, and the status of its answer.
async fn purge(gateway: &Gateway, headers: &str, body: &str) -> u16 {
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

/// An edge that has both days.
async fn filled() -> Edge {
    let edge = Edge::start(page("old", FRESH, &[])).await;
    for path in [DAY, OTHER] {
        edge.gateway.get(path).await;
        assert_answer(&edge.gateway.get(path).await, 200, "old", "hit");
    }
    edge.origin.says(page("new", FRESH, &[]));
    edge
}

#[tokio::test]
async fn a_path_is_purged_and_no_other() {
    let edge = filled().await;
    assert_eq!(purge(&edge.gateway, JSON, &json!({"path": DAY}).to_string()).await, 204);
    assert_answer(&edge.gateway.get(DAY).await, 200, "new", "miss");
    assert_answer(&edge.gateway.get(OTHER).await, 200, "old", "hit");
    assert_eq!(edge.gateway.metric(r#"gateway_cache_purges_total{by="ops"}"#).await, Some(1.0));
}

/// What is kept is kept under one path, however that was written.
#[tokio::test]
async fn every_spelling_of_a_path_purges_it() {
    for path in ["/Holodules/20201209", "/holoapi/holodules/20201209", "/holoapi/Holodules/20201209"] {
        let edge = Edge::start_with(page("old", FRESH, &[]), &[("STRIP_PREFIX", "['/holoapi']")]).await;
        for kept in [DAY, OTHER] {
            edge.gateway.get(kept).await;
            assert_answer(&edge.gateway.get(kept).await, 200, "old", "hit");
        }
        edge.origin.says(page("new", FRESH, &[]));
        assert_eq!(purge(&edge.gateway, JSON, &json!({"path": path}).to_string()).await, 204, "{path}");
        assert_answer(&edge.gateway.get(DAY).await, 200, "new", "miss");
        assert_answer(&edge.gateway.get(OTHER).await, 200, "old", "hit");
    }
}

/// A path that the backend serves, and that clients ask for with the prefix twice.
#[tokio::test]
async fn a_path_that_begins_with_a_prefix_is_purged_as_it_is_written() {
    let route = "[{ path = '/a/{x}', methods = ['GET'], shared = true }]";
    let edge = Edge::start_with(page("old", FRESH, &[]), &[("ROUTE", route), ("STRIP_PREFIX", "['/a']")]).await;
    edge.gateway.get("/a/a/b").await;
    assert_answer(&edge.gateway.get("/a/a/b").await, 200, "old", "hit");
    edge.origin.says(page("new", FRESH, &[]));
    assert_eq!(purge(&edge.gateway, JSON, r#"{"path":"/a/b"}"#).await, 204);
    assert_answer(&edge.gateway.get("/a/a/b").await, 200, "new", "miss");
}

#[tokio::test]
async fn everything_is_purged() {
    let edge = filled().await;
    assert_eq!(purge(&edge.gateway, JSON, r#"{"all":true}"#).await, 204);
    for path in [DAY, OTHER] {
        assert_answer(&edge.gateway.get(path).await, 200, "new", "miss");
    }
}

/// design.md: an unauthenticated port is what DNS rebinding looks for.
#[tokio::test]
async fn nobody_purges_from_a_page_of_another_site() {
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

/// What was purged does not stand in for a failure either.
#[tokio::test]
async fn what_was_purged_is_never_given_again() {
    let stale = page("old", "public, s-maxage=5, stale-while-revalidate=600, stale-if-error=600", &[("Age", "10")]);
    let edge = Edge::start(stale).await;
    edge.get("").await;
    edge.origin.says(answer("503 Service Unavailable", &[], "failed"));
    assert_answer(&edge.get("").await, 200, "old", "stale");
    assert_eq!(purge(&edge.gateway, JSON, &json!({"path": DAY}).to_string()).await, 204);
    let failed = edge.get("").await;
    assert_eq!((failed.status, failed.body.as_str()), (503, "failed"), "{failed:?}");
}

/// An answer that was asked for before a purge may be of before the change.
#[tokio::test]
async fn an_answer_under_way_is_not_kept_past_a_purge() {
    let said = broadcast::channel(4).0;
    let edge = Edge::start(vec![Step::Follow(said.clone())]).await;
    let mut first = edge.gateway.connect().await;
    first.send(get(DAY, "")).await;
    until("the backend is asked", async || said.receiver_count() > 0).await;
    assert_eq!(purge(&edge.gateway, JSON, &json!({"path": DAY}).to_string()).await, 204);
    // Whoever comes after the purge does not wait for it.
    edge.origin.says(page("new", FRESH, &[]));
    assert_answer(&edge.get("").await, 200, "new", "miss");
    for step in page("old", FRESH, &[("Connection", "close")]) {
        let Step::Write(bytes) = step else { panic!("{step:?}") };
        said.send(bytes).unwrap();
    }
    assert_eq!(first.answer("GET").await.body, "old");
    assert_answer(&edge.get("").await, 200, "new", "hit");
}

#[tokio::test]
async fn the_feed_purges() {
    let (authority, admin) = RevocationStub::start().await;
    let origin = Origin::start(page("old", FRESH, &[])).await;
    let gateway = RevocationStub::gateway(&origin.backend, &admin, &[KEEPS]);
    gateway.ready().await;
    let fill = async || {
        for path in [DAY, OTHER] {
            until("it is kept", async || x_cache(&gateway.get(path).await) == Some("hit")).await;
        }
    };
    fill().await;
    origin.says(page("new", FRESH, &[]));
    authority.send_line(&json!({"purge": DAY}));
    until("the day is purged", async || gateway.get(DAY).await.body == "new").await;
    assert_answer(&gateway.get(OTHER).await, 200, "old", "hit");
    fill().await;
    origin.says(page("newest", FRESH, &[]));
    authority.send_line(&json!({"purge_all": true}));
    for path in [DAY, OTHER] {
        until("all is purged", async || gateway.get(path).await.body == "newest").await;
    }
    assert!(gateway.metric(r#"gateway_cache_purges_total{by="feed"}"#).await >= Some(2.0));
}

/// What a broken feed could not tell: the backend is asked again, and is not missed where it is down.
#[tokio::test]
async fn a_feed_that_broke_makes_the_backend_be_asked_again() {
    let (authority, admin) = RevocationStub::start().await;
    let control = "public, s-maxage=600, stale-if-error=600";
    let origin = Origin::start(page("old", control, &[])).await;
    let gateway = RevocationStub::gateway(&origin.backend, &admin, &[KEEPS]);
    gateway.ready().await;
    until("it is kept", async || x_cache(&gateway.get(DAY).await) == Some("hit")).await;
    origin.says(page("new", control, &[]));
    authority.end_feeds();
    until("the new one is there", async || gateway.get(DAY).await.body == "new").await;
}

/// RFC 9111, section 4.4.
#[tokio::test]
async fn a_write_that_goes_through_purges_its_target() {
    let route = "[{ path = '/holodules/{day}', methods = ['GET', 'PUT'], shared = true }]";
    let edge = Edge::start_with(page("old", FRESH, &[]), &[("ROUTE", route)]).await;
    for (status, source) in [("403 Forbidden", "hit"), ("204 No Content", "miss")] {
        edge.origin.says(page("old", FRESH, &[]));
        until("it is kept", async || x_cache(&edge.get("").await) == Some("hit")).await;
        edge.origin.says(vec![Step::Write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes())]);
        edge.gateway.exchange(request("PUT", DAY, "Content-Length: 0\r\n")).await;
        edge.origin.says(page("new", FRESH, &[]));
        assert_eq!(x_cache(&edge.get("").await), Some(source), "{status}");
    }
}

/// The backend may have done what it did not get to tell.
#[tokio::test]
async fn a_write_that_gets_no_answer_purges_its_target() {
    let route = "[{ path = '/holodules/{day}', methods = ['GET', 'PUT'], shared = true }]";
    let edge = Edge::start_with(page("old", FRESH, &[]), &[("ROUTE", route)]).await;
    until("it is kept", async || x_cache(&edge.get("").await) == Some("hit")).await;
    let asked = edge.origin.asked();
    edge.origin.says(vec![Step::Hang]);
    let mut client = edge.gateway.connect().await;
    client.send(request("PUT", DAY, "Content-Length: 0\r\n")).await;
    until("the backend has it", async || edge.origin.asked() > asked).await;
    edge.origin.says(page("new", FRESH, &[]));
    drop(client);
    until("the new one is there", async || edge.get("").await.body == "new").await;
}
