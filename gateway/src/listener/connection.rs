//! One connection, from its handshake to its end.
//!
//! On HTTP/1 each head is read here, whole and within its deadline, and looked at before
//! anything is made of it: by then a parser has mended what two programs may read differently.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_rustls::{LazyConfigAcceptor, server};

use super::admission::{Admission, Counted};
use super::deadline_timer::DeadlineTimer;
use super::events::{ConnectionReaped, ConnectionRefused, HandshakeFailure, Observe};
use super::inspect::{InspectHead, Inspected};
use super::proxy;
use super::settings::Settings;
use crate::downstream::http1::Http1Exchange;
use crate::downstream::http2::{Activity, Http2};
use crate::downstream::session::SessionExchange;
use crate::downstream::{Handler, TlsStream};
use crate::tls::{Identities, Identity};

/// What a client of HTTP/2 sends first (RFC 9113, section 3.4), in bytes.
const PREFACE_BYTES: usize = 24;

/// How long a client that was refused may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// One accepted connection.
pub(super) struct Connection<H> {
    pub(super) identities: Arc<Identities>,
    pub(super) handler: Arc<H>,
    pub(super) inspector: Arc<dyn InspectHead>,
    pub(super) http2: h2::server::Builder,
    pub(super) admission: Arc<Admission>,
    pub(super) settings: Arc<Settings>,
    pub(super) drain: watch::Receiver<bool>,
}

/// How a connection ended before its first request.
enum End {
    Failed(HandshakeFailure),
    Refused(ConnectionRefused),
}

/// What was read of a head.
enum Read {
    /// All of it, and it passes; its first byte arrived at `began`.
    Head { began: std::time::Instant },
    /// All of a request that needs no more than its head.
    Request(Parts),
    /// It is refused, by this answer.
    Refused(bytes::Bytes),
    /// The client left, or sent nothing in time.
    Gone,
}

impl<H: Handler> Connection<H> {
    /// Serves `stream` until it ends.
    pub(super) async fn run(mut self, stream: TcpStream, peer: SocketAddr, observer: &Arc<dyn Observe>) {
        let Some((mut stream, _counted)) = self.shake_hands(stream, peer, &**observer).await else { return };
        if stream.is_http2() {
            let preface = timeout(self.settings.header_timeout, read_preface(&mut stream));
            let preface = tokio::select! {
                preface = preface => Some(preface),
                _ = self.drain.wait_for(|drain| *drain) => None,
            };
            match preface {
                // In a box, so that connections of HTTP/1.1 have no room for what these need.
                Some(Ok(Ok(()))) => Box::pin(self.serve_http2(stream, &**observer)).await,
                Some(Err(_)) => observer.reaped(ConnectionReaped::Header),
                Some(Ok(Err(_))) | None => {}
            }
        } else {
            self.serve_http1(Box::new(stream), &**observer).await;
        }
    }

    /// Hears whose the connection is, where a proxy has to tell, and does the TLS handshake:
    /// both within one deadline. The guard counts the connection for whom the proxy told.
    async fn shake_hands(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        observer: &dyn Observe,
    ) -> Option<(TlsStream, Option<Counted>)> {
        // Answers leave in one piece; waiting for more to send would only delay them.
        if stream.set_nodelay(true).is_err() {
            observer.handshake_failed(HandshakeFailure::Disconnected);
            return None;
        }
        let handshake = async {
            let told = if self.settings.proxy_protocol { self.hear_proxy(&mut stream).await? } else { None };
            let accept = accept(stream, &self.identities).await;
            let (stream, identity) =
                accept.map_err(|error| End::Failed(failure(&error, HandshakeFailure::Protocol)))?;
            let (client, counted) = told.map_or((peer, None), |(client, counted)| (client, Some(counted)));
            let stream = TlsStream::new(stream, client, identity, self.settings.write_timeout);
            Ok((stream, counted))
        };
        match timeout(self.settings.handshake_timeout, handshake).await {
            Ok(Ok((stream, counted))) => {
                observer.handshake_succeeded(stream.peer().tls);
                return Some((stream, counted));
            }
            Ok(Err(End::Failed(failure))) => observer.handshake_failed(failure),
            Ok(Err(End::Refused(refused))) => observer.refused(refused),
            Err(_) => observer.handshake_failed(HandshakeFailure::Timeout),
        }
        None
    }

    /// Whose a proxy says the connection is, counted for that client; `None` where it is the
    /// proxy's own.
    async fn hear_proxy(&self, stream: &mut TcpStream) -> Result<Option<(SocketAddr, Counted)>, End> {
        let told =
            proxy::read(stream).await.map_err(|error| End::Failed(failure(&error, HandshakeFailure::ProxyHeader)))?;
        let Some(client) = told else { return Ok(None) };
        let counted = self.admission.count(client.ip()).ok_or(End::Refused(ConnectionRefused::PerAddress))?;
        Ok(Some((client, counted)))
    }

    /// Requests side by side, as long as some come.
    async fn serve_http2(&self, mut stream: TlsStream, observer: &dyn Observe) {
        let activity = Activity::new();
        stream.watch(Arc::clone(&activity));
        let http2 = Http2 {
            handler: &*self.handler,
            options: &self.http2,
            activity: &activity,
            on_refused: &|| observer.stream_refused(),
            write_timeout: self.settings.write_timeout,
            keepalive_timeout: self.settings.keepalive_timeout,
            drain: self.drain.clone(),
        };
        if http2.serve(stream).await {
            observer.reaped(ConnectionReaped::Keepalive);
        } else if activity.is_flooded() {
            observer.reaped(ConnectionReaped::Flood);
        }
    }

    /// One request after the other, with the head of each read first.
    async fn serve_http1(&self, mut stream: Box<TlsStream>, observer: &dyn Observe) {
        let mut drain = self.drain.clone();
        // An error means that the listener is gone: the same as a drain.
        let drained = pin!(drain.wait_for(|drain| *drain));
        let mut waiting = BetweenRequests { drained, timer: DeadlineTimer::new(), is_first: true };
        loop {
            let began = match self.await_head(&mut stream, &mut waiting, observer).await {
                Read::Head { began } => began,
                Read::Request(request) => {
                    let mut exchange = Http1Exchange::new(&mut stream, request, &self.drain);
                    self.handler.handle(&mut exchange).await;
                    if exchange.is_reusable() {
                        continue;
                    }
                    // Where a response broke off, nothing may make it look complete.
                    if exchange.is_complete() {
                        let _ = stream.shutdown().await;
                    }
                    return;
                }
                Read::Refused(answer) => return refuse(&mut stream, &answer).await,
                Read::Gone => return stream.close().await,
            };
            // In a box, so that connections which never send such a request do not reserve its memory.
            let Some(reused) = Box::pin(self.serve_session(stream, began)).await else { return };
            stream = reused;
        }
    }

    /// Serves a request whose head is buffered, and returns the connection where another may follow.
    async fn serve_session(&self, mut stream: Box<TlsStream>, began: std::time::Instant) -> Option<Box<TlsStream>> {
        if *self.drain.borrow() {
            stream.seal();
        }
        match SessionExchange::parse(stream, self.drain.clone(), self.settings.read_timeout).await {
            Ok(mut exchange) => {
                self.handler.handle(&mut exchange).await;
                exchange.into_stream().await
            }
            Err(stream) => {
                let mut stream = stream?;
                let answer = self.inspector.unparsed(stream.peer().address, began);
                refuse(&mut stream, &answer).await;
                None
            }
        }
    }

    /// Waits for a request as long as the connection may be idle, or until a drain begins,
    /// and then for its head.
    async fn await_head<D: Future>(
        &self,
        stream: &mut TlsStream,
        waiting: &mut BetweenRequests<'_, D>,
        observer: &dyn Observe,
    ) -> Read {
        let BetweenRequests { drained, timer, is_first } = waiting;
        let is_first = std::mem::replace(is_first, false);
        let mut began = Instant::now();
        let mut end = began + self.settings.header_timeout;
        if stream.ahead().is_empty() {
            let idle_end = began + self.settings.keepalive_timeout;
            let (first_end, reason) =
                if is_first { (end, ConnectionReaped::Header) } else { (idle_end, ConnectionReaped::Keepalive) };
            let first = async {
                tokio::select! {
                    biased;
                    first = stream.read_ahead() => first.is_ok_and(|bytes| !bytes.is_empty()),
                    _ = drained.as_mut() => false,
                }
            };
            match timer.wait(first_end, first).await {
                Some(true) => {}
                Some(false) => return Read::Gone,
                None => {
                    observer.reaped(reason);
                    return Read::Gone;
                }
            }
            began = Instant::now();
            if !is_first {
                end = began + self.settings.header_timeout;
            }
        }
        let head = timer.wait(end, read_head(stream, &*self.inspector, began.into_std())).await;
        head.unwrap_or_else(|| {
            observer.reaped(ConnectionReaped::Header);
            Read::Gone
        })
    }
}

/// By what a connection ends that waits for a request.
struct BetweenRequests<'a, D> {
    /// Resolves when a drain begins.
    drained: Pin<&'a mut D>,
    timer: DeadlineTimer,
    /// Whether no request has come yet.
    is_first: bool,
}

/// Shakes hands by the certificate that the client asks for.
async fn accept(
    stream: TcpStream,
    identities: &Identities,
) -> io::Result<(server::TlsStream<TcpStream>, Arc<Identity>)> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let served = identities.choose(start.client_hello().server_name());
    let served = served.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no certificate"))?;
    let stream = start.into_stream(served.config).await?;
    Ok((stream, served.identity))
}

/// The failure behind an error: `odd` where the client sent something wrong.
fn failure(error: &io::Error, odd: HandshakeFailure) -> HandshakeFailure {
    if error.kind() == io::ErrorKind::InvalidData { odd } else { HandshakeFailure::Disconnected }
}

/// Reads ahead until a head has ended, which began at `began`.
async fn read_head(stream: &mut TlsStream, inspector: &dyn InspectHead, began: std::time::Instant) -> Read {
    let peer = stream.peer().address;
    let mut seen = 0;
    loop {
        // A robust server ignores an empty line before a request (RFC 9112, section 2.2).
        if seen <= 2 && stream.ahead().starts_with(b"\r\n") {
            stream.skip_ahead(2);
            seen = 0;
        }
        let ahead = stream.ahead();
        if let Some(head) = inspector.end(ahead, seen).and_then(|end| ahead.get(..end)) {
            let length = head.len() as u64;
            return match inspector.inspect(head, peer, began) {
                Ok(Inspected::Request(request)) => {
                    let length = head.len();
                    stream.skip_ahead(length);
                    stream.allow(0);
                    Read::Request(request)
                }
                Ok(Inspected::Head { body, left_out }) => {
                    let length = left_out.map_or(length, |range| length - stream.remove_authority(range) as u64);
                    // What follows the request is the next one, which is read when this one
                    // has been answered.
                    match body {
                        Some(body) => stream.allow(length.saturating_add(body)),
                        None => stream.allow_chunks(length),
                    }
                    Read::Head { began }
                }
                Err(answer) => Read::Refused(answer),
            };
        }
        if ahead.len() > inspector.max_head_bytes() {
            return Read::Refused(inspector.overflow(ahead, peer, began));
        }
        seen = ahead.len();
        match stream.read_ahead().await {
            Ok(bytes) if bytes.len() > seen => {}
            _ => return Read::Gone,
        }
    }
}

async fn read_preface(stream: &mut TlsStream) -> io::Result<()> {
    while stream.ahead().len() < PREFACE_BYTES {
        let before = stream.ahead().len();
        if stream.read_ahead().await?.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Tells why, and closes.
async fn refuse(stream: &mut TlsStream, answer: &[u8]) {
    let told = async {
        stream.write_all(answer).await?;
        stream.flush().await
    };
    // Whether the client heard it makes no difference to what follows.
    if let Ok(Ok(())) = timeout(REFUSAL_TIMEOUT, told).await {
        let _ = stream.shutdown().await;
    }
}
