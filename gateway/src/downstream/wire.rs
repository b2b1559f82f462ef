//! Parts of responses in the form of HTTP/1.1.

use bytes::BufMut as _;
use http::{HeaderMap, StatusCode};

/// Writes the status line of HTTP/1.1.
#[inline]
pub fn put_status(out: &mut Vec<u8>, status: StatusCode) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
}

/// Writes a field line of HTTP/1.1.
#[inline]
pub fn put_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Writes the end of a chunked body (RFC 9112, section 7.1).
pub(in crate::downstream) fn put_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        put_field(out, name.as_str(), value.as_bytes());
    }
    out.put_slice(b"\r\n");
}

/// Writes `103 Early Hints`.
pub(super) fn put_early_hints(out: &mut Vec<u8>, fields: &HeaderMap) {
    put_status(out, StatusCode::EARLY_HINTS);
    for (name, value) in fields {
        put_field(out, name.as_str(), value.as_bytes());
    }
    out.put_slice(b"\r\n");
}
