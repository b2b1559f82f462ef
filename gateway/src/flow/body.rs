//! Reading the body of a request.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Version, header};
use pingora::{Error, ErrorType, Result};
use tokio::time::timeout;

use crate::downstream::Downstream;
use crate::framing::BodyFraming;
use crate::login;

/// Whether the request has content, if its head declares `declared`. An empty body is no content: a
/// chunked body with only its last chunk, or an HTTP/2 stream that ends with an empty DATA frame or
/// with trailers. The body is therefore read until its first byte or its end, for up to `limit`.
///
/// # Errors
/// On the client's side; a timeout if neither arrived in time.
pub(super) async fn has_content(
    downstream: &mut impl Downstream,
    declared: BodyFraming,
    limit: Duration,
) -> Result<bool> {
    match declared {
        BodyFraming::Length(_) => Ok(true),
        BodyFraming::None if !downstream.has_body() => Ok(false),
        // Boxed, since nearly every request has no body.
        BodyFraming::None | BodyFraming::Chunked => Box::pin(await_content(downstream, limit)).await,
    }
}

async fn await_content(downstream: &mut impl Downstream, limit: Duration) -> Result<bool> {
    let first = async {
        continue_if_expected(downstream).await?;
        while let Some(part) = downstream.read_body().await? {
            if !part.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let late = |_| Error::explain(ErrorType::ReadTimedout, "neither content nor its end came in time").into_down();
    timeout(limit, first).await.map_err(late)?
}

/// Reads a request's body of at most `limit` bytes.
pub(super) async fn read_body(downstream: &mut impl Downstream, limit: usize) -> Result<Bytes, login::LoginError> {
    let headers = &downstream.request().headers;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|declared| declared > limit) {
        return Err(login::LoginError::TooLarge);
    }
    continue_if_expected(downstream).await.map_err(|_| login::LoginError::Incomplete)?;
    let mut body = BytesMut::new();
    while let Some(part) = downstream.read_body().await.map_err(|error| unread(&error))? {
        if body.len() + part.len() > limit {
            return Err(login::LoginError::TooLarge);
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}

/// Sends `100 Continue` to a client that waits for it before it sends its body.
pub(super) async fn continue_if_expected(downstream: &mut impl Downstream) -> Result<()> {
    let request = downstream.request();
    let expect = request.headers.get(header::EXPECT);
    let expects = expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    // HTTP/1.0 has no interim responses and would take this for the final one (RFC 9110, section
    // 10.1.1). If no body follows, there is nothing to wait for.
    if expects && request.version != Version::HTTP_10 && downstream.has_body() {
        downstream.send_continue().await?;
    }
    Ok(())
}

/// Why a login's body could not be read.
fn unread(error: &Error) -> login::LoginError {
    match error.etype() {
        ErrorType::ReadTimedout => login::LoginError::Incomplete,
        _ => login::LoginError::Broken,
    }
}
