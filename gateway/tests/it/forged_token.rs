//! Known attacks on JSON Web Tokens (RFC 8725): forged tokens are refused without a request to the backend.

use std::io::ErrorKind;
use std::net::TcpListener;

use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::authorization::assert_unauthorized;
use crate::support::certificate::certificates;
use crate::support::token::{HEADER, claims, encode, secret, sign, sign_with, signed};
use crate::support::{DAY, Gateway, admin, api};

const ALGORITHM: &str = "The specified alg value is not allowed";
const SIGNATURE: &str = "Signature verification failed";

/// Header and payload of a token, without a signature.
fn unsigned(header: &str) -> String {
    format!("{}.{}", encode(header), encode(claims("user01")))
}

fn get(token: &str) -> String {
    format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// Asserts that each token is refused with its description, and that the backend receives no request.
async fn assert_refused(tokens: impl IntoIterator<Item = (String, &str)>) {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    for (token, description) in tokens {
        let answer = connection.exchange(get(&token)).await;
        assert_eq!(answer.status, 401, "{token}: {answer:?}");
        assert_unauthorized(&answer, "Invalid token", description, true);
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty());
}

#[tokio::test]
async fn the_algorithm_none_is_refused_in_any_spelling_signed_or_not() {
    let mut tokens = Vec::new();
    for none in ["none", "None", "NONE", "nOnE", "none ", " none", "non\\u0065", "none\\u0000", "", "null"] {
        let unsigned = unsigned(&format!(r#"{{"typ":"JWT","alg":"{none}"}}"#));
        tokens.push((format!("{unsigned}."), ALGORITHM));
        tokens.push((sign(&unsigned), ALGORITHM));
        tokens.push((sign_with(&unsigned, b"", Algorithm::HS256), ALGORITHM));
    }
    tokens.push((format!("{}.", unsigned(HEADER)), SIGNATURE));
    assert_refused(tokens).await;
}

#[tokio::test]
async fn other_algorithms_with_the_configured_secret_are_refused() {
    let key = secret();
    let mut tokens = Vec::new();
    for (name, size) in [("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)] {
        let named = unsigned(&json!({"typ": "JWT", "alg": name}).to_string());
        tokens.push((sign_with(&named, key.as_bytes(), size), ALGORITHM));
        // The header names HS256, but the signature is longer.
        tokens.push((sign_with(&unsigned(HEADER), key.as_bytes(), size), SIGNATURE));
    }
    for name in
        ["RS256", "RS384", "RS512", "PS256", "ES256", "ES256K", "EdDSA", "dir", "A256KW", "HS256 ", "hs256", "HS-256"]
    {
        tokens.push((signed(&json!({"typ": "JWT", "alg": name}).to_string(), &claims("user01")), ALGORITHM));
    }
    for value in ["[\"HS256\"]", "{\"HS256\":1}", "256", "true", "null", "[]"] {
        tokens.push((signed(&format!(r#"{{"typ":"JWT","alg":{value}}}"#), &claims("user01")), ALGORITHM));
    }
    for missing in [r#"{"typ":"JWT"}"#, r#"{"ALG":"HS256"}"#, r#"{"alg ":"HS256"}"#] {
        tokens.push((signed(missing, &claims("user01")), ALGORITHM));
    }
    assert_refused(tokens).await;
}

#[tokio::test]
async fn public_and_common_values_are_not_the_secret() {
    let leaf = &certificates().leaf;
    let guesses: [&[u8]; 6] = [leaf.as_bytes(), leaf.trim_end().as_bytes(), b"", b"secret", b"super-secret", &[0; 32]];
    assert_refused(guesses.map(|guess| (sign_with(&unsigned(HEADER), guess, Algorithm::HS256), SIGNATURE))).await;
}

#[tokio::test]
async fn headers_that_change_how_a_token_is_verified_are_refused() {
    let mut tokens = Vec::new();
    for more in [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""crit":["b64"],"b64":false"#,
        r#""b64":true"#,
        r#""b64":false"#,
        r#""zip":"DEF""#,
        r#""zip":null"#,
        r#""kid":"a""#,
        r#""kid":null"#,
    ] {
        tokens.push((signed(&format!(r#"{{"alg":"HS256",{more}}}"#), &claims("user01")), ALGORITHM));
    }
    assert_refused(tokens).await;
}

#[tokio::test]
async fn no_key_is_used_or_fetched_that_the_token_names() {
    let attacker_secret = b"a secret that only the attacker knows";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys.json", listener.local_addr().unwrap());
    let jwk = json!({"kty": "oct", "alg": "HS256", "k": encode(attacker_secret)});
    let headers = [
        json!({"alg": "HS256", "jwk": &jwk}),
        json!({"alg": "HS256", "jku": &url}),
        json!({"alg": "HS256", "x5u": &url}),
        json!({"alg": "HS256", "x5c": [encode(attacker_secret)]}),
        json!({"alg": "HS256", "jwk": &jwk, "jku": &url, "x5u": &url, "x5t": "a", "x5t#S256": "a", "iss": &url}),
    ];
    let forged =
        |header: &serde_json::Value| sign_with(&unsigned(&header.to_string()), attacker_secret, Algorithm::HS256);
    assert_refused(headers.iter().map(|header| (forged(header), SIGNATURE))).await;
    let by_kid = json!({"alg": "HS256", "kid": &url, "jku": &url});
    assert_refused([(forged(&by_kid), ALGORITHM)]).await;
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "the gateway tried to fetch a key");
}

#[tokio::test]
async fn duplicate_names_are_refused_in_any_spelling() {
    const HEADER_TWICE: &str = "Invalid header string: a name stands twice";
    const PAYLOAD_TWICE: &str = "Invalid payload string: a name stands twice";
    let headers = [
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"HS256","\u0061lg":"HS256"}"#,
        r#"{"typ":"JWT","alg":"HS256","typ":"JWT"}"#,
        r#"{"alg":"HS256","x":1,"x":1}"#,
    ];
    let mut tokens: Vec<_> = headers.iter().map(|header| (signed(header, &claims("user01")), HEADER_TWICE)).collect();
    let payload = claims("user01");
    for more in [r#""identity":"admin""#, r#""\u0069dentity":"admin""#, r#""exp":1"#, r#""x":1,"x":2"#] {
        tokens.push((signed(HEADER, &payload.replacen('{', &format!("{{{more},"), 1)), PAYLOAD_TWICE));
    }
    assert_refused(tokens).await;
}

#[tokio::test]
async fn input_that_some_parsers_reject_is_not_json() {
    const HEADER_JSON: &str = "Invalid header string: not JSON";
    const PAYLOAD_JSON: &str = "Invalid payload string: not JSON";
    let nested = |open: &str, close: &str| open.repeat(800) + &close.repeat(800);
    let wrapped = |value: &[u8]| [br#"{"alg":"HS256","x":"#.as_slice(), value, b"}"].concat();
    let invalid: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\xef\xbb\xbf{\"alg\":\"HS256\"}".to_vec(),
        b"{\"alg\":\"HS256\"}\0".to_vec(),
        b"\0{\"alg\":\"HS256\"}".to_vec(),
        b"{\"alg\":\"HS256\"}{}".to_vec(),
        b"{\"alg\":\"HS256\"} x".to_vec(),
        b"{\"alg\":\"HS256\",}".to_vec(),
        b"{'alg':'HS256'}".to_vec(),
        b"{alg:\"HS256\"}".to_vec(),
        b"/**/{\"alg\":\"HS256\"}".to_vec(),
        wrapped(b"\"\xff\""),
        wrapped(b"\"\xc0\xaf\""),
        wrapped(b"\"\xed\xa0\x80\""),
        wrapped(b"\"\\ud800\""),
        wrapped(b"\"a\0b\""),
        wrapped(b"\"a\nb\""),
        wrapped(b"NaN"),
        wrapped(b"Infinity"),
        wrapped(b"01"),
        wrapped(b"+1"),
        wrapped(nested("[", "]").as_bytes()),
        wrapped(nested("{\"a\":", "}").replace(":}", ":1}").as_bytes()),
    ];
    let payload = encode(claims("user01"));
    let headers = invalid.iter().map(|text| (sign(&format!("{}.{payload}", encode(text))), HEADER_JSON));
    let payloads = invalid.iter().map(|text| (sign(&format!("{}.{}", encode(HEADER), encode(text))), PAYLOAD_JSON));
    assert_refused(headers.chain(payloads)).await;
}

#[tokio::test]
async fn an_identity_cannot_break_out_of_its_header() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let identity = "user01\r\nX-Auth-Identity: admin\0\u{202e}";
    let answer = gateway.exchange(get(&signed(HEADER, &claims(identity)))).await;
    assert_eq!(answer.status, 200);
    let encoded = "user01%0D%0AX-Auth-Identity%3A%20admin%00%E2%80%AE";
    assert_eq!(api.only().values("x-auth-identity"), [encoded]);
}
