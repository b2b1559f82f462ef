//! ops/WIRE.md, "The order of refusals": the limits on the requests of an address and an identity.
//!
//! A bucket refills while a test sends requests. So that no test depends on its speed, each sends until it is
//! refused, and allows for the elapsed time.

use std::time::{Duration, Instant};

use http::Request;

use crate::support::client::{Answer, Connection};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api, get, until};

/// The burst of both limits, which refill by one request a second.
const BURST: u32 = 20;

/// Settings with a low limit.
const BY_ADDRESS: [(&str, &str); 2] = [("LIMIT_ADDRESS_RATE", "1"), ("LIMIT_ADDRESS_BURST", "20")];
const BY_IDENTITY: [(&str, &str); 2] = [("LIMIT_IDENTITY_RATE", "1"), ("LIMIT_IDENTITY_BURST", "20")];

/// Sends requests until one gets 429. Returns the number of requests before it, and its response.
async fn exhaust(mut send: impl AsyncFnMut() -> Answer) -> (u32, Answer) {
    let began = Instant::now();
    let mut passed = 0;
    loop {
        let answer = send().await;
        if answer.status == 429 {
            return (passed, answer);
        }
        passed += 1;
        let refilled = u32::try_from(began.elapsed().as_secs()).unwrap() + 1;
        assert!(passed <= BURST + refilled, "{passed} requests were accepted: {answer:?}");
    }
}

fn assert_fields(answer: &Answer, limit: &str) {
    assert_eq!(answer.value("retry-after"), "1");
    assert_eq!(answer.value("ratelimit-policy"), format!("\"{limit}\";q=20;w=20"));
    assert_eq!(answer.value("ratelimit"), format!("\"{limit}\";r=0;t=1"));
}

#[tokio::test]
async fn requests_of_an_address_over_its_burst_are_refused_and_not_forwarded() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &BY_ADDRESS);
    let mut connection = gateway.connect().await;
    let (passed, answer) = exhaust(async || {
        let answer = connection.exchange(get(DAY, "")).await;
        if answer.status == 200 {
            assert!(answer.values("ratelimit").is_empty() && answer.values("ratelimit-policy").is_empty());
        }
        answer
    })
    .await;
    assert!(passed >= BURST, "{passed}");
    answer.assert_json(429, r#"{"error":"Too Many Requests"}"#);
    assert_fields(&answer, "address");
    assert_eq!(answer.value("cache-control"), "no-store");
    assert_eq!(api.seen().len(), passed as usize);
    let refused = gateway.metric(r#"gateway_rate_limited_total{limit="address"}"#).await;
    assert_eq!(refused, Some(1.0));

    // Connections from one address share the limit; another address has its own.
    let (passed, _) = exhaust(async || gateway.get(DAY).await).await;
    assert!(passed < BURST, "{passed}");
    let mut other = Connection::open_from(2, gateway.https).await;
    assert_eq!(other.exchange(get(DAY, "")).await.status, 200);
}

#[tokio::test]
async fn a_client_that_waits_for_retry_after_is_accepted() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &BY_ADDRESS);
    let mut connection = gateway.connect().await;
    let (_, answer) = exhaust(async || connection.exchange(get(DAY, "")).await).await;
    let seconds = answer.value("retry-after").parse().unwrap();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
}

#[tokio::test]
async fn a_limited_login_is_refused_in_the_shape_of_its_other_errors() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &BY_ADDRESS);
    let mut connection = gateway.connect().await;
    let request = crate::auth::login(crate::auth::user01());
    let (passed, answer) = exhaust(async || connection.exchange(&request).await).await;
    answer.assert_json(429, r#"{"status_code":429,"error":"Too Many Requests","description":"Too many requests"}"#);
    assert_fields(&answer, "address");
    assert_eq!(admin.seen().len(), passed as usize);
}

#[tokio::test]
async fn the_limit_of_an_address_is_checked_between_host_and_token() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &BY_ADDRESS);
    let mut connection = gateway.connect().await;
    let anonymous = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    exhaust(async || connection.exchange(&anonymous).await).await;
    let elsewhere = anonymous.replace("localhost", "elsewhere.example");
    assert_eq!(connection.exchange(elsewhere).await.status, 421);
    let long = anonymous.replace(DAY, &format!("{DAY}?{}", "q".repeat(3000)));
    assert_eq!(gateway.exchange(long).await.status, 414);
    assert_eq!(gateway.exchange("GET //x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 400);
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn requests_refused_before_the_limit_count_towards_it() {
    let (api, admin) = (api().await, admin().await);
    let rows = [
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /./x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n",
    ];
    for row in rows {
        let gateway = Gateway::start_with(&api, &admin, &BY_ADDRESS);
        for _ in 0..BURST {
            let status = gateway.exchange(row).await.status;
            assert!(matches!(status, 400 | 421), "{row}: {status}");
        }
        let (passed, _) = exhaust(async || gateway.get(DAY).await).await;
        assert!(passed < BURST, "{row}: {passed}");
    }
}

#[tokio::test]
async fn an_identity_is_limited_across_addresses_and_before_the_route() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &BY_IDENTITY);
    let mut first = gateway.connect().await;
    let (passed, answer) = exhaust(async || first.exchange(get(DAY, "")).await).await;
    assert!(passed >= BURST, "{passed}");
    answer.assert_json(429, r#"{"error":"Too Many Requests"}"#);
    assert_fields(&answer, "identity");
    assert_eq!(api.seen().len(), passed as usize);
    assert_eq!(gateway.metric(r#"gateway_rate_limited_total{limit="identity"}"#).await, Some(1.0));

    let mut second = Connection::open_from(2, gateway.https).await;
    let (passed, answer) = exhaust(async || second.exchange(get("/nothing", "")).await).await;
    assert!(passed < BURST, "{passed}");
    assert_fields(&answer, "identity");
    let other = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {}\r\n\r\n", token("user02"));
    assert_eq!(second.exchange(other).await.status, 200);
    // An invalid token uses no identity's limit.
    let invalid = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT x\r\n\r\n");
    assert_eq!(second.exchange(invalid).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_has_the_same_limits() {
    let (api, admin) = (api().await, admin().await);
    for (settings, limit) in [(BY_ADDRESS, "address"), (BY_IDENTITY, "identity")] {
        api.forget();
        let gateway = Gateway::start_with(&api, &admin, &settings);
        let client = Http2::open(gateway.https).await;
        let bearer = format!("Bearer {}", token("user01"));
        let (passed, answer) = exhaust(async || {
            let request = Request::get(format!("https://localhost{DAY}")).header("authorization", &bearer);
            client.exchange(request.body("").unwrap()).await
        })
        .await;
        assert!(passed >= BURST, "{passed}");
        answer.assert_json(429, r#"{"error":"Too Many Requests"}"#);
        assert_fields(&answer, limit);
        assert_eq!(api.seen().len(), passed as usize);
    }
}

#[tokio::test]
async fn limits_can_be_disabled() {
    let (api, admin) = (api().await, admin().await);
    let off = [
        ("LIMIT_ADDRESS_RATE", "0"),
        ("LIMIT_ADDRESS_BURST", "1"),
        ("LIMIT_IDENTITY_RATE", "0"),
        ("LIMIT_IDENTITY_BURST", "1"),
    ];
    let gateway = Gateway::start_with(&api, &admin, &off);
    let mut connection = gateway.connect().await;
    for _ in 0..100 {
        assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    }
}

#[tokio::test]
async fn many_clients_create_no_new_series() {
    const COUNTED: &str = r#"gateway_requests_total{method="GET",route="none",status_class="4xx"}"#;
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &BY_ADDRESS);
    // The health checks create the series of the upstreams.
    gateway.ready().await;
    let series = async || gateway.ops("/metrics").await.1.lines().filter(|line| !line.starts_with('#')).count();
    let mut connection = gateway.connect().await;
    exhaust(async || connection.exchange(get(DAY, "")).await).await;
    until("the refusal is counted", async || gateway.metric(COUNTED).await == Some(1.0)).await;
    let before = series().await;
    for host in 2..=60 {
        let mut connection = Connection::open_from(host, gateway.https).await;
        let identity = token(&format!("user{host}"));
        let request = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {identity}\r\n\r\n");
        assert_eq!(connection.exchange(request).await.status, 200);
    }
    assert_eq!(series().await, before);
}
