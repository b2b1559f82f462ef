//! Answers from the cache: requests served without the backend, or coalesced into one request to it.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holodule_telemetry::Span;
use http::header::{AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName};
use http::{HeaderValue, Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use tokio::time::timeout_at;

use super::forward::{Client, failed, not_taken, timeouts};
use super::header_rules::{apply_to_request, apply_to_response};
use super::{Admitted, Authorised, Context, Flow};
use crate::cache::policy::{ConditionalResult, bypasses_cache};
use crate::cache::{
    self, Cache, CacheEntry, CacheKey, CacheLookup, CacheOutcome, CacheRequest, CacheStatus, Form, Representation,
};
use crate::compress::{Encoding, is_negotiated, is_transformable, negotiate};
use crate::downstream::{Downstream, ResponseHead};
use crate::route::{HeaderRules, Host};
use crate::upstream::{self, Deadlines, ForwardingInfo, UpstreamClient};

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The fetch has deadlines of its own, which are earlier than this one.
const SLACK: Duration = Duration::from_secs(1);

impl Flow {
    /// Answers a request that passed every stage, if the cache can; `false` if it must be forwarded.
    ///
    /// # Errors
    /// On the side of the upstream or of the client.
    pub(super) async fn answer_from_cache(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
    ) -> Result<bool> {
        let Some(cache) = &self.cache else { return Ok(false) };
        let request = downstream.request();
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        if !admitted.matched.route.cached || !is_read {
            return Ok(false);
        }
        if bypasses_cache(&request.headers) {
            ctx.cache = Some(cache::PASS);
            return Ok(false);
        }
        let backend = self.backend(&admitted.matched.route)?;
        let outcome = match self.lookup(
            (cache, backend),
            &request.headers,
            (&ctx.request_id, ctx.span.map(|of| of.span)),
            admitted,
        ) {
            CacheLookup::Ready(outcome) => outcome,
            CacheLookup::Pending(pending) => {
                let started = *ctx.upstream_started.get_or_insert_with(Instant::now);
                let upstream = backend.upstream();
                let whole = upstream.deadlines_with(started.into(), &timeouts(&admitted.matched.route)).end();
                let deadline = upstream.deadline(whole + SLACK);
                let outcome = Client::Waiting.until(downstream, pending.outcome(), deadline).await;
                ctx.upstream_ended = Some(Instant::now());
                outcome?
            }
        };
        match outcome {
            CacheOutcome::Served(entry, status) => {
                ctx.cache = Some(status.label());
                let timeouts = timeouts(&admitted.matched.route);
                let whole = backend.upstream().deadlines_with(ctx.started.into(), &timeouts).end();
                let form = form_of(&downstream.request().headers, admitted, &entry);
                if let Form::Encoded(encoding) = form
                    && !entry.is_encoded(encoding)
                    && entry.validators().evaluate(&downstream.request().headers) == ConditionalResult::Full
                {
                    let deadline = backend.upstream().deadline(whole);
                    // Boxed, since it is rare.
                    Box::pin(encode(downstream, cache, admitted, (&entry, encoding), deadline)).await?;
                }
                // One that is not stored has the `Age` of the service, if that passes.
                let has_age = || entry.header().headers.contains_key(AGE);
                let is_aged = status != CacheStatus::Miss || (admitted.matched.route.public && !has_age());
                let rules = &admitted.matched.route.response_headers;
                // Pinned here, since the future would be copied into that of the timeout.
                let sending = pin!(self.respond_from_cache(downstream, ctx, (&entry, form, rules), (status, is_aged)));
                let sent = timeout_at(whole, sending).await;
                sent.map_err(|_| not_taken())??;
                Ok(true)
            }
            CacheOutcome::Pass => {
                ctx.cache = Some(cache::PASS);
                Ok(false)
            }
            CacheOutcome::Failed(error) => Err(failed(error)),
        }
    }

    fn lookup(
        &self,
        (cache, backend): (&Cache, &UpstreamClient),
        headers: &HeaderMap,
        (request_id, span): (&str, Option<Span>),
        admitted: &Admitted,
    ) -> CacheLookup {
        let Admitted { principal, matched, authority, .. } = admitted;
        let route = &matched.route;
        let identity = principal.as_ref().map(Authorised::identity).filter(|_| !route.shared);
        let key = cache_key(headers, admitted);
        let passes_host = route.host == Host::Client;
        let request = CacheRequest {
            purge_key: matched.purge_key(),
            public: admitted.public_authority(),
            declared: &route.vary,
            timeouts: timeouts(route),
            has_identity: identity.is_some(),
            compresses: !route.compress.is_empty(),
            backend,
        };
        cache.lookup(&key, request, || {
            // Only what is part of the key.
            let declared = headers.iter().filter(|(name, _)| route.vary.contains(name));
            let declared: HeaderMap = declared.map(|(name, value)| (name.clone(), value.clone())).collect();
            let facts = ForwardingInfo {
                client: None,
                host: authority,
                request_id,
                identity,
                target: &matched.target,
                prefix: route.forwarded_prefix(),
                passes_host,
            };
            let mut parts = upstream::for_upstream(&Method::GET, &declared, &facts)?;
            apply_to_request(&route.request_headers, &mut parts.headers);
            if let Some(span) = span {
                self.put_trace(span, headers, &mut parts);
            }
            Ok(parts)
        })
    }

    /// Sends a cached response in `form`, with its `Age` if `is_aged`.
    async fn respond_from_cache(
        &self,
        downstream: &mut impl Downstream,
        ctx: &Context,
        (entry, form, rules): (&CacheEntry, Form, &HeaderRules),
        (status, is_aged): (CacheStatus, bool),
    ) -> Result<()> {
        let request = downstream.request();
        let result = entry.validators().evaluate(&request.headers);
        let has_body = result == ConditionalResult::Full && request.method == Method::GET;
        let age = is_aged.then(|| HeaderValue::from(entry.age(Instant::now())));
        let cache = HeaderValue::from_static(status.label());
        let [a, b, c, d, e, f, g] = ctx.common_headers(self.settings.hsts.as_ref()).fields();
        let added = [(AGE, age.as_ref()), (X_CACHE, Some(&cache)), a, b, c, d, e, f, g];
        let Representation { header, wire, body } = entry.representation(form);
        // Serialised again: the entry is as the service sent it.
        let is_changed = result == ConditionalResult::NotModified || !rules.is_empty();
        let changed = is_changed.then(|| changed_head(&request.headers, result, (entry, form), rules)).transpose()?;
        let head = changed.as_ref().map_or(ResponseHead::Serialized(header, wire), ResponseHead::Plain);
        downstream.write_head(head, &added).await?;
        downstream.finish(if has_body { body.clone() } else { Bytes::new() }).await
    }
}

/// Waits until `entry` was compressed by `encoding`, or could not be.
async fn encode(
    downstream: &mut impl Downstream,
    cache: &Cache,
    admitted: &Admitted,
    (entry, encoding): (&Arc<CacheEntry>, Encoding),
    deadlines: Deadlines,
) -> Result<()> {
    let key = cache_key(&downstream.request().headers, admitted);
    Client::Waiting.until(downstream, cache.encode(&key, entry, encoding), deadlines).await
}

/// The form in which a cached response is sent, once it is compressed.
fn form_of(headers: &HeaderMap, admitted: &Admitted, entry: &CacheEntry) -> Form {
    let offered = &admitted.matched.route.compress;
    if !is_negotiated(headers, offered) {
        return Form::Stored;
    }
    match negotiate(headers, offered) {
        Some(encoding) if entry.can_be_encoded(encoding) && is_transformable(headers) => Form::Encoded(encoding),
        _ => Form::Identity,
    }
}

/// The key of a request that passed every stage.
#[inline]
fn cache_key(headers: &HeaderMap, admitted: &Admitted) -> CacheKey {
    let Admitted { principal, matched, authority, .. } = admitted;
    let route = &matched.route;
    let identity = principal.as_ref().map(Authorised::identity).filter(|_| !route.shared);
    let parts = cache::KeyParts { host: authority, route: &route.cached_as, target: &matched.target, identity };
    CacheKey::new(parts, route.vary.iter().map(|name| headers.get_all(name)))
}

/// The head of `entry` in `form`, or of the `304` in its place, after the rules of the route.
#[inline(never)] // Keeps the usual path small enough to be inlined.
fn changed_head(
    request: &HeaderMap,
    result: ConditionalResult,
    (entry, form): (&CacheEntry, Form),
    rules: &HeaderRules,
) -> Result<ResponseHeader> {
    let header = entry.representation(form).header;
    let mut header = match result {
        ConditionalResult::Full => header.clone(),
        ConditionalResult::NotModified => {
            let mut header = not_modified(header)?;
            if let Some(tag) = entry.not_modified_tag(request, form) {
                header.insert_header(ETAG, tag)?;
            }
            header
        }
    };
    apply_to_response(rules, &mut header)?;
    Ok(header)
}

/// The `304` for a client that already has the body (RFC 9110, section 15.4.5).
fn not_modified(header: &ResponseHeader) -> Result<ResponseHeader> {
    const REPRESENTATION_FIELDS: [HeaderName; 3] = [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING];
    let mut short = ResponseHeader::build_no_case(StatusCode::NOT_MODIFIED, Some(header.headers.len() + 4))?;
    for (name, value) in header.headers.iter().filter(|(name, _)| !REPRESENTATION_FIELDS.contains(name)) {
        short.append_header(name.clone(), value.clone())?;
    }
    Ok(short)
}
