//! HTTP/1 connections: heads that are refused before parsing, pipelining, and timeouts.

use std::time::{Duration, Instant};

use crate::support::client::{Connection, handshake, tls};
use crate::support::{DAY, DAY_BODY, Gateway, admin, api, get, until};

const BAD_REQUEST: &str = r#"{"error":"Bad Request"}"#;

#[tokio::test]
async fn heads_that_a_parser_would_repair_are_refused_with_400() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let valid = get(DAY, "");
    let malformed = [
        valid.replace("\r\n", "\n"),
        valid.replacen("\r\n", "\n", 1),
        valid.replace(DAY, "/holodules/2020 1209"),
        valid.replace("Host: localhost", "Host : localhost"),
        valid.replace("Host: localhost", "Host: localhost\r\n X: folded"),
        valid.replace("Host: localhost", "Host: localhost\r\nHost: localhost"),
        valid.replace("Host: localhost", "Host: localhost\r\nX\0: a"),
        valid.replace("Host: localhost\r\n", ""),
        valid.replace("HTTP/1.1", "HTTP/2.0"),
        "\0\x01\x02\r\n\r\n".to_owned(),
        "GET /\r\n\r\n".to_owned(),
    ];
    for request in &malformed {
        let mut connection = gateway.connect().await;
        connection.send(request).await;
        let answer = connection.answer("GET").await;
        answer.assert_json(400, BAD_REQUEST);
        assert_eq!(answer.value("connection"), "close");
        assert_eq!(answer.value("x-content-type-options"), "nosniff");
        assert_eq!(answer.value("x-request-id").len(), 32);
        connection.assert_closed().await;
    }
    assert!(api.seen().is_empty(), "{:?}", api.seen());
    let refused = malformed.len();
    until("each refusal is counted", async || {
        let series = r#"gateway_requests_total{method="GET",route="none",status_class="4xx"}"#;
        // One has no method, so it is counted under another label.
        gateway.metric(series).await == Some((refused - 1) as f64)
    })
    .await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    let login = r#"{"username":"user01","password":"password01"}"#;
    let post = format!(
        "POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{login}",
        login.len()
    );
    connection.send(format!("{}{post}\r\n{}", get(DAY, ""), get("/nothing", ""))).await;
    connection.answer("GET").await.assert_json(200, DAY_BODY.trim_end());
    assert_eq!(connection.answer("POST").await.status, 200);
    assert_eq!(connection.answer("GET").await.status, 404);
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
}

#[tokio::test]
async fn a_head_may_arrive_byte_by_byte() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    for byte in get(DAY, "").bytes() {
        connection.send([byte]).await;
    }
    assert_eq!(connection.answer("GET").await.status, 200);
}

#[tokio::test]
async fn a_head_sent_slowly_does_not_extend_the_header_timeout() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_HEADER_TIMEOUT", "0.5")]);
    let silent = gateway.connect().await;
    let slow = gateway.connect().await;
    let preface = Connection::over(handshake(gateway.https, tls(rustls::ALL_VERSIONS, &["h2"])).await.unwrap());
    let began = Instant::now();
    let send_slowly = async |mut connection: Connection, bytes: &str| {
        for byte in bytes.bytes() {
            if connection.try_send([byte]).await.is_err() {
                break;
            }
            // The pauses of this slow client are shorter than the timeout.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(connection.rest().await, b"");
    };
    let endless = "a".repeat(40);
    tokio::join!(
        send_slowly(silent, ""),
        send_slowly(slow, &endless),
        send_slowly(preface, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    );
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let series = r#"gateway_connections_reaped_total{reason="header_timeout"}"#;
    until("each is counted", async || gateway.metric(series).await == Some(3.0)).await;
    until("all connections are closed", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_keepalive_timeout() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_KEEPALIVE_TIMEOUT", "0.3")]);
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    connection.assert_closed().await;
    let series = r#"gateway_connections_reaped_total{reason="keepalive_timeout"}"#;
    until("the closed connection is counted", async || gateway.metric(series).await == Some(1.0)).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected_after_the_write_timeout() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_WRITE_TIMEOUT", "0.3")]);
    let mut connection = gateway.connect().await;
    // The responses far exceed the socket buffers.
    connection.send_until_closed(get("/nothing", "").repeat(40_000)).await;
    until("the connection is closed", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test]
async fn the_duration_of_a_refused_request_includes_its_head() {
    let (api, admin) = (api().await, admin().await);
    let (gateway, log) = Gateway::start_logged(&api, &admin, &[]);
    let slow = Duration::from_millis(200);
    for (refused, (first, rest)) in [
        ("GET / HTTP/1.1\r\n", "Host : localhost\r\n\r\n".to_owned()),
        ("POST / HTTP/1.1\r\n", "Host: localhost\r\nHost: localhost\r\n\r\n".to_owned()),
        ("GET / HTTP/1.1\r\n", format!("X-Long: {}\r\n", "a".repeat(30_000))),
    ]
    .into_iter()
    .enumerate()
    {
        let mut connection = gateway.connect().await;
        connection.send(first).await;
        // The time between the two parts of the head is what is measured.
        tokio::time::sleep(slow).await;
        connection.send_until_closed(&rest).await;
        assert!(connection.answer("GET").await.status >= 400, "{rest}");
        until("the request is logged", async || log.lines().len() == refused + 1).await;
        let line = &log.lines()[refused];
        assert!(line["total_ms"].as_f64().unwrap() >= 190.0, "{line}");
    }
    let sum = gateway.metric(r#"gateway_request_duration_seconds_sum{route="none"}"#).await.unwrap();
    assert!(sum >= 3.0 * 0.19, "{sum}");
}
