//! Who sends a request: the `Authorization` header, and the token in it (RFC 9110,
//! section 11.6.2; RFC 6750, section 2.1).
//!
//! Pure: headers and the time go in, a [`Principal`] or the reason for refusing comes out.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::token::{Keys, Refused, Verified};

/// Who a request is answered for. A clone is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What logs, limits and the backend call them: not empty.
    pub identity: Arc<str>,
    /// What they showed.
    pub credential: Credential,
}

/// What opens the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A JSON Web Token.
    Token(Verified),
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
}

impl Refusal {
    /// Every value of [`Refusal::label`].
    pub const LABELS: [&str; 8] =
        ["absent", "header", "encoding", "algorithm", "signature", "claims", "expired", "identity"];

    /// The reason as a metric tells it.
    pub fn label(self) -> &'static str {
        let Self::Token(refused) = self else {
            return if self == Self::Absent { "absent" } else { "header" };
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
pub fn authenticate(headers: &HeaderMap, keys: &Keys, now: i64) -> Result<Principal, Refusal> {
    let token = credentials(headers)?;
    let verified = keys.verify(token, now).map_err(Refusal::Token)?;
    Ok(Principal { identity: Arc::clone(&verified.identity), credential: Credential::Token(verified) })
}

/// The one token of the one `Authorization` header.
fn credentials(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(Refusal::Absent) };
    if values.next().is_some() {
        return Err(Refusal::TokenContainsSpaces);
    }
    let mut words = value.as_bytes().split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let scheme = words.next().ok_or(Refusal::Absent)?;
    if !scheme.eq_ignore_ascii_case(b"JWT") && !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Err(Refusal::UnsupportedScheme);
    }
    let token = words.next().ok_or(Refusal::TokenMissing)?;
    // A comma joins what were two headers (RFC 9110, section 5.3); no token holds one.
    if words.next().is_some() || token.contains(&b',') {
        return Err(Refusal::TokenContainsSpaces);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::token::Settings;

    fn refusal(values: &[&str]) -> Refusal {
        authenticate(&headers(values), &keys(), 0).unwrap_err()
    }

    fn keys() -> Keys {
        Keys::new(&[7; 32], Settings { lifetime: 300, leeway: 0 }).unwrap()
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
        let token = keys().issue("user01", "1", 1000).unwrap();
        for scheme in ["JWT ", "jwt ", "Bearer ", "BEARER\t \t", "bearer   "] {
            let principal = authenticate(&headers(&[&format!("{scheme}{token}")]), &keys(), 1000).unwrap();
            assert_eq!(&*principal.identity, "user01");
        }
    }

    #[test]
    fn a_bad_token_is_told_as_such() {
        assert_eq!(refusal(&["JWT a"]), Refusal::Token(Refused::NotEnoughSegments));
    }
}
