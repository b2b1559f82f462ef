//! A service of which no address responds.

use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{route, service, start};
use crate::support::backend::{Backend, Step, answer};
use crate::support::{answer_of, get, until};

/// Within which a request without a healthy address is refused.
const SOON: Duration = Duration::from_millis(100);

#[tokio::test]
async fn cached_routes_stay_up_and_the_rest_is_503_at_once_until_an_address_returns() {
    let cacheable = |_: &_| answer("200 OK", &[("Cache-Control", "public, s-maxage=1, stale-if-error=600")], "stored");
    let (mut a, mut b) = (Backend::start(cacheable).await, Backend::start(cacheable).await);
    let services = service("app", &[&a.address, &b.address], "");
    let cached = "{ name = 'cached', path = '/cached', methods = ['GET'], shared = true, service = 'app' }";
    let settings = [("CACHE_MAX_BYTES", "67108864")];
    let gateway = start(&format!("[{services}]"), &format!("[{cached}, {}]", route("app")), &settings);
    assert_eq!(gateway.get("/cached").await.value("x-cache"), "miss");
    assert_eq!(gateway.get("/app/x").await.status, 200);
    a.stop().await;
    b.stop().await;
    until("the stored response is stale", async || gateway.get("/cached").await.value("x-cache") == "stale").await;
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        let answer = gateway.get("/app/x").await;
        times.push(began.elapsed());
        assert_eq!((answer.status, answer.value("retry-after")), (503, "1"));
        assert_eq!(gateway.get("/cached").await.body, "stored");
    }
    times.sort_unstable();
    println!("503 after {:?} (median), {:?} (longest)", times[10], times[20]);
    assert!(times[10] < SOON, "{times:?}");
    // Before the next health check, which is two seconds after the last.
    until("the checks have failed", async || !gateway.ops("/readyz").await.1.contains("\"up\"")).await;
    let returned = Instant::now();
    let restarted = Backend::start_at(b.address.parse().unwrap(), |_| answer_of("back")).await;
    assert_eq!(gateway.get("/app/x").await.body, "back");
    assert!(returned.elapsed() < Duration::from_secs(1), "{:?}", returned.elapsed());
    drop(restarted);
}

/// An address that neither accepts nor refuses connections, like that of a host that is off, and the sockets that fill
/// its queue.
async fn silent() -> (String, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        held.push(stream.unwrap());
    }
    (address.to_string(), listener, held)
}

#[tokio::test]
async fn all_but_a_few_requests_are_refused_at_once_if_the_hosts_are_silent() {
    let (a, b) = (silent().await, silent().await);
    let services = service("app", &[&a.0, &b.0], ", health_interval = 0.1, connect_timeout = 2");
    let gateway = start(&format!("[{services}]"), &format!("[{}]", route("app")), &[]);
    let concurrent = async || {
        let connections = futures_util::future::join_all((0..21).map(|_| gateway.connect())).await;
        let waiting = connections.into_iter().map(|mut connection| async move {
            let began = Instant::now();
            assert_eq!(connection.exchange(get("/app/x", "")).await.status, 503);
            began.elapsed()
        });
        futures_util::future::join_all(waiting).await
    };
    // The first requests find out.
    concurrent().await;
    let is_down = async |address: &str| {
        let series = format!("gateway_service_address_up{{address=\"{address}\",service=\"app\"}}");
        gateway.metric(&series).await == Some(0.0)
    };
    until("the checks have failed", async || is_down(&a.0).await && is_down(&b.0).await).await;
    let mut times = concurrent().await;
    times.sort_unstable();
    println!("503 after {:?} (median), {:?} (longest)", times[10], times[20]);
    assert!(times[10] < SOON, "{times:?}");
    assert!(times[20] > Duration::from_millis(900), "requests still try to connect: {times:?}");
}

#[tokio::test]
async fn the_queue_for_a_connection_is_bounded() {
    let slow = |_: &_| [vec![Step::Wait(Duration::from_secs(1))], answer_of("a")].concat();
    let backend = Backend::start(slow).await;
    let services = service("app", &[&backend.address], ", max_queue = 1, connect_timeout = 30").replace("= 32", "= 4");
    let gateway = start(&format!("[{services}]"), &format!("[{}]", route("app")), &[]);
    let connections = futures_util::future::join_all((0..8).map(|_| gateway.connect())).await;
    let exchanges = connections.into_iter().map(|mut connection| async move {
        let began = Instant::now();
        let answer = connection.exchange(get("/app/x", "")).await;
        (answer.status, began.elapsed())
    });
    let answers = futures_util::future::join_all(exchanges).await;
    let count = |wanted: u16| answers.iter().filter(|(status, _)| *status == wanted).count();
    assert_eq!((count(200), count(503)), (5, 3), "{answers:?}");
    assert!(answers.iter().all(|(status, took)| *status == 200 || *took < Duration::from_millis(900)), "{answers:?}");
}
