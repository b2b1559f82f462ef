//! The events of a service with an embedded store.

use holodule_backend::model::Holodule;
use serde_json::json;
use std::time::Instant;

use super::*;
use crate::service::{Setup, holodule};

#[tokio::test]
async fn a_stream_begins_with_a_snapshot_and_continues_with_changes() {
    let service = Service::start().await;
    let first = holodule(1, "20201209 230000");
    service.holodules([first.clone(), holodule(2, "20201208 120000"), holodule(3, "20210101 000000")]).await;
    let mut events = Events::open(&service.api, DECEMBER, None).await;
    let snapshot = events.expect("snapshot").await;
    assert_eq!(ids(&snapshot), ["video000002", "video000001"], "by time, and only of the days");
    assert_eq!(snapshot.data["entries"][1]["holodule"]["starts_at"], "2020-12-09T23:00:00+09:00");

    let changed = Holodule { title: Some("another".to_owned()), ..first.clone() };
    let began = Instant::now();
    put(&service, &changed).await;
    let event = events.expect("upsert").await;
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(shown(&event), upsert("video000001", &changed));
    assert_ne!(event.id, snapshot.id);
    put(&service, &changed).await;
    put(&service, &holodule(4, "20210102 000000")).await;
    events.is_silent().await;
    put(&service, &holodule(5, "20201231 235959")).await;
    assert_eq!(events.expect("upsert").await.data["id"], "video000005");

    // To another day of the stream, and then to one that is not part of it.
    let moved = Holodule { datetime: Some("20201210 000000".to_owned()), ..changed };
    put(&service, &moved).await;
    let event = events.expect("upsert").await;
    assert_eq!(event.data["holodule"]["starts_at"], "2020-12-10T00:00:00+09:00");
    put(&service, &Holodule { datetime: Some("20210110 000000".to_owned()), ..moved }).await;
    assert_eq!(events.expect("delete").await.data, json!({ "id": "video000001" }));
    delete(&service, "video000002").await;
    assert_eq!(events.expect("delete").await.data, json!({ "id": "video000002" }));
    events.is_silent().await;
}

#[tokio::test]
async fn a_stream_has_what_its_filter_selects() {
    let service = Service::start().await;
    service.holodules([holodule(1, "20201209 230000"), holodule(2, "20201209 230000")]).await;
    let mut events = Events::open(&service.api, &format!("{DECEMBER}&code=HL0001"), None).await;
    assert_eq!(ids(&events.expect("snapshot").await), ["video000001"]);
    put(&service, &holodule(2, "20201209 220000")).await;
    events.is_silent().await;
    // It is another streamer's now.
    let other = holodule(2, "20201209 230000").key;
    put(&service, &Holodule { key: other, ..holodule(1, "20201209 230000") }).await;
    assert_eq!(events.expect("delete").await.data, json!({ "id": "video000001" }));
}

#[tokio::test]
async fn a_stream_starts_at_its_time() {
    let service = Service::start().await;
    let starts = from_now(2);
    service.holodules([holodule(1, &starts.to_string())]).await;
    let mut events = Events::open(&service.api, PATH, None).await;
    let snapshot = events.expect("snapshot").await;
    assert_eq!(ids(&snapshot), ["video000001"]);
    let event = events.expect("start").await;
    assert_eq!(event.data, json!({ "id": "video000001", "starts_at": starts.rfc3339() }));
    assert!(event.id != snapshot.id && from_now(0) >= starts, "not before its time");
    // Who reconnects now does not need it again.
    let mut again = Events::open(&service.api, PATH, Some(&event.id)).await;
    again.is_silent().await;
    let mut again = Events::open(&service.api, PATH, Some(&snapshot.id)).await;
    assert_eq!(again.next().await, Some(event));
}

#[tokio::test]
async fn a_stream_continues_after_the_last_event() {
    let service = Service::start().await;
    service.holodules([holodule(1, "20201209 230000")]).await;
    let mut events = Events::open(&service.api, DECEMBER, None).await;
    let snapshot = events.expect("snapshot").await;
    let mut received = Vec::new();
    for number in 2..5 {
        put(&service, &holodule(number, "20201209 230000")).await;
        received.push(events.expect("upsert").await);
    }
    drop(events);
    let mut events = Events::open(&service.api, DECEMBER, Some(&snapshot.id)).await;
    for event in &received {
        assert_eq!(events.next().await.as_ref(), Some(event));
    }
    let mut events = Events::open(&service.api, DECEMBER, Some(&received[1].id)).await;
    assert_eq!(events.next().await.as_ref(), received.last());
    // The parameter, and the field, which is newer: a browser that reconnects by itself repeats the parameter.
    let path = format!("{DECEMBER}&last_event_id={}", snapshot.id);
    let mut events = Events::open(&service.api, &path, None).await;
    assert_eq!(events.next().await.as_ref(), received.first());
    let mut events = Events::open(&service.api, &path, Some(&received[1].id)).await;
    assert_eq!(events.next().await.as_ref(), received.last());
    // Ids of other states, and what is no id.
    for last in ["00000000000000000000000000000001", "", "x", &received[2].id[1..]] {
        let mut events = Events::open(&service.api, DECEMBER, Some(last)).await;
        assert_eq!(ids(&events.expect("snapshot").await).len(), 4, "{last}");
    }
    let last = received.last().unwrap();
    let mut events = Events::open(&service.api, DECEMBER, Some(&last.id)).await;
    events.is_silent().await;
    let mut fresh = Events::open(&service.api, DECEMBER, None).await;
    assert_eq!(fresh.expect("snapshot").await.id, last.id, "the same state");
    assert_eq!(service.metric("backend_stream_queries").await, 1.0, "one for all of them");
}

#[tokio::test]
async fn streams_end_with_the_service_and_continue_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::in_folder(folder.path(), Setup::default()).await;
    service.holodules([holodule(1, "20201209 230000")]).await;
    let mut events = Events::open(&service.api, DECEMBER, None).await;
    let snapshot = events.expect("snapshot").await;
    let stopping = service.stop();
    assert_eq!(events.next().await, None, "complete");
    assert_eq!(timeout(PATIENCE, stopping).await.unwrap().unwrap().cut, 0);

    let service = Service::in_folder(folder.path(), Setup::default()).await;
    let mut events = Events::open(&service.api, DECEMBER, Some(&snapshot.id)).await;
    events.is_silent().await;
    put(&service, &holodule(2, "20201209 230000")).await;
    assert_eq!(events.expect("upsert").await.data["id"], "video000002");
    // What has changed meanwhile.
    let mut events = Events::open(&service.api, DECEMBER, Some(&"0".repeat(32))).await;
    assert_eq!(ids(&events.expect("snapshot").await).len(), 2);
}
