//! Compressed forms under concurrent requests, purges, changed validators, and for several users.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Semaphore;

use super::purge::purge;
use super::{CACHE_ENABLED, Edge, FRESH, Origin, page, x_cache};
use crate::support::backend::{Step, answer};
use crate::support::coded::{CODINGS, Coded, text};
use crate::support::random::{self, Random};
use crate::support::revocation::RevocationStub;
use crate::support::token::token;
use crate::support::{DAY, get, until};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const TAG: (&str, &str) = ("ETag", "\"x\"");

fn accepting(path: &str, coding: &str) -> String {
    get(path, &format!("Accept-Encoding: {coding}\r\n"))
}

/// A body of any length, of any characters, that shrinks more or less.
fn body(random: &mut Random) -> String {
    let words = ["holodule ", "歌枠", "{\"key\":1}", "\n", "\u{1}", "é"];
    let mut body = String::new();
    for _ in 0..random.below(4000) {
        match random.one_in(4) {
            true => body.push(char::from_u32(u32::from(random.byte()) * 200).unwrap_or('x')),
            false => body.push_str(random.pick(&words)),
        }
    }
    body
}

#[tokio::test]
async fn every_form_of_any_body_is_decoded_to_it() {
    let edge = Edge::start(page("", FRESH, &[JSON])).await;
    let mut random = Random::new(random::seed());
    for number in 0..random::cases(40) {
        let (body, path) = (body(&mut random), format!("/holodules/{number}"));
        edge.origin.respond(page(&body, FRESH, &[JSON, TAG]));
        let mut codings = CODINGS.to_vec();
        codings.extend(["identity", "gzip;q=0.5, br;q=0.2"]);
        for coding in codings {
            let sent = Coded::http1(&edge.gateway, accepting(&path, coding)).await;
            assert!(sent.answer.status == 200 && sent.text() == body, "{number} {coding}: {:?}", sent.answer);
            assert!(sent.sent.len() <= body.len());
        }
    }
}

#[tokio::test]
async fn concurrent_first_requests_in_all_forms_are_one_fetch_and_one_compression_each() {
    let body = text(200_000);
    let permit = Arc::new(Semaphore::new(0));
    let mut steps = vec![Step::WaitFor(Arc::clone(&permit))];
    steps.extend(page(&body, FRESH, &[JSON, TAG]));
    let edge = Edge::start(steps).await;
    let requests = (0..40).map(|number| {
        let coding = ["zstd", "br", "gzip", "identity"][number % 4];
        let gateway = &edge.gateway;
        async move { (coding, Coded::http1(gateway, accepting(DAY, coding)).await) }
    });
    let release = async {
        until("the backend has the request", async || edge.origin.request_count() == 1).await;
        permit.add_permits(1);
    };
    let (sent, ()) = tokio::join!(join_all(requests), release);
    let mut compressed = 0;
    for (coding, sent) in sent {
        assert!(sent.answer.status == 200 && sent.text() == body, "{coding}: {:?}", sent.answer);
        // A request that has waited too long for the thread gets the body as it is.
        let is_expected = sent.coding().is_none_or(|used| used == coding);
        assert!(is_expected && sent.varies(), "{coding}: {:?}", sent.answer);
        compressed += u32::from(sent.coding().is_some());
    }
    assert!(compressed > 0);
    let compressions = edge.gateway.metric("gateway_cache_compressions_total").await.unwrap();
    assert_eq!((compressions, edge.origin.request_count()), (3.0, 1));
}

#[tokio::test]
async fn purges_during_compression_never_leave_an_old_form() {
    let edge = Edge::start(page("", FRESH, &[JSON])).await;
    for round in 0..12 {
        let (old, new, day) = (text(30_000 + round), text(20_000 + round), format!("/holodules/{round}"));
        edge.origin.respond(page(&old, FRESH, &[JSON, TAG]));
        let before = edge.origin.request_count();
        let begun = Coded::http1(&edge.gateway, accepting(&day, CODINGS[round % 3]));
        let purged = async {
            until("the backend has the request", async || edge.origin.request_count() > before).await;
            edge.origin.respond(page(&new, FRESH, &[JSON, ("ETag", "\"y\"")]));
            purge(&edge.gateway, "Content-Type: application/json\r\n", &json!({ "path": day }).to_string()).await
        };
        let (sent, status) = tokio::join!(begun, purged);
        assert_eq!(status, 204);
        assert!(sent.text() == old || sent.text() == new);
        for coding in CODINGS {
            let sent = Coded::http1(&edge.gateway, accepting(&day, coding)).await;
            sent.assert_is(200, Some(coding), &new);
            assert_eq!(sent.answer.value("etag"), format!("\"y-{coding}\""));
        }
    }
}

#[tokio::test]
async fn a_304_with_another_tag_fetches_and_compresses_the_other_body() {
    let (old, new) = (text(3000), text(2500));
    let edge = Edge::start(page(&old, "public, no-cache", &[JSON, TAG])).await;
    let sent = Coded::http1(&edge.gateway, accepting(DAY, "gzip")).await;
    sent.assert_is(200, Some("gzip"), &old);
    let other = page(&new, "public, no-cache", &[JSON, ("ETag", "\"y\"")]);
    edge.origin.respond_with(move |seen| match seen.values("if-none-match").is_empty() {
        true => other.clone(),
        false => answer("304 Not Modified", &[("ETag", "\"y\"")], ""),
    });
    for _ in 0..2 {
        let sent = Coded::http1(&edge.gateway, accepting(DAY, "gzip")).await;
        sent.assert_is(200, Some("gzip"), &new);
        assert_eq!(sent.answer.value("etag"), "\"y-gzip\"");
    }
    // Weak: the tag may change with the fields.
    edge.origin.respond(answer("304 Not Modified", &[("ETag", "W/\"y\"")], ""));
    let sent = Coded::http1(&edge.gateway, accepting(DAY, "gzip")).await;
    sent.assert_is(200, Some("gzip"), &new);
    assert_eq!(sent.answer.value("etag"), "W/\"y-gzip\"");
}

#[tokio::test]
async fn a_304_that_forbids_transformation_ends_compression() {
    let body = text(3000);
    let edge = Edge::start(page(&body, "public, no-cache", &[JSON, TAG])).await;
    let fetch = async || Coded::http1(&edge.gateway, accepting(DAY, "br")).await;
    fetch().await.assert_is(200, Some("br"), &body);
    edge.origin.respond(answer("304 Not Modified", &[TAG, ("Cache-Control", "public, no-cache, no-transform")], ""));
    fetch().await.assert_is(200, None, &body);
    edge.origin.respond(answer("304 Not Modified", &[TAG, ("Cache-Control", "public, no-cache")], ""));
    fetch().await.assert_is(200, Some("br"), &body);
}

#[tokio::test]
async fn users_do_not_share_the_forms_of_private_responses() {
    const OWN: &str = "[{ name = 'own', path = '/own', methods = ['GET'], cache = true, compress = ['gzip'] }]";
    let edge = Edge::start_with(page("", FRESH, &[JSON]), &[("ROUTE", OWN)]).await;
    let own = |identity: &str| format!("{{\"identity\":\"{identity}\"}}").repeat(100);
    edge.origin.respond_with(move |seen| {
        page(&own(seen.values("x-auth-identity")[0]), "max-age=600, s-maxage=600", &[JSON, TAG])
    });
    for source in ["miss", "hit"] {
        for identity in ["user01", "user02"] {
            let authorization = format!("Authorization: Bearer {}\r\n", token(identity));
            let request =
                format!("GET /own HTTP/1.1\r\nHost: localhost\r\n{authorization}Accept-Encoding: gzip\r\n\r\n");
            let sent = Coded::http1(&edge.gateway, request).await;
            sent.assert_is(200, Some("gzip"), &own(identity));
            assert_eq!(x_cache(&sent.answer), Some(source));
        }
    }
}

#[tokio::test]
async fn a_revoked_user_gets_no_compressed_response() {
    let (revocation, admin) = RevocationStub::start().await;
    let body = text(2000);
    let origin = Origin::start(page(&body, FRESH, &[JSON, TAG])).await;
    let gateway = RevocationStub::gateway(&origin.backend, &admin, &[CACHE_ENABLED]);
    gateway.ready().await;
    Coded::http1(&gateway, accepting(DAY, "gzip")).await.assert_is(200, Some("gzip"), &body);
    revocation.change("user01", json!({"active": false, "password_changed_at": null, "logged_out": []}));
    let request = accepting(DAY, "gzip");
    until("the user is refused", async || Coded::http1(&gateway, &request).await.answer.status == 401).await;
}
