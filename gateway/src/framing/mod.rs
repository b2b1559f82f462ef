//! Requests that are refused before any stage (RFC 9112; RFC 9113, section 8), in the contract's order:
//!
//! 1. a head on whose meaning two programs could disagree, and a path with another spelling: 400
//! 2. a target that is too long: 414
//! 3. a header section that is too large: 431
//!
//! [`inspect`] checks a parsed head of any protocol in this order. Before it, [`check_head`] and [`read_head`]
//! check the bytes of an HTTP/1 head, since a parser repairs what two programs may read differently. Everything
//! behind them works with the [`Target`] that [`inspect`] returns, and never reads the request line again.
//!
//! In an HTTP/2 `:path`, the h2 crate drops a `#` and what follows it before we see it, where HTTP/1 refuses one:
//! the request is served as if the fragment had not been sent.

mod authority;
mod head;
mod parse;
mod path;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Uri, Version};

use authority::Authority;
pub use authority::normal_host;
pub use head::{absolute_part, check_head, end_of_head, max_head_bytes, overflow, sole_origin};
pub use parse::{read_head, read_head_of};
pub(crate) use path::is_unreserved;
pub use path::{CanonicalPath, NotCanonical};

/// How large a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The header section, in bytes. 16 KiB by default.
    pub max_header_bytes: usize,
    /// The fields in it. 100 by default.
    pub max_header_fields: usize,
    /// The request target, in bytes. 2 KiB by default.
    pub max_target_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_header_bytes: 16 * 1024, max_header_fields: 100, max_target_bytes: 2 * 1024 }
    }
}

/// What a request asks for, once it is known to have one meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host in its normal form, and the port where it is not that of `https`: all spellings of one
    /// authority are the same here.
    pub authority: String,
    /// What follows the head.
    pub body: Body,
    /// How much of `authority` is the host, in bytes.
    host_bytes: usize,
    /// Shares the memory of the request.
    path_and_query: PathAndQuery,
}

impl Target {
    /// The host it names in its normal form, without the port; brackets around IPv6.
    pub fn host(&self) -> &str {
        self.authority.get(..self.host_bytes).unwrap_or_default()
    }

    /// The path.
    pub fn path(&self) -> CanonicalPath<'_> {
        CanonicalPath::of_checked(self.path_and_query.path())
    }

    /// The query, as sent.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.query()
    }
}

/// What follows the head of a request (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing; a length of 0 says the same.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, of which the last tells that it is.
    Chunked,
}

/// Why a request is refused. The reason is for the log; the client is told the status alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not one meaning: 400, and the connection is closed.
    #[error("{0}")]
    Malformed(&'static str),
    /// The target is too long: 414.
    #[error("the target is too long")]
    TargetTooLong,
    /// The header section is too large: 431.
    #[error("the header section is too large")]
    HeadersTooLarge,
}

/// The request line and header section of one request.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target: origin or absolute form.
    pub uri: &'a Uri,
    /// The protocol version.
    pub version: Version,
    /// The fields, as the parser left them.
    pub headers: &'a HeaderMap,
}

/// Checks a head in the contract's order, and returns what it asks for.
///
/// # Errors
/// The first [`Refusal`] in that order.
pub fn inspect(head: Head<'_>, settings: &Settings) -> Result<Target, Refusal> {
    inspect_of(head, &Scheme::HTTPS, settings)
}

/// [`inspect`] for a listener of another `scheme`: an absolute target has to name that one.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_of(head: Head<'_>, scheme: &Scheme, settings: &Settings) -> Result<Target, Refusal> {
    let mut fields = Decisive::default();
    for (name, value) in head.headers {
        if is_twin(name.as_str().as_bytes()) {
            return Err(TWIN);
        }
        if *name == HOST {
            fields.hosts.push(value.as_bytes());
        } else if *name == CONTENT_LENGTH {
            fields.lengths.push(value.as_bytes());
        } else if *name == TRANSFER_ENCODING {
            fields.encodings.push(value.as_bytes());
        }
    }
    let (authority, body) = meaning(head.method, Form::of(head.uri, scheme), head.version, fields)?;
    let path_and_query = head.uri.path_and_query().ok_or(NO_PATH)?.clone();
    check_path(path_and_query.path())?;
    check_sizes(head, settings)?;
    let host_bytes = authority.host_bytes;
    Ok(Target { authority: authority.whole.into_owned(), body, host_bytes, path_and_query })
}

/// Checks that `path` is in its one form.
fn check_path(path: &str) -> Result<(), Refusal> {
    CanonicalPath::parse(path).map(drop).map_err(|_| Refusal::Malformed("the path is not canonical"))
}

/// What a target says besides its path and query.
#[derive(Clone, Copy)]
struct Form<'a> {
    has_path: bool,
    /// Whether it names no other scheme than that of the listener.
    has_right_scheme: bool,
    authority: Option<&'a str>,
}

impl<'a> Form<'a> {
    /// A path with or without a query (RFC 9112, section 3.2.1), as nearly every target is.
    const ORIGIN: Self = Self { has_path: true, has_right_scheme: true, authority: None };

    fn of(uri: &'a Uri, scheme: &Scheme) -> Self {
        Self {
            // The asterisk form (section 3.2.4) speaks of the server, which has nothing to tell.
            has_path: uri.path().starts_with('/'),
            // In any case (RFC 3986, section 6.2.2.1), of which the type knows the lower one alone.
            has_right_scheme: uri.scheme_str().is_none_or(|named| named.eq_ignore_ascii_case(scheme.as_str())),
            authority: uri.authority().map(|authority| authority.as_str()),
        }
    }
}

/// The fields that decide where a request goes and where it ends.
#[derive(Clone, Copy, Default)]
struct Decisive<'a> {
    hosts: Values<'a>,
    lengths: Values<'a>,
    encodings: Values<'a>,
}

/// The values of one field.
#[derive(Clone, Copy, Default)]
enum Values<'a> {
    #[default]
    None,
    One(&'a [u8]),
    Several,
}

impl<'a> Values<'a> {
    fn push(&mut self, value: &'a [u8]) {
        *self = if matches!(self, Self::None) { Self::One(value) } else { Self::Several };
    }
}

/// The one host that a request names, and what follows its head.
fn meaning<'a>(
    method: &Method,
    target: Form<'a>,
    version: Version,
    fields: Decisive<'a>,
) -> Result<(Authority<'a>, Body), Refusal> {
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Malformed("a method that is never taken"));
    }
    if !target.has_path {
        return Err(NO_PATH);
    }
    // Where an HTTP/2 request has a Host and no `:authority`, as intermediaries send it (RFC 9113, section 8.3.1),
    // the h2 crate drops `:scheme`, too.
    if !target.has_right_scheme {
        return Err(Refusal::Malformed("another scheme than that of the listener"));
    }
    let authority = authority(target.authority, version, fields.hosts)?;
    Ok((authority, body(version, fields.lengths, fields.encodings)?))
}

/// Checks the sizes of a request that has one meaning: first the target, then the header section.
fn check_sizes(head: Head<'_>, settings: &Settings) -> Result<(), Refusal> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > settings.max_target_bytes {
        return Err(Refusal::TargetTooLong);
    }
    // Each field counts as on the wire: the name, ": ", the value, CRLF.
    let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if head.headers.len() > settings.max_header_fields || bytes > settings.max_header_bytes {
        return Err(Refusal::HeadersTooLarge);
    }
    Ok(())
}

/// What a target is refused as that names no path.
const NO_PATH: Refusal = Refusal::Malformed("the target has no path");

/// What an underscore twin is refused as.
const TWIN: Refusal = Refusal::Malformed("an underscore twin of a field that the gateway answers for");

/// Whether a field's name is another spelling, by underscores, of one that says who is calling or
/// where a request ends: what stands behind CGI's rules (RFC 3875, section 4.1.18) takes both
/// for the same.
fn is_twin(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"x-real-ip", b"x-request-id"];
    const PREFIXES: [&[u8]; 2] = [b"x-auth-", b"x-forwarded-"];
    if !name.contains(&b'_') {
        return false;
    }
    let dash = |&byte: &u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let spelled: Vec<u8> = name.iter().map(dash).collect();
    NAMES.contains(&spelled.as_slice()) || PREFIXES.iter().any(|prefix| spelled.starts_with(prefix))
}

/// The one host that the request names: `Host`, `:authority` or an absolute `target`. Where there are
/// two, they are compared in their normal form.
fn authority<'a>(target: Option<&'a str>, version: Version, hosts: Values<'a>) -> Result<Authority<'a>, Refusal> {
    const ODD: Refusal = Refusal::Malformed("an odd Host");
    let host = match hosts {
        Values::None => None,
        Values::One(value) => Some(std::str::from_utf8(value).map_err(|_| ODD)?),
        Values::Several => return Err(Refusal::Malformed("two Host fields")),
    };
    match (target, host) {
        (Some(target), Some(host)) if target != host => {
            let (target, host) = (Authority::parse(target).ok_or(ODD)?, Authority::parse(host).ok_or(ODD)?);
            if target != host {
                return Err(Refusal::Malformed("the target names another host than Host"));
            }
            Ok(target)
        }
        // HTTP/1 has a Host beside an absolute target, too (RFC 9112, section 3.2).
        (_, None) if version != Version::HTTP_2 => Err(Refusal::Malformed("no Host")),
        (Some(named), _) | (None, Some(named)) => Authority::parse(named).ok_or(ODD),
        (None, None) => Err(Refusal::Malformed("no Host")),
    }
}

/// What follows, by a length or an encoding of one meaning (RFC 9112, section 6).
fn body(version: Version, lengths: Values<'_>, encodings: Values<'_>) -> Result<Body, Refusal> {
    match (encodings, lengths) {
        (Values::None, Values::None) => Ok(Body::None),
        (Values::None, Values::One(length)) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let value = std::str::from_utf8(length).ok().and_then(|text| text.parse::<u64>().ok());
            match value.filter(|_| digits) {
                Some(0) => Ok(Body::None),
                Some(value) => Ok(Body::Length(value)),
                None => Err(Refusal::Malformed("an odd Content-Length")),
            }
        }
        (Values::None, Values::Several) => Err(Refusal::Malformed("an odd Content-Length")),
        _ if version != Version::HTTP_11 => Err(Refusal::Malformed("Transfer-Encoding outside HTTP/1.1")),
        (Values::One(encoding), Values::None) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked),
        _ => Err(Refusal::Malformed("an odd Transfer-Encoding")),
    }
}

#[cfg(test)]
mod tests;
