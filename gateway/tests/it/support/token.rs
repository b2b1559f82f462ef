//! Tokens, good and forged: any header and any payload can be signed with the test's secret.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

/// The header of a token of ours and of the original's.
pub const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

/// A secret that is long enough, and nobody's.
pub fn secret() -> String {
    "only for tests. ".repeat(3)
}

/// Seconds since 1970.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A token that opens the door for `identity` during the next five minutes.
pub fn token(identity: &str) -> String {
    signed(HEADER, &claims(identity))
}

/// Claims that are good for `identity` during the next five minutes.
pub fn claims(identity: &str) -> String {
    let now = now();
    json!({"exp": now + 300, "iat": now, "nbf": now, "identity": identity}).to_string()
}

/// `header` and `payload` as a token, rightly signed.
pub fn signed(header: &str, payload: &str) -> String {
    sign(&format!("{}.{}", encode(header), encode(payload)))
}

/// Appends the right signature to what stands before it.
pub fn sign(signed: &str) -> String {
    sign_with(signed, secret().as_bytes(), Algorithm::HS256)
}

/// Appends a signature by another secret or algorithm.
pub fn sign_with(signed: &str, secret: &[u8], algorithm: Algorithm) -> String {
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

/// Strict base64url.
pub fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// One segment of a token as JSON.
pub fn decode(segment: &str) -> serde_json::Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(segment).unwrap()).unwrap()
}
