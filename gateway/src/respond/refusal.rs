//! The response to each refusal.

use http::StatusCode;
use http::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE};

use super::{ErrorBody, LocalResponse, whole_seconds};
use crate::route::NoMatch;
use crate::ticket::TicketError;
use crate::token::{Claim, TokenError};
use crate::upgrade::{HandshakeError, OffersError};
use crate::{authenticate, framing, login};

impl From<framing::HeadError> for LocalResponse {
    fn from(refusal: framing::HeadError) -> Self {
        let status = match refusal {
            framing::HeadError::Malformed(_) => StatusCode::BAD_REQUEST,
            framing::HeadError::TargetTooLong => StatusCode::URI_TOO_LONG,
            framing::HeadError::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        };
        Self { close: true, ..Self::plain(status) }
    }
}

impl From<NoMatch> for LocalResponse {
    fn from(no_match: NoMatch) -> Self {
        match no_match {
            // The spelling of the original service.
            NoMatch::Path => Self::new(StatusCode::NOT_FOUND, &ErrorBody { error: "Not found" }),
            NoMatch::Method { allow } => {
                let allow = HeaderValue::from_str(&allow).unwrap_or(HeaderValue::from_static(""));
                Self::plain(StatusCode::METHOD_NOT_ALLOWED).with(ALLOW, allow)
            }
        }
    }
}

impl From<authenticate::AuthenticationError> for LocalResponse {
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
        // RFC 6750, section 3.1: only if a token was sent and refused.
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

/// The exact texts of the original service, where it has the check.
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
        TokenError::InvalidScopes(claim) => format!("Scope claim ({claim}) is not valid."),
    }
}

impl From<TicketError> for LocalResponse {
    fn from(refusal: TicketError) -> Self {
        match refusal {
            TicketError::Repeated => Self::bad_request("The request must have one ticket and no Authorization"),
            TicketError::Full => Self::upstream(StatusCode::SERVICE_UNAVAILABLE),
            // The same for all, so that the response does not reveal which tickets exist.
            _ => Self::described(StatusCode::UNAUTHORIZED, "Invalid ticket", "The ticket is not valid")
                .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"JWT realm="Login Required""#))
                .with(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static(r#"Bearer realm="Login Required", error="invalid_token""#),
                ),
        }
    }
}

impl From<&login::LoginError> for LocalResponse {
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
            // A 401 with the text "Bad Request", as in the original service.
            LoginError::Credentials => Self::described(StatusCode::UNAUTHORIZED, "Bad Request", "Invalid credentials")
                .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"JWT realm="Login Required""#))
                .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="Login Required""#)),
            // The same for both limits, so that the response does not reveal which one applies.
            LoginError::Throttled { wait, .. } => {
                Self::described(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", "Too many failed logins")
                    .with(RETRY_AFTER, HeaderValue::from(whole_seconds(*wait)))
            }
            LoginError::Unavailable(_) | LoginError::Busy => Self::upstream(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

impl From<HandshakeError> for LocalResponse {
    fn from(refusal: HandshakeError) -> Self {
        let text = refusal.to_string();
        if refusal != HandshakeError::Version {
            return Self::described(StatusCode::BAD_REQUEST, "Bad Request", &text);
        }
        // RFC 6455, section 4.2.2, and RFC 9110, section 15.5.22.
        Self::described(StatusCode::UPGRADE_REQUIRED, "Upgrade Required", &text)
            .with(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
            .with(UPGRADE, HeaderValue::from_static("websocket"))
            .with(CONNECTION, HeaderValue::from_static("upgrade"))
    }
}

impl From<OffersError> for LocalResponse {
    fn from(refusal: OffersError) -> Self {
        Self::described(StatusCode::BAD_REQUEST, "Bad Request", &refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(response: &LocalResponse) -> &str {
        std::str::from_utf8(&response.body).unwrap()
    }

    #[test]
    fn token_errors_have_the_texts_of_the_original() {
        let response =
            LocalResponse::from(authenticate::AuthenticationError::Token(TokenError::Missing(Claim::ExpirationTime)));
        let expected = "{\"status_code\":401,\"error\":\"Invalid token\",\"description\":\"Token is missing the \\\"exp\\\" claim\"}\n";
        assert_eq!(body(&response), expected);
        let response = LocalResponse::from(authenticate::AuthenticationError::Token(TokenError::NoIdentity));
        assert_eq!(
            body(&response),
            "{\"status_code\":401,\"error\":\"Invalid JWT\",\"description\":\"User does not exist\"}\n"
        );
    }

    #[test]
    fn errors_that_only_the_log_distinguishes_have_the_same_response() {
        use authenticate::AuthenticationError;
        for (one, other) in [
            (AuthenticationError::Token(TokenError::UnknownKid), AuthenticationError::Token(TokenError::Algorithm)),
            (
                AuthenticationError::StaticTokenScheme(TokenError::NotEnoughSegments),
                AuthenticationError::Token(TokenError::NotEnoughSegments),
            ),
        ] {
            assert_ne!(one.label(), other.label());
            let (one, other) = (LocalResponse::from(one), LocalResponse::from(other));
            assert_eq!((one.status, body(&one), &one.headers), (other.status, body(&other), &other.headers));
        }
    }

    #[test]
    fn every_401_offers_both_schemes() {
        let absent = LocalResponse::from(authenticate::AuthenticationError::Absent);
        let refused = LocalResponse::from(authenticate::AuthenticationError::Token(TokenError::Expired));
        let offers = |response: &LocalResponse| -> Vec<String> {
            let offers = response.headers.iter().filter(|(name, _)| name == WWW_AUTHENTICATE);
            offers.map(|(_, value)| value.to_str().unwrap().to_owned()).collect()
        };
        let jwt = r#"JWT realm="Login Required""#;
        assert_eq!(offers(&absent), [jwt, r#"Bearer realm="Login Required""#]);
        assert_eq!(offers(&refused), [jwt, r#"Bearer realm="Login Required", error="invalid_token""#]);
    }

    #[test]
    fn malformed_requests_close_the_connection() {
        let response = LocalResponse::from(framing::HeadError::Malformed("x"));
        assert_eq!(
            (response.status, response.close, body(&response)),
            (StatusCode::BAD_REQUEST, true, "{\"error\":\"Bad Request\"}\n")
        );
    }

    #[test]
    fn an_unknown_route_has_the_text_of_the_original() {
        assert_eq!(body(&LocalResponse::from(NoMatch::Path)), "{\"error\":\"Not found\"}\n");
    }
}
