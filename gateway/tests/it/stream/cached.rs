//! An event stream on a cached route is neither stored nor shared.

use super::{Codec, Service, Stream};
use crate::support::token::token;
use crate::support::{Gateway, admin, until};

const ROUTES: (&str, &str) =
    ("ROUTE", "[{ name = 'events', methods = ['GET', 'POST'], path = '/events', shared = true }]");

#[tokio::test]
async fn each_client_has_its_own_request_to_the_service() {
    let (service, admin) = (Service::start().await, admin().await);
    let gateway = Gateway::start_with(&service.backend, &admin, &[ROUTES, ("CACHE_MAX_BYTES", "67108864")]);
    let mut streams = Vec::new();
    for round in 1..=3 {
        for codec in [Codec::Http1, Codec::Http2] {
            let stream = Stream::open(codec, gateway.https, "/events", &token("user01")).await;
            assert!(!stream.head.contains("age:") && !stream.head.contains("x-cache"), "{}", stream.head);
            streams.push(stream);
            // The service notices that the gateway has left the fetch for the cache when it writes.
            until("only the streams are open", async || {
                service.send(": comment\n\n");
                service.open() == streams.len()
            })
            .await;
        }
        service.send(&format!("data: {round}\n\n"));
        for stream in &mut streams {
            stream.until(&format!("data: {round}\n\n")).await;
        }
    }
}
