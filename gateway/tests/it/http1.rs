//! HTTP/1 connections: what is read before the parser sees it, and for how long it is waited for.

use std::time::{Duration, Instant};

use crate::support::client::{Connection, handshake, tls};
use crate::support::{DAY, DAY_BODY, Gateway, admin, api, get, until};

const BAD_REQUEST: &str = r#"{"error":"Bad Request"}"#;

#[tokio::test]
async fn heads_that_a_parser_would_mend_are_refused_in_the_contracts_shape() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let good = get(DAY, "");
    let mended = [
        good.replace("\r\n", "\n"),
        good.replacen("\r\n", "\n", 1),
        good.replace(DAY, "/holodules/2020 1209"),
        good.replace("Host: localhost", "Host : localhost"),
        good.replace("Host: localhost", "Host: localhost\r\n X: folded"),
        good.replace("Host: localhost", "Host: localhost\r\nHost: localhost"),
        good.replace("Host: localhost", "Host: localhost\r\nX\0: a"),
        good.replace("Host: localhost\r\n", ""),
        good.replace("HTTP/1.1", "HTTP/2.0"),
        "\0\x01\x02\r\n\r\n".to_owned(),
        "GET /\r\n\r\n".to_owned(),
    ];
    for request in &mended {
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
    let refused = mended.len();
    until("each refusal is counted", async || {
        let series = r#"gateway_requests_total{method="GET",route="none",status_class="4xx"}"#;
        // One has no method that a label could have.
        gateway.metric(series).await == Some((refused - 1) as f64)
    })
    .await;
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_one_after_the_other() {
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
async fn a_head_may_come_in_pieces() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    for byte in get(DAY, "").bytes() {
        connection.send([byte]).await;
    }
    assert_eq!(connection.answer("GET").await.status, 200);
}

#[tokio::test]
async fn a_head_has_one_deadline_however_it_is_fed() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_HEADER_TIMEOUT", "0.5")]);
    let silent = gateway.connect().await;
    let fed = gateway.connect().await;
    let preface = Connection::over(handshake(gateway.https, tls(rustls::ALL_VERSIONS, &["h2"])).await.unwrap());
    let began = Instant::now();
    let feed = async |mut connection: Connection, bytes: &str| {
        for byte in bytes.bytes() {
            if connection.try_send([byte]).await.is_err() {
                break;
            }
            // A slow client, which is never silent until the deadline.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(connection.rest().await, b"");
    };
    let endless = "a".repeat(40);
    tokio::join!(feed(silent, ""), feed(fed, &endless), feed(preface, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let series = r#"gateway_connections_reaped_total{reason="header_timeout"}"#;
    until("each is counted", async || gateway.metric(series).await == Some(3.0)).await;
    until("none is open", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_its_time() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_KEEPALIVE_TIMEOUT", "0.3")]);
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    connection.assert_closed().await;
    let series = r#"gateway_connections_reaped_total{reason="keepalive_timeout"}"#;
    until("it is counted", async || gateway.metric(series).await == Some(1.0)).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_not_waited_for() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_WRITE_TIMEOUT", "0.3")]);
    let mut connection = gateway.connect().await;
    // Answers that nobody reads, far more than the sockets between can hold.
    connection.send_until_closed(get("/nothing", "").repeat(40_000)).await;
    until("it is closed", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test]
async fn how_long_a_refused_head_took_is_measured() {
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
        // The head is under way for so long.
        tokio::time::sleep(slow).await;
        connection.send_until_closed(&rest).await;
        assert!(connection.answer("GET").await.status >= 400, "{rest}");
        until("it is logged", async || log.lines().len() == refused + 1).await;
        let line = &log.lines()[refused];
        assert!(line["total_ms"].as_f64().unwrap() >= 190.0, "{line}");
    }
    let sum = gateway.metric(r#"gateway_request_duration_seconds_sum{route="none"}"#).await.unwrap();
    assert!(sum >= 3.0 * 0.19, "{sum}");
}
