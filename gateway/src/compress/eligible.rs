//! Which responses are compressed.

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName, StatusCode};

use crate::syntax::{list_members, media_type, single, trim_ows};

/// The smallest body that is compressed, in bytes. The fields of a compressed response and its frame take some of what
/// a smaller one would save, and nearly all such responses fit into one packet either way.
pub const MIN_BYTES: usize = 256;

/// Media types that are compressed, besides `text/*` and the structured syntaxes in [`SUFFIXES`]. Formats that are
/// compressed themselves (images, audio, video, archives, most fonts) are not among them.
const TYPES: [&str; 23] = [
    "application/ecmascript",
    "application/graphql",
    "application/javascript",
    "application/json",
    "application/jsonl",
    "application/ndjson",
    "application/rtf",
    "application/sql",
    "application/toml",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/x-yaml",
    "application/xhtml+xml",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/svg+xml",
    "image/vnd.microsoft.icon",
    "image/x-icon",
];

/// Structured syntaxes (RFC 6839) that are compressed.
const SUFFIXES: [&str; 4] = ["+json", "+xml", "+yaml", "+text"];

/// Fields with a hash of the body as it is sent (RFC 9530; RFC 3230; RFC 1864): it would be wrong after compression.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// Whether the response of the backend with `status` and `headers` may be compressed, whatever its length.
///
/// It has a body that is complete (no `206`, no `Content-Range`), is not encoded, has one of the compressed media types
/// and no digest, and its `Cache-Control` does not forbid transformations. `text/event-stream` is never compressed:
/// its events would wait in the compressor.
pub fn is_compressible(status: StatusCode, headers: &HeaderMap) -> bool {
    let has_body = !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        );
    let is_encoded = headers.contains_key(CONTENT_ENCODING)
        || list_members(headers, &TRANSFER_ENCODING).any(|coding| !coding.eq_ignore_ascii_case(b"chunked"));
    has_body
        && !is_encoded
        && !headers.contains_key(CONTENT_RANGE)
        && single(headers, &CONTENT_TYPE).is_some_and(is_compressed_type)
        && is_transformable(headers)
        && !DIGESTS.iter().any(|name| headers.contains_key(*name))
}

/// Whether the field `name` has a hash of the body as it is sent.
pub fn is_digest(name: &HeaderName) -> bool {
    let dashed = name.as_str().replace('_', "-");
    DIGESTS.contains(&dashed.as_str())
}

/// Whether `Cache-Control` of a request or a response allows a transformation of the content (RFC 9111, sections
/// 5.2.1.6 and 5.2.2.6). A directive that only looks like `no-transform`, as within quotes, forbids it too.
pub fn is_transformable(headers: &HeaderMap) -> bool {
    const NO_TRANSFORM: &[u8] = b"no-transform";
    let forbids =
        |member: &[u8]| member.get(..NO_TRANSFORM.len()).is_some_and(|start| start.eq_ignore_ascii_case(NO_TRANSFORM));
    !list_members(headers, &CACHE_CONTROL).any(forbids)
}

/// Whether responses of this `Content-Type` are compressed. Parameters are ignored.
fn is_compressed_type(value: &HeaderValue) -> bool {
    let essence = media_type(value);
    let is = |text: &&str| essence.eq_ignore_ascii_case(text.as_bytes());
    let starts = essence.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/")) && essence.len() > 5;
    let ends_with = |suffix: &&str| {
        let start = essence.len().checked_sub(suffix.len());
        start.and_then(|start| essence.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
    };
    !is(&"text/event-stream") && (starts || TYPES.iter().any(is) || SUFFIXES.iter().any(ends_with))
}

/// `Vary` of a response with the fields `headers`, with `Accept-Encoding` among its members; `None` if it has it.
pub fn merged_vary(headers: &HeaderMap) -> Option<HeaderValue> {
    static ALONE: HeaderValue = HeaderValue::from_static("Accept-Encoding");
    let mut values = headers.get_all(VARY).iter();
    let Some(first) = values.next() else { return Some(ALONE.clone()) };
    let covers = |member: &[u8]| member == b"*" || member.eq_ignore_ascii_case(b"accept-encoding");
    if list_members(headers, &VARY).any(covers) {
        return None;
    }
    let mut merged = first.as_bytes().to_vec();
    for value in values.chain([&ALONE]) {
        if !trim_ows(&merged).is_empty() {
            merged.extend_from_slice(b", ");
        }
        merged.extend_from_slice(value.as_bytes());
    }
    // Valid values, joined by a comma.
    HeaderValue::from_bytes(&merged).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    fn with(fields: &[(&'static str, &str)]) -> bool {
        is_compressible(StatusCode::OK, &headers(&[&[JSON], fields].concat()))
    }

    #[test]
    fn text_and_structured_data_are_compressed() {
        let is_compressed = |value: &str| is_compressible(StatusCode::OK, &headers(&[("content-type", value)]));
        for value in [
            "text/html",
            "Text/Plain; charset=utf-8",
            "text/css ;x",
            "application/json",
            "APPLICATION/JSON",
            "application/problem+json",
            "application/hal+json; charset=utf-8",
            "application/rss+xml",
            "image/svg+xml",
            "application/javascript",
            "application/wasm",
            "font/ttf",
        ] {
            assert!(is_compressed(value), "{value}");
        }
        for value in [
            "",
            "text",
            "text/",
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "image/png",
            "video/mp4",
            "application/zip",
            "application/gzip",
            "application/octet-stream",
            "application/grpc",
            "multipart/byteranges; boundary=text/plain",
            "font/woff2",
            "json",
            "application/jsonx",
        ] {
            assert!(!is_compressed(value), "{value}");
        }
        assert!(!is_compressible(StatusCode::OK, &headers(&[])));
        assert!(!is_compressible(StatusCode::OK, &headers(&[JSON, JSON])));
    }

    #[test]
    fn only_complete_bodies_are_compressed() {
        let compressed = |status: &u16| is_compressible(StatusCode::from_u16(*status).unwrap(), &headers(&[JSON]));
        let others: Vec<u16> = (100..600).filter(|status| !compressed(status)).collect();
        assert_eq!(others, (100..200).chain([204, 205, 206, 304]).collect::<Vec<_>>());
        assert!(!with(&[("content-range", "bytes */9")]));
    }

    #[test]
    fn an_encoded_body_is_not_compressed_again() {
        for field in [("content-encoding", "gzip"), ("content-encoding", "identity"), ("content-encoding", "")] {
            assert!(!with(&[field]), "{field:?}");
        }
        assert!(with(&[("transfer-encoding", "Chunked")]));
        assert!(!with(&[("transfer-encoding", "gzip, chunked")]));
    }

    #[test]
    fn a_body_with_a_digest_is_not_compressed() {
        for name in DIGESTS {
            assert!(!with(&[(name, "x")]), "{name}");
        }
    }

    #[test]
    fn no_transform_is_obeyed() {
        for control in ["no-transform", "public, No-Transform", "no-transform=1, public", "max-age=1,no-transform"] {
            assert!(!with(&[("cache-control", control)]), "{control}");
            assert!(!with(&[("cache-control", "public"), ("cache-control", control)]), "{control}");
        }
        assert!(with(&[("cache-control", "public, no-store, transform, x-no-transform")]));
    }

    #[test]
    fn vary_names_accept_encoding_once() {
        for (lines, merged) in [
            (&[][..], Some("Accept-Encoding")),
            (&["Accept"], Some("Accept, Accept-Encoding")),
            (&["Accept", "Origin, Cookie"], Some("Accept, Origin, Cookie, Accept-Encoding")),
            (&[""], Some("Accept-Encoding")),
            (&["accept-encoding"], None),
            (&["Origin", "Accept , ACCEPT-ENCODING"], None),
            (&["*"], None),
            (&["X-Accept-Encoding"], Some("X-Accept-Encoding, Accept-Encoding")),
        ] {
            let fields: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
            let actual = merged_vary(&headers(&fields));
            assert_eq!(actual.as_ref().map(|value| value.to_str().unwrap()), merged, "{lines:?}");
        }
    }
}
