//! What the backend is told of a client, and what a client is told of the backend: the
//! rules stand here once, for whatever carries the request.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, EXPIRES, GetAll, HOST, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use pingora::http::ResponseHeader;

use super::Upstream;
use super::location::PublicAuthority;
use super::references::{self, Rewritten};

/// What the gateway vouches for.
#[derive(Clone, Copy, Debug)]
pub struct ForwardingInfo<'a> {
    /// Who is calling; `None` where the answer is for everybody who asks.
    pub client: Option<IpAddr>,
    /// The host that the client asked for, port included.
    pub host: &'a str,
    /// What logs on both sides call this request.
    pub request_id: &'a str,
    /// Whom the token was issued to; `None` where the answer is for everybody who asks.
    pub identity: Option<&'a str>,
    /// The target: canonical path and declared query.
    pub target: &'a str,
    /// The prefix that the route removed from the path, if any.
    pub prefix: Option<&'a HeaderValue>,
    /// Whether the service sees `host` in `Host`, in place of the upstream's own.
    pub passes_host: bool,
}

/// Whether a field speaks of one connection and ends with it (RFC 9110, section 7.6.1); a tunnel,
/// that is another protocol, would bypass every stage (section 7.8). What follows the head is
/// framed anew.
fn is_always_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "keep-alive" | "proxy-connection"
    )
}

/// The fields of one message that end with its connection.
#[derive(Debug)]
pub(crate) struct HopByHop<'a> {
    /// What names more of them; most messages do not.
    named: Option<GetAll<'a, HeaderValue>>,
}

impl<'a> HopByHop<'a> {
    /// Those of a message that has `headers`.
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let named = headers.get_all(CONNECTION);
        let names_more = named.iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
        Self { named: names_more.then_some(named) }
    }

    /// Whether `name` is one of them.
    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        let is_named = |named: &GetAll<'_, HeaderValue>| {
            let mut options = named.iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
            options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
        };
        is_always_hop_by_hop(name) || self.named.as_ref().is_some_and(is_named)
    }
}

/// Whether `name` ends with the connection of a message that has `headers`.
pub(crate) fn is_hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    HopByHop::of(headers).contains(name)
}

/// What only the gateway tells: who calls, and what is asked for.
const RESERVED: [&str; 19] = [
    "authorization",
    "proxy-authorization",
    "forwarded",
    "x-request-id",
    // Other words for the client's address.
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    // Other words for who was authenticated.
    "remote-user",
    "x-remote-user",
    // There are frameworks that take the method or the path from these; a route was matched by
    // the request line.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-method",
    // CGI hands this on under the name by which programs are told their own proxy (CVE-2016-5385).
    "proxy",
];

/// What all names begin with that only the gateway uses.
const RESERVED_PREFIXES: [&str; 2] = ["x-forwarded-", "x-auth-"];

/// Whether a client may not say this: only the gateway tells the backend who calls, and for
/// what. An underscore counts as a dash, since some servers read both as one name.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let is = |ours: &str| name.len() == ours.len() && has_prefix(name, ours);
    RESERVED.iter().any(|ours| is(ours)) || RESERVED_PREFIXES.iter().any(|ours| has_prefix(name, ours))
}

/// Whether `name` begins with `ours`, by the letters or with underscores for dashes.
fn has_prefix(name: &[u8], ours: &str) -> bool {
    let is_same = |(&byte, own): (&u8, u8)| byte == own || (byte == b'_' && own == b'-');
    name.len() >= ours.len() && name.iter().zip(ours.bytes()).all(is_same)
}

/// Whether a field of a client's request reaches the backend, unless it speaks of one connection.
pub fn is_forwarded(name: &HeaderName) -> bool {
    // Whoever waits for a 100 (RFC 9110, section 10.1.1) hears it from the gateway.
    !is_reserved(name) && !is_always_hop_by_hop(name) && *name != HOST && *name != EXPECT
}

/// What the backend is to see of a request with `method` and `headers`.
///
/// # Errors
/// A value that cannot stand in a header, or a target that is no URI.
pub fn for_upstream(method: &Method, headers: &HeaderMap, facts: &ForwardingInfo<'_>) -> http::Result<Parts> {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    let mut texts = Texts::with_room_for(facts);
    parts.method = method.clone();
    parts.uri = Uri::from_maybe_shared(texts.copy(facts.target))?;
    parts.version = Version::HTTP_11;
    // What is said below, and the backend's own name.
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
const X_AUTH_IDENTITY: HeaderName = HeaderName::from_static("x-auth-identity");

/// Copies of texts in one piece of memory, of which a copy costs next to nothing.
struct Texts(BytesMut);

impl Texts {
    fn with_room_for(facts: &ForwardingInfo<'_>) -> Self {
        /// The longest that an address has.
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
            // What most clients have, and formatting costs more than all else here.
            IpAddr::V4(address) => {
                for (place, octet) in address.octets().into_iter().enumerate() {
                    if place > 0 {
                        self.0.put_u8(b'.');
                    }
                    if octet >= 100 {
                        self.0.put_u8(b'0' + octet / 100);
                    }
                    if octet >= 10 {
                        self.0.put_u8(b'0' + octet / 10 % 10);
                    }
                    self.0.put_u8(b'0' + octet % 10);
                }
            }
            // Nothing but a lack of memory could stop it.
            IpAddr::V6(address) => _ = write!(self.0, "{address}"),
        }
        self.0.split().freeze()
    }

    /// RFC 3986, section 2.1: everything but the unreserved characters is escaped.
    fn percent_encoded(&mut self, text: &str) -> Bytes {
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                self.0.put_u8(byte);
            } else {
                let _ = write!(self.0, "%{byte:02X}");
            }
        }
        self.0.split().freeze()
    }
}

/// The cookies as one field, where HTTP/2 brought them as several, as it may and HTTP/1.1 may not
/// (RFC 9113, section 8.2.3).
fn join_cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let fields = headers.get_all(COOKIE);
    fields.iter().nth(1)?;
    let cookies: Vec<_> = fields.iter().map(HeaderValue::as_bytes).collect();
    // Each was a value, and what joins them may stand in one.
    HeaderValue::from_bytes(&cookies.join(&b"; "[..])).ok()
}

/// What a client may see of an answer that a token opened: nobody between may answer with it
/// again without asking (RFC 9111, section 5.2.2). Where it names the service, it names it as clients do.
pub fn for_client(parts: &http::response::Parts, upstream: &Upstream, public: &PublicAuthority<'_>) -> ResponseHeader {
    let (mut told, ()) = http::Response::new(()).into_parts();
    told.status = parts.status;
    // Also what is said below, and what whoever answers may add.
    told.headers.reserve(parts.headers.len() + 4);
    let hop_by_hop = HopByHop::of(&parts.headers);
    for (name, value) in &parts.headers {
        let is_own_freshness = !public.needs_token && [AGE, CACHE_CONTROL, EXPIRES].contains(name);
        if (is_returned(name) || is_own_freshness) && !hop_by_hop.contains(name) {
            match references::rewrite(name, value, upstream, public) {
                Rewritten::Unchanged => _ = told.headers.append(name, value.clone()),
                Rewritten::Replaced(value) => _ = told.headers.append(name, value),
                Rewritten::Removed => {}
            }
        }
    }
    if let Some(length) = length(parts, &hop_by_hop) {
        told.headers.insert(CONTENT_LENGTH, length.into());
    }
    if public.needs_token {
        told.headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    ResponseHeader::from(told)
}

/// Whether a field of an answer reaches the client, unless it ends with the connection; the
/// gateway says the others itself, or nobody does.
fn is_returned(name: &HeaderName) -> bool {
    let name = name.as_str();
    // Age and Expires speak of the edge's freshness; the two cache-control fields of RFC 9213
    // would tell a cache in front of us to store what only a token opens.
    let is_of_the_edge = matches!(
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
    // Which origins may read an answer is the edge's to say, too.
    !is_of_the_edge && !name.starts_with("access-control-")
}

/// The length that an answer has, said once: an equal repetition is one (RFC 9110, section 8.6),
/// a transfer coding overrides it (RFC 9112, section 6.3), and a 204 has none. Whoever reads
/// the answer next must not have to know these rules to find its end.
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

#[cfg(test)]
mod tests;
