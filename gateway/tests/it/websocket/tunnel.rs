//! Bytes in a tunnel: unchanged, in both directions at once, and with bounded memory.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use super::{Tunnels, handshake, switch};
use crate::support::client::{PATIENCE, handshake as connect, tls};
use crate::support::random::Random;
use crate::support::{get, until, until_unchanged};

/// `count` bytes without a pattern.
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.byte()).collect()
}

#[tokio::test]
async fn large_messages_pass_unchanged_in_both_directions_at_once() {
    const BYTES: usize = 3 << 20;
    let tunnels = Tunnels::start().await;
    let stream = connect(tunnels.gateway.https, tls(rustls::ALL_VERSIONS, &["http/1.1"])).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(stream);
    writing.write_all(handshake("").as_bytes()).await.unwrap();
    writing.flush().await.unwrap();
    let mut service = tunnels.service.accept().await;
    service.send(switch("")).await;
    let mut head = [0; 4096];
    let count = reading.read(&mut head).await.unwrap();
    assert!(head[..count].ends_with(b"\r\n\r\n"));
    let (up, down) = (noise(BYTES, 1), noise(BYTES, 2));
    let (mut from_gateway, mut to_gateway) = service.stream.into_split();
    let (mut received_up, mut received_down) = (vec![0; BYTES], vec![0; BYTES]);
    let all = async {
        tokio::try_join!(
            async {
                writing.write_all(&up).await?;
                writing.flush().await
            },
            to_gateway.write_all(&down),
            async { from_gateway.read_exact(&mut received_up).await.map(drop) },
            async { reading.read_exact(&mut received_down).await.map(drop) },
        )
    };
    timeout(PATIENCE, all).await.expect("timed out").unwrap();
    assert!(received_up == up && received_down == down);
}

#[tokio::test]
async fn data_behind_the_handshake_of_either_side_is_part_of_the_tunnel() {
    let tunnels = Tunnels::start().await;
    // Data that looks like a request is not one.
    let early = get("/a/b", "");
    let large = "x".repeat(100_000);
    for early in [early.as_str(), "\u{0}", &large] {
        let mut client = tunnels.gateway.connect().await;
        client.send(handshake("")).await;
        let (sent, ()) = tokio::join!(client.try_send(early), async {
            let mut service = tunnels.service.accept().await;
            // It arrives only after the service has accepted the handshake.
            sleep(Duration::from_millis(100)).await;
            assert!(service.early.is_empty() && service.stream.try_read(&mut [0]).is_err());
            service.send(switch("") + "HTTP/1.1 200 OK\r\n\r\n").await;
            assert_eq!(service.read(early.len()).await, early.as_bytes());
            service.send("end").await;
            sleep(Duration::from_millis(20)).await;
        });
        sent.unwrap();
        client.read_until("\r\n\r\n").await;
        assert_eq!(client.read_bytes(22).await, b"HTTP/1.1 200 OK\r\n\r\nend");
    }
    assert!(tunnels.api.seen().is_empty());
}

#[tokio::test]
async fn single_bytes_and_a_fragmented_handshake_pass() {
    let tunnels = Tunnels::start().await;
    let mut client = tunnels.gateway.connect().await;
    let (sent, ()) = tokio::join!(
        async {
            for byte in handshake("").as_bytes().chunks(7) {
                client.send(byte).await;
            }
            client
        },
        async {}
    );
    client = sent;
    let mut service = tunnels.service.accept().await;
    for piece in switch("").as_bytes().chunks(5) {
        service.send(piece).await;
    }
    client.read_until("\r\n\r\n").await;
    for byte in noise(200, 3) {
        client.send([byte]).await;
        assert_eq!(service.read(1).await, [byte]);
        service.send([byte]).await;
        assert_eq!(client.read_bytes(1).await, [byte]);
    }
}

#[tokio::test]
async fn each_side_may_end_first_and_still_receive() {
    let tunnels = Tunnels::start().await;
    let (client, mut service) = tunnels.open().await;
    let mut stream = client.into_stream();
    stream.write_all(b"last").await.unwrap();
    // close_notify; the TCP connection remains open in the other direction.
    stream.get_mut().1.send_close_notify();
    stream.flush().await.unwrap();
    assert_eq!(service.rest().await, b"last");
    service.send(noise(200_000, 4)).await;
    let mut answer = vec![0; 200_000];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("timed out").unwrap();
    assert!(answer == noise(200_000, 4));
    drop(service);
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0])).await.expect("timed out").unwrap(), 0);

    let (mut client, mut service) = tunnels.open().await;
    service.send("last").await;
    service.stream.shutdown().await.unwrap();
    assert_eq!(client.read_to_close_notify().await.unwrap(), b"last");
    client.send("answer").await;
    assert_eq!(service.read(6).await, b"answer");
    drop(client);
    assert_eq!(service.rest().await, b"");
}

#[tokio::test]
async fn an_abrupt_end_of_one_side_ends_the_other() {
    let tunnels = Tunnels::start().await;
    let (client, mut service) = tunnels.open().await;
    drop(client);
    assert_eq!(service.rest().await, b"");
    let (mut client, service) = tunnels.open().await;
    service.stream.set_zero_linger().unwrap();
    drop(service);
    client.assert_closed().await;
    until("no tunnel is open", async || tunnels.gateway.metric(r#"gateway_tunnels{route="ws"}"#).await == Some(0.0))
        .await;
}

#[tokio::test]
async fn a_slow_reader_stops_the_sender_and_not_the_other_direction() {
    let tunnels = Tunnels::start().await;
    let (mut client, service) = tunnels.open().await;
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = || written.load(std::sync::atomic::Ordering::SeqCst);
    let (mut from_gateway, mut to_gateway) = service.stream.into_split();
    let counting = std::sync::Arc::clone(&written);
    let pushing = tokio::spawn(async move {
        while let Ok(count) = to_gateway.write(&[7; 65_536]).await {
            counting.fetch_add(count, std::sync::atomic::Ordering::SeqCst);
        }
    });
    // The buffers of the kernel hold a few MiB.
    until_unchanged("the service is stopped", count).await;
    let buffered = count();
    assert!(buffered < 32 << 20, "{buffered}");
    // The client reads nothing, and what it sends still arrives.
    client.send("close").await;
    let mut message = [0; 5];
    timeout(PATIENCE, from_gateway.read_exact(&mut message)).await.expect("timed out").unwrap();
    assert_eq!(&message, b"close");
    // Nothing is lost.
    let received = client.read_bytes(buffered).await;
    assert!(received.iter().all(|&byte| byte == 7));
    drop((client, from_gateway));
    timeout(PATIENCE, pushing).await.expect("the service is not stopped").unwrap();
}

const OPEN: &str = r#"gateway_tunnels{route="ws"}"#;

#[tokio::test]
async fn a_client_that_sends_on_does_not_hold_the_connection_of_a_service_that_has_left() {
    let tunnels = Tunnels::start().await;
    let (mut client, service) = tunnels.open().await;
    drop(service);
    assert_eq!(client.read_to_close_notify().await.unwrap(), b"");
    until("the tunnel has ended", async || {
        let _ = client.try_send("a").await;
        tunnels.gateway.metric(OPEN).await == Some(0.0)
    })
    .await;
    let series = r#"gateway_tunnels_ended_total{outcome="closed",route="ws"}"#;
    assert_eq!(tunnels.gateway.metric(series).await, Some(1.0));
}

#[tokio::test]
async fn a_tunnel_ends_as_soon_as_both_sides_have_ended() {
    let tunnels = Tunnels::start().await;
    let (client, mut service) = tunnels.open().await;
    let mut stream = client.into_stream();
    stream.get_mut().1.send_close_notify();
    stream.flush().await.unwrap();
    assert_eq!(service.rest().await, b"");
    drop(service);
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0])).await.expect("timed out").unwrap(), 0);
    // The client keeps its connection open.
    let ended = until("the tunnel has ended", async || tunnels.gateway.metric(OPEN).await == Some(0.0));
    timeout(Duration::from_secs(10), ended).await.expect("the tunnel is still open");
    drop(stream);
}

#[tokio::test]
async fn what_a_service_sent_before_it_failed_still_arrives() {
    let tunnels = Tunnels::start().await;
    for _ in 0..20 {
        let (mut client, mut service) = tunnels.open().await;
        service.send("last words").await;
        // It is closed with a reset, since it has not read this.
        client.send("unread").await;
        service.stream.readable().await.unwrap();
        drop(service);
        let _ = client.try_send("more").await;
        assert_eq!(client.read_bytes(10).await, b"last words");
        client.assert_closed().await;
    }
}
