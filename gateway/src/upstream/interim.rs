//! Interim responses of a backend (RFC 9110, section 15.2): of `103 Early Hints` (RFC 8297) the `Link` fields are passed
//! on to the client, everything else is discarded.

use std::mem::take;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::header::LINK;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::Upstream;
use super::location::PublicAuthority;
use super::references::{self, Rewritten};

/// The maximum number of `Link` fields for one request; further ones are discarded.
const MAX_LINKS: usize = 100;

/// The limits of an interim head, above which it is no longer watched: those of hyper for a response.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 100;

/// How every interim response of HTTP/1.1 begins.
const INTERIM: &[u8] = b"HTTP/1.1 1";

/// The early hints for one request that the client has not received yet.
#[derive(Debug, Default)]
pub(super) struct EarlyHints(Links);

/// Links, with a mutex that is locked only if there may be any.
#[derive(Debug, Default)]
struct Links {
    are_any: AtomicBool,
    links: Mutex<Vec<HeaderValue>>,
}

impl Links {
    fn add(&self, links: Vec<HeaderValue>) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).extend(links);
        self.are_any.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> Vec<HeaderValue> {
        if !self.are_any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.are_any.store(false, Ordering::Relaxed);
        take(&mut *self.links.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl EarlyHints {
    /// Adds those of `interim`, which was received over HTTP/2. `count` is the number of links for the request so far.
    pub(super) fn add(&self, interim: &Response<()>, count: &mut usize) {
        if interim.status() == StatusCode::EARLY_HINTS {
            let links = interim.headers().get_all(LINK).iter().take(MAX_LINKS.saturating_sub(*count));
            let links: Vec<_> = links.cloned().collect();
            *count += links.len();
            self.0.add(links);
        }
    }

    /// The `Link` fields of those received so far.
    pub(super) fn take(&self) -> Vec<HeaderValue> {
        self.0.take()
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

/// The links that a connection has received for its current request.
#[derive(Debug, Default)]
pub(super) struct ReceivedLinks(Links);

impl ReceivedLinks {
    /// Forgets those of the last request.
    pub(super) fn clear(&self) {
        drop(self.0.take());
    }

    /// Moves them to `hints`.
    pub(super) fn move_to(&self, hints: &EarlyHints) {
        let links = self.0.take();
        if !links.is_empty() {
            hints.0.add(links);
        }
    }
}

/// Watches what is read from a connection for early hints. hyper skips them, and its own callback takes several
/// allocations for every request, while few responses have any.
#[derive(Debug, Default)]
pub(super) struct InterimReader {
    received: Arc<ReceivedLinks>,
    /// Whether the final response may not have begun.
    is_before_response: bool,
    /// The start of a head that is not complete.
    partial: Vec<u8>,
    /// The number of links for the current request.
    count: usize,
}

impl InterimReader {
    /// The links that it finds.
    pub(super) fn received(&self) -> &Arc<ReceivedLinks> {
        &self.received
    }

    /// Notes `bytes`, which were read next; `is_first` if they are the first after a request.
    pub(super) fn read(&mut self, bytes: &[u8], is_first: bool) {
        if is_first {
            self.is_before_response = true;
            self.count = 0;
            self.partial.clear();
        }
        if !self.is_before_response {
            return;
        }
        // Nearly every response begins like this.
        if self.partial.is_empty() && bytes.len() >= INTERIM.len() && !bytes.starts_with(INTERIM) {
            self.is_before_response = false;
            self.partial = Vec::new();
            return;
        }
        self.partial.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(length) = self.next_head(start) {
            start += length;
        }
        self.partial.drain(..start);
        if !self.is_before_response {
            self.partial = Vec::new();
        }
    }

    /// Notes the interim response at `start` if its head is complete, and returns its length.
    fn next_head(&mut self, start: usize) -> Option<usize> {
        let rest = self.partial.get(start..).unwrap_or_default();
        let beginning = rest.get(..INTERIM.len()).unwrap_or(rest);
        if !INTERIM.starts_with(beginning) {
            self.is_before_response = false;
            return None;
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(rest) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if rest.len() <= MAX_HEAD_BYTES => return None,
            Ok(httparse::Status::Partial) | Err(_) => {
                self.is_before_response = false;
                return None;
            }
        };
        if head.code == Some(StatusCode::EARLY_HINTS.as_u16()) {
            let links = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(LINK.as_str()));
            let links = links.filter_map(|field| HeaderValue::from_bytes(field.value).ok());
            let links: Vec<_> = links.take(MAX_LINKS.saturating_sub(self.count)).collect();
            if !links.is_empty() {
                self.count += links.len();
                self.received.0.add(links);
            }
        }
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nX-Other: 1\r\nLink: </b>\r\n\r\n";
    const FINAL: &str = "HTTP/1.1 200 OK\r\nLink: </final>\r\n\r\n";

    fn taken(reader: &InterimReader) -> Vec<HeaderValue> {
        let hints = EarlyHints::default();
        reader.received().move_to(&hints);
        hints.0.take()
    }

    #[test]
    fn the_limit_of_a_head_is_not_one_of_what_is_read_at_once() {
        let noise = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD_BYTES / 10);
        let mut reader = InterimReader::default();
        reader.read(format!("{HINTS}{noise}").as_bytes(), true);
        assert_eq!(taken(&reader), ["</a>", "</b>"]);
        assert!(reader.is_before_response && reader.partial.is_empty());
        reader.read(b"HTTP/1.1 103 Early Hints\r\nX: ", false);
        reader.read(&[b'x'; MAX_HEAD_BYTES], false);
        assert!(!reader.is_before_response && reader.partial.capacity() == 0);
    }

    #[test]
    fn the_links_of_early_hints_are_found_however_they_are_split() {
        let whole = format!("HTTP/1.1 100 Continue\r\nLink: </no>\r\n\r\n{HINTS}{FINAL}{HINTS}");
        for split in 0..whole.len() {
            for size in [1, 7, whole.len()] {
                let mut reader = InterimReader::default();
                let (first, second) = whole.as_bytes().split_at(split);
                let pieces = first.chunks(size).chain(second.chunks(size));
                for (number, piece) in pieces.enumerate() {
                    reader.read(piece, number == 0);
                }
                assert_eq!(taken(&reader), ["</a>", "</b>"], "{split} {size}");
                assert!(!reader.is_before_response && reader.partial.capacity() == 0);
            }
        }
    }

    #[test]
    fn only_the_links_of_early_hints_are_received_and_their_number_is_bounded() {
        let mut reader = InterimReader::default();
        for text in [
            "HTTP/1.1 100 Continue\r\nLink: </a>\r\n\r\n",
            "HTTP/1.1 102 Processing\r\nLink: </a>\r\n\r\n",
            "HTTP/1.1 104 Other\r\nLink: </a>\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nX-Link: </a>\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\n",
            "HTTP/1.1 1x3 Early Hints\r\nLink: </a>\r\n\r\n",
            FINAL,
        ] {
            reader.read(text.as_bytes(), true);
            assert!(taken(&reader).is_empty(), "{text}");
        }
        reader.read(b"", true);
        for expected in [60, MAX_LINKS - 60, 0] {
            let links = "Link: </a>\r\n".repeat(60);
            reader.read(format!("HTTP/1.1 103 Early Hints\r\n{links}\r\n").as_bytes(), false);
            assert_eq!(taken(&reader).len(), expected);
        }
        // The next request starts without them.
        reader.read(HINTS.as_bytes(), true);
        reader.received().clear();
        assert!(taken(&reader).is_empty());
        reader.read(HINTS.as_bytes(), true);
        assert_eq!(taken(&reader).len(), 2);
    }

    #[test]
    fn a_head_without_an_end_is_bounded() {
        let mut reader = InterimReader::default();
        reader.read(b"HTTP/1.1 103 Early Hints\r\nX-A: ", true);
        for _ in 0..MAX_HEAD_BYTES / 1024 {
            reader.read(&[b'a'; 1024], false);
        }
        assert!(!reader.is_before_response && reader.partial.capacity() == 0);
    }
}
