//! ops/WIRE.md, `cors.allowed_origins`: cross-origin requests and preflights.

use crate::support::backend::{Backend, answer};
use crate::support::client::Answer;
use crate::support::h2::Http2;
use crate::support::{DAY, DAY_BODY, Gateway, admin, api, get, request};

const ORIGIN: &str = "https://app.example";
const ALLOWED: [(&str, &str); 1] = [("CORS_ALLOWED_ORIGINS", "['https://app.example', 'http://localhost:3000']")];

/// A preflight for `path` from `origin`, without a token.
fn preflight(path: &str, origin: &str) -> String {
    format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: GET\r\n\
         Access-Control-Request-Headers: authorization\r\n\r\n"
    )
}

fn from(origin: &str) -> String {
    format!("Origin: {origin}\r\n")
}

/// The headers related to CORS, sorted.
pub fn cors_headers(answer: &Answer) -> Vec<(&str, &str)> {
    let is_related = |name: &str| name == "vary" || name.starts_with("access-control-");
    let headers = answer.headers.iter().filter(|(name, _)| is_related(name));
    let mut headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    headers.sort_unstable();
    headers
}

/// The CORS headers of every response to the allowed `origin`.
fn granted(origin: &str) -> Vec<(&str, &str)> {
    vec![
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", "ETag, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"),
        ("vary", "Origin"),
    ]
}

#[tokio::test]
async fn by_default_origins_are_ignored() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let refused = gateway.exchange(preflight(DAY, ORIGIN)).await;
    assert_eq!((refused.status, cors_headers(&refused)), (401, vec![]));
    let options = gateway.exchange(request("OPTIONS", DAY, &from(ORIGIN))).await;
    assert_eq!((options.status, cors_headers(&options)), (405, vec![]));
    assert!(api.seen().is_empty());
    let answered = gateway.exchange(get(DAY, &from(ORIGIN))).await;
    assert_eq!((answered.status, cors_headers(&answered)), (200, vec![]));
}

#[tokio::test]
async fn a_preflight_from_a_listed_origin_is_the_same_204_for_every_path() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &ALLOWED);
    let mut connection = gateway.connect().await;
    for origin in [ORIGIN, "http://localhost:3000"] {
        for path in [DAY, "/auth", "/nothing", "/holodules", "/", "/metrics"] {
            let mut answer = connection.exchange(preflight(path, origin)).await;
            assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{path}: {answer:?}");
            answer.headers.retain(|(name, _)| name != "x-request-id" && name != "date");
            answer.headers.sort_unstable();
            let expected = [
                ("access-control-allow-headers", "Authorization, Content-Type, Last-Event-ID"),
                ("access-control-allow-methods", "GET, HEAD, POST, DELETE"),
                ("access-control-allow-origin", origin),
                ("access-control-expose-headers", "ETag, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"),
                ("access-control-max-age", "7200"),
                ("connection", "keep-alive"),
                ("strict-transport-security", "max-age=31536000"),
                ("vary", "Origin"),
                ("x-content-type-options", "nosniff"),
            ];
            let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            assert_eq!(answer.headers, expected, "{path}");
        }
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty());
    // The connection can be reused.
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
}

#[tokio::test]
async fn other_origins_and_requests_that_are_not_preflights_get_no_preflight_response() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &ALLOWED);
    let preflight = preflight(DAY, ORIGIN);
    let other = |origin: &str| preflight.replace(ORIGIN, origin);
    let rows = [
        ("no origin", preflight.replace("Origin: https://app.example\r\n", ""), 401),
        ("null", other("null"), 401),
        ("another", other("https://evil.example"), 401),
        ("one with a listed prefix", other("https://app.example.evil.example"), 401),
        ("another port", other("https://app.example:8443"), 401),
        ("an explicit default port", other("https://app.example:443"), 401),
        ("another scheme", other("http://app.example"), 401),
        ("another case", other("https://App.example"), 401),
        ("two", other("https://app.example\r\nOrigin: https://app.example"), 401),
        ("a list", other("https://app.example, https://app.example"), 401),
    ];
    for (row, request, status) in rows {
        let answer = gateway.exchange(request).await;
        assert_eq!((answer.status, cors_headers(&answer)), (status, vec![("vary", "Origin")]), "{row}");
    }
    for (row, request, status) in [
        ("not a preflight", preflight.replace("Access-Control-Request-Method: GET\r\n", ""), 401),
        ("another method", preflight.replacen("OPTIONS", "GET", 1), 401),
        ("a path that is not canonical", preflight.replace(DAY, "//"), 400),
        ("an unknown host", preflight.replace("localhost", "elsewhere.example"), 421),
        ("a target too long", preflight.replace(DAY, &format!("/{}", "a".repeat(2048))), 414),
        ("a body", preflight.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nx=1"), 400),
    ] {
        let answer = gateway.exchange(request).await;
        assert_eq!((answer.status, cors_headers(&answer)), (status, granted(ORIGIN)), "{row}");
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty());
}

#[tokio::test]
async fn preflights_count_towards_the_address_limit() {
    let (api, admin) = (api().await, admin().await);
    let limited = [ALLOWED[0], ("LIMIT_ADDRESS_RATE", "1"), ("LIMIT_ADDRESS_BURST", "1")];
    let gateway = Gateway::start_with(&api, &admin, &limited);
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(preflight(DAY, ORIGIN)).await.status, 204);
    let answer = connection.exchange(preflight(DAY, ORIGIN)).await;
    assert_eq!((answer.status, cors_headers(&answer)), (429, granted(ORIGIN)));
}

#[tokio::test]
async fn every_response_to_a_listed_origin_has_cors_headers() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &ALLOWED);
    let origin = from(ORIGIN);
    let rows = [
        (get(DAY, &origin), 200),
        (request("HEAD", DAY, &origin), 200),
        (format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n"), 401),
        (get("/nothing", &origin), 404),
        (request("PUT", DAY, &origin), 405),
        (get("//", &origin), 400),
        (get(DAY, &format!("{origin}A : b\r\n")), 400),
        (get(DAY, &format!("{origin}A: {}\r\n", "a".repeat(16 * 1024))), 431),
        (get(DAY, &format!("{origin}{}", "A: b\r\n".repeat(100))), 431),
        (format!("POST /auth HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n"), 415),
    ];
    for (request, status) in rows {
        let answer = gateway.exchange(&request).await;
        assert_eq!((answer.status, cors_headers(&answer)), (status, granted(ORIGIN)), "{request}");
    }
    let login = String::from_utf8(crate::auth::login(crate::auth::user01())).unwrap();
    let login = login.replacen("\r\n", &format!("\r\n{origin}"), 1);
    let answer = gateway.exchange(login).await;
    assert_eq!((answer.status, cors_headers(&answer)), (200, granted(ORIGIN)));
    // Cookies and other credentials added by browsers are never allowed.
    assert!(answer.values("access-control-allow-credentials").is_empty());
    // A shared cache must not serve this response to requests with an origin.
    let answer = gateway.get(DAY).await;
    assert_eq!((answer.status, cors_headers(&answer)), (200, vec![("vary", "Origin")]));
}

#[tokio::test]
async fn cors_headers_of_the_backend_are_replaced() {
    let api = Backend::start(|_| {
        let headers = [
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Expose-Headers", "X-Secret"),
            ("Access-Control-Allow-Private-Network", "true"),
            ("Vary", "Accept"),
        ];
        answer("200 OK", &headers, DAY_BODY)
    })
    .await;
    let admin = admin().await;
    let off = Gateway::start(&api, &admin);
    assert_eq!(cors_headers(&off.exchange(get(DAY, &from(ORIGIN))).await), [("vary", "Accept")]);
    let gateway = Gateway::start_with(&api, &admin, &ALLOWED);
    let mut expected = granted(ORIGIN);
    expected.insert(2, ("vary", "Accept"));
    assert_eq!(cors_headers(&gateway.exchange(get(DAY, &from(ORIGIN))).await), expected);
    let other = gateway.exchange(get(DAY, &from("https://evil.example"))).await;
    assert_eq!(cors_headers(&other), [("vary", "Accept"), ("vary", "Origin")]);
}

#[tokio::test]
async fn a_503_for_an_unreachable_backend_has_cors_headers() {
    let (mut api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &ALLOWED);
    api.stop().await;
    let answer = gateway.exchange(get(DAY, &from(ORIGIN))).await;
    assert_eq!((answer.status, cors_headers(&answer)), (503, granted(ORIGIN)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflights_are_handled_over_http_2() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &ALLOWED);
    let client = Http2::open(gateway.https).await;
    let preflight = |origin: &str| {
        let request = http::Request::options(format!("https://localhost{DAY}")).header("origin", origin);
        request.header("access-control-request-method", "GET").body("").unwrap()
    };
    let allowed = client.exchange(preflight(ORIGIN)).await;
    assert_eq!((allowed.status, allowed.body.as_str()), (204, ""));
    assert_eq!(allowed.value("access-control-allow-origin"), ORIGIN);
    let refused = client.exchange(preflight("https://evil.example")).await;
    assert_eq!((refused.status, cors_headers(&refused)), (401, vec![("vary", "Origin")]));
    assert!(api.seen().is_empty());
}
