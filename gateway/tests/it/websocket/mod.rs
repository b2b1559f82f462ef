//! WebSocket connections (RFC 6455) through the gateway: the handshake, its refusals, and the tunnel.

mod authority;
mod handshake;
mod limits;
mod origin;
mod record;
mod refusals;
mod service;
mod switch;
mod token;
mod tunnel;

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::backend::Backend;
use crate::support::client::{Connection, PATIENCE};
use crate::support::{Gateway, admin, api, request};

/// The key of RFC 6455, section 1.3, and the value that accepts it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The fields of a handshake besides the token, each with its CRLF.
pub const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A handshake with a valid token and further fields.
fn handshake(fields: &str) -> String {
    request("GET", "/ws", &format!("{HANDSHAKE}{fields}"))
}

/// The head of a 101 with further fields.
pub fn switch(fields: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{fields}\r\n"
    )
}

/// A service whose responses the test writes itself.
pub struct Service {
    listener: TcpListener,
}

/// A connection of the gateway to the service, and the head that was received on it.
pub struct Accepted {
    stream: TcpStream,
    head: String,
    /// What has arrived behind the head.
    early: Vec<u8>,
}

impl Service {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// The next connection with a request; health checks only connect.
    async fn accept(&self) -> Accepted {
        let accepting = async {
            loop {
                let mut stream = self.listener.accept().await.unwrap().0;
                let mut received = Vec::new();
                loop {
                    if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                        let early = received.split_off(end + 4);
                        return Accepted { stream, head: String::from_utf8(received).unwrap(), early };
                    }
                    if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
            }
        };
        timeout(PATIENCE, accepting).await.expect("no request reached the service")
    }

    /// Asserts that no request arrives for a while.
    async fn assert_idle(&self) {
        let arrived = timeout(Duration::from_millis(200), async { self.accept().await.head }).await;
        assert_eq!(arrived.ok(), None);
    }
}

impl Accepted {
    /// All values of a field, in their order.
    fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("sending timed out").unwrap();
    }

    pub async fn read(&mut self, count: usize) -> Vec<u8> {
        while self.early.len() < count {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.early)).await.expect("reading timed out");
            assert!(read.unwrap() > 0, "the connection ended after {} bytes", self.early.len());
        }
        self.early.drain(..count).collect()
    }

    /// Reads to the end of the connection, with or without an error.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.early);
        while timeout(PATIENCE, self.stream.read_buf(&mut rest)).await.expect("not closed").unwrap_or(0) > 0 {}
        rest
    }
}

/// A gateway with the route `/ws` to a service, and other routes to the api listener.
pub struct Tunnels {
    pub gateway: Gateway,
    service: Service,
    api: Backend,
    _admin: Backend,
}

impl Tunnels {
    pub async fn start() -> Self {
        Self::start_with("", &[]).await
    }

    /// With further fields of the route, and further settings.
    async fn start_with(route: &str, settings: &[(&str, &str)]) -> Self {
        let (service, api, admin) = (Service::start().await, api().await, admin().await);
        let services = format!("[{{ name = 'chat', addresses = ['{}'], max_connections = 8 }}]", service.address());
        let routes = routes(route);
        let all: Vec<_> =
            [("SERVICE", services.as_str()), ("ROUTE", &routes)].into_iter().chain(settings.iter().copied()).collect();
        let gateway = Gateway::start_with(&api, &admin, &all);
        Self { gateway, service, api, _admin: admin }
    }

    /// Opens a tunnel with this handshake and this answer.
    async fn open_with(&self, handshake: &str, answer: &str) -> (Connection, String, Accepted) {
        let mut client = self.gateway.connect().await;
        client.send(handshake).await;
        let mut service = tokio::select! {
            service = self.service.accept() => service,
            head = client.read_until("\r\n\r\n") => panic!("refused: {head}"),
        };
        service.send(answer).await;
        let head = client.read_until("\r\n\r\n").await;
        (client, head, service)
    }

    pub async fn open(&self) -> (Connection, Accepted) {
        let (client, head, service) = self.open_with(&handshake(""), &switch("")).await;
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        (client, service)
    }
}

/// The routes of the tests: `/ws` with these further fields, a public one, and one without upgrades.
pub fn routes(fields: &str) -> String {
    format!(
        "[{{ name = 'ws', path = '/ws', methods = ['GET', 'POST'], upgrade = 'websocket', service = 'chat'{fields} }}, \
         {{ name = 'open', path = '/open', methods = ['GET'], public = true, upgrade = 'websocket', service = 'chat' }}, \
         {{ name = 'rest', path = '/{{*rest}}', methods = ['GET', 'POST'], cache = false }}]"
    )
}
