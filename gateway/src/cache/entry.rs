//! A response in the form in which it is stored and sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use super::forms::{Bodies, Form, Forms, Representation, distinguish_head, serialized};
use super::generation::Generation;
use super::policy::{self, Freshness, Lifetime, Validators};
use crate::compress::{self, Encoding};
use crate::upstream::{self, PublicAuthority, Upstream};

/// A response of the backend in the form in which clients get it. All connections that send it share its body.
#[derive(Debug)]
pub struct CacheEntry {
    /// The fields from the backend that may be stored. A `304` updates them.
    stored: HeaderMap,
    /// The head for clients.
    header: ResponseHeader,
    /// The head, serialized for HTTP/1.1.
    wire: Box<[u8]>,
    body: Bytes,
    /// The compressed forms, if it may be compressed.
    forms: Option<Box<Forms>>,
    /// Whether clients may have compressed forms of an earlier response with the same tag.
    has_forms: bool,
    validators: Validators,
    lifetime: Lifetime,
    received: Instant,
    generation: Generation,
    /// The backend is not queried before this time, in milliseconds after `received`; 0 if no fetch has failed.
    retry_after: AtomicU64,
    /// When the last fetch that may replace it began, in milliseconds after `received`.
    fetch_began: AtomicU64,
}

/// The longest wait for a fetch after one that failed: enough for a backend that works again.
const WAIT_AFTER_FAILURE: Duration = Duration::from_millis(250);

/// The lifetime of a response that must not be stored.
const NO_LIFETIME: Lifetime = Lifetime {
    fresh: Duration::ZERO,
    while_revalidate: Duration::ZERO,
    if_error: Duration::ZERO,
    initial_age: Duration::ZERO,
};

/// Whether clients may get compressed forms of a response.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compression<'a> {
    /// The route does not compress.
    Off,
    /// The route compresses. If the body is that of an earlier entry, it is that one.
    On(Option<&'a CacheEntry>),
}

/// When a response was received, and the generation in which it was requested.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) at: Instant,
    pub(super) generation: Generation,
}

impl CacheEntry {
    /// Builds the response from `status`, `headers` and `body`. Without a `lifetime` it is not stored, and has all
    /// fields including cookies.
    ///
    /// # Errors
    /// A field cannot be serialized.
    pub(super) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
        lifetime: Option<Lifetime>,
        received: Received,
        compression: Compression<'_>,
        (upstream, public): (&Upstream, &PublicAuthority<'_>),
    ) -> pingora::Result<Self> {
        let stored = if lifetime.is_some() { copy_fields(&policy::storable_fields(headers)) } else { headers.clone() };
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = stored;
        let (parts, ()) = response.into_parts();
        let mut header = upstream::for_client(&parts, upstream, public);
        if lifetime.is_some() {
            // Added to each response, with its age at that moment.
            let _ = header.remove_header(&AGE);
        }
        // The body is complete, whatever framing the backend used.
        if status != StatusCode::NO_CONTENT {
            header.insert_header(CONTENT_LENGTH, body.len())?;
        }
        let mut forms = None;
        if let Compression::On(previous) = compression {
            distinguish_head(&mut header, &parts.headers)?;
            if body.len() >= compress::MIN_BYTES && compress::is_compressible(status, &parts.headers) {
                let bodies = previous.and_then(CacheEntry::bodies).cloned().unwrap_or_default();
                forms = Some(Box::new(Forms::of(bodies)));
            }
        }
        let wire = serialized(&header);
        let has_forms = matches!(compression, Compression::On(_));
        let validators = Validators::of_forms(status, &parts.headers, has_forms);
        let Received { at, generation } = received;
        Ok(Self {
            stored: parts.headers,
            header,
            wire,
            body,
            forms,
            has_forms,
            validators,
            lifetime: lifetime.unwrap_or(NO_LIFETIME),
            received: at,
            generation,
            retry_after: AtomicU64::new(0),
            fetch_began: AtomicU64::new(0),
        })
    }

    /// The head for clients, without the fields that the gateway adds.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Whether it sets a cookie, which belongs to one user.
    pub(super) fn sets_cookie(&self) -> bool {
        self.stored.contains_key(SET_COOKIE)
    }

    /// The complete body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether clients that accept `encoding` get it in that form: it may be compressed, and that makes it smaller as
    /// far as known.
    pub fn can_be_encoded(&self, encoding: Encoding) -> bool {
        let forms = self.forms.as_ref();
        forms.is_some_and(|forms| forms.body(encoding).is_none_or(Option::is_some))
    }

    /// The response in `form`. A compressed body that was not made, or is not smaller, is replaced by the stored one.
    pub fn representation(&self, form: Form) -> Representation<'_> {
        let stored = Representation { header: &self.header, wire: &self.wire, body: &self.body };
        let Some(forms) = self.forms.as_ref().filter(|_| form != Form::Stored) else { return stored };
        let encoded = match form {
            Form::Encoded(encoding) => forms.encoded(encoding, &self.header, &self.stored),
            Form::Stored | Form::Identity => None,
        };
        encoded.or_else(|| forms.identity(&self.header, &self.body)).unwrap_or(stored)
    }

    /// Whether compression by `encoding` has ended, or is not allowed.
    pub fn is_encoded(&self, encoding: Encoding) -> bool {
        self.forms.as_ref().is_none_or(|forms| forms.body(encoding).is_some())
    }

    /// The `ETag` of a `304` in place of `form` for a client with the fields `request`, if it differs from that in the
    /// stored head.
    pub fn not_modified_tag(&self, request: &HeaderMap, form: Form) -> Option<HeaderValue> {
        let preferred = match form {
            Form::Encoded(encoding) => Some(encoding),
            Form::Stored | Form::Identity => None,
        };
        if self.has_forms { compress::not_modified_tag(request, &self.stored, preferred) } else { None }
    }

    /// The compressed bodies, which all entries with the same body share.
    pub(super) fn bodies(&self) -> Option<&Arc<Bodies>> {
        self.forms.as_ref().map(|forms| &forms.bodies)
    }

    /// The memory of the compressed forms that exist, in bytes. It grows when one is made.
    pub(super) fn forms_size(&self) -> usize {
        self.forms.as_ref().map(|forms| forms.size(self.head_size())).unwrap_or_default()
    }

    /// An upper bound of the memory of the head of a form.
    fn head_size(&self) -> usize {
        // The fields that a form adds have short values.
        const ADDED: usize = 64;
        self.wire.len() + ADDED + self.fields_size() / 2
    }

    /// The validators for conditional requests.
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// The value of `Age` at `now`, in seconds (RFC 9111, section 5.1).
    pub fn age(&self, now: Instant) -> u32 {
        self.lifetime.age(now.saturating_duration_since(self.received))
    }

    pub(super) fn freshness(&self, now: Instant) -> Freshness {
        self.lifetime.freshness(now.saturating_duration_since(self.received))
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

    /// Records a failure of the backend at `now`: it is not queried again for `pause`.
    pub(super) fn pause_retries(&self, now: Instant, pause: Duration) {
        let until = now.saturating_duration_since(self.received).saturating_add(pause);
        self.retry_after.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long a request at `now` waits for the fetch in progress before it gets this stale response: until
    /// `wait_timeout` after the fetch began, which it does now if `begins`. Otherwise each request would wait as long
    /// for a backend that hangs as the first one. After a failed fetch, the wait is short.
    pub(super) fn remaining_wait(&self, now: Instant, begins: bool, wait_timeout: Duration) -> Duration {
        let after = u64::try_from(now.saturating_duration_since(self.received).as_millis()).unwrap_or(u64::MAX);
        if begins {
            self.fetch_began.store(after, Ordering::Relaxed);
        }
        let has_failed = self.retry_after.load(Ordering::Relaxed) > 0;
        let longest = if has_failed { wait_timeout.min(WAIT_AFTER_FAILURE) } else { wait_timeout };
        let waited = after.saturating_sub(self.fetch_began.load(Ordering::Relaxed));
        longest.saturating_sub(Duration::from_millis(waited))
    }

    /// Whether the backend failed within that time before `now`.
    pub(super) fn is_retry_paused(&self, now: Instant) -> bool {
        let after = now.saturating_duration_since(self.received).as_millis();
        after < u128::from(self.retry_after.load(Ordering::Relaxed))
    }

    /// An upper bound of the memory that it uses without its compressed forms, in bytes.
    pub(super) fn size(&self) -> usize {
        // The head of the identity form counts from the beginning, since building it changes no weight.
        let forms = self.forms.as_ref().map(|_| size_of::<Forms>() + size_of::<Bodies>() + self.head_size());
        let forms = forms.unwrap_or_default();
        self.body.len() + self.wire.len() + self.fields_size() + forms + size_of::<Self>()
    }

    /// An upper bound of the memory of the fields, which are in `stored` and in `header`.
    fn fields_size(&self) -> usize {
        // A slot of a header table takes 104 bytes, and up to a third of the slots are empty.
        const FIELD: usize = 320;
        let fields = self.stored.iter().map(|(name, value)| FIELD + 2 * (name.as_str().len() + value.len()));
        fields.sum::<usize>() + 2 * FIELD
    }
}

/// Copies the fields. The original values are slices of a read buffer, which would stay allocated with them.
fn copy_fields(headers: &HeaderMap) -> HeaderMap {
    let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes());
    headers.iter().filter_map(|(name, value)| Some((name.clone(), copy(value).ok()?))).collect()
}
