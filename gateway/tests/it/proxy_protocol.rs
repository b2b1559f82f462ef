//! The PROXY protocol on the public listener.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client::{Connection, PATIENCE, connect_from};
use crate::support::{DAY, Gateway, admin, api, get, until};

/// The address of the trusted proxy.
const PROXY: [u8; 4] = [127, 0, 0, 2];

const SETTINGS: [(&str, &str); 2] = [("LISTENER_PROXY_PROTOCOL", "true"), ("CLIENT_TRUSTED_PROXIES", "['127.0.0.2']")];

/// A header of version 2.
fn v2(command: u8, transport: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, transport], &length, block].concat()
}

/// The addresses of a header of version 2 with this source, and an extension.
fn block(source: [u8; 4]) -> Vec<u8> {
    [&source[..], &[127, 0, 0, 1], &[0x12, 0x67, 0x01, 0xbb], &[4, 0, 3, 1, 2, 3]].concat()
}

/// Connects from the proxy's address and sends this header.
async fn connect(gateway: &Gateway, header: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = connect_from(PROXY, gateway.https).await.unwrap();
    stream.write_all(header.as_ref()).await.unwrap();
    stream
}

/// Waits until the connection ends without a byte.
async fn assert_closed(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    // Bytes that the gateway has not read cause a reset.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection stays open");
    assert!(bytes.is_empty(), "{bytes:?}");
}

async fn failures(gateway: &Gateway, reason: &str) -> f64 {
    let series = format!(r#"gateway_tls_handshake_failures_total{{reason="{reason}"}}"#);
    gateway.metric(&series).await.unwrap()
}

#[tokio::test]
async fn the_header_states_the_client_and_request_fields_do_not_change_it() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &SETTINGS);
    let rows = [
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\r\n".to_vec(), "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n".to_vec(), "2001:db8::1"),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n".to_vec(), "192.0.2.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.2"),
        (v2(0x21, 0x11, &block([192, 0, 2, 1])), "192.0.2.1"),
        (v2(0x20, 0x11, &block([192, 0, 2, 1])), "127.0.0.2"),
        (v2(0x21, 0x00, &[]), "127.0.0.2"),
        // The source is the client even if it is a trusted proxy.
        (v2(0x21, 0x11, &block(PROXY)), "127.0.0.2"),
    ];
    for (header, client) in rows {
        api.forget();
        let mut connection = Connection::open_on(connect(&gateway, &header).await).await.unwrap();
        for _ in 0..2 {
            let forged = "X-Forwarded-For: 198.51.100.9\r\nForwarded: for=198.51.100.9\r\n";
            assert_eq!(connection.exchange(get(DAY, forged)).await.status, 200);
        }
        for seen in api.seen() {
            assert_eq!(seen.values("x-forwarded-for"), [client], "{header:?}");
        }
    }
}

#[tokio::test]
async fn a_header_in_pieces_is_read_to_its_end() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &SETTINGS);
    for header in [b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\r\n".to_vec(), v2(0x21, 0x11, &block([192, 0, 2, 1]))] {
        let mut stream = connect(&gateway, []).await;
        stream.set_nodelay(true).unwrap();
        for piece in header.chunks(7) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut connection = Connection::open_on(stream).await.unwrap();
        assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
        assert_eq!(api.only().values("x-forwarded-for"), ["192.0.2.1"]);
        api.forget();
    }
}

#[tokio::test]
async fn an_invalid_header_closes_the_connection() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &SETTINGS);
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
    let headers = [
        get(DAY, "").into_bytes(),
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\n\n\n\n".to_vec(),
        b"PROXY TCP4 192.0.2.1, 127.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY TCP4 localhost 127.0.0.1 4711 443\r\n".to_vec(),
        long.into_bytes(),
        v2(0x31, 0x11, &block([192, 0, 2, 1])),
        v2(0x22, 0x11, &block([192, 0, 2, 1])),
        v2(0x21, 0x12, &block([192, 0, 2, 1])),
        v2(0x21, 0x11, &[192, 0, 2, 1]),
        v2(0x21, 0x11, &[0; 5000]),
        // The first bytes of a ClientHello, from a proxy that sends no header.
        [&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 32]].concat(),
    ];
    for (index, header) in headers.iter().enumerate() {
        assert_closed(connect(&gateway, header).await).await;
        until("the failure is counted", async || failures(&gateway, "proxy_header").await == (index + 1) as f64).await;
    }
    // Only one header is accepted.
    let twice = "PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\r\n".repeat(2);
    let mut stream = connect(&gateway, twice).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection stays open");
    until("the failure is counted", async || failures(&gateway, "protocol").await == 1.0).await;
    assert!(api.seen().is_empty() && admin.seen().is_empty());
}

#[tokio::test]
async fn connections_from_other_peers_are_closed_with_or_without_a_header() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &SETTINGS);
    let mut stream = connect_from([127, 0, 0, 3], gateway.https).await.unwrap();
    // The gateway may close before the header is sent.
    let _ = stream.write_all(b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\r\n").await;
    assert_closed(stream).await;
    assert!(Connection::try_open_from([127, 0, 0, 3], gateway.https).await.is_err());
    let series = r#"gateway_connections_refused_total{reason="untrusted_proxy"}"#;
    assert_eq!(gateway.metric(series).await, Some(2.0));
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn without_the_setting_a_header_is_a_tls_error() {
    let (api, admin) = (api().await, admin().await);
    // A trusted proxy alone does not enable the protocol.
    let gateway = Gateway::start_with(&api, &admin, &[("CLIENT_TRUSTED_PROXIES", "['127.0.0.2']")]);
    let stream = connect(&gateway, "PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\r\n").await;
    assert!(Connection::open_on(stream).await.is_err());
    until("the failure is counted", async || failures(&gateway, "protocol").await == 1.0).await;
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn the_deadline_of_the_handshake_includes_the_header() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[SETTINGS[0], SETTINGS[1], ("LISTENER_HANDSHAKE_TIMEOUT", "0.5")]);
    let began = Instant::now();
    for header in ["", "PROXY TCP4 19", "PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\r\n"] {
        assert_closed(connect(&gateway, header).await).await;
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    until("the failures are counted", async || failures(&gateway, "timeout").await == 3.0).await;
}

#[tokio::test]
async fn connections_count_towards_the_limit_of_the_client_in_the_header() {
    let (api, admin) = (api().await, admin().await);
    let gateway =
        Gateway::start_with(&api, &admin, &[SETTINGS[0], SETTINGS[1], ("LISTENER_MAX_CONNECTIONS_PER_ADDRESS", "1")]);
    let open = async |source: [u8; 4]| {
        let header = format!("PROXY TCP4 {} 127.0.0.1 4711 443\r\n", Ipv4Addr::from(source));
        Connection::open_on(connect(&gateway, header).await).await
    };
    let mut first = open([192, 0, 2, 1]).await.unwrap();
    assert!(open([192, 0, 2, 1]).await.is_err());
    let series = r#"gateway_connections_refused_total{reason="per_address"}"#;
    // Counted after the connection was closed.
    until("the connection is counted", async || gateway.metric(series).await == Some(1.0)).await;
    let mut other = open([192, 0, 2, 2]).await.unwrap();
    for connection in [&mut first, &mut other] {
        assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    }
    // Connections of the proxy itself have no limit.
    for _ in 0..3 {
        Connection::open_on(connect(&gateway, "PROXY UNKNOWN\r\n").await).await.unwrap();
    }
    drop(first);
    until("a connection is accepted again", async || open([192, 0, 2, 1]).await.is_ok()).await;
}
