//! Timeouts, size limits, concurrency limits, and graceful shutdown.

use std::time::{Duration, Instant};

use holodule_backend::config::{Config, Environment, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http;
use crate::service::{Service, Setup, holodule};

const SHORT: Duration = Duration::from_millis(200);

/// Whether the service closes the stream, after any output.
async fn is_closed(stream: &mut Box<dyn http::Stream>) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn an_incomplete_header_times_out() {
    let mut setup = Setup::default();
    setup.server.api.header_timeout = SHORT;
    let service = Service::with(setup).await;
    for begun in ["", "GET /holodules/20201209 HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = http::connect(&service.api).await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let started = Instant::now();
        assert!(is_closed(&mut stream).await, "{begun:?}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn the_gateways_maximum_of_header_fields_is_accepted() {
    let service = Service::start().await;
    let fields: String = (0..110).map(|number| format!("X-{number}: a\r\n")).collect();
    let request = format!("GET /holodules/x HTTP/1.1\r\nHost: x\r\n{fields}Connection: close\r\n\r\n");
    assert_eq!(http::raw(&service.api, &request).await.status, 400, "not 431: it is no day");
}

#[tokio::test]
async fn the_gateways_longest_header_is_accepted() {
    let server = Config::from_source(Source::read(None, Environment::new())).unwrap().server;
    let service = Service::with(Setup { server, ..Setup::default() }).await;
    let get = async |length: usize| {
        // The longest values of the gateway's own fields.
        let mut request = format!(
            "GET /holodules/x HTTP/1.1\r\nHost: {}\r\nX-Auth-Identity: {}\r\nX-Request-Id: {}\r\n\
             X-Forwarded-For: {:?}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: {}\r\nConnection: close\r\n",
            "h".repeat(253),
            "%61".repeat(128),
            "f".repeat(128),
            std::net::Ipv6Addr::from([0xff; 16]),
            "h".repeat(259),
        );
        for field in 0..90 {
            request.push_str(&format!("X-{field:02}: {}\r\n", "a".repeat(length / 90 - 8)));
        }
        http::raw(&service.api, &format!("{request}\r\n")).await.status
    };
    assert_eq!(get(16 * 1024).await, 400, "not 431: it is no day");
    assert_eq!(get(32 * 1024).await, 431);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    let mut setup = Setup::default();
    setup.server.api.idle_timeout = SHORT * 2;
    let service = Service::with(setup).await;
    let mut stream = http::connect(&service.api).await;
    let mut buffer = vec![0; 4096];
    for _ in 0..4 {
        tokio::time::sleep(SHORT).await;
        stream.write_all(b"GET /holodules/20201209 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..length].starts_with(b"HTTP/1.1 404"), "still open");
    }
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn a_stalled_body_times_out() {
    let mut setup = Setup::default();
    setup.handler.body_timeout = SHORT;
    let service = Service::with(setup).await;
    let begun =
        "POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let reply = http::raw(&service.admin, begun).await;
    assert_eq!((reply.status, reply.header("connection")), (408, "close"));
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected() {
    let mut setup = Setup::default();
    setup.server.admin.write_timeout = SHORT;
    let service = Service::with(setup).await;
    let text = "x".repeat(30_000);
    let large = (0..1000).map(|number| {
        let mut holodule = holodule(number, "20201209 230000");
        holodule.description = Some(text.clone());
        holodule
    });
    service.holodules(large).await;
    let mut stream = http::connect(&service.admin).await;
    stream.write_all(b"GET /holodules HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // The remaining connection is that of the scrape.
    while service.metric("backend_connections{listener=\"admin\"}").await > 1.0 {
        assert!(Instant::now() < deadline, "the connection is still open");
        tokio::time::sleep(SHORT).await;
    }
}

#[tokio::test]
async fn a_long_header_is_refused() {
    let service = Service::start().await;
    let long = "x".repeat(20_000);
    let reply = http::send(&service.api, "GET", "/holodules/20201209", &[("X-Long", &long)], "").await;
    assert_eq!(reply.status, 431);
    let many: Vec<(&str, &str)> = vec![("X-Many", "x"); 200];
    assert_eq!(http::send(&service.api, "GET", "/holodules/20201209", &many, "").await.status, 431);
}

#[tokio::test]
async fn further_connections_wait() {
    let mut setup = Setup::default();
    setup.server.api.max_connections = 1;
    let service = Service::with(setup).await;
    let first = http::connect(&service.api).await;
    service.until("backend_connections{listener=\"api\"}", 1.0).await;
    let second = service.get("/holodules/20201209");
    let mut second = std::pin::pin!(second);
    assert!(tokio::time::timeout(SHORT, second.as_mut()).await.is_err(), "it waits");
    drop(first);
    assert_eq!(second.await.status, 404);
}

#[tokio::test]
async fn requests_in_flight_complete_before_the_service_ends() {
    let service = Service::start().await;
    let mut idle = http::connect(&service.api).await;
    idle.write_all(b"GET /holodules/20201209 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut buffer = vec![0; 4096];
    assert!(idle.read(&mut buffer).await.unwrap() > 0);

    let mut stream = http::connect(&service.admin).await;
    let body = r#"{"username":"user01","password":"password01"}"#;
    let (begun, rest) = body.split_at(10);
    let request = format!(
        "POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{begun}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // Two: this request, and the scrape itself.
    service.until("backend_requests_in_flight{listener=\"admin\"}", 2.0).await;
    let api = service.api.clone();
    let ended = service.stop();
    assert!(is_closed(&mut idle).await, "an idle connection does not delay the shutdown");
    stream.write_all(rest.as_bytes()).await.unwrap();
    let reply = http::read(&mut stream).await;
    assert_eq!((reply.status, reply.header("connection")), (201, "close"));
    assert_eq!(ended.await.unwrap().cut, 0);
    let holodule_backend::server::Address::Tcp(api) = api else { panic!("{api}") };
    assert!(tokio::net::TcpStream::connect(api).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn the_shutdown_has_a_timeout() {
    let mut setup = Setup::default();
    setup.server.drain = SHORT;
    let service = Service::with(setup).await;
    let mut stream = http::connect(&service.admin).await;
    let begun =
        b"POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(begun).await.unwrap();
    // Two: this request, and the scrape itself.
    service.until("backend_requests_in_flight{listener=\"admin\"}", 2.0).await;
    assert_eq!(service.stop().await.unwrap().cut, 1);
}

#[tokio::test]
async fn both_listeners_can_be_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let socket = |name: &str| format!("unix:{}", folder.path().join(name).display()).parse().unwrap();
    let setup = Setup { api: socket("api"), admin: socket("admin"), ..Setup::default() };
    let service = Service::with(setup).await;
    service.holodules([holodule(1, "20201209 230000")]).await;
    assert_eq!(service.get("/holodules/20201209").await.status, 200);
    assert_eq!(service.admin("GET", "/status", "").await.json()["holodules"], 1);
    service.stop().await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the sockets are gone");
}

#[tokio::test]
async fn probes_and_metrics() {
    let service = Service::start().await;
    assert_eq!(service.admin("GET", "/healthz", "").await.body, "{\"status\":\"alive\"}\n");
    assert_eq!(service.admin("GET", "/readyz", "").await.body, "{\"status\":\"ready\"}\n");
    service.get("/holodules/20201209").await;
    service.get("/nowhere").await;
    let page = http::send(&service.admin, "GET", "/metrics", &[], "").await;
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        r#"backend_requests_total{listener="api",method="GET",route="/holodules/{day}",status_class="4xx"} 1"#,
        r#"backend_requests_total{listener="api",method="GET",route="unknown",status_class="4xx"} 1"#,
        r#"backend_requests_in_flight{listener="admin"} 1"#,
    ] {
        assert!(page.body.lines().any(|found| found == line), "{line} is not in {}", page.body);
    }
    assert!(!page.body.contains("nowhere") && !page.body.contains("20201209"));
}
