//! Each piece is sent as soon as it arrives: a test that sends the next one only after it has received the last would
//! otherwise wait forever.

use std::time::{Duration, Instant};

use super::{CODECS, ROUTES, Service, Stream};
use crate::support::token::token;
use crate::support::{Gateway, admin};

#[tokio::test]
async fn the_head_and_each_piece_arrive_at_once() {
    let (service, admin) = (Service::start().await, admin().await);
    let gateway = Gateway::start_with(&service.backend, &admin, &[ROUTES]);
    for codec in CODECS {
        for path in ["/events", "/tail"] {
            // Nothing has been sent yet but the head.
            let mut stream = Stream::open(codec, gateway.https, path, &token("user01")).await;
            assert_eq!(stream.status, 200);
            assert!(stream.head.contains("cache-control: private, no-cache"), "{}", stream.head);
            let mut slowest = Duration::ZERO;
            for size in [1, 2, 10, 100, 1000, 1023, 1024, 1025, 4000, 16_000, 40_000, 1] {
                service.until_open(1).await;
                let piece = format!("{}\n", "x".repeat(size - 1));
                let began = Instant::now();
                service.send(&piece);
                stream.until("\n").await;
                slowest = slowest.max(began.elapsed());
            }
            println!("{codec:?} {path}: at most {slowest:?}");
            service.end();
            assert_eq!(stream.next().await, None);
        }
    }
}

#[tokio::test]
async fn many_streams_of_one_connection_are_independent() {
    let (service, admin) = (Service::start().await, admin().await);
    let gateway = Gateway::start_with(&service.backend, &admin, &[ROUTES]);
    let client = crate::support::h2::Http2::open(gateway.https).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(Stream::over(client.clone(), "/events", &token("user01")).await);
    }
    service.until_open(50).await;
    for number in 0..10 {
        let event = format!("data: {number}\n\n");
        service.send(&event);
        for stream in &mut streams {
            stream.until(&event).await;
        }
    }
}
