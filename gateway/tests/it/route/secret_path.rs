//! `secret_path` of a route: no line of the log has the secret, however the request ends.

use std::time::Duration;

use crate::support::backend::{Backend, Step, answer};
use crate::support::{Gateway, Log, admin, request, until};
use crate::trace::{collector, contains, exported, traced};

const KEY: &str = "c2VjcmV0LWtleS1vZi1hLWZlZWQ";

/// The text of the log once it has `count` lines.
async fn text_of(log: &Log, count: usize) -> String {
    until("all requests are logged", async || log.lines().len() >= count).await;
    log.lines().iter().map(|line| format!("{line}\n")).collect()
}

fn bare(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

async fn start(script: &[Step], settings: &[(&str, &str)]) -> (Backend, Gateway, Log) {
    let script = script.to_vec();
    let (api, admin) = (Backend::start(move |_| script.clone()).await, admin().await);
    let (gateway, log) = Gateway::start_logged(&api, &admin, settings);
    (api, gateway, log)
}

#[tokio::test]
async fn the_pattern_is_logged_instead_of_the_path_of_a_calendar_feed() {
    let (_api, gateway, log) = start(&answer("200 OK", &[], "a"), &[]).await;
    assert_eq!(gateway.exchange(bare("GET", &format!("/calendar/{KEY}.ics?a=b"), "")).await.status, 200);
    until("it is logged", async || !log.lines().is_empty()).await;
    let line = log.lines().remove(0);
    assert_eq!(line["route"], "calendar_feed");
    assert_eq!((&line["path"], &line["status"]), (&"/calendar/{key}.ics?a".into(), &200.into()));
}

#[tokio::test]
async fn no_request_with_a_key_in_its_path_logs_or_exports_the_key() {
    let (collector, url) = collector().await;
    let [endpoint, interval] = traced(&url);
    let settings =
        [("STRIP_PREFIX", "['/holoapi']"), ("HOSTS", "['a.example']"), ("LOG_LEVEL", "debug"), endpoint, interval];
    let (_api, gateway, log) = start(&answer("404 Not Found", &[], ""), &settings).await;
    let paths = [
        format!("/calendar/{KEY}.ics"),
        format!("/holoapi/calendar/{KEY}.ics"),
        format!("/calendar/{KEY}"),
        format!("/calendar/{KEY}.ics/"),
        format!("/calendar/{KEY}.ICS"),
        format!("/Calendar/{KEY}.ics"),
        format!("/x/calendar/{KEY}.ics"),
        format!("/calendar/./{KEY}.ics"),
        format!("/calendar/%2e/{KEY}.ics"),
        format!("/calendar/{KEY}%2Eics"),
        format!("/calendar//{KEY}.ics"),
        format!("/calendar/{KEY}.ics;x"),
        format!("/calendar/{KEY}.ics?{KEY}"),
        format!("/calendar?{KEY}"),
        format!("/calendar?key={KEY}"),
        format!("/holodules?calendar={KEY}"),
    ];
    let mut count = 0;
    for path in &paths {
        for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            gateway.exchange(bare(method, path, "")).await;
            gateway.exchange(request(method, path, "")).await;
            count += 2;
        }
        // Other refusals: of the host, the framing, the body.
        gateway.exchange(bare("GET", path, "").replace("localhost", "b.example")).await;
        gateway.exchange(bare("GET", path, "Transfer-Encoding: x\r\n")).await;
        gateway.exchange(bare("GET", path, "Content-Length: 1\r\n") + "x").await;
        gateway.exchange(bare("GET", path, "Authorization: JWT x\r\n")).await;
        count += 4;
    }
    let text = text_of(&log, count).await;
    assert!(!text.contains(KEY), "{text}");
    assert!(text.contains("/calendar/{key}.ics") && text.contains("/Calendar/..."), "{text}");
    let (_, metrics) = gateway.ops("/metrics").await;
    assert!(metrics.contains("calendar_feed") && !metrics.contains(KEY));
    until("the requests are exported", async || contains(&exported(&collector), b"GET calendar_feed")).await;
    assert!(!contains(&exported(&collector), KEY.as_bytes()));
}

#[tokio::test]
async fn the_key_of_a_feed_is_not_logged_wherever_the_path_is_misspelt() {
    let settings = [("STRIP_PREFIX", "['/holoapi']"), ("LOG_LEVEL", "debug")];
    let (_api, gateway, log) = start(&answer("404 Not Found", &[], ""), &settings).await;
    let key = "0123456789abcdef".repeat(4);
    let paths = [
        format!("/calender/{key}.ics"),
        format!("/holoapi/calender/{key}.ics"),
        format!("/{key}.ics"),
        format!("/{}", key.to_uppercase()),
        format!("/holodules/{key}"),
        format!("/streamers/{key}/holodules"),
        format!("/{key}/calendar/x"),
    ];
    for path in &paths {
        gateway.exchange(bare("GET", path, "")).await;
        gateway.exchange(request("GET", path, "")).await;
    }
    let text = text_of(&log, 2 * paths.len()).await;
    assert!(!text.to_ascii_lowercase().contains(&key[..16]), "{text}");
    assert!(text.contains("/calender/....ics") && text.contains("/streamers/.../holodules"), "{text}");
}

#[tokio::test]
async fn failures_of_a_request_with_a_key_do_not_log_the_key() {
    for script in [
        vec![Step::Write(b"nonsense\r\n\r\n".to_vec())],
        vec![Step::Write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab".to_vec())],
        vec![Step::Hang],
        answer("500 Internal Server Error", &[], ""),
    ] {
        let (_api, gateway, log) = start(&script, &[("UPSTREAM_READ_TIMEOUT", "0.2")]).await;
        let mut connection = gateway.connect().await;
        connection.send(bare("GET", &format!("/calendar/{KEY}.ics"), "")).await;
        let _ = tokio::time::timeout(Duration::from_secs(5), connection.try_answer("GET")).await;
        drop(connection);
        let text = text_of(&log, 1).await;
        assert!(text.contains("/calendar/{key}.ics") && !text.contains(KEY), "{text}");
    }
}
