//! Headers in which a service receives claims of the principal, as its route configures them.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::header::{X_AUTH_IDENTITY, has_prefix, is_reserved};
use crate::syntax::is_same_field;

/// Whether a route may set `name`. Only names that no standard defines, so that removing them from all requests of
/// clients affects nothing else, and none that the gateway sets itself or that states the client's address.
pub fn can_carry_claim(name: &HeaderName) -> bool {
    let name_bytes = name.as_str().as_bytes();
    let begins = |start: &str| has_prefix(name_bytes, start);
    let is = |other: &str| name_bytes.len() == other.len() && begins(other);
    let is_of_identity = begins("x-auth-") || is("remote-user") || is("x-remote-user");
    (begins("x-") || begins("remote-")) && (is_of_identity || !is_reserved(name)) && !is("x-auth-identity")
}

/// Removes `names` in every spelling from what a client sent.
pub fn remove_spellings(headers: &mut HeaderMap, names: &[HeaderName]) {
    if names.is_empty() {
        return;
    }
    let is_one = |name: &&HeaderName| names.iter().any(|own| is_same_field(own, name));
    let found: Vec<_> = headers.keys().filter(is_one).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// The identity as in `X-Auth-Identity` of `headers`, which are forwarded.
pub fn identity_in(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(X_AUTH_IDENTITY).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        text.parse().unwrap()
    }

    #[test]
    fn only_names_that_nothing_else_uses_can_carry_a_claim() {
        for text in ["X-Auth-Roles", "X_Auth_Roles", "X-WEBAUTH-USER", "Remote-User", "Remote-Groups", "X-Remote-User"]
        {
            assert!(can_carry_claim(&name(text)), "{text}");
        }
        for text in [
            "Host",
            "Content-Length",
            "Content-Type",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "TE",
            "Trailer",
            "Upgrade",
            "Expect",
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "Forwarded",
            "X-Forwarded-For",
            "X_Forwarded-Prefix",
            "X-Forwarded-Roles",
            "X-Request-Id",
            "X_Request_Id",
            "X-Auth-Identity",
            "X-Auth_Identity",
            "X-Real-IP",
            "X-Client-IP",
            "X-Original-URL",
            "X-HTTP-Method-Override",
            "Accept-Encoding",
            "If-Match",
            "Range",
            "Roles",
        ] {
            assert!(!can_carry_claim(&name(text)), "{text}");
        }
    }

    #[test]
    fn every_spelling_is_removed_and_nothing_else() {
        let all = ["x-roles", "x_roles", "x-roles-more", "xroles", "x-role", "remote_groups", "accept"];
        let mut headers: HeaderMap =
            all.iter().chain(&all).map(|text| (name(text), HeaderValue::from_static("a"))).collect();
        let remaining = |headers: &HeaderMap| headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        remove_spellings(&mut headers, &[]);
        assert_eq!(headers.len(), 2 * all.len());
        remove_spellings(&mut headers, &[name("X-Roles"), name("Remote-Groups")]);
        let mut left = remaining(&headers);
        left.sort();
        assert_eq!(left, ["accept", "x-role", "x-roles-more", "xroles"]);
    }
}
