//! Compresses forwarded responses while they are sent.

use std::io;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG};
use http::{HeaderMap, StatusCode, request, response};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use tokio::task::yield_now;

use super::ahead::Ahead;
use crate::cache;
use crate::compress::{self, Encoding};
use crate::downstream::allows_body;
use crate::upstream::{ResponseBody, UpstreamError};

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

/// Changes `header`, which answers `request` on a route with the codings `offered`, and returns the compressor of the
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
    if offered.is_empty() {
        return Ok(None);
    }
    let received = &content.parts.headers;
    if content.parts.status == StatusCode::NOT_MODIFIED {
        return encode_not_modified(request, offered, received, header).map(|()| None);
    }
    cache::distinguish_head(header, received)?;
    if !compress::is_negotiated(&request.headers, offered) {
        return Ok(None);
    }
    let is_sent = allows_body(&request.method, content.parts.status);
    let length = header.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let is_small = length.or(content.length.filter(|_| is_sent)).is_some_and(|length| length < compress::MIN_BYTES);
    if is_small || !compress::is_compressible(content.parts.status, received) {
        return Ok(None);
    }
    cache::vary_head(header)?;
    let Some(encoding) = accepted(request, offered) else { return Ok(None) };
    if !is_sent {
        return cache::encode_head(header, encoding, received).map(|()| None);
    }
    // Without memory for it, the body is sent as it is.
    let Ok(encoder) = compress::Encoder::new(encoding) else { return Ok(None) };
    cache::encode_head(header, encoding, received)?;
    Ok(Some(BodyEncoder(Box::new(encoder))))
}

/// Gives a `304` the tag of the form that the client has. Its type and length are not known.
fn encode_not_modified(
    request: &request::Parts,
    offered: &[Encoding],
    received: &HeaderMap,
    header: &mut ResponseHeader,
) -> Result<()> {
    if let Some(tag) = compress::not_modified_tag(&request.headers, received, accepted(request, offered)) {
        header.insert_header(ETAG, tag)?;
    }
    if compress::is_negotiated(&request.headers, offered) {
        cache::vary_head(header)?;
    }
    Ok(())
}

/// The coding of the response to `request`; `None` for identity.
fn accepted(request: &request::Parts, offered: &[Encoding]) -> Option<Encoding> {
    compress::negotiate(&request.headers, offered).filter(|_| compress::is_transformable(&request.headers))
}

/// The compressor of one response body.
pub(super) struct BodyEncoder(Box<compress::Encoder>);

impl BodyEncoder {
    /// Compresses `piece` of `body`, whose further pieces are in `ahead`. Returns what can be sent, which may be empty if
    /// more has arrived; otherwise it includes all of the piece, so that a slow body is not held back.
    ///
    /// # Errors
    /// Of the compressor; within the result, the body broke off.
    pub(super) async fn encode(
        &mut self,
        piece: Bytes,
        ahead: &mut Ahead,
        body: &mut ResponseBody,
    ) -> Result<Result<Bytes, UpstreamError>> {
        let has_more = match ahead.has_more(body).await {
            Ok(has_more) => has_more,
            Err(error) => return Ok(Err(error)),
        };
        for (number, slice) in piece.chunks(SLICE_BYTES).enumerate() {
            if number > 0 {
                yield_now().await;
            }
            self.0.push(slice).map_err(failed)?;
        }
        if !has_more {
            self.0.flush().map_err(failed)?;
        } else if self.0.ready_bytes() < COLLECTED_BYTES {
            return Ok(Ok(Bytes::new()));
        }
        Ok(Ok(self.0.take().into()))
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
