//! One connection, from the handshake to its end.
//!
//! For HTTP/1, each head is read here completely, within its timeout, and inspected before it is parsed:
//! parsers silently repair input that another program may interpret differently.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::cache::Cache;
use http::request::Parts;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::admission::{Admission, Counted};
use super::deadline_timer::DeadlineTimer;
use super::events::{ConnectionReaped, ConnectionRefused, HandshakeFailure, Observe};
use super::handshake::{self, SetupError, failure};
use super::inspect::{InspectHead, Inspected};
use super::proxy;
use super::serving::{CurrentHandler, CurrentServing, Serving};
use super::settings::Settings;
use crate::downstream::http1::Http1Exchange;
use crate::downstream::http2::{Activity, Http2};
use crate::downstream::session::SessionExchange;
use crate::downstream::{Handler, TlsStream};
use crate::drain::Draining;
use crate::tls::Identities;

/// Length of the client connection preface of HTTP/2 (RFC 9113, section 3.4), in bytes.
const PREFACE_BYTES: usize = 24;

/// How long sending the response to a refused request may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// One accepted connection.
pub(super) struct Connection<H> {
    pub(super) identities: Arc<Identities>,
    pub(super) current: CurrentServing<H>,
    /// The one of `current` that was loaded last.
    pub(super) serving: Cache<CurrentServing<H>, Arc<Serving<H>>>,
    pub(super) admission: Arc<Admission>,
    pub(super) draining: Draining,
}

/// The result of reading a head.
enum HeadRead {
    /// A complete head that passed inspection.
    Head,
    /// A complete request without a body.
    Request(Parts),
    /// The request is refused with this response.
    Refused(bytes::Bytes),
    /// The client disconnected or sent no request in time.
    Closed,
}

impl<H: Handler> Connection<H> {
    /// Serves `stream` until it is closed.
    pub(super) async fn run(mut self, stream: TcpStream, peer: SocketAddr, observer: &Arc<dyn Observe>) {
        // Each is boxed, so that a connection reserves memory only for what it does now.
        let established = Box::pin(self.establish(stream, peer, &**observer)).await;
        let Some((stream, _counted)) = established else { return };
        if stream.is_http2() {
            Box::pin(self.serve_http2(stream, &**observer)).await;
        } else {
            Box::pin(self.serve_http1(stream, &**observer)).await;
        }
    }

    /// Reads the PROXY header if one is required, and performs the TLS handshake; one timeout covers both. The
    /// guard counts the connection for the client named by the PROXY header.
    async fn establish(
        &mut self,
        mut stream: TcpStream,
        peer: SocketAddr,
        observer: &dyn Observe,
    ) -> Option<(Box<TlsStream>, Option<Counted>)> {
        // Responses are written in one piece, so Nagle's algorithm would only delay them.
        if stream.set_nodelay(true).is_err() {
            observer.handshake_failed(HandshakeFailure::Disconnected);
            return None;
        }
        let Self { identities, serving, admission, .. } = self;
        let settings = &serving.load().settings;
        let handshake = async {
            let proxied = match settings.proxy_protocol {
                true => read_proxy_header(&mut stream, admission, settings.max_connections_per_address).await?,
                false => None,
            };
            let (stream, identity) = handshake::accept(stream, identities).await?;
            let (client, counted) = proxied.map_or((peer, None), |(client, counted)| (client, Some(counted)));
            let stream = TlsStream::new(stream, client, identity, settings.write_timeout);
            // Boxed, since each future that it is passed to would reserve memory for it.
            Ok((Box::new(stream), counted))
        };
        match timeout(settings.handshake_timeout, handshake).await {
            Ok(Ok((stream, counted))) => {
                observer.handshake_succeeded(stream.peer().tls);
                return Some((stream, counted));
            }
            Ok(Err(SetupError::Handshake(failure))) => observer.handshake_failed(failure),
            Ok(Err(SetupError::Refused(refused))) => observer.refused(refused),
            Ok(Err(SetupError::Validated)) => observer.validated(),
            Err(_) => observer.handshake_failed(HandshakeFailure::Timeout),
        }
        None
    }

    /// Serves concurrent requests until the connection ends.
    async fn serve_http2(&mut self, mut stream: Box<TlsStream>, observer: &dyn Observe) {
        let header_timeout = self.serving.load().settings.header_timeout;
        match timeout(header_timeout, read_preface(&mut stream)).await {
            Ok(Ok(())) => {}
            Err(_) => return observer.reaped(ConnectionReaped::Header),
            Ok(Err(_)) => return,
        }
        let activity = Activity::new();
        stream.watch(Arc::clone(&activity));
        let handler = CurrentHandler(Arc::clone(&self.current));
        // The options and timeouts of a connection are those of its start.
        let serving = Arc::clone(self.serving.load());
        let http2 = Http2 {
            handler: &handler,
            options: &serving.http2,
            activity: &activity,
            on_refused: &|| observer.stream_refused(),
            write_timeout: serving.settings.write_timeout,
            keepalive_timeout: serving.settings.keepalive_timeout,
            draining: self.draining.clone(),
        };
        if http2.serve(stream).await {
            observer.reaped(ConnectionReaped::Keepalive);
        } else if activity.is_flooded() {
            observer.reaped(ConnectionReaped::Flood);
        }
    }

    /// Serves requests one after another.
    async fn serve_http1(&mut self, mut stream: Box<TlsStream>, observer: &dyn Observe) {
        let Self { serving, draining, .. } = self;
        let mut idle = draining.clone();
        let window_ended = pin!(idle.window_ended());
        let mut waiting = BetweenRequests { window_ended, timer: DeadlineTimer::new(), is_first: true };
        loop {
            let first = await_request(&mut stream, &mut waiting, &serving.load().settings, observer).await;
            let Some((began, end)) = first else { return stream.close().await };
            // Loaded only now: the connection may have been idle across a reload.
            let serving: &Serving<H> = serving.load();
            let head = waiting.timer.wait(end, read_head(&mut stream, &*serving.inspector, began)).await;
            match head {
                Some(HeadRead::Head) => {}
                Some(HeadRead::Request(request)) => {
                    let mut exchange = Http1Exchange::new(&mut stream, request, draining);
                    serving.handler.handle(&mut exchange).await;
                    if exchange.is_reusable() {
                        continue;
                    }
                    // After an incomplete response there is no clean close, so that the client can detect the
                    // truncation.
                    if exchange.is_complete() {
                        let _ = stream.shutdown().await;
                    }
                    return;
                }
                Some(HeadRead::Refused(answer)) => return refuse(&mut stream, &answer).await,
                Some(HeadRead::Closed) => return stream.close().await,
                None => {
                    observer.reaped(ConnectionReaped::Header);
                    return stream.close().await;
                }
            }
            // Boxed, so that connections without such requests do not reserve its memory.
            let Some(reused) = Box::pin(serve_session(stream, began, serving, draining)).await else { return };
            stream = reused;
        }
    }
}

/// Serves a request whose head is buffered, and returns the connection if it can be reused.
async fn serve_session<H: Handler>(
    mut stream: Box<TlsStream>,
    began: std::time::Instant,
    serving: &Serving<H>,
    draining: &Draining,
) -> Option<Box<TlsStream>> {
    if draining.has_begun() {
        stream.seal();
    }
    match SessionExchange::parse(stream, draining.clone(), serving.settings.read_timeout).await {
        Ok(mut exchange) => {
            serving.handler.handle(&mut exchange).await;
            exchange.into_stream().await
        }
        Err(stream) => {
            let mut stream = stream?;
            let answer = serving.inspector.rejected_by_parser(stream.peer().address, began);
            refuse(&mut stream, &answer).await;
            None
        }
    }
}

/// Waits for the first byte of a request until the idle timeout or the end of the window of a drain. Returns when it
/// arrived, and the deadline for the complete head; `None` if the connection is to be closed.
async fn await_request<D: Future>(
    stream: &mut TlsStream,
    waiting: &mut BetweenRequests<'_, D>,
    settings: &Settings,
    observer: &dyn Observe,
) -> Option<(std::time::Instant, Instant)> {
    let BetweenRequests { window_ended, timer, is_first } = waiting;
    let is_first = std::mem::replace(is_first, false);
    let mut began = Instant::now();
    let mut end = began + settings.header_timeout;
    if stream.ahead().is_empty() {
        let idle_end = began + settings.keepalive_timeout;
        let (first_end, reason) =
            if is_first { (end, ConnectionReaped::Header) } else { (idle_end, ConnectionReaped::Keepalive) };
        let first = async {
            tokio::select! {
                biased;
                first = stream.read_ahead() => first.is_ok_and(|bytes| !bytes.is_empty()),
                _ = window_ended.as_mut() => false,
            }
        };
        match timer.wait(first_end, first).await {
            Some(true) => {}
            Some(false) => return None,
            None => {
                observer.reaped(reason);
                return None;
            }
        }
        began = Instant::now();
        if !is_first {
            end = began + settings.header_timeout;
        }
    }
    Some((began.into_std(), end))
}

/// Reads the PROXY header and counts the connection for the client it names, which may have `max_connections`; `None`
/// for a connection of the proxy itself.
async fn read_proxy_header(
    stream: &mut TcpStream,
    admission: &Arc<Admission>,
    max_connections: u32,
) -> Result<Option<(SocketAddr, Counted)>, SetupError> {
    let source = proxy::read(stream)
        .await
        .map_err(|error| SetupError::Handshake(failure(&error, HandshakeFailure::ProxyHeader)))?;
    let Some(client) = source else { return Ok(None) };
    let counted = admission.count(client.ip(), max_connections);
    Ok(Some((client, counted.ok_or(SetupError::Refused(ConnectionRefused::PerAddress))?)))
}

/// What ends a connection that waits for a request.
struct BetweenRequests<'a, D> {
    /// Resolves when a drain closes idle connections.
    window_ended: Pin<&'a mut D>,
    timer: DeadlineTimer,
    /// Whether the connection has had no request yet.
    is_first: bool,
}

/// Reads ahead until a head is complete. Its first byte arrived at `began`.
async fn read_head(stream: &mut TlsStream, inspector: &dyn InspectHead, began: std::time::Instant) -> HeadRead {
    let peer = stream.peer().address;
    let mut seen = 0;
    loop {
        // An empty line before a request is ignored (RFC 9112, section 2.2).
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
                    HeadRead::Request(request)
                }
                Ok(Inspected::Head { body, authority }) => {
                    let length = authority.map_or(length, |range| length - stream.remove_authority(range) as u64);
                    // Data after this request belongs to the next one, which is read once this one was
                    // answered.
                    match body {
                        Some(body) => stream.allow(length.saturating_add(body)),
                        None => stream.allow_chunks(length),
                    }
                    HeadRead::Head
                }
                Err(answer) => HeadRead::Refused(answer),
            };
        }
        if ahead.len() > inspector.max_head_bytes() {
            return HeadRead::Refused(inspector.overflow(ahead, peer, began));
        }
        seen = ahead.len();
        match stream.read_ahead().await {
            Ok(bytes) if bytes.len() > seen => {}
            _ => return HeadRead::Closed,
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

/// Sends the response to a refused request and closes the connection.
async fn refuse(stream: &mut TlsStream, answer: &[u8]) {
    let response = async {
        stream.write_all(answer).await?;
        stream.flush().await
    };
    // If the response could not be written, there is nothing to shut down cleanly.
    if let Ok(Ok(())) = timeout(REFUSAL_TIMEOUT, response).await {
        let _ = stream.shutdown().await;
    }
}
