//! Tokens and `Authorization` headers of any content are handled as in the wire contract.

use std::collections::BTreeSet;
use std::sync::Arc;

use holodule_gateway::authenticate::{Accepted, AuthenticationError, authenticate};
use holodule_gateway::token::{
    Claim, Digest, Key, Keys, Presented, Routes, Settings, StaticToken, StaticTokens, TokenError, Verified,
};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::support::random::{self, Random};
use crate::support::token::{HEADER, encode, secret, sign, signed};

const NOW: i64 = 1_700_000_000;
const STATIC_TOKEN: &str = "holodule_static-word";

fn accepted() -> Accepted {
    let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
    let keys = Keys::new(vec![Key::unnamed(secret().as_bytes()).unwrap()], settings).unwrap();
    let machine = StaticToken::new("machine", Digest::of(STATIC_TOKEN.as_bytes()), Routes::All, None).unwrap();
    Accepted { keys: Arc::new(keys), static_tokens: StaticTokens::new(vec![machine]).unwrap() }
}

fn verify(keys: &Keys, token: &[u8]) -> Result<Arc<Verified>, TokenError> {
    keys.verify(&Presented::new(token)?, NOW)
}

fn valid() -> String {
    signed(HEADER, &format!(r#"{{"exp":{},"iat":{NOW},"nbf":{NOW},"identity":"user01"}}"#, NOW + 300))
}

#[test]
fn any_change_invalidates_a_token() {
    let (accepted, valid) = (accepted(), valid().into_bytes());
    assert!(verify(&accepted.keys, &valid).is_ok());
    random::check("a token, changed", 20_000, |random| {
        let mut token = valid.clone();
        for _ in 0..=random.below(4) {
            change(random, &mut token);
        }
        if token != valid {
            assert!(verify(&accepted.keys, &token).is_err(), "{}", String::from_utf8_lossy(&token));
        }
    });
}

/// Makes one change.
fn change(random: &mut Random, token: &mut Vec<u8>) {
    const SYNTAX: &[u8] = b"..==-_+/ \t\0\xff\xc0AZaz09,\"{}%";
    let at = random.below(token.len() + 1);
    let byte = if random.one_in(2) { SYNTAX[random.below(SYNTAX.len())] } else { random.byte() };
    match random.below(6) {
        0 => token.insert(at, byte),
        1 if at < token.len() => token[at] = byte,
        2 if at < token.len() => token[at] ^= 1 << random.below(8),
        3 if at < token.len() => drop(token.remove(at)),
        4 => token.truncate(at),
        _ => {
            let from = random.below(at + 1);
            let part = token[from..at].to_vec();
            token.splice(at..at, part);
        }
    }
}

/// The name and the value of a member of a JSON object.
type Member = (&'static str, Value);

/// A JSON value, as far as it affects the result.
#[derive(Clone)]
enum Value {
    Integer(i64),
    Text(&'static str),
    Null,
    /// Any other JSON text.
    Other(&'static str),
}

const OTHERS: [&str; 14] = [
    "true",
    "false",
    "1.5",
    "1e9",
    "1700000000.0",
    "[]",
    "{}",
    "[1700000000]",
    "{\"a\":{\"a\":1,\"a\":2}}",
    "9007199254740993",
    "-9007199254740993",
    "18446744073709551615",
    "99999999999999999999999",
    "-99999999999999999999999",
];

const ODD_TIMES: [i64; 6] = [0, -1, 1 << 53, -(1 << 53), NOW - 4000, NOW + 4000];

fn write(random: &mut Random, members: &[Member]) -> String {
    let mut space = || random.pick(&["", "", "", " ", "\n", "\t\r "]);
    let mut text = format!("{}{{", space());
    for (index, (name, value)) in members.iter().enumerate() {
        let value = match value {
            Value::Integer(number) => number.to_string(),
            Value::Text(text) => serde_json::to_string(text).unwrap(),
            Value::Null => "null".to_owned(),
            Value::Other(text) => (*text).to_owned(),
        };
        let comma = if index == 0 { "" } else { "," };
        text.push_str(&format!("{comma}{}\"{name}\"{}:{}{value}{}", space(), space(), space(), space()));
    }
    text.push('}');
    text.push_str(space());
    text
}

fn shuffle<T>(random: &mut Random, list: &mut [T]) {
    for index in (1..list.len()).rev() {
        list.swap(index, random.below(index + 1));
    }
}

fn random_header(random: &mut Random) -> Vec<Member> {
    let mut members = vec![("typ", Value::Text("JWT"))];
    members.push(match random.below(8) {
        0 => ("alg", Value::Text(random.pick(&["none", "HS512", "hs256", "RS256", ""]))),
        1 => ("alg", Value::Other(random.pick(&OTHERS))),
        2 => ("ALG", Value::Text("HS256")),
        _ => ("alg", Value::Text("HS256")),
    });
    for name in ["crit", "b64", "zip", "kid", "jku", "jwk", "x5u", "cty"] {
        if random.one_in(24) {
            members.push((name, Value::Other(random.pick(&OTHERS))));
        }
    }
    if random.one_in(24) {
        members.push(("kid", Value::Text(random.pick(&["", "a", "HS256"]))));
    }
    finish(random, members)
}

fn random_payload(random: &mut Random) -> Vec<Member> {
    let mut members = Vec::new();
    for (name, usual) in [("exp", NOW + 300), ("iat", NOW), ("nbf", NOW)] {
        members.push(match random.below(12) {
            0 => continue,
            1 => (name, Value::Null),
            2 => (name, Value::Other(random.pick(&OTHERS))),
            3 => (name, Value::Text("1700000000")),
            4 => (name, Value::Integer(ODD_TIMES[random.below(ODD_TIMES.len())])),
            5 => (name, Value::Integer(NOW - 2 + i64::try_from(random.below(5)).unwrap())),
            _ => (name, Value::Integer(usual)),
        });
    }
    match random.below(8) {
        0 => {}
        1 => members.push(("identity", Value::Other(random.pick(&OTHERS)))),
        2 => members.push(("identity", Value::Text(random.pick(&["", "static:", "static:machine"])))),
        3 => members.push(("identity", Value::Null)),
        _ => members.push(("identity", Value::Text(random.pick(&["user01", "Static:a", " ", "é\n\0\u{202e}"])))),
    }
    for name in ["scope", "scp"] {
        if random.one_in(4) {
            members.push((name, random_scopes(random)));
        }
    }
    for name in ["jti", "sub", "aud", "Identity"] {
        if random.one_in(3) {
            members.push((name, Value::Other(random.pick(&OTHERS))));
        }
    }
    finish(random, members)
}

/// The value of a scope claim, often an invalid one.
fn random_scopes(random: &mut Random) -> Value {
    match random.below(6) {
        0 => Value::Null,
        1 => Value::Integer(1),
        2 => Value::Other(random.pick(&OTHERS)),
        3 => Value::Other(random.pick(&[r#"["b","a"]"#, r#"["a","b","a"]"#, r#"["a b"]"#, r#"["a",1]"#, r#"[""]"#])),
        _ => Value::Text(random.pick(&["", "a", "a b", "b a a", " a", "a  b", "a\tb", "é", "a\\"])),
    }
}

/// The scopes of a claim as the contract's table has them; `Err` if it is not valid.
fn scopes_of(value: Option<&Value>, is_array_accepted: bool) -> Result<Option<BTreeSet<&str>>, ()> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text("")) => Ok(Some(BTreeSet::new())),
        Some(Value::Text("a")) => Ok(Some(BTreeSet::from(["a"]))),
        Some(Value::Text("a b" | "b a a")) => Ok(Some(BTreeSet::from(["a", "b"]))),
        Some(Value::Other(r#"["b","a"]"# | r#"["a","b","a"]"#)) if is_array_accepted => {
            Ok(Some(BTreeSet::from(["a", "b"])))
        }
        Some(Value::Other("[]")) if is_array_accepted => Ok(Some(BTreeSet::new())),
        Some(_) => Err(()),
    }
}

/// Sometimes repeats a member, and shuffles them all.
fn finish(random: &mut Random, mut members: Vec<Member>) -> Vec<Member> {
    if random.one_in(16) && !members.is_empty() {
        let again = members[random.below(members.len())].clone();
        members.push(again);
    }
    shuffle(random, &mut members);
    members
}

fn has_duplicate(members: &[Member]) -> bool {
    members.iter().enumerate().any(|(index, (name, _))| members.iter().skip(index + 1).any(|(other, _)| other == name))
}

fn find<'a>(members: &'a [Member], name: &str) -> Option<&'a Value> {
    members.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
}

/// The contract's table, applied to the written members without parsing them again.
fn expected<'a>(header: &[Member], payload: &'a [Member]) -> Result<(&'a str, BTreeSet<&'a str>), TokenError> {
    if has_duplicate(header) {
        return Err(TokenError::HeaderJson("a name stands twice"));
    }
    let is_pinned = matches!(find(header, "alg"), Some(Value::Text("HS256")));
    if !is_pinned || ["crit", "b64", "zip"].iter().any(|name| find(header, name).is_some()) {
        return Err(TokenError::Algorithm);
    }
    // The only key has no name.
    match find(header, "kid") {
        None => {}
        Some(Value::Text(_)) => return Err(TokenError::UnknownKid),
        Some(_) => return Err(TokenError::Algorithm),
    }
    if has_duplicate(payload) {
        return Err(TokenError::PayloadJson("a name stands twice"));
    }
    let claims = [Claim::ExpirationTime, Claim::IssuedAt, Claim::NotBefore];
    for claim in claims {
        if matches!(find(payload, claim.name()), None | Some(Value::Null)) {
            return Err(TokenError::Missing(claim));
        }
    }
    let time = |claim: Claim| match find(payload, claim.name()) {
        Some(Value::Integer(time)) => Ok(*time),
        _ => Err(TokenError::NotAnInteger(claim)),
    };
    let iat = time(Claim::IssuedAt)?;
    if iat > NOW {
        return Err(TokenError::IssuedInTheFuture);
    }
    if time(Claim::NotBefore)? > NOW {
        return Err(TokenError::NotYetValid);
    }
    if time(Claim::ExpirationTime)? <= NOW || iat + 3600 <= NOW {
        return Err(TokenError::Expired);
    }
    match find(payload, "identity") {
        Some(Value::Text(identity)) if !identity.is_empty() && !identity.starts_with("static:") => {
            let scope = scopes_of(find(payload, "scope"), false).map_err(|()| TokenError::InvalidScopes("scope"))?;
            let scp = scopes_of(find(payload, "scp"), true).map_err(|()| TokenError::InvalidScopes("scp"))?;
            match (scope, scp) {
                (Some(scope), Some(scp)) if scope != scp => Err(TokenError::InvalidScopes("scp")),
                (scope, scp) => Ok((identity, scope.or(scp).unwrap_or_default())),
            }
        }
        _ => Err(TokenError::NoIdentity),
    }
}

#[test]
fn signed_tokens_are_verified_as_in_the_contract() {
    let accepted = accepted();
    let (mut valid, mut refused) = (0_u64, 0_u64);
    random::check("a token, signed", 20_000, |random| {
        let (header, payload) = (random_header(random), random_payload(random));
        let token = signed(&write(random, &header), &write(random, &payload));
        let verdict = verify(&accepted.keys, token.as_bytes());
        let result = verdict.as_ref().map_err(|refused| *refused);
        let result = result.map(|verified| (&*verified.identity, verified.scopes.iter().collect()));
        assert_eq!(result, expected(&header, &payload), "{token}");
        // The cached verdict is the same.
        assert_eq!(verify(&accepted.keys, token.as_bytes()), verdict);
        *if verdict.is_ok() { &mut valid } else { &mut refused } += 1;
    });
    assert!(valid + refused < 1000 || (valid > 0 && refused > 0), "{valid} accepted, {refused} refused");
}

#[test]
fn signed_random_bytes_are_refused() {
    let accepted = accepted();
    random::check("random bytes, signed", 20_000, |random| {
        let mut bytes = |max: usize| -> Vec<u8> {
            const SYNTAX: &[u8] = b"{}[]:,\"\\u0alg HS256exp\xef\xbb\xbf\0\xff";
            (0..random.below(max)).map(|_| SYNTAX[random.below(SYNTAX.len())]).collect()
        };
        let (header, payload) = (bytes(40), bytes(40));
        let either = sign(&format!("{}.{}", encode(&header), encode(&payload)));
        let payload_alone = sign(&format!("{}.{}", encode(HEADER), encode(&payload)));
        for token in [either, payload_alone] {
            assert!(verify(&accepted.keys, token.as_bytes()).is_err(), "{token}");
        }
    });
}

#[test]
fn only_one_scheme_with_one_token_is_accepted() {
    let (accepted, valid) = (accepted(), valid());
    let pieces = ["JWT", "jwt", "Bearer", "BEARER", "Basic", " ", "\t", "  ", ",", "x", "é", &valid, STATIC_TOKEN];
    random::check("an Authorization header", 20_000, |random| {
        let value: String = (0..random.below(6)).map(|_| random.pick(&pieces)).collect();
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        let words: Vec<&str> = value.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        let expected = match words.as_slice() {
            [scheme, token] if scheme.eq_ignore_ascii_case("jwt") && *token == valid => Ok("user01"),
            [scheme, token] if scheme.eq_ignore_ascii_case("bearer") && *token == valid => Ok("user01"),
            [scheme, token] if scheme.eq_ignore_ascii_case("bearer") && *token == STATIC_TOKEN => Ok("static:machine"),
            _ => Err(()),
        };
        let principal = authenticate(&headers, &accepted, NOW);
        let identity = principal.as_ref().map(|principal| principal.identity());
        assert_eq!(identity.map_err(|_: &AuthenticationError| ()), expected, "{value:?}");
    });
}
