//! The default routes, which need no configuration: what the backend receives, and what the cache shares.

use super::cacheable;
use crate::support::backend::{Backend, Seen, Step, answer};
use crate::support::client::{Answer, Connection};
use crate::support::revocation::RevocationStub;
use crate::support::token::token;
use crate::support::{Gateway, admin, get, request, until};

/// Every list route, each with the query that a client may send.
const LISTS: [&str; 7] = [
    "/holodules?from=20201209&to=20201215&code=HL0001&code=HL0002",
    "/now?group=a",
    "/streamers?group=a",
    "/streamers/HL0001",
    "/streamers/HL0001/holodules?q=a",
    "/schedules?sdate=2020-12-09&keyword=a",
    "/schedules/5fd0",
];

/// A path of each other route, with its methods.
const OTHERS: [(&str, &[&str]); 8] = [
    ("/holodules/stream", &["GET"]),
    ("/calendar", &["GET", "HEAD", "POST"]),
    ("/calendar/5fd0", &["DELETE"]),
    ("/openapi.json", &["GET", "HEAD"]),
    ("/docs", &["GET", "HEAD"]),
    ("/docs/", &["GET", "HEAD"]),
    ("/docs/style.css", &["GET", "HEAD"]),
    ("/holodules/20201209", &["GET", "HEAD"]),
];

struct Stack {
    gateway: Gateway,
    backend: Backend,
    _admin: Backend,
}

impl Stack {
    async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_with(&[("STRIP_PREFIX", "['/holoapi']")], script).await
    }

    async fn start_with(
        settings: &[(&str, &str)],
        script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let (backend, admin) = (Backend::start(script).await, admin().await);
        let settings: Vec<_> = [("CACHE_MAX_BYTES", "67108864")].into_iter().chain(settings.iter().copied()).collect();
        let gateway = Gateway::start_with(&backend, &admin, &settings);
        Self { gateway, backend, _admin: admin }
    }

    async fn get(&self, path: &str) -> Answer {
        self.gateway.get(path).await
    }

    fn targets(&self) -> Vec<String> {
        self.backend.seen().into_iter().map(|seen| seen.target).collect()
    }
}

/// A cacheable response with the target of the request.
fn target_of(seen: &Seen) -> Vec<Step> {
    cacheable(&seen.target)
}

fn bare(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn of(user: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {}\r\n\r\n", token(user))
}

#[tokio::test]
async fn every_list_is_forwarded_with_its_query_and_shared_by_all_users() {
    let stack = Stack::start(target_of).await;
    for path in LISTS {
        let first = stack.gateway.exchange(of("user01", path)).await;
        assert_eq!((first.status, first.body.as_str(), first.value("x-cache")), (200, path, "miss"));
        let seen = stack.backend.only();
        assert!(seen.values("x-auth-identity").is_empty(), "a list of all users has no identity");
        let prefixed = stack.gateway.exchange(of("user02", &format!("/holoapi{path}"))).await;
        assert_eq!((prefixed.body.as_str(), prefixed.value("x-cache")), (path, "hit"));
        let head = stack.gateway.exchange(request("HEAD", path, "")).await;
        assert_eq!((head.status, head.body.as_str(), head.value("x-cache")), (200, "", "hit"));
        stack.backend.forget();
    }
}

/// The order of parameters may have a meaning for the backend, as it has for its cursor.
#[tokio::test]
async fn lists_with_other_parameters_or_another_order_are_different_responses() {
    let stack = Stack::start(target_of).await;
    let queries = ["", "?", "?code=a&code=b", "?code=b&code=a", "?code=a", "?code=a,b", "?Code=a", "?code=%61", "?x=1"];
    for source in ["miss", "hit"] {
        for query in queries {
            let path = format!("/holodules{query}");
            let answer = stack.get(&path).await;
            assert_eq!((answer.body.as_str(), answer.value("x-cache")), (path.as_str(), source));
        }
    }
    // Routes of one resource have no parameters.
    stack.backend.forget();
    for query in ["?a=1", "?b=2", ""] {
        assert_eq!(stack.get(&format!("/streamers/1{query}")).await.body, "/streamers/1");
    }
    assert_eq!(stack.targets(), ["/streamers/1"]);
}

/// Unknown names are part of the key, but their responses take no space.
#[tokio::test]
async fn refused_queries_are_not_cached() {
    let refuse = |seen: &Seen| match seen.target.contains("unknown") {
        true => answer("400 Bad Request", &[("Content-Type", "application/problem+json")], "{}"),
        false => cacheable("list"),
    };
    let stack = Stack::start_with(&[("CACHE_MAX_BYTES", "262144"), ("CACHE_MAX_BODY_BYTES", "16384")], refuse).await;
    assert_eq!(stack.get("/holodules").await.value("x-cache"), "miss");
    for _ in 0..3 {
        assert_eq!(stack.get("/holodules").await.value("x-cache"), "hit");
    }
    let mut connection = stack.gateway.connect().await;
    for number in 0..300 {
        let padding = "x".repeat(1500);
        let answer = connection.exchange(get(&format!("/holodules?unknown={number}{padding}"), "")).await;
        assert_eq!(answer.status, 400);
    }
    let bytes = stack.gateway.metric("gateway_cache_bytes").await.unwrap();
    assert!(bytes <= 262_144.0, "{bytes}");
    assert_eq!(stack.get("/holodules").await.value("x-cache"), "hit", "it was requested more often");
}

#[tokio::test]
async fn a_purge_of_the_lists_purges_each_of_them_and_no_day() {
    let (revocation, admin) = RevocationStub::start().await;
    let backend =
        Backend::start(|seen| cacheable(&format!("{} {}", seen.target, seen.values("x-request-id")[0]))).await;
    let settings = [("CACHE_MAX_BYTES", "67108864")];
    let gateway = RevocationStub::gateway(&backend, &admin, &settings);
    gateway.ready().await;
    let day = "/holodules/20201209";
    let mut before = Vec::new();
    for path in LISTS.iter().chain(&[day]) {
        until("it is cached", async || gateway.get(path).await.values("x-cache") == ["hit"]).await;
        before.push(gateway.get(path).await.body);
    }
    revocation.send_line(&serde_json::json!({"purge": "/holodules"}));
    for (path, old) in LISTS.iter().zip(&before) {
        until("the list is purged", async || gateway.get(path).await.body != *old).await;
    }
    assert_eq!(gateway.get(day).await.body, before[LISTS.len()], "a day has its own generation");
    // A change of a day concerns the lists only by the line for them.
    let list = gateway.get(LISTS[0]).await.body;
    revocation.send_line(&serde_json::json!({"purge": day}));
    until("the day is purged", async || gateway.get(day).await.body != before[LISTS.len()]).await;
    assert_eq!(gateway.get(LISTS[0]).await.body, list);
    revocation.send_line(&serde_json::json!({"purge_all": true}));
    until("everything is purged", async || gateway.get(LISTS[0]).await.body != list).await;
}

#[tokio::test]
async fn no_new_route_is_reached_without_a_token_except_calendar_feeds() {
    let stack = Stack::start(target_of).await;
    let lists = LISTS.iter().map(|path| (*path, &["GET", "HEAD"][..]));
    for (path, methods) in lists.chain(OTHERS) {
        for method in methods.iter().chain(&["PUT", "OPTIONS", "DELETE", "PATCH"]) {
            for prefix in ["", "/holoapi"] {
                let answer = stack.gateway.exchange(bare(method, &format!("{prefix}{path}"))).await;
                assert_eq!(answer.status, 401, "{method} {path}: {answer:?}");
            }
        }
    }
    for (method, path) in [
        ("POST", "/calendar/k3y.ics"),
        ("DELETE", "/calendar/k3y.ics"),
        ("PUT", "/calendar/k3y.ics"),
        ("OPTIONS", "/calendar/k3y.ics"),
        ("GET", "/calendar/.ics"),
        ("GET", "/calendar/k3y.ICS"),
        ("GET", "/calendar/k3y.ics/"),
        ("GET", "/calendar/k3y.icsx"),
        ("GET", "/calendar/k3y"),
        ("GET", "/calendar/"),
        ("GET", "/calendar/a/k3y.ics"),
        ("GET", "/Calendar/k3y.ics"),
        ("GET", "/k3y.ics"),
        ("GET", "/holodules/k3y.ics"),
        ("GET", "/streamers/k3y.ics"),
    ] {
        assert_eq!(stack.gateway.exchange(bare(method, path)).await.status, 401, "{method} {path}");
    }
    assert!(stack.backend.seen().is_empty());
    for (method, path) in [("GET", "/calendar/k3y.ics"), ("HEAD", "/holoapi/calendar/k3y.ics")] {
        assert_eq!(stack.gateway.exchange(bare(method, path)).await.status, 200, "{method} {path}");
    }
    assert_eq!(stack.targets(), ["/calendar/k3y.ics", "/calendar/k3y.ics"]);
}

#[tokio::test]
async fn other_methods_and_paths_are_refused_with_a_token() {
    let stack = Stack::start(target_of).await;
    for (method, path, allow) in [
        ("POST", "/holodules", "GET, HEAD"),
        ("DELETE", "/streamers/1", "GET, HEAD"),
        ("HEAD", "/holodules/stream", "GET"),
        ("PUT", "/calendar", "GET, HEAD, POST"),
        ("GET", "/calendar/5fd0", "DELETE"),
        ("POST", "/calendar/k3y.ics", "GET, HEAD"),
        ("PUT", "/openapi.json", "GET, HEAD"),
    ] {
        let answer = stack.gateway.exchange(request(method, path, "")).await;
        assert_eq!((answer.status, answer.value("allow")), (405, allow), "{method} {path}");
    }
    for path in ["/holodules/", "/Now", "/now/", "/streamers/", "/streamers/1/2", "/schedules/", "/calendar/", "/Docs"]
    {
        assert_eq!(stack.get(path).await.status, 404, "{path}");
    }
    assert!(stack.backend.seen().is_empty());
}

/// Spellings that another program may read as the path of another route.
#[tokio::test]
async fn paths_of_new_routes_that_are_not_canonical_are_refused() {
    let stack = Stack::start(target_of).await;
    let lists = LISTS.iter().map(|path| path.split('?').next().unwrap());
    for path in lists.chain(OTHERS.map(|(path, _)| path)).chain(["/calendar/k3y.ics"]) {
        let last = path.rfind('/').unwrap();
        let (start, end) = path.split_at(last);
        let escaped = |at: usize| format!("{}%{:02X}{}", &path[..at], path.as_bytes()[at], &path[at + 1..]);
        for spelling in [
            format!("/{path}"),
            format!("/.{path}"),
            format!("/x/..{path}"),
            format!("{start}/.{end}"),
            format!("{start}/{end}"),
            format!("{start}//{end}"),
            format!("{start}%2F{}", &end[1..]),
            format!("{start}%2f{}", &end[1..]),
            format!("{start}%5C{}", &end[1..]),
            format!("{start}\\{}", &end[1..]),
            format!("{path};x"),
            format!("{path};x=/"),
            format!("{path}%00"),
            format!("{path}%20%2E."),
            format!("{path}#x"),
            format!("{path}/.."),
            format!("{path}/."),
            escaped(1),
            escaped(path.len() - 1),
        ] {
            let answer = stack.get(&spelling).await;
            assert_eq!(answer.status, 400, "{spelling}: {answer:?}");
        }
    }
    assert!(stack.backend.seen().is_empty());
}

/// Bursts of 20 that refill by one a second, while the test sends for less than 20 s.
#[tokio::test]
async fn searches_of_an_identity_are_limited_before_the_cache_and_nothing_else_is() {
    let stack = Stack::start(target_of).await;
    for (path, name) in [("/holodules", "q"), ("/streamers/a/holodules", "q"), ("/schedules", "keyword")] {
        let accepted = async |host: u8, user: &str, query: &str| {
            let mut connection = Connection::open_from(host, stack.gateway.https).await;
            for count in 0..60 {
                let answer = connection.exchange(of(user, &format!("{path}?{query}"))).await;
                if answer.status == 429 {
                    assert_eq!(answer.value("ratelimit-policy"), r#""route_limit";q=20;w=20"#);
                    return count;
                }
                assert_eq!(answer.status, 200);
            }
            60
        };
        assert_eq!(accepted(2, "user01", "code=a").await, 60, "no search");
        let searches = accepted(2, "user01", &format!("{name}=a")).await;
        assert!((20..60).contains(&searches), "{searches}");
        let first = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
        for query in [format!("{name}=b"), format!("code=a&{name}=a"), format!("{first}=a"), name.to_owned()] {
            let searches = accepted(3, "user01", &query).await;
            assert!(searches < 20, "{query} from another address: {searches}");
        }
        assert!(accepted(2, "user02", &format!("{name}=a")).await >= 20, "another identity");
        assert_eq!(accepted(2, "user01", "code=b").await, 60, "still no search");
    }
}

/// A burst of 30 that refills by one a second, while the test sends for less than 30 s.
#[tokio::test]
async fn new_calendars_of_an_identity_are_limited() {
    let stack = Stack::start(target_of).await;
    let accepted = async |host: u8, user: &str| {
        let mut connection = Connection::open_from(host, stack.gateway.https).await;
        let fields =
            format!("Authorization: JWT {}\r\nContent-Type: application/json\r\nContent-Length: 2", token(user));
        let create = format!("POST /calendar HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{{}}");
        for count in 0..90 {
            let answer = connection.exchange(create.clone()).await;
            if answer.status == 429 {
                assert_eq!(answer.value("ratelimit-policy"), r#""route_limit";q=30;w=30"#);
                return count;
            }
            assert_eq!(answer.status, 200);
        }
        90
    };
    let created = accepted(2, "user01").await;
    assert!((30..90).contains(&created), "{created}");
    let more = accepted(3, "user01").await;
    assert!(more < 30, "from another address: {more}");
    assert!(accepted(2, "user02").await >= 30, "another identity");
}

#[tokio::test]
async fn calendars_of_a_user_are_forwarded_with_the_identity_and_never_cached() {
    let stack = Stack::start(|seen| cacheable(&seen.values("x-auth-identity").join("|"))).await;
    for _ in 0..2 {
        for user in ["user01", "user02"] {
            let answer = stack.gateway.exchange(of(user, "/calendar")).await;
            assert_eq!((answer.body.as_str(), answer.values("x-cache").len()), (user, 0));
        }
        let feed = stack.gateway.exchange(bare("GET", "/calendar/k3y.ics")).await;
        assert_eq!((feed.status, feed.body.as_str(), feed.values("x-cache").len()), (200, "", 0));
    }
    assert_eq!(stack.backend.seen().len(), 6);
    let large = request("POST", "/calendar", "Content-Length: 65537\r\n");
    assert_eq!(stack.gateway.exchange(large).await.status, 413);
    let small = request("POST", "/calendar", "Content-Type: application/json\r\nContent-Length: 2\r\n") + "{}";
    assert_eq!(stack.gateway.exchange(small).await.body, "user01");
    assert_eq!(stack.gateway.exchange(request("DELETE", "/calendar/5fd0", "")).await.status, 200);
}
