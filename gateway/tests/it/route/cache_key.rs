//! The cache key contains the route.

use super::{Routed, cacheable};
use crate::support::backend::Seen;
use crate::support::client::Answer;
use holodule_gateway::token::Digest;

const WORD: &str = "holodule_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Two routes that forward `/a/b` to the same target: one directly, the other by its alias.
const SAME_TARGET: &str = "[{ name = 'one', path = '/a/{page}', methods = ['GET'], shared = true }, \
     { name = 'two', path = '/a/{page}', aliases = ['/z/{page}'], methods = ['GET'], shared = true, host = 'client' }]";

fn assert_answer(answer: &Answer, body: &str, cache: &str) {
    assert_eq!((answer.status, answer.body.as_str(), answer.value("x-cache")), (200, body, cache), "{answer:?}");
}

fn target_and_host(seen: &Seen) -> String {
    format!("{} for {}", seen.target, seen.values("host").join("|"))
}

#[tokio::test]
async fn routes_with_the_same_target_share_no_entry() {
    let routed = Routed::start(SAME_TARGET, &[], |seen| cacheable(&target_and_host(seen))).await;
    let (one, two) = (format!("/a/b for {}", routed.service.address), "/a/b for localhost");
    for source in ["miss", "hit"] {
        assert_answer(&routed.gateway.get("/a/b").await, &one, source);
        assert_answer(&routed.gateway.get("/z/b").await, two, source);
    }
    assert_eq!(routed.service.seen().len(), 2);
}

#[tokio::test]
async fn a_token_for_one_route_gets_no_entry_of_another() {
    let token = format!("[{{ name = 'm', sha256 = '{}', routes = ['two'] }}]", Digest::of(WORD.as_bytes()));
    let routed =
        Routed::start(SAME_TARGET, &[("STATIC_TOKEN", &token)], |seen| cacheable(&target_and_host(seen))).await;
    let get = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {WORD}\r\n\r\n");
        routed.gateway.exchange(request).await
    };
    assert_eq!(routed.gateway.get("/a/b").await.status, 200);
    assert_eq!(get("/a/b").await.status, 404);
    assert_answer(&get("/z/b").await, "/a/b for localhost", "miss");
}
