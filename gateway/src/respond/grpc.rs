//! Refusals of gRPC requests. A gRPC client reads the outcome of a call from `grpc-status`, in a response with status 200
//! (the gRPC protocol over HTTP/2, "Responses").

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};

use super::LocalResponse;
use crate::syntax::media_type;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The media type of gRPC, to which a format may be appended with `+`.
const MEDIA_TYPE: &str = "application/grpc";

/// Whether `request` is a gRPC call.
pub(super) fn is_grpc(request: &Parts) -> bool {
    if request.version != Version::HTTP_2 || request.method != Method::POST {
        return false;
    }
    let media_type = request.headers.get(CONTENT_TYPE).map(media_type).unwrap_or_default();
    let (name, format) = media_type.split_at_checked(MEDIA_TYPE.len()).unwrap_or_default();
    name.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes()) && matches!(format, [] | [b'+', ..])
}

/// The code for a refusal with `status`: the one that clients derive from a response without `grpc-status`.
fn code(status: StatusCode) -> &'static str {
    const UNKNOWN: &str = "2";
    const PERMISSION_DENIED: &str = "7";
    const UNIMPLEMENTED: &str = "12";
    const INTERNAL: &str = "13";
    const UNAVAILABLE: &str = "14";
    const UNAUTHENTICATED: &str = "16";
    match status {
        StatusCode::BAD_REQUEST => INTERNAL,
        StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
        StatusCode::FORBIDDEN => PERMISSION_DENIED,
        StatusCode::NOT_FOUND => UNIMPLEMENTED,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

impl LocalResponse {
    /// The refusal as the response to a gRPC call: its status in `grpc-status`, without a body.
    pub(super) fn into_grpc(mut self) -> Self {
        let message = self.status.canonical_reason().unwrap_or("Error");
        self.headers.retain(|(name, _)| name != CONTENT_TYPE);
        self.headers.extend([
            (CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE)),
            (GRPC_STATUS, HeaderValue::from_static(code(self.status))),
            // The reason phrases need no percent-encoding.
            (GRPC_MESSAGE, HeaderValue::from_static(message)),
        ]);
        Self { status: StatusCode::OK, body: Bytes::new(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn only_posts_over_http_2_with_its_media_type_are_grpc() {
        for (method, version, media_type, expected) in [
            ("POST", Version::HTTP_2, "application/grpc", true),
            ("POST", Version::HTTP_2, "application/grpc+proto", true),
            ("POST", Version::HTTP_2, "application/grpc;a=b", true),
            ("POST", Version::HTTP_2, "application/grp", false),
            ("POST", Version::HTTP_2, "application/grpc-web", false),
            ("POST", Version::HTTP_2, "application/json", false),
            ("GET", Version::HTTP_2, "application/grpc", false),
            ("POST", Version::HTTP_11, "application/grpc", false),
        ] {
            let request = Request::builder().method(method).version(version).header(CONTENT_TYPE, media_type);
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(is_grpc(&parts), expected, "{method} {version:?} {media_type}");
        }
    }

    #[test]
    fn a_refusal_has_its_code_and_no_body() {
        for (status, code) in [(400, "13"), (401, "16"), (403, "7"), (404, "12"), (413, "2"), (429, "14"), (503, "14")]
        {
            let refusal = LocalResponse::plain(StatusCode::from_u16(status).unwrap()).into_grpc();
            assert_eq!((refusal.status, refusal.body.len()), (StatusCode::OK, 0));
            let value = |name: HeaderName| {
                let values: Vec<_> = refusal.headers.iter().filter(|(key, _)| *key == name).collect();
                assert_eq!(values.len(), 1, "{name}");
                values[0].1.to_str().unwrap().to_owned()
            };
            assert_eq!((value(GRPC_STATUS).as_str(), value(CONTENT_TYPE).as_str()), (code, MEDIA_TYPE));
            assert!(!value(GRPC_MESSAGE).is_empty());
        }
    }
}
