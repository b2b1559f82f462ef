//! Each table of the configuration takes effect by a reload, on a connection that is open.

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::auth::{login, user01};
use crate::support::backend::{Backend, answer};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{Gateway, admin, answer_of, api, get, request};

/// A route with this name, path and further fields.
fn route(name: &str, fields: &str) -> String {
    format!("{{ name = '{name}', path = '/{name}', methods = ['GET'], cache = false{fields} }}")
}

async fn start(settings: &[(&str, &str)]) -> (Gateway, Backend, Backend) {
    let (api, admin) = (Backend::start(|_| answer("200 OK", &[("X-From", "service")], "a")).await, admin().await);
    (Gateway::start_with(&api, &admin, settings), api, admin)
}

#[tokio::test]
async fn open_connections_serve_the_routes_of_the_last_reload() {
    let (gateway, api, _admin) = start(&[("ROUTE", &format!("[{}]", route("one", "")))]).await;
    let mut http1 = gateway.connect().await;
    let http2 = Http2::open(gateway.https).await;
    let over_http2 = async |path: &str| {
        let request = Request::get(format!("https://localhost{path}"));
        let request = request.header("authorization", format!("JWT {}", token("user01")));
        http2.exchange(request.body("").unwrap()).await.status
    };
    for path in ["/one", "/two"] {
        let expected = if path == "/one" { 200 } else { 404 };
        assert_eq!((http1.exchange(get(path, "")).await.status, over_http2(path).await), (expected, expected));
    }
    // With a body, by the third codec.
    assert_eq!(http1.exchange(request("POST", "/two", "")).await.status, 404);
    let routes = format!("[{}, {}]", route("two", ", public = true"), route("three", ""));
    let result = gateway.reload(&[("ROUTE", &routes)]).unwrap();
    assert_eq!((result.changed, result.need_upgrade), (vec!["route".to_owned()], vec![]));
    for (path, expected) in [("/one", 404), ("/two", 200), ("/three", 200)] {
        assert_eq!(
            (http1.exchange(get(path, "")).await.status, over_http2(path).await),
            (expected, expected),
            "{path}"
        );
    }
    assert_eq!(http1.exchange("GET /two HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 200, "public now");
    assert_eq!(http1.exchange(request("POST", "/two", "")).await.status, 405);
    let series =
        |route: &str| format!("gateway_requests_total{{method=\"GET\",route=\"{route}\",status_class=\"2xx\"}}");
    assert_eq!(gateway.metric(&series("one")).await, Some(2.0), "the series of a removed route remains");
    assert_eq!(gateway.metric(&series("two")).await, Some(3.0));
    let durations = |route: &str| format!("gateway_request_duration_seconds_count{{route=\"{route}\"}}");
    assert_eq!(gateway.metric(&durations("three")).await, Some(2.0));
    assert!(api.seen().iter().all(|seen| ["/one", "/two", "/three"].contains(&seen.target.as_str())));
}

#[tokio::test]
async fn the_keys_of_a_route_change() {
    let (gateway, api, _admin) = start(&[("ROUTE", &format!("[{}]", route("one", "")))]).await;
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get("/one", "")).await.status, 200);
    let reload = |fields: &str| {
        gateway.reload(&[("ROUTE", &format!("[{}]", route("one", fields)))]).unwrap();
    };
    reload(", request_headers = { set = { X-Added = 'yes' } }, response_headers = { remove = ['X-From'] }");
    let answered = connection.exchange(get("/one", "")).await;
    assert!(answered.status == 200 && answered.values("x-from").is_empty(), "{answered:?}");
    assert_eq!(api.seen().last().unwrap().values("x-added"), ["yes"]);
    reload(", deny = ['127.0.0.0/8']");
    assert_eq!(connection.exchange(get("/one", "")).await.status, 403);
    reload(", require = { any = ['viewer'] }");
    assert_eq!(connection.exchange(get("/one", "")).await.status, 403);
    assert_eq!(gateway.metric("gateway_scope_refusals_total{route=\"one\"}").await, Some(1.0));
    reload(", rewrite = '/other'");
    assert_eq!(connection.exchange(get("/one", "")).await.status, 200);
    assert_eq!(api.seen().last().unwrap().target, "/other");
}

#[tokio::test]
async fn hosts_origins_and_hsts_change() {
    let (gateway, _api, _admin) = start(&[]).await;
    let mut connection = gateway.connect().await;
    let request = "GET / HTTP/1.1\r\nHost: new.example\r\nOrigin: https://app.example\r\n\r\n";
    let before = connection.exchange(request).await;
    assert_eq!((before.status, before.value("strict-transport-security")), (421, "max-age=31536000"));
    assert!(before.values("access-control-allow-origin").is_empty(), "{before:?}");
    let changed =
        [("HOSTS", "['new.example']"), ("CORS_ALLOWED_ORIGINS", "['https://app.example']"), ("HSTS_MAX_AGE", "60")];
    let result = gateway.reload(&changed).unwrap();
    assert_eq!(result.changed, ["cors.allowed_origins", "hosts", "hsts.max_age"]);
    let after = connection.exchange(request).await;
    assert_eq!((after.status, after.value("strict-transport-security")), (401, "max-age=60"));
    assert_eq!(after.value("access-control-allow-origin"), "https://app.example");
    // A head that is refused before it is parsed has the same fields.
    let refused =
        connection.exchange("GET /a b HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n\r\n").await;
    assert_eq!((refused.status, refused.value("strict-transport-security")), (400, "max-age=60"));
    assert_eq!(refused.value("access-control-allow-origin"), "https://app.example");
}

#[tokio::test]
async fn the_sizes_of_requests_change() {
    let (gateway, _api, _admin) = start(&[]).await;
    let mut connection = gateway.connect().await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(1000));
    assert_eq!(connection.exchange(&long).await.status, 401);
    gateway.reload(&[("REQUEST_MAX_TARGET_BYTES", "500")]).unwrap();
    assert_eq!(connection.exchange(&long).await.status, 414);
    gateway.reload(&[("REQUEST_MAX_TARGET_BYTES", "4000")]).unwrap();
    let longer = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(3000));
    assert_eq!(gateway.exchange(&longer).await.status, 401);
}

#[tokio::test]
async fn trusted_proxies_change() {
    let (gateway, api, _admin) = start(&[("ROUTE", &format!("[{}]", route("one", "")))]).await;
    let mut connection = gateway.connect().await;
    let mut client = async || {
        assert_eq!(connection.exchange(get("/one", "X-Forwarded-For: 192.0.2.7\r\n")).await.status, 200);
        api.seen().last().unwrap().values("x-forwarded-for").join(", ")
    };
    assert_eq!(client().await, "127.0.0.1");
    gateway.reload(&[("CLIENT_TRUSTED_PROXIES", "['127.0.0.1']")]).unwrap();
    assert_eq!(client().await, "192.0.2.7");
    gateway.reload(&[("CLIENT_TRUSTED_PROXIES", "[]")]).unwrap();
    assert_eq!(client().await, "127.0.0.1");
}

#[tokio::test]
async fn logins_can_be_disabled_and_enabled() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LOGIN_ENABLED", "false")]);
    // The body of a request that is refused is not read, so that its connection is closed.
    assert_eq!(gateway.exchange(login(user01())).await.status, 401);
    gateway.reload(&[("LOGIN_ENABLED", "true")]).unwrap();
    // The admin listener, which was not used before, is probed from now on.
    assert_eq!(gateway.exchange(login(user01())).await.status, 200);
    gateway.ready().await;
    assert_eq!(gateway.metric("gateway_upstream_up{upstream=\"admin\"}").await, Some(1.0));
    gateway.reload(&[("LOGIN_ENABLED", "false")]).unwrap();
    assert_eq!(gateway.exchange(login(user01())).await.status, 401);
}

#[tokio::test]
async fn tickets_can_be_enabled_by_a_route() {
    let (gateway, _api, _admin) = start(&[("ROUTE", &format!("[{}]", route("one", "")))]).await;
    let mut connection = gateway.connect().await;
    let body = r#"{"path":"/one"}"#;
    let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let wanted = request("POST", "/auth/ticket", &length) + body;
    assert_eq!(gateway.exchange(&wanted).await.status, 404);
    gateway.reload(&[("ROUTE", &format!("[{}]", route("one", ", tickets = true")))]).unwrap();
    let issued = connection.exchange(&wanted).await;
    assert_eq!(issued.status, 200, "{issued:?}");
    let ticket = issued.json()["ticket"].as_str().unwrap().to_owned();
    // Used tickets are remembered across reloads.
    let mut redeem = async || {
        let request = format!("GET /one?ticket={ticket} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.exchange(request).await.status
    };
    assert_eq!(redeem().await, 200);
    gateway.reload(&[("HSTS_MAX_AGE", "1")]).unwrap();
    assert_eq!(redeem().await, 401);
}

#[tokio::test]
async fn the_redirect_and_ops_listeners_follow() {
    let (api, admin) = (api().await, admin().await);
    let settings = [("HTTP_ADDR", "127.0.0.1:0"), ("CACHE_MAX_BYTES", "67108864")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let http = gateway.http.unwrap();
    let send = async |address: std::net::SocketAddr, request: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let redirected = "GET /a HTTP/1.1\r\nHost: new.example\r\nConnection: close\r\n\r\n";
    let purge = "POST /cache/purge HTTP/1.1\r\nHost: ops.example\r\nContent-Type: application/json\r\n\
                 Content-Length: 12\r\nConnection: close\r\n\r\n{\"all\":true}";
    assert!(send(http, redirected).await.starts_with("HTTP/1.1 421 "));
    assert!(send(gateway.ops, purge).await.starts_with("HTTP/1.1 421 "));
    let changed = [("HOSTS", "['new.example']"), ("REDIRECT_PORT", "8443"), ("OPS_ALLOWED_HOSTS", "['ops.example']")];
    assert_eq!(gateway.reload(&changed).unwrap().need_upgrade, Vec::<String>::new());
    let answer = send(http, redirected).await;
    assert!(answer.contains("location: https://new.example:8443/a\r\n"), "{answer}");
    assert!(send(gateway.ops, purge).await.starts_with("HTTP/1.1 204 "));
}

#[tokio::test]
async fn the_access_log_follows_the_level() {
    let (api, admin) = (Backend::start(|_| answer_of("a")).await, admin().await);
    let (gateway, log) = Gateway::start_logged(&api, &admin, &[]);
    let mut connection = gateway.connect().await;
    for (level, lines) in [("info", 1), ("warn", 1), ("info", 2)] {
        gateway.reload(&[("LOG_LEVEL", level)]).unwrap();
        assert_eq!(connection.exchange("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 401);
        crate::support::until("the line is written", async || log.lines().len() >= lines).await;
        assert_eq!(log.lines().len(), lines, "{level}");
    }
}
