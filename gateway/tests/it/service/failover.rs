//! A service with several addresses, some of which fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{route, service, start};
use crate::support::backend::{Backend, Seen, Step};
use crate::support::{Gateway, answer_of, get, request, until};

const CLIENTS: usize = 8;
const REQUESTS: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_get_fails_while_one_of_two_addresses_is_killed_under_load() {
    let (mut first, mut second) = (Backend::start(|_| answer_of("1")).await, Backend::start(|_| answer_of("2")).await);
    let services = service("app", &[&first.address, &second.address], "");
    let settings = [("LIMIT_ADDRESS_RATE", "0"), ("LIMIT_IDENTITY_RATE", "0")];
    let gateway = Arc::new(start(&format!("[{services}]"), &format!("[{}]", route("app")), &settings));
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (gateway, done) = (Arc::clone(&gateway), Arc::clone(&done));
            tokio::spawn(async move {
                let mut connection = gateway.connect().await;
                let mut statuses = Vec::new();
                for _ in 0..REQUESTS {
                    statuses.push(connection.exchange(get("/app/x", "")).await.status);
                    done.fetch_add(1, Ordering::SeqCst);
                }
                statuses
            })
        })
        .collect();
    until("a part of the load is done", async || done.load(Ordering::SeqCst) > CLIENTS * REQUESTS / 4).await;
    first.stop().await;
    let at_kill = done.load(Ordering::SeqCst);
    for client in clients {
        let failed = client.await.unwrap().iter().filter(|status| **status != 200).count();
        assert_eq!(failed, 0);
    }
    assert!(at_kill < CLIENTS * REQUESTS, "the address was killed after the load");
    assert!(!first.seen().is_empty() && !second.seen().is_empty());
    second.stop().await;
    let began = Instant::now();
    let answer = gateway.get("/app/x").await;
    assert_eq!((answer.status, answer.value("retry-after")), (503, "1"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let began = Instant::now();
    let restarted = Backend::start_at(second.address.parse().unwrap(), |_| answer_of("3")).await;
    assert_eq!(gateway.get("/app/x").await.body, "3");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drop(restarted);
}

#[tokio::test]
async fn an_idempotent_request_is_retried_once_on_another_address() {
    let bad = Backend::start(|_| vec![Step::Close]).await;
    let good = Backend::start(|_| answer_of("good")).await;
    let never = ", eject_after = 0";
    let two = service("two", &[&bad.address, &good.address], never);
    let one = service("one", &[&bad.address], never);
    let both_bad = Backend::start(|_| vec![Step::Close]).await;
    let neither = service("neither", &[&both_bad.address, &bad.address], never);
    let routes = ["one", "two", "neither"].map(route).join(", ");
    let gateway = start(&format!("[{two}, {one}, {neither}]"), &format!("[{routes}]"), &[]);
    let post = || gateway.exchange(request("POST", "/two/x", "Content-Length: 0\r\n"));
    assert_eq!(post().await.status, 502);
    assert_eq!((bad.seen().len(), good.seen().len()), (1, 0));
    assert_eq!(post().await.status, 200);
    // The turn of the bad one.
    let answer = gateway.get("/two/x").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "good"));
    assert_eq!((bad.seen().len(), good.seen().len()), (2, 2));
    // Without another address, a new connection that is closed is not retried.
    assert_eq!(gateway.get("/one/x").await.status, 502);
    assert_eq!(bad.seen().len(), 3);
    assert_eq!(gateway.get("/neither/x").await.status, 502);
    assert_eq!((both_bad.seen().len(), bad.seen().len()), (1, 4));
}

/// A service with an address that closes each connection without a response and a good one, and a gateway.
async fn bad_and_good(fields: &str) -> (Backend, Backend, Gateway) {
    let bad = Backend::start(|_| vec![Step::Close]).await;
    let good = Backend::start(|_| answer_of("good")).await;
    let services = service("app", &[&bad.address, &good.address], fields);
    let gateway = start(&format!("[{services}]"), &format!("[{}]", route("app")), &[]);
    (bad, good, gateway)
}

#[tokio::test]
async fn a_body_is_sent_to_the_other_address_as_a_whole() {
    let (_bad, good, gateway) = bad_and_good("").await;
    let body = "b".repeat(1000);
    let head = request("PUT", "/app/x", "Content-Length: 1000\r\n");
    assert_eq!(gateway.exchange(format!("{head}{body}")).await.status, 200);
    assert_eq!(good.only().body, body.as_bytes());
}

#[tokio::test]
async fn a_retried_request_has_the_same_head() {
    let (bad, good, gateway) = bad_and_good(", policy = 'sticky', cookie = 'at'").await;
    let cookie = "Cookie: a=1; at=unknown; b=2\r\n";
    for (method, fields) in [("GET", ""), ("PUT", ""), ("PUT", "Content-Length: 0\r\n")] {
        let before = (bad.seen().len(), good.seen().len());
        // One of two requests goes to the bad address first.
        for _ in 0..2 {
            let answer = gateway.exchange(request(method, "/app/x?q=1", &format!("{fields}{cookie}"))).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "good"), "{method}");
        }
        let (failed, answered) = (bad.seen(), good.seen());
        let [failed] = &failed[before.0..] else { panic!("{method}: {failed:?}") };
        let same = |seen: &&Seen| seen.values("x-request-id") == failed.values("x-request-id");
        let retried: Vec<_> = answered[before.1..].iter().filter(same).collect();
        let [retried] = retried[..] else { panic!("{method}: {retried:?}") };
        assert_eq!((&retried.method, &retried.target), (&failed.method, &failed.target));
        assert_eq!(retried.headers, failed.headers);
        assert_eq!(retried.values("cookie"), ["a=1; b=2"]);
        let length: &[&str] = if method == "PUT" { &["0"] } else { &[] };
        assert_eq!(retried.values("content-length"), length, "{method}");
    }
}

#[tokio::test]
async fn a_retry_does_not_restart_the_timeout_of_the_response() {
    let first = Backend::start(|_| vec![Step::Wait(Duration::from_secs(2)), Step::Close]).await;
    let second = Backend::start(|_| vec![Step::Hang]).await;
    let services = service("app", &[&first.address, &second.address], ", read_timeout = 3, policy = 'sticky'");
    let gateway = start(&format!("[{services}]"), &format!("[{}]", route("app")), &[]);
    // One of two requests goes to the first address first.
    let mut times = Vec::new();
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(gateway.get("/app/x").await.status, 504);
        times.push(began.elapsed());
    }
    assert_eq!((first.seen().len(), second.seen().len()), (1, 2), "one is retried");
    // With another 3 s after the retry it would be 5 s.
    assert!(times.iter().all(|time| (2.9..4.5).contains(&time.as_secs_f64())), "{times:?}");
}
