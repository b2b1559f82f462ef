//! What each refusal is answered with.

use http::StatusCode;
use http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::{Answer, Plain, whole_seconds};
use crate::route::NoMatch;
use crate::token::{Claim, TokenError};
use crate::{authenticate, framing, login};

impl From<framing::HeadError> for Answer {
    fn from(refusal: framing::HeadError) -> Self {
        let status = match refusal {
            framing::HeadError::Malformed(_) => StatusCode::BAD_REQUEST,
            framing::HeadError::TargetTooLong => StatusCode::URI_TOO_LONG,
            framing::HeadError::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        };
        Self { close: true, ..Self::plain(status) }
    }
}

impl From<NoMatch> for Answer {
    fn from(no_match: NoMatch) -> Self {
        match no_match {
            // The original's own spelling.
            NoMatch::Path => Self::new(StatusCode::NOT_FOUND, &Plain { error: "Not found" }),
            NoMatch::Method { allow } => {
                let allow = HeaderValue::from_str(&allow).unwrap_or(HeaderValue::from_static(""));
                Self::plain(StatusCode::METHOD_NOT_ALLOWED).with(ALLOW, allow)
            }
        }
    }
}

impl From<authenticate::AuthenticationError> for Answer {
    fn from(refusal: authenticate::AuthenticationError) -> Self {
        use authenticate::AuthenticationError;
        let (error, description) = match refusal {
            AuthenticationError::Absent => {
                ("Authorization Required", "Request does not contain an access token".to_owned())
            }
            AuthenticationError::UnsupportedScheme => {
                ("Invalid JWT header", "Unsupported authorization type".to_owned())
            }
            AuthenticationError::TokenMissing => ("Invalid JWT header", "Token missing".to_owned()),
            AuthenticationError::TokenContainsSpaces => ("Invalid JWT header", "Token contains spaces".to_owned()),
            AuthenticationError::Token(TokenError::NoIdentity) => ("Invalid JWT", "User does not exist".to_owned()),
            AuthenticationError::Token(refused) | AuthenticationError::StaticTokenScheme(refused) => {
                ("Invalid token", describe(refused))
            }
        };
        // RFC 6750, section 3.1: only where a token was sent and refused.
        let bearer = match refusal {
            AuthenticationError::Token(_) | AuthenticationError::StaticTokenScheme(_) => {
                r#"Bearer realm="Login Required", error="invalid_token""#
            }
            _ => r#"Bearer realm="Login Required""#,
        };
        Self::described(StatusCode::UNAUTHORIZED, error, &description)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"JWT realm="Login Required""#))
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(bearer))
    }
}

/// The words of the original, letter for letter.
fn describe(refused: TokenError) -> String {
    match refused {
        TokenError::TooLong => "Token is too long".to_owned(),
        TokenError::NotEnoughSegments => "Not enough segments".to_owned(),
        TokenError::HeaderEncoding => "Invalid header padding".to_owned(),
        TokenError::HeaderJson(reason) => format!("Invalid header string: {reason}"),
        TokenError::PayloadEncoding => "Invalid payload padding".to_owned(),
        TokenError::SignatureEncoding => "Invalid crypto padding".to_owned(),
        TokenError::Algorithm | TokenError::UnknownKid => "The specified alg value is not allowed".to_owned(),
        TokenError::Signature => "Signature verification failed".to_owned(),
        TokenError::PayloadJson(reason) => format!("Invalid payload string: {reason}"),
        TokenError::Missing(claim) => format!("Token is missing the \"{claim}\" claim"),
        TokenError::NotAnInteger(claim) => {
            let name = match claim {
                Claim::ExpirationTime => "Expiration Time",
                Claim::IssuedAt => "Issued At",
                Claim::NotBefore => "Not Before",
            };
            format!("{name} claim ({claim}) must be an integer.")
        }
        TokenError::IssuedInTheFuture => "Issued At claim (iat) cannot be in the future.".to_owned(),
        TokenError::NotYetValid => "The token is not yet valid (nbf)".to_owned(),
        TokenError::Expired => "Signature has expired".to_owned(),
        TokenError::NoIdentity => "User does not exist".to_owned(),
    }
}

impl From<&login::LoginError> for Answer {
    fn from(refusal: &login::LoginError) -> Self {
        use login::LoginError;
        match refusal {
            LoginError::ContentType => Self::described(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported Media Type",
                "The Content-Type must be application/json",
            ),
            LoginError::TooLarge => Self {
                close: true,
                ..Self::described(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large", "The body is over 4096 bytes")
            },
            LoginError::Incomplete => Self { close: true, ..Self::plain(StatusCode::REQUEST_TIMEOUT) },
            LoginError::Broken => Self { close: true, ..Self::plain(StatusCode::BAD_REQUEST) },
            LoginError::Malformed(reason) => Self::described(StatusCode::BAD_REQUEST, "Bad Request", reason),
            // A 401 whose body says "Bad Request": the original's words.
            LoginError::Credentials => Self::described(StatusCode::UNAUTHORIZED, "Bad Request", "Invalid credentials")
                .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"JWT realm="Login Required""#))
                .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="Login Required""#)),
            // Alike for an address and a name: what is told is to wait.
            LoginError::Throttled { wait, .. } => {
                Self::described(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", "Too many failed logins")
                    .with(RETRY_AFTER, HeaderValue::from(whole_seconds(*wait)))
            }
            LoginError::Unavailable(_) | LoginError::Busy => Self::upstream(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(answer: &Answer) -> &str {
        std::str::from_utf8(&answer.body).unwrap()
    }

    #[test]
    fn refusals_of_tokens_have_the_originals_words() {
        let answer = Answer::from(authenticate::AuthenticationError::Token(TokenError::Missing(Claim::ExpirationTime)));
        let expected = "{\"status_code\":401,\"error\":\"Invalid token\",\"description\":\"Token is missing the \\\"exp\\\" claim\"}\n";
        assert_eq!(body(&answer), expected);
        let answer = Answer::from(authenticate::AuthenticationError::Token(TokenError::NoIdentity));
        assert_eq!(
            body(&answer),
            "{\"status_code\":401,\"error\":\"Invalid JWT\",\"description\":\"User does not exist\"}\n"
        );
    }

    #[test]
    fn reasons_that_only_the_log_distinguishes_have_the_same_words() {
        use authenticate::AuthenticationError;
        for (one, other) in [
            (AuthenticationError::Token(TokenError::UnknownKid), AuthenticationError::Token(TokenError::Algorithm)),
            (
                AuthenticationError::StaticTokenScheme(TokenError::NotEnoughSegments),
                AuthenticationError::Token(TokenError::NotEnoughSegments),
            ),
        ] {
            assert_ne!(one.label(), other.label());
            let (one, other) = (Answer::from(one), Answer::from(other));
            assert_eq!((one.status, body(&one), &one.headers), (other.status, body(&other), &other.headers));
        }
    }

    #[test]
    fn every_401_offers_both_schemes() {
        let absent = Answer::from(authenticate::AuthenticationError::Absent);
        let refused = Answer::from(authenticate::AuthenticationError::Token(TokenError::Expired));
        let offers = |answer: &Answer| -> Vec<String> {
            let offers = answer.headers.iter().filter(|(name, _)| name == WWW_AUTHENTICATE);
            offers.map(|(_, value)| value.to_str().unwrap().to_owned()).collect()
        };
        let jwt = r#"JWT realm="Login Required""#;
        assert_eq!(offers(&absent), [jwt, r#"Bearer realm="Login Required""#]);
        assert_eq!(offers(&refused), [jwt, r#"Bearer realm="Login Required", error="invalid_token""#]);
    }

    #[test]
    fn malformed_requests_end_the_connection() {
        let answer = Answer::from(framing::HeadError::Malformed("x"));
        assert_eq!(
            (answer.status, answer.close, body(&answer)),
            (StatusCode::BAD_REQUEST, true, "{\"error\":\"Bad Request\"}\n")
        );
    }

    #[test]
    fn a_missing_route_is_told_in_the_originals_spelling() {
        assert_eq!(body(&Answer::from(NoMatch::Path)), "{\"error\":\"Not found\"}\n");
    }
}
