//! A JSON Web Token. An accepted token has the claims that jsonwebtoken reads, and is valid at the time.
//!
//! Input that begins with `{` is a header, a line feed and a payload, which are signed here. Other input is a token.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holodule_gateway::token::{Key, Keys, MAX_CLOCK_SKEW, Presented, Settings, TokenError, is_password_mark};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation, crypto, decode};
use serde_json::Value;

const NOW: i64 = 1_700_000_000;
const LEEWAY: i64 = 5;
const LIFETIME: i64 = 3600;

/// The secrets of a key without a name and of the key `k1`.
const SECRETS: [&[u8]; 2] = [b"only for tests. only for tests. ", b"for tests only. for tests only. "];

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(unused_keys)
}

/// Keys that have not verified a token yet.
fn unused_keys() -> Keys {
    let keys = vec![Key::unnamed(SECRETS[0]).unwrap(), Key::named("k1", SECRETS[1]).unwrap()];
    Keys::new(keys, Settings { lifetime: 300, leeway: 5, max_lifetime: 3600 }).unwrap()
}

/// Checks the token in `data`, or those that are signed from it.
pub fn check(data: &[u8]) {
    if !data.starts_with(b"{") {
        return check_token(data);
    }
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (header, payload) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    for secret in SECRETS {
        let key = EncodingKey::from_secret(secret);
        let signature = crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
        check_token(format!("{signed}.{signature}").as_bytes());
    }
}

fn check_token(token: &[u8]) {
    let Ok(presented) = Presented::new(token) else { return };
    let verdict = keys().verify(&presented, NOW);
    assert_eq!(keys().verify(&presented, NOW), verdict, "the cached verdict is the same");
    let Ok(verified) = verdict else { return };
    let claims = decoded(token);
    let number = |name: &str| claims[name].as_i64().unwrap_or_else(|| panic!("{name}: {claims}"));
    assert_eq!(claims["identity"].as_str(), Some(&*verified.identity));
    assert_eq!(number("iat"), verified.issued_at);
    assert!(!verified.identity.is_empty() && !verified.identity.starts_with("static:"));
    let skew = if verified.password_mark.is_some() { LEEWAY.max(MAX_CLOCK_SKEW.into()) } else { LEEWAY };
    assert!(number("iat") <= NOW + skew && number("nbf") <= NOW + skew, "{claims}");
    assert!(number("exp") + LEEWAY > NOW && number("iat") + LIFETIME > NOW, "{claims}");
    // Valid from `not_before` until `expires_at`, which is excluded.
    assert!(keys().verify(&presented, verified.expires_at - 1).is_ok());
    assert_eq!(keys().verify(&presented, verified.expires_at), Err(TokenError::Expired));
    assert!(keys().verify(&presented, verified.not_before).is_ok());
    assert!(unused_keys().verify(&presented, verified.not_before - 1).is_err());
    assert!(keys().verify(&presented, verified.not_before - 1).is_ok(), "it was valid before the clock was set back");
    let jti = claims["jti"].as_str();
    assert_eq!(verified.id.strip_prefix("jti:"), jti.filter(|_| verified.id.starts_with("jti:")));
    if let Some(mark) = &verified.password_mark {
        assert!(is_password_mark(mark) && jti.is_some_and(|jti| jti.ends_with(&**mark)), "{claims}");
    }
    check_changed(token);
}

/// The claims as jsonwebtoken reads them. Only one key verifies the signature.
fn decoded(token: &[u8]) -> Value {
    let mut validation = Validation::new(Algorithm::HS256);
    // jsonwebtoken uses the system's clock, and refuses times before 1970 in required claims.
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation.required_spec_claims.clear();
    let decoded: Vec<_> = SECRETS
        .iter()
        .filter_map(|secret| decode::<Value>(token, &DecodingKey::from_secret(secret), &validation).ok())
        .collect();
    let [decoded] = &decoded[..] else { panic!("{} keys verify {}", decoded.len(), String::from_utf8_lossy(token)) };
    decoded.claims.clone()
}

/// Flipping a bit invalidates the token. The sampled positions depend on its length.
fn check_changed(token: &[u8]) {
    for at in (0..token.len()).skip(token.len() % 7).step_by(1 + token.len() / 16) {
        let mut changed = token.to_vec();
        changed[at] ^= 1 << (at % 8);
        assert!(Presented::new(&changed).and_then(|changed| keys().verify(&changed, NOW)).is_err(), "at {at}");
    }
}
