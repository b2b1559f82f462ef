//! How streams continue: after a `Last-Event-ID`, after the service has ended one, and when the log is full.

use super::*;
use crate::support::client::Connection;
use crate::support::request;

/// A listener over HTTP/1.1 with a `Last-Event-ID`, after the beginning.
async fn after(gateway: &Gateway, last: &str) -> Connection {
    let mut connection = gateway.connect().await;
    connection.send(request("GET", "/news", &format!("Last-Event-ID: {last}\r\n"))).await;
    connection.read_until("\r\n\r\n").await;
    connection.read_until("retry: 7\n\n\r\n").await;
    connection
}

async fn next(connection: &mut Connection) -> String {
    let chunk = connection.read_until("\n\n\r\n").await;
    chunk.split_once("\r\n").unwrap().1.trim_end_matches("\r\n").to_owned()
}

#[tokio::test]
async fn a_listener_continues_after_an_event_of_the_log() {
    let service = Service::start().await;
    let gateway = service.gateway(&[]);
    let mut first = [open(Codec::Http2, &gateway, "/news").await];
    get(&mut first, &[snapshot(0)]).await;
    let events: Vec<_> = (0..3).map(|_| service.add()).collect();
    get(&mut first, &events).await;
    assert_eq!(next(&mut after(&gateway, "1").await).await, events[1]);
    assert_eq!(next(&mut after(&gateway, "0").await).await, events[0]);
    for unknown in ["4", "x", "%00"] {
        assert_eq!(next(&mut after(&gateway, unknown).await).await, snapshot(0));
    }
    let mut current = after(&gateway, "3").await;
    let fourth = service.add();
    assert_eq!(next(&mut current).await, fourth);
    assert_eq!(service.backend.seen().len(), 1);
}

#[tokio::test]
async fn the_last_id_may_be_a_parameter_that_is_not_part_of_the_shared_target() {
    let service = Service::start().await;
    let gateway = service.gateway(&[]);
    let mut first = [open(Codec::Http2, &gateway, "/news").await];
    get(&mut first, &[snapshot(0)]).await;
    let events: Vec<_> = (0..3).map(|_| service.add()).collect();
    get(&mut first, &events).await;
    let after = async |target: &str, fields: &str| {
        let mut connection = gateway.connect().await;
        connection.send(request("GET", target, fields)).await;
        connection.read_until("\r\n\r\n").await;
        connection.read_until("retry: 7\n\n\r\n").await;
        next(&mut connection).await
    };
    assert_eq!(after("/news?last_event_id=%31", "").await, events[1]);
    assert_eq!(after("/news?last_event_id=1", "Last-Event-ID: 2\r\n").await, events[2], "the field is newer");
    assert_eq!(after("/news?last_event_id=1&last_event_id=2", "").await, snapshot(0));
    assert_eq!(service.backend.seen().len(), 1);
}

#[tokio::test]
async fn an_event_that_has_expired_is_not_sent_to_new_listeners() {
    let service = Service::start().await;
    let gateway = service.gateway(&[]);
    let mut first = [open(Codec::Http2, &gateway, "/news").await];
    get(&mut first, &[snapshot(0)]).await;
    service.chunks.send(chunk("id: 9\nmax-age: 0\ndata: now\n\n")).unwrap();
    service.chunks.send(chunk("id: 10\nmax-age: 600\ndata: later\n\n")).unwrap();
    get(&mut first, &["id: 9\n\n".to_owned(), "id: 10\ndata: later\n\n".to_owned()]).await;
    let mut second = [open(Codec::Http1, &gateway, "/news").await];
    get(&mut second, &[snapshot(0), "id: 9\n\n".to_owned(), "id: 10\ndata: later\n\n".to_owned()]).await;
}

#[tokio::test]
async fn listeners_stay_when_the_service_ends_a_stream() {
    let service = Service::start().await;
    let gateway = service.gateway(&[]);
    let mut streams = listeners(&gateway).await;
    let first = service.add();
    get(&mut streams, &[first]).await;
    let unavailable = answer("503 Service Unavailable", &[("Retry-After", "1")], "");
    for _ in 0..2 {
        service.refuse(unavailable.clone());
    }
    service.end();
    service.until_requested(4, 1).await;
    assert!(service.backend.seen()[1..].iter().all(|seen| seen.values("last-event-id") == ["1"]));
    let second = service.add();
    get(&mut streams, &[second]).await;
    // An event that none of them has received, before the gateway has requested the stream again.
    service.refuse(unavailable);
    service.end();
    service.until_requested(5, 0).await;
    let third = service.add();
    get(&mut streams, &[third]).await;
}

#[tokio::test]
async fn a_snapshot_of_other_content_is_for_everyone() {
    let service = Service::start().await;
    let gateway = service.gateway(&[]);
    let mut streams = listeners(&gateway).await;
    let first = service.add();
    get(&mut streams, &[first]).await;
    service.forget();
    service.end();
    get(&mut streams, &[snapshot(0)]).await;
    let again = service.add();
    get(&mut streams, &[again]).await;
}

#[tokio::test]
async fn a_full_log_begins_with_a_new_snapshot_that_only_new_listeners_get() {
    let service = Service::start().await;
    let gateway = service.gateway(&[]);
    let mut streams = listeners(&gateway).await;
    for _ in 0..1024 {
        let block = service.add();
        get(&mut streams, &[block]).await;
    }
    until("a snapshot is requested", async || service.backend.seen().len() == 2).await;
    assert!(service.backend.seen()[1].values("last-event-id").is_empty());
    until("the log begins again", async || {
        gateway.metric("gateway_shared_stream_bytes").await == Some(snapshot(1024).len() as f64)
    })
    .await;
    let mut new = [open(Codec::Http2, &gateway, "/news").await];
    get(&mut new, &[snapshot(1024)]).await;
    let next = service.add();
    get(&mut streams, std::slice::from_ref(&next)).await;
    get(&mut new, &[next]).await;
}
