//! Which service receives a request, and with which of its settings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::{route, service, start};
use crate::support::backend::{Backend, Step, answer};
use crate::support::{Gateway, admin, answer_of, get};

#[tokio::test]
async fn a_request_goes_to_the_service_of_its_route() {
    let folder = tempfile::tempdir().unwrap();
    let (api, admin) = (Backend::start(|_| answer_of("api")).await, admin().await);
    let (a, b) = (Backend::start(|_| answer_of("a")).await, Backend::start(|_| answer_of("b")).await);
    let unix = Backend::start_unix(&folder.path().join("unix"), |_| answer_of("unix"));
    let services = [("a", &a), ("b", &b), ("unix", &unix)].map(|(name, own)| service(name, &[&own.address], ""));
    let routes = "[{ name = 'host', path = '/{*rest}', methods = ['GET'], hosts = ['b.example'], service = 'b' }, \
         { path = '/a/{*rest}', methods = ['GET'], service = 'a' }, \
         { path = '/unix', methods = ['GET'], service = 'unix' }, \
         { path = '/{*rest}', methods = ['GET'] }]";
    let services = format!("[{}]", services.join(", "));
    let settings = [("SERVICE", services.as_str()), ("ROUTE", routes), ("HOSTS", "['b.example']")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    for (host, path, expected) in [
        ("localhost", "/a/x", "a"),
        ("b.example", "/a/x", "b"),
        ("b.example", "/x", "b"),
        ("localhost", "/unix", "unix"),
        ("localhost", "/x", "api"),
    ] {
        let answer = gateway.exchange(get(path, "").replace("Host: localhost", &format!("Host: {host}"))).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, expected), "{host}{path}");
    }
    assert_eq!(b.seen()[0].values("host"), [b.address.as_str()]);
    assert_eq!(unix.only().values("host"), ["localhost"]);
    assert_eq!((a.seen().len(), b.seen().len(), api.seen().len()), (1, 2, 1));
}

#[tokio::test]
async fn urls_of_the_service_of_the_route_are_rewritten_and_others_are_not() {
    let other = Backend::start(|_| answer_of("other")).await;
    let second = "127.0.0.1:1";
    let of_other = other.address.clone();
    let own = Backend::start(move |seen| {
        let own = seen.values("host")[0];
        let authority = match seen.target.as_str() {
            "/own/other" => &of_other,
            "/own/second" => second,
            _ => own,
        };
        answer("302 Found", &[("Location", &format!("http://{authority}/own/x"))], "")
    })
    .await;
    let services = [service("own", &[&own.address, second], ""), service("other", &[&other.address], "")];
    let routes = format!("[{}, {}]", route("own"), route("other"));
    let gateway = start(&format!("[{}]", services.join(", ")), &routes, &[]);
    for path in ["/own/own", "/own/second"] {
        assert_eq!(gateway.get(path).await.value("location"), "https://localhost/own/x", "{path}");
    }
    let location = format!("http://{}/own/x", other.address);
    assert_eq!(gateway.get("/own/other").await.value("location"), location);
}

#[tokio::test]
async fn the_cache_is_filled_by_the_service_of_the_route_and_purged_by_path() {
    let script = |text: &'static str| move |_: &_| answer("200 OK", &[("Cache-Control", "public, s-maxage=600")], text);
    let (a, b) = (Backend::start(script("a")).await, Backend::start(script("b")).await);
    let services = format!("[{}, {}]", service("a", &[&a.address], ""), service("b", &[&b.address], ""));
    // Both forward the same target.
    let routes = ["a", "b"].map(|name| {
        format!(
            "{{ name = '{name}', path = '/{name}/x', rewrite = '/x', methods = ['GET'], shared = true, service = '{name}' }}"
        )
    });
    let gateway = start(&services, &format!("[{}]", routes.join(", ")), &[("CACHE_MAX_BYTES", "67108864")]);
    for expected in ["miss", "hit"] {
        for name in ["a", "b"] {
            let answer = gateway.get(&format!("/{name}/x")).await;
            assert_eq!((answer.body.as_str(), answer.value("x-cache")), (name, expected));
        }
    }
    let purge = "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"path\":\"/b/x\"}";
    let mut stream = tokio::net::TcpStream::connect(gateway.ops).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, purge.as_bytes()).await.unwrap();
    let mut purged = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut purged).await.unwrap();
    assert!(purged.starts_with("HTTP/1.1 204 "), "{purged}");
    assert_eq!(gateway.get("/b/x").await.value("x-cache"), "miss");
    assert_eq!(b.seen().len(), 2);
}

#[tokio::test]
async fn each_service_has_its_own_timeouts_and_connections() {
    let slow = |_: &_| [vec![Step::Wait(Duration::from_millis(700))], answer_of("late")].concat();
    let (short, long) = (Backend::start(slow).await, Backend::start(slow).await);
    let permits = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&permits);
    let full = Backend::start(move |_| [vec![Step::WaitFor(Arc::clone(&waiting))], answer_of("done")].concat()).await;
    let services = [
        service("short", &[&short.address], ", read_timeout = 0.2"),
        service("long", &[&long.address], ""),
        service("full", &[&full.address], ", connect_timeout = 0.2").replace("= 32", "= 4"),
    ];
    let routes = ["short", "long", "full"].map(route).join(", ");
    let gateway = start(&format!("[{}]", services.join(", ")), &format!("[{routes}]"), &[]);
    let (short, long) = tokio::join!(gateway.get("/short/x"), gateway.get("/long/x"));
    assert_eq!((short.status, long.status, long.body.as_str()), (504, 200, "late"));
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = gateway.connect().await;
        connection.send(get("/full/x", "")).await;
        held.push(connection);
    }
    crate::support::until("four requests are at the service", async || full.seen().len() == 4).await;
    let began = Instant::now();
    let answer = gateway.get("/full/x").await;
    assert_eq!((answer.status, answer.value("retry-after")), (503, "1"));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    permits.add_permits(4);
    for mut connection in held {
        assert_eq!(connection.answer("GET").await.status, 200);
    }
}
