//! Valid and forged tokens: any header and payload, signed with the tests' secret or another one.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

/// The header of the tokens that the gateway and the original API issue.
pub const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

/// The secret of the tests' gateways, which is long enough to be accepted.
pub fn secret() -> String {
    "only for tests. ".repeat(3)
}

/// Seconds since 1970.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A token for `identity` that is valid for five minutes.
pub fn token(identity: &str) -> String {
    signed(HEADER, &claims(identity))
}

/// Claims for `identity` that are valid for five minutes.
pub fn claims(identity: &str) -> String {
    let now = now();
    json!({"exp": now + 300, "iat": now, "nbf": now, "identity": identity}).to_string()
}

/// A token of this header and payload with a valid signature.
pub fn signed(header: &str, payload: &str) -> String {
    sign(&format!("{}.{}", encode(header), encode(payload)))
}

/// Appends a valid signature.
pub fn sign(signed: &str) -> String {
    sign_with(signed, secret().as_bytes(), Algorithm::HS256)
}

/// Appends a signature with this secret and algorithm.
pub fn sign_with(signed: &str, secret: &[u8], algorithm: Algorithm) -> String {
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

/// Base64url without padding.
pub fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// The JSON of one segment of a token.
pub fn decode(segment: &str) -> serde_json::Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(segment).unwrap()).unwrap()
}
