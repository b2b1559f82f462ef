//! What a reload does not lose: counts of limits, cached responses.

use serde_json::json;

use crate::auth::{login, user01};
use crate::support::backend::{Backend, answer};
use crate::support::client::Connection;
use crate::support::token::token;
use crate::support::{Gateway, admin, api, get};

fn of(user: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {}\r\n\r\n", token(user))
}

#[tokio::test]
async fn limits_change_and_their_counts_remain() {
    let (api, admin) = (api().await, admin().await);
    // A bucket fills too slowly to matter in this test.
    let settings = |burst: &'static str| [("LIMIT_IDENTITY_RATE", "1"), ("LIMIT_IDENTITY_BURST", burst)];
    let gateway = Gateway::start_with(&api, &admin, &settings("1000"));
    let mut connection = gateway.connect().await;
    for _ in 0..40 {
        assert_eq!(connection.exchange(of("user01", "/none")).await.status, 404);
    }
    gateway.reload(&settings("10")).unwrap();
    let refused = connection.exchange(of("user01", "/none")).await;
    assert_eq!((refused.status, refused.value("ratelimit-policy")), (429, "\"identity\";q=10;w=10"));
    assert_eq!(connection.exchange(of("user02", "/none")).await.status, 404, "another identity");
    // All that were sent still count, but a limit that was disabled has forgotten them.
    gateway.reload(&settings("1000")).unwrap();
    assert_eq!(connection.exchange(of("user01", "/none")).await.status, 404);
    gateway.reload(&[("LIMIT_IDENTITY_RATE", "0")]).unwrap();
    gateway.reload(&settings("10")).unwrap();
    assert_eq!(connection.exchange(of("user01", "/none")).await.status, 404);
}

#[tokio::test]
async fn the_limit_of_a_route_keeps_its_counts() {
    let (api, admin) = (api().await, admin().await);
    let routes = |burst: u32, more: &str| {
        format!(
            "[{{ name = 'one', path = '/holodules/{{day}}', methods = ['GET'], cache = false, \
               limit = {{ rate = 1, burst = {burst}, by = 'identity' }} }}{more}]"
        )
    };
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", &routes(100, ""))]);
    let mut connection = gateway.connect().await;
    for _ in 0..40 {
        assert_eq!(connection.exchange(of("user01", "/holodules/1")).await.status, 200);
    }
    let more = ", { name = 'two', path = '/two', methods = ['GET'] }";
    gateway.reload(&[("ROUTE", &routes(10, more))]).unwrap();
    assert_eq!(connection.exchange(of("user01", "/holodules/1")).await.status, 429);
    assert_eq!(connection.exchange(of("user02", "/holodules/1")).await.status, 200);
}

#[tokio::test]
async fn failed_logins_are_remembered() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[]);
    let mut connection = gateway.connect().await;
    let wrong = |name: &str| login(json!({"username": name, "password": "wrong"}).to_string());
    for number in 0..6 {
        assert_eq!(connection.exchange(wrong(&format!("user{number}"))).await.status, 401);
    }
    gateway.reload(&[("LIMIT_LOGIN_ADDRESS_FAILURES", "7")]).unwrap();
    assert_eq!(connection.exchange(wrong("another")).await.status, 401);
    assert_eq!(connection.exchange(login(user01())).await.status, 429);
    assert_eq!(Connection::open_from(2, gateway.https).await.exchange(login(user01())).await.status, 200);
}

/// A gateway with a cache, and a backend whose responses are numbered.
async fn cached(routes: &str) -> (Gateway, Backend, Backend) {
    let script = |seen: &crate::support::backend::Seen| {
        let body = format!("{} {}/{}", seen.target, seen.connection, seen.place);
        answer("200 OK", &[("Cache-Control", "public, s-maxage=600")], &body)
    };
    let (api, admin) = (Backend::start(script).await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("CACHE_MAX_BYTES", "67108864"), ("ROUTE", routes)]);
    (gateway, api, admin)
}

fn route(name: &str, fields: &str) -> String {
    format!("{{ name = '{name}', path = '/{name}', methods = ['GET'], shared = true{fields} }}")
}

#[tokio::test]
async fn cached_responses_of_unchanged_routes_remain_and_those_of_changed_ones_are_not_served() {
    let routes = |one: &str| format!("[{}, {}]", route("one", one), route("two", ""));
    let (gateway, _api, _admin) = cached(&routes("")).await;
    let mut connection = gateway.connect().await;
    let mut x_cache = async |path: &str| {
        let answered = connection.exchange(get(path, "")).await;
        assert_eq!(answered.status, 200);
        answered.value("x-cache").to_owned()
    };
    for path in ["/one", "/two"] {
        assert_eq!(x_cache(path).await, "miss");
        assert_eq!(x_cache(path).await, "hit");
    }
    gateway.reload(&[("ROUTE", &routes(", request_headers = { set = { X-Tenant = 'b' } }"))]).unwrap();
    assert_eq!((x_cache("/one").await, x_cache("/two").await), ("miss".to_owned(), "hit".to_owned()));
    // Back again: a response that was fetched under other rules in between is not served either.
    gateway.reload(&[("ROUTE", &routes(""))]).unwrap();
    assert_eq!((x_cache("/one").await, x_cache("/two").await), ("miss".to_owned(), "hit".to_owned()));
    // Another order of the tables changes no meaning.
    let reordered = format!("[{}, {}]", route("two", ""), route("one", ""));
    gateway.reload(&[("ROUTE", &reordered), ("HOSTS", "['a.example']")]).unwrap();
    assert_eq!((x_cache("/one").await, x_cache("/two").await), ("hit".to_owned(), "hit".to_owned()));
}

#[tokio::test]
async fn the_cache_changes_its_size_without_being_emptied() {
    let (gateway, api, _admin) =
        cached("[{ name = 'all', path = '/{*rest}', methods = ['GET'], shared = true }]").await;
    let mut connection = gateway.connect().await;
    let mut get_all = async |range: std::ops::Range<u32>| {
        let before = api.seen().len();
        for number in range {
            assert_eq!(connection.exchange(get(&format!("/page/{number}"), "")).await.status, 200);
        }
        api.seen().len() - before
    };
    assert_eq!(get_all(0..100).await, 100);
    gateway.reload(&[("CACHE_MAX_BYTES", "33554432"), ("CACHE_WAIT_TIMEOUT", "1")]).unwrap();
    assert_eq!((get_all(0..100).await, gateway.metric("gateway_cache_entries").await), (0, Some(100.0)));
    gateway.reload(&[("CACHE_MAX_BYTES", "65536"), ("CACHE_MAX_BODY_BYTES", "4096")]).unwrap();
    let entries = gateway.metric("gateway_cache_entries").await.unwrap();
    assert!((1.0..60.0).contains(&entries), "{entries}");
    assert!(gateway.metric("gateway_cache_bytes").await.unwrap() <= 65_536.0 + 8.0);
    gateway.reload(&[("CACHE_MAX_BYTES", "0")]).unwrap();
    assert_eq!(get_all(0..2).await, 2);
    assert_eq!(get_all(0..2).await, 2, "disabled");
    gateway.reload(&[("CACHE_MAX_BYTES", "65536")]).unwrap();
    assert_eq!(get_all(0..2).await, 2);
    assert_eq!(get_all(0..2).await, 0);
}
