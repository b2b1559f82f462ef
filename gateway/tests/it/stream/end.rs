//! The end of a stream: by a drain, by the service, or by a client that leaves.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::{CODECS, ROUTES, Service, Stream, head};
use crate::exchange::half_closed::close_sending;
use crate::support::backend::{Backend, Seen, Step};
use crate::support::client::{Connection, PATIENCE, handshake, tls};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, frame, receive_frame, request_block,
};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{Gateway, admin, get, request, until, until_unchanged};

#[tokio::test]
async fn a_drain_ends_every_stream_in_order() {
    for path in ["/events", "/tail"] {
        let (service, admin) = (Service::start().await, admin().await);
        let settings = [ROUTES, ("DRAIN_TIMEOUT", "2")];
        let (mut gateway, log) = Gateway::start_logged(&service.backend, &admin, &settings);
        let mut streams = Vec::new();
        for codec in CODECS {
            streams.push(Stream::open(codec, gateway.https, path, &token("user01")).await);
        }
        service.until_open(CODECS.len()).await;
        service.send("data: 1\n\n");
        for stream in &mut streams {
            stream.until("data: 1\n\n").await;
        }
        gateway.stop();
        for mut stream in streams {
            assert_eq!(stream.next().await, None);
            stream.assert_closed().await;
        }
        until("run returns", async || gateway.has_ended()).await;
        assert!(log.lines().iter().all(|line| line["reason"] == "drain" && line["status"] == 200), "{:?}", log.lines());
    }
}

#[tokio::test]
async fn a_drain_does_not_wait_for_clients_that_do_not_read() {
    let endless = |_: &Seen| {
        let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024));
        [vec![Step::Write(head("text/event-stream"))], vec![Step::Write(chunk.into_bytes()); 1000]].concat()
    };
    let (service, admin) = (Backend::start(endless).await, admin().await);
    let mut gateway = Gateway::start_with(&service, &admin, &[ROUTES, ("DRAIN_TIMEOUT", "6")]);
    let mut connection = gateway.connect().await;
    connection.send(get("/events", "")).await;
    let client = Http2::open_with(gateway.https, 1000).await;
    let stream = Stream::over(client, "/events", &token("user01")).await;
    until_unchanged("the service cannot write", || service.written()).await;
    let began = Instant::now();
    gateway.stop();
    until("run returns", async || gateway.has_ended()).await;
    // The last turn is 4 s after the stop, and the gateway waits 0.5 s for the client then.
    assert!(began.elapsed() < Duration::from_millis(5900), "{:?}", began.elapsed());
    drop((connection, stream));
}

#[tokio::test]
async fn a_connection_is_reused_after_a_stream_that_the_service_ended() {
    let (service, admin) = (Service::start().await, admin().await);
    let gateway = Gateway::start_with(&service.backend, &admin, &[ROUTES]);
    let mut connection = gateway.connect().await;
    for round in 0..3 {
        connection.send(get("/events", "")).await;
        connection.read_until("\r\n\r\n").await;
        service.until_open(1).await;
        service.send("data: 1\n\n");
        connection.read_until("data: 1\n\n\r\n").await;
        service.end();
        assert_eq!(connection.read_until("0\r\n\r\n").await, "0\r\n\r\n", "{round}");
    }
    assert_eq!(connection.exchange(get("/none", "")).await.status, 404);
}

#[tokio::test]
async fn the_connection_to_the_service_closes_when_the_client_leaves() {
    let script = |_: &Seen| vec![Step::Write(head("text/event-stream")), Step::Hang];
    let (service, admin) = (Backend::start(script).await, admin().await);
    let (gateway, log) = Gateway::start_logged(&service, &admin, &[ROUTES]);
    let mut left = 0;
    for codec in CODECS {
        let stream = Stream::open(codec, gateway.https, "/events", &token("user01")).await;
        drop(stream);
        left += 1;
        until("the connection is closed", async || service.abandoned() == left).await;
    }
    // A client that closes its sending direction in order, with a connection that is still there.
    let authorization = format!("JWT {}", token("user01"));
    let block = request_block("GET", "/events", &authorization);
    let post = format!("{}x=1", request("POST", "/events", "Content-Length: 3\r\n"));
    for (bytes, is_http2) in [
        (get("/events", "").into_bytes(), false),
        (post.into_bytes(), false),
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, &block), true),
    ] {
        for with_fin in [false, true] {
            let mut stream = match is_http2 {
                true => Frames::connect(gateway.https, &[]).await,
                false => handshake(gateway.https, tls(rustls::ALL_VERSIONS, &["http/1.1"])).await.unwrap(),
            };
            service.forget();
            stream.write_all(&bytes).await.unwrap();
            stream.flush().await.unwrap();
            until("the service has the request", async || service.seen().len() == 1).await;
            close_sending(&mut stream, with_fin).await;
            left += 1;
            until("the connection is closed", async || service.abandoned() == left).await;
        }
    }
    until("the lines are written", async || log.lines().len() == left).await;
    assert!(log.lines().iter().all(|line| line["reason"] == "client"), "{:?}", log.lines());
}

#[tokio::test]
async fn a_client_that_sends_no_more_receives_other_responses() {
    let (service, admin) = (Service::start().await, admin().await);
    let gateway = Gateway::start_with(&service.backend, &admin, &[ROUTES]);
    let mut connection = handshake(gateway.https, tls(rustls::ALL_VERSIONS, &["http/1.1"])).await.unwrap();
    connection.write_all(get("/text", "").as_bytes()).await.unwrap();
    close_sending(&mut connection, true).await;
    let mut connection = Connection::over(connection);
    service.until_open(1).await;
    service.send("whole");
    service.end();
    let answer = connection.answer("GET").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "whole"));
}

#[tokio::test]
async fn over_http_2_the_goaway_precedes_the_end_of_the_stream() {
    let (service, admin) = (Service::start().await, admin().await);
    let mut gateway = Gateway::start_with(&service.backend, &admin, &[ROUTES]);
    let mut client = Frames::connect(gateway.https, &[]).await;
    let block = request_block("GET", "/events", &format!("JWT {}", token("user01")));
    client.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await.unwrap();
    client.flush().await.unwrap();
    service.until_open(1).await;
    gateway.stop();
    let mut order = Vec::new();
    let reading = async {
        while let Some(frame) = receive_frame(&mut client).await {
            match frame.kind {
                GOAWAY => order.push("goaway"),
                DATA if frame.flags & END_STREAM != 0 => return order.push("end"),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("the stream does not end");
    assert_eq!(order, ["goaway", "end"]);
}
