//! What happens without a stream of the service, and the bounds.

use super::*;
use crate::support::client::Connection;
use crate::support::{get as request, until};

#[tokio::test]
async fn a_response_that_is_no_stream_is_passed_on() {
    let service = Service::start().await;
    let gateway = service.gateway(&[]);
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
    let mut service = Service::start().await;
    let gateway = service.gateway(&[("UPSTREAM_READ_TIMEOUT", "0.2")]);
    service.refuse(vec![Step::Hang]);
    assert_eq!(gateway.get("/news").await.status, 504);
    service.backend.stop().await;
    assert_eq!(gateway.get("/news").await.status, 503);
    assert_eq!(gateway.metric("gateway_shared_streams").await, Some(0.0));
}

#[tokio::test]
async fn the_number_and_the_size_of_streams_are_bounded() {
    let service = Service::start().await;
    let gateway = service.gateway(&[("STREAM_MAX_SHARED", "2"), ("STREAM_MAX_SHARED_BYTES", "1048576")]);
    let mut streams = Vec::new();
    for (user, target) in [("user01", "/news"), ("user02", "/news?about=a"), ("user03", "/news")] {
        streams.push(open_as(user, Codec::Http2, &gateway, target).await);
    }
    get(&mut streams, &[snapshot(0)]).await;
    let refused = gateway.exchange(request("/news?about=b", "")).await;
    assert_eq!((refused.status, refused.value("retry-after")), (503, "1"));
    // When all streams exceed the bound together, one of them is closed.
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
    let service = Service::start().await;
    let gateway = service.gateway(&[("STREAM_MAX_SHARED", "16")]);
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

#[tokio::test]
async fn a_stream_without_listeners_gives_way_to_another_one() {
    let service = Service::start().await;
    let gateway = service.gateway(&[("STREAM_MAX_SHARED", "2")]);
    let stats = async || {
        [gateway.metric("gateway_shared_streams").await, gateway.metric("gateway_shared_stream_listeners").await]
    };
    let close = async |stream| {
        drop::<Stream>(stream);
        until("the listener has left", async || stats().await[1] == Some(0.0)).await;
    };
    // Of the same user, who can have opened one.
    for target in ["/news?about=a", "/news?about=b", "/news?about=c"] {
        close(open(Codec::Http2, &gateway, target).await).await;
    }
    assert_eq!(stats().await, [Some(1.0), Some(0.0)]);
    // Of all users.
    for (user, target) in [("user02", "/news?about=d"), ("user03", "/news?about=e"), ("user04", "/news?about=f")] {
        close(open_as(user, Codec::Http2, &gateway, target).await).await;
    }
    assert_eq!(stats().await, [Some(2.0), Some(0.0)]);
    // The responses for those that are closed are aborted, which the service notices when it sends something.
    until("two responses are open", async || {
        service.add();
        service.chunks.receiver_count() == 2
    })
    .await;
    assert_eq!(service.backend.seen().len(), 6);
}

#[tokio::test]
async fn the_streams_of_one_user_use_up_no_bytes_of_others() {
    let service = Service::start().await;
    let gateway = service.gateway(&[("STREAM_MAX_SHARED_BYTES", "1048576")]);
    let large = |bytes| {
        let snapshot = format!("event: snapshot\nid: 0\ndata: {}\n\n", "x".repeat(bytes));
        service.refuse(vec![
            Step::Write(head("text/event-stream")),
            Step::Write(chunk(&snapshot)),
            follow(&service.chunks),
        ]);
    };
    let mut others = vec![open_as("user02", Codec::Http2, &gateway, "/news").await];
    get(&mut others, &[snapshot(0)]).await;
    let mut streams = Vec::new();
    for (about, bytes) in [("a", 300_000), ("b", 400_000), ("c", 300_000)] {
        large(bytes);
        let mut stream = open_as("user01", Codec::Http1, &gateway, &format!("/news?about={about}")).await;
        stream.until("x\n\n").await;
        streams.push(stream);
    }
    large(200_000);
    let mut other = open_as("user03", Codec::Http1, &gateway, "/news?about=d").await;
    other.until("x\n\n").await;
    // The largest stream of the user with the most bytes ends, in order, and no other.
    assert_eq!(streams.remove(1).next().await, None);
    others.push(other);
    let event = service.add();
    for streams in [&mut others, &mut streams] {
        get(streams, std::slice::from_ref(&event)).await;
    }
    assert_eq!(gateway.metric("gateway_shared_streams").await, Some(4.0));
}

#[tokio::test]
async fn one_client_has_at_most_a_quarter_of_the_listeners() {
    let service = Service::start().await;
    let gateway = service.gateway(&[("STREAM_MAX_SHARED_LISTENERS", "8")]);
    let (mut streams, mut others) = (Vec::from(listeners(&gateway).await), Vec::new());
    let refused = async || {
        let refused = gateway.exchange(request("/news", "")).await;
        assert_eq!((refused.status, refused.value("retry-after")), (503, "1"));
    };
    // Of its own stream and of another.
    refused().await;
    assert_eq!(gateway.exchange(request("/news?about=a", "")).await.status, 503);
    assert_eq!(gateway.metric("gateway_shared_streams").await, Some(1.0));
    for host in 2..5 {
        for _ in 0..2 {
            let mut connection = Connection::open_from(host, gateway.https).await;
            connection.send(request("/news", "")).await;
            connection.read_until("id: 0").await;
            others.push(connection);
        }
    }
    drop(streams.pop());
    until("the listener has left", async || gateway.metric("gateway_shared_stream_listeners").await == Some(7.0)).await;
    streams.push(open(Codec::Http1, &gateway, "/news").await);
    refused().await;
}
