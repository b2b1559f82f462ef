//! How listeners end: each by itself, while the others stay.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::support::revocation::RevocationStub;

#[tokio::test]
async fn a_revoked_user_is_ended_within_a_second_and_others_are_not() {
    let (stub, admin) = RevocationStub::start().await;
    let service = Service::start().await;
    let gateway = RevocationStub::gateway(&service.backend, &admin, &[ROUTES]);
    gateway.ready().await;
    let (mut revoked, mut others) = (Vec::new(), Vec::new());
    for codec in CODECS {
        for (user, streams) in [("user01", &mut revoked), ("user02", &mut others)] {
            let mut stream = Stream::open(codec, gateway.https, "/news", &token(user)).await;
            assert_eq!(stream.status, 200);
            begins(&mut stream).await;
            streams.push(stream);
        }
    }
    get(&mut revoked, &[snapshot(0)]).await;
    get(&mut others, &[snapshot(0)]).await;
    let began = Instant::now();
    stub.change(
        "user01",
        json!({"active": false, "reason": "disabled", "password_changed_at": null, "logged_out": []}),
    );
    for stream in &mut revoked {
        assert_eq!(stream.next().await, None);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let event = service.add();
    get(&mut others, &[event]).await;
    assert_eq!(service.backend.seen().len(), 1);
}

#[tokio::test]
async fn a_drain_ends_every_listener_in_order() {
    let service = Service::start().await;
    let (mut gateway, log) = Gateway::start_logged(&service.backend, &service.admin, &[ROUTES, ("DRAIN_TIMEOUT", "2")]);
    let streams = listeners(&gateway).await;
    gateway.stop();
    for mut stream in streams {
        assert_eq!(stream.next().await, None);
        stream.assert_closed().await;
    }
    until("run returns", async || gateway.has_ended()).await;
    assert!(log.lines().iter().all(|line| line["reason"] == "drain" && line["status"] == 200), "{:?}", log.lines());
}

#[tokio::test]
async fn listeners_of_a_route_that_a_reload_removes_end_and_others_stay() {
    let service = Service::start().await;
    let gateway = service.gateway(&[]);
    let mut streams = listeners(&gateway).await;
    gateway.reload(&[("STREAM_MAX_SHARED", "2")]).unwrap();
    let event = service.add();
    get(&mut streams, &[event]).await;
    let mut more = [open(Codec::Http2, &gateway, "/news").await];
    get(&mut more, &[snapshot(0)]).await;
    assert_eq!(service.backend.seen().len(), 1, "the same stream");
    gateway.reload(&[("ROUTE", "[{ methods = ['GET'], path = '/other' }]")]).unwrap();
    for stream in &mut streams {
        assert_eq!(stream.next().await, None);
    }
}

#[tokio::test]
async fn listeners_wait_for_a_service_that_fails_and_end_after_the_timeout() {
    let mut service = Service::start().await;
    let gateway = service.gateway(&[("STREAM_SHARED_RECONNECT_TIMEOUT", "1")]);
    let mut streams = listeners(&gateway).await;
    let began = Instant::now();
    service.backend.stop().await;
    service.end();
    for stream in &mut streams {
        assert_eq!(stream.next().await, None);
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(gateway.metric("gateway_shared_stream_requests_total").await > Some(2.0), "it was requested again");
    assert_eq!(gateway.metric("gateway_shared_streams").await, Some(0.0));
}

#[tokio::test]
async fn listeners_end_when_the_service_has_no_such_stream_any_more() {
    let service = Service::start().await;
    let gateway = service.gateway(&[]);
    let mut streams = listeners(&gateway).await;
    service.refuse(answer("404 Not Found", &[], ""));
    service.end();
    for stream in &mut streams {
        assert_eq!(stream.next().await, None);
    }
    // The next listener gets a stream of its own.
    get(&mut [open(Codec::Http2, &gateway, "/news").await], &[snapshot(0)]).await;
    assert_eq!(service.backend.seen().len(), 3);
}
