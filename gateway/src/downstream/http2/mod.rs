//! An HTTP/2 connection. Its requests run concurrently within the task of the connection, which avoids wake-ups
//! between tasks.

mod exchange;
mod waker;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::Reason;
use h2::server::Builder;
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::downstream::activity::Activity;
use exchange::Http2Exchange;
use waker::ConnectionWaker;

use crate::downstream::{Handler, Peer, TlsStream};
use crate::drain::Draining;

/// Maximum number of concurrent streams per connection (RFC 9113, section 5.1.2).
const MAX_STREAMS: u32 = 100;

/// Minimum for the accepted size of a decoded header section, in bytes: larger sections than we allow still get
/// a response from the gateway.
const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Maximum number of streams the client may have reset before they were accepted (CVE-2023-44487). Above it,
/// the connection is closed.
const MAX_PENDING_RESETS: usize = 20;

/// Maximum number of streams that the server reset because of protocol errors of the client, which ends them
/// here but not on the backend (CVE-2025-8671). Above it, the connection is closed. Common clients cause no
/// such errors.
const MAX_ERROR_RESETS: usize = 32;

/// Number of reset streams that are remembered, to ignore frames that the client sent before it received the
/// reset (RFC 9113, section 5.1): all concurrent streams, and as many that replaced them. A frame on any other
/// closed stream is a protocol error.
const MAX_REMEMBERED_RESETS: usize = 200;

/// How long reset streams are remembered: on a slow network, frames within the window may arrive seconds later.
const RESET_DURATION: Duration = Duration::from_secs(10);

/// Flow-control window of a stream, and of a connection without uploads, in bytes (RFC 9113, section 6.9.2).
/// Each upload grows the connection window by as much, so that an upload waiting for the backend does not block
/// the others. The window cannot shrink.
const WINDOW_BYTES: u32 = 65_535;

/// Limit for the overhead of unread DATA frames, in bytes as h2 counts them: 256 per frame, less its content.
/// Above it, the connection is closed with all its requests, so the limit must suffice for clients that send
/// small frames: 1,000 frames of any size, or a full window in frames of 64 bytes.
const DATA_FRAME_BYTES: usize = 256 * 1024;

/// Maximum number of response bytes buffered per stream, whatever window the client grants.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Returns the protocol options for header sections of up to `header_bytes`, including the target, in
/// `header_fields` fields.
pub fn http2_options(header_bytes: usize, header_fields: usize) -> Builder {
    // RFC 9113, section 6.5.2: each field counts 32 bytes in addition to its name and value.
    let needed = header_bytes.saturating_add(header_fields.saturating_mul(32));
    let mut options = Builder::new();
    options
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(needed).unwrap_or(u32::MAX).max(HEADER_LIST_BYTES))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .max_concurrent_reset_streams(MAX_REMEMBERED_RESETS)
        .reset_stream_duration(RESET_DURATION)
        .initial_window_size(WINDOW_BYTES)
        .data_frame_budget(DATA_FRAME_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    options
}

/// What is needed to serve one connection.
pub struct Http2<'a, H> {
    /// Handles the requests.
    pub handler: &'a H,
    /// Protocol options.
    pub options: &'a Builder,
    /// The activity of the connection, shared with its stream.
    pub activity: &'a Arc<Activity>,
    /// Called for each stream refused because of too many requests.
    pub on_refused: &'a (dyn Fn() + Sync),
    /// Timeout for each wait for the client's flow-control window.
    pub write_timeout: Duration,
    /// How long the connection may be without a request.
    pub keepalive_timeout: Duration,
    /// Once it has begun, a GOAWAY announces the end, and the connection ends with its last stream.
    pub draining: Draining,
}

impl<H: Handler> Http2<'_, H> {
    /// Serves the connection and its requests until all have ended. Returns whether it was closed because it
    /// was idle.
    pub fn serve(self, stream: Box<TlsStream>) -> impl Future<Output = bool> {
        let peer = stream.peer().clone();
        self.serve_on(stream, peer)
    }

    /// Like [`Http2::serve`], on any stream, such as one in memory.
    pub fn serve_on(self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) -> impl Future<Output = bool> {
        let Self { handler, options, activity, on_refused, write_timeout, keepalive_timeout, mut draining } = self;
        // The memory of what an async function receives would be reserved twice.
        async move {
            // Boxed, since it is as large as the connection that it results in.
            let Ok(mut connection) = Box::pin(options.handshake::<_, Bytes>(stream)).await else { return false };
            let mut requests = FuturesUnordered::new();
            let mut drain_began = pin!(draining.begun());
            let mut is_draining = false;
            let mut idle = pin!(activity.wait_until_idle(keepalive_timeout));
            let mut is_idle = false;
            let mut is_flooded = false;
            let mut most_uploads = 0;
            let connection_waker = Arc::new(ConnectionWaker::default());
            poll_fn(|cx| {
                let waker = connection_waker.register(cx.waker());
                if !is_draining && drain_began.as_mut().poll(cx).is_ready() {
                    is_draining = true;
                    // Two GOAWAY frames, the second after a round trip, so that requests on their way are served (RFC 9113,
                    // section 6.8).
                    connection.graceful_shutdown();
                }
                loop {
                    // Accepts all requests that have arrived before any is polled. This call also writes the
                    // responses.
                    while let Poll::Ready(accepted) = connection.poll_accept(&mut Context::from_waker(&waker)) {
                        let Some(Ok((request, mut respond))) = accepted else { return Poll::Ready(()) };
                        let Some(guard) = activity.begin() else {
                            on_refused();
                            respond.send_reset(Reason::REFUSED_STREAM);
                            continue;
                        };
                        let mut exchange =
                            Http2Exchange::new(request, respond, peer.clone(), Arc::clone(activity), write_timeout);
                        // Boxed, since the set reserves the memory of one more than it has.
                        requests.push(Box::pin(async move {
                            handler.handle(&mut exchange).await;
                            if exchange.has_unread() {
                                // Boxed, since few responses end before their request.
                                Box::pin(exchange.discard_rest()).await;
                            }
                            drop(guard);
                        }));
                    }
                    if !is_flooded && activity.is_flooded() {
                        is_flooded = true;
                        // RFC 9113, section 10.5: this closes all streams, since the input is no longer read.
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                        continue;
                    }
                    connection_waker.hold();
                    while let Poll::Ready(Some(())) = requests.poll_next_unpin(cx) {}
                    let was_woken = connection_waker.release();
                    let uploads = activity.uploads();
                    if uploads > most_uploads {
                        most_uploads = uploads;
                        connection.set_target_window_size(WINDOW_BYTES.saturating_mul(uploads.saturating_add(1)));
                        continue;
                    }
                    if was_woken {
                        continue;
                    }
                    // Only after everything that has arrived was accepted.
                    if is_idle || idle.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    is_idle = true;
                    // The GOAWAY names the last accepted request, so that a client can retry one that crosses it
                    // (RFC 9113, section 6.8). A client that does not read it runs into the write timeout of the
                    // stream.
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                }
            })
            .await;
            // The remaining requests get an error for the closed connection, and are logged.
            drop(connection);
            while requests.next().await.is_some() {}
            is_idle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::Downstream;

    struct NoHandler;

    impl Handler for NoHandler {
        async fn handle(&self, _: &mut impl Downstream) {}
    }

    fn size_of_future<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// 1.3 KB of it are the connection of h2. With the stream in place of a pointer to it, it would be twice as large or
    /// more, since each future that it is passed to reserves memory for it.
    #[test]
    fn a_connection_reserves_little_memory() {
        let size = size_of_future(|(http2, stream): (Http2<'static, NoHandler>, Box<TlsStream>)| http2.serve(stream));
        assert!(size <= 2560, "{size}");
    }
}
