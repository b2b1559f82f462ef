//! `request_headers` and `response_headers` of a route.

use http::Request;

use super::Routed;
use crate::program::{check, folder};
use crate::support::backend::{Seen, Step, answer};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{get, request};

const ROUTES: &str = "[{ name = 'ruled', path = '/ruled/{day}', methods = ['GET', 'POST'], shared = true, vary = ['Accept'], \
       request_headers = { set = { X-Tenant = 'a b', Accept-Language = 'ja' }, remove = ['X-Debug', 'Cookie'] }, \
       response_headers = { set = { X-Frame-Options = 'DENY', X-Empty = '' }, remove = ['X-Powered-By', 'Set-Cookie'] } }, \
     { name = 'plain', path = '/plain', methods = ['GET'], request_headers = {}, response_headers = { set = {}, remove = [] } }]";

const SENT: &str = "X-Tenant: forged\r\nX_Tenant: forged\r\nx-debug: 1\r\nX_Debug: 1\r\nCookie: a=b\r\nAccept-Language: en\r\nX-Other: c\r\n";

fn service(seen: &Seen) -> Vec<Step> {
    let cache = if seen.method == "GET" { "public, s-maxage=600" } else { "no-store" };
    let fields = [
        ("Cache-Control", cache),
        ("ETag", "\"1\""),
        ("X-Frame-Options", "SAMEORIGIN"),
        ("X_Frame_Options", "ALLOWALL"),
        ("X-Powered-By", "Flask"),
        ("X-Other", "d"),
    ];
    let cookie = [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")];
    let is_cookie = seen.method == "POST";
    answer("200 OK", &[&fields[..], if is_cookie { &cookie } else { &[] }].concat(), "abc")
}

fn assert_rules_of_responses(response: &crate::support::client::Answer) {
    assert_eq!(response.values("x-frame-options"), ["DENY"], "{response:?}");
    assert_eq!(response.values("x-empty"), [""]);
    for removed in ["x_frame_options", "x-powered-by", "set-cookie"] {
        assert!(response.values(removed).is_empty(), "{removed}: {response:?}");
    }
    assert_eq!((response.value("x-other"), response.value("etag")), ("d", "\"1\""));
    assert_eq!(response.values("x-request-id").len(), 1);
}

#[tokio::test]
async fn fields_of_requests_are_set_and_removed_in_every_spelling() {
    let routed = Routed::start(ROUTES, &[], service).await;
    // Forwarded, and fetched for the cache.
    for request in [request("POST", "/ruled/1", SENT), get("/ruled/1", SENT)] {
        assert_eq!(routed.gateway.exchange(&request).await.body, "abc", "{request}");
        let seen = routed.service.only();
        routed.service.forget();
        assert_eq!((seen.values("x-tenant"), seen.values("accept-language")), (vec!["a b"], vec!["ja"]));
        for removed in ["x_tenant", "x-debug", "x_debug", "cookie"] {
            assert!(seen.values(removed).is_empty(), "{removed}: {seen:?}");
        }
        assert_eq!(seen.values("x-other").len(), usize::from(seen.method == "POST"));
        assert_eq!(seen.values("x-forwarded-host"), ["localhost"]);
    }
    assert_eq!(routed.gateway.exchange(get("/plain", "X-Debug: 1\r\n")).await.status, 200);
    assert_eq!(routed.service.only().values("x-debug"), ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_of_responses_are_set_and_removed_from_the_service_and_from_the_cache() {
    let routed = Routed::start(ROUTES, &[], service).await;
    assert_rules_of_responses(&routed.gateway.exchange(request("POST", "/ruled/1", "")).await);
    let client = Http2::open(routed.gateway.https).await;
    for source in ["miss", "hit"] {
        let response = routed.gateway.get("/ruled/1").await;
        assert_rules_of_responses(&response);
        assert_eq!((response.value("x-cache"), response.body.as_str()), (source, "abc"));
    }
    let request = Request::get("https://localhost/ruled/1").header("authorization", format!("JWT {}", token("user01")));
    let response = client.exchange(request.body("").unwrap()).await;
    assert_rules_of_responses(&response);
    assert_eq!((response.value("x-cache"), response.body.as_str()), ("hit", "abc"));
    let response = routed.gateway.exchange(get("/ruled/1", "If-None-Match: \"1\"\r\n")).await;
    assert_eq!((response.status, response.value("x-cache")), (304, "hit"));
    assert_rules_of_responses(&response);
    // The gateway's own responses have no rules, nor have other routes.
    assert!(
        routed
            .gateway
            .exchange(crate::support::request("PUT", "/ruled/1", ""))
            .await
            .values("x-frame-options")
            .is_empty()
    );
    let response = routed.gateway.get("/plain").await;
    assert_eq!((response.value("x-frame-options"), response.value("x-powered-by")), ("SAMEORIGIN", "Flask"));
}

#[test]
fn rules_for_fields_of_the_gateway_and_the_protocol_are_errors() {
    let folder = folder();
    let file = folder.path().join("gateway.toml");
    let valid = std::fs::read_to_string(&file).unwrap();
    for (rules, reason) in [
        ("request_headers = { set = { Host = 'a' } }", "cannot be changed"),
        ("request_headers = { remove = ['authorization'] }", "cannot be changed"),
        ("request_headers = { set = { 'X_Auth_Identity' = 'root' } }", "cannot be changed"),
        ("request_headers = { set = { 'x-FORWARDED_for' = '192.0.2.1' } }", "cannot be changed"),
        ("request_headers = { set = { 'Content_Length' = '1' } }", "cannot be changed"),
        ("request_headers = { remove = ['Transfer-Encoding'] }", "cannot be changed"),
        ("response_headers = { set = { 'X-Request-Id' = '1' } }", "cannot be changed"),
        ("response_headers = { set = { 'Set_Cookie' = 'a=b' } }", "cannot be changed"),
        ("response_headers = { remove = ['Cache-Control'] }", "cannot be changed"),
        ("response_headers = { set = { 'a b' = 'c' } }", "is not a header name"),
        ("response_headers = { set = { X-A = 'b', x_a = 'c' } }", "appears twice"),
        ("response_headers = { set = { X-A = 'b' }, remove = ['x-a'] }", "appears twice"),
        ("response_headers = { set = { X-A = \"b\\r\\nX-B: c\" } }", "not visible ASCII text"),
        ("response_headers = { set = { X-A = 1 } }", "must be a string"),
        ("response_headers = ['X-A']", "must be a table"),
        ("response_headers = { add = { X-A = 'b' } }", "unknown key"),
    ] {
        let route = format!("[[route]]\nmethods = ['GET']\npath = '/a'\n{rules}\n");
        std::fs::write(&file, format!("{valid}{route}")).unwrap();
        let output = check(folder.path(), &[]);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && printed.contains(reason), "{rules}: {printed}");
    }
}
