//! Searches after changes by other processes. Their texts are in memory on MongoDB.

use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, doc};
use serde_json::Value;

use super::PATIENCE;
use super::external::{end, on_mongo, on_replica_set, open};
use crate::service::{Service, Setup, holodule};

/// Less than the age at which texts are read again where changes are not reported.
const SOON: Duration = Duration::from_secs(10);

async fn total(service: &Service, needle: &str) -> u64 {
    let reply = service.get(&format!("/holodules?from=20201201&to=20201231&q={needle}")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_str::<Value>(&reply.body).unwrap()["total"].as_u64().unwrap()
}

/// Waits until a search has this total.
async fn until(service: &Service, needle: &str, expected: u64) {
    let started = Instant::now();
    while total(service, needle).await != expected {
        assert!(started.elapsed() < SOON, "{needle}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn store(service: &Service, title: &str) {
    let mut holodule = holodule(1, "20201209 230000");
    holodule.title = Some(title.to_owned());
    let reply = service.admin("PUT", "/holodules/video000001", &serde_json::to_string(&holodule).unwrap()).await;
    assert!(reply.status < 300, "{reply:?}");
}

async fn set_title(client: &Client, title: &str) {
    let holodules = client.default_database().unwrap().collection::<Document>("holodules");
    let set = doc! { "$set": { "title": title } };
    assert_eq!(holodules.update_one(doc! {}, set).await.unwrap().modified_count, 1);
}

#[tokio::test]
async fn a_direct_change_in_a_replica_set_is_found() {
    let (server, client, service) = on_replica_set(&[]).await;
    store(&service, "first").await;
    until(&service, "first", 1).await;
    for (title, before) in [("second", "first"), ("third", "second")] {
        let hits = service.metric("backend_search_cache_lookups_total{result=\"hit\"}").await;
        assert_eq!(total(&service, before).await, 1);
        service.until("backend_search_cache_lookups_total{result=\"hit\"}", hits).await;
        assert!(service.metric("backend_search_cache_bytes").await > 0.0);
        set_title(&client, title).await;
        until(&service, title, 1).await;
        assert_eq!(total(&service, before).await, 0);
    }
    end(server).await;
}

#[tokio::test]
async fn a_change_by_another_backend_on_a_standalone_server_is_found() {
    let (url, _, service) = on_mongo().await;
    let other = Service::over(open(&url, PATIENCE).await, Setup::default()).await;
    store(&service, "first").await;
    until(&other, "first", 1).await;
    until(&service, "first", 1).await;
    assert!(service.metric("backend_search_cache_bytes").await > 0.0);
    store(&other, "second").await;
    assert_eq!(total(&other, "second").await, 1, "its own change, at once");
    until(&service, "second", 1).await;
}
