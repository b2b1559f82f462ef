//! Conditional requests answered from the cache (RFC 9110, section 13; RFC 9111, section 4.3.2), HEAD, and requests
//! that bypass the cache.

use super::{Edge, FRESH, assert_answer, page, x_cache};
use crate::support::client::Answer;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// An edge that has the response. The backend's request count is 0 again.
async fn filled() -> Edge {
    let headers = [("ETag", "\"x\""), ("Last-Modified", MODIFIED), ("Content-Type", "text/plain"), ("Link", "</a>")];
    let edge = Edge::start(page("body", FRESH, &headers)).await;
    assert_answer(&edge.get("").await, 200, "body", "miss");
    edge.origin.backend.forget();
    edge
}

fn assert_not_modified(answer: &Answer) {
    assert_answer(answer, 304, "", "hit");
    // RFC 9110, section 15.4.5.
    assert_eq!((answer.value("etag"), answer.value("cache-control")), ("\"x\"", "private, no-cache"));
    assert!(answer.values("content-length").is_empty() && answer.values("content-type").is_empty(), "{answer:?}");
    assert!(answer.value("age").parse::<u32>().is_ok());
}

#[tokio::test]
async fn a_client_that_has_the_response_gets_304_for_get_and_head() {
    let edge = filled().await;
    for list in ["\"x\"", "W/\"x\"", "\"y\", \"x\"", "*"] {
        let headers = format!("If-None-Match: {list}\r\n");
        assert_not_modified(&edge.get(&headers).await);
        assert_not_modified(&edge.head(&headers).await);
    }
    assert_not_modified(&edge.get("If-None-Match: \"y\"\r\nIf-None-Match: \"x\"\r\n").await);
    for date in [MODIFIED, "Sun, 06 Nov 1994 08:49:38 GMT"] {
        assert_not_modified(&edge.get(&format!("If-Modified-Since: {date}\r\n")).await);
    }
    assert_eq!(edge.origin.request_count(), 0);
}

#[tokio::test]
async fn a_client_that_has_another_response_gets_the_whole() {
    let edge = filled().await;
    for headers in [
        "If-None-Match: \"y\"\r\n".to_owned(),
        "If-None-Match: x\r\n".to_owned(),
        "If-None-Match: \"x\"; \"y\"\r\n".to_owned(),
        // `If-None-Match` takes precedence (section 13.1.3).
        format!("If-None-Match: \"y\"\r\nIf-Modified-Since: {MODIFIED}\r\n"),
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n".to_owned(),
        "If-Modified-Since: yesterday\r\n".to_owned(),
    ] {
        assert_answer(&edge.get(&headers).await, 200, "body", "hit");
    }
    assert_eq!(edge.origin.request_count(), 0);
}

#[tokio::test]
async fn a_connection_can_be_reused_after_each_kind_of_response() {
    let edge = filled().await;
    let mut connection = edge.gateway.connect().await;
    let known = "If-None-Match: \"x\"\r\n";
    for (method, headers, status, body) in
        [("GET", known, 304, ""), ("HEAD", "", 200, ""), ("GET", "", 200, "body"), ("HEAD", known, 304, "")]
    {
        let request = crate::support::request(method, crate::support::DAY, headers);
        assert_answer(&connection.exchange(request).await, status, body, "hit");
    }
}

#[tokio::test]
async fn head_returns_the_length_and_fills_the_cache_by_get() {
    let edge = Edge::start(page("body", FRESH, &[])).await;
    for source in ["miss", "hit"] {
        let answer = edge.head("").await;
        assert_answer(&answer, 200, "", source);
        assert_eq!(answer.value("content-length"), "4");
    }
    assert_eq!(edge.origin.backend.only().method, "GET");
    assert_answer(&edge.get("").await, 200, "body", "hit");
}

/// The backend has to send the whole response, which is stored.
#[tokio::test]
async fn a_condition_of_the_request_that_fills_the_cache_is_not_forwarded() {
    let edge = Edge::start(page("body", FRESH, &[("ETag", "\"x\"")])).await;
    let known = edge.get("If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n").await;
    assert_answer(&known, 304, "", "miss");
    let seen = edge.origin.backend.only();
    assert!(seen.values("if-none-match").is_empty() && seen.values("if-modified-since").is_empty(), "{seen:?}");
    assert_answer(&edge.get("").await, 200, "body", "hit");
}

/// RFC 9110, section 14.2, and conditions that only the backend can evaluate.
#[tokio::test]
async fn ranges_and_other_conditions_bypass_the_cache() {
    let edge = filled().await;
    for (count, header) in
        ["Range: bytes=0-1", "If-Range: \"x\"", "If-Match: \"x\"", "If-Unmodified-Since: x"].into_iter().enumerate()
    {
        let answer = edge.get(&format!("{header}\r\n")).await;
        assert_eq!((answer.status, x_cache(&answer), edge.origin.request_count()), (200, None, count + 1), "{header}");
        let (name, value) = header.split_once(": ").unwrap();
        assert_eq!(edge.origin.last_request().values(name), [value]);
    }
    assert_answer(&edge.get("").await, 200, "body", "hit");
}
