//! One HTTP/2 connection: its requests side by side, in the task of the connection, so that none of
//! them has to wake another.

mod activity;
mod exchange;
mod frames;
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
use tokio::sync::watch;

pub use activity::Activity;
use exchange::Http2Exchange;
use waker::ConnectionWaker;

use crate::downstream::{Handler, Peer, TlsStream};

/// The streams of one connection that may be open at once (RFC 9113, section 5.1.2).
const MAX_STREAMS: u32 = 100;

/// The decoded header section that is let in, so that what is too large gets an answer of ours.
const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// The most streams that a client may have reset before we took them up, of which each costs
/// work for nothing (CVE-2023-44487). Over it the connection ends.
const MAX_PENDING_RESETS: usize = 20;

/// The most streams that a client may have made us reset by breaking the protocol, which ends
/// them for us but not for the backend (CVE-2025-8671). Over it the connection ends; no library
/// that is in use breaks it at all.
const MAX_PROVOKED_RESETS: usize = 32;

/// The streams that we have reset, of which frames are ignored that the client sent before it saw that (RFC 9113,
/// section 5.1): all that may be open, and as many that took their places. A frame of another counts as a broken
/// protocol.
const MAX_REMEMBERED_RESETS: usize = 200;

/// How long they are remembered: a slow network may hold what a window allows for seconds.
const RESET_DURATION: Duration = Duration::from_secs(10);

/// What a client may send of one stream, and of a connection on which nothing is uploaded, before it is read
/// (RFC 9113, section 6.9.2), in bytes. Each upload adds as much to the connection's window, or one that waits
/// for the backend would hold up the others. A window cannot shrink.
const WINDOW_BYTES: u32 = 65_535;

/// What DATA frames that have not been read may cost beside their content, in bytes as h2 counts them: 256 for each
/// frame, less its content. Over it the connection ends with all of its requests, so it has to suffice for clients
/// that write little at a time: for 1,000 frames of any size, and for a full window of those of 64 bytes.
const DATA_FRAME_BYTES: usize = 256 * 1024;

/// What one stream may have waiting to be sent, in bytes, whatever window its client grants.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// The protocol's parameters, for requests whose header section, target and all, may have
/// `header_bytes` in `header_fields` as we count them.
pub fn http2_options(header_bytes: usize, header_fields: usize) -> Builder {
    // RFC 9113, section 6.5.2: each field counts for 32 bytes more than its name and value.
    let needed = header_bytes.saturating_add(header_fields.saturating_mul(32));
    let mut options = Builder::new();
    options
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(needed).unwrap_or(u32::MAX).max(HEADER_LIST_BYTES))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_PROVOKED_RESETS))
        .max_concurrent_reset_streams(MAX_REMEMBERED_RESETS)
        .reset_stream_duration(RESET_DURATION)
        .initial_window_size(WINDOW_BYTES)
        .data_frame_budget(DATA_FRAME_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    options
}

/// What one connection is served with.
pub struct Http2<'a, H> {
    /// Answers the requests.
    pub handler: &'a H,
    /// The parameters of the protocol.
    pub options: &'a Builder,
    /// What the connection does.
    pub activity: &'a Arc<Activity>,
    /// Called for each stream that is refused because there are too many.
    pub on_refused: &'a (dyn Fn() + Sync),
    /// For each piece of an answer that waits for the client's window.
    pub write_timeout: Duration,
    /// How long the connection may stand without a request.
    pub keepalive_timeout: Duration,
    /// When it becomes true, no more requests are taken.
    pub drain: watch::Receiver<bool>,
}

impl<H: Handler> Http2<'_, H> {
    /// Serves a connection until it ends, and its requests until they have. Whether it ended because
    /// none came.
    pub async fn serve(self, stream: TlsStream) -> bool {
        let peer = stream.peer().clone();
        self.serve_on(stream, peer).await
    }

    /// [`Http2::serve`] on any stream, such as one in memory.
    pub async fn serve_on(self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) -> bool {
        let Self { handler, options, activity, on_refused, write_timeout, keepalive_timeout, mut drain } = self;
        let Ok(mut connection) = options.handshake::<_, Bytes>(stream).await else { return false };
        let mut requests = FuturesUnordered::new();
        let mut drained = pin!(drain.wait_for(|drain| *drain));
        let mut is_draining = false;
        let mut idle = pin!(activity.wait_until_idle(keepalive_timeout));
        let mut is_idle = false;
        let mut is_flooded = false;
        let mut most_uploads = 0;
        let connection_waker = Arc::new(ConnectionWaker::default());
        poll_fn(|cx| {
            let waker = connection_waker.register(cx.waker());
            // An error means that the listener is gone: the same as a drain.
            if !is_draining && drained.as_mut().poll(cx).is_ready() {
                is_draining = true;
                connection.graceful_shutdown();
            }
            loop {
                // All that have come before any is worked on; and it is this that writes what they
                // answered.
                while let Poll::Ready(accepted) = connection.poll_accept(&mut Context::from_waker(&waker)) {
                    let Some(Ok((request, mut respond))) = accepted else { return Poll::Ready(()) };
                    let Some(guard) = activity.begin() else {
                        on_refused();
                        respond.send_reset(Reason::REFUSED_STREAM);
                        continue;
                    };
                    let mut exchange =
                        Http2Exchange::new(request, respond, peer.clone(), Arc::clone(activity), write_timeout);
                    requests.push(async move {
                        handler.handle(&mut exchange).await;
                        drop(guard);
                    });
                }
                if !is_flooded && activity.is_flooded() {
                    is_flooded = true;
                    // RFC 9113, section 10.5: it ends all requests, since the client cannot be heard out.
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
                // Once all that has come was taken up.
                if is_idle || idle.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                is_idle = true;
                // Tells which request was the last, so that one that crosses it may be sent again (RFC 9113,
                // section 6.8). A client that does not read it is gone by the stream's write timeout.
                connection.abrupt_shutdown(Reason::NO_ERROR);
            }
        })
        .await;
        // Each hears that its client is gone, and is told of in the log.
        drop(connection);
        while requests.next().await.is_some() {}
        is_idle
    }
}
