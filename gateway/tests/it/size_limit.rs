//! ops/WIRE.md, "The order of refusals": 414, 431, and the largest accepted sizes.

use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api, get};

#[tokio::test]
async fn a_target_over_2_kib_is_414() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let of_length = |length: usize| format!("{DAY}?{}", "q".repeat(length - DAY.len() - 1));
    assert_eq!(gateway.get(&of_length(2048)).await.status, 200);
    api.forget();
    for target in [of_length(2049), of_length(60_000), format!("/{}", "p".repeat(2048))] {
        let mut connection = gateway.connect().await;
        connection.send_until_closed(get(&target, "")).await;
        let answer = connection.answer("GET").await;
        answer.assert_json(414, r#"{"error":"URI Too Long"}"#);
        connection.assert_closed().await;
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_header_section_over_16_kib_or_100_fields_is_431() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let token = token("user01");
    let head =
        |headers: &str| format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n{headers}\r\n");
    // The limit is on the fields with their CRLF, without the request line and the empty line.
    let others = "Host: localhost\r\n".len() + "Authorization: JWT \r\n".len() + token.len() + "X-Long: \r\n".len();
    let of_bytes = |bytes: usize| head(&format!("X-Long: {}\r\n", "a".repeat(bytes - others)));
    let of_fields = |fields: usize| head(&"X-Field: 1\r\n".repeat(fields - 2));
    for request in [of_bytes(16 * 1024), of_fields(100)] {
        assert_eq!(gateway.exchange(request).await.status, 200);
    }
    api.forget();
    for request in [of_bytes(16 * 1024 + 1), of_bytes(200 * 1024), of_fields(101), of_fields(250)] {
        let mut connection = gateway.connect().await;
        connection.send_until_closed(&request).await;
        let answer = connection.answer("GET").await;
        answer.assert_json(431, r#"{"error":"Request Header Fields Too Large"}"#);
        connection.assert_closed().await;
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn far_too_many_fields_or_bytes_are_refused_in_the_same_shape() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    // More fields than the parser has room for, and more bytes than it buffers.
    for headers in ["X-Field: 1\r\n".repeat(300), format!("X-Long: {}\r\n", "a".repeat(1200 * 1024))] {
        let mut connection = gateway.connect().await;
        connection.send_until_closed(get(DAY, &headers)).await;
        let answer = connection.answer("GET").await;
        assert!([400, 431].contains(&answer.status), "{answer:?}");
        assert_eq!(answer.json().as_object().unwrap().len(), 1);
        connection.assert_closed().await;
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn the_limits_are_configurable() {
    let (api, admin) = (api().await, admin().await);
    let settings =
        [("REQUEST_MAX_TARGET_BYTES", "30"), ("REQUEST_MAX_HEADER_FIELDS", "3"), ("REQUEST_MAX_HEADER_BYTES", "1000")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    assert_eq!(gateway.get(DAY).await.status, 200);
    assert_eq!(gateway.get(&format!("{DAY}?0123456789x")).await.status, 414);
    assert_eq!(gateway.exchange(get(DAY, "A: 1\r\n")).await.status, 200);
    assert_eq!(gateway.exchange(get(DAY, "A: 1\r\nB: 2\r\n")).await.status, 431);
    let long = format!("A: {}\r\n", "a".repeat(1000));
    assert_eq!(gateway.exchange(get(DAY, &long)).await.status, 431);
}
