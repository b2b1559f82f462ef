//! Which responses are stored, and the fields that clients get with them (RFC 9111, sections 3, 5.1 and 5.2).

use super::{Edge, FRESH, assert_answer, page, x_cache};
use crate::support::backend::{Step, answer};
use crate::support::{DAY, get};

const ETAG: (&str, &str) = ("ETag", "\"x\"");

#[tokio::test]
async fn a_storable_response_is_requested_once() {
    let edge = Edge::start(Vec::new()).await;
    let rows = [
        page("body", FRESH, &[]),
        page("body", "s-maxage=600", &[]),
        page("body", "public, max-age=600", &[]),
        page("body", "PUBLIC, Max-Age=\"600\"", &[]),
        page("body", "public", &[("Expires", "Fri, 31 Dec 9999 23:59:59 GMT")]),
        page("body", "public, max-age=0, s-maxage=600, stale-while-revalidate=30, stale-if-error=86400", &[ETAG]),
    ];
    for (number, steps) in rows.into_iter().enumerate() {
        let path = format!("/holodules/{number}");
        edge.origin.respond(steps.clone());
        edge.origin.backend.forget();
        assert_answer(&edge.gateway.get(&path).await, 200, "body", "miss");
        for _ in 0..3 {
            assert_answer(&edge.gateway.get(&path).await, 200, "body", "hit");
        }
        assert_eq!(edge.origin.request_count(), 1, "{steps:?}");
    }
    let route = r#"route="holodules""#;
    let count = async |result: &str| {
        edge.gateway.metric(&format!("gateway_cache_requests_total{{result=\"{result}\",{route}}}")).await
    };
    assert_eq!((count("miss").await, count("hit").await), (Some(6.0), Some(18.0)));
}

#[tokio::test]
async fn an_unstorable_response_is_requested_every_time() {
    let edge = Edge::start(Vec::new()).await;
    let status = |status| answer(status, &[("Cache-Control", FRESH)], "body");
    let personal = [
        answer("200 OK", &[ETAG], "body"),
        answer("403 Forbidden", &[], "body"),
        page("body", "max-age=600", &[]),
        page("body", "must-revalidate, max-age=600", &[]),
        page("body", "public, s-maxage=600, private", &[ETAG]),
        page("body", "public, s-maxage=600, private=\"x\"", &[ETAG]),
        page("body", "public, s-maxage=600, no-store", &[ETAG]),
        page("body", FRESH, &[("Cache-Control", "No-Store")]),
        page("body", FRESH, &[("Set-Cookie", "a=b")]),
        page("body", FRESH, &[("Vary", "*")]),
        page("body", FRESH, &[("Vary", "Accept-Language")]),
        page("body", FRESH, &[("Content-Range", "bytes 0-3/4")]),
    ];
    let impersonal = [
        page("body", "public, max-age=0", &[]),
        page("body", FRESH, &[("Age", "600")]),
        status("201 Created"),
        status("203 Non-Authoritative Information"),
        status("206 Partial Content"),
        status("301 Moved Permanently"),
        status("400 Bad Request"),
        status("403 Forbidden"),
        status("410 Gone"),
        status("500 Internal Server Error"),
        status("503 Service Unavailable"),
    ];
    // A response that may depend on the user is requested once on behalf of all, and then for each user.
    let rows = personal.map(|steps| (steps, 1)).into_iter().chain(impersonal.map(|steps| (steps, 0)));
    for (number, (steps, more)) in rows.enumerate() {
        let path = format!("/holodules/{number}");
        edge.origin.respond(steps.clone());
        edge.origin.backend.forget();
        for count in 1..=3 {
            let answer = edge.gateway.get(&path).await;
            assert_eq!(
                (answer.body.as_str(), edge.origin.request_count()),
                ("body", count + more),
                "{steps:?} {answer:?}"
            );
            assert!(matches!(x_cache(&answer), None | Some("miss")), "{steps:?} {answer:?}");
            assert!(more == 0 || edge.origin.last_request().values("x-auth-identity") == ["user01"], "{steps:?}");
        }
    }
}

#[tokio::test]
async fn a_response_with_a_cookie_is_forwarded_and_not_stored() {
    let edge = Edge::start(page("body", FRESH, &[("Set-Cookie", "a=b")])).await;
    for count in 2..=4 {
        let answer = edge.gateway.get(DAY).await;
        assert_eq!((answer.value("set-cookie"), edge.origin.request_count()), ("a=b", count), "{answer:?}");
    }
}

/// The resource may be created at any moment: five seconds, whatever the response allows, and never stale.
#[tokio::test]
async fn a_404_is_stored_for_at_most_five_seconds() {
    let control = ("Cache-Control", "public, s-maxage=600, stale-if-error=600");
    let edge = Edge::start(answer("404 Not Found", &[control], "none")).await;
    assert_answer(&edge.get("").await, 404, "none", "miss");
    assert_answer(&edge.get("").await, 404, "none", "hit");
    assert_eq!(edge.origin.request_count(), 1);
    // Conditions are evaluated for successful responses only (RFC 9110, section 13.2.1).
    assert_answer(&edge.get("If-None-Match: *\r\n").await, 404, "none", "hit");
    edge.origin.respond(answer("404 Not Found", &[control, ("Age", "5")], "none"));
    for count in 2..=3 {
        assert_eq!(edge.gateway.get("/holodules/2").await.status, 404);
        assert_eq!(edge.origin.request_count(), count);
    }
}

#[tokio::test]
async fn clients_get_the_age_and_no_directives_for_shared_caches() {
    let headers = [ETAG, ("Age", "7"), ("Expires", "0"), ("Server", "backend/1.0"), ("Content-Type", "text/plain")];
    let edge = Edge::start(page("body", FRESH, &headers)).await;
    edge.get("").await;
    let hit = edge.get("").await;
    assert_answer(&hit, 200, "body", "hit");
    assert_eq!(hit.values("cache-control"), ["private, no-cache"]);
    assert_eq!(
        (hit.value("etag"), hit.value("content-type"), hit.value("content-length")),
        ("\"x\"", "text/plain", "4")
    );
    let age: u64 = hit.value("age").parse().unwrap();
    assert!((7..600).contains(&age), "{hit:?}");
    assert!(hit.values("expires").is_empty() && hit.values("server").is_empty(), "{hit:?}");
    assert_ne!(hit.value("x-request-id"), edge.get("").await.value("x-request-id"));
}

#[tokio::test]
async fn a_chunked_response_is_stored_with_its_length() {
    let head = format!("HTTP/1.1 200 OK\r\nCache-Control: {FRESH}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunks = "2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n";
    let edge = Edge::start(vec![Step::Write(format!("{head}{chunks}").into_bytes())]).await;
    for source in ["miss", "hit"] {
        let answer = edge.get("").await;
        assert_answer(&answer, 200, "body", source);
        assert_eq!(answer.value("content-length"), "4");
    }
}

/// RFC 9112, section 6.3: the end of the body is not known.
#[tokio::test]
async fn a_response_with_ambiguous_framing_is_502_and_not_stored() {
    for framing in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nCache-Control: {FRESH}\r\n{framing}\r\n\r\n");
        let text = format!("{head}4\r\nbody\r\n0\r\n\r\n");
        let edge = Edge::start(vec![Step::Write(text.into_bytes()), Step::Close]).await;
        assert_eq!(edge.get("").await.status, 502, "{framing}");
        edge.origin.respond(page("body", FRESH, &[]));
        assert_answer(&edge.get("").await, 200, "body", "miss");
    }
}

#[tokio::test]
async fn a_truncated_response_is_502_and_not_stored() {
    let head = format!("HTTP/1.1 200 OK\r\nCache-Control: {FRESH}\r\nContent-Length: 4\r\n\r\n");
    let edge = Edge::start(vec![Step::Write(format!("{head}bo").into_bytes()), Step::Close]).await;
    assert_eq!(edge.get("").await.status, 502);
    edge.origin.respond(page("body", FRESH, &[]));
    assert_answer(&edge.get("").await, 200, "body", "miss");
}

#[tokio::test]
async fn a_body_over_the_limit_is_served_and_not_stored() {
    let large = "x".repeat(2001);
    let edge = Edge::start_with(page(&large, FRESH, &[]), &[("CACHE_MAX_BODY_BYTES", "2000")]).await;
    for _ in 0..3 {
        let answer = edge.get("").await;
        assert_eq!((answer.status, answer.body == large, x_cache(&answer)), (200, true, None), "{answer:?}");
    }
    assert_eq!(edge.gateway.metric("gateway_cache_evictions_total").await, Some(0.0));
    edge.origin.respond(page(&large[1..], FRESH, &[]));
    edge.gateway.get("/holodules/2").await;
    assert_answer(&edge.gateway.get("/holodules/2").await, 200, &large[1..], "hit");
}

#[tokio::test]
async fn many_keys_stay_within_the_size_limit() {
    const MAX: u64 = 128 * 1024;
    let body = "x".repeat(4000);
    let settings = [("CACHE_MAX_BYTES", "131072"), ("CACHE_MAX_BODY_BYTES", "8192")];
    let edge = Edge::start_with(page(&body, FRESH, &[]), &settings).await;
    let mut connection = edge.gateway.connect().await;
    for number in 0..200 {
        let answer = connection.exchange(get(&format!("/holodules/{number}"), "")).await;
        assert_answer(&answer, 200, &body, "miss");
    }
    let bytes = edge.gateway.metric("gateway_cache_bytes").await.unwrap();
    assert!(0.0 < bytes && bytes <= MAX as f64, "{bytes}");
    let (entries, evictions) = (
        edge.gateway.metric("gateway_cache_entries").await,
        edge.gateway.metric("gateway_cache_evictions_total").await,
    );
    assert!(entries.unwrap() > 0.0 && evictions.unwrap() > 100.0, "{entries:?} {evictions:?}");
}

/// It is neither part of the key nor forwarded.
#[tokio::test]
async fn an_undeclared_query_is_ignored() {
    let edge = Edge::start(page("body", FRESH, &[])).await;
    assert_answer(&edge.gateway.get(&format!("{DAY}?a=1")).await, 200, "body", "miss");
    assert_eq!(edge.origin.last_request().target, DAY);
    for query in ["", "?a=2", "?b", "?"] {
        assert_answer(&edge.gateway.get(&format!("{DAY}{query}")).await, 200, "body", "hit");
    }
}

/// RFC 9111, section 5.2.1, leaves this to the cache. No client can force a backend request.
#[tokio::test]
async fn cache_directives_of_a_request_are_ignored() {
    let edge = Edge::start(page("body", FRESH, &[])).await;
    edge.get("Cache-Control: no-store\r\n").await;
    for directive in ["no-cache", "max-age=0", "no-store", "min-fresh=9999", "only-if-cached"] {
        assert_answer(
            &edge.get(&format!("Cache-Control: {directive}\r\nPragma: no-cache\r\n")).await,
            200,
            "body",
            "hit",
        );
    }
    assert_eq!(edge.origin.request_count(), 1);
}

#[tokio::test]
async fn without_a_cache_every_request_reaches_the_backend() {
    let route = "[{ path = '/holodules/{day}', methods = ['GET', 'HEAD'], shared = true, cache = false }]";
    for settings in [[("ROUTE", route)], [("CACHE_MAX_BYTES", "0")]] {
        let edge = Edge::start_with(page("body", FRESH, &[]), &settings).await;
        for count in 1..=2 {
            let answer = edge.get("").await;
            assert_eq!(
                (answer.status, x_cache(&answer), edge.origin.request_count()),
                (200, None, count),
                "{settings:?}"
            );
        }
    }
}
