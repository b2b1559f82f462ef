//! ops/WIRE.md, early hints: of the interim responses of a service, only the `Link` fields of a 103 are passed on.

use std::future::poll_fn;

use http::{HeaderMap, Request};

use crate::support::backend::{Backend, Step};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{Gateway, admin, get, request};

const ROUTES: &str = "[{ name = 'pages', path = '/pages/{*rest}', methods = ['GET', 'POST'], host = 'client' }, \
     { name = 'ruled', path = '/ruled', methods = ['GET'], response_headers = { remove = ['Link'] } }, \
     { name = 'cached', path = '/cached', methods = ['GET'], shared = true }]";

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nX-Auth-Identity: root\r\n\
                     Set-Cookie: a=b\r\nLink: <http://localhost/script.js>; rel=preload\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Control: public, s-maxage=600\r\n\r\nabc";

async fn start(interim: &'static str) -> (Gateway, Backend) {
    let service = Backend::start(move |_| vec![Step::Write(format!("{interim}{FINAL}").into_bytes())]).await;
    let admin = admin().await;
    let settings = [("ROUTE", ROUTES), ("CACHE_MAX_BYTES", "67108864")];
    (Gateway::start_with(&service, &admin, &settings), service)
}

/// The lines of the interim response to `request`, if it has one, on a connection that is then used again.
async fn interim_of(gateway: &Gateway, request: &str) -> Option<Vec<String>> {
    let mut connection = gateway.connect().await;
    let mut all = Vec::new();
    for _ in 0..2 {
        connection.send(request).await;
        let mut head = connection.read_until("\r\n\r\n").await;
        let interim = head.starts_with("HTTP/1.1 103 Early Hints\r\n").then(|| {
            head.split("\r\n").skip(1).filter(|line| !line.is_empty()).map(str::to_lowercase).collect::<Vec<_>>()
        });
        if interim.is_some() {
            head = connection.read_until("\r\n\r\n").await;
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(connection.read_bytes(3).await, b"abc");
        all.push(interim);
    }
    assert_eq!(all[0], all[1]);
    all.remove(0)
}

fn links() -> Vec<String> {
    ["link: </style.css>; rel=preload", "link: <https://localhost/script.js>; rel=preload"].map(str::to_owned).into()
}

#[tokio::test]
async fn the_links_of_early_hints_are_passed_on_over_http_1_1() {
    let (gateway, _service) = start(HINTS).await;
    assert_eq!(interim_of(&gateway, &get("/pages/a", "")).await, Some(links()));
    let post = request("POST", "/pages/a", "Content-Length: 3\r\n") + "xyz";
    assert_eq!(interim_of(&gateway, &post).await, Some(links()));
    // A rule of the route covers them, and the cache does not store them.
    assert_eq!(interim_of(&gateway, &get("/ruled", "")).await, None);
    assert_eq!(interim_of(&gateway, &get("/cached", "")).await, None);
    let answer = gateway.exchange(get("/pages/a", "").replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "abc"));
}

#[tokio::test]
async fn no_other_interim_response_is_passed_on() {
    for interim in [
        "HTTP/1.1 100 Continue\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 102 Processing\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 104 Other\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nX-Other: 1\r\n\r\n",
    ] {
        let (gateway, _service) = start(interim).await;
        assert_eq!(interim_of(&gateway, &get("/pages/a", "")).await, None, "{interim}");
    }
    let (gateway, _service) =
        start("HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n").await;
    assert_eq!(gateway.get("/pages/a").await.status, 502);
}

#[tokio::test]
async fn of_a_flood_of_early_hints_only_some_links_are_passed_on() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1000);
    let noise = "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
    let (gateway, _service) = start(Box::leak((hints + &noise).into_boxed_str())).await;
    let mut connection = gateway.connect().await;
    for _ in 0..2 {
        connection.send(get("/pages/a", "")).await;
        let mut links = 0;
        loop {
            let head = connection.read_until("\r\n\r\n").await;
            if !head.starts_with("HTTP/1.1 103 ") {
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                break;
            }
            links += head.matches("link: ").count();
        }
        assert_eq!((links, connection.read_bytes(3).await), (100, b"abc".to_vec()));
    }
}

#[tokio::test]
async fn early_hints_arrive_before_the_response() {
    let permit = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let (service, admin) = {
        let permit = permit.clone();
        let steps = move |_: &_| {
            vec![Step::Write(HINTS.into()), Step::WaitFor(permit.clone()), Step::Write([HINTS, FINAL].concat().into())]
        };
        (Backend::start(steps).await, admin().await)
    };
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", ROUTES)]);
    let mut connection = gateway.connect().await;
    connection.send(get("/pages/a", "")).await;
    assert!(connection.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 103 Early Hints\r\nlink: "));
    permit.add_permits(1);
    assert!(connection.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 103 Early Hints\r\nlink: "));
    assert_eq!(connection.answer("GET").await.body, "abc");
}

#[tokio::test]
async fn after_an_interim_response_a_failure_still_has_a_response() {
    let service = Backend::start(|_| vec![Step::Write(HINTS.into()), Step::Close]).await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", ROUTES)]);
    for request in [get("/pages/a", ""), request("POST", "/pages/a", "Content-Length: 3\r\n") + "xyz"] {
        let mut connection = gateway.connect().await;
        connection.send(&request).await;
        assert!(connection.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 103 "), "{request}");
        assert_eq!(connection.answer("GET").await.status, 502, "{request}");
    }
    // Also after the 100 of the gateway.
    let mut connection = gateway.connect().await;
    connection.send(request("POST", "/pages/a", "Content-Length: 3\r\nExpect: 100-continue\r\n")).await;
    assert!(connection.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 100 "));
    connection.send("xyz").await;
    assert!(connection.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 103 "));
    assert_eq!(connection.answer("POST").await.status, 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_hints_are_passed_on_over_http_2() {
    let (gateway, _service) = start(HINTS).await;
    let client = Http2::open(gateway.https).await;
    for method in ["GET", "POST"] {
        let request = Request::builder().method(method).uri("https://localhost/pages/a");
        let request = request.header("authorization", format!("JWT {}", token("user01"))).body(()).unwrap();
        let (mut response, mut upload) = client.begin(request, method == "GET").await.unwrap();
        if method == "POST" {
            upload.send_data("xyz".into(), true).unwrap();
        }
        let interim = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(interim.status(), 103);
        let expected =
            links().into_iter().map(|line| line.split_once(": ").map(|(_, value)| value.to_owned()).unwrap());
        let expected: HeaderMap = expected.map(|value| ("link".parse().unwrap(), value.parse().unwrap())).collect();
        assert_eq!(interim.headers(), &expected);
        assert_eq!(response.await.unwrap().status(), 200);
    }
}
