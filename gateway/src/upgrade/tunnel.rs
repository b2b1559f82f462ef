//! The tunnel: bytes in both directions until both have ended, a limit passes or the gateway ends it.
//!
//! Each direction holds what one read returned and reads no more until that was written. While nothing arrives, it holds
//! no buffer.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use crate::downstream::TlsStream;

/// The maximum size of a read from the service, in bytes: what fits into one TLS record.
const PIECE_BYTES: usize = 16 * 1024;

/// How long a tunnel may be idle whose one direction has ended. A peer that has received a Close frame and the end of
/// the stream has no reason to wait.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(30);

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the service.
    ToService,
    /// From the service to the client.
    ToClient,
}

/// The limits of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long no byte may pass in either direction.
    pub idle: Duration,
    /// When the tunnel ends in any case.
    pub end: Option<Instant>,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended<A> {
    /// Both sides have sent everything.
    Closed,
    /// The connection of the client failed, or ended without `close_notify`.
    Client,
    /// The client read nothing within the write timeout.
    ClientSlow,
    /// The connection of the service failed.
    Service,
    /// No byte passed within the idle limit.
    Idle,
    /// The total limit.
    Total,
    /// The gateway ends it, for this reason.
    Over(A),
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Open,
    /// The source has sent everything; the other side is notified.
    Ending,
    Ended,
    /// The service takes no more since its connection has failed. What it sent before may still be read.
    Failed,
}

/// Both directions.
struct Tunnel<'a, S, F> {
    client: &'a mut TlsStream,
    service: &'a mut S,
    to_service: Half,
    to_client: Half,
    passed: F,
}

/// Copies bytes between `client` and `service` until the tunnel ends, and calls `passed` with the number of bytes
/// whenever some have passed. `over` completes when the gateway ends it.
///
/// Neither side is closed cleanly if the tunnel was cut off.
pub async fn carry<A>(
    client: &mut TlsStream,
    service: &mut (impl AsyncRead + AsyncWrite + Unpin),
    limits: Limits,
    over: impl Future<Output = A>,
    passed: impl FnMut(Direction, u64) + Unpin,
) -> Ended<A> {
    let mut tunnel = Tunnel { client, service, to_service: Half::Open, to_client: Half::Open, passed };
    let mut over = pin!(over);
    let mut last = Instant::now();
    let mut timer = pin!(sleep_until(limits.next(last, false)));
    poll_fn(|cx| {
        if let Poll::Ready(reason) = over.as_mut().poll(cx) {
            return Poll::Ready(Ended::Over(reason));
        }
        let mut has_moved = false;
        let to_service = tunnel.poll_to_service(cx, &mut has_moved);
        let to_client = tunnel.poll_to_client(cx, &mut has_moved);
        match (to_service, to_client) {
            (Poll::Ready(Err(ended)), _) | (_, Poll::Ready(Err(ended))) => {
                return Poll::Ready(ended.into_ended(tunnel.is_half_closed()));
            }
            _ => {}
        }
        if (tunnel.to_service, tunnel.to_client) == (Half::Ended, Half::Ended) {
            return Poll::Ready(Ended::Closed);
        }
        if has_moved {
            last = Instant::now();
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if limits.end.is_some_and(|end| end <= now) {
                return Poll::Ready(Ended::Total);
            }
            let next = limits.next(last, tunnel.is_half_closed());
            if next <= now {
                return Poll::Ready(Ended::Idle);
            }
            timer.as_mut().reset(next);
        }
        // The end of one direction brings the limit forward.
        let next = limits.next(last, tunnel.is_half_closed());
        if next < timer.deadline() {
            timer.as_mut().reset(next);
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

impl Limits {
    /// The next deadline of a tunnel on which the `last` byte passed then.
    fn next(&self, last: Instant, is_half_closed: bool) -> Instant {
        let idle = if is_half_closed { self.idle.min(HALF_CLOSED_IDLE) } else { self.idle };
        let next = last + idle;
        self.end.map_or(next, |end| end.min(next))
    }
}

/// Which side failed.
enum Failed {
    Client(io::Error),
    Service,
}

impl Failed {
    /// After one direction has ended, peers often close without a clean end.
    fn into_ended<A>(self, is_half_closed: bool) -> Ended<A> {
        match self {
            Self::Client(error) if error.kind() == io::ErrorKind::TimedOut => Ended::ClientSlow,
            _ if is_half_closed => Ended::Closed,
            Self::Client(_) => Ended::Client,
            Self::Service => Ended::Service,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, F: FnMut(Direction, u64)> Tunnel<'_, S, F> {
    fn is_half_closed(&self) -> bool {
        !matches!(self.to_service, Half::Open | Half::Failed) || self.to_client != Half::Open
    }

    /// Copies from the client until nothing more has arrived or the service takes no more.
    fn poll_to_service(&mut self, cx: &mut Context<'_>, has_moved: &mut bool) -> Poll<Result<(), Failed>> {
        let service_failed = |_| Failed::Service;
        while self.to_service == Half::Open {
            let piece = match self.client.poll_received(cx) {
                Poll::Ready(piece) => piece.map_err(Failed::Client)?,
                Poll::Pending => {
                    ready!(Pin::new(&mut *self.service).poll_flush(cx)).map_err(service_failed)?;
                    return Poll::Pending;
                }
            };
            if piece.is_empty() {
                self.to_service = Half::Ending;
                break;
            }
            let count = match ready!(Pin::new(&mut *self.service).poll_write(cx, piece)) {
                Ok(count) if count > 0 => count,
                // It has ended its direction before, and then closed the connection.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.to_service = Half::Ended;
                    break;
                }
                Ok(_) | Err(_) => {
                    self.to_service = Half::Failed;
                    break;
                }
            };
            self.client.consume_received(count);
            (self.passed)(Direction::ToService, count as u64);
            *has_moved = true;
        }
        if self.to_service == Half::Ending {
            ready!(Pin::new(&mut *self.service).poll_shutdown(cx)).map_err(service_failed)?;
            self.to_service = Half::Ended;
        }
        if self.to_client == Half::Ended {
            let has_failed = self.to_service == Half::Failed;
            return Poll::Ready(if has_failed { Err(Failed::Service) } else { Ok(()) });
        }
        // The client may still read, and shows that it does not by a reset.
        Poll::Ready(Err(Failed::Client(ready!(self.client.poll_reset_of_client(cx)))))
    }

    /// Copies from the service until nothing more has arrived or the client takes no more.
    fn poll_to_client(&mut self, cx: &mut Context<'_>, has_moved: &mut bool) -> Poll<Result<(), Failed>> {
        while self.to_client == Half::Open {
            ready!(self.client.poll_sent(cx)).map_err(Failed::Client)?;
            let mut storage = [const { MaybeUninit::uninit() }; PIECE_BYTES];
            let mut piece = ReadBuf::uninit(&mut storage);
            ready!(Pin::new(&mut *self.service).poll_read(cx, &mut piece)).map_err(|_| Failed::Service)?;
            let piece = piece.filled();
            if piece.is_empty() {
                if self.to_service == Half::Failed {
                    return Poll::Ready(Err(Failed::Service));
                }
                self.to_client = Half::Ending;
                break;
            }
            self.client.send_piece(cx, piece).map_err(Failed::Client)?;
            (self.passed)(Direction::ToClient, piece.len() as u64);
            *has_moved = true;
        }
        if self.to_client == Half::Ending {
            ready!(self.client.poll_end(cx)).map_err(Failed::Client)?;
            self.to_client = Half::Ended;
        }
        Poll::Ready(Ok(()))
    }
}
