//! The client address sent to the backend: the peer's, or the one named by a trusted proxy.

use http::Request;

use crate::support::backend::Backend;
use crate::support::client::{Connection, connect_from, shake_hands, tls};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api, get};

/// The client address that the backend receives for a request from `source` with these headers.
async fn forwarded_for(gateway: &Gateway, api: &Backend, source: [u8; 4], headers: &str) -> String {
    api.forget();
    let mut connection = Connection::try_open_from(source, gateway.https).await.unwrap();
    assert_eq!(connection.exchange(get(DAY, headers)).await.status, 200);
    let seen = api.only();
    let values = seen.values("x-forwarded-for");
    assert_eq!(values.len(), 1, "{seen:?}");
    values[0].to_owned()
}

#[tokio::test]
async fn no_peer_is_trusted_by_default() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for headers in ["", "X-Forwarded-For: 192.0.2.1\r\n", "Forwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n"] {
        assert_eq!(forwarded_for(&gateway, &api, [127, 0, 0, 9], headers).await, "127.0.0.9", "{headers:?}");
    }
}

#[tokio::test]
async fn the_client_is_the_rightmost_address_that_is_not_a_trusted_proxy() {
    let (api, admin) = (api().await, admin().await);
    let trusted = ("CLIENT_TRUSTED_PROXIES", "['127.0.0.2', '10.0.0.0/8']");
    let gateway = Gateway::start_with(&api, &admin, &[trusted]);
    for (source, headers, client) in [
        ([127, 0, 0, 2], "X-Forwarded-For: 198.51.100.9, 192.0.2.1\r\n", "192.0.2.1"),
        ([127, 0, 0, 2], "X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-For: 192.0.2.1, 10.1.1.1\r\n", "192.0.2.1"),
        ([127, 0, 0, 2], "X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
        ([127, 0, 0, 2], "X-Forwarded-For: 192.0.2.1, junk\r\n", "127.0.0.2"),
        ([127, 0, 0, 2], "", "127.0.0.2"),
        ([127, 0, 0, 2], "X-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n", "127.0.0.2"),
        ([127, 0, 0, 3], "X-Forwarded-For: 192.0.2.1\r\n", "127.0.0.3"),
    ] {
        assert_eq!(forwarded_for(&gateway, &api, source, headers).await, client, "{source:?} {headers:?}");
    }
}

#[tokio::test]
async fn only_the_configured_header_is_used() {
    let (api, admin) = (api().await, admin().await);
    let settings = [("CLIENT_TRUSTED_PROXIES", "['127.0.0.2']"), ("CLIENT_HEADER", "X-Client-IP")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let headers = "X-Client-IP: 192.0.2.1\r\nX-Forwarded-For: 198.51.100.9\r\n";
    assert_eq!(forwarded_for(&gateway, &api, [127, 0, 0, 2], headers).await, "192.0.2.1");
    assert!(api.only().values("x-client-ip").is_empty(), "the configured header is not forwarded");
    let headers = "X-Forwarded-For: 198.51.100.9\r\n";
    assert_eq!(forwarded_for(&gateway, &api, [127, 0, 0, 2], headers).await, "127.0.0.2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_of_a_connection_has_its_own_client_address() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("CLIENT_TRUSTED_PROXIES", "['127.0.0.2']")]);
    let stream = connect_from([127, 0, 0, 2], gateway.https).await.unwrap();
    let stream = shake_hands(stream, "localhost", tls(rustls::ALL_VERSIONS, &["h2"])).await.unwrap();
    let http2 = Http2::over(stream).await;
    let mut http1 = Connection::try_open_from([127, 0, 0, 2], gateway.https).await.unwrap();
    for address in ["192.0.2.1", "192.0.2.2"] {
        let request = Request::get(format!("https://localhost{DAY}"))
            .header("authorization", format!("JWT {}", token("user01")))
            .header("x-forwarded-for", address);
        assert_eq!(http2.exchange(request.body("").unwrap()).await.status, 200);
        assert_eq!(http1.exchange(get(DAY, &format!("X-Forwarded-For: {address}\r\n"))).await.status, 200);
    }
    let addresses: Vec<_> = api.seen().iter().map(|seen| seen.values("x-forwarded-for").join(",")).collect();
    assert_eq!(addresses, ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"]);
}

#[tokio::test]
async fn clients_of_one_proxy_are_limited_separately() {
    let (api, admin) = (api().await, admin().await);
    let settings =
        [("CLIENT_TRUSTED_PROXIES", "['127.0.0.2']"), ("LIMIT_ADDRESS_RATE", "1"), ("LIMIT_ADDRESS_BURST", "2")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let mut connection = Connection::open_from(2, gateway.https).await;
    let mut statuses = Vec::new();
    for client in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        statuses.push(connection.exchange(get(DAY, &format!("X-Forwarded-For: {client}\r\n"))).await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 200]);
    // A malformed head has no known client, and is not counted against the proxy.
    for _ in 0..5 {
        let mut connection = Connection::open_from(2, gateway.https).await;
        assert_eq!(connection.exchange("GET / HTTP/1.1\r\n\r\n").await.status, 400);
    }
    let mut connection = Connection::open_from(2, gateway.https).await;
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    assert_eq!(api.seen().len(), 4);
}
