//! The principal of a request that passed the token's checks, and what its service receives of it.

use std::time::Instant;

use http::{HeaderMap, HeaderValue};

use crate::authenticate::Principal;
use crate::revocation::Roles;
use crate::route::{HeaderClaim, Route};
use crate::scope::Scopes;
use crate::upstream;

/// A principal whose token is not revoked.
pub(super) struct Authorised {
    pub(super) principal: Principal,
    /// The roles that replace those of the token.
    pub(super) roles: Roles,
    /// When its request began.
    pub(super) since: Instant,
}

impl Authorised {
    pub(super) fn identity(&self) -> &str {
        self.principal.identity()
    }

    /// What it may do: the current roles of the user, or what the credential says if they are unknown.
    pub(super) fn scopes(&self) -> &Scopes {
        self.roles.scopes().unwrap_or_else(|| self.principal.scopes())
    }

    /// Adds the claims that `route` forwards to `headers`, which have `X-Auth-Identity`. Without a value there is no
    /// header, and a client cannot send it either.
    pub(super) fn add_claims(&self, headers: &mut HeaderMap, route: &Route) {
        for (name, claim) in &route.headers_from_claims {
            let value = match claim {
                // Scopes are printable ASCII characters.
                HeaderClaim::Scope => HeaderValue::from_str(self.scopes().as_str()).ok(),
                HeaderClaim::Identity => upstream::identity_in(headers),
            };
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                headers.insert(name, value);
            }
        }
    }
}
