//! Every row of the contract's table of token errors, with hand-made tokens.

use std::sync::Arc;

use serde_json::json;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};

use super::*;

const SECRET: &[u8] = b"a secret of thirty-two bytes, ok";
const NOW: i64 = 1_700_000_000;

const SETTINGS: Settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };

fn keys() -> Keys {
    with_settings(SETTINGS)
}

fn with_settings(settings: Settings) -> Keys {
    Keys::new(vec![Key::unnamed(SECRET).unwrap()], settings).unwrap()
}

fn verify_at(keys: &Keys, token: &str, now: i64) -> Result<Arc<Verified>, TokenError> {
    keys.verify(&Presented::new(token.as_bytes())?, now)
}

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Signs exactly these segments, valid or not.
fn sign(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature =
        jsonwebtoken::crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(SECRET), Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

fn claims() -> serde_json::Value {
    json!({"exp": NOW + 300, "iat": NOW, "nbf": NOW, "identity": "user01"})
}

fn verify(token: &str) -> Result<Arc<Verified>, TokenError> {
    verify_at(&keys(), token, NOW)
}

fn with(name: &str, value: serde_json::Value) -> Result<Arc<Verified>, TokenError> {
    let mut claims = claims();
    claims[name] = value;
    verify(&sign(HEADER, &claims.to_string()))
}

fn without(name: &str) -> Result<Arc<Verified>, TokenError> {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    verify(&sign(HEADER, &claims.to_string()))
}

#[test]
fn an_issued_token_has_the_documented_form_and_verifies() {
    let token = keys().issue("user01", "0123", NOW).unwrap();
    let segments: Vec<_> = token.split('.').map(|segment| URL_SAFE_NO_PAD.decode(segment).unwrap()).collect();
    assert_eq!(segments[0], HEADER.as_bytes());
    let payload = r#"{"exp":1700000300,"iat":1700000000,"nbf":1700000000,"identity":"user01","jti":"0123"}"#;
    assert_eq!(segments[1], payload.as_bytes());
    let verified = verify(&token).unwrap();
    assert_eq!((&*verified.identity, verified.issued_at, verified.expires_at), ("user01", NOW, NOW + 300));
}

#[test]
fn a_token_of_the_original_service_without_jti_verifies() {
    assert!(verify(&sign(HEADER, &claims().to_string())).is_ok());
}

#[test]
fn a_token_is_identified_by_its_jti_or_its_digest() {
    let id = |jti: serde_json::Value| with("jti", jti).unwrap().id.clone();
    assert_eq!(&*id(json!("0123")), "jti:0123");
    assert_eq!(*id(json!("~ ".repeat(64))), *format!("jti:{}", "~ ".repeat(64)));
    for odd in [json!(""), json!("a".repeat(129)), json!("é"), json!("a\nb"), json!(1), json!(["a"]), json!(null)] {
        let mut claims = claims();
        claims["jti"] = odd;
        let token = sign(HEADER, &claims.to_string());
        let expected = format!("sha256:{}", Digest::of(token.as_bytes()));
        assert_eq!(*verify(&token).unwrap().id, *expected, "{claims}");
    }
}

#[test]
fn fewer_than_three_segments() {
    for token in ["", "a", "a.b", "eyJhbGciOiJIUzI1NiJ9.e30"] {
        assert_eq!(verify(token), Err(TokenError::NotEnoughSegments), "{token}");
    }
}

#[test]
fn header_not_base64url() {
    let good = sign(HEADER, &claims().to_string());
    let rest = good.split_once('.').unwrap().1;
    for header in ["eyJhbGciOiJIUzI1NiJ9=", "e+30", "e/30", "e30 ", "e31", "{}"] {
        assert_eq!(verify(&format!("{header}.{rest}")), Err(TokenError::HeaderEncoding), "{header}");
    }
}

#[test]
fn header_not_a_json_object_or_with_a_duplicate_name() {
    for (header, reason) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\u{feff}{}", "not JSON"),
        ("[]", "not an object"),
        ("1", "not an object"),
        (r#"{"alg":"HS256","alg":"HS256"}"#, "a name stands twice"),
    ] {
        assert_eq!(verify(&sign(header, "{}")), Err(TokenError::HeaderJson(reason)), "{header}");
    }
    let invalid_utf8 = format!("{}.e30.e30", encode(b"{\"alg\":\"\xff\"}"));
    assert_eq!(verify(&invalid_utf8), Err(TokenError::HeaderJson("not JSON")));
}

#[test]
fn payload_not_base64url_or_more_than_three_segments() {
    let header = encode(HEADER);
    for token in [format!("{header}.e30=.e30"), format!("{header}.e+.e30"), format!("{header}.e30.e30.e30")] {
        assert_eq!(verify(&token), Err(TokenError::PayloadEncoding), "{token}");
    }
    let five = format!("{}.x.y", sign(HEADER, &claims().to_string()));
    assert_eq!(verify(&five), Err(TokenError::PayloadEncoding));
}

#[test]
fn signature_not_base64url() {
    let good = sign(HEADER, &claims().to_string());
    assert_eq!(verify(&format!("{good}=")), Err(TokenError::SignatureEncoding));
    assert_eq!(verify(&format!("{good}é")), Err(TokenError::SignatureEncoding));
}

#[test]
fn other_algorithms_and_header_extensions_are_refused() {
    for header in [
        r#"{}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"NONE"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":null}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","b64":false}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
        r#"{"alg":"HS256","kid":1}"#,
    ] {
        assert_eq!(verify(&sign(header, &claims().to_string())), Err(TokenError::Algorithm), "{header}");
    }
    let unknown = sign(r#"{"alg":"HS256","kid":"unknown"}"#, &claims().to_string());
    assert_eq!(verify(&unknown), Err(TokenError::UnknownKid));
}

#[test]
fn a_wrong_signature_is_reported_before_expiry() {
    let mut claims = claims();
    claims["exp"] = json!(NOW - 1);
    let token = sign(HEADER, &claims.to_string());
    assert_eq!(verify(&token), Err(TokenError::Expired));
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(verify(&format!("{signed}.{}", encode([0; 32]))), Err(TokenError::Signature));
    assert_eq!(verify(&format!("{signed}.")), Err(TokenError::Signature));
}

#[test]
fn payload_not_a_json_object_or_with_a_duplicate_name() {
    for payload in ["", "[]", "null", "x", r#"{"exp":1,"exp":2}"#, "\u{feff}{}"] {
        assert!(matches!(verify(&sign(HEADER, payload)), Err(TokenError::PayloadJson(_))), "{payload}");
    }
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    assert!(matches!(verify(&sign(HEADER, &deep)), Err(TokenError::PayloadJson(_))));
}

#[test]
fn missing_claims_are_reported_in_order() {
    assert_eq!(verify(&sign(HEADER, "{}")), Err(TokenError::Missing(Claim::ExpirationTime)));
    assert_eq!(verify(&sign(HEADER, r#"{"exp":1}"#)), Err(TokenError::Missing(Claim::IssuedAt)));
    assert_eq!(verify(&sign(HEADER, r#"{"exp":1,"iat":1}"#)), Err(TokenError::Missing(Claim::NotBefore)));
    assert_eq!(with("exp", json!(null)), Err(TokenError::Missing(Claim::ExpirationTime)));
}

#[test]
fn times_are_exact_integers() {
    let odd = [json!(1.5), json!(1e9), json!("1700000000"), json!(true), json!([1]), json!({}), json!(1_u64 << 54)];
    for value in odd {
        assert_eq!(with("iat", value.clone()), Err(TokenError::NotAnInteger(Claim::IssuedAt)), "{value}");
        assert_eq!(with("nbf", value.clone()), Err(TokenError::NotAnInteger(Claim::NotBefore)), "{value}");
        assert_eq!(with("exp", value.clone()), Err(TokenError::NotAnInteger(Claim::ExpirationTime)), "{value}");
    }
    assert_eq!(with("iat", json!(i64::MIN)), Err(TokenError::NotAnInteger(Claim::IssuedAt)));
    assert!(with("exp", json!(1_i64 << 53)).is_ok());
}

#[test]
fn times_are_compared_to_now() {
    assert_eq!(with("iat", json!(NOW + 1)), Err(TokenError::IssuedInTheFuture));
    assert_eq!(with("nbf", json!(NOW + 1)), Err(TokenError::NotYetValid));
    assert_eq!(with("exp", json!(NOW)), Err(TokenError::Expired), "RFC 7519: on or after");
    assert_eq!(with("exp", json!(-1)), Err(TokenError::Expired));
    assert!(with("exp", json!(NOW + 1)).is_ok());
}

#[test]
fn a_verified_token_stays_valid_if_the_clock_is_set_back() {
    let keys = with_settings(SETTINGS);
    let sign_at =
        |iat: i64| sign(HEADER, &json!({"exp": iat + 9, "iat": iat, "nbf": iat, "identity": "a"}).to_string());
    let (token, other) = (sign_at(NOW), sign_at(NOW - 1));
    assert!(verify_at(&keys, &token, NOW).is_ok());
    assert!(verify_at(&keys, &token, NOW - 3600).is_ok());
    assert_eq!(verify_at(&keys, &other, NOW - 3600), Err(TokenError::IssuedInTheFuture), "it was not verified before");
    assert_eq!(verify_at(&keys, &token, NOW + 9), Err(TokenError::Expired));
}

#[test]
fn the_leeway_applies_to_all_three_times() {
    let keys = with_settings(Settings { leeway: 10, ..SETTINGS });
    let token =
        |iat: i64, exp: i64| sign(HEADER, &json!({"exp": exp, "iat": iat, "nbf": iat, "identity": "a"}).to_string());
    let verified = verify_at(&keys, &token(NOW + 10, NOW - 9), NOW).unwrap();
    assert_eq!((verified.not_before, verified.expires_at), (NOW, NOW + 1));
    assert_eq!(verify_at(&keys, &token(NOW + 11, NOW + 20), NOW), Err(TokenError::IssuedInTheFuture));
    assert_eq!(verify_at(&keys, &token(NOW, NOW - 10), NOW), Err(TokenError::Expired));
}

#[test]
fn identity_missing_empty_or_not_a_string() {
    assert_eq!(without("identity"), Err(TokenError::NoIdentity));
    for value in [json!(""), json!(1), json!(null), json!(["user01"])] {
        assert_eq!(with("identity", value.clone()), Err(TokenError::NoIdentity), "{value}");
    }
}

#[test]
fn a_long_token_is_refused_before_it_is_parsed() {
    assert_eq!(verify(&"a".repeat(MAX_TOKEN_BYTES + 1)), Err(TokenError::TooLong));
}

#[test]
fn the_maximum_lifetime_overrides_exp() {
    let claims = json!({"exp": NOW + 1_000_000, "iat": NOW, "nbf": NOW, "identity": "user01"});
    let token = sign(HEADER, &claims.to_string());
    assert_eq!(verify_at(&keys(), &token, NOW + 3599).unwrap().expires_at, NOW + 3600);
    assert_eq!(verify_at(&keys(), &token, NOW + 3600), Err(TokenError::Expired));
    // The leeway is for other clocks; the maximum lifetime is measured by the local one.
    let keys = with_settings(Settings { leeway: 300, ..SETTINGS });
    assert_eq!(verify_at(&keys, &token, NOW + 3600), Err(TokenError::Expired));
}

#[test]
fn the_expiry_of_a_cached_token_is_checked_on_every_use() {
    let keys = keys();
    let mut claims = claims();
    claims["nbf"] = json!(NOW + 5);
    let token = sign(HEADER, &claims.to_string());
    assert_eq!(verify_at(&keys, &token, NOW + 4), Err(TokenError::NotYetValid));
    assert_eq!(verify_at(&keys, &token, NOW - 1), Err(TokenError::IssuedInTheFuture));
    assert!(verify_at(&keys, &token, NOW + 5).is_ok());
    assert!(verify_at(&keys, &token, NOW + 5).is_ok());
    assert!(verify_at(&keys, &token, NOW + 299).is_ok());
    assert_eq!(verify_at(&keys, &token, NOW + 300), Err(TokenError::Expired));
}

#[test]
fn a_token_that_differs_from_a_cached_one_in_one_character_is_refused() {
    let keys = keys();
    let token = sign(HEADER, &claims().to_string());
    assert!(verify_at(&keys, &token, NOW).is_ok());
    for at in 0..token.len() {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        assert!(verify_at(&keys, &other, NOW).is_err(), "{at}");
    }
}
