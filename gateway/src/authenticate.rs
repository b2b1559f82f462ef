//! Who sends a request: the `Authorization` header, and the token in it (RFC 9110,
//! section 11.6.2; RFC 6750, section 2.1).
//!
//! Pure: headers and the time go in, a [`Principal`] or the reason for refusing comes out.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use memchr::{memchr2, memchr3};

use crate::token::{Keys, Presented, Refused, StaticToken, StaticTokens, Verified};

/// What opens the door at present. It is replaced as a whole.
#[derive(Debug)]
pub struct Accepted {
    /// The keys of the tokens that a login makes.
    pub keys: Arc<Keys>,
    /// The tokens of machines.
    pub static_tokens: StaticTokens,
}

/// Who a request is answered for. A clone is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What they showed.
    pub credential: Credential,
}

/// What opens the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A JSON Web Token.
    Token(Arc<Verified>),
    /// A static token.
    Static(Arc<StaticToken>),
}

impl Principal {
    /// What logs, limits and the backend call them: not empty.
    pub fn identity(&self) -> &str {
        match &self.credential {
            Credential::Token(token) => &token.identity,
            Credential::Static(token) => token.identity(),
        }
    }

    /// Whether the credential opens the route of this name. A static token opens those that are
    /// listed for it; behind the others there is nothing for it.
    pub fn may_use(&self, route: &str) -> bool {
        match &self.credential {
            Credential::Token(_) => true,
            Credential::Static(token) => token.may_use(route),
        }
    }
}

/// Why a request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No `Authorization`, or an empty one.
    Absent,
    /// Neither `JWT` nor `Bearer`.
    UnsupportedScheme,
    /// The scheme alone.
    TokenMissing,
    /// More than one token: words, a list, or a second header.
    TokenContainsSpaces,
    /// A token that opens nothing.
    Token(Refused),
    /// A static token by another scheme than `Bearer`. The client gets the answer to a token that is
    /// not known, so that the scheme `JWT` cannot be used to find out which static tokens there are.
    StaticTokenScheme(Refused),
}

impl Refusal {
    /// Every value of [`Refusal::label`].
    pub const LABELS: [&str; 10] = [
        "absent",
        "header",
        "encoding",
        "algorithm",
        "unknown_kid",
        "signature",
        "claims",
        "expired",
        "identity",
        "static_token_scheme",
    ];

    /// The reason as a metric tells it.
    pub fn label(self) -> &'static str {
        let refused = match self {
            Self::Absent => return "absent",
            Self::UnsupportedScheme | Self::TokenMissing | Self::TokenContainsSpaces => return "header",
            Self::StaticTokenScheme(_) => return "static_token_scheme",
            Self::Token(refused) => refused,
        };
        match refused {
            Refused::TooLong
            | Refused::NotEnoughSegments
            | Refused::HeaderEncoding
            | Refused::HeaderJson(_)
            | Refused::PayloadEncoding
            | Refused::SignatureEncoding
            | Refused::PayloadJson(_) => "encoding",
            Refused::Algorithm => "algorithm",
            Refused::UnknownKid => "unknown_kid",
            Refused::Signature => "signature",
            Refused::Missing(_) | Refused::NotAnInteger(_) | Refused::IssuedInTheFuture | Refused::NotYetValid => {
                "claims"
            }
            Refused::Expired => "expired",
            Refused::NoIdentity => "identity",
        }
    }
}

/// Finds the principal of a request with `headers` at `now` (seconds since 1970).
///
/// # Errors
/// The [`Refusal`] to tell the client.
pub fn authenticate(headers: &HeaderMap, accepted: &Accepted, now: i64) -> Result<Principal, Refusal> {
    let (scheme, token) = credentials(headers)?;
    let token = Presented::new(token).map_err(Refusal::Token)?;
    // Users come first: to find a user's token costs the same however many machines there are.
    let refused = match accepted.keys.verify(&token, now) {
        Ok(verified) => return Ok(Principal { credential: Credential::Token(verified) }),
        Err(refused) => refused,
    };
    match accepted.static_tokens.find(&token) {
        None => Err(Refusal::Token(refused)),
        Some(_) if scheme != Scheme::Bearer => Err(Refusal::StaticTokenScheme(refused)),
        Some(found) if found.is_expired(now) => Err(Refusal::Token(Refused::Expired)),
        Some(found) => Ok(Principal { credential: Credential::Static(Arc::clone(found)) }),
    }
}

/// How a token is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// As the clients of the original send it.
    Jwt,
    /// RFC 6750.
    Bearer,
}

/// The scheme and the one token of the one `Authorization` header.
fn credentials(headers: &HeaderMap) -> Result<(Scheme, &[u8]), Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(Refusal::Absent) };
    if values.next().is_some() {
        return Err(Refusal::TokenContainsSpaces);
    }
    let value = trim(value.as_bytes());
    let end = memchr2(b' ', b'\t', value).unwrap_or(value.len());
    let (scheme, token) = value.split_at_checked(end).unwrap_or((value, &[]));
    let scheme = match scheme {
        [] => return Err(Refusal::Absent),
        word if word.eq_ignore_ascii_case(b"JWT") => Scheme::Jwt,
        word if word.eq_ignore_ascii_case(b"Bearer") => Scheme::Bearer,
        _ => return Err(Refusal::UnsupportedScheme),
    };
    let token = trim(token);
    if token.is_empty() {
        return Err(Refusal::TokenMissing);
    }
    // A comma joins what were two headers (RFC 9110, section 5.3); no token holds one.
    if memchr3(b' ', b'\t', b',', token).is_some() {
        return Err(Refusal::TokenContainsSpaces);
    }
    Ok((scheme, token))
}

/// What is sent, without the white space around it (RFC 9110, section 5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::token::{Digest, Key, Routes, Settings};

    /// A static token that expires in second 2000.
    const MACHINE: &str = "machine-0123";

    fn refusal(values: &[&str]) -> Refusal {
        authenticate(&headers(values), &accepted(), 0).unwrap_err()
    }

    fn accepted() -> Accepted {
        let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
        let keys = Keys::new(vec![Key::unnamed(&[7; 32]).unwrap()], settings).unwrap();
        let routes = Routes::Named(vec!["holodules".to_owned()]);
        let machine = StaticToken::new("collector", Digest::of(MACHINE.as_bytes()), routes, Some(2000)).unwrap();
        Accepted { keys: Arc::new(keys), static_tokens: StaticTokens::new(vec![machine]).unwrap() }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn absent_empty_or_blank() {
        for values in [&[][..], &[""], &[" "], &["\t "]] {
            assert_eq!(refusal(values), Refusal::Absent);
        }
    }

    #[test]
    fn another_scheme_or_a_bare_token() {
        for value in ["Basic dXNlcjE6cGFzcw==", "eyJ.e30.x", "JWTx a", "Token a b"] {
            assert_eq!(refusal(&[value]), Refusal::UnsupportedScheme, "{value}");
        }
    }

    #[test]
    fn the_scheme_alone() {
        assert_eq!(refusal(&["JWT"]), Refusal::TokenMissing);
        assert_eq!(refusal(&["bearer "]), Refusal::TokenMissing);
    }

    #[test]
    fn spaces_two_headers_or_a_list() {
        for values in [&["JWT a b"][..], &["JWT a", "JWT a"], &["JWT a, JWT b"], &["JWT a,b"]] {
            assert_eq!(refusal(values), Refusal::TokenContainsSpaces);
        }
    }

    #[test]
    fn any_case_and_any_space_between() {
        let accepted = accepted();
        let token = accepted.keys.issue("user01", "1", 1000).unwrap();
        for scheme in ["JWT ", "jwt ", "Bearer ", "BEARER\t \t", "bearer   "] {
            let principal = authenticate(&headers(&[&format!("{scheme}{token}")]), &accepted, 1000).unwrap();
            assert_eq!(principal.identity(), "user01");
            assert!(principal.may_use("holodules") && principal.may_use("anything"));
        }
    }

    #[test]
    fn a_static_token_is_sent_as_bearer_and_opens_its_routes_until_it_expires() {
        let accepted = accepted();
        let sent = |value: &str, now| authenticate(&headers(&[value]), &accepted, now);
        for scheme in ["Bearer", "bearer ", "BEARER\t"] {
            let principal = sent(&format!("{scheme} {MACHINE}"), 1999).unwrap();
            assert_eq!(principal.identity(), "static:collector");
            assert!(principal.may_use("holodules") && !principal.may_use("anything"));
        }
        let refused = Err(Refusal::Token(Refused::NotEnoughSegments));
        for now in [1999, 2000] {
            let sent = sent(&format!("JWT {MACHINE}"), now);
            assert_eq!(sent, Err(Refusal::StaticTokenScheme(Refused::NotEnoughSegments)));
        }
        assert_eq!(sent(&format!("JWT {MACHINE}4"), 1999), refused);
        assert_eq!(sent(&format!("Bearer {MACHINE}4"), 1999), refused);
        assert_eq!(sent(&format!("Bearer {}", Digest::of(MACHINE.as_bytes())), 1999), refused);
        assert_eq!(sent(&format!("Bearer {MACHINE}"), 2000), Err(Refusal::Token(Refused::Expired)));
    }

    #[test]
    fn no_json_web_token_stands_for_a_static_one() {
        let accepted = accepted();
        for identity in ["static:collector", "static:", "static:nobody"] {
            let token = accepted.keys.issue(identity, "1", 1000).unwrap();
            let refused = authenticate(&headers(&[&format!("Bearer {token}")]), &accepted, 1000);
            assert_eq!(refused, Err(Refusal::Token(Refused::NoIdentity)), "{identity}");
        }
    }

    #[test]
    fn every_reason_has_a_label_that_metrics_know() {
        let refused = [
            Refused::TooLong,
            Refused::Algorithm,
            Refused::UnknownKid,
            Refused::Signature,
            Refused::NotYetValid,
            Refused::Expired,
            Refused::NoIdentity,
        ];
        let tokens = refused.into_iter().map(Refusal::Token);
        let others = [Refusal::Absent, Refusal::TokenMissing, Refusal::StaticTokenScheme(Refused::TooLong)];
        let labels: Vec<_> = tokens.chain(others).map(Refusal::label).collect();
        assert!(Refusal::LABELS.iter().all(|label| labels.contains(label)), "{labels:?}");
        assert!(labels.iter().all(|label| Refusal::LABELS.contains(label)), "{labels:?}");
    }

    #[test]
    fn a_bad_token_is_told_as_such() {
        assert_eq!(refusal(&["JWT a"]), Refusal::Token(Refused::NotEnoughSegments));
    }
}
