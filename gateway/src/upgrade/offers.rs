//! The subprotocols that a client offers, two of which are for the gateway: browsers cannot send `Authorization` with a
//! handshake, so the token may be among them.

use http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName};

use crate::syntax::{is_same_field, is_tchar, list_members};

/// The subprotocol that the gateway selects if the service selects none.
pub const PROTOCOL: &str = "holodule";

/// What the subprotocol with the token begins with.
const TOKEN_PREFIX: &[u8] = b"holodule.token.";

/// The subprotocols of one handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// Those for the service, in their order.
    forwarded: Vec<Vec<u8>>,
    /// Whether [`PROTOCOL`] is offered.
    has_own: bool,
    /// The token.
    token: Option<Vec<u8>>,
}

/// The subprotocols are not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffersError {
    /// One is not a token of RFC 9110, or appears twice.
    #[error("Sec-WebSocket-Protocol must be a list of different tokens")]
    Malformed,
    /// A second token, or a token without [`PROTOCOL`], which the gateway could not select.
    #[error("holodule.token must be offered once, and together with holodule")]
    Token,
}

impl Offers {
    /// Reads the subprotocols in `headers`.
    ///
    /// # Errors
    /// [`OffersError`].
    pub fn read(headers: &HeaderMap) -> Result<Self, OffersError> {
        let mut offers = Self::default();
        for offer in list_members(headers, &SEC_WEBSOCKET_PROTOCOL) {
            if !offer.iter().all(|&byte| is_tchar(byte)) {
                return Err(OffersError::Malformed);
            }
            if let Some(token) = offer.strip_prefix(TOKEN_PREFIX) {
                if offers.token.replace(token.to_vec()).is_some() {
                    return Err(OffersError::Token);
                }
            } else if offer == PROTOCOL.as_bytes() {
                if offers.has_own {
                    return Err(OffersError::Malformed);
                }
                offers.has_own = true;
            } else if offers.forwarded.iter().any(|other| other == offer) {
                return Err(OffersError::Malformed);
            } else {
                offers.forwarded.push(offer.to_vec());
            }
        }
        if offers.token.is_some() && !offers.has_own { Err(OffersError::Token) } else { Ok(offers) }
    }

    /// The token, if one is offered.
    pub fn token(&self) -> Option<&[u8]> {
        self.token.as_deref()
    }

    /// Replaces the subprotocols in the head of the request to the service. Without any for it, there is no field.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        let spelled: Vec<HeaderName> =
            headers.keys().filter(|name| is_same_field(name, &SEC_WEBSOCKET_PROTOCOL)).cloned().collect();
        for name in spelled {
            headers.remove(name);
        }
        // Each is a token, so the list is a valid value.
        if let Ok(list) = HeaderValue::from_bytes(&self.forwarded.join(&b", "[..]))
            && !list.is_empty()
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, list);
        }
    }

    /// Whether `protocol` was offered to the service.
    pub(super) fn contains(&self, protocol: &[u8]) -> bool {
        self.forwarded.iter().any(|offer| offer == protocol)
    }

    /// Whether the client offered [`PROTOCOL`].
    pub(super) fn has_own(&self) -> bool {
        self.has_own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_gateways_own_are_removed_and_the_others_are_forwarded_in_their_order() {
        for (sent, token, forwarded) in [
            (&[][..], None, None),
            (&["chat"], None, Some("chat")),
            (&["holodule"], None, None),
            (&["holodule, holodule.token.a.b.c"], Some("a.b.c"), None),
            (&["holodule.token.x", "b, a,, holodule"], Some("x"), Some("b, a")),
            (&["holodule, holodule.token."], Some(""), None),
            (&["Holodule, holodules, holodule.tokens"], None, Some("Holodule, holodules, holodule.tokens")),
        ] {
            let offers = Offers::read(&headers(sent)).unwrap();
            assert_eq!(offers.token(), token.map(str::as_bytes), "{sent:?}");
            let mut changed = headers(sent);
            changed.insert("sec_websocket_protocol", HeaderValue::from_static("holodule.token.y"));
            offers.put(&mut changed);
            assert_eq!(changed.get(SEC_WEBSOCKET_PROTOCOL).map(|value| value.to_str().unwrap()), forwarded, "{sent:?}");
            assert_eq!(changed.len(), usize::from(forwarded.is_some()), "{sent:?}");
        }
    }

    #[test]
    fn other_lists_are_refused() {
        for (sent, expected) in [
            ("a b", OffersError::Malformed),
            ("a, \"b\"", OffersError::Malformed),
            ("a, b, a", OffersError::Malformed),
            ("holodule, holodule", OffersError::Malformed),
            ("holodule, holodule.token.a=", OffersError::Malformed),
            ("holodule.token.a", OffersError::Token),
            ("holodule, holodule.token.a, holodule.token.a", OffersError::Token),
        ] {
            assert_eq!(Offers::read(&headers(&[sent])), Err(expected), "{sent}");
        }
    }
}
