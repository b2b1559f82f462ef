//! ops/WIRE.md, "Every other route: a token": the rows about the token itself.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::authorization::assert_unauthorized;
use crate::support::token::{HEADER, encode, now, secret, sign, sign_with, signed};
use crate::support::{DAY, Gateway, admin, api};

/// Valid claims with this change.
fn claims(change: impl FnOnce(&mut Value)) -> String {
    let now = now();
    let mut claims = json!({"exp": now + 300, "iat": now, "nbf": now, "identity": "user01"});
    change(&mut claims);
    claims.to_string()
}

/// A token with a valid header and changed claims.
fn with_claims(change: impl FnOnce(&mut Value)) -> String {
    signed(HEADER, &claims(change))
}

/// A token with this header and valid claims.
fn with_header(header: &str) -> String {
    signed(header, &claims(|_| {}))
}

/// One row: its name, the token, and the description of the refusal.
type Row = (&'static str, String, &'static str);

async fn assert_rows(rows: Vec<Row>, error: &str) {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    for (row, token, description) in rows {
        let request = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n\r\n");
        let answer = connection.exchange(request).await;
        assert_eq!(answer.status, 401, "{row}: {answer:?}");
        assert_unauthorized(&answer, error, description, true);
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty());
}

#[tokio::test]
async fn fewer_or_more_than_three_segments() {
    let good = with_claims(|_| {});
    let rows = vec![
        ("one segment", "a".to_owned(), "Not enough segments"),
        ("two segments", "a.b".to_owned(), "Not enough segments"),
        ("two segments of a valid token", good.rsplit_once('.').unwrap().0.to_owned(), "Not enough segments"),
        ("four segments", format!("{good}.x"), "Invalid payload padding"),
        ("five segments, as an encrypted token has", format!("{}.a.b.c.d", encode(HEADER)), "Invalid payload padding"),
    ];
    assert_rows(rows, "Invalid token").await;
}

#[tokio::test]
async fn segments_that_are_not_strict_base64url() {
    let (header, payload) = (encode(HEADER), encode(claims(|_| {})));
    let rows = vec![
        ("an empty header", format!(".{payload}.x"), "Invalid header string: not JSON"),
        ("a header with padding", sign(&format!("{header}=.{payload}")), "Invalid header padding"),
        ("a header in the other alphabet", sign(&format!("{header}+/.{payload}")), "Invalid header padding"),
        // The unused bits of the last character must be zero (RFC 4648, section 3.5).
        (
            "a header with stray bits",
            sign(&format!("{}.{payload}", stray_bits(&encode("{}")))),
            "Invalid header padding",
        ),
        ("a payload with padding", sign(&format!("{header}.{payload}==")), "Invalid payload padding"),
        ("a payload of one character", sign(&format!("{header}.a")), "Invalid payload padding"),
        (
            "a payload with stray bits",
            sign(&format!("{header}.{}", stray_bits(&encode("{}")))),
            "Invalid payload padding",
        ),
        ("a signature with padding", format!("{}=", sign(&format!("{header}.{payload}"))), "Invalid crypto padding"),
        ("a signature in the other alphabet", format!("{header}.{payload}.a+/a"), "Invalid crypto padding"),
        ("a signature with stray bits", stray_bits(&sign(&format!("{header}.{payload}"))), "Invalid crypto padding"),
        ("no signature", format!("{header}.{payload}."), "Signature verification failed"),
    ];
    assert_rows(rows, "Invalid token").await;
}

/// Sets an unused bit in the last character of base64url.
fn stray_bits(text: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = text.split_at(text.len() - 1);
    let value = ALPHABET.find(last).unwrap();
    assert_eq!(value % 2, 0, "the last bit is in use");
    format!("{rest}{}", &ALPHABET[value + 1..value + 2])
}

#[tokio::test]
async fn headers_that_are_not_json_objects() {
    let rows = vec![
        ("not JSON", with_header("x"), "Invalid header string: not JSON"),
        ("not an object", with_header("[]"), "Invalid header string: not an object"),
        ("not an object", with_header("\"HS256\""), "Invalid header string: not an object"),
        ("a key twice", with_header(r#"{"alg":"HS256","alg":"HS256"}"#), "Invalid header string: a name stands twice"),
    ];
    assert_rows(rows, "Invalid token").await;
}

#[tokio::test]
async fn the_algorithm_is_pinned() {
    const REFUSED: &str = "The specified alg value is not allowed";
    let headers = [
        "{}",
        r#"{"typ":"JWT"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","b64":false}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
        r#"{"alg":"HS256","kid":"unknown"}"#,
    ];
    let mut rows: Vec<Row> = headers.iter().map(|header| (*header, with_header(header), REFUSED)).collect();
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(claims(|_| {})));
    rows.push(("none, and no signature", unsigned, REFUSED));
    let longer = format!("{}.{}", encode(r#"{"alg":"HS512"}"#), encode(claims(|_| {})));
    rows.push(("HS512, with a valid signature", sign_with(&longer, secret().as_bytes(), Algorithm::HS512), REFUSED));
    assert_rows(rows, "Invalid token").await;
}

#[tokio::test]
async fn a_wrong_signature_is_reported_before_any_fault_of_the_payload() {
    const REFUSED: &str = "Signature verification failed";
    let signed_by = |secret: &[u8], payload: &str| {
        sign_with(&format!("{}.{}", encode(HEADER), encode(payload)), secret, Algorithm::HS256)
    };
    let other = "another secret, as long as ours. ".repeat(2);
    let good = with_claims(|_| {});
    let other_token = with_claims(|claims| claims["identity"] = json!("user02"));
    let signature = good.rsplit_once('.').unwrap().1;
    let rows = vec![
        ("another secret", signed_by(other.as_bytes(), &claims(|_| {})), REFUSED),
        ("no secret", signed_by(b"", &claims(|_| {})), REFUSED),
        ("expired as well", signed_by(other.as_bytes(), &claims(|claims| claims["exp"] = json!(1))), REFUSED),
        ("not JSON as well", signed_by(other.as_bytes(), "x"), REFUSED),
        ("the signature of another token", format!("{}.{signature}", other_token.rsplit_once('.').unwrap().0), REFUSED),
        ("a shorter signature", good[..good.len() - 3].to_owned(), REFUSED),
        (
            "signed with an algorithm that the header does not name",
            {
                let signed = format!("{}.{}", encode(HEADER), encode(claims(|_| {})));
                sign_with(&signed, secret().as_bytes(), Algorithm::HS384)
            },
            REFUSED,
        ),
    ];
    assert_rows(rows, "Invalid token").await;
}

#[tokio::test]
async fn payloads_that_are_not_json_objects() {
    let rows = vec![
        ("not JSON", signed(HEADER, "x"), "Invalid payload string: not JSON"),
        ("empty", signed(HEADER, ""), "Invalid payload string: not JSON"),
        ("not an object", signed(HEADER, "[1]"), "Invalid payload string: not an object"),
        (
            "a key twice",
            {
                let twice = claims(|_| {}).replacen('{', r#"{"identity":"user02","#, 1);
                signed(HEADER, &twice)
            },
            "Invalid payload string: a name stands twice",
        ),
    ];
    assert_rows(rows, "Invalid token").await;
}

#[tokio::test]
async fn missing_claims_are_reported_in_order() {
    let without = |names: &[&str]| {
        with_claims(|claims| {
            for name in names {
                claims.as_object_mut().unwrap().remove(*name);
            }
        })
    };
    let rows = vec![
        ("exp", without(&["exp"]), r#"Token is missing the "exp" claim"#),
        ("iat", without(&["iat"]), r#"Token is missing the "iat" claim"#),
        ("nbf", without(&["nbf"]), r#"Token is missing the "nbf" claim"#),
        ("all", without(&["exp", "iat", "nbf", "identity"]), r#"Token is missing the "exp" claim"#),
        ("iat and nbf", without(&["iat", "nbf"]), r#"Token is missing the "iat" claim"#),
        ("null", with_claims(|claims| claims["exp"] = Value::Null), r#"Token is missing the "exp" claim"#),
        ("null", with_claims(|claims| claims["iat"] = Value::Null), r#"Token is missing the "iat" claim"#),
        ("null", with_claims(|claims| claims["nbf"] = Value::Null), r#"Token is missing the "nbf" claim"#),
        (
            "nbf missing, exp past",
            signed(HEADER, r#"{"exp":1,"iat":1,"identity":"a"}"#),
            r#"Token is missing the "nbf" claim"#,
        ),
    ];
    assert_rows(rows, "Invalid token").await;
}

#[tokio::test]
async fn times_that_are_not_integers() {
    let names = [
        ("iat", "Issued At claim (iat) must be an integer."),
        ("nbf", "Not Before claim (nbf) must be an integer."),
        ("exp", "Expiration Time claim (exp) must be an integer."),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for (name, description) in names {
        let odd = [
            json!(now() as f64 + 0.5),
            json!(now().to_string()),
            json!(true),
            json!([now()]),
            json!({}),
            json!((1_i64 << 53) + 1),
            json!(-(1_i64 << 53) - 1),
            json!(u64::MAX),
        ];
        rows.extend(odd.map(|value| (name, with_claims(|claims| claims[name] = value), description)));
        // A number with a fraction or an exponent is a float.
        let round = claims(|claims| claims[name] = json!("@")).replace("\"@\"", "1e9");
        rows.push((name, signed(HEADER, &round), description));
        let huge = claims(|claims| claims[name] = json!("@")).replace("\"@\"", &"9".repeat(30));
        rows.push((name, signed(HEADER, &huge), description));
    }
    assert_rows(rows, "Invalid token").await;
}

#[tokio::test]
async fn times_in_the_future_or_the_past() {
    // Further ahead than the test takes.
    let ahead = now() + 600;
    let rows = vec![
        ("iat", with_claims(|claims| claims["iat"] = json!(ahead)), "Issued At claim (iat) cannot be in the future."),
        ("nbf", with_claims(|claims| claims["nbf"] = json!(ahead)), "The token is not yet valid (nbf)"),
        ("exp", with_claims(|claims| claims["exp"] = json!(now() - 1)), "Signature has expired"),
        ("exp == now", with_claims(|claims| claims["exp"] = json!(now())), "Signature has expired"),
        ("exp in 1970", with_claims(|claims| claims["exp"] = json!(0)), "Signature has expired"),
        ("exp before 1970", with_claims(|claims| claims["exp"] = json!(-1)), "Signature has expired"),
        (
            "iat before nbf",
            with_claims(|claims| {
                claims["iat"] = json!(ahead);
                claims["nbf"] = json!(ahead);
            }),
            "Issued At claim (iat) cannot be in the future.",
        ),
        (
            "nbf before exp",
            with_claims(|claims| {
                claims["nbf"] = json!(ahead);
                claims["exp"] = json!(1);
            }),
            "The token is not yet valid (nbf)",
        ),
        (
            "exp before the identity",
            with_claims(|claims| {
                claims["exp"] = json!(1);
                claims["identity"] = json!("");
            }),
            "Signature has expired",
        ),
    ];
    assert_rows(rows, "Invalid token").await;
}

#[tokio::test]
async fn an_identity_that_is_missing_or_not_a_string() {
    let odd = [json!(""), json!(null), json!(1), json!(["user01"]), json!({"id": "user01"}), json!(true)];
    let mut rows: Vec<Row> = Vec::new();
    rows.extend(odd.map(|value| ("identity", with_claims(|claims| claims["identity"] = value), "User does not exist")));
    let without = with_claims(|claims| {
        claims.as_object_mut().unwrap().remove("identity");
        // No other claim replaces it.
        claims["sub"] = json!("user01");
    });
    rows.push(("missing", without, "User does not exist"));
    assert_rows(rows, "Invalid JWT").await;
}

#[tokio::test]
async fn leeway_and_lifetime_are_configurable() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("TOKEN_LEEWAY", "300"), ("TOKEN_LIFETIME", "20")]);
    let mut connection = gateway.connect().await;
    let mut get = async |token: String| {
        connection
            .exchange(format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n\r\n"))
            .await
    };
    assert_eq!(get(with_claims(|claims| claims["exp"] = json!(now() - 60))).await.status, 200);
    assert_eq!(get(with_claims(|claims| claims["iat"] = json!(now() + 60))).await.status, 200);
    let late = get(with_claims(|claims| claims["exp"] = json!(now() - 600))).await;
    assert_unauthorized(&late, "Invalid token", "Signature has expired", true);
    let answer = gateway.exchange(crate::auth::login(crate::auth::user01())).await.json();
    let token = answer["access_token"].as_str().unwrap();
    let claims = crate::support::token::decode(token.split('.').nth(1).unwrap());
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 20);
}

#[tokio::test]
async fn a_token_of_the_original_api_is_valid() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    // As PyJWT 1.x writes it: without `jti`, and with the header's keys in another order.
    let claims = claims(|claims| {
        claims.as_object_mut().unwrap().remove("jti");
    });
    for header in [r#"{"typ":"JWT","alg":"HS256"}"#, r#"{"alg":"HS256","typ":"JWT"}"#, r#"{ "alg" : "HS256" }"#] {
        let token = signed(header, &claims);
        let request = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n\r\n");
        assert_eq!(gateway.exchange(request).await.status, 200, "{header}");
    }
}

#[tokio::test]
async fn a_token_that_is_too_long_is_refused_before_it_is_parsed() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let long = with_claims(|claims| claims["more"] = json!("x".repeat(8 * 1024)));
    let request = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {long}\r\n\r\n");
    let answer = gateway.exchange(request).await;
    assert_unauthorized(&answer, "Invalid token", "Token is too long", true);
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn scopes_that_are_not_scope_tokens_are_refused() {
    let refused = |name: &'static str, value: Value| {
        let description =
            if name == "scope" { "Scope claim (scope) is not valid." } else { "Scope claim (scp) is not valid." };
        (name, with_claims(|claims| claims[name] = value), description)
    };
    let mut rows: Vec<_> =
        [json!(1), json!(true), json!({}), json!([]), json!(["a"]), json!(" "), json!("a  b"), json!("é")]
            .into_iter()
            .map(|value| refused("scope", value))
            .collect();
    rows.extend(
        [json!(1), json!({}), json!([1]), json!([["a"]]), json!(["a b"]), json!([""]), json!("a ")]
            .into_iter()
            .map(|value| refused("scp", value)),
    );
    rows.push(refused("scope", json!("s".repeat(2049))));
    let differ = with_claims(|claims| {
        claims["scope"] = json!("a");
        claims["scp"] = json!(["a", "b"]);
    });
    rows.push(("two claims that differ", differ, "Scope claim (scp) is not valid."));
    assert_rows(rows, "Invalid token").await;
}

#[tokio::test]
async fn a_token_with_an_invalid_scope_and_another_fault_is_refused_for_the_other() {
    let expired = with_claims(|claims| {
        claims["scope"] = json!(1);
        claims["exp"] = json!(1);
    });
    assert_rows(vec![("expired", expired, "Signature has expired")], "Invalid token").await;
}
