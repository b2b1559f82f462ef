//! Which fields the rules of a route may change.

use http::HeaderName;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, VARY,
};

use super::{is_always_hop_by_hop, is_forwarded, is_reserved, is_returned};

/// Conditions and ranges: a change would break revalidation, or the protection against lost updates.
const CONDITIONS: [HeaderName; 6] = [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE];

/// Fields by which a cache or a client interprets the body.
const DESCRIPTIVE: [HeaderName; 7] =
    [ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, ETAG, LAST_MODIFIED, VARY];

/// The name with dashes, since some servers do not distinguish underscores from them.
fn dashed(name: &HeaderName) -> Option<HeaderName> {
    name.as_str().replace('_', "-").parse().ok()
}

/// Whether a field is part of a WebSocket handshake (RFC 6455, section 11.3).
fn is_of_handshake(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-websocket-")
}

/// Whether a rule may set or remove this field of requests. It may not if the gateway sets it, if it is part of the
/// framing, hop-by-hop or a condition, in any spelling.
pub fn is_settable_in_requests(name: &HeaderName) -> bool {
    let may = |name: HeaderName| {
        is_forwarded(&name) && !is_of_handshake(&name) && name != CONTENT_LENGTH && !CONDITIONS.contains(&name)
    };
    dashed(name).is_some_and(may)
}

/// The same for responses.
pub fn is_settable_in_responses(name: &HeaderName) -> bool {
    let may = |name: HeaderName| {
        is_returned(&name)
            && !is_reserved(&name)
            && !is_of_handshake(&name)
            && !is_always_hop_by_hop(&name)
            && name != http::header::HOST
            && !DESCRIPTIVE.contains(&name)
    };
    dashed(name).is_some_and(may)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spellings(name: &str) -> [HeaderName; 3] {
        [name.to_owned(), name.to_uppercase(), name.replace('-', "_")].map(|text| text.parse().unwrap())
    }

    #[test]
    fn fields_of_the_gateway_and_of_the_protocol_are_fixed_in_every_spelling() {
        let both = [
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "upgrade",
            "authorization",
            "proxy-authorization",
            "forwarded",
            "x-auth-identity",
            "x-auth-roles",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-anything",
            "x-request-id",
            "sec-websocket-key",
            "sec-websocket-protocol",
            "x-real-ip",
        ];
        for name in both {
            for name in spellings(name) {
                assert!(!is_settable_in_requests(&name) && !is_settable_in_responses(&name), "{name}");
            }
        }
        for name in ["expect", "if-match", "if-none-match", "if-range", "range", "x-original-url"] {
            assert!(spellings(name).iter().all(|name| !is_settable_in_requests(name)), "{name}");
        }
        for name in [
            "age",
            "date",
            "cache-control",
            "etag",
            "vary",
            "content-encoding",
            "strict-transport-security",
            "x-content-type-options",
            "x-cache",
            "access-control-allow-origin",
        ] {
            assert!(spellings(name).iter().all(|name| !is_settable_in_responses(name)), "{name}");
        }
    }

    #[test]
    fn other_fields_may_be_set() {
        for name in ["x-tenant", "accept-language", "user-agent", "cookie", "origin", "x-authority"] {
            assert!(spellings(name).iter().all(is_settable_in_requests), "{name}");
        }
        for name in ["x-frame-options", "content-security-policy", "x-powered-by", "set-cookie", "content-type"] {
            assert!(spellings(name).iter().all(is_settable_in_responses), "{name}");
        }
    }
}
