//! A head of HTTP/1 that [`check_head`](super::check_head) let pass, as a request.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use memchr::memchr;

use super::Refusal;
use super::head::{next_line, read_request_line, trim};

/// The fields for which room is taken at once: as many as a browser sends.
const USUAL_FIELDS: usize = 24;

/// The request that a whole head is of.
///
/// # Errors
/// [`Refusal::Malformed`] where [`check_head`](super::check_head) would say so, or what stands in
/// it is no URI or field; [`Refusal::HeadersTooLarge`] where no map of fields takes so many.
pub fn parse_head(raw: &[u8]) -> Result<Parts, Refusal> {
    let all = Bytes::copy_from_slice(raw);
    let (mut parts, ()) = Request::new(()).into_parts();
    let (request_line, mut rest) = next_line(&all)?;
    let (method, target, version) = read_request_line(request_line)?;
    parts.method = method;
    parts.version = version;
    parts.uri = Uri::from_maybe_shared(all.slice_ref(target)).map_err(|_| Refusal::Malformed("an odd target"))?;
    parts.headers = HeaderMap::with_capacity(USUAL_FIELDS);
    while !rest.is_empty() {
        let field;
        (field, rest) = next_line(rest)?;
        if field.is_empty() {
            break;
        }
        // What may stand in a name and in a value is asked for by the types that they become.
        let colon = memchr(b':', field).ok_or(Refusal::Malformed("a line without a colon"))?;
        let (name, value) = (field.get(..colon).unwrap_or_default(), field.get(colon + 1..).unwrap_or_default());
        let value = trim(value);
        let name = HeaderName::from_bytes(name).map_err(|_| Refusal::Malformed("an odd field name"))?;
        let value = HeaderValue::from_maybe_shared(all.slice_ref(value));
        let value = value.map_err(|_| Refusal::Malformed("an odd value"))?;
        parts.headers.try_append(name, value).map_err(|_| Refusal::HeadersTooLarge)?;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use http::{Method, Version};

    use super::*;

    #[test]
    fn a_head_is_read_as_it_stands() {
        let parts =
            parse_head(b"HEAD /a?b=c HTTP/1.1\r\nHost: x\r\nCookie:a \r\ncookie: \t b\r\nX-Empty:\r\n\r\n").unwrap();
        assert_eq!((parts.method, parts.version), (Method::HEAD, Version::HTTP_11));
        assert_eq!(parts.uri, "/a?b=c");
        assert_eq!(parts.headers["host"], "x");
        assert_eq!(parts.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(parts.headers["x-empty"], "");
        assert_eq!(parts.headers.len(), 4);
    }

    #[test]
    fn more_fields_than_a_map_takes_are_too_many() {
        let raw = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(40_000));
        assert_eq!(parse_head(raw.as_bytes()).unwrap_err(), Refusal::HeadersTooLarge);
    }

    #[test]
    fn what_is_no_head_is_none() {
        for odd in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
            "GET / HTTP/1.1\r\nA: \0\r\n\r\n",
            "GET / HTTP/1.1\r\nA\r\n\r\n",
            "GET /\r\n\r\n",
            "",
        ] {
            assert!(matches!(parse_head(odd.as_bytes()), Err(Refusal::Malformed(_))), "{odd:?}");
        }
    }
}
