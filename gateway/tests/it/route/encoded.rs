//! `encoded = "preserve"`: encoded slashes and parameters in the tail of a route, and nowhere else.

use super::{Routed, cacheable};
use crate::support::backend::{Backend, Seen, Step};
use crate::support::h2::Http2;
use crate::support::random::{self, Random};
use crate::support::token::token;
use crate::support::{Gateway, admin, get, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ROUTES: &str = "[{ name = 'raw', path = '/git/raw/{*rest}', methods = ['GET'] }, \
     { name = 'git', path = '/git/{*rest}', methods = ['GET'], encoded = 'preserve', shared = true, query = '*' }, \
     { name = 'npm', path = '/npm/{user}/{*rest}', aliases = ['/n/{user}/{*rest}'], methods = ['GET'], encoded = 'preserve', \
       rewrite = '/{user}/of/{*rest}' }, \
     { name = 'app', path = '/app/{*rest}', methods = ['GET'], encoded = 'preserve', strip_prefix = '/app' }, \
     { name = 'rest', path = '/{*rest}', methods = ['GET'], public = true }]";

fn target(seen: &Seen) -> Vec<Step> {
    cacheable(&seen.target)
}

/// What is forwarded, and as what.
const FORWARDED: [(&str, &str); 12] = [
    ("/git/group%2Fproject", "/git/group%2Fproject"),
    ("/git/api/v4/projects/group%2Fproject/files/a%2Fb.rb", "/git/api/v4/projects/group%2Fproject/files/a%2Fb.rb"),
    ("/git/@scope%2fname", "/git/@scope%2fname"),
    ("/git/a;v=1/b;c", "/git/a;v=1/b;c"),
    ("/git/r/https%3A%2F%2Fexample.org%2Fa.git?x=%2F", "/git/r/https%3A%2F%2Fexample.org%2Fa.git?x=%2F"),
    ("/git/a/b", "/git/a/b"),
    ("/npm/u/a%2Fb", "/u/of/a%2Fb"),
    ("/n/u/a%2Fb/c", "/u/of/a%2Fb/c"),
    ("/app/a%2Fb", "/a%2Fb"),
    ("/app/a/b;c", "/a/b;c"),
    ("/git/raw/a", "/git/raw/a"),
    ("/holoapi/git/a%2Fb", "/git/a%2Fb"),
];

/// What is refused: the prefix, other routes, what a program may read as a path of another route, what may hide a dot
/// segment, and what is encoded without need.
const REFUSED: [&str; 36] = [
    "/git%2Fa",
    "/git%2fa/b",
    "/git;x/a",
    "/gi%74/a%2Fb",
    "/%2Fgit/a",
    "/git/raw/a%2Fb",
    "/git/raw/a;b",
    "/git/raw%2Fa",
    "/git/raw%2fa/b",
    "/git/raw;x/a",
    "/git/raw%3Bx/a",
    "/git/raw%2F%2Fa",
    "/git/raw%2F;x/a",
    "/other/a%2Fb",
    "/other/a;b",
    "/npm/a%2Fb/c",
    "/npm/a;b/c%2Fd",
    "/n/%2Fa/c",
    "/git/..%2Fraw/a",
    "/git/a%2F..%2F..%2Fraw",
    "/git/..;/raw/a",
    "/git/a%2F..;x/raw",
    "/git/.%2Fa",
    "/git/%2E%2E%2Fraw",
    "/git/a/../b%2Fc",
    "/git/a//b%2Fc",
    "/git/%2Fevil.example",
    "/app/%2Fevil.example",
    "/app/;x/a",
    "/git/a%5Cb%2Fc",
    "/git/a\\b%2Fc",
    "/git/a%252Fb",
    "/git/a%00%2F",
    "/git/%61%2Fb",
    "/git/a%2Fb%3Fc",
    "/holoapi;/git/a%2Fb",
];

const PREFIX: (&str, &str) = ("STRIP_PREFIX", "['/holoapi']");

#[tokio::test]
async fn encoded_slashes_and_parameters_reach_the_service_as_they_were_sent() {
    let routed = Routed::start(ROUTES, &[PREFIX], target).await;
    for (path, body) in FORWARDED {
        let answer = routed.gateway.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
    }
}

/// These go through another codec than a `GET`.
#[tokio::test]
async fn a_request_with_a_body_and_an_absolute_target_are_the_same() {
    let routes = "[{ path = '/git/{*rest}', methods = ['GET', 'POST'], encoded = 'preserve' }]";
    let routed = Routed::start(routes, &[], target).await;
    let token = token("user01");
    for (path, status) in [("/git/a%2Fb;c/d", 200), ("/git/..%2Fb", 400), ("/git%2Fa", 400)] {
        for (start, body) in [
            (format!("POST {path} HTTP/1.1"), "x=1"),
            (format!("POST https://localhost{path} HTTP/1.1"), "x=1"),
            (format!("GET https://localhost{path} HTTP/1.1"), ""),
        ] {
            let length = body.len();
            let length = if length > 0 { format!("Content-Length: {length}\r\n") } else { String::new() };
            let request = format!("{start}\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n{length}\r\n{body}");
            let answer = routed.gateway.exchange(request).await;
            assert_eq!(answer.status, status, "{start}: {answer:?}");
            assert!(status != 200 || answer.body == path, "{start}: {answer:?}");
        }
    }
    assert_eq!(routed.service.seen().len(), 3);
}

#[tokio::test]
async fn outside_the_tail_of_such_a_route_they_are_400_with_and_without_a_token() {
    let routed = Routed::start(ROUTES, &[PREFIX], target).await;
    for path in REFUSED {
        let answer = routed.gateway.get(path).await;
        assert_eq!((answer.status, answer.value("connection")), (400, "close"), "{path}: {answer:?}");
        let bare = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(routed.gateway.exchange(bare).await.status, 400, "{path}");
    }
    assert!(routed.service.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preserved_paths_are_the_same_on_http_2() {
    let routed = Routed::start(ROUTES, &[PREFIX], target).await;
    let client = Http2::open(routed.gateway.https).await;
    let paths = FORWARDED.into_iter().map(|(path, body)| (path, Some(body)));
    // The client's own parser takes no backslash.
    let refused = REFUSED.into_iter().filter(|path| !path.contains('\\')).map(|path| (path, None));
    for (path, body) in paths.chain(refused) {
        let request = http::Request::get(format!("https://localhost{path}"));
        let request = request.header("authorization", format!("JWT {}", token("user01"))).body("").unwrap();
        let answer = client.exchange(request).await;
        assert_eq!(answer.status, if body.is_some() { 200 } else { 400 }, "{path}");
        assert!(body.is_none_or(|body| answer.body == body), "{path}: {answer:?}");
    }
}

/// ops/WIRE.md, "The order of refusals": the path is checked first, whichever route it is for.
#[tokio::test]
async fn the_order_of_refusals_is_that_of_other_paths() {
    let routed = Routed::start(ROUTES, &[], target).await;
    let long = format!("X-Long: {}\r\n", "a".repeat(16_400));
    for (path, headers, host, status) in [
        ("/git/raw/a%2Fb", &*long, "elsewhere.example", 400),
        ("/git/raw/a%2Fb", "", "elsewhere.example", 400),
        ("/git/raw/a%2Fb", "", "localhost", 400),
        ("/git/a%2Fb", &*long, "elsewhere.example", 431),
        ("/git/a%2Fb", "", "elsewhere.example", 421),
        ("/git/a%2Fb", "", "localhost", 401),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        assert_eq!(routed.gateway.exchange(request).await.status, status, "{path} {host}");
    }
    let request = get("/git/a%2Fb", "").replacen("GET", "PUT", 1);
    assert_eq!(routed.gateway.exchange(request).await.status, 405);
    assert!(routed.service.seen().is_empty());
}

#[tokio::test]
async fn without_the_option_they_are_refused_for_every_host_and_path() {
    let routes = "[{ path = '/{*rest}', methods = ['GET'] }, { name = 'other', hosts = ['other.example'], path = '/{*rest}', \
                  methods = ['GET'], encoded = 'preserve' }]";
    let routed = Routed::start(routes, &[("HOSTS", "['other.example']")], target).await;
    for path in ["/a%2Fb", "/a;b"] {
        assert_eq!(routed.gateway.get(path).await.status, 400);
        let other = get(path, "").replace("Host: localhost", "Host: other.example");
        // The first route is for every host, so it decides.
        assert_eq!(routed.gateway.exchange(other).await.status, 400);
    }
    assert!(routed.service.seen().is_empty());
}

#[tokio::test]
async fn two_spellings_are_two_entries_of_the_cache_and_of_the_log() {
    let (service, admin) = (Backend::start(target).await, admin().await);
    let settings = [("ROUTE", ROUTES), ("CACHE_MAX_BYTES", "67108864")];
    let (gateway, log) = Gateway::start_logged(&service, &admin, &settings);
    let spellings = ["/git/a/b", "/git/a%2Fb", "/git/a%2fb", "/git/a;/b"];
    for source in ["miss", "hit"] {
        for path in spellings {
            let answer = gateway.get(path).await;
            assert_eq!((answer.body.as_str(), answer.value("x-cache")), (path, source));
        }
    }
    until("all are logged", async || log.lines().len() >= 8).await;
    let logged: Vec<_> = log.lines().iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(logged, [spellings, spellings].concat());
    let purge = "{\"path\":\"/git/a%2Fb\"}";
    let request = format!(
        "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{purge}",
        purge.len()
    );
    let mut stream = TcpStream::connect(gateway.ops).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut purged = String::new();
    stream.read_to_string(&mut purged).await.unwrap();
    assert!(purged.starts_with("HTTP/1.1 204 "), "{purged}");
    for (path, source) in [("/git/a%2Fb", "miss"), ("/git/a/b", "hit"), ("/git/a%2fb", "hit")] {
        assert_eq!(gateway.get(path).await.value("x-cache"), source, "{path}");
    }
}

const PIECES: [&str; 26] = [
    "a",
    "b",
    "raw",
    "git",
    "..",
    ".",
    "/",
    "//",
    "%2F",
    "%2f",
    ";",
    ";x",
    "%3B",
    "%3A",
    "%2E",
    "%2e",
    "%5C",
    "\\",
    "%25",
    "%252F",
    "%00",
    "%3F",
    "%E3%83%9B",
    "%C0%AE",
    "A",
    "%61",
];

/// However it is decoded, what a service receives stays below the prefix of the route.
#[tokio::test]
async fn no_spelling_leaves_the_prefix_of_its_route() {
    let routed = Routed::start(
        ROUTES,
        &[("CACHE_MAX_BYTES", "0"), ("LIMIT_ADDRESS_RATE", "0"), ("LIMIT_IDENTITY_RATE", "0")],
        target,
    )
    .await;
    let (first, cases) = (random::seed(), random::cases(600));
    let mut connection = routed.gateway.connect().await;
    let mut preserved = 0_u64;
    for number in 0..cases {
        let seed = first.wrapping_add(number);
        let mut random = Random::new(seed);
        let mut path = "/git/".to_owned();
        for _ in 0..random.below(7) {
            path.push_str(random.pick(&PIECES));
        }
        let answer = connection.exchange(get(&path, "")).await;
        let seen = routed.service.seen();
        routed.service.forget();
        for seen in &seen {
            let is_encoded = seen.target.contains(';') || seen.target.to_uppercase().contains("%2F");
            preserved += u64::from(is_encoded);
            let mut decoded = seen.target.clone();
            loop {
                let again = percent_encoding::percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
                if again == decoded {
                    break;
                }
                decoded = again;
            }
            let segments: Vec<_> = decoded
                .replace('\\', "/")
                .split('/')
                .map(|segment| segment.split(';').next().unwrap().to_owned())
                .collect();
            let is_within = segments.get(1).is_some_and(|first| first == "git")
                && !segments.iter().any(|segment| segment == "." || segment == "..");
            let is_of_raw = segments.get(2).is_some_and(|second| second == "raw") && segments.len() > 3;
            if seen.target != path || !is_within || (is_encoded && is_of_raw) {
                random::report_seed("preserved paths over the wire", seed);
                panic!("{path:?} was forwarded as {:?}", seen.target);
            }
        }
        if seen.is_empty() && answer.status != 400 {
            random::report_seed("preserved paths over the wire", seed);
            panic!("{path:?}: {answer:?}");
        }
        if answer.value("connection") == "close" {
            connection = routed.gateway.connect().await;
        }
    }
    assert!(random::cases(600) < 600 || preserved > 0);
    random::executed("preserved paths over the wire", cases);
}
