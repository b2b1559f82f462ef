//! ops/WIRE.md, "Routes": which requests a route refuses with `403`, and that the service and the cache see none of them.

use holodule_gateway::token::Digest;
use serde_json::json;

use super::{scoped, with};
use crate::support::backend::{Backend, answer};
use crate::support::client::Answer;
use crate::support::h2::Http2;
use crate::support::{Gateway, admin, until};

const ROUTES: &str = "[{ name = 'notes', path = '/notes/{id}', methods = ['GET', 'HEAD', 'POST', 'DELETE', 'OPTIONS'], \
     require = { any = ['viewer', 'editor'] }, \
     require_methods = { POST = { any = ['editor'] }, DELETE = { all = ['admin', 'editor'] } } }, \
     { name = 'day', path = '/day', methods = ['GET', 'HEAD'], shared = true, require = { any = ['viewer'] } }, \
     { name = 'open', path = '/open', methods = ['GET', 'POST'], require_methods = { POST = { any = ['editor'] } } }]";

const WORD: &str = "holodule_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

async fn start(settings: &[(&str, &str)]) -> (Backend, Backend, Gateway) {
    let script = |_: &_| answer("200 OK", &[("Cache-Control", "s-maxage=600"), ("ETag", "\"a\"")], "served");
    let (service, admin) = (Backend::start(script).await, admin().await);
    let settings: Vec<_> = [("ROUTE", ROUTES)].into_iter().chain(settings.iter().copied()).collect();
    let gateway = Gateway::start_with(&service, &admin, &settings);
    (service, admin, gateway)
}

fn assert_insufficient(answer: &Answer) {
    answer.assert_json(403, r#"{"error":"Forbidden"}"#);
    assert_eq!(answer.values("www-authenticate"), [r#"Bearer error="insufficient_scope""#]);
    assert_eq!((answer.value("cache-control"), answer.values("x-cache").len()), ("no-store", 0));
}

#[tokio::test]
async fn a_request_needs_one_or_all_of_the_scopes_by_its_method() {
    let (service, _admin, gateway) = start(&[]).await;
    let mut connection = gateway.connect().await;
    for (method, path, scope, is_served) in [
        ("GET", "/notes/1", "", false),
        ("GET", "/notes/1", "other", false),
        ("GET", "/notes/1", "Viewer viewer2 view", false),
        ("GET", "/notes/1", "viewer", true),
        ("GET", "/notes/1", "a editor z", true),
        ("HEAD", "/notes/1", "other", false),
        ("HEAD", "/notes/1", "viewer", true),
        ("OPTIONS", "/notes/1", "other", false),
        ("POST", "/notes/1", "viewer", false),
        ("POST", "/notes/1", "editor", true),
        ("DELETE", "/notes/1", "admin", false),
        ("DELETE", "/notes/1", "editor viewer", false),
        ("DELETE", "/notes/1", "admin b editor", true),
        ("GET", "/open", "", true),
        ("POST", "/open", "viewer", false),
        ("POST", "/open", "editor", true),
    ] {
        // The connection remains open after a refusal.
        let answer = connection.exchange(with(method, path, &scoped(scope), "Content-Length: 0\r\n")).await;
        let case = format!("{method} {path} {scope:?}: {answer:?}");
        assert_eq!(answer.status, if is_served { 200 } else { 403 }, "{case}");
        assert_eq!(service.seen().len(), usize::from(is_served), "{case}");
        service.forget();
    }
}

#[tokio::test]
async fn a_refusal_names_no_scope_and_is_logged_and_counted() {
    let (service, admin) = (Backend::start(|_| answer("200 OK", &[], "")).await, admin().await);
    let (gateway, log) = Gateway::start_logged(&service, &admin, &[("ROUTE", ROUTES)]);
    let series = r#"gateway_scope_refusals_total{route="notes"}"#;
    assert_eq!(gateway.metric(series).await, Some(0.0));
    let refused = gateway.exchange(with("GET", "/notes/1", &scoped("other"), "")).await;
    assert_insufficient(&refused);
    assert_eq!(gateway.metric(series).await, Some(1.0));
    assert_eq!(
        gateway.metric(r#"gateway_requests_total{method="GET",route="notes",status_class="4xx"}"#).await,
        Some(1.0)
    );
    until("the refusal is logged", async || !log.lines().is_empty()).await;
    let line = log.lines().pop().unwrap();
    assert_eq!(
        (&line["reason"], &line["route"], &line["identity"]),
        (&json!("scope"), &json!("notes"), &json!("user01"))
    );
}

#[tokio::test]
async fn a_body_is_neither_requested_nor_read_before_the_refusal() {
    let (service, _admin, gateway) = start(&[]).await;
    let headers = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let refused = gateway.exchange(with("POST", "/notes/1", &scoped("viewer"), headers)).await;
    assert_insufficient(&refused);
    assert!(service.seen().is_empty());
}

#[tokio::test]
async fn the_cache_serves_nothing_to_a_principal_without_the_scope() {
    let (service, _admin, gateway) = start(&[("CACHE_MAX_BYTES", "67108864")]).await;
    for source in ["miss", "hit"] {
        let answer = gateway.exchange(with("GET", "/day", &scoped("viewer"), "")).await;
        assert_eq!((answer.status, answer.value("x-cache")), (200, source));
    }
    for (method, headers) in
        [("GET", ""), ("HEAD", ""), ("GET", "If-None-Match: \"a\"\r\n"), ("GET", "Range: bytes=0-1\r\n")]
    {
        let refused = gateway.exchange(with(method, "/day", &scoped("editor"), headers)).await;
        assert_eq!(refused.status, 403, "{method} {headers}: {refused:?}");
        assert!(refused.values("etag").is_empty() && refused.values("x-cache").is_empty(), "{refused:?}");
    }
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn a_static_token_has_the_scopes_of_its_table() {
    let digest = Digest::of(WORD.as_bytes());
    for (scopes, status) in [("", 403), (", scopes = ['other']", 403), (", scopes = ['x', 'viewer']", 200)] {
        let machine = format!("[{{ name = 'm', sha256 = '{digest}', routes = ['notes']{scopes} }}]");
        let (service, _admin, gateway) = start(&[("STATIC_TOKEN", &machine)]).await;
        assert_eq!(gateway.exchange(with("GET", "/notes/1", WORD, "")).await.status, status, "{scopes}");
        // For another route than its own it remains unknown.
        assert_eq!(gateway.exchange(with("GET", "/day", WORD, "")).await.status, 404, "{scopes}");
        assert_eq!(service.seen().len(), usize::from(status == 200));
    }
}

#[tokio::test]
async fn a_reload_changes_the_scopes_of_a_static_token() {
    let machine = |scope: &str| {
        format!(
            "[{{ name = 'm', sha256 = '{}', routes = ['notes'], scopes = ['{scope}'] }}]",
            Digest::of(WORD.as_bytes())
        )
    };
    let (_service, _admin, gateway) = start(&[("STATIC_TOKEN", &machine("viewer"))]).await;
    assert_eq!(gateway.exchange(with("GET", "/notes/1", WORD, "")).await.status, 200);
    gateway.reload(&[("STATIC_TOKEN", &machine("other"))]).unwrap();
    assert_insufficient(&gateway.exchange(with("GET", "/notes/1", WORD, "")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_has_the_same_refusals() {
    let (service, _admin, gateway) = start(&[]).await;
    let client = Http2::open(gateway.https).await;
    for (method, scope, status) in
        [("GET", "viewer", 200), ("GET", "other", 403), ("POST", "viewer", 403), ("PUT", "", 405)]
    {
        let request = http::Request::builder().method(method).uri("https://localhost/notes/1");
        let request = request.header("authorization", format!("Bearer {}", scoped(scope))).body("").unwrap();
        let answer = client.exchange(request).await;
        assert_eq!(answer.status, status, "{method} {scope}: {answer:?}");
        if status == 403 {
            assert_insufficient(&answer);
        }
    }
    assert_eq!(service.seen().len(), 1);
}
