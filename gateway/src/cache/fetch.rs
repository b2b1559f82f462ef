//! Fetches a response from the backend for the cache.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::timeout;

use super::CacheStatus;
use super::entry::{CacheEntry, Received};
use super::generation::Generation;
use super::policy::{self, Arrival, Lifetime, Validators};
use crate::upstream::{Body, Client, Outgoing, Public, Unanswered, Upstream};

/// A response of the backend.
pub(super) enum FetchedResponse {
    /// A complete response: a new one (`Miss`), or the stored one updated by a `304` (`Revalidated`).
    Complete(Arc<CacheEntry>, Cacheability, CacheStatus),
    /// A response that exceeds the maximum size. Its body was not read.
    TooLarge,
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
    /// The public name of the service.
    pub(super) public: Public<'a>,
}

/// What entries are built from, besides the response.
#[derive(Clone, Copy)]
struct EntryBuilder<'a> {
    upstream: &'a Upstream,
    public: Public<'a>,
    declared: &'a [HeaderName],
    max_body: usize,
    generation: Generation,
}

/// Fetches a response within the deadlines of the upstream.
///
/// # Errors
/// [`Unanswered`].
pub(super) async fn fetch(api: &Client, request: FetchRequest<'_>) -> Result<FetchedResponse, Unanswered> {
    let deadline = api.upstream().settings.request_timeout;
    timeout(deadline, exchange(api, request)).await.unwrap_or(Err(Unanswered::TimedOut(api.upstream().name)))
}

async fn exchange(api: &Client, request: FetchRequest<'_>) -> Result<FetchedResponse, Unanswered> {
    let FetchRequest { mut parts, declared, previous, max_body, generation, public } = request;
    let builder = EntryBuilder { upstream: api.upstream(), public, declared, max_body, generation };
    let previous = previous.filter(|previous| previous.validators().can_revalidate());
    if let Some(previous) = previous {
        previous.validators().add_conditions(&mut parts.headers);
    }
    let unconditional = previous.map(|_| parts.clone());
    let sent_at = Instant::now();
    let response = response_head(api, parts).await?;
    if response.status() != StatusCode::NOT_MODIFIED {
        return builder.read(response, sent_at).await;
    }
    let unreadable = |why: &str| Unanswered::Unreadable(api.upstream().name, why.to_owned());
    let (previous, mut parts) = previous.zip(unconditional).ok_or_else(|| unreadable("unexpected 304"))?;
    let arrival = arrival(sent_at);
    let received = Received { at: Instant::now(), generation };
    if let Some(headers) = policy::freshened(previous.stored(), response.headers()) {
        let lifetime = policy::storable(previous.status(), &headers, declared, arrival);
        return builder
            .entry(previous.status(), &headers, previous.body().clone(), lifetime, received)
            .map(|(entry, cacheability)| FetchedResponse::Complete(entry, cacheability, CacheStatus::Revalidated));
    }
    // The `304` is about another response than the stored one.
    drop(response);
    Validators::default().add_conditions(&mut parts.headers);
    let sent_at = Instant::now();
    let response = response_head(api, parts).await?;
    if response.status() == StatusCode::NOT_MODIFIED {
        return Err(unreadable("unexpected 304"));
    }
    builder.read(response, sent_at).await
}

async fn response_head(api: &Client, parts: Parts) -> Result<Response<Body>, Unanswered> {
    let upstream = api.upstream();
    let response = timeout(upstream.settings.read_timeout, api.open(parts, Outgoing::default())).await;
    let response = response.unwrap_or(Err(Unanswered::TimedOut(upstream.name)))?;
    if response.status().is_informational() {
        return Err(Unanswered::Unreadable(upstream.name, "unexpected protocol switch".to_owned()));
    }
    Ok(response)
}

impl EntryBuilder<'_> {
    async fn read(&self, response: Response<Body>, sent_at: Instant) -> Result<FetchedResponse, Unanswered> {
        let arrival = arrival(sent_at);
        // The age counts from the head (RFC 9111, section 4.2.3), independently of the duration of the body.
        let received = Received { at: Instant::now(), generation: self.generation };
        let (parts, mut body) = response.into_parts();
        let lifetime = policy::storable(parts.status, &parts.headers, self.declared, arrival);
        let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if expected > self.max_body {
            return Ok(FetchedResponse::TooLarge);
        }
        // A buffer of the right size: frames are slices of a larger buffer, which would stay allocated.
        let mut collected = BytesMut::with_capacity(expected);
        loop {
            let frame = timeout(self.upstream.settings.read_timeout, body.frame()).await;
            let data = match frame {
                Err(_) => return Err(Unanswered::TimedOut(self.upstream.name)),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(Unanswered::Unreadable(self.upstream.name, error.to_string())),
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            };
            if collected.len().saturating_add(data.len()) > self.max_body {
                return Ok(FetchedResponse::TooLarge);
            }
            collected.extend_from_slice(&data);
        }
        // A buffer that grew may be larger than the body.
        let body = if collected.capacity() > expected.max(collected.len()) {
            Bytes::copy_from_slice(&collected)
        } else {
            collected.freeze()
        };
        self.entry(parts.status, &parts.headers, body, lifetime, received)
            .map(|(entry, cacheability)| FetchedResponse::Complete(entry, cacheability, CacheStatus::Miss))
    }

    fn entry(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
        lifetime: Option<Lifetime>,
        received: Received,
    ) -> Result<(Arc<CacheEntry>, Cacheability), Unanswered> {
        let cacheability = match lifetime {
            Some(_) => Cacheability::Storable,
            None if policy::is_shared(headers, self.declared) => Cacheability::NotStorable,
            None => Cacheability::PerClient,
        };
        let entry = CacheEntry::new(status, headers, body, lifetime, received, (self.upstream, &self.public));
        let entry = entry.map_err(|error| Unanswered::Unreadable(self.upstream.name, error.to_string()))?;
        Ok((Arc::new(entry), cacheability))
    }
}

fn arrival(sent_at: Instant) -> Arrival {
    Arrival { at: SystemTime::now(), delay: sent_at.elapsed() }
}
