//! What listeners share, and what each has of its own.

use super::*;
use crate::ticket::ticket;

#[tokio::test]
async fn the_service_has_one_request_for_all_listeners_of_a_target() {
    let service = Service::start().await;
    let gateway = service.gateway(&[]);
    let targets = ["/news", "/news?about=a", "/news?about=b"];
    let mut streams = Vec::new();
    for _ in 0..5 {
        for target in targets {
            for codec in CODECS {
                streams.push(
                    open(codec, &gateway, &format!("{target}{}other=1", if target.contains('?') { "&" } else { "?" }))
                        .await,
                );
            }
        }
    }
    service.until_requested(3, 3).await;
    get(&mut streams, &[snapshot(0)]).await;
    let first = service.add();
    get(&mut streams, std::slice::from_ref(&first)).await;
    let mut seen: Vec<_> = service.backend.seen().into_iter().map(|seen| seen.target).collect();
    seen.sort();
    assert_eq!(seen, targets);
    for seen in service.backend.seen() {
        assert_eq!((seen.values("accept"), seen.values("x-own")), (vec!["text/event-stream"], vec!["gateway"]));
        for name in ["x-auth-identity", "x-forwarded-for", "authorization", "last-event-id"] {
            assert!(seen.values(name).is_empty(), "{seen:?}");
        }
    }
    // One that comes later gets everything.
    let mut late = [open(Codec::Http1, &gateway, "/news").await, open(Codec::Http2, &gateway, "/news").await];
    get(&mut late, &[snapshot(0), first]).await;
    assert_eq!(service.backend.seen().len(), 3);
    assert_eq!(gateway.metric("gateway_shared_streams").await, Some(3.0));
    assert_eq!(gateway.metric("gateway_shared_stream_listeners").await, Some(32.0));
    assert_eq!(gateway.metric("gateway_shared_stream_requests_total").await, Some(3.0));
    assert_eq!(gateway.metric("gateway_shared_stream_events_total").await, Some(6.0));
    drop((streams, late));
    until("the listeners have left", async || gateway.metric("gateway_shared_stream_listeners").await == Some(0.0))
        .await;
    until("the streams are closed", async || gateway.metric("gateway_shared_streams").await == Some(0.0)).await;
    assert_eq!(service.backend.seen().len(), 3);
    assert_eq!(gateway.metric("gateway_shared_stream_bytes").await, Some(0.0));
}

#[tokio::test]
async fn a_listener_has_a_head_of_its_own_and_only_authorised_ones_are_added() {
    let service = Service::start().await;
    let gateway = service.gateway(&[("CORS_ALLOWED_ORIGINS", "['https://a.example']")]);
    assert_eq!(gateway.exchange("GET /news HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 401);
    assert_eq!(service.backend.seen().len(), 0);
    let mut first = open(Codec::Http1, &gateway, "/news").await;
    assert!(!first.head.contains("access-control"), "{}", first.head);
    let with_origin = crate::support::request("GET", "/news", "Origin: https://a.example\r\n");
    let mut connection = gateway.connect().await;
    connection.send(with_origin).await;
    let head = connection.read_until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.contains("access-control-allow-origin: https://a.example\r\n"), "{head}");
    let id = |head: &str| head.split("x-request-id: ").nth(1).unwrap()[..32].to_owned();
    assert_ne!(id(&head), id(&first.head));
    let used = ticket(&gateway, &token("user01"), "/news").await;
    let mut stream = Stream::open_bare(gateway.https, &format!("/news?ticket={used}")).await;
    assert_eq!(stream.status, 200);
    begins(&mut stream).await;
    for stream in [&mut stream, &mut first] {
        get(std::slice::from_mut(stream), &[snapshot(0)]).await;
    }
    assert_eq!(Stream::open_bare(gateway.https, &format!("/news?ticket={used}")).await.status, 401);
    assert_eq!(service.backend.only().target, "/news");
}

#[tokio::test]
async fn a_listener_that_does_not_read_delays_no_other() {
    let service = Service::start().await;
    let gateway = service.gateway(&[("LISTENER_WRITE_TIMEOUT", "1")]);
    // A window that the first event fills.
    let client = crate::support::h2::Http2::open_with(gateway.https, 16).await;
    let slow = Stream::over(client, "/news", &token("user01")).await;
    let mut quick = [open(Codec::Http1, &gateway, "/news").await, open(Codec::Http2, &gateway, "/news").await];
    get(&mut quick, &[snapshot(0)]).await;
    for _ in 0..1000 {
        let block = service.add();
        get(&mut quick, &[block]).await;
    }
    until("the slow one is ended", async || gateway.metric("gateway_shared_stream_listeners").await == Some(2.0)).await;
    drop(slow);
}
