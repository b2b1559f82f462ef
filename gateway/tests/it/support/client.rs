//! An HTTP/1 client that sends any bytes and reads the responses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::certificates;

/// The longest that a test waits for anything. The wait then fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A TLS client configuration that trusts only the development CA.
pub fn tls(versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> ClientConfig {
    tls_trusting(&[&certificates().ca], versions, alpn)
}

/// As [`tls`], but trusting these certificates (PEM).
pub fn tls_trusting(trusted: &[&str], versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Connects and performs the TLS handshake for the name `localhost`.
pub async fn handshake(address: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    handshake_with(address, "localhost", config).await
}

/// Connects and performs the TLS handshake for this name.
pub async fn handshake_as(address: SocketAddr, name: &'static str) -> io::Result<TlsStream<TcpStream>> {
    handshake_with(address, name, tls(rustls::ALL_VERSIONS, &["http/1.1"])).await
}

/// Connects and performs the TLS handshake for this name with this configuration.
pub async fn handshake_with(
    address: SocketAddr,
    name: &'static str,
    config: ClientConfig,
) -> io::Result<TlsStream<TcpStream>> {
    shake_hands(TcpStream::connect(address).await?, name, config).await
}

/// Connects from `source`, any address of the loopback network.
pub async fn connect_from(source: impl Into<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.into(), 0))?;
    socket.connect(address).await
}

/// Performs the TLS handshake for this name on an open connection.
pub async fn shake_hands(
    stream: TcpStream,
    name: &'static str,
    config: ClientConfig,
) -> io::Result<TlsStream<TcpStream>> {
    // Otherwise the kernel delays small writes.
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name).unwrap();
    timeout(PATIENCE, connector.connect(name, stream)).await.expect("the handshake timed out")
}

/// An HTTP/1 connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects with ALPN `http/1.1`.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(handshake(address, tls(rustls::ALL_VERSIONS, &["http/1.1"])).await?))
    }

    /// Connects from `source`, any address of the loopback network.
    pub async fn try_open_from(source: impl Into<IpAddr>, address: SocketAddr) -> io::Result<Self> {
        Self::open_on(connect_from(source, address).await?).await
    }

    /// Connects from 127.0.0.`host`, so that a test can have several client addresses.
    pub async fn open_from(host: u8, address: SocketAddr) -> Self {
        Self::try_open_from([127, 0, 0, host], address).await.unwrap()
    }

    /// Performs the TLS handshake on an open connection.
    pub async fn open_on(stream: TcpStream) -> io::Result<Self> {
        Ok(Self::over(shake_hands(stream, "localhost", tls(rustls::ALL_VERSIONS, &["http/1.1"])).await?))
    }

    /// Uses a stream after its handshake.
    pub fn over(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The stream, if nothing has been read ahead.
    pub fn into_stream(self) -> TlsStream<TcpStream> {
        assert!(self.buffer.is_empty());
        self.stream
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sending = async {
            self.stream.write_all(bytes.as_ref()).await?;
            // Bytes may still be in the buffer of TLS.
            self.stream.flush().await
        };
        timeout(PATIENCE, sending).await.expect("sending timed out").unwrap();
    }

    /// Sends bytes. Fails if the gateway has closed the connection.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("sending timed out")
    }

    /// Sends bytes until all are sent or the gateway closes the connection.
    pub async fn send_until_closed(&mut self, bytes: impl AsRef<[u8]>) {
        // The response of a gateway that has closed can still be read.
        let _ = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("sending timed out");
    }

    /// Sends a head with `Expect: 100-continue`, waits for `100 Continue`, sends the body and reads the response.
    pub async fn expect_continue(&mut self, head: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Answer {
        self.send(head).await;
        let interim = self.interim().await;
        assert!(interim.starts_with("HTTP/1.1 100 Continue\r\n"), "{interim}");
        self.send(body).await;
        self.answer("POST").await
    }

    /// Reads the response to a request with this method.
    pub async fn answer(&mut self, method: &str) -> Answer {
        timeout(PATIENCE, self.read_answer(method)).await.expect("the response timed out").unwrap()
    }

    /// Reads the response to a request with this method. Fails if the connection ends first.
    pub async fn try_answer(&mut self, method: &str) -> io::Result<Answer> {
        timeout(PATIENCE, self.read_answer(method)).await.expect("the response timed out")
    }

    /// Reads up to and including `end`.
    pub async fn read_until(&mut self, end: &str) -> String {
        let read = timeout(PATIENCE, self.take_until(end.as_bytes())).await.expect("reading timed out");
        String::from_utf8(read.unwrap()).unwrap()
    }

    /// Reads up to and including `end`. Fails if the connection ends first.
    pub async fn try_read_until(&mut self, end: &str) -> io::Result<String> {
        Ok(String::from_utf8(self.take_until(end.as_bytes()).await?).unwrap())
    }

    /// Reads `count` bytes. Fails if the connection ends first.
    pub async fn try_read_bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.take(count).await
    }

    /// Reads `count` bytes.
    pub async fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        timeout(PATIENCE, self.take(count)).await.expect("reading timed out").unwrap()
    }

    /// Reads the head of an interim response (1xx).
    async fn interim(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    /// Sends a request and reads its response.
    pub async fn exchange(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let request = request.as_ref();
        let method = request.split(|&byte| byte == b' ').next().unwrap();
        let method = String::from_utf8_lossy(method).into_owned();
        self.send(request).await;
        self.answer(&method).await
    }

    /// Asserts that the connection ends without further bytes.
    pub async fn assert_closed(&mut self) {
        assert_eq!(self.rest().await, b"", "more bytes before the end of the connection");
    }

    /// Reads to the `close_notify` alert (RFC 8446, section 6.1). Fails if the connection ends without one.
    pub async fn read_to_close_notify(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.buffer);
        while timeout(PATIENCE, self.stream.read_buf(&mut rest)).await.expect("not closed")? > 0 {}
        Ok(rest)
    }

    /// Reads to the end of the connection, with or without `close_notify`.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        while timeout(PATIENCE, self.stream.read_buf(&mut rest)).await.expect("not closed").unwrap_or(0) > 0 {}
        rest
    }

    /// Sends a request and reads its response, whose body may be no text. The body of the answer is empty.
    pub async fn exchange_bytes(&mut self, request: impl AsRef<[u8]>) -> (Answer, Vec<u8>) {
        let request = request.as_ref();
        let method = request.split(|&byte| byte == b' ').next().unwrap();
        let method = String::from_utf8_lossy(method).into_owned();
        self.send(request).await;
        timeout(PATIENCE, self.read_bytes_answer(&method)).await.expect("the response timed out").unwrap()
    }

    async fn read_answer(&mut self, method: &str) -> io::Result<Answer> {
        let (answer, body) = self.read_bytes_answer(method).await?;
        Ok(Answer { body: String::from_utf8(body).unwrap(), ..answer })
    }

    async fn read_bytes_answer(&mut self, method: &str) -> io::Result<(Answer, Vec<u8>)> {
        let head = String::from_utf8(self.take_until(b"\r\n\r\n").await?).unwrap();
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let status_line = lines.next().unwrap();
        let status: u16 = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("not a header: {line}")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let answer = Answer { status, headers, body: String::new() };
        let body = if method == "HEAD" || status == 204 || status == 304 {
            Vec::new()
        } else if answer.values("transfer-encoding") == ["chunked"] {
            self.take_chunks().await?
        } else if let Some(length) = answer.values("content-length").first() {
            self.take(length.parse().unwrap()).await?
        } else {
            self.rest().await
        };
        Ok((answer, body))
    }

    async fn take_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.take_until(b"\r\n").await?;
            let size = usize::from_str_radix(String::from_utf8(size).unwrap().trim(), 16).unwrap();
            let chunk = self.take(size + 2).await?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    async fn take_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill().await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// A response. Header names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// All values of a header.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(key, _)| key == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a header that must occur exactly once.
    pub fn value(&self, name: &str) -> &str {
        let values = self.values(name);
        assert_eq!(values.len(), 1, "{name} in {self:?}");
        values[0]
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the status, the exact body with a newline at its end, `Content-Type` and `Content-Length`.
    pub fn assert_json(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.body.as_str()), (status, format!("{body}\n").as_str()), "{self:?}");
        assert_eq!(self.value("content-type"), "application/json");
        assert_eq!(self.value("content-length"), self.body.len().to_string());
        self.json();
    }
}
