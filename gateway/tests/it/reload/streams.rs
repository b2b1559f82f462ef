//! Endless responses and WebSocket connections continue across a reload unless it removes or changes their route.

use crate::stream::{CODECS, Service, Stream};
use crate::support::client::Connection;
use crate::support::token::token;
use crate::support::{Gateway, Log, admin, until};
use crate::websocket;

fn routes(events: &str) -> String {
    format!("[{{ name = 'tail', methods = ['GET', 'POST'], path = '/tail', stream = true, public = true }}{events}]")
}

fn events(fields: &str) -> String {
    format!(", {{ name = 'events', methods = ['GET', 'POST'], path = '/events'{fields} }}")
}

async fn open(service: &Service, gateway: &Gateway, path: &str) -> Vec<Stream> {
    let before = service.open();
    let mut streams = Vec::new();
    for codec in CODECS {
        let stream = Stream::open(codec, gateway.https, path, &token("user01")).await;
        assert_eq!(stream.status, 200);
        streams.push(stream);
    }
    service.until_open(before + CODECS.len()).await;
    streams
}

async fn reasons(log: &Log, lines: usize) -> Vec<String> {
    until("the requests are logged", async || log.lines().len() >= lines).await;
    log.lines().iter().map(|line| line["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn streams_of_unchanged_routes_continue() {
    let (service, admin) = (Service::start().await, admin().await);
    let (gateway, _log) = Gateway::start_logged(&service.backend, &admin, &[("ROUTE", &routes(&events("")))]);
    let mut streams = open(&service, &gateway, "/events").await;
    streams.extend(open(&service, &gateway, "/tail").await);
    for (round, settings) in [
        // Neither other tables nor what does not decide who is admitted.
        ("HSTS_MAX_AGE", "1".to_owned()),
        ("ROUTE", routes(&events(", timeout = { idle = 7 }, response_headers = { set = { X-A = 'b' } }"))),
        ("ROUTE", routes(&format!(", {{ name = 'new', methods = ['GET'], path = '/new' }}{}", events("")))),
    ]
    .into_iter()
    .enumerate()
    {
        gateway.reload(&[(settings.0, &settings.1)]).unwrap();
        let piece = format!("data: {round}\n\n");
        service.send(&piece);
        for stream in &mut streams {
            stream.until(&piece).await;
        }
    }
    assert_eq!(service.open(), 2 * CODECS.len());
}

#[tokio::test]
async fn streams_of_a_route_that_is_removed_or_changed_end_and_others_continue() {
    let (service, admin) = (Service::start().await, admin().await);
    for changed in ["".to_owned(), events(", require = { any = ['viewer'] }"), events(", deny = ['192.0.2.0/24']")] {
        let (gateway, log) = Gateway::start_logged(&service.backend, &admin, &[("ROUTE", &routes(&events("")))]);
        let (ended, mut others) = (open(&service, &gateway, "/events").await, open(&service, &gateway, "/tail").await);
        gateway.reload(&[("ROUTE", &routes(&changed))]).unwrap();
        for mut stream in ended {
            assert_eq!(stream.next().await, None, "a complete response");
        }
        assert_eq!(reasons(&log, CODECS.len()).await, ["route_changed"; 3]);
        service.send("data: 1\n\n");
        for stream in &mut others {
            stream.until("data: 1\n\n").await;
        }
        // A public one has no principal, and ends as well.
        gateway.reload(&[("ROUTE", "[{ name = 'other', methods = ['GET'], path = '/other' }]")]).unwrap();
        for mut stream in others {
            assert_eq!(stream.next().await, None);
        }
    }
}

#[tokio::test]
async fn a_websocket_continues_unless_its_route_changes() {
    let tunnels = websocket::Tunnels::start().await;
    let (mut client, mut service) = tunnels.open().await;
    let gateway = &tunnels.gateway;
    gateway.reload(&[("HSTS_MAX_AGE", "1"), ("ROUTE", &websocket::routes(", timeout = { idle = 7 }"))]).unwrap();
    client.send("ping").await;
    assert_eq!(service.read(4).await, b"ping");
    service.send("pong").await;
    assert_eq!(client.read_bytes(4).await, b"pong");
    gateway.reload(&[("ROUTE", &websocket::routes(", require = { any = ['viewer'] }"))]).unwrap();
    assert!(client.read_to_close_notify().await.is_err(), "a clean end would not be seen as 1006");
    assert_eq!(service.rest().await, b"");
    let ended = "gateway_tunnels_ended_total{outcome=\"revoked\",route=\"ws\"}";
    until("its end is counted", async || gateway.metric(ended).await == Some(1.0)).await;
    assert!(Connection::open(gateway.https).await.is_ok());
}
