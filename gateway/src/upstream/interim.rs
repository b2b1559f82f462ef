//! Interim responses of a backend (RFC 9110, section 15.2): of `103 Early Hints` (RFC 8297) the `Link` fields are passed on to
//! the client, everything else is discarded.

use std::future::{Future, poll_fn};
use std::mem::take;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use http::header::LINK;
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode};

use super::Upstream;
use super::location::PublicAuthority;
use super::references::{self, Rewritten};

/// The maximum number of `Link` fields for one request; further ones are discarded.
const MAX_LINKS: usize = 100;

/// The early hints for one request that the client has not received yet.
#[derive(Debug, Default)]
pub struct EarlyHints(Mutex<Vec<HeaderValue>>);

impl EarlyHints {
    /// Waits for `response` or early hints. Returns the `Link` fields of those received so far, and the response if it
    /// has arrived; without it, `response` may be polled again.
    pub fn or<T>(
        &self,
        mut response: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = (Vec<HeaderValue>, Option<T>)> {
        poll_fn(move |cx| {
            let response = match response.as_mut().poll(cx) {
                Poll::Ready(response) => Some(response),
                Poll::Pending => None,
            };
            let links = take(&mut *lock(&self.0));
            if links.is_empty() && response.is_none() { Poll::Pending } else { Poll::Ready((links, response)) }
        })
    }
}

/// The `Link` fields of early hints for the client: URLs of the service get the public authority.
pub fn hints_for_client(links: Vec<HeaderValue>, upstream: &Upstream, public: &PublicAuthority<'_>) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(links.len());
    for link in links {
        match references::rewrite(&LINK, &link, upstream, public) {
            Rewritten::Unchanged => _ = fields.append(LINK, link),
            Rewritten::Replaced(link) => _ = fields.append(LINK, link),
            Rewritten::Removed => {}
        }
    }
    fields
}

/// What a connection has received for its current request.
#[derive(Debug, Default)]
struct Received {
    /// Whether `links` may have any.
    has_links: AtomicBool,
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    new: Vec<HeaderValue>,
    count: usize,
}

/// The receiver of the interim responses on one connection. It is allocated once for the connection, since few
/// responses have any.
#[derive(Debug)]
pub(super) struct InterimReceiver {
    received: Arc<Received>,
    /// Has hyper call [`Received::note`].
    extensions: Extensions,
}

impl InterimReceiver {
    pub(super) fn new() -> Self {
        let received = Arc::new(Received::default());
        let mut carrier = Request::new(());
        let receiver = Arc::clone(&received);
        hyper::ext::on_informational(&mut carrier, move |interim| receiver.note(interim.status(), interim.headers()));
        Self { received, extensions: take(carrier.extensions_mut()) }
    }

    /// Has `request`, which is sent next, pass its early hints to this receiver.
    pub(super) fn attach<T>(&self, request: &mut Request<T>) {
        request.extensions_mut().clone_from(&self.extensions);
        if self.received.has_links.swap(false, Ordering::Relaxed) {
            *lock(&self.received.links) = Links::default();
        }
    }

    /// Moves the links that were received to `hints`.
    pub(super) fn move_to(&self, hints: &EarlyHints) {
        if self.received.has_links.load(Ordering::Relaxed) {
            lock(&hints.0).append(&mut lock(&self.received.links).new);
        }
    }
}

impl Received {
    fn note(&self, status: StatusCode, headers: &HeaderMap) {
        if status != StatusCode::EARLY_HINTS {
            return;
        }
        let links = &mut *lock(&self.links);
        for link in headers.get_all(LINK).iter().take(MAX_LINKS.saturating_sub(links.count)) {
            links.new.push(link.clone());
            links.count += 1;
            self.has_links.store(true, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(count: usize) -> HeaderMap {
        (0..count).map(|_| (LINK, HeaderValue::from_static("</a>"))).collect()
    }

    #[test]
    fn only_the_links_of_early_hints_are_received_and_their_number_is_bounded() {
        let receiver = InterimReceiver::new();
        let hints = EarlyHints::default();
        for status in [100, 102, 104, 199] {
            receiver.received.note(StatusCode::from_u16(status).unwrap(), &links(1));
        }
        receiver.received.note(StatusCode::EARLY_HINTS, &HeaderMap::new());
        receiver.move_to(&hints);
        assert!(lock(&hints.0).is_empty());
        for expected in [60, MAX_LINKS, MAX_LINKS] {
            receiver.received.note(StatusCode::EARLY_HINTS, &links(60));
            receiver.move_to(&hints);
            assert_eq!(lock(&hints.0).len(), expected);
        }
        // The next request starts without them.
        receiver.attach(&mut Request::new(()));
        let next = EarlyHints::default();
        receiver.move_to(&next);
        assert!(lock(&next.0).is_empty());
        receiver.received.note(StatusCode::EARLY_HINTS, &links(1));
        receiver.move_to(&next);
        assert_eq!(lock(&next.0).len(), 1);
    }
}
