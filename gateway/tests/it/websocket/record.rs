//! Metrics and the access log of tunnels.

use super::{HANDSHAKE, Service, handshake, routes, switch};
use crate::support::token::token;
use crate::support::{Gateway, admin, api, until};

#[tokio::test]
async fn a_tunnel_is_counted_and_logged_when_it_ends() {
    let (service, api, admin) = (Service::start().await, api().await, admin().await);
    let services = format!("[{{ name = 'chat', addresses = ['{}'] }}]", service.address());
    let routes = routes("");
    let (gateway, log) = Gateway::start_logged(&api, &admin, &[("SERVICE", &services), ("ROUTE", &routes)]);
    let metric = async |series: &str| gateway.metric(series).await;
    assert_eq!(metric(r#"gateway_tunnels{route="ws"}"#).await, Some(0.0));
    assert_eq!(metric(r#"gateway_tunnels_ended_total{outcome="closed",route="open"}"#).await, Some(0.0));
    let token = token("user01");
    let sent = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}Sec-WebSocket-Protocol: holodule, holodule.token.{token}\r\n\r\n"
    );
    let mut client = gateway.connect().await;
    client.send(sent).await;
    let mut accepted = service.accept().await;
    accepted.send(switch("") + "early").await;
    client.read_until("\r\n\r\n").await;
    client.send("question").await;
    assert_eq!(accepted.read(8).await, b"question");
    accepted.send("ok").await;
    assert_eq!(client.read_bytes(7).await, b"earlyok");
    assert_eq!(metric(r#"gateway_tunnels{route="ws"}"#).await, Some(1.0));
    assert_eq!(metric("gateway_requests_in_flight").await, Some(0.0));
    assert_eq!(metric(r#"gateway_tunnel_bytes_total{direction="to_service",route="ws"}"#).await, Some(8.0));
    assert_eq!(metric(r#"gateway_tunnel_bytes_total{direction="to_client",route="ws"}"#).await, Some(7.0));
    let is_access = |line: &&serde_json::Value| line["target"] == "access";
    assert_eq!(log.lines().iter().filter(is_access).count(), 0, "the line is written at the end");
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    drop(accepted);
    assert_eq!(client.read_to_close_notify().await.unwrap(), b"");
    drop(client);
    until("the tunnel has ended", async || metric(r#"gateway_tunnels{route="ws"}"#).await == Some(0.0)).await;
    assert_eq!(metric(r#"gateway_tunnels_ended_total{outcome="closed",route="ws"}"#).await, Some(1.0));
    let requests = r#"gateway_requests_total{method="GET",route="ws",status_class="1xx"}"#;
    until("the request is counted", async || metric(requests).await == Some(1.0)).await;
    // The time of the tunnel is not one of a response.
    let slow = r#"gateway_request_duration_seconds_bucket{route="ws",le="0.5"}"#;
    assert_eq!(metric(slow).await, Some(1.0));
    until("the line is written", async || log.lines().iter().any(|line| line["target"] == "access")).await;
    let lines = log.lines();
    let line = lines.iter().find(is_access).unwrap();
    assert_eq!((&line["status"], &line["bytes"], &line["bytes_received"]), (&101.into(), &7.into(), &8.into()));
    assert_eq!((&line["identity"], &line["route"], line.get("reason")), (&"user01".into(), &"ws".into(), None));
    assert!(line["total_ms"].as_f64().unwrap() >= 600.0 && line["upstream_ms"].as_f64().unwrap() < 600.0, "{line}");
    for line in &lines {
        assert!(!line.to_string().contains(&token), "{line}");
    }
}

#[tokio::test]
async fn refusals_and_ends_have_reasons_in_the_log() {
    let (service, api, admin) = (Service::start().await, api().await, admin().await);
    let services = format!("[{{ name = 'chat', addresses = ['{}'] }}]", service.address());
    let routes = routes(", timeout = { idle = 0.2 }");
    let (gateway, log) = Gateway::start_logged(&api, &admin, &[("SERVICE", &services), ("ROUTE", &routes)]);
    let expected = [
        (handshake("").replace("/ws", "/a/b"), "upgrade", 501),
        (handshake("Origin: null\r\n"), "origin", 403),
        (handshake("").replace("Version: 13", "Version: 8"), "handshake", 426),
        (handshake("Sec-WebSocket-Protocol: holodule, holodule.token.x\r\n"), "handshake", 400),
    ];
    for (sent, _, status) in &expected {
        assert_eq!(gateway.exchange(sent).await.status, *status);
    }
    let mut client = gateway.connect().await;
    client.send(handshake("")).await;
    service.accept().await.send("HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
    assert_eq!(client.answer("GET").await.status, 502);
    let mut client = gateway.connect().await;
    client.send(handshake("")).await;
    let mut accepted = service.accept().await;
    accepted.send(switch("")).await;
    client.read_until("\r\n\r\n").await;
    client.assert_closed().await;
    let access = || -> Vec<(String, i64)> {
        let lines = log.lines();
        let access = lines.iter().filter(|line| line["target"] == "access");
        access.map(|line| (line["reason"].as_str().unwrap().to_owned(), line["status"].as_i64().unwrap())).collect()
    };
    until("all lines are written", async || access().len() == expected.len() + 2).await;
    let expected = expected.map(|(_, reason, status)| (reason, i64::from(status)));
    let expected: Vec<_> = expected.into_iter().chain([("upstream", 502), ("idle", 101)]).collect();
    let access = access();
    assert_eq!(access.iter().map(|(reason, status)| (reason.as_str(), *status)).collect::<Vec<_>>(), expected);
}
