//! How a gateway stops: what is under way may end, nothing new begins, and it returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::backend::Step::{Hang, Wait};
use crate::support::client::Connection;
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{DAY, DAY_BODY, Gateway, admin, api, get, request, serve_day, until};

#[tokio::test]
async fn a_request_under_way_is_answered_and_no_new_one_taken() {
    let asked = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&asked);
    let api = Backend::start(move |seen| {
        stopping.store(true, Ordering::SeqCst);
        [vec![Wait(Duration::from_secs(1))], serve_day(seen)].concat()
    })
    .await;
    let admin = admin().await;
    let mut gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    let mut idle = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    until("the backend is asked", async || asked.load(Ordering::SeqCst)).await;
    gateway.stop();
    until("no connection is accepted", async || Connection::open(gateway.https).await.is_err()).await;
    assert!(!gateway.has_ended(), "a request is under way");
    let answer = connection.answer("GET").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY));
    connection.assert_closed().await;
    idle.assert_closed().await;
    until("run returns", async || gateway.has_ended()).await;
}

#[tokio::test]
async fn connections_that_wait_are_closed_at_once() {
    let (api, admin) = (api().await, admin().await);
    let mut gateway = Gateway::start(&api, &admin);
    let mut used = gateway.connect().await;
    assert_eq!(used.exchange(get(DAY, "")).await.status, 200);
    let mut unused = gateway.connect().await;
    let began = Instant::now();
    gateway.stop();
    used.assert_closed().await;
    unused.assert_closed().await;
    until("run returns", async || gateway.has_ended()).await;
    assert!(began.elapsed() < Duration::from_secs(4), "well before the drain timeout: {:?}", began.elapsed());
}

#[tokio::test]
async fn what_does_not_end_is_cut_at_the_drain_timeout() {
    let (api, admin) = (Backend::start(|_| vec![Hang]).await, admin().await);
    let mut gateway = Gateway::start_with(&api, &admin, &[("DRAIN_TIMEOUT", "1")]);
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "")).await;
    until("the backend is asked", async || !api.seen().is_empty()).await;
    let began = Instant::now();
    gateway.stop();
    until("run returns", async || gateway.has_ended()).await;
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&began.elapsed()), "{:?}", began.elapsed());
    connection.assert_closed().await;
}

#[tokio::test]
async fn the_last_answer_says_so() {
    let api = Backend::start(|seen| [vec![Wait(Duration::from_secs(1))], serve_day(seen)].concat()).await;
    let admin = admin().await;
    let route = ("ROUTE", "[{methods = ['GET', 'POST'], path = '/holodules/{day}'}]");
    let mut gateway = Gateway::start_with(&api, &admin, &[route]);
    let mut connections = [gateway.connect().await, gateway.connect().await];
    let post = format!("{}x=1", request("POST", DAY, "Content-Length: 3\r\n"));
    for (connection, request) in connections.iter_mut().zip([get(DAY, ""), post]) {
        connection.send(request).await;
    }
    until("the backend is asked", async || api.seen().len() == 2).await;
    gateway.stop();
    for connection in &mut connections {
        let answer = connection.answer("GET").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY));
        assert_eq!(answer.value("connection"), "close");
        connection.assert_closed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_at_the_drain_timeout_has_its_line() {
    let (api, admin) = (Backend::start(|_| vec![Hang]).await, admin().await);
    let route = ("ROUTE", "[{methods = ['GET', 'POST'], path = '/holodules/{day}'}]");
    let (mut gateway, log) = Gateway::start_logged(&api, &admin, &[route, ("DRAIN_TIMEOUT", "1")]);
    let mut connections = [gateway.connect().await, gateway.connect().await];
    let post = format!("{}x=1", request("POST", DAY, "Content-Length: 3\r\n"));
    for (connection, request) in connections.iter_mut().zip([get(DAY, ""), post]) {
        connection.send(request).await;
    }
    let client = Http2::open(gateway.https).await;
    let authorization = format!("JWT {}", token("user01"));
    let request = http::Request::get(format!("https://localhost{DAY}")).header("authorization", authorization);
    let request = request.body(()).unwrap();
    let (_answer, _stream) = client.begin(request, true).await.unwrap();
    until("the backend is asked", async || api.seen().len() == 3).await;
    gateway.stop();
    until("run returns", async || gateway.has_ended()).await;
    until("the lines are written", async || log.lines().len() >= 3).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let is_cut = |line: &serde_json::Value| {
        line["reason"] == "drain" && line["status"] == 0 && line["total_ms"].as_f64().unwrap() >= 900.0
    };
    assert!(lines.iter().all(is_cut), "{lines:?}");
}
