//! Checks of an HTTP/1 head as received, before it is parsed (RFC 9112, sections 2 to 6): parsers silently
//! repair malformed input.

use std::mem::MaybeUninit;
use std::ops::Range;

use http::uri::Scheme;
use http::{Method, Uri, Version};
use memchr::{memchr, memchr_iter};

use super::{
    BodyFraming, FramingFields, HeadError, Settings, TargetForm, UNDERSCORE_VARIANT, authority_and_body, check_path,
    is_underscore_variant,
};

/// The fields for which no memory is allocated while they are parsed: those that pingora's parser accepts.
const USUAL_FIELDS: usize = 256;

/// Upper bound for the parts of a request line other than the target: method, version, CRLF.
const LINE_BYTES: usize = 64;

/// Length above which an incomplete head is refused as too large, in bytes.
pub fn max_head_bytes(settings: &Settings) -> usize {
    settings.max_header_bytes + settings.max_target_bytes + LINE_BYTES
}

/// Returns the length of the head at the start of `bytes`; `None` if it is incomplete. The first `seen` bytes
/// were searched before. A bare LF counts as a line end, so that [`check_head`] can refuse such a head instead
/// of a timeout.
pub fn end_of_head(bytes: &[u8], seen: usize) -> Option<usize> {
    // The terminator is up to three bytes long, so it may have begun two bytes earlier.
    let start = seen.saturating_sub(2);
    let rest = bytes.get(start..)?;
    let end = memchr_iter(b'\n', rest).find_map(|newline| match (rest.get(newline + 1), rest.get(newline + 2)) {
        (Some(b'\n'), _) => Some(newline + 2),
        (Some(b'\r'), Some(b'\n')) => Some(newline + 3),
        _ => None,
    })?;
    Some(start + end)
}

/// A complete, unambiguous head.
pub(super) struct CheckedHead<'a> {
    pub(super) method: Method,
    pub(super) target: &'a [u8],
    pub(super) version: Version,
    /// The framing of the body.
    pub(super) body: BodyFraming,
}

/// Checks a complete head: its grammar, that it is unambiguous, and the limits of the parser. Returns the framing
/// of the body.
///
/// # Errors
/// The first [`HeadError`], in the order of the module documentation.
pub fn check_head(raw: &[u8], settings: &Settings) -> Result<BodyFraming, HeadError> {
    check(raw, settings, &Scheme::HTTPS, |_, _| {}).map(|head| head.body)
}

/// Like [`check_head`], with more details. `each` is called with the name and value of each field, before it is
/// known whether the whole head is valid.
pub(super) fn check<'a>(
    raw: &'a [u8],
    settings: &Settings,
    scheme: &Scheme,
    each: impl FnMut(&'a [u8], &'a [u8]),
) -> Result<CheckedHead<'a>, HeadError> {
    check_line_ends(raw)?;
    let mut room = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(raw, &mut room) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut room = vec![httparse::EMPTY_HEADER; memchr_iter(b'\n', raw).count()];
            let mut request = httparse::Request::new(&mut room);
            let parsed = request.parse(raw);
            check_parsed(raw, parsed, &request, settings, scheme, each)
        }
        parsed => check_parsed(raw, parsed, &request, settings, scheme, each),
    }
}

/// httparse takes a bare LF for the end of a line, and ignores empty lines before the request line.
fn check_line_ends(raw: &[u8]) -> Result<(), HeadError> {
    let is_bare = |end: usize| end.checked_sub(1).and_then(|before| raw.get(before)) != Some(&b'\r');
    if raw.starts_with(b"\r") || memchr_iter(b'\n', raw).any(is_bare) {
        return Err(BAD_LINE_END);
    }
    Ok(())
}

/// Checks what httparse made of a head.
fn check_parsed<'a>(
    raw: &'a [u8],
    parsed: httparse::Result<usize>,
    request: &httparse::Request<'_, 'a>,
    settings: &Settings,
    scheme: &Scheme,
    mut each: impl FnMut(&'a [u8], &'a [u8]),
) -> Result<CheckedHead<'a>, HeadError> {
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == raw.len() => {}
        Ok(_) => return Err(HeadError::Malformed("the head does not end where its lines do")),
        Err(error) => return Err(HeadError::Malformed(reason(error))),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(HeadError::Malformed("no request line"));
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Malformed("malformed method"))?;
    let target = target.as_bytes();
    // A fragment is never sent (RFC 9112, section 3.2); the parser would drop it silently.
    if !target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(HeadError::Malformed("a character that is not allowed in a target"));
    }
    let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut fields = FramingFields::default();
    for field in &*request.headers {
        let (name, value) = (field.name.as_bytes(), field.value);
        if is_underscore_variant(name) {
            return Err(UNDERSCORE_VARIANT);
        }
        if name.eq_ignore_ascii_case(b"host") {
            fields.hosts.push(value);
        } else if name.eq_ignore_ascii_case(b"content-length") {
            fields.lengths.push(value);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            fields.encodings.push(value);
        }
        each(name, value);
    }
    let is_too_long = target.len() > settings.max_target_bytes;
    let uri;
    let form = if is_plain_origin(target) {
        TargetForm::ORIGIN
    } else {
        uri = match Uri::try_from(target) {
            Ok(uri) => uri,
            Err(_) if is_too_long => {
                check_path(path_of(target))?;
                return Err(HeadError::TargetTooLong);
            }
            Err(_) => return Err(HeadError::Malformed("malformed target")),
        };
        TargetForm::of(&uri, scheme)
    };
    let (_, body) = authority_and_body(&method, form, version, fields)?;
    // The parser accepts at most 256 fields.
    let has_too_many = request.headers.len() > settings.max_header_fields;
    if is_too_long || has_too_many {
        // The path is otherwise checked after parsing, which this request does not reach.
        check_path(path_of(target))?;
        return Err(if is_too_long { HeadError::TargetTooLong } else { HeadError::HeadersTooLarge });
    }
    Ok(CheckedHead { method, target, version, body })
}

/// Returns the path of a target, which may be too long for the parser. An absolute target has its path after
/// the host, or none.
fn path_of(target: &[u8]) -> &str {
    let target = std::str::from_utf8(target).unwrap_or_default();
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => rest.find('/').and_then(|slash| rest.get(slash..)),
        _ => Some(target),
    };
    path.and_then(|path| path.split('?').next()).unwrap_or_default()
}

/// Returns the value of the only `Origin` field of a refused head, if it has exactly one, so that CORS headers
/// can be added to the response.
pub fn sole_origin(head: &[u8]) -> Option<&[u8]> {
    let is_origin = |line: &'_ [u8]| line.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"origin:"));
    let mut lines = head.split(|&byte| byte == b'\n').filter(|line| is_origin(line));
    let line = lines.next().filter(|_| lines.next().is_none())?;
    line.get(7..).map(<[u8]>::trim_ascii)
}

/// Returns the position of the scheme and authority of an absolute target in a checked head. They can be
/// removed, since `Host` is the same.
pub fn scheme_and_authority(head: &[u8]) -> Option<Range<usize>> {
    let start = memchr(b' ', head)? + 1;
    let target = head.get(start..).filter(|target| !target.starts_with(b"/"))?;
    let host = target.windows(3).position(|window| window == b"://")? + 3;
    let end = target.get(host..)?.iter().position(|byte| matches!(byte, b'/' | b'?' | b' '))?;
    Some(start..start + host + end)
}

/// Returns why a head longer than [`max_head_bytes`] is refused.
pub fn overflow(raw: &[u8], settings: &Settings) -> HeadError {
    let line = raw.iter().position(|&byte| byte == b'\n').unwrap_or(raw.len());
    if line > settings.max_target_bytes + LINE_BYTES { HeadError::TargetTooLong } else { HeadError::HeadersTooLarge }
}

const BAD_LINE_END: HeadError = HeadError::Malformed("a line does not end in CRLF");

/// Why httparse refuses a head.
fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "an odd field name, a folded line, or a line without a colon",
        httparse::Error::HeaderValue => "a control character in a value",
        httparse::Error::NewLine => "a line does not end in CRLF",
        httparse::Error::Token => "an odd request line",
        httparse::Error::Version => "an odd version",
        httparse::Error::Status | httparse::Error::TooManyHeaders => "no head of a request",
    }
}

/// The characters that both a path and a query may contain (RFC 3986, sections 3.3 and 3.4).
#[expect(clippy::indexing_slicing, reason = "each byte has a place, and this is made by the compiler")]
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut rest: &[u8] = b"/?%-._~!$&'()*+,;=:@0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    while let [byte, others @ ..] = rest {
        plain[*byte as usize] = true;
        rest = others;
    }
    plain
};

fn is_plain(byte: u8) -> bool {
    PLAIN.get(usize::from(byte)) == Some(&true)
}

/// Returns whether a target is a path, with an optional query, of plain characters only, so that it is valid
/// without parsing. Targets too long for a parser are excluded.
fn is_plain_origin(target: &[u8]) -> bool {
    target.first() == Some(&b'/') && target.len() < 32 * 1024 && target.iter().all(|&byte| is_plain(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str) -> Result<BodyFraming, HeadError> {
        assert_eq!(end_of_head(raw.as_bytes(), 0), Some(raw.len()), "{raw:?}");
        check_head(raw.as_bytes(), &Settings::default())
    }

    #[test]
    fn accepts_well_formed_heads() {
        assert_eq!(check("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(BodyFraming::None));
        assert_eq!(
            check("POST /a?b HTTP/1.0\r\nhost:a:1\r\nX-A:\t\u{e9} \r\nContent-Length: 7\r\n\r\n"),
            Ok(BodyFraming::Length(7))
        );
        assert_eq!(check("GET https://a/b HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(BodyFraming::None));
    }

    #[test]
    fn rejects_what_a_parser_would_repair() {
        for raw in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nb\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0cchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\x0c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX_Auth_Identity: b\r\n\r\n",
            "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https://a/b HTTP/1.1\r\n\r\n",
        ] {
            assert!(matches!(check(raw), Err(HeadError::Malformed(_))), "{raw:?}");
        }
    }

    #[test]
    fn what_is_plain_is_a_path_and_a_query_to_the_parser_too() {
        for byte in (0..=u8::MAX).filter(|&byte| is_plain(byte)) {
            for target in [&[b'/', byte][..], &[b'/', byte, byte, b'a'], &[b'/', b'?', byte, b'a']] {
                assert!(is_plain_origin(target));
                let uri = Uri::try_from(target).unwrap();
                let form = TargetForm::of(&uri, &Scheme::HTTPS);
                assert!(form.has_path && form.has_right_scheme && form.authority.is_none(), "{uri}");
                assert_eq!(uri.path_and_query().unwrap().as_str().as_bytes(), target);
            }
        }
        for other in [&b""[..], b"*", b"a", b"https://a/", b"?a", b"/#", b"/\"", b"/<", b"/\x7f", b"/\xff"] {
            assert!(!is_plain_origin(other));
        }
    }

    #[test]
    fn field_names_consist_of_token_characters() {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        // A colon ends the name.
        for byte in (0..=u8::MAX).filter(|&byte| byte != b':') {
            for name in [&[byte][..], &[b'a', byte], &[byte, b'a']] {
                let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", name, b": b\r\n\r\n"].concat();
                assert_eq!(check_head(&head, &Settings::default()).is_ok(), allowed(byte), "{byte}");
            }
        }
    }

    #[test]
    fn finds_scheme_and_authority_of_absolute_targets() {
        for (target, part) in [
            ("/", None),
            ("/a?b=c://d/", None),
            ("https://a/", Some("https://a")),
            ("HTTPS://A:443/b?c", Some("HTTPS://A:443")),
            ("https://a", Some("https://a")),
            ("https://a?b=/c", Some("https://a")),
        ] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(scheme_and_authority(head.as_bytes()).map(|range| &head[range]), part, "{target}");
        }
    }

    #[test]
    fn a_head_ends_at_the_first_empty_line() {
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\nHost: a\r\n", 0), None);
        assert_eq!(end_of_head(b"a\r\n\r\nb\r\n\r\n", 0), Some(5));
        assert_eq!(end_of_head(b"a\n\nb", 0), Some(3));
        assert_eq!(end_of_head(b"", 0), None);
        let head = b"a\r\nb\r\n\r\n";
        for seen in 0..head.len() {
            assert_eq!(end_of_head(head, seen), Some(head.len()), "{seen}");
        }
    }

    #[test]
    fn distinguishes_long_targets_from_large_headers() {
        let settings = Settings { max_header_bytes: 100, max_header_fields: 2, max_target_bytes: 10 };
        let check = |raw: &str| check_head(raw.as_bytes(), &settings);
        assert_eq!(check("GET /012345678 HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(BodyFraming::None));
        assert_eq!(check("GET /0123456789 HTTP/1.1\r\nHost: a\r\n\r\n"), Err(HeadError::TargetTooLong));
        assert_eq!(check("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\n\r\n"), Err(HeadError::HeadersTooLarge));
        assert_eq!(overflow(&[b'a'; 200], &settings), HeadError::TargetTooLong);
        assert_eq!(
            overflow(format!("GET / HTTP/1.1\r\n{}", "a".repeat(200)).as_bytes(), &settings),
            HeadError::HeadersTooLarge
        );
    }
}
