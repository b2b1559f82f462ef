//! Public routes: which requests need no token, and that no other request does without.

use super::{Routed, cacheable};
use crate::program::{check, folder};
use crate::support::backend::{Backend, Seen, Step, answer};
use crate::support::h2::Http2;
use crate::support::random::{self, Random};
use crate::support::revocation::RevocationStub;
use crate::support::token::{HEADER, claims, signed, token};
use crate::support::{Gateway, admin, request};
use holodule_gateway::token::Digest;

const WORD: &str = "holodule_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const ROUTES: &str = "[{ name = 'secret', path = '/public/secret/{*rest}', methods = ['GET'] }, \
     { name = 'files', path = '/public/{*rest}', methods = ['GET', 'HEAD'], public = true, shared = true }, \
     { name = 'hook', path = '/hook', methods = ['POST'], public = true, hosts = ['localhost'] }, \
     { name = 'private', path = '/{*rest}', methods = ['GET', 'POST'] }]";

/// Returns what of the client the service saw.
fn facts(seen: &Seen) -> Vec<Step> {
    let of = |name: &str| seen.values(name).join("|");
    let body = format!("{} {} {}", seen.target, of("authorization"), of("x-auth-identity"));
    answer("200 OK", &[("Cache-Control", "public, max-age=60")], body.trim_end())
}

/// A request without a token.
fn bare(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

async fn start(settings: &[(&str, &str)]) -> Routed {
    Routed::start(ROUTES, settings, facts).await
}

#[tokio::test]
async fn a_listed_method_on_a_public_path_needs_no_token() {
    let routed = start(&[("CACHE_MAX_BYTES", "0")]).await;
    for path in ["/public/", "/public/a", "/public/a/b/", "/public/secret", "/public/secretx/y"] {
        let answer = routed.gateway.exchange(bare("GET", path, "")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, path), "{answer:?}");
        assert!(answer.values("www-authenticate").is_empty());
    }
    assert_eq!(routed.gateway.exchange(bare("HEAD", "/public/a", "")).await.status, 200);
    assert_eq!(routed.gateway.exchange(bare("POST", "/hook", "")).await.body, "/hook");
}

#[tokio::test]
async fn every_other_request_without_a_token_is_401_and_reaches_no_service() {
    let hosts = ("HOSTS", "['other.example']");
    let routed = start(&[hosts]).await;
    for (method, path) in [
        ("GET", "/public"),
        ("GET", "/Public/a"),
        ("GET", "/publicx/a"),
        ("GET", "/public/secret/"),
        ("GET", "/public/secret/a"),
        ("POST", "/public/a"),
        ("DELETE", "/public/a"),
        ("OPTIONS", "/public/a"),
        ("get", "/public/a"),
        ("GET", "/hook"),
        ("POST", "/hook/"),
        ("GET", "/"),
        ("GET", "/private/public/a"),
        ("POST", "/auth/logout"),
    ] {
        let answer = routed.gateway.exchange(bare(method, path, "")).await;
        assert_eq!(answer.status, 401, "{method} {path}: {answer:?}");
        assert!(answer.body.contains("Request does not contain an access token"));
    }
    let answer = routed.gateway.exchange(bare("POST", "/hook", "").replace("localhost", "other.example")).await;
    assert_eq!(answer.status, 401, "another host: {answer:?}");
    for path in [
        "/public/../private",
        "/public/./a",
        "/public//a",
        "/public/%2e%2e/private",
        "/public/..%2Fprivate",
        "/public/..;/private",
        "/public/a%2Fb",
        "/public/a;b",
        "/%70ublic/a",
        "/public\\a",
        "/public/%5C..%5Cprivate",
        "//public/a",
        "/./public/a",
    ] {
        let answer = routed.gateway.exchange(bare("GET", path, "")).await;
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
    }
    assert!(routed.service.seen().is_empty());
}

#[tokio::test]
async fn a_token_on_a_public_path_is_removed_unread_and_no_identity_is_asserted() {
    let machine = format!("[{{ name = 'm', sha256 = '{}', routes = ['private'] }}]", Digest::of(WORD.as_bytes()));
    let settings = [
        ("CACHE_MAX_BYTES", "0"),
        ("STATIC_TOKEN", &*machine),
        ("LIMIT_IDENTITY_RATE", "1"),
        ("LIMIT_IDENTITY_BURST", "1"),
    ];
    let (service, admin) = (Backend::start(facts).await, admin().await);
    let all: Vec<_> = [("ROUTE", ROUTES)].into_iter().chain(settings).collect();
    let (gateway, log) = Gateway::start_logged(&service, &admin, &all);
    let valid = token("user01");
    for headers in [
        format!("Authorization: JWT {valid}\r\n"),
        format!("Authorization: Bearer {valid}\r\n"),
        format!("Authorization: Bearer {WORD}\r\n"),
        "Authorization: Bearer forged\r\n".to_owned(),
        format!("Authorization: JWT {}x\r\n", signed(HEADER, &claims("user01"))),
        "Authorization: Basic dXNlcjpwYXNz\r\n".to_owned(),
        format!("Authorization: JWT {valid}\r\nAuthorization: JWT {valid}\r\n"),
        "X-Auth-Identity: root\r\nX-Auth-Roles: admin\r\n".to_owned(),
    ] {
        let answer = gateway.exchange(bare("GET", "/public/a", &headers)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "/public/a"), "{headers}: {answer:?}");
        let seen = service.only();
        assert!(!seen.headers.iter().any(|(name, _)| name.to_lowercase().starts_with("x-auth-")), "{seen:?}");
        service.forget();
    }
    crate::support::until("all are logged", async || log.lines().len() >= 8).await;
    for line in log.lines() {
        assert_eq!((line["route"].as_str(), &line["identity"]), (Some("files"), &serde_json::Value::Null), "{line}");
    }
    // The identity limit was not charged.
    assert_eq!(gateway.exchange(request("GET", "/private", "")).await.status, 200);
}

#[tokio::test]
async fn a_method_that_a_public_route_does_not_list_is_405_with_a_token() {
    let routed = start(&[]).await;
    let answer = routed.gateway.exchange(request("DELETE", "/public/a", "")).await;
    assert_eq!((answer.status, answer.value("allow")), (405, "GET, HEAD"));
    assert_eq!(routed.gateway.exchange(request("DELETE", "/hook", "")).await.value("allow"), "POST");
    assert!(routed.service.seen().is_empty());
}

#[tokio::test]
async fn the_earlier_refusals_and_the_address_limit_hold_for_public_routes() {
    let settings = [("LIMIT_ADDRESS_RATE", "1"), ("LIMIT_ADDRESS_BURST", "5")];
    let routed = start(&settings).await;
    for (request, status) in [
        (bare("GET", "/public/a", "X-Odd : b\r\n"), 400),
        (bare("GET", &format!("/public/{}", "a".repeat(3000)), ""), 414),
        (bare("GET", "/public/a", "").replace("localhost", "elsewhere.example"), 421),
        (bare("GET", "/public/a", "Content-Length: 1\r\n") + "x", 400),
        (bare("GET", "/public/a", ""), 200),
        (bare("GET", "/public/a", ""), 429),
    ] {
        let answer = routed.gateway.exchange(&request).await;
        assert_eq!(answer.status, status, "{request}: {answer:?}");
    }
    assert_eq!(routed.service.seen().len(), 1);
}

#[tokio::test]
async fn the_cache_control_of_a_public_response_passes_and_of_no_other() {
    let routed = Routed::start(ROUTES, &[], |_| {
        let fields = [
            ("Cache-Control", "public, max-age=60"),
            ("Cache-Control", "immutable"),
            ("Age", "7"),
            ("Set-Cookie", "a=b"),
        ];
        answer("200 OK", &fields, "a")
    })
    .await;
    let response = routed.gateway.exchange(bare("POST", "/hook", "")).await;
    assert_eq!(response.values("cache-control"), ["public, max-age=60", "immutable"]);
    assert_eq!(response.values("age"), ["7"]);
    let response = routed.gateway.get("/private").await;
    assert_eq!((response.values("cache-control"), response.values("age").len()), (vec!["private, no-cache"], 0));

    let silent = Routed::start(ROUTES, &[], |_| answer("200 OK", &[], "a")).await;
    assert!(silent.gateway.exchange(bare("GET", "/public/a", "")).await.values("cache-control").is_empty());

    let cached = Routed::start(ROUTES, &[], |_| cacheable("a")).await;
    for source in ["miss", "hit"] {
        let response = cached.gateway.exchange(bare("GET", "/public/a", "")).await;
        assert_eq!((response.value("cache-control"), response.value("x-cache")), ("public, s-maxage=600", source));
        assert_eq!(response.values("age").len(), 1, "{source}: {response:?}");
    }
    let unstored = |_: &Seen| answer("200 OK", &[("Cache-Control", "public, max-age=0"), ("Age", "7")], "a");
    let unstored = Routed::start(ROUTES, &[], unstored).await;
    let response = unstored.gateway.exchange(bare("GET", "/public/a", "")).await;
    assert_eq!((response.value("x-cache"), response.values("age")), ("miss", vec!["7"]));
    let refused = cached.gateway.exchange(bare("GET", "/private", "")).await;
    assert_eq!((refused.status, refused.value("cache-control")), (401, "no-store"));
}

/// A tail of a public route covers the gateway's own paths in its pattern, but not in fact.
#[tokio::test]
async fn the_gateways_own_paths_are_never_public() {
    let routes = "[{ path = '/{*rest}', methods = ['GET', 'POST'], public = true }]";
    let (_stub, admin) = RevocationStub::start().await;
    let service = Backend::start(facts).await;
    let gateway = RevocationStub::gateway(&service, &admin, &[("ROUTE", routes)]);
    gateway.ready().await;
    for (method, path, status) in
        [("GET", "/auth", 405), ("POST", "/auth", 415), ("POST", "/auth/logout", 401), ("GET", "/auth/logout", 401)]
    {
        assert_eq!(gateway.exchange(bare(method, path, "")).await.status, status, "{method} {path}");
    }
    assert!(service.seen().is_empty());
    assert_eq!(gateway.exchange(bare("GET", "/auth/login", "")).await.status, 200);
    assert_eq!(gateway.exchange(request("POST", "/auth/logout", "")).await.status, 204);
    assert_eq!(service.only().target, "/auth/login");
}

#[tokio::test]
async fn a_public_route_needs_no_revocation_data() {
    let (service, mut admin) = (Backend::start(facts).await, admin().await);
    admin.stop().await;
    let settings = [("ROUTE", ROUTES), ("REVOCATION_ENABLED", "true"), ("REVOCATION_MAX_AGE", "1")];
    let gateway = Gateway::start_with(&service, &admin, &settings);
    assert_eq!(gateway.exchange(bare("GET", "/public/a", "")).await.status, 200);
    assert_eq!(gateway.exchange(request("GET", "/private", "")).await.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn public_routes_are_the_same_on_http_2() {
    let routed = start(&[("CACHE_MAX_BYTES", "0")]).await;
    let client = Http2::open(routed.gateway.https).await;
    for (method, path, status) in [
        ("GET", "/public/a", 200),
        ("POST", "/hook", 200),
        ("GET", "/public/secret/a", 401),
        ("POST", "/public/a", 401),
        ("GET", "/public", 401),
        ("GET", "/public/..%2Fa", 400),
        ("GET", "/public/../a", 400),
    ] {
        let request = http::Request::builder().method(method).uri(format!("https://localhost{path}"));
        let answer = client.exchange(request.header("authorization", "JWT forged").body("").unwrap()).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(status != 200 || answer.body == path, "{answer:?}");
    }
}

#[test]
fn check_lists_what_needs_no_token() {
    let folder = folder();
    let file = folder.path().join("gateway.toml");
    let routes = "[[route]]\nname = 'files'\nmethods = ['GET', 'HEAD']\npath = '/public/{*rest}'\naliases = ['/p/{*rest}']\n\
                  hosts = ['localhost']\npublic = true\n[[route]]\nname = 'private'\nmethods = ['GET']\npath = '/x'\npublic = false\n";
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + routes).unwrap();
    let output = check(folder.path(), &[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let expected =
        "note: route[0] \"files\" is public: GET, HEAD of /public/{*rest}, /p/{*rest} for localhost need no token";
    assert!(printed.contains(expected), "{printed}");
    assert!(!printed.contains("\"private\""), "{printed}");
}

/// What a public path might be mistaken for, or the other way round.
const ODDITIES: [&str; 22] = [
    "/", "//", "/.", "/./", "/..", "/../", "..", ";", ";a", "%2F", "%2f", "%2e", "%2E%2E", "%5C", "\\", "%", "%00",
    "?", "x", "A", "%70", "/x",
];

/// Whether a public route is the first that matches, by the texts of the test's routes alone.
fn is_public(method: &str, path: &str) -> bool {
    let segments: Vec<_> = path.split('/').collect();
    let is_plain = |segment: &&str| {
        !segment.is_empty()
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
            && !matches!(*segment, "." | "..")
    };
    let Some((last, all_but_last)) = segments.split_last() else { return false };
    if !all_but_last.iter().skip(1).all(is_plain) || !(last.is_empty() || is_plain(last)) {
        return false;
    }
    match segments.as_slice() {
        ["", "hook"] => method == "POST",
        ["", "public", "secret", _, ..] => false,
        ["", "public", _, ..] => ["GET", "HEAD"].contains(&method),
        _ => false,
    }
}

/// Without a valid token a service sees a request only if a public route matches it.
#[tokio::test]
async fn only_public_requests_are_served_without_a_token_however_they_are_spelled() {
    let settings = [("CACHE_MAX_BYTES", "0"), ("LIMIT_ADDRESS_RATE", "0")];
    let routed = start(&settings).await;
    let (first, cases) = (random::seed(), random::cases(600));
    let mut connection = routed.gateway.connect().await;
    let (mut served, mut refused) = (0_u64, 0_u64);
    for number in 0..cases {
        let seed = first.wrapping_add(number);
        let mut random = Random::new(seed);
        let mut path = random
            .pick(&["/public/a", "/public/a/b", "/public/secret/a", "/hook", "/private/a", "/public/"])
            .to_owned();
        for _ in 0..random.below(3) {
            let at = random.below(path.len() + 1);
            path.insert_str(at, random.pick(&ODDITIES));
        }
        let method = random.pick(&["GET", "HEAD", "POST", "PUT", "OPTIONS"]);
        let headers = random.pick(&[
            "",
            "Authorization: JWT forged\r\n",
            "Authorization: Bearer a.b.c\r\n",
            "X-Auth-Identity: root\r\n",
        ]);
        let answer = connection.exchange(bare(method, &path, headers)).await;
        let said = path.split('?').next().unwrap();
        let seen: Vec<_> = routed.service.seen().into_iter().map(|seen| (seen.method, seen.target)).collect();
        let expected = Vec::from_iter(is_public(method, said).then(|| (method.to_owned(), said.to_owned())));
        if seen != expected || (seen.is_empty() && ![400, 401, 405].contains(&answer.status)) {
            random::report_seed("public requests over the wire", seed);
            panic!("{method} {path:?} was forwarded as {seen:?}, and not as {expected:?}: {answer:?}");
        }
        served += seen.len() as u64;
        refused += u64::from(seen.is_empty());
        routed.service.forget();
        if answer.value("connection") == "close" {
            connection = routed.gateway.connect().await;
        }
    }
    assert!(random::cases(600) < 600 || (served > 0 && refused > 0), "{served} {refused}");
    random::executed("public requests over the wire", cases);
}
