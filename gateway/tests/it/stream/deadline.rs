//! The deadlines of endless responses: that of the head, and that of the silence between pieces.

use std::time::{Duration, Instant};

use super::{CODECS, ROUTES, Service, Stream};
use crate::support::backend::{Backend, Step};
use crate::support::token::token;
use crate::support::{Gateway, admin, get};

/// Far shorter than the streams of the tests.
const SHORT: [(&str, &str); 2] = [("UPSTREAM_REQUEST_TIMEOUT", "1"), ("UPSTREAM_READ_TIMEOUT", "0.5")];

#[tokio::test]
async fn a_stream_outlasts_the_timeouts_of_other_responses() {
    let (service, admin) = (Service::start().await, admin().await);
    let routes = ROUTES.1.replace("'/events' }", "'/events', timeout = { total = 1 } }");
    let settings = [SHORT[0], SHORT[1], ("ROUTE", routes.as_str())];
    let gateway = Gateway::start_with(&service.backend, &admin, &settings);
    for path in ["/events", "/tail"] {
        let mut streams = Vec::new();
        for codec in CODECS {
            streams.push(Stream::open(codec, gateway.https, path, &token("user01")).await);
        }
        service.until_open(CODECS.len()).await;
        for number in 0..3 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            service.send(&format!("data: {number}\n\n"));
            for stream in &mut streams {
                stream.until(&format!("data: {number}\n\n")).await;
            }
        }
        service.end();
        for mut stream in streams {
            assert_eq!(stream.next().await, None);
        }
    }
}

#[tokio::test]
async fn another_response_without_a_length_keeps_its_timeouts() {
    let (service, admin) = (Service::start().await, admin().await);
    let gateway = Gateway::start_with(&service.backend, &admin, &[SHORT[0], SHORT[1], ROUTES]);
    for codec in CODECS {
        let began = Instant::now();
        let mut stream = Stream::open(codec, gateway.https, "/text", &token("user01")).await;
        stream.cut().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{codec:?}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_silent_service_is_given_up_after_the_idle_timeout() {
    let (service, admin) = (Service::start().await, admin().await);
    let routes = ROUTES.1.replace("stream = true }", "stream = true, timeout = { idle = 0.3 } }");
    let settings = [("STREAM_IDLE_TIMEOUT", "1.5"), ("UPSTREAM_READ_TIMEOUT", "0.5"), ("ROUTE", routes.as_str())];
    let (gateway, log) = Gateway::start_logged(&service.backend, &admin, &settings);
    for (path, least) in [("/events", 1400), ("/tail", 250)] {
        for codec in CODECS {
            let mut stream = Stream::open(codec, gateway.https, path, &token("user01")).await;
            service.until_open(1).await;
            let began = Instant::now();
            stream.cut().await;
            let elapsed = began.elapsed();
            assert!(elapsed >= Duration::from_millis(least) && elapsed < Duration::from_secs(10), "{path} {elapsed:?}");
            // The service notices when it writes.
            crate::support::until("the connection to the service is closed", async || {
                service.send("x");
                service.open() == 0
            })
            .await;
        }
    }
    crate::support::until("the lines are written", async || log.lines().len() == 6).await;
    assert!(log.lines().iter().all(|line| line["reason"] == "upstream_slow"), "{:?}", log.lines());
}

#[tokio::test]
async fn the_head_has_its_deadline() {
    let (service, admin) = (Backend::start(|_| vec![Step::Hang]).await, admin().await);
    let gateway = Gateway::start_with(&service, &admin, &[SHORT[1], ROUTES]);
    assert_eq!(gateway.exchange(get("/tail", "")).await.status, 504);
}
