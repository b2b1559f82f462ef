//! Streams and tunnels continue during a drain, and end at different moments, so that clients do not return all at once.

use std::time::{Duration, Instant};

use crate::program::{Program, folder};
use crate::stream::{CODECS, ROUTES, Service, Stream};
use crate::support::client::Connection;
use crate::support::token::token;
use crate::support::{Gateway, admin, get, until};

#[tokio::test]
async fn streams_end_in_order_over_the_time() {
    let (service, admin) = (Service::start().await, admin().await);
    let settings = [ROUTES, ("DRAIN_TIMEOUT", "4")];
    let (mut gateway, log) = Gateway::start_logged(&service.backend, &admin, &settings);
    let mut streams = Vec::new();
    for codec in CODECS.into_iter().cycle().take(24) {
        streams.push(Stream::open(codec, gateway.https, "/events", &token("user01")).await);
    }
    service.until_open(24).await;
    gateway.stop();
    until("no connection is accepted", async || Connection::open(gateway.https).await.is_err()).await;
    service.send("data: 1\n\n");
    let ends: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                let mut has_event = false;
                while let Some(piece) = stream.next().await {
                    has_event |= piece == "data: 1\n\n";
                }
                let ended = Instant::now();
                stream.assert_closed().await;
                (ended, has_event)
            })
        })
        .collect();
    let mut moments = Vec::new();
    let mut events = 0;
    for end in ends {
        let (ended, has_event) = end.await.unwrap();
        moments.push(ended);
        events += usize::from(has_event);
    }
    until("run returns", async || gateway.has_ended()).await;
    assert!(events > 0, "streams continue");
    // Of 24 moments in a window of 2 s, less than one in 10,000,000 runs has all within half of it.
    let spread = *moments.iter().max().unwrap() - *moments.iter().min().unwrap();
    assert!(spread > Duration::from_secs(1), "{spread:?}");
    assert_eq!(log.lines().len(), 24);
    assert!(log.lines().iter().all(|line| line["reason"] == "drain" && line["status"] == 200), "{:?}", log.lines());
}

#[tokio::test]
async fn the_program_exits_with_success_after_its_streams_and_idle_connections() {
    let (service, admin) = (Service::start().await, admin().await);
    let folder = folder();
    let program = Program::start(folder.path(), &service.backend, &admin, &[ROUTES, ("DRAIN_TIMEOUT", "1")]).await;
    let mut stream = program.connect().await;
    stream.send(get("/events", "")).await;
    stream.read_until("\r\n\r\n").await;
    let mut idle = program.connect().await;
    // It asserts the exit status.
    let stopped = tokio::task::spawn_blocking(move || program.stop());
    assert_eq!(stream.read_to_close_notify().await.unwrap(), b"0\r\n\r\n");
    assert_eq!(idle.read_to_close_notify().await.unwrap(), b"");
    stopped.await.unwrap();
}
