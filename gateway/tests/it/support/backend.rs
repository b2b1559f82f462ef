//! A stub backend: it records each request as it was received and responds with the steps of the test's
//! script, whether they are valid HTTP or not.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// In the order and spelling in which they were received.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The number of the connection, from 0.
    pub connection: usize,
    /// The number of the request on its connection, from 0.
    pub place: usize,
}

impl Seen {
    /// All values of a header.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What the stub does after it has read a request. After the last step it reads the next request.
#[derive(Clone, Debug)]
pub enum Step {
    Write(Vec<u8>),
    Wait(Duration),
    /// Waits for a permit from the test, and consumes it.
    WaitFor(Arc<Semaphore>),
    /// Closes the connection with a FIN.
    Close,
    /// Sends a FIN, waits until the gateway closes the connection too, and counts it in [`Backend::closed`].
    CloseIdle,
    /// Closes the connection with an RST.
    Reset,
    /// Sends nothing, waits until the gateway closes the connection, and counts it in [`Backend::abandoned`].
    Hang,
    /// Writes each message of this channel from now on. An empty one closes the connection.
    Follow(broadcast::Sender<Vec<u8>>),
    /// The same from the moment of the subscription, so that none is lost between that and this step.
    FollowFrom(Subscription),
}

/// A subscription of a channel. A clone subscribes when it is made.
#[derive(Debug)]
pub struct Subscription(pub broadcast::Receiver<Vec<u8>>);

impl Clone for Subscription {
    fn clone(&self) -> Self {
        Self(self.0.resubscribe())
    }
}

/// A response with `Content-Length`.
pub fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<Step> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    vec![Step::Write(format!("{text}\r\n{body}").into_bytes())]
}

/// A JSON response with `Content-Length`.
pub fn json_answer(status: &str, body: &str) -> Vec<Step> {
    answer(status, &[("Content-Type", "application/json")], body)
}

type Script = Arc<dyn Fn(&Seen) -> Vec<Step> + Send + Sync>;

struct Shared {
    script: Script,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    /// Connections that the gateway closed during a [`Step::Hang`].
    abandoned: AtomicUsize,
    /// Connections that the gateway closed after a [`Step::CloseIdle`].
    closed: AtomicUsize,
    /// Bytes of responses that the sockets have accepted.
    written: AtomicUsize,
}

impl Shared {
    fn new(script: Script) -> Arc<Self> {
        Arc::new(Self {
            script,
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
        })
    }
}

/// The stub. It runs until [`Backend::stop`] or the end of the test's runtime.
pub struct Backend {
    /// As it is written in the gateway's configuration.
    pub address: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Backend {
    /// A stub on a free port.
    pub async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    /// A stub on this address.
    pub async fn start_at(address: SocketAddr, script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::serve(address, Listener::Tcp(listener), Arc::new(script))
    }

    /// A stub on a free port that speaks TLS. A connection whose handshake fails is closed.
    pub async fn start_tls(
        tls: rustls::ServerConfig,
        script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::serve(address, Listener::Tls(listener, TlsAcceptor::from(Arc::new(tls))), Arc::new(script))
    }

    /// A stub on a Unix socket.
    pub fn start_unix(path: &Path, script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let address = format!("unix:{}", path.display());
        Self::serve(address, Listener::Unix(listener), Arc::new(script))
    }

    fn serve(address: String, listener: Listener, script: Script) -> Self {
        let shared = Shared::new(script);
        let connections = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            // Aborting this task drops the set, which closes the connections.
            let mut open = tokio::task::JoinSet::new();
            loop {
                let handshake = listener.accept().await;
                let number = connections.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&connections);
                open.spawn(async move {
                    if let Some(connection) = handshake.await {
                        serve_connection(connection, number, shared).await;
                    }
                });
            }
        });
        Self { address, shared, accepting }
    }

    /// The address of a backend that the test itself serves.
    pub fn at(address: &str) -> Self {
        let shared = Shared::new(Arc::new(|_| Vec::new()));
        Self { address: address.to_owned(), shared, accepting: tokio::spawn(async {}) }
    }

    /// Closes the listener and all connections.
    pub async fn stop(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    /// The requests received so far, without the gateway's health checks.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The only request received so far.
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// The number of connections that the gateway closed during a [`Step::Hang`].
    pub fn abandoned(&self) -> usize {
        self.shared.abandoned.load(Ordering::SeqCst)
    }

    /// The number of connections that the gateway closed after a [`Step::CloseIdle`].
    pub fn closed(&self) -> usize {
        self.shared.closed.load(Ordering::SeqCst)
    }

    /// The number of bytes of responses that the sockets have accepted.
    pub fn written(&self) -> usize {
        self.shared.written.load(Ordering::SeqCst)
    }

    /// Clears the recorded requests.
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    Tls(TcpListener, TlsAcceptor),
}

impl Listener {
    /// The next connection, once its handshake is complete; `None` if that fails.
    async fn accept(&self) -> BoxFuture<'static, Option<Box<dyn Connection>>> {
        fn ready(connection: impl Connection + 'static) -> BoxFuture<'static, Option<Box<dyn Connection>>> {
            Box::pin(std::future::ready(Some(Box::new(connection) as Box<dyn Connection>)))
        }
        match self {
            Self::Tcp(listener) => ready(listener.accept().await.unwrap().0),
            Self::Unix(listener) => ready(listener.accept().await.unwrap().0),
            Self::Tls(listener, acceptor) => {
                let accepting = acceptor.accept(listener.accept().await.unwrap().0);
                Box::pin(async move { Some(Box::new(accepting.await.ok()?) as Box<dyn Connection>) })
            }
        }
    }
}

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {
    fn reset_on_drop(&self);
}

impl Connection for TcpStream {
    fn reset_on_drop(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Connection for UnixStream {
    fn reset_on_drop(&self) {}
}

impl Connection for TlsStream<TcpStream> {
    fn reset_on_drop(&self) {
        self.get_ref().0.set_zero_linger().unwrap();
    }
}

async fn serve_connection(mut connection: Box<dyn Connection>, number: usize, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    let mut place = 0;
    while let Some(mut seen) = read_request(&mut connection, &mut buffer).await {
        let steps = if seen.target == "/healthz" {
            answer("200 OK", &[], "ok")
        } else {
            (seen.connection, seen.place) = (number, place);
            place += 1;
            shared.seen.lock().unwrap().push(seen.clone());
            (shared.script)(&seen)
        };
        for step in steps {
            match step {
                Step::Write(bytes) => {
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        // In some tests the gateway closes before it has read the response.
                        let Ok(count) = connection.write(rest).await else { return };
                        shared.written.fetch_add(count, Ordering::SeqCst);
                        rest = &rest[count..];
                    }
                }
                Step::Wait(duration) => tokio::time::sleep(duration).await,
                Step::WaitFor(permits) => permits.acquire().await.unwrap().forget(),
                Step::Close => return,
                Step::CloseIdle => {
                    let _ = connection.shutdown().await;
                    while connection.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {}
                    shared.closed.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Step::Reset => return connection.reset_on_drop(),
                Step::Hang => {
                    while connection.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {}
                    shared.abandoned.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Step::Follow(channel) => {
                    if follow(channel.subscribe(), &mut connection).await {
                        return;
                    }
                }
                Step::FollowFrom(Subscription(channel)) => {
                    if follow(channel, &mut connection).await {
                        return;
                    }
                }
            }
        }
    }
}

/// Writes each message until an empty one or the end of the connection, and returns whether that was the end.
async fn follow(mut channel: broadcast::Receiver<Vec<u8>>, connection: &mut Box<dyn Connection>) -> bool {
    while let Ok(bytes) = channel.recv().await {
        if bytes.is_empty() || connection.write_all(&bytes).await.is_err() {
            return true;
        }
    }
    false
}

/// Reads one request; `None` if the connection ends first.
async fn read_request(connection: &mut Box<dyn Connection>, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head = take_until(connection, buffer, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut seen = Seen { method, target, headers, body: Vec::new(), connection: 0, place: 0 };
    if !seen.values("expect").is_empty() {
        connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    if seen.values("transfer-encoding") == ["chunked"] {
        loop {
            let size = take_until(connection, buffer, b"\r\n").await?;
            let size = usize::from_str_radix(String::from_utf8_lossy(&size).trim(), 16).ok()?;
            let chunk = take(connection, buffer, size + 2).await?;
            if size == 0 {
                break;
            }
            seen.body.extend_from_slice(&chunk[..size]);
        }
    } else if let Some(length) = seen.values("content-length").first().and_then(|length| length.parse().ok()) {
        seen.body = take(connection, buffer, length).await?;
    }
    Some(seen)
}

async fn take_until(connection: &mut Box<dyn Connection>, buffer: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = buffer.windows(end.len()).position(|window| window == end) {
            return Some(buffer.drain(..at + end.len()).collect());
        }
        if connection.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn take(connection: &mut Box<dyn Connection>, buffer: &mut Vec<u8>, count: usize) -> Option<Vec<u8>> {
    while buffer.len() < count {
        if connection.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(buffer.drain(..count).collect())
}
