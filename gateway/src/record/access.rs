//! The access log: one line a request, and nothing in it that opens a door. The query is
//! never told, since tokens end up in queries; nor is the name of a login that failed.

use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;

/// One request, as the log tells it.
#[derive(Debug)]
pub struct Access<'a> {
    /// What both sides call it.
    pub request_id: &'a str,
    /// Who called.
    pub client: Option<IpAddr>,
    /// The method, from a fixed set.
    pub method: &'static str,
    /// The route's name, never the path.
    pub route: &'a str,
    /// The status that was sent, if any was.
    pub status: Option<StatusCode>,
    /// How long the backend took, where it was asked.
    pub upstream: Option<Duration>,
    /// How long it all took.
    pub total: Duration,
    /// Whom it was answered for, once that was proven.
    pub identity: Option<&'a str>,
    /// Body bytes sent.
    pub bytes: usize,
    /// What the cache did for it, in fixed words, where its route has one.
    pub cache: Option<&'static str>,
    /// Why it was refused or failed, in fixed words.
    pub reason: Option<&'static str>,
}

/// Milliseconds with three decimals: what a person reads and a program parses.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// Writes the line.
pub fn write(access: &Access<'_>) {
    tracing::info!(
        target: "access",
        request_id = access.request_id,
        client = access.client.map(tracing::field::display),
        method = access.method,
        route = access.route,
        // 0 where the client left before an answer.
        status = access.status.map_or(0, |status| status.as_u16()),
        upstream_ms = access.upstream.map(milliseconds),
        total_ms = milliseconds(access.total),
        identity = access.identity,
        bytes = access.bytes,
        cache = access.cache,
        reason = access.reason,
    );
}
