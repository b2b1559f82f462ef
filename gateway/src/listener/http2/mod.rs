//! One HTTP/2 connection: its requests side by side, in the task of the connection, so that none of
//! them has to wake another.

mod activity;
mod exchange;
mod frames;
mod waker;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::Reason;
use h2::server::Builder;
use tokio::sync::watch;

pub(super) use activity::Activity;
use exchange::Exchange;
use waker::ConnectionWaker;

use crate::listener::{App, Identity, Observe, TlsStream};

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
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    options
}

/// Who is at the other end of a connection, and what it was shown.
#[derive(Clone)]
struct Client {
    peer: SocketAddr,
    identity: Arc<Identity>,
    tls: &'static str,
}

/// What one connection is served with.
pub(super) struct Http2<'a, A> {
    pub(super) app: &'a A,
    pub(super) options: &'a Builder,
    pub(super) activity: &'a Arc<Activity>,
    pub(super) observer: &'a dyn Observe,
    /// For each piece of an answer that waits for the client's window.
    pub(super) write_timeout: Duration,
    /// How long the connection may stand without a request.
    pub(super) keepalive_timeout: Duration,
    /// When it becomes true, no more requests are taken.
    pub(super) drain: watch::Receiver<bool>,
}

impl<A: App> Http2<'_, A> {
    /// Serves a connection until it ends, and its requests until they have. Whether it ended because
    /// none came.
    pub(super) async fn serve(self, stream: TlsStream) -> bool {
        let Self { app, options, activity, observer, write_timeout, keepalive_timeout, mut drain } = self;
        let client = Client { peer: stream.peer(), identity: Arc::clone(stream.identity()), tls: stream.version() };
        let Ok(mut connection) = options.handshake::<_, Bytes>(stream).await else { return false };
        let mut requests = FuturesUnordered::new();
        let mut drained = pin!(drain.wait_for(|drain| *drain));
        let mut is_draining = false;
        let mut idle = pin!(activity.wait_until_idle(keepalive_timeout));
        let mut is_idle = false;
        let mut is_flooded = false;
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
                        observer.stream_refused();
                        respond.send_reset(Reason::REFUSED_STREAM);
                        continue;
                    };
                    let mut exchange = Exchange::new(request, respond, client.clone(), write_timeout);
                    requests.push(async move {
                        app.answer(&mut exchange).await;
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
                if connection_waker.release() {
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
