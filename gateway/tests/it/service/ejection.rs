//! Addresses that fail while their health check does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{route, service, start};
use crate::support::backend::{Backend, Seen, Step, answer};
use crate::support::{Gateway, answer_of, get, request, until};

/// A service whose requests fail while the switch is on.
async fn failing(steps: Vec<Step>) -> (Backend, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(true));
    let is_on = Arc::clone(&switch);
    let script = move |_: &Seen| if is_on.load(Ordering::SeqCst) { steps.clone() } else { answer_of("bad") };
    (Backend::start(script).await, switch)
}

async fn value(gateway: &Gateway, metric: &str, address: &Backend) -> f64 {
    let address = &address.address;
    gateway.metric(&format!("gateway_service_{metric}{{address=\"{address}\",service=\"app\"}}")).await.unwrap()
}

/// A gateway in front of the two, whose health checks only connect.
fn app(bad: &Backend, good: &Backend, fields: &str) -> Gateway {
    let service = service("app", &[&bad.address, &good.address], &format!(", health_interval = 0.1{fields}"));
    start(&format!("[{service}]"), &format!("[{}]", route("app")), &[])
}

#[tokio::test]
async fn each_kind_of_failure_ejects_an_address_and_it_returns() {
    let error = answer("500 Internal Server Error", &[], "");
    for (steps, fields, status) in [
        (vec![Step::Close], ", eject_after = 3, eject_time = 0.5", 200),
        (vec![Step::Hang], ", eject_after = 3, eject_time = 0.5, read_timeout = 0.1", 504),
        (error, ", eject_after = 3, eject_time = 0.5, eject_on_5xx = true", 500),
    ] {
        let (bad, switch) = failing(steps).await;
        let good = Backend::start(|_| answer_of("good")).await;
        let gateway = app(&bad, &good, fields);
        for number in 0..3 {
            assert_eq!(value(&gateway, "address_ejected", &bad).await, 0.0, "{number} {fields}");
            let statuses = [gateway.get("/app/x").await.status, gateway.get("/app/x").await.status];
            assert_eq!(statuses, [status, 200], "{number} {fields}");
        }
        let ejected = Instant::now();
        assert_eq!(value(&gateway, "address_ejected", &bad).await, 1.0);
        let page = gateway.ops("/readyz").await.1;
        assert!(page.contains(&format!("\"{}\":\"ejected\"", bad.address)), "{page}");
        for _ in 0..10 {
            assert_eq!(gateway.get("/app/x").await.body, "good");
        }
        assert!(ejected.elapsed() < Duration::from_millis(450), "too slow to test: {:?}", ejected.elapsed());
        assert_eq!(
            (value(&gateway, "ejections_total", &bad).await, value(&gateway, "failures_total", &bad).await),
            (1.0, 3.0)
        );
        assert_eq!((value(&gateway, "requests_total", &bad).await, bad.seen().len()), (3.0, 3));
        switch.store(false, Ordering::SeqCst);
        until("the address returns", async || gateway.get("/app/x").await.body == "bad").await;
        assert!(ejected.elapsed() >= Duration::from_millis(450), "{:?}", ejected.elapsed());
    }
}

#[tokio::test]
async fn errors_of_the_service_eject_no_address_unless_configured() {
    let (bad, _) = failing(answer("500 Internal Server Error", &[], "")).await;
    let good = Backend::start(|_| answer_of("good")).await;
    let gateway = app(&bad, &good, ", eject_after = 1");
    for _ in 0..10 {
        assert_eq!((gateway.get("/app/x").await.status, gateway.get("/app/x").await.status), (500, 200));
    }
    assert_eq!(value(&gateway, "failures_total", &bad).await, 0.0);
}

#[tokio::test]
async fn a_passed_check_with_a_path_ends_an_ejection() {
    let script = |seen: &Seen| if seen.target == "/live" { answer_of("") } else { vec![Step::Close] };
    let bad = Backend::start(script).await;
    let good = Backend::start(|_| answer_of("good")).await;
    let gateway = app(&bad, &good, ", eject_after = 1, eject_time = 600, eject_max_time = 600, health_path = '/live'");
    until("it is ejected", async || {
        assert_eq!(gateway.get("/app/x").await.status, 200);
        value(&gateway, "ejections_total", &bad).await > 0.0
    })
    .await;
    until("it is not ejected", async || value(&gateway, "address_ejected", &bad).await == 0.0).await;
}

#[tokio::test]
async fn slow_and_leaving_clients_eject_no_address() {
    let app_of = |backend: &Backend, other: &Backend| {
        app(backend, other, ", eject_after = 1, read_timeout = 0.2, request_timeout = 0.6")
    };
    let uploads = Backend::start(|_| answer_of("a")).await;
    let other = Backend::start(|_| answer_of("b")).await;
    let gateway = app_of(&uploads, &other);
    for _ in 0..2 {
        let mut slow = gateway.connect().await;
        slow.send(request("PUT", "/app/x", "Content-Length: 3\r\n") + "a").await;
        assert_eq!(slow.answer("PUT").await.status, 408);
    }
    for method in ["PUT", "POST"] {
        let mut leaving = gateway.connect().await;
        leaving.send(request(method, "/app/x", "Content-Length: 3\r\n") + "a").await;
        let in_flight = async || {
            value(&gateway, "requests_in_flight", &uploads).await + value(&gateway, "requests_in_flight", &other).await
        };
        until("the request is in flight", async || in_flight().await == 1.0).await;
        drop(leaving);
        until("no request is in flight", async || in_flight().await == 0.0).await;
    }
    for backend in [&uploads, &other] {
        assert_eq!(value(&gateway, "failures_total", backend).await, 0.0);
    }
    let hanging = Backend::start(|_| vec![Step::Hang]).await;
    let gateway = app(&hanging, &other, ", eject_after = 1");
    let mut leaving = gateway.connect().await;
    leaving.send(get("/app/x", "")).await;
    until("the request is at the service", async || hanging.seen().len() == 1).await;
    drop(leaving);
    until("the client has left", async || hanging.abandoned() == 1).await;
    until("no request is in flight", async || value(&gateway, "requests_in_flight", &hanging).await == 0.0).await;
    assert_eq!(value(&gateway, "failures_total", &hanging).await, 0.0);
}

#[tokio::test]
async fn a_connection_to_an_address_whose_check_fails_is_not_reused() {
    let is_live = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&is_live);
    let script = move |seen: &Seen| match seen.target.as_str() {
        "/live" if !state.load(Ordering::SeqCst) => answer("503 Service Unavailable", &[], ""),
        _ => answer_of("a"),
    };
    let (a, b) = (Backend::start(script).await, Backend::start(|_| answer_of("b")).await);
    let gateway = app(&a, &b, ", health_path = '/live'");
    for expected in ["a", "b", "a"] {
        assert_eq!(gateway.get("/app/x").await.body, expected);
    }
    is_live.store(false, Ordering::SeqCst);
    until("the check has failed", async || gateway.ops("/readyz").await.1.contains("\"down\"")).await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/app/x").await.body, "b");
    }
    let before = a.seen().iter().map(|seen| seen.connection).max().unwrap();
    is_live.store(true, Ordering::SeqCst);
    until("it is used again", async || gateway.get("/app/x").await.body == "a").await;
    assert!(a.seen().last().unwrap().connection > before);
}
