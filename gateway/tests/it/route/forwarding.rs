//! What a route forwards: tails, prefixes, rewritten paths, whole queries, any method.

use super::{Routed, cacheable};
use crate::support::backend::{Seen, answer};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{get, request};

/// Returns the target and the prefix that the service saw.
fn seen_as(seen: &Seen) -> String {
    format!("{} {} {}", seen.method, seen.target, seen.values("x-forwarded-prefix").join("|")).trim_end().to_owned()
}

const APPS: &str = "[{ name = 'one', path = '/one/{*rest}', methods = ['GET'], strip_prefix = '/one', shared = true }, \
     { name = 'two', path = '/two/{*rest}', methods = ['GET', 'POST'], strip_prefix = '/two', shared = true, query = '*' }, \
     { name = 'three', path = '/three/{id}/{*rest}', methods = ['GET'], rewrite = '/v2/{*rest}' }]";

#[tokio::test]
async fn a_tail_is_forwarded_without_the_prefix_which_the_service_receives_in_a_field() {
    let routed = Routed::start(APPS, &[("CACHE_MAX_BYTES", "0")], |seen| answer("200 OK", &[], &seen_as(seen))).await;
    for (path, expected) in [
        ("/one/", "GET / /one"),
        ("/one/a", "GET /a /one"),
        ("/one/a/b/", "GET /a/b/ /one"),
        ("/one/%E3%83%9B/.a", "GET /%E3%83%9B/.a /one"),
        ("/one/a?b=c", "GET /a /one"),
        ("/two/a?", "GET /a? /two"),
        ("/two/a?b=%2f&&c=d;e=/?", "GET /a?b=%2f&&c=d;e=/? /two"),
        ("/three/7/a/b", "GET /v2/a/b"),
        ("/three/7/", "GET /v2/"),
    ] {
        let answer = routed.gateway.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, expected), "{path}");
    }
    for path in ["/one", "/onea", "/three/7", "/three//", "/"] {
        let answer = routed.gateway.get(path).await;
        assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_path_that_is_not_canonical_reaches_no_tail() {
    let routed = Routed::start(APPS, &[], |seen| cacheable(&seen_as(seen))).await;
    for path in [
        "/one/../two/a",
        "/one/a/../b",
        "/one/./a",
        "/one//a",
        "/one/a//",
        "/one/%2E%2E/a",
        "/one/%2e%2e/a",
        "/one/a%2Fb",
        "/one/a%2fb",
        "/one/a;b",
        "/one/..;/a",
        "/one/a%3Bb",
        "/one/a%5Cb",
        "/one/a\\b",
        "/one/%61",
        "/one/a%00",
        "/one/%25",
        "/one/%C0%AF",
    ] {
        assert_eq!(routed.gateway.get(path).await.status, 400, "{path}");
    }
    assert!(routed.service.seen().is_empty());
}

#[tokio::test]
async fn a_tail_of_too_many_segments_is_404() {
    let routed = Routed::start(APPS, &[], |seen| cacheable(&seen_as(seen))).await;
    assert_eq!(routed.gateway.get(&format!("/one{}", "/a".repeat(128))).await.status, 200);
    assert_eq!(routed.gateway.get(&format!("/one{}", "/a".repeat(129))).await.status, 404);
    assert_eq!(routed.service.seen().len(), 1);
}

#[tokio::test]
async fn a_clients_own_prefix_field_is_removed() {
    let routed = Routed::start(APPS, &[("CACHE_MAX_BYTES", "0")], |seen| answer("200 OK", &[], &seen_as(seen))).await;
    for (path, expected) in [("/one/a", "GET /a /one"), ("/three/7/a", "GET /v2/a")] {
        for name in ["X-Forwarded-Prefix", "x-forwarded-prefix", "X-FORWARDED-PREFIX"] {
            let answer = routed.gateway.exchange(get(path, &format!("{name}: /evil\r\n"))).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, expected), "{name}");
        }
        let answer = routed.gateway.exchange(get(path, "X_Forwarded_Prefix: /evil\r\n")).await;
        assert_eq!(answer.status, 400);
    }
}

/// Otherwise the first service's page would be served for the second.
#[tokio::test]
async fn routes_that_remove_different_prefixes_share_no_entry() {
    let routed = Routed::start(APPS, &[], |seen| cacheable(&seen_as(seen))).await;
    for source in ["miss", "hit"] {
        for (path, body) in [("/one/a", "GET /a /one"), ("/two/a", "GET /a /two")] {
            let answer = routed.gateway.get(path).await;
            assert_eq!((answer.status, answer.body.as_str(), answer.value("x-cache")), (200, body, source));
        }
    }
    assert_eq!(routed.service.seen().len(), 2);
}

#[tokio::test]
async fn a_write_through_one_route_purges_what_another_forwards_to_the_same_path() {
    let routed = Routed::start(APPS, &[], |seen| cacheable(&seen_as(seen))).await;
    for path in ["/one/a", "/two/a", "/one/b"] {
        routed.gateway.get(path).await;
        assert_eq!(routed.gateway.get(path).await.value("x-cache"), "hit");
    }
    assert_eq!(routed.gateway.exchange(request("POST", "/two/a", "")).await.status, 200);
    for (path, source) in [("/one/a", "miss"), ("/two/a", "miss"), ("/one/b", "hit")] {
        assert_eq!(routed.gateway.get(path).await.value("x-cache"), source, "{path}");
    }
}

#[tokio::test]
async fn any_listed_method_is_forwarded_options_too_unless_it_is_a_preflight() {
    let routes = "[{ path = '/dav/{*rest}', methods = ['OPTIONS', 'PROPFIND', 'X-ODD'] }]";
    let origins = ("CORS_ALLOWED_ORIGINS", "['https://app.example']");
    let routed =
        Routed::start(routes, &[origins], |seen| answer("200 OK", &[("Allow", "PROPFIND")], &seen_as(seen))).await;
    for method in ["OPTIONS", "PROPFIND", "X-ODD"] {
        let answer = routed.gateway.exchange(request(method, "/dav/a", "")).await;
        assert_eq!((answer.status, answer.body), (200, format!("{method} /dav/a")));
    }
    let origin = "Origin: https://app.example\r\n";
    assert_eq!(routed.gateway.exchange(request("OPTIONS", "/dav/a", origin)).await.status, 200);
    let preflight = format!("{origin}Access-Control-Request-Method: PROPFIND\r\n");
    let answer = routed.gateway.exchange(request("OPTIONS", "/dav/a", &preflight)).await;
    assert_eq!((answer.status, answer.value("access-control-allow-methods")), (204, "OPTIONS, PROPFIND, X-ODD, POST"));
    let without_token = format!("OPTIONS /dav/a HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n");
    assert_eq!(routed.gateway.exchange(without_token).await.status, 401);
    let answer = routed.gateway.exchange(request("propfind", "/dav/a", "")).await;
    assert_eq!((answer.status, answer.value("allow")), (405, "OPTIONS, PROPFIND, X-ODD"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tails_prefixes_and_queries_are_the_same_on_http_2() {
    let routed = Routed::start(APPS, &[("CACHE_MAX_BYTES", "0")], |seen| answer("200 OK", &[], &seen_as(seen))).await;
    let client = Http2::open(routed.gateway.https).await;
    for (path, status, body) in [
        ("/one/a/", 200, "GET /a/ /one"),
        ("/two/a?b=%2f&&c", 200, "GET /a?b=%2f&&c /two"),
        ("/three/7/a", 200, "GET /v2/a"),
        ("/one/a%2Fb", 400, ""),
        ("/one/..;/b", 400, ""),
    ] {
        let request = http::Request::get(format!("https://localhost{path}"));
        let request = request.header("authorization", format!("JWT {}", token("user01"))).body("").unwrap();
        let answer = client.exchange(request).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(status != 200 || answer.body == body, "{path}: {answer:?}");
    }
}

/// ops/WIRE.md, "Routes": the first route with the path decides, whatever the method.
#[tokio::test]
async fn allow_lists_the_methods_of_the_first_route_with_the_path() {
    let routes = "[{ name = 'read', path = '/a/{*rest}', methods = ['GET'] }, \
                  { name = 'write', path = '/a/b', methods = ['PUT'] }, \
                  { name = 'all', path = '/{*rest}', methods = ['GET', 'DELETE'] }]";
    let routed = Routed::start(routes, &[], |seen| cacheable(&seen_as(seen))).await;
    for (method, path, status, allow) in [
        ("GET", "/a/b", 200, ""),
        ("PUT", "/a/b", 405, "GET"),
        ("DELETE", "/a/b", 405, "GET"),
        ("DELETE", "/a", 200, ""),
        ("PUT", "/a", 405, "GET, DELETE"),
        ("PUT", "/b", 405, "GET, DELETE"),
    ] {
        let answer = routed.gateway.exchange(request(method, path, "")).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(status != 405 || answer.value("allow") == allow, "{method} {path}: {answer:?}");
    }
}

/// The service names its own paths; clients receive those that reach them.
#[tokio::test]
async fn locations_and_cookie_paths_are_mapped_back() {
    let routes = "[{ name = 'app', path = '/app/{*rest}', methods = ['GET'], strip_prefix = '/app', shared = true }, \
         { name = 'new', path = '/new/{*rest}', methods = ['GET'], rewrite = '/v2/{*rest}' }, \
         { name = 'same', path = '/same/{*rest}', methods = ['GET'] }]";
    let redirect = |seen: &Seen| {
        let own = format!("http://{}{}next", seen.values("host").join(""), seen.target);
        let fields = [
            ("Location", seen.target.as_str()),
            ("Content-Location", &own),
            ("Set-Cookie", "a=b; Path=/"),
            ("Set-Cookie", "c=d; Path=/v2/x"),
        ];
        answer("302 Found", &fields, "")
    };
    let routed = Routed::start(routes, &[], redirect).await;
    for (path, location, cookies) in [
        ("/app/a/", "/app/a/", ["a=b; Path=/app", "c=d; Path=/app/v2/x"]),
        ("/new/a/", "/new/a/", ["a=b; Path=/", "c=d; Path=/new/x"]),
        ("/same/a/", "/same/a/", ["a=b; Path=/", "c=d; Path=/v2/x"]),
    ] {
        let response = routed.gateway.get(path).await;
        assert_eq!((response.status, response.value("location")), (302, location), "{path}");
        assert_eq!(response.value("content-location"), format!("https://localhost{location}next"), "{path}");
        assert_eq!(response.values("set-cookie"), cookies, "{path}");
    }
    let cached = Routed::start(routes, &[], |_| {
        answer("200 OK", &[("Cache-Control", "public, s-maxage=600"), ("Content-Location", "/a")], "")
    })
    .await;
    for source in ["miss", "hit"] {
        let response = cached.gateway.get("/app/a").await;
        assert_eq!((response.value("content-location"), response.value("x-cache")), ("/app/a", source));
    }
}
