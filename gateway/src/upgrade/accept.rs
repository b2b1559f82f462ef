//! The check of the service's 101 (RFC 6455, section 4.1). A service that answers 101 without having understood the
//! handshake would interpret the client's frames as HTTP requests.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL,
    TRANSFER_ENCODING, UPGRADE,
};

use super::handshake::has_member;
use super::{Handshake, PROTOCOL};
use crate::syntax::single;

/// What RFC 6455, section 1.3, appends to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The service's 101 is not an answer to the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSwitch {
    /// `Upgrade` is not `websocket` alone.
    #[error("its 101 has no Upgrade: websocket")]
    Upgrade,
    /// `Connection` does not contain `upgrade`.
    #[error("its 101 has no Connection: Upgrade")]
    Connection,
    /// `Sec-WebSocket-Accept` does not follow from the key.
    #[error("its 101 has a wrong Sec-WebSocket-Accept")]
    Accept,
    /// The selected subprotocol was not offered, or there are several.
    #[error("its 101 selects a subprotocol that was not offered")]
    Protocol,
    /// A 101 has no body (RFC 9110, section 15.2).
    #[error("its 101 has a Content-Length or Transfer-Encoding")]
    Framing,
}

/// Checks the fields of a 101 from the service, and returns the subprotocol to add to it, if any.
///
/// # Errors
/// [`InvalidSwitch`].
pub fn check_switch(handshake: &Handshake, headers: &HeaderMap) -> Result<Option<HeaderValue>, InvalidSwitch> {
    let one = |name: &HeaderName| single(headers, name).map(HeaderValue::as_bytes);
    if one(&UPGRADE).is_none_or(|upgrade| !upgrade.eq_ignore_ascii_case(b"websocket")) {
        return Err(InvalidSwitch::Upgrade);
    }
    if !has_member(headers, &CONNECTION, "upgrade") {
        return Err(InvalidSwitch::Connection);
    }
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return Err(InvalidSwitch::Framing);
    }
    if one(&SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| accept != accept_value(handshake.key.as_bytes()).as_bytes()) {
        return Err(InvalidSwitch::Accept);
    }
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(handshake.offers.has_own().then(|| HeaderValue::from_static(PROTOCOL)));
    }
    match one(&SEC_WEBSOCKET_PROTOCOL) {
        Some(selected) if handshake.offers.contains(selected) => Ok(None),
        _ => Err(InvalidSwitch::Protocol),
    }
}

/// The value of `Sec-WebSocket-Accept` for a key. SHA-1 shows only that the service knows the protocol.
fn accept_value(key: &[u8]) -> String {
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key);
    digest.update(GUID);
    STANDARD.encode(digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::Offers;

    fn handshake(offers: &str) -> Handshake {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(offers).unwrap());
        let offers = Offers::read(&headers).unwrap();
        Handshake { key: HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="), offers }
    }

    fn check(offers: &str, fields: &[(&'static str, &'static str)]) -> Result<Option<HeaderValue>, InvalidSwitch> {
        let fields =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        check_switch(&handshake(offers), &fields.collect())
    }

    /// The example of RFC 6455, section 1.3.
    const VALID: [(&str, &str); 3] =
        [("upgrade", "WebSocket"), ("connection", "Upgrade"), ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")];

    #[test]
    fn each_field_is_checked() {
        assert_eq!(check("", &VALID), Ok(None));
        for (index, value, expected) in [
            (0, "h2c", InvalidSwitch::Upgrade),
            (0, "websocket, h2c", InvalidSwitch::Upgrade),
            (1, "close", InvalidSwitch::Connection),
            (2, "s3pPLMBiTxaQ9kYGzzhZRbK+xOp=", InvalidSwitch::Accept),
            (2, "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=", InvalidSwitch::Accept),
        ] {
            let mut fields = VALID;
            fields[index].1 = value;
            assert_eq!(check("", &fields), Err(expected), "{value}");
        }
        for (index, expected) in
            [InvalidSwitch::Upgrade, InvalidSwitch::Connection, InvalidSwitch::Accept].into_iter().enumerate()
        {
            let mut fields = VALID.to_vec();
            fields.remove(index);
            assert_eq!(check("", &fields), Err(expected));
            // A second field of the same name.
            let mut fields = VALID.to_vec();
            fields.push(VALID[index]);
            let expected = if index == 1 { Ok(None) } else { Err(expected) };
            assert_eq!(check_all(&fields), expected);
        }
        for framing in [("content-length", "0"), ("transfer-encoding", "chunked")] {
            assert_eq!(check("", &[&VALID[..], &[framing]].concat()), Err(InvalidSwitch::Framing));
        }
    }

    fn check_all(fields: &[(&'static str, &'static str)]) -> Result<Option<HeaderValue>, InvalidSwitch> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        check_switch(&handshake(""), &headers)
    }

    #[test]
    fn the_subprotocol_is_one_that_was_offered() {
        let with = |protocol: &'static str| [&VALID[..], &[("sec-websocket-protocol", protocol)]].concat();
        for (offers, selected, expected) in [
            ("a, b", "b", Ok(None)),
            ("a", "b", Err(InvalidSwitch::Protocol)),
            ("a", "A", Err(InvalidSwitch::Protocol)),
            ("", "a", Err(InvalidSwitch::Protocol)),
            ("a, b", "a, b", Err(InvalidSwitch::Protocol)),
            ("holodule, a", "holodule", Err(InvalidSwitch::Protocol)),
            ("holodule, holodule.token.x", "holodule.token.x", Err(InvalidSwitch::Protocol)),
            ("holodule, a", "a", Ok(None)),
        ] {
            assert_eq!(check(offers, &with(selected)), expected, "{offers}: {selected}");
        }
        let own = Ok(Some(HeaderValue::from_static(PROTOCOL)));
        for (offers, expected) in [("a", Ok(None)), ("holodule", own.clone()), ("a, holodule", own)] {
            assert_eq!(check(offers, &VALID), expected, "{offers}");
        }
    }
}
