//! The ops listener: readiness, metrics and cache purges.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::auth::{login, user01};
use crate::support::backend::{Backend, Step};
use crate::support::client::PATIENCE;
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api, get, serve_day, until};

/// The series of the metrics page, without their values.
async fn series(gateway: &Gateway) -> BTreeSet<String> {
    let (status, page) = gateway.ops("/metrics").await;
    assert_eq!(status, 200);
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// The number of counted requests, whatever their status.
async fn requests(gateway: &Gateway) -> f64 {
    let (_, page) = gateway.ops("/metrics").await;
    let counted = page.lines().filter(|line| line.starts_with("gateway_requests_total{"));
    counted.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// The status and the body of `/readyz`.
async fn readiness(gateway: &Gateway) -> (u16, Value) {
    let (status, body) = gateway.ops("/readyz").await;
    (status, serde_json::from_str(&body).unwrap())
}

/// The body of `/readyz` without revocations and with the admin upstream up.
fn page(ready: bool, api: &str) -> Value {
    json!({"ready": ready, "draining": false, "revocations": "off", "upstreams": {"api": api, "admin": "up"}})
}

#[tokio::test]
async fn the_gateway_is_ready_once_every_backend_was_reached_and_remains_so() {
    // A port on which nothing listens yet.
    let mut api = Backend::start(serve_day).await;
    let address = api.address.parse().unwrap();
    api.stop().await;
    let mut admin = admin().await;
    let gateway = Gateway::start(&api, &admin);
    assert_eq!(gateway.ops("/healthz").await, (200, "ok\n".to_owned()));
    until("the admin listener is reached", async || readiness(&gateway).await.1["upstreams"]["admin"] == "up").await;
    assert_eq!(readiness(&gateway).await, (503, page(false, "down")));
    let mut api = Backend::start_at(address, serve_day).await;
    gateway.ready().await;
    assert_eq!(readiness(&gateway).await, (200, page(true, "up")));
    assert_eq!(gateway.metric(r#"gateway_upstream_up{upstream="api"}"#).await, Some(1.0));
    // A later failure is reported but does not make the gateway unready.
    api.stop().await;
    admin.stop().await;
    until("the failure is reported", async || {
        readiness(&gateway).await.1["upstreams"] == json!({"api": "down", "admin": "down"})
    })
    .await;
    assert_eq!(readiness(&gateway).await.0, 200);
    assert_eq!(gateway.metric(r#"gateway_upstream_up{upstream="api"}"#).await, Some(0.0));
    assert_eq!(gateway.ops("/healthz").await.0, 200);
}

#[tokio::test]
async fn the_gateway_is_not_ready_while_it_drains() {
    let (api, admin) = (Backend::start(|_| vec![Step::Hang]).await, admin().await);
    let mut gateway = Gateway::start_with(&api, &admin, &[("DRAIN_TIMEOUT", "10")]);
    gateway.ready().await;
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    until("the backend has the request", async || !api.seen().is_empty()).await;
    gateway.stop();
    until("it drains", async || readiness(&gateway).await.0 == 503).await;
    let (_, page) = readiness(&gateway).await;
    assert_eq!((&page["ready"], &page["draining"]), (&false.into(), &true.into()), "{page}");
    drop(connection);
}

#[tokio::test]
async fn the_listener_serves_five_read_only_pages() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for path in ["/", "/metrics/", "/auth", DAY, "/debug/pprof"] {
        assert_eq!(gateway.ops(path).await.0, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(gateway.ops_with(method, "/metrics").await.0, 405, "{method}");
    }
    // The public listener does not serve them.
    assert_eq!(gateway.get("/metrics").await.status, 404);
    assert!(api.seen().is_empty() && admin.seen().is_empty());
}

#[tokio::test]
async fn requests_and_connections_are_counted() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    connection.exchange(get(DAY, "")).await;
    connection.exchange(get(DAY, "")).await;
    connection.exchange(get("/nothing", "")).await;
    connection.exchange("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    connection.exchange("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT a.b.c\r\n\r\n").await;
    connection.exchange(login(user01())).await;
    connection.exchange(login("{}")).await;
    let expected = [
        (r#"gateway_requests_total{method="GET",route="holodules",status_class="2xx"}"#, 2.0),
        (r#"gateway_requests_total{method="GET",route="none",status_class="4xx"}"#, 3.0),
        (r#"gateway_requests_total{method="POST",route="auth",status_class="2xx"}"#, 1.0),
        (r#"gateway_requests_total{method="POST",route="auth",status_class="4xx"}"#, 1.0),
        (r#"gateway_request_duration_seconds_count{route="holodules"}"#, 2.0),
        (r#"gateway_upstream_duration_seconds_count{route="holodules"}"#, 2.0),
        (r#"gateway_upstream_duration_seconds_count{route="auth"}"#, 2.0),
        (r#"gateway_logins_total{result="success"}"#, 1.0),
        (r#"gateway_logins_total{result="refused"}"#, 1.0),
        (r#"gateway_logins_total{result="malformed"}"#, 0.0),
        (r#"gateway_token_refusals_total{reason="absent"}"#, 1.0),
        (r#"gateway_token_refusals_total{reason="encoding"}"#, 1.0),
        (r#"gateway_tls_handshakes_total{version="1.3"}"#, 1.0),
        (r#"gateway_tls_handshakes_total{version="1.2"}"#, 0.0),
        ("gateway_connections", 1.0),
        ("gateway_requests_in_flight", 0.0),
    ];
    for (series, value) in expected {
        // A request is counted after its response is sent.
        until(series, async || gateway.metric(series).await == Some(value)).await;
    }
    let expiry = gateway
        .metric(r#"gateway_certificate_expiry_timestamp_seconds{certificate="0",name="localhost"}"#)
        .await
        .unwrap();
    let days = (expiry - crate::support::token::now() as f64) / 86_400.0;
    assert!((1.0..826.0).contains(&days), "{days}");
    let start =
        gateway.metric(r#"gateway_certificate_start_timestamp_seconds{certificate="0",name="localhost"}"#).await;
    assert!((1.0..=crate::support::token::now() as f64).contains(&start.unwrap()), "{start:?}");
    let build = format!(r#"gateway_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(gateway.metric(&build).await, Some(1.0));
    drop(connection);
    until("the connection is gone", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test]
async fn routes_are_listed_with_their_service() {
    let (api, admin) = (api().await, admin().await);
    let services = "[{ name = 'wiki', addresses = ['127.0.0.1:1'] }]";
    let routes = "[{ name = 'pages', methods = ['GET'], path = '/pages/{*path}', service = 'wiki', stream = true, tickets = true },
        { name = 'days', methods = ['GET'], path = '/days/{day}' }]";
    let gateway = Gateway::start_with(&api, &admin, &[("SERVICE", services), ("ROUTE", routes)]);
    let listed: Vec<_> = series(&gateway)
        .await
        .into_iter()
        .filter_map(|line| Some(line.strip_prefix("gateway_route_info{")?.to_owned()))
        .collect();
    assert_eq!(
        listed,
        [
            r#"route="auth",service="admin",stream="false"}"#,
            r#"route="days",service="api",stream="false"}"#,
            r#"route="logout",service="admin",stream="false"}"#,
            r#"route="none",service="none",stream="false"}"#,
            r#"route="pages",service="wiki",stream="true"}"#,
            r#"route="ticket",service="none",stream="false"}"#,
        ]
    );
}

#[tokio::test]
async fn failures_of_services_are_counted_by_route_and_refusals_are_not() {
    let (api, admin) = (Backend::start(|_| vec![Step::Close]).await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let failures = async |route| gateway.metric(&format!("gateway_request_failures_total{{route=\"{route}\"}}")).await;
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(gateway.exchange(get(DAY, websocket)).await.status, 501);
    assert_eq!(gateway.exchange(get("/nothing", "")).await.status, 404);
    until("the refusals are counted", async || requests(&gateway).await == 2.0).await;
    assert_eq!((failures("holodules").await, failures("none").await), (Some(0.0), Some(0.0)));
    assert_eq!(gateway.exchange(get(DAY, "")).await.status, 502);
    until("the failure is counted", async || failures("holodules").await == Some(1.0)).await;
}

#[tokio::test]
async fn no_request_can_create_a_series() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    // The health checks create two series.
    gateway.ready().await;
    let mut connection = gateway.connect().await;
    let mut send = async |method: &str, path: &str, identity: &str| {
        let token = token(identity);
        connection
            .exchange(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n\r\n"))
            .await
    };
    // The first request of each kind may create its series.
    for method in ["GET", "BREW"] {
        for path in [DAY, "/nothing"] {
            send(method, path, "user01").await;
        }
    }
    until("the kinds are counted", async || requests(&gateway).await == 4.0).await;
    let before = series(&gateway).await;
    for number in 0..20 {
        send("GET", &format!("/holodules/{number}"), &format!("identity{number}")).await;
        send("GET", &format!("/strange/{number}?x={number}"), "user01").await;
        send(&format!("BREW{number}"), &format!("/strange{number}"), "user01").await;
    }
    until("all are counted", async || requests(&gateway).await == 64.0).await;
    assert_eq!(series(&gateway).await, before);
}

#[tokio::test]
async fn the_announce_file_contains_the_bound_addresses() {
    let (api, admin) = (api().await, admin().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("addresses.json");
    let gateway = Gateway::start_with(&api, &admin, &[("ANNOUNCE_FILE", file.to_str().unwrap())]);
    let announced: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(
        (&announced["https"], &announced["ops"]),
        (&json!(gateway.https.to_string()), &json!(gateway.ops.to_string()))
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

/// The status of a `POST /cache/purge` with these headers and this body.
async fn purge(gateway: &Gateway, headers: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(gateway.ops).await.unwrap();
    let length = body.len();
    let request =
        format!("POST /cache/purge HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Writes on the ops listener need an allowed Host, no cross-site `Sec-Fetch-Site`, and a content type that browsers
/// do not send to another site without a preflight.
#[tokio::test]
async fn a_purge_by_a_page_of_another_site_is_refused() {
    const JSON: &str = "Content-Type: application/json\r\n";
    const ALL: &str = r#"{"all":true}"#;
    let (api, admin) = (api().await, admin().await);
    let settings = [("CACHE_MAX_BYTES", "1000000"), ("CACHE_MAX_BODY_BYTES", "10000")];
    let gateway =
        Gateway::start_with(&api, &admin, &[&settings[..], &[("OPS_ALLOWED_HOSTS", "['ops.example']")]].concat());
    let purged = async || gateway.metric(r#"gateway_cache_purges_total{by="ops"}"#).await;
    for (headers, status) in [
        (format!("Host: evil.example\r\n{JSON}"), 421),
        (format!("Host: localhost\r\nHost: localhost\r\n{JSON}"), 400),
        ("Host: localhost\r\n".to_owned(), 415),
        ("Host: localhost\r\nContent-Type: text/plain\r\n".to_owned(), 415),
        (format!("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n{JSON}"), 403),
    ] {
        assert_eq!(purge(&gateway, &headers, ALL).await, status, "{headers}");
    }
    let good = format!("Host: localhost\r\n{JSON}");
    for body in
        ["", "{}", "[]", r#"{"all":false}"#, r#"{"path":"no"}"#, r#"{"path":"/a//b"}"#, r#"{"all":true,"path":"/"}"#]
    {
        assert_eq!(purge(&gateway, &good, body).await, 400, "{body}");
    }
    assert_eq!(purge(&gateway, &good, &" ".repeat(5000)).await, 413);
    assert_eq!(purged().await, Some(0.0));
    for headers in [good, format!("Host: ops.example:9180\r\n{JSON}")] {
        assert_eq!(purge(&gateway, &headers, ALL).await, 204, "{headers}");
        assert_eq!(purge(&gateway, &headers, r#"{"path":"/holodules/20201209"}"#).await, 204, "{headers}");
    }
    assert_eq!(purged().await, Some(4.0));
    // Without a cache there is nothing to purge.
    let without = Gateway::start(&api, &admin);
    assert_eq!(purge(&without, &format!("Host: localhost\r\n{JSON}"), ALL).await, 405);
}
