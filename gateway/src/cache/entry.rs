//! An answer that is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use super::generation::Generation;
use super::policy::{self, Lifetime, Standing, Validators};
use crate::downstream::http1::put_status;
use crate::upstream::{self, Public, Upstream};

/// An answer of the backend, as clients get it. Its body is shared by all who send it.
#[derive(Debug)]
pub struct Entry {
    /// What the backend said of it, as far as it may be kept: a `304` brings it up to date.
    stored: HeaderMap,
    /// What clients are told.
    header: ResponseHeader,
    /// The same as HTTP/1.1 writes it.
    wire: Box<[u8]>,
    body: Bytes,
    validators: Validators,
    lifetime: Lifetime,
    arrived: Instant,
    generation: Generation,
    /// Before this moment the backend is not asked again; in milliseconds after `arrived`.
    retry_after: AtomicU64,
}

/// For an answer that may not be kept.
const NO_LIFETIME: Lifetime = Lifetime {
    fresh: Duration::ZERO,
    while_revalidate: Duration::ZERO,
    if_error: Duration::ZERO,
    initial_age: Duration::ZERO,
};

/// When an answer came, and what it was asked under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) at: Instant,
    pub(super) generation: Generation,
}

impl Entry {
    /// The answer with `status`, `headers` and `body`, for as long as `lifetime` says. What is kept
    /// for nobody else (no lifetime) has all its headers, cookies too.
    ///
    /// # Errors
    /// None that an answer of HTTP could cause.
    pub(super) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
        lifetime: Option<Lifetime>,
        arrived: Arrived,
        (upstream, public): (&Upstream, &Public<'_>),
    ) -> pingora::Result<Self> {
        let stored = if lifetime.is_some() { own(&policy::kept(headers)) } else { headers.clone() };
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = stored;
        let (parts, ()) = response.into_parts();
        let mut header = upstream::for_client(&parts, upstream, public);
        // However the backend told it: the body is here.
        if status != StatusCode::NO_CONTENT {
            header.insert_header(CONTENT_LENGTH, body.len())?;
        }
        let mut wire = Vec::new();
        put_status(&mut wire, status);
        header.header_to_h1_wire(&mut wire);
        let validators = Validators::of(status, &parts.headers);
        let Arrived { at, generation } = arrived;
        Ok(Self {
            stored: parts.headers,
            header,
            wire: wire.into_boxed_slice(),
            body,
            validators,
            lifetime: lifetime.unwrap_or(NO_LIFETIME),
            arrived: at,
            generation,
            retry_after: AtomicU64::new(0),
        })
    }

    /// What clients are told of it: status and headers, those of the edge not among them.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Whether it sets a cookie, which is one user's own.
    pub(super) fn sets_cookie(&self) -> bool {
        self.stored.contains_key(SET_COOKIE)
    }

    /// The same as HTTP/1.1 writes it: the status line and the fields, without the empty line.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The whole body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// By what it is told from others.
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// The value of `Age` at `now`, in seconds (RFC 9111, section 5.1).
    pub fn age(&self, now: Instant) -> u32 {
        self.lifetime.age(now.saturating_duration_since(self.arrived))
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        self.lifetime.standing(now.saturating_duration_since(self.arrived))
    }

    pub(super) fn stored(&self) -> &HeaderMap {
        &self.stored
    }

    pub(super) fn status(&self) -> StatusCode {
        self.header.status
    }

    pub(super) fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Notes that the backend failed at `now`: it is left in peace for `pause`.
    pub(super) fn pause(&self, now: Instant, pause: Duration) {
        let until = now.saturating_duration_since(self.arrived).saturating_add(pause);
        self.retry_after.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether the backend failed just now.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        let after = now.saturating_duration_since(self.arrived).as_millis();
        after < u128::from(self.retry_after.load(Ordering::Relaxed))
    }

    /// How much memory it takes, in bytes; not less than that.
    pub(super) fn size(&self) -> usize {
        // A field stands in two places: in what is stored and in what clients are told. A slot of a table
        // of headers takes 104 bytes, and tables are up to a third empty.
        const FIELD: usize = 320;
        let fields: usize =
            self.stored.iter().map(|(name, value)| FIELD + 2 * (name.as_str().len() + value.len())).sum();
        self.body.len() + self.wire.len() + fields + 2 * FIELD + size_of::<Self>()
    }
}

/// The same fields in memory of their own. As they came they are slices of what was read from
/// the connection, all of which would be kept with them.
fn own(headers: &HeaderMap) -> HeaderMap {
    let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes());
    headers.iter().filter_map(|(name, value)| Some((name.clone(), copy(value).ok()?))).collect()
}
