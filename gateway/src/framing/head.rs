//! The head of an HTTP/1 request as it came, before any parser has mended it
//! (RFC 9112, sections 2 to 6).

use std::ops::Range;

use http::uri::Scheme;
use http::{Method, Uri, Version};
use memchr::{memchr, memchr_iter};

use super::{Body, Decisive, Form, Refusal, Settings, TWIN, check_path, is_twin, meaning};

/// What a request line holds besides its target, generously: a method, a version, CRLF.
const LINE_BYTES: usize = 64;

/// The most that a head may have, in bytes, before it is known to be too large.
pub fn max_head_bytes(settings: &Settings) -> usize {
    settings.max_header_bytes + settings.max_target_bytes + LINE_BYTES
}

/// Where the head ends that `bytes` begin with, where it does; the first `seen` bytes are known
/// to hold no end. Lines that end in a bare LF end a head as well: [`check_head`] refuses them,
/// instead of waiting for what never comes.
pub fn end_of_head(bytes: &[u8], seen: usize) -> Option<usize> {
    // An end is up to three bytes long, so it may have begun two before.
    let start = seen.saturating_sub(2);
    let rest = bytes.get(start..)?;
    let end = memchr_iter(b'\n', rest).find_map(|newline| match (rest.get(newline + 1), rest.get(newline + 2)) {
        (Some(b'\n'), _) => Some(newline + 2),
        (Some(b'\r'), Some(b'\n')) => Some(newline + 3),
        _ => None,
    })?;
    Some(start + end)
}

/// A whole head that has one meaning.
pub(super) struct Checked<'a> {
    pub(super) method: Method,
    pub(super) target: &'a [u8],
    pub(super) version: Version,
    /// What follows it.
    pub(super) body: Body,
}

/// Checks a whole head: its grammar, that it has one meaning, and what a parser cannot take.
/// Tells what follows it.
///
/// # Errors
/// The first [`Refusal`] in the contract's order.
pub fn check_head(raw: &[u8], settings: &Settings) -> Result<Body, Refusal> {
    check(raw, settings, &Scheme::HTTPS, |_, _| {}).map(|head| head.body)
}

/// [`check_head`], for whoever wants to know more of it: `each` is told of the name and the value of
/// each field, before it is known whether the whole head passes.
pub(super) fn check<'a>(
    raw: &'a [u8],
    settings: &Settings,
    scheme: &Scheme,
    mut each: impl FnMut(&'a [u8], &'a [u8]),
) -> Result<Checked<'a>, Refusal> {
    let (request_line, mut rest) = next_line(raw)?;
    let (method, target, version) = read_request_line(request_line)?;
    let mut fields = Decisive::default();
    let mut count = 0;
    while !rest.is_empty() {
        let field;
        (field, rest) = next_line(rest)?;
        if field.is_empty() {
            break;
        }
        count += 1;
        let (name, value) = read_field(field)?;
        if is_twin(name) {
            return Err(TWIN);
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
        Form::ORIGIN
    } else {
        uri = match Uri::try_from(target) {
            Ok(uri) => uri,
            Err(_) if is_too_long => {
                check_path(path_of(target))?;
                return Err(Refusal::TargetTooLong);
            }
            Err(_) => return Err(Refusal::Malformed("an odd target")),
        };
        Form::of(&uri, scheme)
    };
    let (_, body) = meaning(&method, form, version, fields)?;
    // The parser takes no more than 256 fields.
    let has_too_many = count > settings.max_header_fields;
    if is_too_long || has_too_many {
        // The path is checked once the head is parsed, but what is too large is not parsed.
        check_path(path_of(target))?;
        return Err(if is_too_long { Refusal::TargetTooLong } else { Refusal::HeadersTooLarge });
    }
    Ok(Checked { method, target, version, body })
}

/// The path of a target that may be too long for a parser. An absolute target has its path behind the host, or
/// none.
fn path_of(target: &[u8]) -> &str {
    let target = std::str::from_utf8(target).unwrap_or_default();
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => rest.find('/').and_then(|slash| rest.get(slash..)),
        _ => Some(target),
    };
    path.and_then(|path| path.split('?').next()).unwrap_or_default()
}

/// The value of the one `Origin` field of a head that was refused, if any: a page may read why.
pub fn sole_origin(head: &[u8]) -> Option<&[u8]> {
    let is_origin = |line: &'_ [u8]| line.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"origin:"));
    let mut lines = head.split(|&byte| byte == b'\n').filter(|line| is_origin(line));
    let line = lines.next().filter(|_| lines.next().is_none())?;
    line.get(7..).map(<[u8]>::trim_ascii)
}

/// Where the scheme and the authority of an absolute target are in a head that passed: `Host` names the
/// same host, so that they can be left out.
pub fn absolute_part(head: &[u8]) -> Option<Range<usize>> {
    let start = memchr(b' ', head)? + 1;
    let target = head.get(start..).filter(|target| !target.starts_with(b"/"))?;
    let host = target.windows(3).position(|window| window == b"://")? + 3;
    let end = target.get(host..)?.iter().position(|byte| matches!(byte, b'/' | b'?' | b' '))?;
    Some(start..start + host + end)
}

/// Why a head that has not ended within [`max_head_bytes`] is refused.
pub fn overflow(raw: &[u8], settings: &Settings) -> Refusal {
    let line = raw.iter().position(|&byte| byte == b'\n').unwrap_or(raw.len());
    if line > settings.max_target_bytes + LINE_BYTES { Refusal::TargetTooLong } else { Refusal::HeadersTooLarge }
}

/// The first line without its CRLF, and what follows it.
fn next_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let end = memchr(b'\n', bytes).map_or(bytes.len(), |newline| newline + 1);
    let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    let line = line.strip_suffix(b"\r\n").ok_or(Refusal::Malformed("a line does not end in CRLF"))?;
    Ok((line, rest))
}

fn read_request_line(line: &[u8]) -> Result<(Method, &[u8], Version), Refusal> {
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::Malformed("the request line is not three words"));
    };
    let method = Method::from_bytes(method).map_err(|_| Refusal::Malformed("an odd method"))?;
    // A fragment is never sent (RFC 9112, section 3.2); the parser would drop it silently.
    if target.is_empty() || !target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Refusal::Malformed("a character that may not stand in a target"));
    }
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        _ => return Err(Refusal::Malformed("an odd version")),
    };
    Ok((method, target, version))
}

fn read_field(field: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(field.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::Malformed("a folded line"));
    }
    let end = field.iter().position(|&byte| !is(byte, TOKEN)).unwrap_or(field.len());
    let (name, rest) = field.split_at_checked(end).unwrap_or((field, &[]));
    let value = match rest {
        [b':', value @ ..] if !name.is_empty() => trim(value),
        _ => return Err(Refusal::Malformed("an odd field name, or a line without a colon")),
    };
    // Controls, a bare CR and NUL among them, may not stand in a value (RFC 9110, section 5.5).
    // Asked of each byte, whatever the one before was: so many are looked at together.
    if value.iter().fold(false, |odd, &byte| odd | (byte.is_ascii_control() && byte != b'\t')) {
        return Err(Refusal::Malformed("a control character in a value"));
    }
    Ok((name, value))
}

/// A value without the white space around it (RFC 9110, section 5.6.3), of which a form feed is
/// none.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// What may stand in a field's name (RFC 9110, section 5.6.2).
const TOKEN: u8 = 1;

/// What may stand in a path and in a query alike (RFC 3986, sections 3.3 and 3.4), whoever reads
/// them.
const PLAIN: u8 = 2;

/// What each byte may be.
#[expect(clippy::indexing_slicing, reason = "each byte has a place, and this is made by the compiler")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut rest: &[u8] = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    while let [byte, others @ ..] = rest {
        classes[*byte as usize] |= TOKEN;
        rest = others;
    }
    let mut rest: &[u8] = b"/?%-._~!$&'()*+,;=:@0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    while let [byte, others @ ..] = rest {
        classes[*byte as usize] |= PLAIN;
        rest = others;
    }
    classes
};

fn is(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|classes| classes & class != 0)
}

/// Whether a target is a path of plain characters, perhaps with a query, which needs no parser to
/// have one meaning. What is longer than any parser takes is left to that.
fn is_plain_origin(target: &[u8]) -> bool {
    target.first() == Some(&b'/') && target.len() < 32 * 1024 && target.iter().all(|&byte| is(byte, PLAIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str) -> Result<Body, Refusal> {
        assert_eq!(end_of_head(raw.as_bytes(), 0), Some(raw.len()), "{raw:?}");
        check_head(raw.as_bytes(), &Settings::default())
    }

    #[test]
    fn plain_heads_pass() {
        assert_eq!(check("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Body::None));
        assert_eq!(
            check("POST /a?b HTTP/1.0\r\nhost:a:1\r\nX-A:\t\u{e9} \r\nContent-Length: 7\r\n\r\n"),
            Ok(Body::Length(7))
        );
        assert_eq!(check("GET https://a/b HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Body::None));
    }

    #[test]
    fn what_a_parser_would_mend_is_refused() {
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
            assert!(matches!(check(raw), Err(Refusal::Malformed(_))), "{raw:?}");
        }
    }

    #[test]
    fn what_is_plain_is_a_path_and_a_query_to_the_parser_too() {
        for byte in (0..=u8::MAX).filter(|&byte| is(byte, PLAIN)) {
            for target in [&[b'/', byte][..], &[b'/', byte, byte, b'a'], &[b'/', b'?', byte, b'a']] {
                assert!(is_plain_origin(target));
                let uri = Uri::try_from(target).unwrap();
                let form = Form::of(&uri, &Scheme::HTTPS);
                assert!(form.has_path && form.has_right_scheme && form.authority.is_none(), "{uri}");
                assert_eq!(uri.path_and_query().unwrap().as_str().as_bytes(), target);
            }
        }
        for odd in [&b""[..], b"*", b"a", b"https://a/", b"?a", b"/#", b"/\"", b"/<", b"/\x7f", b"/\xff"] {
            assert!(!is_plain_origin(odd));
        }
    }

    #[test]
    fn a_name_has_the_characters_of_a_token_alone() {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for byte in 0..=u8::MAX {
            assert_eq!(is(byte, TOKEN), allowed(byte), "{byte}");
        }
    }

    #[test]
    fn an_absolute_target_has_a_part_that_host_repeats() {
        for (target, part) in [
            ("/", None),
            ("/a?b=c://d/", None),
            ("https://a/", Some("https://a")),
            ("HTTPS://A:443/b?c", Some("HTTPS://A:443")),
            ("https://a", Some("https://a")),
            ("https://a?b=/c", Some("https://a")),
        ] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(absolute_part(head.as_bytes()).map(|range| &head[range]), part, "{target}");
        }
    }

    #[test]
    fn a_head_ends_at_its_first_empty_line() {
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
    fn sizes_are_told_apart() {
        let settings = Settings { max_header_bytes: 100, max_header_fields: 2, max_target_bytes: 10 };
        let check = |raw: &str| check_head(raw.as_bytes(), &settings);
        assert_eq!(check("GET /012345678 HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Body::None));
        assert_eq!(check("GET /0123456789 HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Refusal::TargetTooLong));
        assert_eq!(check("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\n\r\n"), Err(Refusal::HeadersTooLarge));
        assert_eq!(overflow(&[b'a'; 200], &settings), Refusal::TargetTooLong);
        assert_eq!(
            overflow(format!("GET / HTTP/1.1\r\n{}", "a".repeat(200)).as_bytes(), &settings),
            Refusal::HeadersTooLarge
        );
    }
}
