//! Checks of a request before any other stage (RFC 9112; RFC 9113, section 8), in this order:
//!
//! 1. an ambiguous head, or a path that is not canonical: 400
//! 2. a target that is too long: 414
//! 3. a header section that is too large: 431
//!
//! [`inspect`] checks a parsed head of any protocol in this order. Before that, [`check_head`] and [`read_head`] check
//! the bytes of an HTTP/1 head, since parsers silently repair input that another program may interpret differently.
//! Later stages use the [`Target`] returned by [`inspect`] and never read the request line again.
//!
//! A fragment in an HTTP/1 target is refused. In an HTTP/2 `:path`, the h2 crate drops it before this check, so the
//! request is served without it.

mod authority;
mod head;
mod parse;
mod path;
mod query;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Uri, Version};

use authority::Authority;
pub use authority::normal_host;
pub use head::{check_head, end_of_head, max_head_bytes, overflow, scheme_and_authority, sole_origin};
pub use parse::{read_head, read_head_of};
pub use path::{CanonicalPath, NotCanonical};
pub use query::{Repeated, TakenParameter, take_parameter};

/// Size limits for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Size of the header section in bytes. 16 KiB by default.
    pub max_header_bytes: usize,
    /// Number of header fields. 100 by default.
    pub max_header_fields: usize,
    /// Length of the request target in bytes. 2 KiB by default.
    pub max_target_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_header_bytes: 16 * 1024, max_header_fields: 100, max_target_bytes: 2 * 1024 }
    }
}

/// The target of an unambiguous request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The normalised host, with the port unless it is the default port of `https`: equivalent spellings are
    /// equal.
    pub authority: String,
    /// The framing of the request body.
    pub body: BodyFraming,
    /// Length of the host within `authority`, in bytes.
    host_bytes: usize,
    /// Shares the memory of the request.
    path_and_query: PathAndQuery,
    /// [`CanonicalPath::preserved`] of the path.
    preserved: Option<usize>,
}

impl Target {
    /// The normalised host without the port; IPv6 addresses are in brackets.
    pub fn host(&self) -> &str {
        self.authority.get(..self.host_bytes).unwrap_or_default()
    }

    /// The path.
    pub fn path(&self) -> CanonicalPath<'_> {
        CanonicalPath::new_preserving(self.path_and_query.path(), self.preserved)
    }

    /// The query, as sent.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.query()
    }
}

/// The framing of a request body (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body, or an empty one.
    None,
    /// The length in bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

/// Why a request head is refused. The reason is only logged; the client receives the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Ambiguous or malformed: 400, and the connection is closed.
    #[error("{0}")]
    Malformed(&'static str),
    /// The target is too long: 414.
    #[error("the target is too long")]
    TargetTooLong,
    /// The header section is too large: 431.
    #[error("the header section is too large")]
    HeadersTooLarge,
}

/// The request line and header section of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target, in origin or absolute form.
    pub uri: &'a Uri,
    /// The protocol version.
    pub version: Version,
    /// The fields, as parsed.
    pub headers: &'a HeaderMap,
}

/// Checks a head in the order above and returns its target.
///
/// # Errors
/// The first [`HeadError`] in that order.
pub fn inspect(head: RequestHead<'_>, settings: &Settings) -> Result<Target, HeadError> {
    inspect_of(head, &Scheme::HTTPS, settings)
}

/// Like [`inspect`], and accepts a path of [`CanonicalPath::parse_preserving`] if `preserves` returns true for the host,
/// without port, and the path.
///
/// # Errors
/// As for [`inspect`].
pub fn inspect_preserving(
    head: RequestHead<'_>,
    settings: &Settings,
    preserves: impl FnOnce(&str, CanonicalPath<'_>) -> bool,
) -> Result<Target, HeadError> {
    inspect_with(head, &Scheme::HTTPS, settings, preserves)
}

/// Like [`inspect`], for a listener of another `scheme`, which an absolute target must have.
///
/// # Errors
/// As for [`inspect`].
pub fn inspect_of(head: RequestHead<'_>, scheme: &Scheme, settings: &Settings) -> Result<Target, HeadError> {
    inspect_with(head, scheme, settings, |_, _| false)
}

fn inspect_with(
    head: RequestHead<'_>,
    scheme: &Scheme,
    settings: &Settings,
    preserves: impl FnOnce(&str, CanonicalPath<'_>) -> bool,
) -> Result<Target, HeadError> {
    let mut fields = FramingFields::default();
    for (name, value) in head.headers {
        if is_underscore_variant(name.as_str().as_bytes()) {
            return Err(UNDERSCORE_VARIANT);
        }
        if *name == HOST {
            fields.hosts.push(value.as_bytes());
        } else if *name == CONTENT_LENGTH {
            fields.lengths.push(value.as_bytes());
        } else if *name == TRANSFER_ENCODING {
            fields.encodings.push(value.as_bytes());
        }
    }
    let (authority, body) = authority_and_body(head.method, TargetForm::of(head.uri, scheme), head.version, fields)?;
    let path_and_query = head.uri.path_and_query().ok_or(NO_PATH)?.clone();
    let path = path_and_query.path();
    let preserved = match CanonicalPath::parse(path) {
        Ok(_) => None,
        Err(_) => {
            let host = authority.whole.get(..authority.host_bytes).unwrap_or_default();
            let path = CanonicalPath::parse_preserving(path).ok().filter(|path| preserves(host, *path));
            path.ok_or(NOT_CANONICAL)?.preserved()
        }
    };
    check_sizes(head, settings)?;
    let host_bytes = authority.host_bytes;
    Ok(Target { authority: authority.whole.into_owned(), body, host_bytes, path_and_query, preserved })
}

/// Checks that `path` is canonical.
fn check_path(path: &str) -> Result<(), HeadError> {
    CanonicalPath::parse(path).map(drop).map_err(|_| NOT_CANONICAL)
}

/// The parts of a target other than path and query.
#[derive(Clone, Copy)]
struct TargetForm<'a> {
    has_path: bool,
    /// Whether the scheme is absent or that of the listener.
    has_right_scheme: bool,
    authority: Option<&'a str>,
    /// Whether the listener's scheme is `http`.
    is_http: bool,
}

impl<'a> TargetForm<'a> {
    /// Origin form (RFC 9112, section 3.2.1), which nearly every target has.
    const ORIGIN: Self = Self { has_path: true, has_right_scheme: true, authority: None, is_http: false };

    fn of(uri: &'a Uri, scheme: &Scheme) -> Self {
        Self {
            // The asterisk form (section 3.2.4) concerns the server as a whole and is not supported.
            has_path: uri.path().starts_with('/'),
            // Schemes are case-insensitive (RFC 3986, section 6.2.2.1), but `Scheme` only recognises lower
            // case.
            has_right_scheme: uri.scheme_str().is_none_or(|named| named.eq_ignore_ascii_case(scheme.as_str())),
            authority: uri.authority().map(|authority| authority.as_str()),
            is_http: *scheme == Scheme::HTTP,
        }
    }
}

/// The fields that determine the host and the body framing.
#[derive(Clone, Copy, Default)]
struct FramingFields<'a> {
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

/// Determines the authority and the body framing of a request.
fn authority_and_body<'a>(
    method: &Method,
    target: TargetForm<'a>,
    version: Version,
    fields: FramingFields<'a>,
) -> Result<(Authority<'a>, BodyFraming), HeadError> {
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(HeadError::Malformed("unsupported method"));
    }
    if !target.has_path {
        return Err(NO_PATH);
    }
    // If an HTTP/2 request has a Host but no `:authority`, as allowed for intermediaries (RFC 9113, section
    // 8.3.1), the h2 crate drops `:scheme` as well.
    if !target.has_right_scheme {
        return Err(HeadError::Malformed("the scheme of the target is not that of the listener"));
    }
    let authority = authority(target, version, fields.hosts)?;
    Ok((authority, body(version, fields.lengths, fields.encodings)?))
}

/// Checks the sizes of an unambiguous request: first the target, then the header section.
fn check_sizes(head: RequestHead<'_>, settings: &Settings) -> Result<(), HeadError> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > settings.max_target_bytes {
        return Err(HeadError::TargetTooLong);
    }
    // Each field counts as in HTTP/1: name, ": ", value, CRLF.
    let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if head.headers.len() > settings.max_header_fields || bytes > settings.max_header_bytes {
        return Err(HeadError::HeadersTooLarge);
    }
    Ok(())
}

/// The error for a path that is not canonical.
const NOT_CANONICAL: HeadError = HeadError::Malformed("the path is not canonical");

/// The error for a target without a path.
const NO_PATH: HeadError = HeadError::Malformed("the target has no path");

/// The error for a protected field name spelled with underscores.
const UNDERSCORE_VARIANT: HeadError = HeadError::Malformed("a protected field name spelled with underscores");

/// Returns whether a field name equals, with underscores for dashes, one that identifies the client or
/// determines the body framing. Backends that follow the CGI convention (RFC 3875, section 4.1.18) cannot
/// distinguish the two.
fn is_underscore_variant(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"x-real-ip", b"x-request-id"];
    const PREFIXES: [&[u8]; 2] = [b"x-auth-", b"x-forwarded-"];
    if !name.contains(&b'_') {
        return false;
    }
    let dash = |&byte: &u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let spelled: Vec<u8> = name.iter().map(dash).collect();
    NAMES.contains(&spelled.as_slice()) || PREFIXES.iter().any(|prefix| spelled.starts_with(prefix))
}

/// Returns the host of the request: from `Host`, `:authority` or an absolute `target`. If there are two, they
/// must be equal once normalised.
fn authority<'a>(target: TargetForm<'a>, version: Version, hosts: Values<'a>) -> Result<Authority<'a>, HeadError> {
    const MALFORMED: HeadError = HeadError::Malformed("malformed Host");
    let host = match hosts {
        Values::None => None,
        Values::One(value) => Some(std::str::from_utf8(value).map_err(|_| MALFORMED)?),
        Values::Several => return Err(HeadError::Malformed("more than one Host field")),
    };
    match (target.authority, host) {
        (Some(named), Some(host)) if named != host => {
            // The default port of `http` (RFC 9110, section 4.2.1) equals no port on a listener of that scheme.
            let parse = |text: &'a str| {
                let text = text.strip_suffix(":80").filter(|_| target.is_http).unwrap_or(text);
                Authority::parse(text).ok_or(MALFORMED)
            };
            let (target, host) = (parse(named)?, parse(host)?);
            if target != host {
                return Err(HeadError::Malformed("the target and Host differ"));
            }
            Ok(target)
        }
        // HTTP/1.1 requires Host with an absolute target as well (RFC 9112, section 3.2).
        (_, None) if version != Version::HTTP_2 => Err(HeadError::Malformed("missing Host")),
        (Some(named), _) | (None, Some(named)) => Authority::parse(named).ok_or(MALFORMED),
        (None, None) => Err(HeadError::Malformed("missing Host")),
    }
}

/// Determines the body framing (RFC 9112, section 6).
fn body(version: Version, lengths: Values<'_>, encodings: Values<'_>) -> Result<BodyFraming, HeadError> {
    match (encodings, lengths) {
        (Values::None, Values::None) => Ok(BodyFraming::None),
        (Values::None, Values::One(length)) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let value = std::str::from_utf8(length).ok().and_then(|text| text.parse::<u64>().ok());
            match value.filter(|_| digits) {
                Some(0) => Ok(BodyFraming::None),
                Some(value) => Ok(BodyFraming::Length(value)),
                None => Err(HeadError::Malformed("malformed Content-Length")),
            }
        }
        (Values::None, Values::Several) => Err(HeadError::Malformed("malformed Content-Length")),
        _ if version != Version::HTTP_11 => Err(HeadError::Malformed("Transfer-Encoding outside HTTP/1.1")),
        (Values::One(encoding), Values::None) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(BodyFraming::Chunked),
        _ => Err(HeadError::Malformed("unsupported Transfer-Encoding")),
    }
}

#[cfg(test)]
mod tests;
