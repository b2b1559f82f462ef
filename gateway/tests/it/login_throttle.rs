//! ops/WIRE.md, "POST /auth": too many failed logins of an address or a name. Logins over the limit are refused
//! without a request to the backend.

use std::time::Duration;

use http::Request;
use serde_json::json;
use tokio::task::JoinSet;

use crate::auth::{login, user01};
use crate::support::backend::{Backend, Step, json_answer};
use crate::support::client::{Answer, Connection};
use crate::support::h2::Http2;
use crate::support::{DAY, Gateway, admin, api, until, verify_user01};

const REFUSED: &str = r#"{"status_code":429,"error":"Too Many Requests","description":"Too many failed logins"}"#;

/// A first delay longer than any test.
const LONG_DELAY: [(&str, &str); 1] = [("LIMIT_LOGIN_NAME_DELAY", "60")];

/// A login with the wrong password.
fn wrong(name: &str) -> Vec<u8> {
    login(json!({"username": name, "password": "wrong"}).to_string())
}

fn assert_refused(answer: &Answer, longest: u64) {
    answer.assert_json(429, REFUSED);
    let wait: u64 = answer.value("retry-after").parse().unwrap();
    assert!((1..=longest).contains(&wait), "{wait}");
    assert!(answer.values("www-authenticate").is_empty(), "{answer:?}");
}

#[tokio::test]
async fn an_address_is_refused_after_20_failures_in_a_minute() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    for number in 0..20 {
        assert_eq!(connection.exchange(wrong(&format!("user{number}"))).await.status, 401, "{number}");
    }
    let refused = connection.exchange(wrong("another")).await;
    assert_refused(&refused, 60);
    // The response does not reveal that these credentials are valid.
    assert_refused(&connection.exchange(login(user01())).await, 60);
    assert_eq!(admin.seen().len(), 20);
    assert_eq!(gateway.metric(r#"gateway_rate_limited_total{limit="login_address"}"#).await, Some(2.0));
    assert_eq!(gateway.metric(r#"gateway_logins_total{result="throttled"}"#).await, Some(2.0));

    assert_eq!(gateway.get(DAY).await.status, 200, "a token is no login");
    let mut other = Connection::open_from(2, gateway.https).await;
    assert_eq!(other.exchange(login(user01())).await.status, 200, "another address");
}

#[tokio::test]
async fn an_address_is_accepted_again_once_its_failures_are_old() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LIMIT_LOGIN_ADDRESS_WINDOW", "2")]);
    let mut connection = gateway.connect().await;
    for number in 0..20 {
        connection.exchange(wrong(&format!("user{number}"))).await;
    }
    until("the window has passed", async || connection.exchange(login(user01())).await.status == 200).await;
}

#[tokio::test]
async fn a_name_is_refused_after_10_failures_from_any_addresses() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &LONG_DELAY);
    for host in 1..=10 {
        let mut connection = Connection::open_from(host, gateway.https).await;
        assert_eq!(connection.exchange(wrong("user01")).await.status, 401, "{host}");
    }
    let mut connection = Connection::open_from(11, gateway.https).await;
    let refused = connection.exchange(wrong("user01")).await;
    assert_refused(&refused, 60);
    let right = connection.exchange(login(user01())).await;
    assert_refused(&right, 60);
    assert_eq!((right.headers.len(), right.body), (refused.headers.len(), refused.body));
    assert_eq!(admin.seen().len(), 10);
    assert_eq!(gateway.metric(r#"gateway_rate_limited_total{limit="login_name"}"#).await, Some(2.0));
    assert_eq!(connection.exchange(wrong("user02")).await.status, 401, "another name");
}

#[tokio::test]
async fn the_log_line_of_a_throttled_login_names_the_limit() {
    let (api, admin) = (api().await, admin().await);
    let (gateway, log) = Gateway::start_logged(&api, &admin, &LONG_DELAY);
    for host in 1..=10 {
        Connection::open_from(host, gateway.https).await.exchange(wrong("user01")).await;
    }
    assert_refused(&Connection::open_from(11, gateway.https).await.exchange(wrong("user01")).await, 60);
    let mut connection = Connection::open_from(12, gateway.https).await;
    for number in 0..20 {
        connection.exchange(wrong(&format!("another{number}"))).await;
    }
    assert_refused(&connection.exchange(wrong("another")).await, 60);
    let throttled = || log.lines().into_iter().filter(|line| line["status"] == 429).collect::<Vec<_>>();
    until("both lines are written", async || throttled().len() == 2).await;
    for (line, (reason, client)) in
        throttled().iter().zip([("login_name", "127.0.0.11"), ("login_address", "127.0.0.12")])
    {
        assert_eq!((&line["reason"], &line["client"]), (&reason.into(), &client.into()), "{line}");
        assert_eq!((&line["route"], &line["method"]), (&"auth".into(), &"POST".into()), "{line}");
        assert!(line["identity"].is_null() && !line.to_string().contains("user01"), "{line}");
    }
}

#[tokio::test]
async fn delays_grow_and_refused_attempts_do_not_prolong_them() {
    let (api, admin) = (api().await, admin().await);
    let settings = [("LIMIT_LOGIN_NAME_DELAY", "0.2"), ("LIMIT_LOGIN_NAME_MAX_DELAY", "1")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let mut connection = gateway.connect().await;
    for _ in 0..10 {
        connection.exchange(wrong("user01")).await;
    }
    for seen in 11..=13 {
        // Refused attempts do not extend the delay.
        until("the delay has passed", async || connection.exchange(wrong("user01")).await.status == 401).await;
        assert_eq!(admin.seen().len(), seen);
    }
}

#[tokio::test]
async fn failures_elsewhere_do_not_lock_out_a_user_at_a_known_address() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &LONG_DELAY);
    let mut user = gateway.connect().await;
    assert_eq!(user.exchange(login(user01())).await.status, 200);
    let mut outsider = Connection::open_from(2, gateway.https).await;
    for _ in 0..10 {
        outsider.exchange(wrong("user01")).await;
    }
    assert_refused(&outsider.exchange(wrong("user01")).await, 60);
    for _ in 0..30 {
        assert_eq!(user.exchange(login(user01())).await.status, 200);
    }
    // An address without an earlier login is not exempt.
    let mut elsewhere = Connection::open_from(3, gateway.https).await;
    assert_refused(&elsewhere.exchange(login(user01())).await, 60);
    // The pair of name and address has its own limit.
    for _ in 0..10 {
        assert_eq!(user.exchange(wrong("user01")).await.status, 401);
    }
    assert_refused(&user.exchange(login(user01())).await, 60);
}

#[tokio::test]
async fn successful_logins_are_no_failures_and_reset_none() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    for _ in 0..50 {
        assert_eq!(connection.exchange(login(user01())).await.status, 200);
    }
    for number in 0..20 {
        assert_eq!(connection.exchange(wrong(&format!("user{number}"))).await.status, 401);
        if number < 19 {
            assert_eq!(connection.exchange(login(user01())).await.status, 200);
        }
    }
    assert_refused(&connection.exchange(login(user01())).await, 60);
}

#[tokio::test]
async fn logins_that_were_not_checked_are_no_failures() {
    let api = api().await;
    let unavailable = Backend::start(|seen| match seen.json()["password"].as_str() {
        // After a 503 the gateway would pause its requests.
        Some("wrong") => json_answer("500 Internal Server Error", "{}"),
        _ => verify_user01(seen),
    })
    .await;
    let gateway = Gateway::start(&api, &unavailable);
    let mut connection = gateway.connect().await;
    for _ in 0..30 {
        assert_eq!(connection.exchange(wrong("user01")).await.status, 503);
        assert_eq!(connection.exchange(login(r#"{"username":1}"#)).await.status, 400);
        assert_eq!(connection.exchange(b"POST /auth HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 415);
        assert_eq!(gateway.exchange(login("x".repeat(5000))).await.status, 413);
    }
    assert_eq!(connection.exchange(login(user01())).await.status, 200);
}

/// Sends `count` requests at the same time, each on its own connection, and returns the statuses.
async fn at_once(gateway: &Gateway, count: usize, request: impl Fn(usize) -> Vec<u8>) -> Vec<u16> {
    let mut requests = JoinSet::new();
    for number in 0..count {
        let (mut connection, request) = (gateway.connect().await, request(number));
        requests.spawn(async move { connection.exchange(request).await.status });
    }
    requests.join_all().await
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|&&other| other == status).count()
}

#[tokio::test]
async fn concurrent_logins_do_not_exceed_the_limits() {
    let api = api().await;
    let slow = Backend::start(|seen| [vec![Step::Wait(Duration::from_millis(200))], verify_user01(seen)].concat());
    let slow = slow.await;
    let gateway = Gateway::start_with(&api, &slow, &LONG_DELAY);
    let statuses = at_once(&gateway, 40, |_| wrong("user01")).await;
    assert_eq!((count(&statuses, 401), count(&statuses, 429)), (10, 30), "{statuses:?}");
    assert_eq!(slow.seen().len(), 10);
    let statuses = at_once(&gateway, 40, |number| wrong(&format!("user{number}"))).await;
    assert_eq!((count(&statuses, 401), count(&statuses, 429)), (10, 30), "{statuses:?}");
    assert_eq!(slow.seen().len(), 20);
}

#[tokio::test]
async fn concurrent_successful_logins_are_all_accepted() {
    let api = api().await;
    let slow = Backend::start(|seen| [vec![Step::Wait(Duration::from_millis(20))], verify_user01(seen)].concat());
    let slow = slow.await;
    let gateway = Gateway::start(&api, &slow);
    let statuses = at_once(&gateway, 60, |_| login(user01())).await;
    assert_eq!(count(&statuses, 200), 60, "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_has_the_same_limits() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &LONG_DELAY);
    let client = Http2::open(gateway.https).await;
    let mut requests = JoinSet::new();
    for _ in 0..40 {
        let client = client.clone();
        requests.spawn(async move {
            let request = Request::post("https://localhost/auth").header("content-type", "application/json");
            client.exchange(request.body(r#"{"username":"user01","password":"wrong"}"#).unwrap()).await
        });
    }
    let answers = requests.join_all().await;
    for answer in answers.iter().filter(|answer| answer.status != 401) {
        assert_refused(answer, 60);
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 401).count(), 10);
    assert_eq!(admin.seen().len(), 10);
}

#[tokio::test]
async fn many_names_and_addresses_create_no_new_series() {
    const COUNTED: &str = r#"gateway_requests_total{method="POST",route="auth",status_class="4xx"}"#;
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    // The health checks create the series of the upstreams.
    gateway.ready().await;
    let series = async || gateway.ops("/metrics").await.1.lines().filter(|line| !line.starts_with('#')).count();
    gateway.exchange(wrong("user01")).await;
    until("the refusal is counted", async || gateway.metric(COUNTED).await == Some(1.0)).await;
    let before = series().await;
    for host in 2..=60 {
        let mut connection = Connection::open_from(host, gateway.https).await;
        assert_eq!(connection.exchange(wrong(&format!("user{host}"))).await.status, 401);
    }
    assert_eq!(series().await, before);
}
