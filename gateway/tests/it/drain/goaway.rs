//! The GOAWAY of a drain comes in two steps (RFC 9113, section 6.8), so that no request on its way is lost.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::client::{Connection, PATIENCE, handshake, tls};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, SETTINGS, frame, receive_frame, request_block,
};
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api, until};

/// The flag of an acknowledgement.
const ACK: u8 = 1;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A GET of the day on this stream.
fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request_block("GET", DAY, &format!("Bearer {}", token("user01"))))
}

/// A client that counts the responses. They may arrive before or after other frames.
struct Client {
    stream: TlsStream<TcpStream>,
    /// The number of complete responses.
    answered: usize,
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    async fn next(&mut self) -> Option<Frame> {
        let frame = timeout(PATIENCE, receive_frame(&mut self.stream)).await.expect("no frame")?;
        match frame.kind {
            HEADERS => assert_eq!(frame.payload[0], 0x88, "status 200"),
            DATA => self.answered += usize::from(frame.flags & END_STREAM != 0),
            _ => {}
        }
        Some(frame)
    }

    /// The last stream according to the next GOAWAY, without an error.
    async fn goaway(&mut self) -> u32 {
        loop {
            let frame = self.next().await.expect("the connection has ended");
            if frame.kind == GOAWAY {
                assert_eq!(frame.payload[4..8], [0; 4], "NO_ERROR");
                return u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
            }
        }
    }

    /// The acknowledgement of the next PING.
    async fn pong(&mut self) -> Vec<u8> {
        loop {
            let ping = self.next().await.expect("the connection has ended");
            if ping.kind == PING && ping.flags & ACK == 0 {
                return frame(PING, ACK, 0, &ping.payload);
            }
        }
    }

    async fn until_answered(&mut self, count: usize) {
        while self.answered < count {
            self.next().await.expect("the connection has ended");
        }
    }

    /// Waits until the connection has ended, with `count` responses in total.
    async fn assert_ended(&mut self, count: usize) {
        while self.next().await.is_some() {}
        assert_eq!(self.answered, count);
    }
}

#[tokio::test]
async fn requests_until_the_second_step_are_served() {
    let (api, admin) = (api().await, admin().await);
    let mut gateway = Gateway::start_with(&api, &admin, &[("DRAIN_TIMEOUT", "60")]);
    let mut client = Client { stream: Frames::connect(gateway.https, &[]).await, answered: 0 };
    client.send(&request(1)).await;
    client.until_answered(1).await;
    gateway.stop();
    assert_eq!(client.goaway().await, (1 << 31) - 1);
    let pong = client.pong().await;
    // It crosses the first step.
    client.send(&request(3)).await;
    client.until_answered(2).await;
    client.send(&[request(5), pong].concat()).await;
    assert_eq!(client.goaway().await, 5);
    // It crosses the second step, which says that it is not processed. The connection may be closed already.
    let _ = client.stream.write_all(&request(7)).await;
    client.assert_ended(3).await;
    until("run returns", async || gateway.has_ended()).await;
    assert_eq!(api.seen().len(), 3);
}

#[tokio::test]
async fn a_connection_whose_preface_is_on_its_way_is_served() {
    let (api, admin) = (api().await, admin().await);
    let mut gateway = Gateway::start_with(&api, &admin, &[("DRAIN_TIMEOUT", "60")]);
    let stream = handshake(gateway.https, tls(rustls::ALL_VERSIONS, &["h2"])).await.unwrap();
    let mut client = Client { stream, answered: 0 };
    gateway.stop();
    until("no connection is accepted", async || Connection::open(gateway.https).await.is_err()).await;
    client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &request(1)].concat()).await;
    assert_eq!(client.goaway().await, (1 << 31) - 1);
    let pong = client.pong().await;
    client.send(&pong).await;
    assert_eq!(client.goaway().await, 1);
    client.assert_ended(1).await;
    until("run returns", async || gateway.has_ended()).await;
}
