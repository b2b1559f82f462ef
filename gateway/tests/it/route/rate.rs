//! `limit` of a route: the requests of one address or identity on this route.
//!
//! A bucket refills while a test sends requests: each test allows for less than 20 s of that.

use http::Request;

use super::{Routed, cacheable};
use crate::support::backend::answer;
use crate::support::client::{Answer, Connection};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{get, request};

/// The burst of the limits.
const BURST: usize = 20;

const ROUTES: &str = "[{ name = 'address', path = '/address', methods = ['GET', 'POST'], shared = true, \
       limit = { rate = 1, burst = 20, by = 'address' } }, \
     { name = 'identity', path = '/identity', methods = ['GET'], limit = { rate = 1, burst = 20, by = 'identity' } }, \
     { name = 'open', path = '/open', methods = ['GET'], public = true, limit = { rate = 1, burst = 20, by = 'address' } }, \
     { name = 'free', path = '/free', methods = ['GET'], limit = {} }]";

fn of(user: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {}\r\n\r\n", token(user))
}

/// The number of requests from 127.0.0.`host` before the first 429, and that response.
async fn exhaust(routed: &Routed, host: u8, request: &str) -> (usize, Answer) {
    let mut connection = Connection::open_from(host, routed.gateway.https).await;
    let mut accepted = 0;
    loop {
        let answer = connection.exchange(request).await;
        if answer.status == 429 {
            return (accepted, answer);
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        accepted += 1;
        assert!(accepted < 10 * BURST, "no limit");
    }
}

async fn status(routed: &Routed, host: u8, request: impl AsRef<[u8]>) -> u16 {
    Connection::open_from(host, routed.gateway.https).await.exchange(request).await.status
}

#[tokio::test]
async fn requests_of_an_address_over_the_limit_of_a_route_are_429_with_the_fields() {
    let routed = Routed::start(ROUTES, &[], |_| cacheable("a")).await;
    // From the cache too.
    let (accepted, refused) = exhaust(&routed, 2, &get("/address", "")).await;
    assert!(accepted >= BURST, "{accepted}");
    refused.assert_json(429, r#"{"error":"Too Many Requests"}"#);
    assert_eq!(refused.value("ratelimit-policy"), r#""route_limit";q=20;w=20"#);
    assert_eq!(refused.value("ratelimit"), r#""route_limit";r=0;t=1"#);
    assert_eq!((refused.value("retry-after"), refused.value("cache-control")), ("1", "no-store"));
    // Neither another route nor another address is affected.
    assert_eq!(status(&routed, 2, get("/free", "")).await, 200);
    assert_eq!(status(&routed, 2, get("/identity", "")).await, 200);
    assert_eq!(status(&routed, 3, get("/address", "")).await, 200);
    let metric = routed.gateway.metric("gateway_rate_limited_total{limit=\"route_limit\"}").await;
    assert_eq!(metric, Some(1.0));
}

#[tokio::test]
async fn an_identity_has_one_limit_from_all_addresses() {
    let routed = Routed::start(ROUTES, &[], |_| answer("200 OK", &[], "a")).await;
    let (accepted, _) = exhaust(&routed, 2, &of("user01", "/identity")).await;
    assert!(accepted >= BURST, "{accepted}");
    let (accepted, _) = exhaust(&routed, 3, &of("user01", "/identity")).await;
    assert!(accepted < BURST, "{accepted}");
    assert_eq!(status(&routed, 2, of("user02", "/identity")).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_route_has_a_limit_by_address_on_both_versions() {
    let routed = Routed::start(ROUTES, &[], |_| answer("200 OK", &[], "a")).await;
    let client = Http2::open(routed.gateway.https).await;
    let mut statuses = Vec::new();
    for _ in 0..3 * BURST {
        let request = Request::get("https://localhost/open").body("").unwrap();
        statuses.push(client.exchange(request).await.status);
    }
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(routed.service.seen().len(), statuses.iter().filter(|&&status| status == 200).count());
    let (accepted, _) = exhaust(&routed, 1, "GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(accepted < BURST, "{accepted}");
}

#[tokio::test]
async fn refused_requests_do_not_count_and_the_limit_precedes_the_body() {
    let routed = Routed::start(ROUTES, &[], |_| cacheable("a")).await;
    let mut connection = Connection::open_from(2, routed.gateway.https).await;
    for _ in 0..3 * BURST {
        let bare = "GET /address HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(connection.exchange(bare).await.status, 401);
        assert_eq!(connection.exchange(request("DELETE", "/address", "")).await.status, 405);
    }
    let (accepted, _) = exhaust(&routed, 2, &get("/address", "")).await;
    assert!(accepted >= BURST, "{accepted}");
    let with_body = get("/address", "Content-Length: 1\r\n") + "x";
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(status(&routed, 2, &with_body).await);
    }
    assert!(statuses.contains(&429) && statuses.iter().all(|status| [400, 429].contains(status)), "{statuses:?}");
}
