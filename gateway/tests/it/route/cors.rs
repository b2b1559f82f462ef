//! `cors` of a route, in place of `[cors]`.

use http::Request;

use super::{Routed, cacheable};
use crate::cors::cors_headers;
use crate::support::backend::{Seen, Step, answer};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{get, request};

const GLOBAL: &str = "https://app.example";
const OWN: &str = "https://own.example";
const EXPOSED: &str = "ETag, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";

const ROUTES: &str = "[{ name = 'own', path = '/own/{*rest}', aliases = ['/alias/{*rest}'], hosts = ['localhost'], \
       methods = ['GET', 'PUT', 'OPTIONS'], require_methods = { PUT = { any = ['admin'] } }, \
       cors = { allowed_origins = ['https://own.example'], allowed_headers = ['Authorization', 'X-Csrf'], \
       exposed_headers = ['Link'], max_age = 60, allow_credentials = true } }, \
     { name = 'cached', path = '/cached', methods = ['GET'], shared = true, \
       cors = { allowed_origins = ['https://own.example', 'https://other.example'] } }, \
     { name = 'off', path = '/off', methods = ['GET', 'POST'], cors = { allowed_origins = [] } }, \
     { name = 'public', path = '/public', methods = ['GET', 'OPTIONS'], public = true, \
       cors = { allowed_origins = ['https://own.example'] } }, \
     { name = 'plain', path = '/plain', methods = ['DELETE', 'GET'] }]";

fn service(seen: &Seen) -> Vec<Step> {
    match seen.target.as_str() {
        "/cached" => cacheable("cached"),
        _ => {
            answer("200 OK", &[("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Methods", "PATCH")], "abc")
        }
    }
}

async fn start() -> Routed {
    Routed::start(ROUTES, &[("CORS_ALLOWED_ORIGINS", "['https://app.example']")], service).await
}

fn preflight(path: &str, origin: &str, method: &str) -> String {
    format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
         Access-Control-Request-Headers: x-csrf\r\n\r\n"
    )
}

/// The CORS headers of a response to the origin of the route `own`.
const GRANTED: [(&str, &str); 4] = [
    ("access-control-allow-credentials", "true"),
    ("access-control-allow-origin", OWN),
    ("access-control-expose-headers", "link"),
    ("vary", "Origin"),
];

#[tokio::test]
async fn a_preflight_is_answered_by_the_policy_of_its_route() {
    let routed = start().await;
    let preflight_headers = |method| {
        let mut headers = GRANTED.to_vec();
        headers.push(("access-control-allow-headers", "authorization, x-csrf"));
        headers.push(("access-control-allow-methods", method));
        headers.push(("access-control-max-age", "60"));
        headers.sort_unstable();
        headers
    };
    // Of every method only the requested one is in the response.
    for (path, method) in [("/own/a", "GET"), ("/own/", "PUT"), ("/alias/a/b", "PUT"), ("/own/a?b=c", "OPTIONS")] {
        let answer = routed.gateway.exchange(preflight(path, OWN, method)).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{path}: {answer:?}");
        assert_eq!(cors_headers(&answer), preflight_headers(method), "{path}");
    }
    for (path, origin, method, expected) in [
        ("/own/a", OWN, "DELETE", &GRANTED[..]),
        ("/own/a", OWN, "get", &GRANTED[..]),
        // The origins of [cors] are not those of the route.
        ("/own/a", GLOBAL, "GET", &[("vary", "Origin")][..]),
        ("/own/a", "null", "GET", &[("vary", "Origin")][..]),
        ("/off", GLOBAL, "GET", &[][..]),
        // No route has this path.
        ("/own", OWN, "GET", &[("vary", "Origin")][..]),
        ("/plain", OWN, "GET", &[("vary", "Origin")][..]),
    ] {
        let answer = routed.gateway.exchange(preflight(path, origin, method)).await;
        assert_eq!((answer.status, cors_headers(&answer)), (401, expected.to_vec()), "{path} {origin} {method}");
    }
    let twice = preflight("/own/a", OWN, "GET\r\nAccess-Control-Request-Method: GET");
    assert_eq!(routed.gateway.exchange(twice).await.status, 401);
    let body = preflight("/own/a", OWN, "GET").replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(routed.gateway.exchange(body).await.status, 400);
    let tail = format!("/own/{}a", "a/".repeat(128));
    assert_eq!(routed.gateway.exchange(preflight(&tail, OWN, "GET")).await.status, 401);
    assert!(routed.service.seen().is_empty());
}

#[tokio::test]
async fn a_preflight_for_every_other_path_is_the_same_204() {
    let routed = start().await;
    for path in ["/plain", "/nothing", "/auth", "/auth/logout", "/own"] {
        let answer = routed.gateway.exchange(preflight(path, GLOBAL, "BREW")).await;
        let expected = [
            ("access-control-allow-headers", "Authorization, Content-Type, Last-Event-ID"),
            ("access-control-allow-methods", "GET, PUT, OPTIONS, POST, DELETE"),
            ("access-control-allow-origin", GLOBAL),
            ("access-control-expose-headers", EXPOSED),
            ("access-control-max-age", "7200"),
            ("vary", "Origin"),
        ];
        assert_eq!((answer.status, cors_headers(&answer)), (204, expected.to_vec()), "{path}");
    }
    assert!(routed.service.seen().is_empty());
}

#[tokio::test]
async fn every_response_for_the_path_of_the_route_has_its_headers() {
    let routed = start().await;
    let origin = format!("Origin: {OWN}\r\n");
    for (request, status) in [
        (get("/own/a", &origin), 200),
        (get("/own/a", &origin).replace("Authorization", "X-Other"), 401),
        (request("DELETE", "/own/a", &origin), 405),
        (request("PUT", "/own/a", &origin), 403),
        // Not a preflight: forwarded, since the route lists the method.
        (request("OPTIONS", "/own/a", &origin), 200),
    ] {
        let answer = routed.gateway.exchange(&request).await;
        assert_eq!((answer.status, cors_headers(&answer)), (status, GRANTED.to_vec()), "{request}");
    }
    let methods: Vec<_> = routed.service.seen().iter().map(|seen| seen.method.clone()).collect();
    assert_eq!(methods, ["GET", "OPTIONS"]);
    let other = routed.gateway.exchange(get("/own/a", &format!("Origin: {GLOBAL}\r\n"))).await;
    assert_eq!((other.status, cors_headers(&other)), (200, vec![("vary", "Origin")]));
    let none = routed.gateway.exchange(get("/off", &format!("Origin: {GLOBAL}\r\n"))).await;
    assert_eq!((none.status, cors_headers(&none)), (200, vec![]));
    let plain = routed.gateway.exchange(get("/plain", &origin)).await;
    assert_eq!((plain.status, cors_headers(&plain)), (200, vec![("vary", "Origin")]));
}

#[tokio::test]
async fn a_public_route_with_options_answers_preflights_of_its_origins_only() {
    let routed = start().await;
    let answer = routed.gateway.exchange(preflight("/public", OWN, "GET")).await;
    assert_eq!((answer.status, answer.value("access-control-allow-methods")), (204, "GET"));
    assert!(routed.service.seen().is_empty());
    // Forwarded, but the fields of the service do not allow the origin.
    let other = routed.gateway.exchange(preflight("/public", GLOBAL, "GET")).await;
    assert_eq!((other.status, cors_headers(&other)), (200, vec![("vary", "Origin")]));
    assert_eq!(routed.service.only().method, "OPTIONS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_headers_of_a_cached_response_are_those_of_the_request() {
    let routed = start().await;
    let granted = |origin| {
        vec![("access-control-allow-origin", origin), ("access-control-expose-headers", EXPOSED), ("vary", "Origin")]
    };
    for (origin, source) in [(OWN, "miss"), ("https://other.example", "hit"), (OWN, "hit")] {
        let answer = routed.gateway.exchange(get("/cached", &format!("Origin: {origin}\r\n"))).await;
        assert_eq!((answer.value("x-cache"), cors_headers(&answer)), (source, granted(origin)), "{origin}");
    }
    let client = Http2::open(routed.gateway.https).await;
    for (origin, expected) in [(OWN, granted(OWN)), (GLOBAL, vec![("vary", "Origin")])] {
        let request =
            Request::get("https://localhost/cached").header("authorization", format!("JWT {}", token("user01")));
        let answer = client.exchange(request.header("origin", origin).body("").unwrap()).await;
        assert_eq!((answer.value("x-cache"), cors_headers(&answer)), ("hit", expected), "{origin}");
    }
    let answer = routed.gateway.get("/cached").await;
    assert_eq!((answer.value("x-cache"), cors_headers(&answer)), ("hit", vec![("vary", "Origin")]));
    assert!(routed.service.only().values("origin").is_empty());
}

#[tokio::test]
async fn a_route_for_every_path_does_not_decide_for_the_paths_of_the_gateway() {
    let routes = "[{ name = 'all', path = '/{*rest}', methods = ['GET', 'POST', 'OPTIONS'], tickets = true, \
                     cors = { allowed_origins = ['https://own.example'], allow_credentials = true } }]";
    let settings = [("CORS_ALLOWED_ORIGINS", "['https://app.example']")];
    let routed = Routed::start(routes, &settings, service).await;
    for path in ["/auth", "/auth/ticket"] {
        let answer = routed.gateway.exchange(preflight(path, GLOBAL, "POST")).await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.value("access-control-allow-origin"), GLOBAL);
        assert!(answer.values("access-control-allow-credentials").is_empty(), "{path}");
        let answer = routed.gateway.exchange(preflight(path, OWN, "POST")).await;
        assert!([401, 405].contains(&answer.status), "{path}: {answer:?}");
        assert_eq!(cors_headers(&answer), [("vary", "Origin")], "{path}");
    }
    assert_eq!(routed.gateway.exchange(preflight("/other", OWN, "POST")).await.status, 204);
}
