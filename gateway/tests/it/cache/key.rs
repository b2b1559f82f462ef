//! Whose answer it is: what tells two requests apart, and that the backend is told nothing else.

use std::collections::BTreeSet;

use super::{Edge, FRESH, assert_answer, page};
use crate::support::backend::{Seen, Step};
use crate::support::token::token;
use crate::support::{DAY, get};

/// A route whose answers are each user's own.
const OWN: &str = "[{ name = 'own', path = '/own/{page}', methods = ['GET'], query = ['a', 'b'], cache = true }]";

/// A route whose answers are in languages.
const LANGUAGES: &str =
    "[{ name = 'all', path = '/holodules/{day}', methods = ['GET'], shared = true, vary = ['Accept-Language'] }]";

/// Says back what it saw of a header.
fn echo(header: &'static str) -> impl Fn(&Seen) -> Vec<Step> {
    move |seen| page(&seen.values(header).join("|"), FRESH, &[("Vary", header)])
}

fn by(identity: &str, path: &str, headers: &str) -> String {
    let token = token(identity);
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_shared_answer_is_asked_for_without_anybody() {
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
    // Somebody else, in another language, from another page: the same answer.
    assert_answer(&edge.gateway.exchange(by("user02", DAY, "Accept-Language: z\r\n")).await, 200, "body", "hit");
}

#[tokio::test]
async fn an_answer_of_ones_own_is_nobody_elses() {
    let edge = Edge::start_with(Vec::new(), &[("ROUTE", OWN)]).await;
    edge.origin.answers(|seen| page(&seen.values("x-auth-identity").join("|"), FRESH, &[]));
    for source in ["miss", "hit"] {
        for identity in ["user01", "user02"] {
            assert_answer(&edge.gateway.exchange(by(identity, "/own/1", "")).await, 200, identity, source);
        }
    }
    assert_eq!(edge.origin.asked(), 2);
}

#[tokio::test]
async fn a_declared_query_tells_apart() {
    let edge = Edge::start_with(Vec::new(), &[("ROUTE", OWN)]).await;
    edge.origin.answers(|seen| page(&seen.target, FRESH, &[]));
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

/// CVE-2026-2836: one site answered with another's page.
#[tokio::test]
async fn hosts_are_told_apart() {
    let edge = Edge::start_with(Vec::new(), &[("HOSTS", "['a.example', 'b.example']")]).await;
    edge.origin.answers(|seen| page(&seen.values("x-forwarded-host").join("|"), FRESH, &[]));
    for source in ["miss", "hit"] {
        for host in ["a.example", "b.example", "a.example:8443"] {
            let request = get(DAY, "").replace("Host: localhost", &format!("Host: {host}"));
            assert_answer(&edge.gateway.exchange(request).await, 200, host, source);
        }
    }
    let request = get(DAY, "").replace("Host: localhost", "Host: A.Example");
    assert_eq!(edge.gateway.exchange(request).await.body, "a.example");
}

/// Every spelling that a route serves is one path.
#[tokio::test]
async fn the_spellings_of_a_path_share_an_answer() {
    let edge = Edge::start(page("body", FRESH, &[])).await;
    edge.get("").await;
    for path in ["/Holodules/20201209", "/holodules/2020%31209"] {
        let answer = edge.gateway.get(path).await;
        assert!(answer.status == 400 || answer.body == "body", "{answer:?}");
    }
    assert_answer(&edge.gateway.get("/Holodules/20201209").await, 200, "body", "hit");
    assert_eq!(edge.origin.asked(), 1);
}

/// RFC 9111, section 4.1.
#[tokio::test]
async fn a_declared_header_tells_apart() {
    let edge = Edge::start_with(Vec::new(), &[("ROUTE", LANGUAGES)]).await;
    edge.origin.answers(echo("Accept-Language"));
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
async fn what_varies_by_an_undeclared_header_is_not_kept() {
    let edge = Edge::start_with(Vec::new(), &[("ROUTE", LANGUAGES)]).await;
    edge.origin.answers(echo("Accept"));
    // Once on behalf of all, which shows that it is not for all.
    for count in 2..=4 {
        assert_eq!(edge.get("Accept: a\r\n").await.status, 200);
        assert_eq!(edge.origin.asked(), count);
        assert_eq!(edge.origin.last().values("accept"), ["a"]);
    }
}
