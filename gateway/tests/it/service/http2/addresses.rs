//! Several addresses, and what ends the use of a shared connection to one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use h2::Reason;
use tokio::sync::Semaphore;

use super::{Http2Service, start};
use crate::service::service as table;
use crate::support::{Gateway, get, until};

/// A service that responds with its name.
async fn named(name: &'static str) -> Http2Service {
    Http2Service::plain(move |call| Box::pin(async move { call.answer(name) })).await
}

async fn value(gateway: &Gateway, metric: &str, service: &Http2Service) -> f64 {
    let address = &service.address;
    gateway.metric(&format!("gateway_service_{metric}{{address=\"{address}\",service=\"app\"}}")).await.unwrap()
}

fn both(one: &Http2Service, two: &Http2Service, fields: &str) -> Gateway {
    start(&table("app", &[&one.address, &two.address], &format!(", http = '2', health_interval = 3600{fields}")))
}

#[tokio::test]
async fn a_request_goes_to_its_address_and_each_has_connections_of_its_own() {
    let (one, two) = (named("one").await, named("two").await);
    let gateway = both(&one, &two, "");
    let mut bodies = Vec::new();
    for _ in 0..10 {
        bodies.push(gateway.get("/app/x").await.body);
    }
    assert_eq!(bodies.iter().filter(|body| *body == "one").count(), 5, "{bodies:?}");
    assert_eq!((one.used(), two.used()), (1, 1));
    for service in [&one, &two] {
        assert_eq!(value(&gateway, "requests_total", service).await, 5.0);
        assert_eq!(value(&gateway, "connections_total", service).await, 1.0);
    }
}

#[tokio::test]
async fn a_refused_stream_is_retried_at_another_address_and_is_no_failure() {
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    let full = Http2Service::plain(move |mut call| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { call.response.send_reset(Reason::REFUSED_STREAM) })
    })
    .await;
    let good = named("good").await;
    let gateway = both(&full, &good, ", eject_after = 1");
    for _ in 0..10 {
        assert_eq!(gateway.get("/app/x").await.body, "good");
    }
    assert!(refused.load(Ordering::SeqCst) >= 3);
    for metric in ["failures_total", "ejections_total"] {
        assert_eq!(value(&gateway, metric, &full).await, 0.0, "{metric}");
    }
}

#[tokio::test]
async fn streams_that_are_reset_with_an_error_eject_an_address() {
    let bad =
        Http2Service::plain(|mut call| Box::pin(async move { call.response.send_reset(Reason::INTERNAL_ERROR) })).await;
    let good = named("good").await;
    let gateway = both(&bad, &good, ", eject_after = 2, eject_time = 60");
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(gateway.get("/app/x").await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 2, "{statuses:?}");
    assert_eq!(value(&gateway, "ejections_total", &bad).await, 1.0);
}

/// The shared connection has a request in progress, so that it remains open.
#[tokio::test]
async fn after_a_failed_check_a_shared_connection_gets_no_further_requests() {
    let (permit, is_well) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(true)));
    let held = Arc::new(AtomicUsize::new(0));
    let (waiting, switch, arrived) = (Arc::clone(&permit), Arc::clone(&is_well), Arc::clone(&held));
    let service = Http2Service::plain(move |mut call| {
        let (waiting, switch, arrived) = (Arc::clone(&waiting), Arc::clone(&switch), Arc::clone(&arrived));
        Box::pin(async move {
            match call.request.uri().path() {
                "/live" if !switch.load(Ordering::SeqCst) => return call.response.send_reset(Reason::INTERNAL_ERROR),
                "/app/held" => {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    waiting.acquire().await.unwrap().forget();
                }
                _ => {}
            }
            let connection = call.connection.to_string();
            call.answer(connection);
        })
    })
    .await;
    let fields = ", http = '2', health_path = '/live', health_interval = 0.1";
    let gateway = start(&table("app", &[&service.address], fields));
    let metric = format!("gateway_service_address_up{{address=\"{}\",service=\"app\"}}", service.address);
    let is_up = async |up: f64| gateway.metric(&metric).await == Some(up);
    until("the address is up", async || is_up(1.0).await).await;
    let mut connection = gateway.connect().await;
    connection.send(get("/app/held", "")).await;
    until("a request is in progress", async || held.load(Ordering::SeqCst) == 1).await;
    let shared = gateway.get("/app/x").await.body;
    assert_eq!(gateway.get("/app/x").await.body, shared);
    is_well.store(false, Ordering::SeqCst);
    until("the address is down", async || is_up(0.0).await).await;
    is_well.store(true, Ordering::SeqCst);
    until("the address is up again", async || is_up(1.0).await).await;
    let other = gateway.get("/app/x").await.body;
    assert_ne!(other, shared);
    assert_eq!(gateway.get("/app/x").await.body, other);
    // The request in progress is not affected.
    permit.add_permits(1);
    assert_eq!(connection.answer("GET").await.body, shared);
    assert_eq!(gateway.get("/app/x").await.body, other);
}
