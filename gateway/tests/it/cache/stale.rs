//! Stale answers: while the backend is asked, and where it fails (RFC 5861; RFC 9111, section 4.2.4).

use super::{Edge, FRESH, assert_answer, page, x_cache};
use crate::support::backend::{Step, answer};
use crate::support::until;

/// Of an answer that comes ten seconds old: what may only stand in for a failure.
const FOR_FAILURES: &str = "public, max-age=0, s-maxage=5, stale-if-error=86400";

const OLD: (&str, &str) = ("Age", "10");

#[tokio::test]
async fn a_stale_answer_is_given_at_once_and_replaced_behind_the_back() {
    let control = "public, s-maxage=5, stale-while-revalidate=600";
    let edge = Edge::start(page("old", control, &[OLD])).await;
    assert_answer(&edge.get("").await, 200, "old", "miss");
    edge.origin.says(page("new", FRESH, &[]));
    assert_answer(&edge.get("").await, 200, "old", "stale");
    until("the new one is there", async || edge.get("").await.body == "new").await;
    assert_answer(&edge.get("").await, 200, "new", "hit");
    assert_eq!(edge.origin.asked(), 2);
}

/// However long the backend takes: nobody waits, and it is asked once.
#[tokio::test]
async fn nobody_waits_for_a_backend_that_is_asked_behind_the_back() {
    let edge = Edge::start(page("old", "public, s-maxage=5, stale-while-revalidate=600", &[OLD])).await;
    edge.get("").await;
    edge.origin.says(vec![Step::Hang]);
    for _ in 0..5 {
        assert_answer(&edge.get("").await, 200, "old", "stale");
    }
    until("the backend is asked", async || edge.origin.asked() == 2).await;
    assert_answer(&edge.get("").await, 200, "old", "stale");
    assert_eq!(edge.origin.asked(), 2);
}

#[tokio::test]
async fn a_stale_answer_stands_in_for_failures_of_the_backend() {
    let edge = Edge::start(Vec::new()).await;
    for status in ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"] {
        let path = format!("/holodules/{}", &status[..3]);
        edge.origin.says(page("old", FOR_FAILURES, &[OLD]));
        assert_answer(&edge.gateway.get(&path).await, 200, "old", "miss");
        edge.origin.says(answer(status, &[("Cache-Control", FRESH)], "failed"));
        edge.origin.backend.forget();
        let stale = edge.gateway.get(&path).await;
        assert_answer(&stale, 200, "old", "stale");
        assert!(stale.value("age").parse::<u32>().unwrap() >= 10);
        assert_eq!(edge.origin.asked(), 1, "{status}");
        // The backend, once it is back, is asked again.
        edge.origin.says(page("new", FRESH, &[]));
        until("the backend is asked again", async || edge.gateway.get(&path).await.body == "new").await;
    }
}

#[tokio::test]
async fn a_stale_answer_stands_in_where_there_is_no_answer() {
    let settings = [("CACHE_WAIT_TIMEOUT", "0.1"), ("UPSTREAM_READ_TIMEOUT", "0.2")];
    let edge = Edge::start_with(Vec::new(), &settings).await;
    let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun".to_vec();
    let rows = [
        vec![Step::Reset],
        vec![Step::Close],
        vec![Step::Hang],
        vec![Step::Write(b"junk\r\n\r\n".to_vec()), Step::Close],
        vec![Step::Write(begun.clone()), Step::Close],
        vec![Step::Write(begun), Step::Hang],
    ];
    for (number, failure) in rows.into_iter().enumerate() {
        let path = format!("/holodules/{number}");
        edge.origin.says(page("old", FOR_FAILURES, &[OLD, ("Connection", "close")]));
        assert_answer(&edge.gateway.get(&path).await, 200, "old", "miss");
        edge.origin.says(failure);
        assert_answer(&edge.gateway.get(&path).await, 200, "old", "stale");
    }
}

#[tokio::test]
async fn a_stale_answer_stands_in_while_nothing_listens() {
    let mut edge = Edge::start(page("old", FOR_FAILURES, &[OLD])).await;
    assert_answer(&edge.get("").await, 200, "old", "miss");
    edge.origin.backend.stop().await;
    for _ in 0..3 {
        assert_answer(&edge.get("").await, 200, "old", "stale");
        assert_answer(&edge.head("").await, 200, "", "stale");
    }
    // What was never asked for has nothing to stand in.
    assert_eq!(edge.gateway.get("/holodules/2").await.status, 503);
}

/// They are answers: to serve an old one would open what the backend has closed.
#[tokio::test]
async fn nothing_stands_in_for_what_is_no_failure() {
    let edge = Edge::start(Vec::new()).await;
    for status in
        ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "429 Slow Down", "501 Never"]
    {
        let path = format!("/holodules/{}", &status[..3]);
        let number: u16 = status[..3].parse().unwrap();
        edge.origin.says(page("old", FOR_FAILURES, &[OLD]));
        assert_answer(&edge.gateway.get(&path).await, 200, "old", "miss");
        edge.origin.says(answer(status, &[], "told"));
        let told = edge.gateway.get(&path).await;
        assert_eq!((told.status, told.body.as_str()), (number, "told"), "{told:?}");
        // And what it has said once is not taken back by a failure.
        edge.origin.says(answer("503 Service Unavailable", &[], "failed"));
        assert_eq!(edge.gateway.get(&path).await.status, 503, "{status}");
    }
}

#[tokio::test]
async fn nothing_stands_in_that_the_answer_did_not_allow() {
    const TAG: (&str, &str) = ("ETag", "\"x\"");
    let edge = Edge::start(Vec::new()).await;
    let rows = [
        page("old", "public, s-maxage=5", &[OLD, TAG]),
        page("old", "public, s-maxage=5, stale-if-error=4", &[OLD, TAG]),
        page("old", "public, s-maxage=5, stale-if-error=600, must-revalidate", &[OLD, TAG]),
        page("old", "public, s-maxage=5, stale-if-error=600, proxy-revalidate", &[OLD, TAG]),
        page("old", "public, s-maxage=600, stale-if-error=600, no-cache", &[TAG]),
        page("old", "public, s-maxage=5, stale-if-error=x", &[OLD, TAG]),
        answer("404 Not Found", &[("Cache-Control", FOR_FAILURES), OLD, TAG], "old"),
    ];
    for (number, steps) in rows.into_iter().enumerate() {
        let path = format!("/holodules/{number}");
        edge.origin.says(steps.clone());
        edge.gateway.get(&path).await;
        edge.origin.says(answer("503 Service Unavailable", &[("Retry-After", "7")], "failed"));
        let failed = edge.gateway.get(&path).await;
        assert_eq!((failed.status, failed.body.as_str()), (503, "failed"), "{steps:?}");
        assert_eq!(failed.value("retry-after"), "7");
        assert_ne!(x_cache(&failed), Some("stale"));
    }
}

/// A failure is told once to all; it does not keep the next from asking.
#[tokio::test]
async fn a_failure_is_not_kept() {
    let edge = Edge::start(answer("503 Service Unavailable", &[("Cache-Control", FRESH)], "failed")).await;
    assert_eq!(edge.get("").await.status, 503);
    edge.origin.says(page("body", FRESH, &[]));
    assert_answer(&edge.get("").await, 200, "body", "miss");
}
