//! Reads request bodies, bounded in length and time.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;

use super::csrf::{content_type, unsupported};
use crate::respond::HttpError;

/// Reads the whole body, of at most `limit` bytes, within `timeout`.
///
/// # Errors
/// `413`, `408`, or `400` if the body is incomplete. Each closes the connection.
pub(super) async fn read<B>(body: B, limit: usize, timeout: Duration) -> Result<Bytes, HttpError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large =
        || HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is over {limit} bytes")).closing();
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(timeout, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(HttpError::bad_request("the body is incomplete").closing()),
        Err(_) => Err(HttpError::new(StatusCode::REQUEST_TIMEOUT, "the body was not received in time").closing()),
    }
}

/// Reads the body as a JSON object of type `T`. `expected` describes `T`: the parser's message could repeat a value,
/// which may be a password.
///
/// # Errors
/// `415` for another content type, `400` if it is not a `T`, and those of [`read`].
pub(super) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Incoming,
    limit: usize,
    timeout: Duration,
    expected: &'static str,
) -> Result<T, HttpError> {
    let bytes = json_bytes(headers, body, limit, timeout).await?;
    // For serde, an array with the values of a struct's fields is that struct.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(HttpError::bad_request(format!("the body must be {expected}")));
    }
    parse(&bytes, expected)
}

/// Reads the body as a JSON array of `T`.
///
/// # Errors
/// Those of [`json`].
pub(super) async fn json_array<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Incoming,
    limit: usize,
    timeout: Duration,
    expected: &'static str,
) -> Result<Vec<T>, HttpError> {
    parse(&json_bytes(headers, body, limit, timeout).await?, expected)
}

async fn json_bytes(headers: &HeaderMap, body: Incoming, limit: usize, timeout: Duration) -> Result<Bytes, HttpError> {
    if content_type(headers).as_deref() != Some("application/json") {
        return Err(unsupported("the content type must be application/json"));
    }
    read(body, limit, timeout).await
}

fn parse<T: DeserializeOwned>(bytes: &[u8], expected: &'static str) -> Result<T, HttpError> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => HttpError::bad_request(format!("the body must be {expected}")),
        _ => HttpError::bad_request("the body is not JSON"),
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_body_is_bounded_with_and_without_content_length() {
        let sized = Full::new(Bytes::from_static(b"12345"));
        assert_eq!(read(sized.clone(), 5, LONG).await.unwrap(), "12345");
        assert_eq!(read(sized, 4, LONG).await.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        let frames =
            ["123", "45"].map(|part| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(part.as_bytes()))));
        let unsized_body = StreamBody::new(futures_util::stream::iter(frames));
        assert_eq!(read(unsized_body, 4, LONG).await.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_stalled_or_incomplete_body_is_rejected() {
        let stops = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        let refused = read(stops, 4, Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::REQUEST_TIMEOUT);
        let frames = [Err::<Frame<Bytes>, _>(std::io::Error::other("reset"))];
        let refused = read(StreamBody::new(futures_util::stream::iter(frames)), 4, LONG).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    }
}
