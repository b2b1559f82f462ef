//! Known vulnerabilities of pingora, tested against the gateway.

use crate::framing::assert_refused;
use crate::support::backend::{Backend, answer};
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api, get};

#[tokio::test]
async fn cve_2025_4366_after_an_early_response_the_body_is_not_read_as_a_request() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let smuggled = get(DAY, "");
    let length = smuggled.len();
    let login = |headers: &str| format!("POST /auth HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{smuggled}");
    let other = |method: &str, token: &str| {
        format!("{method} {DAY} HTTP/1.1\r\nHost: localhost\r\n{token}Content-Length: {length}\r\n\r\n{smuggled}")
    };
    let authorization = format!("Authorization: JWT {}\r\n", token("user01"));
    let rows = [
        ("a login with another content type", login(&format!("Content-Length: {length}\r\n")), 415),
        ("a login too large", login("Content-Type: application/json\r\nContent-Length: 5000\r\n"), 413),
        ("no token", other("POST", ""), 401),
        ("another method", other("POST", &authorization), 405),
        ("no route", other("POST", &authorization).replacen(DAY, "/nothing", 1), 404),
        ("another host", other("POST", &authorization).replacen("Host: localhost", "Host: elsewhere.example", 1), 421),
        ("another method for the login", other("PUT", "").replacen(DAY, "/auth", 1), 405),
    ];
    for (row, request, status) in rows {
        let mut connection = gateway.connect().await;
        connection.send(request).await;
        let answer = connection.answer("POST").await;
        assert_eq!((answer.status, answer.value("connection")), (status, "close"), "{row}: {answer:?}");
        connection.assert_closed().await;
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty(), "{:?}", api.seen());
}

#[tokio::test]
async fn cve_2026_2833_no_upgrade_before_the_backend_accepts_it() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    let upgrade = get(DAY, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
    let smuggled = get("/holodules/20201210", "");
    connection.send(format!("{upgrade}{smuggled}")).await;
    let answer = connection.answer("GET").await;
    assert_eq!((answer.status, answer.value("connection")), (501, "close"));
    // The following bytes are not processed at all.
    connection.assert_closed().await;
    assert!(api.seen().is_empty(), "{:?}", api.seen());
}

#[tokio::test]
async fn cve_2026_2835_transfer_encoding_is_refused_in_http_1_0() {
    let token = token("user01");
    let with = |path: &str, headers: &str| {
        format!("POST {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n{headers}\r\n0\r\n\r\n")
            .into_bytes()
    };
    let rows = [
        ("chunked", with(DAY, "Transfer-Encoding: chunked\r\n")),
        ("chunked, with keep-alive", with(DAY, "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n")),
        ("chunked and a length", with(DAY, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
        ("a login", with("/auth", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n")),
    ];
    assert_refused(&rows).await;
}

#[tokio::test]
async fn cve_2026_2836_no_host_receives_the_response_of_another() {
    // A cacheable response that differs by host.
    let api = Backend::start(|seen| {
        let headers = [("Cache-Control", "public, max-age=60"), ("ETag", "\"abc\"")];
        answer("200 OK", &headers, seen.values("x-forwarded-host")[0])
    })
    .await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&api, &admin, &[("HOSTS", "['a.example', 'b.example']")]);
    let mut connection = gateway.connect().await;
    for _ in 0..2 {
        for host in ["a.example", "b.example", "localhost"] {
            let request = get(DAY, "").replacen("Host: localhost", &format!("Host: {host}"), 1);
            let answer = connection.exchange(request).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, host));
        }
    }
}
