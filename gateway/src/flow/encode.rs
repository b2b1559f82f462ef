//! Compresses forwarded responses while they are sent.

use std::io;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG};
use http::{StatusCode, request, response};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use tokio::task::yield_now;

use crate::cache;
use crate::compress::{self, Encoding};
use crate::downstream::allows_body;

/// How much is compressed before other tasks of the thread get their turn, in bytes.
const SLICE_BYTES: usize = 16 * 1024;

/// How much compressed data is collected while more of the body is available, in bytes.
const COLLECTED_BYTES: usize = 8 * 1024;

/// A response of the backend.
pub(super) struct Content<'a> {
    pub(super) parts: &'a response::Parts,
    /// The length of its body, if all of it has arrived.
    pub(super) length: Option<usize>,
}

/// Changes `header`, which answers `request` on a route that offers compression, and returns the compressor of the
/// body; `None` if the body is sent as it is, or is not sent.
///
/// A response to HEAD has the fields of that to GET, except that the length of a body without `Content-Length` is not
/// known.
///
/// # Errors
/// A field cannot be set.
pub(super) fn encode(
    request: &request::Parts,
    offered: &[Encoding],
    content: &Content<'_>,
    header: &mut ResponseHeader,
) -> Result<Option<BodyEncoder>> {
    let received = &content.parts.headers;
    cache::vary_head(header, received)?;
    let is_sent = allows_body(&request.method, content.parts.status);
    let length = header.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let is_small = length.or(content.length.filter(|_| is_sent)).is_some_and(|length| length < compress::MIN_BYTES);
    let accepted = compress::negotiate(&request.headers, offered);
    let accepted = accepted.filter(|_| compress::is_transformable(&request.headers));
    if content.parts.status == StatusCode::NOT_MODIFIED {
        if let Some(tag) = compress::not_modified_tag(&request.headers, received, accepted) {
            header.insert_header(ETAG, tag)?;
        }
        return Ok(None);
    }
    let Some(encoding) = accepted.filter(|_| !is_small) else { return Ok(None) };
    if !compress::is_compressible(content.parts.status, received) {
        return Ok(None);
    }
    // Without memory for it, the body is sent as it is.
    let Ok(encoder) = compress::Encoder::new(encoding) else { return Ok(None) };
    cache::encode_head(header, encoding, received)?;
    Ok(is_sent.then(|| BodyEncoder(Box::new(encoder))))
}

/// The compressor of one response body.
pub(super) struct BodyEncoder(Box<compress::Encoder>);

impl BodyEncoder {
    /// Compresses a piece of the body. Returns what can be sent, which may be empty if there is `more` now; otherwise
    /// it includes all of the piece, so that a slow body is not held back.
    ///
    /// # Errors
    /// Of the compressor.
    pub(super) async fn encode(&mut self, piece: &[u8], more: bool) -> Result<Bytes> {
        for (number, slice) in piece.chunks(SLICE_BYTES).enumerate() {
            if number > 0 {
                yield_now().await;
            }
            self.0.push(slice).map_err(failed)?;
        }
        if !more {
            self.0.flush().map_err(failed)?;
        } else if self.0.ready_bytes() < COLLECTED_BYTES {
            return Ok(Bytes::new());
        }
        Ok(self.0.take().into())
    }

    /// The end of the compressed body after `unsent`.
    ///
    /// # Errors
    /// Of the compressor.
    pub(super) fn finish(self, unsent: &[u8]) -> Result<Bytes> {
        let rest = self.0.finish().map_err(failed)?;
        if unsent.is_empty() {
            return Ok(rest.into());
        }
        Ok([unsent, &rest].concat().into())
    }
}

fn failed(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::InternalError, "the response could not be compressed", error)
}
