//! Fetches a response from the backend for the cache.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderName, VARY};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};

use super::CacheStatus;
use super::entry::{CacheEntry, Compression, Received};
use super::generation::Generation;
use super::policy::{self, Arrival, Lifetime, Validators};
use crate::upstream::{
    Deadlines, PublicAuthority, RequestBody, ResponseBody, Timeouts, Upstream, UpstreamClient, UpstreamError,
    is_event_stream,
};

/// A response of the backend.
pub(super) enum FetchedResponse {
    /// A complete response: a new one (`Miss`), or the stored one updated by a `304` (`Revalidated`).
    Complete(Arc<CacheEntry>, Cacheability, CacheStatus),
    /// A response that exceeds the maximum size, or an event stream. Its body was not read.
    Unread,
}

/// Whether a response may be stored and shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cacheability {
    /// It is stored for its lifetime.
    Storable,
    /// It is the same for all clients, but is not stored.
    NotStorable,
    /// It is not stored, and may depend on the client.
    PerClient,
}

/// A request to the backend.
pub(super) struct FetchRequest<'a> {
    pub(super) parts: Parts,
    /// The request fields in the key.
    pub(super) declared: &'a [HeaderName],
    /// The stored response to revalidate.
    pub(super) previous: Option<&'a CacheEntry>,
    pub(super) max_body: usize,
    pub(super) generation: Generation,
    /// The timeouts that differ from those of the backend.
    pub(super) timeouts: Timeouts,
    /// Whether the route compresses.
    pub(super) compresses: bool,
    /// The public name of the service.
    pub(super) public: PublicAuthority<'a>,
}

/// What entries are built from, besides the response.
#[derive(Clone, Copy)]
struct EntryBuilder<'a> {
    upstream: &'a Upstream,
    public: PublicAuthority<'a>,
    declared: &'a [HeaderName],
    max_body: usize,
    generation: Generation,
    deadlines: Deadlines,
    compresses: bool,
}

/// Fetches a response within the deadlines of the upstream.
///
/// # Errors
/// [`UpstreamError`].
pub(super) async fn fetch(api: &UpstreamClient, request: FetchRequest<'_>) -> Result<FetchedResponse, UpstreamError> {
    let FetchRequest { mut parts, declared, previous, max_body, generation, timeouts, compresses, public } = request;
    let upstream = api.upstream();
    let deadlines = upstream.deadlines_with(tokio::time::Instant::now(), &timeouts);
    let builder = EntryBuilder { upstream, public, declared, max_body, generation, deadlines, compresses };
    let previous = previous.filter(|previous| previous.validators().can_revalidate());
    if let Some(previous) = previous {
        previous.validators().add_conditions(&mut parts.headers);
    }
    let unconditional = previous.map(|_| parts.clone());
    let sent_at = Instant::now();
    let response = api.open_within(parts, RequestBody::default(), deadlines).await?;
    if response.status() != StatusCode::NOT_MODIFIED {
        return builder.read(response, sent_at).await;
    }
    let unreadable = |why: &str| UpstreamError::InvalidResponse(api.upstream().name, why.to_owned());
    let (previous, mut parts) = previous.zip(unconditional).ok_or_else(|| unreadable("unexpected 304"))?;
    let arrival = arrival(sent_at);
    let received = Received { at: Instant::now(), generation };
    if let Some(headers) = policy::freshened(previous.stored(), response.headers()) {
        let lifetime = policy::storable(previous.status(), &headers, &builder.declared(&headers), arrival);
        return builder
            .entry(previous.status(), &headers, (previous.body().clone(), Some(previous)), lifetime, received)
            .map(|(entry, cacheability)| FetchedResponse::Complete(entry, cacheability, CacheStatus::Revalidated));
    }
    // The `304` is about another response than the stored one.
    drop(response);
    Validators::default().add_conditions(&mut parts.headers);
    let sent_at = Instant::now();
    let response = api.open_within(parts, RequestBody::default(), deadlines).await?;
    if response.status() == StatusCode::NOT_MODIFIED {
        return Err(unreadable("unexpected 304"));
    }
    builder.read(response, sent_at).await
}

impl EntryBuilder<'_> {
    async fn read(&self, response: Response<ResponseBody>, sent_at: Instant) -> Result<FetchedResponse, UpstreamError> {
        let arrival = arrival(sent_at);
        // The age counts from the head (RFC 9111, section 4.2.3), independently of the duration of the body.
        let received = Received { at: Instant::now(), generation: self.generation };
        let (parts, body) = response.into_parts();
        if is_event_stream(&parts.headers) {
            return Ok(FetchedResponse::Unread);
        }
        let lifetime = policy::storable(parts.status, &parts.headers, &self.declared(&parts.headers), arrival);
        let Some(body) = body.collect_within(self.deadlines, self.max_body).await? else {
            return Ok(FetchedResponse::Unread);
        };
        self.entry(parts.status, &parts.headers, (body, None), lifetime, received)
            .map(|(entry, cacheability)| FetchedResponse::Complete(entry, cacheability, CacheStatus::Miss))
    }

    /// The request fields by which a response with `headers` may vary. On a route that compresses, these include
    /// `Accept-Encoding`, which was not sent: clients get a body that is not encoded, in whatever coding they accept.
    fn declared(&self, headers: &HeaderMap) -> Cow<'_, [HeaderName]> {
        if self.compresses && headers.contains_key(VARY) && !headers.contains_key(CONTENT_ENCODING) {
            [self.declared, &[ACCEPT_ENCODING]].concat().into()
        } else {
            self.declared.into()
        }
    }

    /// Builds the entry of a body, with the entry that had the same body before.
    fn entry(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        (body, previous): (Bytes, Option<&CacheEntry>),
        lifetime: Option<Lifetime>,
        received: Received,
    ) -> Result<(Arc<CacheEntry>, Cacheability), UpstreamError> {
        let cacheability = match lifetime {
            Some(_) => Cacheability::Storable,
            None if policy::is_shared(headers, &self.declared(headers)) => Cacheability::NotStorable,
            None => Cacheability::PerClient,
        };
        let compression = if self.compresses { Compression::On(previous) } else { Compression::Off };
        let service = (self.upstream, &self.public);
        let entry = CacheEntry::new(status, headers, body, lifetime, received, compression, service);
        let entry = entry.map_err(|error| UpstreamError::InvalidResponse(self.upstream.name, error.to_string()))?;
        Ok((Arc::new(entry), cacheability))
    }
}

fn arrival(sent_at: Instant) -> Arrival {
    Arrival { at: SystemTime::now(), delay: sent_at.elapsed() }
}
