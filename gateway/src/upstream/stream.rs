//! Which responses are event streams.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::syntax::media_type;

/// The media type of server-sent events (the HTML standard, section 9.2).
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Whether a response with `headers` is an event stream, which has no end of its own.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| media_type(value).eq_ignore_ascii_case(EVENT_STREAM))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_media_type_decides_in_any_case_and_with_any_parameters() {
        let is = |value: &'static str| {
            is_event_stream(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        for value in ["text/event-stream", "Text/Event-Stream; charset=utf-8", "text/event-stream ;x"] {
            assert!(is(value), "{value}");
        }
        for value in ["text/event-streams", "text/event", "application/json; a=text/event-stream", ""] {
            assert!(!is(value), "{value}");
        }
        assert!(!is_event_stream(&HeaderMap::new()));
    }
}
