//! Revalidation of stored responses by the backend (RFC 9111, section 4.3).

use super::{Edge, FRESH, assert_answer, page, x_cache};
use crate::support::backend::answer;
use crate::support::until;

/// Stored, and revalidated on every request.
const NO_CACHE: &str = "public, no-cache";

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

#[tokio::test]
async fn a_304_confirms_the_stored_response_on_every_request() {
    let edge = Edge::start(page("body", NO_CACHE, &[("ETag", "\"x\""), ("Last-Modified", MODIFIED)])).await;
    assert_answer(&edge.get("").await, 200, "body", "miss");
    edge.origin.respond(answer("304 Not Modified", &[("ETag", "\"x\"")], ""));
    for count in 2..=3 {
        assert_answer(&edge.get("").await, 200, "body", "revalidated");
        let seen = edge.origin.last_request();
        assert_eq!((seen.values("if-none-match"), seen.values("if-modified-since")), (vec!["\"x\""], vec![MODIFIED]));
        assert_eq!(edge.origin.request_count(), count);
    }
    // A client that has the response gets 304, after a revalidation as well.
    assert_answer(&edge.get("If-None-Match: \"x\"\r\n").await, 304, "", "revalidated");
    assert_eq!(edge.origin.request_count(), 4);
}

#[tokio::test]
async fn a_200_replaces_the_stored_response() {
    let edge = Edge::start(page("old", NO_CACHE, &[("ETag", "\"x\"")])).await;
    edge.get("").await;
    edge.origin.respond(page("new", FRESH, &[("ETag", "\"y\"")]));
    let changed = edge.get("If-None-Match: \"x\"\r\n").await;
    assert_answer(&changed, 200, "new", "miss");
    assert_eq!(changed.value("etag"), "\"y\"");
    assert_eq!(edge.origin.last_request().values("if-none-match"), ["\"x\""]);
    assert_answer(&edge.get("").await, 200, "new", "hit");
    assert_eq!(edge.origin.request_count(), 2);
}

/// RFC 9111, sections 3.2 and 4.3.4.
#[tokio::test]
async fn a_304_updates_headers_and_freshness() {
    let stored = [("ETag", "\"x\""), ("Link", "</old>"), ("X-Kept", "kept"), ("Content-Type", "text/plain")];
    let edge = Edge::start(page("body", NO_CACHE, &stored)).await;
    edge.get("").await;
    let updates = [
        ("ETag", "\"x\""),
        ("Cache-Control", FRESH),
        ("Link", "</new>"),
        ("Content-Type", "text/html"),
        ("Set-Cookie", "a=b"),
    ];
    edge.origin.respond(answer("304 Not Modified", &updates, ""));
    for source in ["revalidated", "hit"] {
        let answer = edge.get("").await;
        assert_answer(&answer, 200, "body", source);
        assert_eq!((answer.value("link"), answer.value("x-kept")), ("</new>", "kept"));
        assert_eq!((answer.value("content-type"), answer.value("content-length")), ("text/plain", "4"));
        assert!(answer.values("set-cookie").is_empty());
    }
    assert_eq!(edge.origin.request_count(), 2);
}

/// RFC 9111, section 4.3.4: nothing of such a 304 may be used.
#[tokio::test]
async fn a_304_with_another_etag_is_followed_by_an_unconditional_request() {
    let edge = Edge::start(page("old", NO_CACHE, &[("ETag", "\"x\"")])).await;
    edge.get("").await;
    edge.origin.respond_with(|seen| {
        if seen.values("if-none-match").is_empty() {
            page("new", FRESH, &[("ETag", "\"y\"")])
        } else {
            answer("304 Not Modified", &[("ETag", "\"y\"")], "")
        }
    });
    assert_answer(&edge.get("").await, 200, "new", "miss");
    assert_eq!(edge.origin.request_count(), 3);
}

#[tokio::test]
async fn an_unsolicited_304_is_502() {
    let edge = Edge::start(answer("304 Not Modified", &[("ETag", "\"x\"")], "")).await;
    assert_eq!(edge.get("").await.status, 502);
}

#[tokio::test]
async fn a_304_that_forbids_storage_removes_the_response() {
    let edge = Edge::start(page("body", NO_CACHE, &[("ETag", "\"x\"")])).await;
    edge.get("").await;
    // The response is personal from now on, so each request is sent with its user's identity.
    edge.origin.respond_with(|seen| match seen.values("if-none-match").is_empty() {
        true => page(seen.values("x-auth-identity").first().unwrap_or(&"anonymous"), "private", &[]),
        false => answer("304 Not Modified", &[("ETag", "\"x\""), ("Cache-Control", "private")], ""),
    });
    for count in 3..=4 {
        let answer = edge.get("").await;
        assert_eq!((answer.status, answer.body.as_str(), edge.origin.request_count()), (200, "user01", count));
    }
    assert!(edge.origin.last_request().values("if-none-match").is_empty());
}

/// With the directives that the backend sends.
#[tokio::test]
async fn a_response_served_stale_is_revalidated_in_the_background() {
    const CONTROL: &str = "public, max-age=0, s-maxage=5, stale-while-revalidate=600";
    let edge = Edge::start(page("body", CONTROL, &[("ETag", "\"x\""), ("Age", "10")])).await;
    assert_answer(&edge.get("").await, 200, "body", "miss");
    edge.origin.respond(answer("304 Not Modified", &[("ETag", "\"x\""), ("Cache-Control", FRESH)], ""));
    let stale = edge.get("").await;
    assert_answer(&stale, 200, "body", "stale");
    assert!(stale.value("age").parse::<u32>().unwrap() >= 10);
    until("the response is revalidated", async || x_cache(&edge.get("").await) == Some("hit")).await;
    assert_eq!(edge.origin.request_count(), 2);
    assert_eq!(edge.origin.last_request().values("if-none-match"), ["\"x\""]);
}
