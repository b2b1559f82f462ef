//! Stale responses: during revalidation, and if the backend fails (RFC 5861; RFC 9111, section 4.2.4).

use std::time::{Duration, Instant};

use super::{Edge, FRESH, assert_answer, page, x_cache};
use crate::support::backend::{Step, answer};
use crate::support::{DAY, until};

/// Of a response with [`OLD`]: it is stale at once, and may be served on errors only.
const IF_ERROR: &str = "public, max-age=0, s-maxage=5, stale-if-error=86400";

const OLD: (&str, &str) = ("Age", "10");

#[tokio::test]
async fn a_stale_response_is_served_at_once_and_replaced_in_the_background() {
    let control = "public, s-maxage=5, stale-while-revalidate=600";
    let edge = Edge::start(page("old", control, &[OLD])).await;
    assert_answer(&edge.get("").await, 200, "old", "miss");
    edge.origin.respond(page("new", FRESH, &[]));
    assert_answer(&edge.get("").await, 200, "old", "stale");
    until("the new response is served", async || edge.get("").await.body == "new").await;
    assert_answer(&edge.get("").await, 200, "new", "hit");
    assert_eq!(edge.origin.request_count(), 2);
}

/// However long the backend takes, there is one revalidation.
#[tokio::test]
async fn no_request_waits_for_a_background_revalidation() {
    let edge = Edge::start(page("old", "public, s-maxage=5, stale-while-revalidate=600", &[OLD])).await;
    edge.get("").await;
    edge.origin.respond(vec![Step::Hang]);
    for _ in 0..5 {
        assert_answer(&edge.get("").await, 200, "old", "stale");
    }
    until("the backend has the request", async || edge.origin.request_count() == 2).await;
    assert_answer(&edge.get("").await, 200, "old", "stale");
    assert_eq!(edge.origin.request_count(), 2);
}

#[tokio::test]
async fn a_stale_response_is_served_for_500_and_502_to_504() {
    let edge = Edge::start(Vec::new()).await;
    for status in ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"] {
        let path = format!("/holodules/{}", &status[..3]);
        edge.origin.respond(page("old", IF_ERROR, &[OLD]));
        assert_answer(&edge.gateway.get(&path).await, 200, "old", "miss");
        edge.origin.respond(answer(status, &[("Cache-Control", FRESH)], "failed"));
        edge.origin.backend.forget();
        let stale = edge.gateway.get(&path).await;
        assert_answer(&stale, 200, "old", "stale");
        assert!(stale.value("age").parse::<u32>().unwrap() >= 10);
        assert_eq!(edge.origin.request_count(), 1, "{status}");
        // A backend that has recovered is used again.
        edge.origin.respond(page("new", FRESH, &[]));
        until("the new response is served", async || edge.gateway.get(&path).await.body == "new").await;
    }
}

#[tokio::test]
async fn a_stale_response_is_served_without_a_valid_response() {
    let settings = [("CACHE_WAIT_TIMEOUT", "0.1"), ("UPSTREAM_READ_TIMEOUT", "0.2")];
    let edge = Edge::start_with(Vec::new(), &settings).await;
    let truncated = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun".to_vec();
    let rows = [
        vec![Step::Reset],
        vec![Step::Close],
        vec![Step::Hang],
        vec![Step::Write(b"junk\r\n\r\n".to_vec()), Step::Close],
        vec![Step::Write(truncated.clone()), Step::Close],
        vec![Step::Write(truncated), Step::Hang],
    ];
    for (number, failure) in rows.into_iter().enumerate() {
        let path = format!("/holodules/{number}");
        edge.origin.respond(page("old", IF_ERROR, &[OLD, ("Connection", "close")]));
        assert_answer(&edge.gateway.get(&path).await, 200, "old", "miss");
        edge.origin.respond(failure);
        assert_answer(&edge.gateway.get(&path).await, 200, "old", "stale");
    }
}

#[tokio::test]
async fn only_the_first_requests_wait_for_a_backend_that_hangs() {
    let wait = Duration::from_secs(2);
    let edge = Edge::start_with(page("old", IF_ERROR, &[OLD]), &[("CACHE_WAIT_TIMEOUT", "2")]).await;
    assert_answer(&edge.gateway.get(DAY).await, 200, "old", "miss");
    edge.origin.respond(vec![Step::Hang]);
    assert_answer(&edge.gateway.get(DAY).await, 200, "old", "stale");
    let began = Instant::now();
    for _ in 0..10 {
        assert_answer(&edge.gateway.get(DAY).await, 200, "old", "stale");
    }
    assert!(began.elapsed() < 5 * wait, "each waited");
}

#[tokio::test]
async fn a_stale_response_is_served_while_the_backend_is_down() {
    let mut edge = Edge::start(page("old", IF_ERROR, &[OLD])).await;
    assert_answer(&edge.get("").await, 200, "old", "miss");
    edge.origin.backend.stop().await;
    for _ in 0..3 {
        assert_answer(&edge.get("").await, 200, "old", "stale");
        assert_answer(&edge.head("").await, 200, "", "stale");
    }
    // Nothing is stored for another path.
    assert_eq!(edge.gateway.get("/holodules/2").await.status, 503);
}

/// A stale response instead would restore access that the backend has removed.
#[tokio::test]
async fn no_stale_response_is_served_for_other_statuses() {
    let edge = Edge::start(Vec::new()).await;
    for status in
        ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "429 Slow Down", "501 Never"]
    {
        let path = format!("/holodules/{}", &status[..3]);
        let number: u16 = status[..3].parse().unwrap();
        edge.origin.respond(page("old", IF_ERROR, &[OLD]));
        assert_answer(&edge.gateway.get(&path).await, 200, "old", "miss");
        edge.origin.respond(answer(status, &[], "refused"));
        let refused = edge.gateway.get(&path).await;
        assert_eq!((refused.status, refused.body.as_str()), (number, "refused"), "{refused:?}");
        // A later failure does not bring the old response back.
        edge.origin.respond(answer("503 Service Unavailable", &[], "failed"));
        assert_eq!(edge.gateway.get(&path).await.status, 503, "{status}");
    }
}

#[tokio::test]
async fn no_stale_response_is_served_unless_its_directives_allow_it() {
    const TAG: (&str, &str) = ("ETag", "\"x\"");
    let edge = Edge::start(Vec::new()).await;
    let rows = [
        page("old", "public, s-maxage=5", &[OLD, TAG]),
        page("old", "public, s-maxage=5, stale-if-error=4", &[OLD, TAG]),
        page("old", "public, s-maxage=5, stale-if-error=600, must-revalidate", &[OLD, TAG]),
        page("old", "public, s-maxage=5, stale-if-error=600, proxy-revalidate", &[OLD, TAG]),
        page("old", "public, s-maxage=600, stale-if-error=600, no-cache", &[TAG]),
        page("old", "public, s-maxage=5, stale-if-error=x", &[OLD, TAG]),
        answer("404 Not Found", &[("Cache-Control", IF_ERROR), OLD, TAG], "old"),
    ];
    for (number, steps) in rows.into_iter().enumerate() {
        let path = format!("/holodules/{number}");
        edge.origin.respond(steps.clone());
        edge.gateway.get(&path).await;
        edge.origin.respond(answer("503 Service Unavailable", &[("Retry-After", "7")], "failed"));
        let failed = edge.gateway.get(&path).await;
        assert_eq!((failed.status, failed.body.as_str()), (503, "failed"), "{steps:?}");
        assert_eq!(failed.value("retry-after"), "7");
        assert_ne!(x_cache(&failed), Some("stale"));
    }
}

/// A failure is shared by waiting requests, and by no later one.
#[tokio::test]
async fn a_failure_is_not_stored() {
    let edge = Edge::start(answer("503 Service Unavailable", &[("Cache-Control", FRESH)], "failed")).await;
    assert_eq!(edge.get("").await.status, 503);
    edge.origin.respond(page("body", FRESH, &[]));
    assert_answer(&edge.get("").await, 200, "body", "miss");
}
