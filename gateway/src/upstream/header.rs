//! The rules for header fields of forwarded requests and responses, the same for every protocol.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, EXPIRES, HOST, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use pingora::http::ResponseHeader;

use super::Upstream;
use super::location::PublicAuthority;
use super::references::{self, Rewritten};
use crate::syntax::{is_unreserved, list_members, put_ipv4};

/// What the gateway states about a request to the backend.
#[derive(Clone, Copy, Debug)]
pub struct ForwardingInfo<'a> {
    /// The client's address; `None` if the response may be shared between clients.
    pub client: Option<IpAddr>,
    /// The authority that the client requested.
    pub host: &'a str,
    /// The id of the request in the logs of both programs.
    pub request_id: &'a str,
    /// The identity of the token; `None` if the response may be shared between clients.
    pub identity: Option<&'a str>,
    /// The target: canonical path and declared query.
    pub target: &'a str,
    /// The prefix that the route removed from the path, if any.
    pub prefix: Option<&'a HeaderValue>,
    /// Whether `Host` is `host` instead of the upstream's own.
    pub passes_host: bool,
}

/// Whether a field is always hop-by-hop (RFC 9110, section 7.6.1). An upgrade to another protocol (section 7.8) would
/// bypass every stage.
fn is_always_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "keep-alive" | "proxy-connection"
    )
}

/// The hop-by-hop fields of one message.
#[derive(Debug)]
pub(crate) struct HopByHop<'a> {
    /// The fields, if `Connection` names any of them; it mostly does not.
    naming: Option<&'a HeaderMap>,
}

impl<'a> HopByHop<'a> {
    /// The hop-by-hop fields of a message with `headers`.
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let mut named = headers.get_all(CONNECTION).iter();
        let names_more = named.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
        Self { naming: names_more.then_some(headers) }
    }

    /// Whether `name` is hop-by-hop.
    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        let is_named = |headers: &HeaderMap| {
            list_members(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(name.as_str().as_bytes()))
        };
        is_always_hop_by_hop(name) || self.naming.is_some_and(is_named)
    }
}

/// Whether `name` is hop-by-hop in a message with `headers`.
pub(crate) fn is_hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    HopByHop::of(headers).contains(name)
}

/// Fields that only the gateway sets.
const RESERVED: [&str; 20] = [
    "authorization",
    "proxy-authorization",
    "forwarded",
    "x-request-id",
    // Other names for the client's address.
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    // Other names for the authenticated user.
    "remote-user",
    "x-remote-user",
    // Frameworks that read the method or path from these would see another request than the one that was matched.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-method",
    // May contain a token.
    "sec-websocket-protocol",
    // CGI passes it on as HTTP_PROXY, which configures a proxy (CVE-2016-5385).
    "proxy",
];

/// Prefixes of fields that only the gateway sets.
const RESERVED_PREFIXES: [&str; 2] = ["x-forwarded-", "x-auth-"];

/// Whether only the gateway may set the field. An underscore counts as a dash, since some servers do not distinguish
/// them.
pub(super) fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let is = |reserved: &str| name.len() == reserved.len() && has_prefix(name, reserved);
    RESERVED_PREFIXES.iter().any(|prefix| has_prefix(name, prefix)) || RESERVED.iter().any(|reserved| is(reserved))
}

/// Whether `name` starts with `prefix`, where an underscore counts as a dash.
pub(super) fn has_prefix(name: &[u8], prefix: &str) -> bool {
    let is_same = |(&byte, own): (&u8, u8)| byte == own || (byte == b'_' && own == b'-');
    name.len() >= prefix.len() && name.iter().zip(prefix.bytes()).all(is_same)
}

/// Whether a field of a client's request is forwarded, unless `Connection` names it.
pub fn is_forwarded(name: &HeaderName) -> bool {
    // The gateway itself sends the 100 (RFC 9110, section 10.1.1).
    !is_reserved(name) && !is_always_hop_by_hop(name) && *name != HOST && *name != EXPECT
}

/// The head of the request to the backend, for a client's request with `method` and `headers`.
///
/// # Errors
/// A value that is not valid in a header field, or a target that is not a URI.
pub fn for_upstream(method: &Method, headers: &HeaderMap, facts: &ForwardingInfo<'_>) -> http::Result<Parts> {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    let mut texts = Texts::with_room_for(facts);
    parts.method = method.clone();
    parts.uri = Uri::from_maybe_shared(texts.copy(facts.target))?;
    parts.version = Version::HTTP_11;
    // The fields that are set below, and the upstream's `Host`.
    parts.headers.reserve(headers.len() + 6);
    let hop_by_hop = HopByHop::of(headers);
    for (name, value) in headers {
        if is_forwarded(name) && !hop_by_hop.contains(name) {
            parts.headers.append(name, value.clone());
        }
    }
    if let Some(cookie) = join_cookies(&parts.headers) {
        parts.headers.insert(COOKIE, cookie);
    }
    if let Some(client) = facts.client {
        parts.headers.insert(X_FORWARDED_FOR, HeaderValue::from_maybe_shared(texts.address(client))?);
    }
    parts.headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    let host = HeaderValue::from_maybe_shared(texts.copy(facts.host))?;
    if facts.passes_host {
        parts.headers.insert(HOST, host.clone());
    }
    parts.headers.insert(X_FORWARDED_HOST, host);
    if let Some(prefix) = facts.prefix {
        parts.headers.insert(X_FORWARDED_PREFIX, prefix.clone());
    }
    parts.headers.insert(X_REQUEST_ID, HeaderValue::from_maybe_shared(texts.copy(facts.request_id))?);
    if let Some(identity) = facts.identity {
        parts.headers.insert(X_AUTH_IDENTITY, HeaderValue::from_maybe_shared(texts.percent_encoded(identity))?);
    }
    Ok(parts)
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const X_AUTH_IDENTITY: HeaderName = HeaderName::from_static("x-auth-identity");

/// Copies of texts in one allocation.
struct Texts(BytesMut);

impl Texts {
    fn with_room_for(facts: &ForwardingInfo<'_>) -> Self {
        /// The length of the longest address.
        const ADDRESS_BYTES: usize = 39;
        let identity = facts.identity.map(str::len).unwrap_or_default();
        let texts = facts.target.len() + facts.host.len() + facts.request_id.len() + identity;
        Self(BytesMut::with_capacity(texts + ADDRESS_BYTES))
    }

    fn copy(&mut self, text: &str) -> Bytes {
        self.0.extend_from_slice(text.as_bytes());
        self.0.split().freeze()
    }

    fn address(&mut self, address: IpAddr) -> Bytes {
        match address {
            IpAddr::V4(address) => put_ipv4(&mut self.0, address),
            // Writing to memory does not fail.
            IpAddr::V6(address) => _ = write!(self.0, "{address}"),
        }
        self.0.split().freeze()
    }

    /// Escapes everything but the unreserved characters (RFC 3986, section 2.1).
    fn percent_encoded(&mut self, text: &str) -> Bytes {
        for byte in text.bytes() {
            if is_unreserved(byte) {
                self.0.put_u8(byte);
            } else {
                let _ = write!(self.0, "%{byte:02X}");
            }
        }
        self.0.split().freeze()
    }
}

/// The cookies in one field, if there are several, as HTTP/2 allows and HTTP/1.1 does not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let fields = headers.get_all(COOKIE);
    fields.iter().nth(1)?;
    let cookies: Vec<_> = fields.iter().map(HeaderValue::as_bytes).collect();
    // Each is a valid value, and so is the separator.
    HeaderValue::from_bytes(&cookies.join(&b"; "[..])).ok()
}

/// The response head for the client. The response required a token, so that a cache in between must not reuse it
/// without revalidation (RFC 9111, section 5.2.2). URLs of the service get the public authority.
pub fn for_client(parts: &http::response::Parts, upstream: &Upstream, public: &PublicAuthority<'_>) -> ResponseHeader {
    let (mut response, ()) = http::Response::new(()).into_parts();
    response.status = parts.status;
    // Room for the fields that are set below and by the caller.
    response.headers.reserve(parts.headers.len() + 4);
    let hop_by_hop = HopByHop::of(&parts.headers);
    for (name, value) in &parts.headers {
        let is_own_freshness = !public.needs_token && [AGE, CACHE_CONTROL, EXPIRES].contains(name);
        if (is_returned(name) || is_own_freshness) && !hop_by_hop.contains(name) {
            match references::rewrite(name, value, upstream, public) {
                Rewritten::Unchanged => _ = response.headers.append(name, value.clone()),
                Rewritten::Replaced(value) => _ = response.headers.append(name, value),
                Rewritten::Removed => {}
            }
        }
    }
    if let Some(length) = length(parts, &hop_by_hop) {
        response.headers.insert(CONTENT_LENGTH, length.into());
    }
    if public.needs_token {
        response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    ResponseHeader::from(response)
}

/// Whether a field of a response is returned to the client, unless it is hop-by-hop. The gateway sets or omits the
/// others.
fn is_returned(name: &HeaderName) -> bool {
    let name = name.as_str();
    // Age and Expires are for the gateway's cache. The fields of RFC 9213 would allow a cache in front of the gateway
    // to store responses that require a token.
    let is_set_by_gateway = matches!(
        name,
        "age"
            | "cdn-cache-control"
            | "content-length"
            | "date"
            | "expires"
            | "pragma"
            | "server"
            | "strict-transport-security"
            | "surrogate-control"
            | "x-cache"
            | "x-content-type-options"
            | "x-request-id"
    );
    // The gateway's configuration decides which origins may read a response.
    !is_set_by_gateway && !name.starts_with("access-control-")
}

/// The content length in one field: equal repetitions are combined (RFC 9110, section 8.6), a transfer coding overrides
/// it (RFC 9112, section 6.3), and a 204 has none. The next recipient need not know these rules to find the end.
fn length(parts: &http::response::Parts, hop_by_hop: &HopByHop<'_>) -> Option<u64> {
    let has_none = parts.status == StatusCode::NO_CONTENT
        || parts.headers.contains_key(TRANSFER_ENCODING)
        || hop_by_hop.contains(&CONTENT_LENGTH);
    let fields = parts.headers.get_all(CONTENT_LENGTH).iter();
    let mut lengths = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b',')).map(|length| {
        let digits = length.trim_ascii();
        let is_number = digits.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse::<u64>().ok()
    });
    let first = lengths.next()?.filter(|_| !has_none)?;
    lengths.all(|other| other == Some(first)).then_some(first)
}

mod settable;
mod trailers;

pub use settable::{is_settable_in_requests, is_settable_in_responses};
pub use trailers::{request_trailers, trailers_for_client};

#[cfg(test)]
mod tests;
