//! The cache key: what distinguishes two requests. Nothing else of a request reaches the backend.

use std::collections::BTreeSet;

use super::{Edge, FRESH, assert_answer, page};
use crate::support::backend::{Seen, Step};
use crate::support::token::token;
use crate::support::{DAY, get};

/// A route whose responses belong to one user each.
const PERSONAL: &str = "[{ name = 'own', path = '/own/{page}', methods = ['GET'], query = ['a', 'b'], cache = true }]";

/// A route whose responses depend on the language.
const LANGUAGES: &str =
    "[{ name = 'all', path = '/holodules/{day}', methods = ['GET'], shared = true, vary = ['Accept-Language'] }]";

/// Responds with the request's values of a header.
fn echo(header: &'static str) -> impl Fn(&Seen) -> Vec<Step> {
    move |seen| page(&seen.values(header).join("|"), FRESH, &[("Vary", header)])
}

fn request_of(identity: &str, path: &str, headers: &str) -> String {
    let token = token(identity);
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_shared_response_is_requested_without_the_fields_of_a_client() {
    let edge = Edge::start(page("body", FRESH, &[])).await;
    let headers = "Accept: a\r\nAccept-Language: b\r\nAccept-Encoding: c\r\nCookie: d=e\r\nUser-Agent: f\r\n\
                   Referer: g\r\nOrigin: h\r\nX-Anything: i\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n\
                   Cache-Control: no-cache\r\nX-Auth-Identity: j\r\n";
    let first = edge.get(headers).await;
    assert_answer(&first, 200, "body", "miss");
    let seen = edge.origin.backend.only();
    let names: BTreeSet<_> = seen.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    assert_eq!(names, ["host", "x-forwarded-host", "x-forwarded-proto", "x-request-id"].map(str::to_owned).into());
    assert_eq!(seen.values("x-request-id"), [first.value("x-request-id")]);
    // Another user with another language gets the same response.
    assert_answer(
        &edge.gateway.exchange(request_of("user02", DAY, "Accept-Language: z\r\n")).await,
        200,
        "body",
        "hit",
    );
}

#[tokio::test]
async fn a_personal_response_is_cached_for_its_user_only() {
    let edge = Edge::start_with(Vec::new(), &[("ROUTE", PERSONAL)]).await;
    edge.origin.respond_with(|seen| page(&seen.values("x-auth-identity").join("|"), FRESH, &[]));
    for source in ["miss", "hit"] {
        for identity in ["user01", "user02"] {
            assert_answer(&edge.gateway.exchange(request_of(identity, "/own/1", "")).await, 200, identity, source);
        }
    }
    assert_eq!(edge.origin.request_count(), 2);
}

#[tokio::test]
async fn a_declared_query_is_part_of_the_key() {
    let edge = Edge::start_with(Vec::new(), &[("ROUTE", PERSONAL)]).await;
    edge.origin.respond_with(|seen| page(&seen.target, FRESH, &[]));
    for (query, target, source) in [
        ("?a=1", "/own/1?a=1", "miss"),
        ("?a=2", "/own/1?a=2", "miss"),
        ("?a=1&c=3", "/own/1?a=1", "hit"),
        ("?b=1", "/own/1?b=1", "miss"),
        ("", "/own/1", "miss"),
        ("?c=1", "/own/1", "hit"),
    ] {
        assert_answer(&edge.gateway.get(&format!("/own/1{query}")).await, 200, target, source);
    }
}

/// CVE-2026-2836: one site's page was served for another site.
#[tokio::test]
async fn the_host_is_part_of_the_key() {
    let edge = Edge::start_with(Vec::new(), &[("HOSTS", "['a.example', 'b.example']")]).await;
    edge.origin.respond_with(|seen| page(&seen.values("x-forwarded-host").join("|"), FRESH, &[]));
    for source in ["miss", "hit"] {
        for host in ["a.example", "b.example", "a.example:8443"] {
            let request = get(DAY, "").replace("Host: localhost", &format!("Host: {host}"));
            assert_answer(&edge.gateway.exchange(request).await, 200, host, source);
        }
    }
    let request = get(DAY, "").replace("Host: localhost", "Host: A.Example");
    assert_eq!(edge.gateway.exchange(request).await.body, "a.example");
}

/// The key has the canonical path.
#[tokio::test]
async fn the_spellings_of_a_path_share_a_response() {
    let edge = Edge::start(page("body", FRESH, &[])).await;
    edge.get("").await;
    for path in ["/Holodules/20201209", "/holodules/2020%31209"] {
        let answer = edge.gateway.get(path).await;
        assert!(answer.status == 400 || answer.body == "body", "{answer:?}");
    }
    assert_answer(&edge.gateway.get("/Holodules/20201209").await, 200, "body", "hit");
    assert_eq!(edge.origin.request_count(), 1);
}

/// RFC 9111, section 4.1.
#[tokio::test]
async fn a_declared_header_is_part_of_the_key() {
    let edge = Edge::start_with(Vec::new(), &[("ROUTE", LANGUAGES)]).await;
    edge.origin.respond_with(echo("Accept-Language"));
    for source in ["miss", "hit"] {
        for (headers, body) in [
            ("", ""),
            ("Accept-Language: en\r\n", "en"),
            ("Accept-Language: de\r\n", "de"),
            ("Accept-Language: en\r\nAccept-Language: de\r\n", "en|de"),
            ("Accept-Language: de\r\nAccept-Language: en\r\n", "de|en"),
        ] {
            assert_answer(&edge.get(headers).await, 200, body, source);
        }
    }
}

#[tokio::test]
async fn a_response_that_varies_by_an_undeclared_header_is_not_stored() {
    let edge = Edge::start_with(Vec::new(), &[("ROUTE", LANGUAGES)]).await;
    edge.origin.respond_with(echo("Accept"));
    // The first request, on behalf of all clients, shows that the response is not the same for all.
    for count in 2..=4 {
        assert_eq!(edge.get("Accept: a\r\n").await.status, 200);
        assert_eq!(edge.origin.request_count(), count);
        assert_eq!(edge.origin.last_request().values("accept"), ["a"]);
    }
}
