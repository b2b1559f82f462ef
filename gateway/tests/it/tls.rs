//! The public listener: TLS versions, ALPN, names, and the deadline of the handshake.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client::{Connection, PATIENCE, handshake, tls};
use crate::support::{DAY, Gateway, admin, api, get, until};

/// A ClientHello of TLS 1.1 (RFC 4346, section 7.4.1.2).
fn hello_of_tls_1_1() -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let ciphers: [u8; 8] = [0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f, 0x00, 0x35];
    let groups_and_formats: [u8; 14] = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0];
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, length(&ciphers)]);
    body.extend(ciphers);
    body.extend([1, 0]);
    body.extend([0, length(&groups_and_formats)]);
    body.extend(groups_and_formats);
    let mut hello = vec![22, 3, 1, 0, length(&body) + 4, 1, 0, 0, length(&body)];
    hello.extend(body);
    hello
}

/// Everything received until the connection ends.
async fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Bytes that the gateway has not read cause a reset.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection stays open");
    bytes
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_supported() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for (version, label) in [(&rustls::version::TLS12, "1.2"), (&rustls::version::TLS13, "1.3")] {
        let stream = handshake(gateway.https, tls(&[version], &["http/1.1"])).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        let answer = Connection::over(stream).exchange(get(DAY, "")).await;
        assert_eq!(answer.status, 200, "{label}");
        let series = format!(r#"gateway_tls_handshakes_total{{version="{label}"}}"#);
        assert_eq!(gateway.metric(&series).await, Some(1.0));
    }
}

#[tokio::test]
async fn tls_1_1_is_refused_with_an_alert() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut stream = TcpStream::connect(gateway.https).await.unwrap();
    stream.write_all(&hello_of_tls_1_1()).await.unwrap();
    let answer = read_all(stream).await;
    // An alert (21) that is fatal (2): handshake_failure (40) or protocol_version (70).
    assert_eq!((answer[0], answer[5]), (21, 2), "{answer:?}");
    assert!([40, 70].contains(&answer[6]), "{answer:?}");
    until("the failure is counted", async || {
        gateway.metric(r#"gateway_tls_handshake_failures_total{reason="protocol"}"#).await == Some(1.0)
    })
    .await;
}

#[tokio::test]
async fn plain_http_on_the_tls_port_gets_no_http() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut stream = TcpStream::connect(gateway.https).await.unwrap();
    stream.write_all(get(DAY, "").as_bytes()).await.unwrap();
    let answer = read_all(stream).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn alpn_selects_http_2_if_the_client_offers_it() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let rows: [(&[&str], Option<&[u8]>); 4] =
        [(&["http/1.1", "h2"], Some(b"h2")), (&["h2"], Some(b"h2")), (&["http/1.1"], Some(b"http/1.1")), (&[], None)];
    for (offered, chosen) in rows {
        let stream = handshake(gateway.https, tls(rustls::ALL_VERSIONS, offered)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
        if chosen != Some(b"h2") {
            assert_eq!(Connection::over(stream).exchange(get(DAY, "")).await.status, 200);
        }
    }
    let refused = handshake(gateway.https, tls(rustls::ALL_VERSIONS, &["spdy/3"])).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

#[tokio::test]
async fn an_unknown_name_gets_the_default_certificate_which_the_client_refuses() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let error = crate::support::client::handshake_as(gateway.https, "elsewhere.example").await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    // SNI has no addresses (RFC 6066, section 3).
    let stream = crate::support::client::handshake_as(gateway.https, "127.0.0.1").await.unwrap();
    assert_eq!(Connection::over(stream).exchange(get(DAY, "")).await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_complete_the_handshake_is_disconnected() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("LISTENER_HANDSHAKE_TIMEOUT", "0.5")]);
    let began = Instant::now();
    let silent = TcpStream::connect(gateway.https).await.unwrap();
    let mut half = TcpStream::connect(gateway.https).await.unwrap();
    half.write_all(&hello_of_tls_1_1()[..20]).await.unwrap();
    assert_eq!(read_all(silent).await, b"");
    assert_eq!(read_all(half).await, b"");
    assert!((Duration::from_millis(400)..Duration::from_secs(8)).contains(&began.elapsed()), "{:?}", began.elapsed());
    until("both are counted", async || {
        gateway.metric(r#"gateway_tls_handshake_failures_total{reason="timeout"}"#).await == Some(2.0)
    })
    .await;
}
