//! The handshake of a client (RFC 6455, section 4.2.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use super::Offers;
use crate::syntax::{list_members, single};

/// The only version of the protocol (RFC 6455, section 4.1).
const VERSION: &str = "13";

/// The length of a key before it is encoded, in bytes.
const KEY_BYTES: usize = 16;

/// A valid handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `Sec-WebSocket-Key`.
    pub(super) key: HeaderValue,
    /// The subprotocols.
    pub(super) offers: Offers,
}

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// There is one in `Authorization` and one among the subprotocols.
    #[error("the token must be in Authorization or in Sec-WebSocket-Protocol, not in both")]
    TwoTokens,
    /// The method is not GET.
    #[error("a WebSocket handshake must be a GET")]
    Method,
    /// The version is not HTTP/1.1.
    #[error("a WebSocket handshake needs HTTP/1.1")]
    HttpVersion,
    /// `Connection` does not contain `upgrade`.
    #[error("a WebSocket handshake needs Connection: Upgrade")]
    Connection,
    /// The request has a body.
    #[error("a WebSocket handshake has no body")]
    Body,
    /// `Sec-WebSocket-Key` is not the base64 form of 16 bytes.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
    /// `Sec-WebSocket-Version` is missing or appears twice.
    #[error("a WebSocket handshake needs one Sec-WebSocket-Version")]
    NoVersion,
    /// `Sec-WebSocket-Version` is another.
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
}

/// Whether the sender of a message with `headers` wants to switch to the WebSocket protocol, perhaps among others.
pub fn is_requested(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && has_member(headers, &UPGRADE, "websocket")
}

/// Whether a list has the member `wanted` in any case. What follows a slash is a version of a protocol.
pub(super) fn has_member(headers: &HeaderMap, name: &http::HeaderName, wanted: &str) -> bool {
    let is_wanted = |member: &[u8]| {
        let name = member.split(|&byte| byte == b'/').next();
        name.is_some_and(|name| name.eq_ignore_ascii_case(wanted.as_bytes()))
    };
    list_members(headers, name).any(is_wanted)
}

impl Handshake {
    /// Checks a request that wants to switch and offers these subprotocols.
    ///
    /// # Errors
    /// [`HandshakeError`], the first that applies in its order.
    pub fn read(request: &Parts, offers: Offers) -> Result<Self, HandshakeError> {
        let headers = &request.headers;
        if request.method != Method::GET {
            return Err(HandshakeError::Method);
        }
        if request.version != Version::HTTP_11 {
            return Err(HandshakeError::HttpVersion);
        }
        if !has_member(headers, &CONNECTION, "upgrade") {
            return Err(HandshakeError::Connection);
        }
        if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
            return Err(HandshakeError::Body);
        }
        let key = single(headers, &SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
        if STANDARD.decode(key.as_bytes()).ok().is_none_or(|key| key.len() != KEY_BYTES) {
            return Err(HandshakeError::Key);
        }
        let version = single(headers, &SEC_WEBSOCKET_VERSION).ok_or(HandshakeError::NoVersion)?;
        if version != VERSION {
            return Err(HandshakeError::Version);
        }
        Ok(Self { key: key.clone(), offers })
    }

    /// Adds the fields of the handshake to the head of the request to the service.
    pub fn put(&self, headers: &mut HeaderMap) {
        // It would have to be named in `Connection` (RFC 9110, section 10.1.4).
        headers.remove(TE);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_KEY, self.key.clone());
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        self.offers.put(headers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request(method: Method, version: Version, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).version(version).uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn each_condition_is_checked() {
        let valid = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
        ];
        let read = |parts: &Parts| Handshake::read(parts, Offers::default()).map(|handshake| handshake.key);
        let get = |fields: &[(&str, &str)]| read(&request(Method::GET, Version::HTTP_11, fields));
        assert_eq!(get(&valid).unwrap(), KEY);
        assert_eq!(read(&request(Method::POST, Version::HTTP_11, &valid)), Err(HandshakeError::Method));
        assert_eq!(read(&request(Method::GET, Version::HTTP_10, &valid)), Err(HandshakeError::HttpVersion));
        for (index, value, expected) in [
            (0, "keep-alive", HandshakeError::Connection),
            (0, "upgraded", HandshakeError::Connection),
            (2, "", HandshakeError::Key),
            (2, "dGhlIHNhbXBsZSBub25jZQ", HandshakeError::Key),
            (2, "dGhlIHNhbXBsZSBub25jZSE=", HandshakeError::Key),
            (2, "dGhlIHNhbXBsZSBub25j", HandshakeError::Key),
            (3, "8", HandshakeError::Version),
            (3, "13, 8", HandshakeError::Version),
        ] {
            let mut fields = valid;
            fields[index].1 = value;
            assert_eq!(get(&fields), Err(expected), "{value}");
        }
        for (index, expected) in
            [(0, HandshakeError::Connection), (2, HandshakeError::Key), (3, HandshakeError::NoVersion)]
        {
            let mut fields = valid.to_vec();
            fields.remove(index);
            assert_eq!(get(&fields), Err(expected));
        }
        for (added, expected) in [
            (valid[2], HandshakeError::Key),
            (valid[3], HandshakeError::NoVersion),
            (("content-length", "0"), HandshakeError::Body),
            (("transfer-encoding", "chunked"), HandshakeError::Body),
        ] {
            assert_eq!(get(&[&valid[..], &[added]].concat()), Err(expected), "{added:?}");
        }
    }

    #[test]
    fn only_an_upgrade_to_websocket_is_one() {
        let is = |values: &[&str]| {
            let fields = values.iter().map(|value| (UPGRADE, HeaderValue::from_str(value).unwrap()));
            is_requested(&fields.collect())
        };
        for values in [&["websocket"][..], &["WebSocket"], &["h2c, websocket"], &["h2c", "websocket/13"]] {
            assert!(is(values), "{values:?}");
        }
        for values in [&[][..], &["h2c"], &["websockets"], &["x/websocket"], &[""]] {
            assert!(!is(values), "{values:?}");
        }
    }
}
