//! `allow` and `deny` of a route: which clients may use it.

use http::Request;

use super::{Routed, cacheable};
use crate::support::backend::{Backend, answer};
use crate::support::client::{Answer, Connection, connect_from, shake_hands, tls};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{Gateway, admin, get, request, until};

const FORBIDDEN: &str = r#"{"error":"Forbidden"}"#;

const ROUTES: &str = "[{ name = 'inside', path = '/inside/{day}', methods = ['GET', 'POST'], shared = true, \
       allow = ['127.0.0.0/29', '192.0.2.0/24'], deny = ['127.0.0.3'] }, \
     { name = 'open', path = '/open', methods = ['GET'], public = true, deny = ['127.0.0.3'] }, \
     { name = 'free', path = '/free', methods = ['GET'], allow = [], deny = [] }]";

/// The response to a request from 127.0.0.`host`.
async fn from(gateway: &Gateway, host: u8, request: impl AsRef<[u8]>) -> Answer {
    Connection::open_from(host, gateway.https).await.exchange(request).await
}

fn bare(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[tokio::test]
async fn a_client_outside_the_networks_is_403_and_gets_nothing_from_the_cache() {
    let routed = Routed::start(ROUTES, &[], |_| cacheable("a")).await;
    for source in ["miss", "hit"] {
        assert_eq!(from(&routed.gateway, 2, get("/inside/1", "")).await.value("x-cache"), source);
    }
    routed.service.forget();
    // One is in `deny`, the other is not in `allow`.
    for host in [3, 9] {
        let refused = from(&routed.gateway, host, get("/inside/1", "")).await;
        refused.assert_json(403, FORBIDDEN);
        assert!(refused.values("x-cache").is_empty() && refused.values("connection") != ["close"], "{refused:?}");
        from(&routed.gateway, host, get("/inside/2", "")).await.assert_json(403, FORBIDDEN);
        assert_eq!(from(&routed.gateway, host, get("/free", "")).await.status, 200);
    }
    assert_eq!(routed.service.seen().len(), 2, "only /free");
}

#[tokio::test]
async fn a_public_route_has_networks_too() {
    let routed = Routed::start(ROUTES, &[], |_| answer("200 OK", &[], "a")).await;
    assert_eq!(from(&routed.gateway, 9, bare("/open")).await.status, 200);
    routed.service.forget();
    from(&routed.gateway, 3, bare("/open")).await.assert_json(403, FORBIDDEN);
    assert!(routed.service.seen().is_empty());
}

#[tokio::test]
async fn the_refusal_follows_the_method_and_precedes_the_body() {
    let routed = Routed::start(ROUTES, &[], |_| answer("200 OK", &[], "a")).await;
    for (request, status) in [
        (bare("/inside/1"), 401),
        (get("/elsewhere", ""), 404),
        (request("DELETE", "/inside/1", ""), 405),
        (get("/inside/1", "Content-Length: 1\r\n") + "x", 403),
        (request("POST", "/inside/1", "Content-Length: 1\r\n") + "x", 403),
    ] {
        assert_eq!(from(&routed.gateway, 9, &request).await.status, status, "{request}");
    }
    assert!(routed.service.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_is_the_one_that_trusted_proxies_report() {
    let settings = [("CLIENT_TRUSTED_PROXIES", "['127.0.0.2']"), ("ROUTE", ROUTES)];
    let (service, admin) = (Backend::start(|_| answer("200 OK", &[], "a")).await, admin().await);
    let (gateway, log) = Gateway::start_logged(&service, &admin, &settings);
    let stream = connect_from([127, 0, 0, 2], gateway.https).await.unwrap();
    let stream = shake_hands(stream, "localhost", tls(rustls::ALL_VERSIONS, &["h2"])).await.unwrap();
    let http2 = Http2::over(stream).await;
    let cases = [
        ("192.0.2.7", 200),
        ("::ffff:192.0.2.7", 200),
        ("203.0.113.1", 403),
        ("::ffff:203.0.113.1", 403),
        ("2001:db8::1", 403),
        ("192.0.2.7, 203.0.113.1", 403),
        ("127.0.0.3", 403),
        ("::ffff:127.0.0.3", 403),
    ];
    for (reported, status) in cases {
        let headers = format!("X-Forwarded-For: {reported}\r\n");
        assert_eq!(from(&gateway, 2, get("/inside/1", &headers)).await.status, status, "{reported}");
        // Of a peer that is not trusted, the field has no effect.
        assert_eq!(from(&gateway, 9, get("/inside/1", &headers)).await.status, 403, "{reported}");
        let request = Request::get("https://localhost/inside/1")
            .header("authorization", format!("JWT {}", token("user01")))
            .header("x-forwarded-for", reported);
        assert_eq!(http2.exchange(request.body("").unwrap()).await.status, status, "{reported}");
    }
    until("all are logged", async || log.lines().len() == 3 * cases.len()).await;
    for line in log.lines().into_iter().filter(|line| line["status"] == 403) {
        assert_eq!((&line["reason"], &line["route"]), (&"network".into(), &"inside".into()), "{line}");
    }
}
