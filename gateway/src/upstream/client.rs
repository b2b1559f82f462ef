//! The HTTP client of one backend, for the gateway's own requests and for forwarded ones. It reuses connections, and
//! retries on another if the backend closed an idle one.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use tokio::time::{Instant, timeout_at};

use super::balance::{Balancer, Failure};
use super::caller::{Caller, Interim};
use super::connection::{BUFFER_BYTES, ClosedConnection, MAX_FIELDS};
use super::deadlines::Deadlines;
use super::error::{Cause, UpstreamError};
use super::exchange::{ExchangeError, ResponseBody, exchange};
use super::pool::Pool;
use super::trace::Traced;
use super::{RequestBody, Upstream};

/// The client of one backend. Clones share their connections.
#[derive(Clone, Debug)]
pub struct UpstreamClient {
    upstream: Arc<Upstream>,
    host: HeaderValue,
    pool: Arc<Pool>,
}

impl UpstreamClient {
    /// A client of `upstream`.
    pub fn new(upstream: Arc<Upstream>) -> Self {
        Self::with_pool(upstream, false)
    }

    /// A client of `upstream` whose idle connections are never closed to make room for other clients.
    pub fn exempt(upstream: Arc<Upstream>) -> Self {
        Self::with_pool(upstream, true)
    }

    fn with_pool(upstream: Arc<Upstream>, is_exempt: bool) -> Self {
        let host = HeaderValue::from_str(&upstream.host).unwrap_or(HeaderValue::from_static("localhost"));
        let pool = Pool::new(Arc::clone(&upstream), is_exempt);
        Self { upstream, host, pool }
    }

    /// The backend.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Sends `request`, whose URI is a path, and reads at most `limit` bytes of the response body,
    /// all within the upstream's request timeout.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn send(&self, request: Request<Bytes>, limit: usize) -> Result<Response<Bytes>, UpstreamError> {
        let (parts, body) = request.into_parts();
        let deadline = self.upstream.deadline(Instant::now() + self.upstream.settings.request_timeout);
        let response = self.open_within(parts, RequestBody::Whole(body), deadline).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect_within(deadline, limit).await?;
        let too_large =
            || UpstreamError::InvalidResponse(self.upstream.name, format!("its body exceeds {limit} bytes"));
        Ok(Response::from_parts(parts, body.ok_or_else(too_large)?))
    }

    /// Sends a request like [`open_with`](Self::open_with), and waits for the head of the response within `deadlines`.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn open_within(
        &self,
        parts: Parts,
        body: RequestBody,
        deadlines: Deadlines,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let opening = self.open_with(parts, body, deadlines, Interim::Discard);
        let response = timeout_at(deadlines.of_head().next_read(), opening).await;
        response.unwrap_or_else(|_| Err(deadlines.error()))
    }

    /// Sends a request, whose URI is a path, and waits for the head of the response. The deadline is the caller's, except
    /// that of a new connection; a response that is late for `deadlines` when the caller gives up is a failure of the
    /// address.
    ///
    /// A 101 is a response only for [`Interim::Switch`], and its body is then the connection
    /// ([`ResponseBody::into_tunnel`]).
    ///
    /// A request of which nothing was sent is sent on another connection. A request with an idempotent method (RFC
    /// 9110, section 9.2.2) is retried once, on a new connection, if a reused connection was closed before any byte of
    /// the response (RFC 9112, section 9.3.1), unless more of its body was sent than the 64 KiB that are buffered. If
    /// there is another address, so is one whose new connection was closed, there and as far as the budget of retries
    /// allows. Over HTTP/2, a request of any method that the service states not to have processed is retried once (RFC
    /// 9113, section 8.7), with the same limit of its body. With [`Interim::Notify`], the caller receives early hints, and
    /// must build the same head again for the retry of a request without an upload.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn open_with(
        &self,
        mut parts: Parts,
        body: RequestBody,
        deadlines: Deadlines,
        interim: Interim<'_>,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let balancer = &self.upstream.balancer;
        let connect_timeout = deadlines.connect_timeout();
        let mut choice = balancer.choose(&mut parts);
        let traced = parts.extensions.remove::<Traced>();
        // While the client sends a body, the service may be waiting for it.
        let late = matches!(body, RequestBody::Whole(_)).then(|| deadlines.of_head().next_read());
        let mut request = self.build_request(parts, body);
        let may_retry = is_idempotent(request.method());
        let is_multiplexed = self.upstream.multiplexers.is_some();
        let budget = self.upstream.budget.as_ref();
        if let Some(budget) = budget {
            budget.count();
        }
        let may_take = || budget.is_some_and(|budget| budget.take(Instant::now()));
        let mut leased = self.pool.lease(&mut choice, None, connect_timeout).await;
        let mut is_retried = false;
        loop {
            let lease = leased.map_err(|error| {
                if let Some(traced) = &traced {
                    traced.unreachable(request.method());
                }
                UpstreamError::Unreachable(self.upstream.name, error.to_string())
            })?;
            let (was_idle, place) = (lease.connection.has_responded(), lease.place());
            let has_retry = (is_multiplexed || (was_idle || budget.is_some()) && may_retry) && !is_retried;
            let retry = if has_retry { Some(Retry::of(&mut request, interim, late)) } else { None };
            let mut attempt = Attempt { balancer, place, late };
            let span = traced.as_ref().map(|traced| traced.begin(&self.upstream, (place, is_retried), &mut request));
            let failed = {
                let mut exchanged = exchange(lease, request, interim.caller().map(|caller| &caller.hints)).await;
                if let Some(span) = span {
                    span.end(&exchanged);
                }
                // In place, since each move copies the whole response.
                match &mut exchanged {
                    Ok(response) if response.status().is_informational() && !is_switch(response, interim) => {
                        attempt.ended(Some(Failure::Response));
                        let reason = format!("status {} was not requested", response.status().as_u16());
                        return Err(UpstreamError::InvalidResponse(self.upstream.name, reason));
                    }
                    Ok(response) => {
                        let is_failure = response.status().is_server_error() && balancer.counts_server_errors();
                        attempt.ended(is_failure.then_some(Failure::Response));
                        if let Some(cookie) = balancer.cookie(&choice, place) {
                            response.extensions_mut().insert(cookie);
                        }
                    }
                    Err(_) => {}
                }
                match exchanged {
                    Ok(response) => return Ok(response),
                    Err(failed) => failed,
                }
            };
            (request, leased) = match (failed, retry) {
                (ExchangeError::Unsent(request, _, slot), _) if was_idle => {
                    attempt.drop_verdict();
                    choice.allow_again(place);
                    (*request, self.pool.lease(&mut choice, slot, connect_timeout).await)
                }
                (ExchangeError::Unsent(request, _, slot), _) if !is_retried && may_take() => {
                    attempt.ended(Some(Failure::Closed));
                    is_retried = true;
                    (*request, self.pool.lease(&mut choice, slot, connect_timeout).await)
                }
                (ExchangeError::NoResponse(error, Some(ClosedConnection { slot, has_read })), Some(retry))
                    if retry.body.can_replay()
                        && (error.is_unprocessed()
                            || may_retry
                                && !has_read
                                && error.is_closed_before_response()
                                && (was_idle || may_take())) =>
                {
                    is_retried = true;
                    let is_failure = !was_idle && !error.is_unprocessed();
                    if is_failure {
                        attempt.ended(Some(Failure::Closed));
                    } else {
                        // The service may close an idle connection at any time, and limits its streams.
                        attempt.drop_verdict();
                        if balancer.has_affinity() {
                            choice.allow_again(place);
                        }
                    }
                    let mut leased = self.pool.lease_new(&mut choice, slot, connect_timeout).await;
                    if !is_failure && leased.is_err() && !balancer.has_affinity() {
                        // No other address can be reached.
                        choice.allow_again(place);
                        leased = self.pool.lease(&mut choice, None, connect_timeout).await;
                    }
                    (self.retried(retry).await, leased)
                }
                (ExchangeError::NoResponse(error, _) | ExchangeError::Unsent(_, error, _), _) => {
                    match error.failure() {
                        Some(failure) => attempt.ended(Some(failure)),
                        None => attempt.drop_verdict(),
                    }
                    return Err(self.no_response(&error));
                }
                (ExchangeError::TooManyFields, _) => {
                    attempt.ended(Some(Failure::Response));
                    return Err(self.too_large());
                }
                (ExchangeError::AmbiguousFraming, _) => {
                    attempt.ended(Some(Failure::Response));
                    let reason = "its Transfer-Encoding is not chunked alone".to_owned();
                    return Err(UpstreamError::InvalidResponse(self.upstream.name, reason));
                }
            };
        }
    }

    /// The request of a retry.
    async fn retried(&self, retry: Retry<'_>) -> Request<RequestBody> {
        match retry.head {
            RetryHead::Copy(head) => head.map(|()| retry.body),
            RetryHead::Caller(caller, late) => {
                let mut parts = caller.request_head(late).await;
                self.upstream.balancer.remove_cookie(&mut parts.headers);
                self.build_request(parts, retry.body)
            }
        }
    }

    /// The request, with the upstream's `Host` if it has none. Its target is in origin form (RFC 9112, section 3.2.1).
    fn build_request(&self, mut parts: Parts, body: RequestBody) -> Request<RequestBody> {
        if body.is_empty() {
            put_no_length(&mut parts);
        }
        if let (Some(_), Some(path)) = (parts.uri.authority(), parts.uri.path_and_query()) {
            parts.uri = Uri::from(path.clone());
        }
        parts.headers.entry(HOST).or_insert_with(|| self.host.clone());
        Request::from_parts(parts, body)
    }

    fn no_response(&self, error: &Cause) -> UpstreamError {
        if error.is_too_large() {
            return self.too_large();
        }
        UpstreamError::NoResponse(self.upstream.name, error.to_string())
    }

    fn too_large(&self) -> UpstreamError {
        let limits = format!("its head exceeds {} KiB or {MAX_FIELDS} fields", BUFFER_BYTES / 1024);
        UpstreamError::InvalidResponse(self.upstream.name, limits)
    }
}

/// A request at an address. If it is dropped without a verdict after its time, the address did not respond in time.
struct Attempt<'a> {
    balancer: &'a Balancer,
    place: usize,
    /// When a response is late; `None` if that says nothing about the address, or if there is a verdict.
    late: Option<Instant>,
}

impl Attempt<'_> {
    fn ended(&mut self, failure: Option<Failure>) {
        self.late = None;
        match failure {
            Some(failure) => self.balancer.failed(self.place, failure),
            None => self.balancer.succeeded(self.place),
        }
    }

    fn drop_verdict(&mut self) {
        self.late = None;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.late.is_some_and(|late| Instant::now() >= late) {
            self.balancer.failed(self.place, Failure::Response);
        }
    }
}

/// Whether the backend has switched protocols as requested (RFC 9110, section 15.2.2).
fn is_switch<T>(response: &Response<T>, interim: Interim<'_>) -> bool {
    matches!(interim, Interim::Switch) && response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether a request of `method` may be retried (RFC 9110, section 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// Sets the length of a request without a body: 0 if the method anticipates content, since a backend may answer
/// 411 without it, otherwise none (RFC 9110, sections 8.6 and 15.5.12).
fn put_no_length(parts: &mut Parts) {
    if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE) {
        parts.headers.remove(CONTENT_LENGTH);
    } else {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// What the retry of a request needs.
struct Retry<'a> {
    body: RequestBody,
    head: RetryHead<'a>,
}

/// The source of the head of a retry.
enum RetryHead<'a> {
    Copy(Box<Request<()>>),
    /// The caller builds it; the response is late after this moment.
    Caller(&'a Caller, Instant),
}

impl<'a> Retry<'a> {
    fn of(request: &mut Request<RequestBody>, interim: Interim<'a>, late: Option<Instant>) -> Self {
        let body = request.body_mut().replay();
        // During an upload, the deadline of the response head has not begun, so the caller must not be interrupted.
        let head = match interim.caller().zip(late) {
            Some((caller, late)) => RetryHead::Caller(caller, late),
            None => RetryHead::Copy(Box::new(copy_head(request))),
        };
        Self { body, head }
    }
}

fn copy_head<T>(request: &Request<T>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

#[cfg(test)]
mod tests;
