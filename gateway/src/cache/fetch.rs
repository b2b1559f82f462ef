//! Asking the backend for an answer on behalf of everybody who wants it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::timeout;

use super::entry::{Arrived, Entry};
use super::generation::Generation;
use super::policy::{self, Arrival, Lifetime, Validators};
use crate::upstream::{Body, Client, Outgoing, Public, Unanswered, Upstream};

/// What the backend said.
pub(super) enum Fetched {
    /// An answer; with how long it may be kept, if at all.
    Whole(Arc<Entry>, Keep),
    /// What is kept still holds; this is it, brought up to date.
    Confirmed(Arc<Entry>, Keep),
    /// An answer too large to be kept, which was not read.
    TooLarge,
}

/// Whether an answer may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// For its lifetime.
    Yes,
    /// It is for the requester alone, although it would be the same for others.
    No,
    /// Nor does it say that it is the same for others: it may depend on who asks.
    Personal,
}

/// One question.
pub(super) struct Question<'a> {
    pub(super) parts: Parts,
    /// The request fields that are part of the key.
    pub(super) declared: &'a [HeaderName],
    /// What is kept and may still hold.
    pub(super) old: Option<&'a Entry>,
    pub(super) max_body: usize,
    pub(super) generation: Generation,
    /// How clients name the service.
    pub(super) public: Public<'a>,
}

/// What an answer becomes an entry by.
#[derive(Clone, Copy)]
struct Making<'a> {
    upstream: &'a Upstream,
    public: Public<'a>,
    declared: &'a [HeaderName],
    max_body: usize,
    generation: Generation,
}

/// Asks, within the upstream's deadlines.
///
/// # Errors
/// [`Unanswered`], whatever the reason.
pub(super) async fn fetch(api: &Client, question: Question<'_>) -> Result<Fetched, Unanswered> {
    let whole = api.upstream().settings.request_timeout;
    timeout(whole, ask(api, question)).await.unwrap_or(Err(Unanswered::TimedOut(api.upstream().name)))
}

async fn ask(api: &Client, question: Question<'_>) -> Result<Fetched, Unanswered> {
    let Question { mut parts, declared, old, max_body, generation, public } = question;
    let making = Making { upstream: api.upstream(), public, declared, max_body, generation };
    let old = old.filter(|old| old.validators().can_revalidate());
    if let Some(old) = old {
        old.validators().ask(&mut parts.headers);
    }
    let unconditional = old.map(|_| parts.clone());
    let asked = Instant::now();
    let response = head(api, parts).await?;
    if response.status() != StatusCode::NOT_MODIFIED {
        return making.read(response, asked).await;
    }
    let odd = |why: &str| Unanswered::Unreadable(api.upstream().name, why.to_owned());
    let (old, mut parts) = old.zip(unconditional).ok_or_else(|| odd("a 304 that was not asked for"))?;
    let arrival = arrival(asked);
    let arrived = Arrived { at: Instant::now(), generation };
    if let Some(headers) = policy::freshened(old.stored(), response.headers()) {
        let lifetime = policy::storable(old.status(), &headers, declared, arrival);
        return making
            .entry(old.status(), &headers, old.body().clone(), lifetime, arrived)
            .map(|(entry, kept)| Fetched::Confirmed(entry, kept));
    }
    // It speaks of another answer than the one that is kept.
    drop(response);
    Validators::default().ask(&mut parts.headers);
    let asked = Instant::now();
    let response = head(api, parts).await?;
    if response.status() == StatusCode::NOT_MODIFIED {
        return Err(odd("a 304 that was not asked for"));
    }
    making.read(response, asked).await
}

async fn head(api: &Client, parts: Parts) -> Result<Response<Body>, Unanswered> {
    let upstream = api.upstream();
    let response = timeout(upstream.settings.read_timeout, api.open(parts, Outgoing::default())).await;
    let response = response.unwrap_or(Err(Unanswered::TimedOut(upstream.name)))?;
    if response.status().is_informational() {
        return Err(Unanswered::Unreadable(upstream.name, "another protocol was never asked for".to_owned()));
    }
    Ok(response)
}

impl Making<'_> {
    async fn read(&self, response: Response<Body>, asked: Instant) -> Result<Fetched, Unanswered> {
        let arrival = arrival(asked);
        // It ages from its head on (RFC 9111, section 4.2.3), however long its body takes.
        let arrived = Arrived { at: Instant::now(), generation: self.generation };
        let (parts, mut body) = response.into_parts();
        let lifetime = policy::storable(parts.status, &parts.headers, self.declared, arrival);
        let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if expected > self.max_body {
            return Ok(Fetched::TooLarge);
        }
        // Memory of its own, of the right size: frames are slices of a larger buffer.
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
                return Ok(Fetched::TooLarge);
            }
            collected.extend_from_slice(&data);
        }
        // What grew piece by piece may have grown too far.
        let body = if collected.capacity() > expected.max(collected.len()) {
            Bytes::copy_from_slice(&collected)
        } else {
            collected.freeze()
        };
        self.entry(parts.status, &parts.headers, body, lifetime, arrived)
            .map(|(entry, kept)| Fetched::Whole(entry, kept))
    }

    fn entry(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
        lifetime: Option<Lifetime>,
        arrived: Arrived,
    ) -> Result<(Arc<Entry>, Keep), Unanswered> {
        let kept = match lifetime {
            Some(_) => Keep::Yes,
            None if policy::is_for_all(headers, self.declared) => Keep::No,
            None => Keep::Personal,
        };
        let entry = Entry::new(status, headers, body, lifetime, arrived, (self.upstream, &self.public));
        let entry = entry.map_err(|error| Unanswered::Unreadable(self.upstream.name, error.to_string()))?;
        Ok((Arc::new(entry), kept))
    }
}

fn arrival(asked: Instant) -> Arrival {
    Arrival { at: SystemTime::now(), delay: asked.elapsed() }
}
