//! What happens without a stream of the service, and the bounds.

use super::*;
use crate::support::{admin, get as request, until};

#[tokio::test]
async fn a_response_that_is_no_stream_is_passed_on() {
    let (service, admin) = (Service::start().await, admin().await);
    let gateway = Gateway::start_with(&service.backend, &admin, &[ROUTES]);
    let problem = [("Content-Type", "application/problem+json"), ("Retry-After", "7")];
    for status in ["400 Bad Request", "503 Service Unavailable"] {
        service.refuse(answer(status, &problem, "{\"status\":0}\n"));
        let refused = gateway.get("/news").await;
        assert_eq!((refused.status.to_string(), refused.body.as_str()), (status[..3].to_owned(), "{\"status\":0}\n"));
        assert_eq!(refused.value("content-type"), "application/problem+json");
        assert_eq!(refused.value("retry-after"), "7");
    }
    // A list is no stream, even with 200.
    service.refuse(answer("200 OK", &[("Content-Type", "application/json")], "[]"));
    assert_eq!(gateway.get("/news").await.body, "[]");
    let mut stream = [open(Codec::Http2, &gateway, "/news").await];
    get(&mut stream, &[snapshot(0)]).await;
    assert_eq!(service.backend.seen().len(), 4);
}

#[tokio::test]
async fn without_a_service_the_status_is_that_of_other_requests() {
    let (mut service, admin) = (Service::start().await, admin().await);
    let gateway = Gateway::start_with(&service.backend, &admin, &[ROUTES, ("UPSTREAM_READ_TIMEOUT", "0.2")]);
    service.refuse(vec![Step::Hang]);
    assert_eq!(gateway.get("/news").await.status, 504);
    service.backend.stop().await;
    assert_eq!(gateway.get("/news").await.status, 503);
    assert_eq!(gateway.metric("gateway_shared_streams").await, Some(0.0));
}

#[tokio::test]
async fn the_number_and_the_size_of_streams_are_bounded() {
    let (service, admin) = (Service::start().await, admin().await);
    let bounds = [ROUTES, ("STREAM_MAX_SHARED", "2"), ("STREAM_MAX_SHARED_BYTES", "1048576")];
    let gateway = Gateway::start_with(&service.backend, &admin, &bounds);
    let mut streams = Vec::new();
    for (user, target) in [("user01", "/news"), ("user02", "/news?about=a"), ("user03", "/news")] {
        streams.push(open_as(user, Codec::Http2, &gateway, target).await);
    }
    get(&mut streams, &[snapshot(0)]).await;
    let refused = gateway.exchange(request("/news?about=b", "")).await;
    assert_eq!((refused.status, refused.value("retry-after")), (503, "1"));
    // Events of all streams that exceed the bound together end the one that exceeds it.
    for _ in 0..4 {
        let large = format!("data: {}\n\n", "x".repeat(300_000));
        let _ = service.chunks.send(chunk(&large));
    }
    until("a stream is ended", async || gateway.metric("gateway_shared_streams").await.unwrap() < 2.0).await;
    assert!(gateway.metric("gateway_shared_stream_bytes").await.unwrap() <= 1_048_576.0);
    drop(streams);
}

#[tokio::test]
async fn one_user_opens_at_most_an_eighth_of_the_streams() {
    let (service, admin) = (Service::start().await, admin().await);
    let gateway = Gateway::start_with(&service.backend, &admin, &[ROUTES, ("STREAM_MAX_SHARED", "16")]);
    let mut streams = Vec::new();
    for target in ["/news?about=a", "/news?about=b"] {
        streams.push(open(Codec::Http2, &gateway, target).await);
    }
    let refused = gateway.exchange(request("/news?about=c", "")).await;
    assert_eq!((refused.status, refused.value("retry-after")), (503, "1"));
    // What is open does not count, nor do the streams of others.
    streams.push(open(Codec::Http2, &gateway, "/news?about=b").await);
    streams.push(open_as("user02", Codec::Http2, &gateway, "/news?about=c").await);
    streams.push(open(Codec::Http2, &gateway, "/news?about=c").await);
    get(&mut streams, &[snapshot(0)]).await;
    assert_eq!(gateway.metric("gateway_shared_streams").await, Some(3.0));
}
