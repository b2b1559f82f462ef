//! Parses an HTTP/1 head while checking it.

use bytes::Bytes;
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use super::head::check;
use super::{BodyFraming, HeadError, Settings};

/// Initial capacity for fields: as many as a browser sends.
const USUAL_FIELDS: usize = 24;

/// Like [`check_head`](super::check_head), and parses the head. The request is `None` if the types of the
/// `http` crate do not accept the head. All parts of the request share one copy of it.
///
/// # Errors
/// As for [`check_head`](super::check_head).
pub fn read_head(raw: &[u8], settings: &Settings) -> Result<(BodyFraming, Option<Parts>), HeadError> {
    read_head_of(raw, settings, &Scheme::HTTPS)
}

/// Like [`read_head`], for a listener of another `scheme`, which an absolute target must have.
///
/// # Errors
/// As for [`read_head`].
pub fn read_head_of(
    raw: &[u8],
    settings: &Settings,
    scheme: &Scheme,
) -> Result<(BodyFraming, Option<Parts>), HeadError> {
    let all = Bytes::copy_from_slice(raw);
    let (mut headers, mut has_all) = (HeaderMap::with_capacity(USUAL_FIELDS), true);
    let head = check(&all, settings, scheme, |name, value| {
        has_all &= append(&mut headers, name, all.slice_ref(value)).is_some();
    })?;
    let uri = Uri::from_maybe_shared(all.slice_ref(head.target)).ok().filter(|_| has_all);
    let request = uri.map(|uri| {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = head.method;
        parts.version = head.version;
        parts.uri = uri;
        parts.headers = headers;
        parts
    });
    Ok((head.body, request))
}

/// Adds a field; `None` if that is impossible.
fn append(headers: &mut HeaderMap, name: &[u8], value: Bytes) -> Option<bool> {
    let name = HeaderName::from_bytes(name).ok()?;
    let value = HeaderValue::from_maybe_shared(value).ok()?;
    headers.try_append(name, value).ok()
}

#[cfg(test)]
mod tests {
    use http::{Method, Version};

    use super::*;

    fn read(raw: &str) -> Result<(BodyFraming, Option<Parts>), HeadError> {
        read_head(raw.as_bytes(), &Settings::default())
    }

    #[test]
    fn fields_and_values_are_parsed_unchanged() {
        let raw = "HEAD /a?b=c HTTP/1.1\r\nHost: x\r\nCookie:a \r\ncookie: \t b\r\nX-Empty:\r\n\r\n";
        let (body, parts) = read(raw).unwrap();
        let parts = parts.unwrap();
        assert_eq!((parts.method, parts.version, body), (Method::HEAD, Version::HTTP_11, BodyFraming::None));
        assert_eq!(parts.uri, "/a?b=c");
        assert_eq!(parts.headers["host"], "x");
        assert_eq!(parts.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(parts.headers["x-empty"], "");
        assert_eq!(parts.headers.len(), 4);
    }

    #[test]
    fn returns_the_body_framing_and_rejects_malformed_heads() {
        let (body, parts) = read("POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 7\r\n\r\n").unwrap();
        assert_eq!((body, parts.unwrap().version), (BodyFraming::Length(7), Version::HTTP_10));
        for malformed in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET /\r\n",
            "",
        ] {
            assert!(matches!(read(malformed), Err(HeadError::Malformed(_))), "{malformed:?}");
        }
    }

    #[test]
    fn more_fields_than_a_map_holds_are_not_parsed() {
        let settings = Settings { max_header_fields: usize::MAX, ..Settings::default() };
        let fields: String = (0..40_000).map(|number| format!("A{number}: b\r\n")).collect();
        let raw = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        assert!(matches!(read_head(raw.as_bytes(), &settings), Ok((BodyFraming::None, None))));
        assert_eq!(read(&raw).unwrap_err(), HeadError::HeadersTooLarge);
    }
}
