//! Asking the backend whether what is kept still holds (RFC 9111, section 4.3).

use super::{Edge, FRESH, assert_answer, page, x_cache};
use crate::support::backend::answer;
use crate::support::until;

/// Kept, and never given without asking.
const ALWAYS: &str = "public, no-cache";

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

#[tokio::test]
async fn what_still_holds_is_given_again_once_the_backend_said_so() {
    let edge = Edge::start(page("body", ALWAYS, &[("ETag", "\"x\""), ("Last-Modified", MODIFIED)])).await;
    assert_answer(&edge.get("").await, 200, "body", "miss");
    edge.origin.says(answer("304 Not Modified", &[("ETag", "\"x\"")], ""));
    for count in 2..=3 {
        assert_answer(&edge.get("").await, 200, "body", "revalidated");
        let seen = edge.origin.last();
        assert_eq!((seen.values("if-none-match"), seen.values("if-modified-since")), (vec!["\"x\""], vec![MODIFIED]));
        assert_eq!(edge.origin.asked(), count);
    }
    // Whoever has it is told so, after the backend was asked all the same.
    assert_answer(&edge.get("If-None-Match: \"x\"\r\n").await, 304, "", "revalidated");
    assert_eq!(edge.origin.asked(), 4);
}

#[tokio::test]
async fn what_has_changed_is_replaced() {
    let edge = Edge::start(page("old", ALWAYS, &[("ETag", "\"x\"")])).await;
    edge.get("").await;
    edge.origin.says(page("new", FRESH, &[("ETag", "\"y\"")]));
    let changed = edge.get("If-None-Match: \"x\"\r\n").await;
    assert_answer(&changed, 200, "new", "miss");
    assert_eq!(changed.value("etag"), "\"y\"");
    assert_eq!(edge.origin.last().values("if-none-match"), ["\"x\""]);
    assert_answer(&edge.get("").await, 200, "new", "hit");
    assert_eq!(edge.origin.asked(), 2);
}

/// RFC 9111, sections 3.2 and 4.3.4.
#[tokio::test]
async fn a_confirmation_brings_headers_and_freshness_up_to_date() {
    let kept = [("ETag", "\"x\""), ("Link", "</old>"), ("X-Kept", "kept"), ("Content-Type", "text/plain")];
    let edge = Edge::start(page("body", ALWAYS, &kept)).await;
    edge.get("").await;
    let news = [
        ("ETag", "\"x\""),
        ("Cache-Control", FRESH),
        ("Link", "</new>"),
        ("Content-Type", "text/html"),
        ("Set-Cookie", "a=b"),
    ];
    edge.origin.says(answer("304 Not Modified", &news, ""));
    for source in ["revalidated", "hit"] {
        let answer = edge.get("").await;
        assert_answer(&answer, 200, "body", source);
        assert_eq!((answer.value("link"), answer.value("x-kept")), ("</new>", "kept"));
        assert_eq!((answer.value("content-type"), answer.value("content-length")), ("text/plain", "4"));
        assert!(answer.values("set-cookie").is_empty());
    }
    assert_eq!(edge.origin.asked(), 2);
}

/// RFC 9111, section 4.3.4: then nothing of it may be used.
#[tokio::test]
async fn a_confirmation_of_another_answer_makes_the_whole_be_asked_for() {
    let edge = Edge::start(page("old", ALWAYS, &[("ETag", "\"x\"")])).await;
    edge.get("").await;
    edge.origin.answers(|seen| {
        if seen.values("if-none-match").is_empty() {
            page("new", FRESH, &[("ETag", "\"y\"")])
        } else {
            answer("304 Not Modified", &[("ETag", "\"y\"")], "")
        }
    });
    assert_answer(&edge.get("").await, 200, "new", "miss");
    assert_eq!(edge.origin.asked(), 3);
}

#[tokio::test]
async fn a_confirmation_that_nobody_asked_for_is_no_answer() {
    let edge = Edge::start(answer("304 Not Modified", &[("ETag", "\"x\"")], "")).await;
    assert_eq!(edge.get("").await.status, 502);
}

#[tokio::test]
async fn a_confirmation_may_forbid_to_keep_it() {
    let edge = Edge::start(page("body", ALWAYS, &[("ETag", "\"x\"")])).await;
    edge.get("").await;
    // It is one user's own from now on, so it is asked for again by that user.
    edge.origin.answers(|seen| match seen.values("if-none-match").is_empty() {
        true => page(seen.values("x-auth-identity").first().unwrap_or(&"nobody"), "private", &[]),
        false => answer("304 Not Modified", &[("ETag", "\"x\""), ("Cache-Control", "private")], ""),
    });
    for asked in 3..=4 {
        let answer = edge.get("").await;
        assert_eq!((answer.status, answer.body.as_str(), edge.origin.asked()), (200, "user01", asked));
    }
    assert!(edge.origin.last().values("if-none-match").is_empty());
}

/// What the backend itself sends: five seconds fresh, then old ones while it is asked.
#[tokio::test]
async fn what_is_given_while_the_backend_is_asked_is_confirmed_behind_the_back() {
    const CONTROL: &str = "public, max-age=0, s-maxage=5, stale-while-revalidate=600";
    let edge = Edge::start(page("body", CONTROL, &[("ETag", "\"x\""), ("Age", "10")])).await;
    assert_answer(&edge.get("").await, 200, "body", "miss");
    edge.origin.says(answer("304 Not Modified", &[("ETag", "\"x\""), ("Cache-Control", FRESH)], ""));
    let stale = edge.get("").await;
    assert_answer(&stale, 200, "body", "stale");
    assert!(stale.value("age").parse::<u32>().unwrap() >= 10);
    until("the answer is confirmed", async || x_cache(&edge.get("").await) == Some("hit")).await;
    assert_eq!(edge.origin.asked(), 2);
    assert_eq!(edge.origin.last().values("if-none-match"), ["\"x\""]);
}
