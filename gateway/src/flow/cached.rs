//! Where a request may be answered without asking the backend, or by asking it once for many.

use std::time::{Duration, Instant};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::forward::{Client, Deadlines, failed};
use super::{Context, Flow};
use crate::cache::policy::{Verdict, passes_by};
use crate::cache::{self, Cache, Entry, Found, Key, Outcome, Source};
use crate::respond;
use crate::route::Matched;
use crate::upstream::{self, Facts};

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The fetch has deadlines of its own, which end before this one.
const SLACK: Duration = Duration::from_secs(1);

impl Flow {
    /// Answers a request that every stage let pass, where the cache can; `false` where it is to be
    /// forwarded.
    ///
    /// # Errors
    /// Of the upstream or of the client.
    pub(super) async fn answer_from_cache(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let (Some(cache), Some(matched)) = (&self.cache, &ctx.matched) else { return Ok(false) };
        let request = session.req_header();
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        if !matched.route.cached || !is_read {
            return Ok(false);
        }
        if passes_by(&request.headers) {
            ctx.cache = Some(cache::PASS);
            return Ok(false);
        }
        let outcome = match self.look(cache, &request.headers, ctx, matched) {
            Found::Now(outcome) => outcome,
            Found::Later(waiting) => {
                let started = *ctx.upstream_started.get_or_insert_with(Instant::now);
                let whole = (started + self.api.upstream().settings.request_timeout + SLACK).into();
                let outcome = Client::Waiting.until(session, waiting.outcome(), Deadlines::only(whole)).await;
                ctx.upstream_ended = Some(Instant::now());
                outcome?
            }
        };
        match outcome {
            Outcome::Served(entry, source) => {
                ctx.cache = Some(source.label());
                self.give(session, ctx, &entry, source).await?;
                Ok(true)
            }
            Outcome::Pass => {
                ctx.cache = Some(cache::PASS);
                Ok(false)
            }
            Outcome::Failed(error) => Err(failed(error)),
        }
    }

    fn look(&self, cache: &Cache, headers: &HeaderMap, ctx: &Context, matched: &Matched) -> Found {
        let route = &matched.route;
        let identity = ctx.principal.as_ref().map(|principal| &*principal.identity).filter(|_| !route.shared);
        let parts = cache::Parts { host: &ctx.authority, target: &matched.target, identity };
        let key = Key::new(parts, route.vary.iter().map(|name| headers.get_all(name)));
        cache.find(&key, &matched.target, &route.vary, || {
            // Nothing but what is in the key.
            let declared = headers.iter().filter(|(name, _)| route.vary.contains(name));
            let declared: HeaderMap = declared.map(|(name, value)| (name.clone(), value.clone())).collect();
            let facts = Facts {
                client: None,
                host: &ctx.authority,
                request_id: &ctx.request_id,
                identity,
                target: &matched.target,
            };
            upstream::for_upstream(&Method::GET, &declared, &facts)
        })
    }

    /// Sends a kept answer.
    async fn give(&self, session: &mut Session, ctx: &Context, entry: &Entry, source: Source) -> Result<()> {
        let request = session.req_header();
        let verdict = entry.validators().evaluate(&request.headers);
        let mut header = match verdict {
            Verdict::Whole => entry.header().clone(),
            Verdict::NotModified => not_modified(entry.header())?,
        };
        let has_body = verdict == Verdict::Whole && request.method == Method::GET;
        if source != Source::Miss {
            header.insert_header(http::header::AGE, entry.age(Instant::now()))?;
        }
        header.insert_header(X_CACHE, source.label())?;
        respond::mark(&mut header, &ctx.marks(self.settings.hsts_max_age))?;
        let downstream = session.as_downstream_mut();
        downstream.write_response_header(Box::new(header)).await.map_err(|error| error.into_down())?;
        let body = if has_body { entry.body().clone() } else { bytes::Bytes::new() };
        downstream.write_response_body(body, true).await.map_err(|error| error.into_down())?;
        downstream.finish_body().await.map_err(|error| error.into_down())?;
        Ok(())
    }
}

/// The same answer for a client that has its body (RFC 9110, section 15.4.5).
fn not_modified(header: &ResponseHeader) -> Result<ResponseHeader> {
    const OF_THE_BODY: [HeaderName; 3] = [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING];
    let mut short = ResponseHeader::build_no_case(StatusCode::NOT_MODIFIED, Some(header.headers.len() + 4))?;
    for (name, value) in header.headers.iter().filter(|(name, _)| !OF_THE_BODY.contains(name)) {
        short.append_header(name.clone(), value.clone())?;
    }
    Ok(short)
}
