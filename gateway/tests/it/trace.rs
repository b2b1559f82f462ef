//! Traces: which ones are continued, what the service receives, and what is exported.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::support::backend::{Backend, Seen};
use crate::support::client::{Connection, connect_from};
use crate::support::{DAY, Gateway, admin, answer_of, api, get, until};

/// The address of the trusted proxy.
const PROXY: [u8; 4] = [127, 0, 0, 2];
const TRUSTED: (&str, &str) = ("CLIENT_TRUSTED_PROXIES", "['127.0.0.2']");
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACE_BYTES: [u8; 16] = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
const SPAN: &str = "00f067aa0ba902b7";

/// A collector, and the setting with its address.
pub async fn collector() -> (Backend, String) {
    let collector = Backend::start(|_| answer_of("")).await;
    let url = format!("http://{}", collector.address);
    (collector, url)
}

pub fn traced(url: &str) -> [(&str, &str); 2] {
    [("TELEMETRY_OTLP_ENDPOINT", url), ("TELEMETRY_INTERVAL", "0.1")]
}

fn context(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{SPAN}-{flags}\r\ntracestate: vendor=state, other=x\r\n")
}

/// The trace, the parent and the flags that the service received for a request from `source` with these headers.
async fn received(gateway: &Gateway, api: &Backend, source: [u8; 4], headers: &str) -> ([String; 3], Seen) {
    api.forget();
    let mut connection = Connection::try_open_from(source, gateway.https).await.unwrap();
    assert_eq!(connection.exchange(get(DAY, headers)).await.status, 200);
    let seen = api.only();
    (parts_of(&seen), seen)
}

fn parts_of(seen: &Seen) -> [String; 3] {
    let values = seen.values("traceparent");
    assert_eq!(values.len(), 1, "{seen:?}");
    let parts: Vec<_> = values[0].split('-').collect();
    let ["00", trace, span, flags] = parts[..] else { panic!("{values:?}") };
    assert_eq!((trace.len(), span.len()), (32, 16), "{values:?}");
    [trace.to_owned(), span.to_owned(), flags.to_owned()]
}

pub fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

/// Everything that the collector has received.
pub fn exported(collector: &Backend) -> Vec<u8> {
    collector.seen().iter().flat_map(|seen| seen.body.clone()).collect()
}

async fn spans(gateway: &Gateway, result: &str) -> f64 {
    let series = format!(r#"gateway_telemetry_spans_total{{result="{result}"}}"#);
    gateway.metric(&series).await.unwrap_or_default()
}

#[tokio::test]
async fn without_a_collector_the_fields_of_clients_are_forwarded_as_before() {
    let (api, admin) = (api().await, admin().await);
    let (gateway, log) = Gateway::start_logged(&api, &admin, &[TRUSTED]);
    for source in [[127, 0, 0, 9], PROXY] {
        let (_, seen) = received(&gateway, &api, source, &context("01")).await;
        assert_eq!(seen.values("traceparent"), [format!("00-{TRACE}-{SPAN}-01")]);
        assert_eq!(seen.values("tracestate"), ["vendor=state, other=x"]);
    }
    assert_eq!(gateway.metric(r#"gateway_telemetry_spans_total{result="exported"}"#).await, None);
    until("both requests are logged", async || log.lines().len() == 2).await;
    assert!(log.lines().iter().all(|line| line.get("trace_id").is_none()));
}

#[tokio::test]
async fn a_client_that_is_not_trusted_starts_a_new_trace() {
    let (api, admin) = (api().await, admin().await);
    let (_collector, url) = collector().await;
    let [endpoint, interval] = traced(&url);
    let settings = [endpoint, interval, TRUSTED, ("TELEMETRY_SAMPLE_RATIO", "0.0")];
    let (gateway, log) = Gateway::start_logged(&api, &admin, &settings);
    let mut traces = Vec::new();
    for headers in ["", &context("01")] {
        let ([trace, span, flags], seen) = received(&gateway, &api, [127, 0, 0, 9], headers).await;
        assert_ne!((trace.as_str(), span.as_str()), (TRACE, SPAN));
        assert_eq!(flags, "02", "sampling was not forced");
        assert!(seen.values("tracestate").is_empty(), "{seen:?}");
        traces.push(trace);
    }
    assert_ne!(traces[0], traces[1]);
    until("both requests are logged", async || log.lines().len() == 2).await;
    let logged: Vec<_> = log.lines().iter().map(|line| line["trace_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(logged, traces);
}

#[tokio::test]
async fn a_trusted_proxy_continues_its_trace() {
    let (api, admin) = (api().await, admin().await);
    let (collector, url) = collector().await;
    let [endpoint, interval] = traced(&url);
    let settings = [endpoint, interval, TRUSTED, ("TELEMETRY_SAMPLE_RATIO", "0.0")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    for flags in ["00", "01", "03"] {
        let ([trace, span, passed], seen) = received(&gateway, &api, PROXY, &context(flags)).await;
        assert_eq!((trace.as_str(), passed.as_str()), (TRACE, flags));
        assert_ne!(span, SPAN, "the gateway is the parent");
        assert_eq!(seen.values("tracestate"), ["vendor=state, other=x"]);
    }
    until("two sampled requests are exported", async || spans(&gateway, "exported").await == 4.0).await;
    let body = exported(&collector);
    assert!(contains(&body, &TRACE_BYTES));
    assert!(contains(&body, &u64::from_str_radix(SPAN, 16).unwrap().to_be_bytes()), "the parent of the server span");
}

#[tokio::test]
async fn an_invalid_context_of_a_trusted_proxy_is_replaced() {
    let (api, admin) = (api().await, admin().await);
    let (_collector, url) = collector().await;
    let [endpoint, interval] = traced(&url);
    let gateway = Gateway::start_with(&api, &admin, &[endpoint, interval, TRUSTED]);
    let zeros = format!("traceparent: 00-{}-{SPAN}-01\r\ntracestate: a=1\r\n", "0".repeat(32));
    let twice = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n");
    for headers in [&zeros, &twice, "traceparent: junk\r\ntracestate: a=1\r\n", "tracestate: a=1\r\n"] {
        let ([trace, _, flags], seen) = received(&gateway, &api, PROXY, headers).await;
        assert_ne!(trace, TRACE);
        assert_eq!(flags, "03");
        assert!(seen.values("tracestate").is_empty(), "{seen:?}");
    }
    // The context remains without the invalid state (section 3.3).
    let headers = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: Invalid\r\n");
    let ([trace, ..], seen) = received(&gateway, &api, PROXY, &headers).await;
    assert_eq!(trace, TRACE);
    assert!(seen.values("tracestate").is_empty(), "{seen:?}");
}

#[tokio::test]
async fn behind_the_proxy_protocol_no_trace_is_continued() {
    let (api, admin) = (api().await, admin().await);
    let (_collector, url) = collector().await;
    let [endpoint, interval] = traced(&url);
    let settings = [endpoint, interval, TRUSTED, ("LISTENER_PROXY_PROTOCOL", "true")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    for header in ["PROXY TCP4 127.0.0.2 127.0.0.1 4711 443\r\n", "PROXY UNKNOWN\r\n"] {
        api.forget();
        let mut stream = connect_from(PROXY, gateway.https).await.unwrap();
        stream.write_all(header.as_bytes()).await.unwrap();
        let mut connection = Connection::open_on(stream).await.unwrap();
        assert_eq!(connection.exchange(get(DAY, &context("01"))).await.status, 200);
        assert_ne!(parts_of(&api.only())[0], TRACE, "the proxy passes the fields of its client through");
    }
}

#[tokio::test]
async fn a_request_that_fills_the_cache_has_the_trace_of_its_client() {
    let (api, admin) = (api().await, admin().await);
    let (_collector, url) = collector().await;
    let [endpoint, interval] = traced(&url);
    let settings = [endpoint, interval, TRUSTED, ("CACHE_MAX_BYTES", "16777216")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let ([trace, ..], seen) = received(&gateway, &api, PROXY, &context("01")).await;
    assert_eq!(trace, TRACE);
    assert_eq!(seen.values("tracestate"), ["vendor=state, other=x"]);
}

#[tokio::test]
async fn spans_have_the_route_and_nothing_that_the_client_sent() {
    let (api, admin) = (api().await, admin().await);
    let (collector, url) = collector().await;
    let [endpoint, interval] = traced(&url);
    let name = ("TELEMETRY_SERVICE_NAME", "edge");
    let gateway = Gateway::start_with(&api, &admin, &[endpoint, interval, name]);
    for (path, status) in [(DAY, 200), ("/holodules/20201210?query=hush", 200), ("/nowhere/hush", 404)] {
        assert_eq!(gateway.get(path).await.status, status, "{path}");
    }
    until("three requests and two attempts are exported", async || spans(&gateway, "exported").await == 5.0).await;
    let seen = collector.seen();
    assert!(seen.iter().all(|seen| seen.values("content-type") == ["application/x-protobuf"]), "{seen:?}");
    let body = exported(&collector);
    for text in ["edge", "GET holodules", "http.route", "http.response.status_code", "server.port", "https"] {
        assert!(contains(&body, text.as_bytes()), "{text}");
    }
    for text in ["20201209", "20201210", "nowhere", "hush", "user01", "eyJ"] {
        assert!(!contains(&body, text.as_bytes()), "{text}");
    }
}

#[tokio::test]
async fn requests_do_not_wait_for_the_collector() {
    let (api, admin) = (api().await, admin().await);
    // It accepts no connection, but the system completes the handshakes of TCP.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let [endpoint, interval] = traced(&url);
    let settings = [endpoint, interval, ("TELEMETRY_QUEUE", "2"), ("TELEMETRY_TIMEOUT", "60")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let mut connection = gateway.connect().await;
    until("the export has begun and the queue is full", async || {
        let answer = tokio::time::timeout(Duration::from_secs(30), connection.exchange(get(DAY, ""))).await.unwrap();
        assert_eq!(answer.status, 200);
        spans(&gateway, "dropped").await > 0.0
    })
    .await;
}
