//! Compressed responses from the cache, on the default route.

use super::purge::purge;
use super::{Edge, FRESH, page, x_cache};
use crate::support::backend::{Step, answer};
use crate::support::coded::{CODINGS, Coded, raw, text};
use crate::support::{DAY, get, request};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const TAG: (&str, &str) = ("ETag", "\"x\"");

/// A response that is cached and compressed.
fn day(body: &str) -> Vec<Step> {
    page(body, FRESH, &[JSON, TAG])
}

async fn fetch(edge: &Edge, headers: &str) -> Coded {
    Coded::http1(&edge.gateway, get(DAY, headers)).await
}

async fn compressions(edge: &Edge) -> f64 {
    edge.gateway.metric("gateway_cache_compressions_total").await.unwrap()
}

#[tokio::test]
async fn each_form_is_made_once_and_served_to_all_clients() {
    let body = text(20_000);
    let edge = Edge::start(day(&body)).await;
    for (number, coding) in CODINGS.into_iter().enumerate() {
        let accept = format!("Accept-Encoding: {coding}\r\n");
        let first = fetch(&edge, &accept).await;
        first.assert_is(200, Some(coding), &body);
        assert_eq!(first.answer.value("etag"), format!("\"x-{coding}\""));
        assert_eq!(first.answer.value("content-length"), first.sent.len().to_string());
        assert_eq!(x_cache(&first.answer), Some(if number == 0 { "miss" } else { "hit" }));
        let again = fetch(&edge, &accept).await;
        let http2 = Coded::http2(&edge.gateway, "GET", DAY, &[("accept-encoding", coding)]).await;
        for other in [again, http2] {
            assert_eq!(x_cache(&other.answer), Some("hit"));
            assert!(other.sent == first.sent && other.fields() == first.fields(), "{other:?}");
        }
    }
    assert_eq!((compressions(&edge).await, edge.origin.request_count()), (3.0, 1));
}

#[tokio::test]
async fn the_server_prefers_zstd_and_identity_needs_no_field() {
    let body = text(2000);
    let edge = Edge::start(day(&body)).await;
    for (accept, coding) in [
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip, br", Some("br")),
        ("gzip;q=1, br;q=0.5", Some("gzip")),
        ("identity", None),
        ("*;q=0", None),
        ("gzip;q=2", None),
        ("", None),
    ] {
        let sent = fetch(&edge, &format!("Accept-Encoding: {accept}\r\n")).await;
        sent.assert_is(200, coding, &body);
        assert!(sent.varies(), "{accept}");
    }
    let plain = fetch(&edge, "").await;
    plain.assert_is(200, None, &body);
    assert!(!plain.varies());
}

#[tokio::test]
async fn without_accept_encoding_every_byte_is_that_of_a_route_without_compression() {
    const PLAIN: &str = "[{ name = 'holodules', path = '/holodules/{day}', methods = ['GET', 'HEAD'], shared = true }]";
    let steps = page(&text(2000), FRESH, &[JSON, TAG, ("Accept-Ranges", "bytes")]);
    let (edge, plain) = (Edge::start(steps.clone()).await, Edge::start_with(steps, &[("ROUTE", PLAIN)]).await);
    for headers in ["", "If-None-Match: \"x\"\r\n", "If-None-Match: \"y\"\r\n"] {
        for method in ["GET", "HEAD"] {
            // Also after a compressed form was made.
            for _ in 0..2 {
                let ours = raw(&edge.gateway, method, DAY, headers).await;
                assert_eq!(ours, raw(&plain.gateway, method, DAY, headers).await, "{method} {headers}");
                assert!(ours.0.len() > 5);
                fetch(&edge, "Accept-Encoding: gzip\r\n").await;
            }
        }
    }
    let accepted = Coded::http1(&plain.gateway, get(DAY, "Accept-Encoding: gzip\r\n")).await;
    assert!(accepted.coding().is_none() && accepted.answer.values("vary").is_empty());
}

#[tokio::test]
async fn what_must_not_be_compressed_is_sent_as_it_is() {
    let long = text(2000);
    let small = text(255);
    let event_stream = ("Content-Type", "text/event-stream");
    for (body, control, headers, accept) in [
        (&small, FRESH, &[JSON, TAG][..], ""),
        (&long, "public, s-maxage=600, no-transform", &[JSON, TAG], ""),
        (&long, FRESH, &[JSON, TAG], "Cache-Control: no-transform\r\n"),
        (&long, FRESH, &[("Content-Type", "image/png"), TAG], ""),
        (&long, FRESH, &[event_stream, TAG], ""),
        (&long, FRESH, &[TAG], ""),
        (&long, FRESH, &[JSON, TAG, ("Repr-Digest", "sha-256=:x:")], ""),
    ] {
        let edge = Edge::start(page(body, control, headers)).await;
        // Event streams are never cached.
        let is_cached = !headers.contains(&event_stream);
        for source in ["miss", "hit"].map(|source| is_cached.then_some(source)) {
            let plain = fetch(&edge, &format!("Accept-Encoding: gzip, br, zstd\r\n{accept}")).await;
            plain.assert_is(200, None, body);
            assert_eq!((x_cache(&plain.answer), plain.answer.value("etag")), (source, "\"x\""));
            // Other requests get it compressed.
            assert_eq!(plain.varies(), !accept.is_empty());
        }
        assert_eq!(compressions(&edge).await, 0.0);
    }
    let limit = text(256);
    let edge = Edge::start(day(&limit)).await;
    fetch(&edge, "Accept-Encoding: gzip\r\n").await.assert_is(200, Some("gzip"), &limit);
}

#[tokio::test]
async fn an_encoded_response_of_the_backend_is_not_encoded_again() {
    let edge = Edge::start(page(&text(2000), FRESH, &[JSON, TAG, ("Content-Encoding", "x-own")])).await;
    let sent = fetch(&edge, "Accept-Encoding: gzip\r\n").await;
    assert_eq!((sent.coding(), sent.answer.value("etag")), (Some("x-own"), "\"x\""));
}

#[tokio::test]
async fn a_body_that_does_not_shrink_is_compressed_once_and_sent_as_it_is() {
    // 256 different characters.
    let body: String = (0..256_u32).map(|number| char::from_u32(0x4e00 + number * 61 % 20_000).unwrap()).collect();
    let edge = Edge::start(day(&body)).await;
    let sent = fetch(&edge, "Accept-Encoding: zstd\r\n").await;
    let again = fetch(&edge, "Accept-Encoding: zstd\r\n").await;
    if sent.coding().is_none() {
        again.assert_is(200, None, &body);
        assert_eq!(sent.answer.value("etag"), "\"x\"");
    }
    assert_eq!(compressions(&edge).await, 1.0);
}

#[tokio::test]
async fn head_has_the_fields_of_get() {
    let edge = Edge::start(day(&text(3000))).await;
    for coding in CODINGS {
        let head = Coded::http1(&edge.gateway, request("HEAD", DAY, &format!("Accept-Encoding: {coding}\r\n"))).await;
        let full = fetch(&edge, &format!("Accept-Encoding: {coding}\r\n")).await;
        assert_eq!((head.coding(), head.fields()), (Some(coding), full.fields()));
        assert!(head.sent.is_empty());
        let http2 = Coded::http2(&edge.gateway, "HEAD", DAY, &[("accept-encoding", coding)]).await;
        assert_eq!((http2.sent.len(), http2.fields()), (0, full.fields()));
    }
}

#[tokio::test]
async fn a_client_that_has_any_form_gets_304_with_the_tag_of_that_form() {
    let edge = Edge::start(day(&text(2000))).await;
    fetch(&edge, "").await;
    for (list, accept, tag) in [
        ("\"x-gzip\"", "gzip", "\"x-gzip\""),
        ("\"x-gzip\"", "br", "\"x-gzip\""),
        ("\"x-gzip\"", "identity", "\"x-gzip\""),
        ("W/\"x-br\"", "br", "\"x-br\""),
        ("\"x\"", "gzip", "\"x\""),
        ("\"y\", \"x\", \"x-zstd\"", "zstd", "\"x-zstd\""),
        ("*", "gzip", "\"x-gzip\""),
        ("*", "identity", "\"x\""),
    ] {
        let known = fetch(&edge, &format!("If-None-Match: {list}\r\nAccept-Encoding: {accept}\r\n")).await;
        assert_eq!((known.answer.status, known.answer.value("etag")), (304, tag), "{list} {accept}");
        assert_eq!((known.answer.value("vary"), known.coding()), ("Accept-Encoding", None));
        assert!(known.sent.is_empty() && known.answer.values("content-length").is_empty());
    }
    assert_eq!((compressions(&edge).await, edge.origin.request_count()), (0.0, 1));
    let other = fetch(&edge, "If-None-Match: \"y-gzip\", \"x-deflate\"\r\nAccept-Encoding: gzip\r\n").await;
    assert_eq!((other.answer.status, other.coding()), (200, Some("gzip")));
}

#[tokio::test]
async fn a_304_without_accept_encoding_does_not_vary() {
    let edge = Edge::start(day(&text(2000))).await;
    for (list, tag) in [("\"x\"", "\"x\""), ("\"x-gzip\"", "\"x-gzip\""), ("*", "\"x\"")] {
        let known = fetch(&edge, &format!("If-None-Match: {list}\r\n")).await;
        assert_eq!((known.answer.status, known.answer.value("etag"), known.varies()), (304, tag, false), "{list}");
    }
}

/// Otherwise its condition would be restored to another tag.
#[tokio::test]
async fn a_tag_of_the_backend_that_looks_mapped_is_distinguished() {
    let edge = Edge::start(page(&text(2000), FRESH, &[JSON, ("ETag", "\"x-gzip\"")])).await;
    for (accept, tag) in [("", "\"x-gzip-identity\""), ("identity", "\"x-gzip-identity\""), ("gzip", "\"x-gzip-gzip\"")]
    {
        let field = if accept.is_empty() { String::new() } else { format!("Accept-Encoding: {accept}\r\n") };
        assert_eq!(fetch(&edge, &field).await.answer.value("etag"), tag);
        let known = fetch(&edge, &format!("{field}If-None-Match: {tag}\r\n")).await;
        assert_eq!((known.answer.status, known.answer.value("etag")), (304, tag));
    }
    let other = fetch(&edge, "If-None-Match: \"x\"\r\n").await;
    assert_eq!(other.answer.status, 200);
}

#[tokio::test]
async fn a_weak_tag_stays_weak() {
    let edge = Edge::start(page(&text(2000), FRESH, &[JSON, ("ETag", "W/\"x\"")])).await;
    let sent = fetch(&edge, "Accept-Encoding: br\r\n").await;
    assert_eq!(sent.answer.value("etag"), "W/\"x-br\"");
    let known = fetch(&edge, "Accept-Encoding: br\r\nIf-None-Match: W/\"x-br\"\r\n").await;
    assert_eq!((known.answer.status, known.answer.value("etag")), (304, "W/\"x-br\""));
}

#[tokio::test]
async fn a_revalidated_response_is_not_compressed_again() {
    let body = text(2000);
    let edge = Edge::start(page(&body, "public, no-cache", &[JSON, TAG])).await;
    fetch(&edge, "Accept-Encoding: gzip\r\n").await.assert_is(200, Some("gzip"), &body);
    edge.origin.respond(answer("304 Not Modified", &[TAG, ("X-New", "new")], ""));
    let again = fetch(&edge, "Accept-Encoding: gzip\r\n").await;
    again.assert_is(200, Some("gzip"), &body);
    assert_eq!((x_cache(&again.answer), again.answer.value("x-new")), (Some("revalidated"), "new"));
    // The backend gets its own tag.
    assert_eq!(edge.origin.last_request().values("if-none-match"), ["\"x\""]);
    assert_eq!(compressions(&edge).await, 1.0);
}

#[tokio::test]
async fn a_purge_removes_the_compressed_forms_too() {
    let (old, new) = (text(60_000), text(50_000));
    let edge = Edge::start(day(&old)).await;
    fetch(&edge, "Accept-Encoding: gzip\r\n").await.assert_is(200, Some("gzip"), &old);
    edge.origin.respond(page(&new, FRESH, &[JSON, ("ETag", "\"y\"")]));
    // A form of the old body may be in progress.
    let path = format!("{{\"path\":\"{DAY}\"}}");
    let (_, status) = tokio::join!(
        fetch(&edge, "Accept-Encoding: br\r\n"),
        purge(&edge.gateway, "Content-Type: application/json\r\n", &path),
    );
    assert_eq!(status, 204);
    for coding in CODINGS {
        let sent = fetch(&edge, &format!("Accept-Encoding: {coding}\r\n")).await;
        sent.assert_is(200, Some(coding), &new);
        assert_eq!(sent.answer.value("etag"), format!("\"y-{coding}\""));
    }
}

#[tokio::test]
async fn compressed_forms_count_for_the_size_limit() {
    const MAX: f64 = 128.0 * 1024.0;
    let settings = [("CACHE_MAX_BYTES", "131072"), ("CACHE_MAX_BODY_BYTES", "8192")];
    let body = text(4000);
    let edge = Edge::start_with(day(&body), &settings).await;
    let bytes = async || edge.gateway.metric("gateway_cache_bytes").await.unwrap();
    edge.get("").await;
    let before = bytes().await;
    let sent = fetch(&edge, "Accept-Encoding: gzip\r\n").await;
    assert!(bytes().await >= before + sent.sent.len() as f64);
    let mut connection = edge.gateway.connect().await;
    for number in 0..60 {
        for coding in CODINGS {
            let request = get(&format!("/holodules/{number}"), &format!("Accept-Encoding: {coding}\r\n"));
            let (answer, sent) = connection.exchange_bytes(request).await;
            Coded { answer, sent }.assert_is(200, Some(coding), &body);
        }
        let bytes = bytes().await;
        assert!(0.0 < bytes && bytes <= MAX, "{bytes}");
    }
}

/// The response is for one request, and is not stored.
#[tokio::test]
async fn an_uncacheable_response_is_compressed_as_well() {
    let body = text(2000);
    let edge = Edge::start(page(&body, "public, no-store", &[JSON, TAG])).await;
    for _ in 0..3 {
        fetch(&edge, "Accept-Encoding: gzip\r\n").await.assert_is(200, Some("gzip"), &body);
    }
}

/// Many backends with compression of their own send `Vary` with every response.
#[tokio::test]
async fn a_response_that_varies_by_accept_encoding_is_cached_unless_it_is_encoded() {
    let body = text(2000);
    let vary = ("Vary", "accept-encoding");
    let edge = Edge::start(page(&body, FRESH, &[JSON, TAG, vary])).await;
    for (source, coding) in [("miss", "gzip"), ("hit", "br"), ("hit", "gzip")] {
        let sent = fetch(&edge, &format!("Accept-Encoding: {coding}\r\n")).await;
        assert_eq!((x_cache(&sent.answer), sent.coding()), (Some(source), Some(coding)));
        assert_eq!((sent.answer.value("vary"), sent.text()), ("accept-encoding", body.clone()));
    }
    assert!(edge.origin.backend.only().values("accept-encoding").is_empty());
    for headers in [[JSON, vary, ("Content-Encoding", "x-own")], [JSON, vary, ("Vary", "Cookie")]] {
        let edge = Edge::start(page(&body, FRESH, &headers)).await;
        for _ in 0..3 {
            let before = edge.origin.request_count();
            edge.get("").await;
            assert!(edge.origin.request_count() > before);
        }
    }
}

/// The client has the beginning of the compressed body, and the backend knows only the other one.
#[tokio::test]
async fn a_range_of_a_compressed_form_gets_the_whole_response() {
    let body = text(2000);
    let edge = Edge::start(day(&body)).await;
    let range = "Range: bytes=9-\r\nAccept-Encoding: gzip\r\n";
    fetch(&edge, &format!("{range}If-Range: \"x-gzip\"\r\n")).await.assert_is(200, Some("gzip"), &body);
    let seen = edge.origin.last_request();
    assert!(seen.values("range").is_empty() && seen.values("if-range").is_empty(), "{seen:?}");
    fetch(&edge, &format!("{range}If-Range: \"x\"\r\n")).await;
    let seen = edge.origin.last_request();
    assert_eq!((seen.values("range"), seen.values("if-range")), (vec!["bytes=9-"], vec!["\"x\""]));
}
