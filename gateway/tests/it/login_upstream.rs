//! ops/WIRE.md, "POST /auth": responses of the backend. Only a 200 with the same username results in a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::auth::{login, user01};
use crate::support::backend::Step::{Close, CloseIdle, Hang, Reset, Wait, Write};
use crate::support::backend::{Backend, Seen, Step, answer, json_answer};
use crate::support::client::Answer;
use crate::support::{DAY, Gateway, api, until, verify_user01};

const NAMED: &str = r#"{"username":"user01"}"#;

/// Asserts the 503 for credentials that cannot be verified.
fn assert_unavailable(case: &str, answer: &Answer) {
    assert_eq!(answer.status, 503, "{case}: {answer:?}");
    answer.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert!(answer.value("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    assert!(!answer.body.contains("access_token"));
}

/// A gateway with a short request timeout, and the backend's admin listener responding by `script`.
async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> (Backend, Backend, Gateway) {
    let (api, admin) = (api().await, Backend::start(script).await);
    let gateway = Gateway::start_with(&api, &admin, &[("UPSTREAM_REQUEST_TIMEOUT", "1")]);
    (api, admin, gateway)
}

async fn assert_no_token(cases: Vec<(&'static str, Vec<Step>)>) {
    for (case, steps) in cases {
        let (_api, _admin, gateway) = start(move |_| steps.clone()).await;
        let began = Instant::now();
        assert_unavailable(case, &gateway.exchange(login(user01())).await);
        assert!(began.elapsed() < Duration::from_secs(8), "{case}: {:?}", began.elapsed());
        assert_eq!(gateway.metric(r#"gateway_logins_total{result="unavailable"}"#).await, Some(1.0), "{case}");
        assert_eq!(gateway.metric(r#"gateway_logins_total{result="success"}"#).await, Some(0.0), "{case}");
    }
}

#[tokio::test]
async fn an_unexpected_status_is_503() {
    let statuses = [
        "201 Created",
        "204 No Content",
        "302 Found",
        "403 Forbidden",
        "404 Not Found",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "503 Service Unavailable",
    ];
    assert_no_token(
        statuses
            .into_iter()
            .map(|status| (status, json_answer(status, if status.starts_with("204") { "" } else { NAMED })))
            .collect(),
    )
    .await;
}

#[tokio::test]
async fn an_overloaded_backend_receives_no_logins_for_a_moment() {
    let is_full = Arc::new(AtomicBool::new(true));
    let full = Arc::clone(&is_full);
    let (_api, admin, gateway) = start(move |seen| match full.load(Ordering::Relaxed) {
        true => json_answer("503 Service Unavailable", r#"{"error":"Service Unavailable"}"#),
        false => verify_user01(seen),
    })
    .await;
    let mut connection = gateway.connect().await;
    let mut logins = 0;
    // On a slow machine, the pause may end before the next login.
    until("a login is refused without a request", async || {
        for _ in 0..2 {
            logins += 1;
            assert_unavailable("full", &connection.exchange(login(user01())).await);
        }
        admin.seen().len() < logins
    })
    .await;
    is_full.store(false, Ordering::Relaxed);
    until("logins are verified again", async || gateway.exchange(login(user01())).await.status == 200).await;
}

#[tokio::test]
async fn a_200_without_the_username_is_503() {
    let oversized = format!(r#"{{"username":"user01","more":"{}"}}"#, "x".repeat(100 * 1024));
    assert_no_token(vec![
        ("another name", json_answer("200 OK", r#"{"username":"user02"}"#)),
        ("another case", json_answer("200 OK", r#"{"username":"User01"}"#)),
        ("no name", json_answer("200 OK", "{}")),
        ("a name that is not a string", json_answer("200 OK", r#"{"username":["user01"]}"#)),
        ("a name twice", json_answer("200 OK", r#"{"username":"user02","username":"user01"}"#)),
        ("not an object", json_answer("200 OK", r#""user01""#)),
        ("true", json_answer("200 OK", "true")),
        ("nothing", json_answer("200 OK", "")),
        ("garbage", answer("200 OK", &[], "<html>user01</html>")),
        ("trailing garbage", json_answer("200 OK", r#"{"username":"user01"}}"#)),
        ("not UTF-8", vec![Write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xfe\xfd".to_vec())]),
        ("too large", json_answer("200 OK", &oversized)),
    ])
    .await;
}

#[tokio::test]
async fn a_slow_or_broken_response_is_503() {
    let half = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", NAMED.len(), &NAMED[..10]);
    let drip = NAMED.bytes().flat_map(|byte| [Wait(Duration::from_millis(200)), Write(vec![byte])]);
    let mut dripping = vec![Write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", NAMED.len()).into_bytes())];
    dripping.extend(drip);
    assert_no_token(vec![
        ("silent", vec![Hang]),
        ("late", [vec![Wait(Duration::from_secs(20))], json_answer("200 OK", NAMED)].concat()),
        ("dripping", dripping),
        ("reset", vec![Reset]),
        ("closed", vec![Close]),
        ("truncated", vec![Write(half.into_bytes()), Close]),
        ("not HTTP", vec![Write(b"220 ready\r\n\r\n".to_vec()), Close]),
        ("an endless head", vec![Write(format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(2 << 20)).into_bytes()), Hang]),
    ])
    .await;
}

#[tokio::test]
async fn an_unreachable_backend_is_503_until_it_is_back() {
    let (_api, mut admin, gateway) = start(verify_user01).await;
    assert_eq!(gateway.exchange(login(user01())).await.status, 200);
    let address = admin.address.parse().unwrap();
    admin.stop().await;
    assert_unavailable("stopped", &gateway.exchange(login(user01())).await);
    // Routes are served without the admin listener.
    assert_eq!(gateway.get(DAY).await.status, 200);
    let _restarted = Backend::start_at(address, verify_user01).await;
    assert_eq!(gateway.exchange(login(user01())).await.status, 200);
}

#[tokio::test]
async fn a_401_or_400_of_the_backend_means_invalid_credentials() {
    for status in ["401 Unauthorized", "400 Bad Request"] {
        let (_api, _admin, gateway) = start(move |_| json_answer(status, r#"{"error":"x"}"#)).await;
        gateway
            .exchange(login(user01()))
            .await
            .assert_json(401, r#"{"status_code":401,"error":"Bad Request","description":"Invalid credentials"}"#);
        assert_eq!(gateway.metric(r#"gateway_logins_total{result="refused"}"#).await, Some(1.0));
    }
}

#[tokio::test]
async fn a_closed_idle_connection_does_not_fail_the_next_login() {
    let (_api, admin, gateway) = start(|seen| [verify_user01(seen), vec![CloseIdle]].concat()).await;
    for round in 0..3 {
        assert_eq!(gateway.exchange(login(user01())).await.status, 200);
        until("the idle connection is closed", async || admin.closed() == round + 1).await;
    }
    assert_eq!(admin.seen().len(), 3);
}

#[tokio::test]
async fn a_disabled_login_is_handled_as_an_unknown_path() {
    let (api, admin) = (api().await, Backend::start(verify_user01).await);
    let gateway = Gateway::start_with(&api, &admin, &[("LOGIN_ENABLED", "false")]);
    assert_eq!(gateway.exchange(login(user01())).await.status, 401);
    let with_token = crate::support::request("POST", "/auth", "");
    gateway.exchange(with_token).await.assert_json(404, r#"{"error":"Not found"}"#);
    assert!(admin.seen().is_empty());
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_408() {
    let (api, admin) = (api().await, Backend::start(verify_user01).await);
    let gateway = Gateway::start_with(&api, &admin, &[("LOGIN_BODY_TIMEOUT", "0.5")]);
    let began = Instant::now();
    let mut connection = gateway.connect().await;
    connection
        .send("POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{")
        .await;
    let answer = connection.answer("POST").await;
    answer.assert_json(408, r#"{"error":"Request Timeout"}"#);
    connection.assert_closed().await;
    assert!(began.elapsed() < Duration::from_secs(8));
    // The timeout is for the whole body, so sending slowly does not extend it.
    let mut connection = gateway.connect().await;
    connection
        .send("POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n")
        .await;
    let drip = async {
        loop {
            connection.send_until_closed("{").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), drip).await;
    assert_eq!(connection.answer("POST").await.status, 408);
    until("the logins have ended", async || gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
    assert!(admin.seen().is_empty());
}
