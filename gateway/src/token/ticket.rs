//! Tickets: signed, short-lived stand-ins for a token in one URL, for clients that cannot set header fields.
//!
//! A ticket has the form of a JSON Web Token, so that filters of credentials recognise it, but is signed with a key
//! that is derived for tickets alone, has its own type, and no `identity`. No token is a ticket and no ticket is a
//! token, also for other services that have the secret.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Value;

use super::json::{self, Object};
use super::keys::{Keys, NotIssued, Segments, is_acceptable};
use super::mark::{MAX_CLOCK_SKEW, mark_of};
use super::{Digest, Presented, STATIC_PREFIX, StaticToken, Verified};
use crate::scope::Scopes;

/// The `typ` of the header.
const TYPE: &str = "ticket+jwt";

/// The `aud` of the claims.
const AUDIENCE: &str = "ticket";

/// How long a ticket is valid, in milliseconds.
pub const TICKET_LIFETIME: i64 = 30_000;

/// How far ahead the clock of the gateway that issued a ticket may be, in milliseconds.
pub const TICKET_SKEW: i64 = MAX_CLOCK_SKEW as i64 * 1000;

/// A verified ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Unique.
    pub id: u128,
    /// When it was issued, in milliseconds since 1970.
    pub issued_at: i64,
    /// What it is for: [`ticket_target`].
    pub target: Digest,
    /// The credential that it stands for.
    pub parent: Parent,
}

/// The credential that a ticket stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// A JSON Web Token.
    Token(Arc<Verified>),
    /// A static token.
    Static {
        /// [`StaticToken::identity`].
        identity: Arc<str>,
        /// [`StaticToken::sha256`].
        sha256: Digest,
    },
}

impl From<&StaticToken> for Parent {
    fn from(token: &StaticToken) -> Self {
        Self::Static { identity: Arc::clone(token.identity()), sha256: token.sha256() }
    }
}

/// Why a ticket is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTicket {
    /// It was not issued by a gateway with this secret, or is malformed.
    #[error("not a ticket")]
    Forged,
    /// It or its token has expired, or it is from the future.
    #[error("expired")]
    Expired,
}

/// What a ticket for the canonical `path` of `host` is for.
pub fn ticket_target(host: &str, path: &str) -> Digest {
    // No host contains a slash, and every path begins with one.
    Digest::of(format!("{host}{path}").as_bytes())
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    id: String,
    issued: i64,
    target: String,
    sub: &'a str,
    token: &'a str,
    exp: i64,
    iat: i64,
    nbf: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
}

impl Keys {
    /// Signs `ticket` with the key that signs tokens.
    ///
    /// # Errors
    /// [`NotIssued`].
    pub fn issue_ticket(&self, ticket: &Ticket) -> Result<String, NotIssued> {
        let sha256;
        let (sub, token, exp, iat, nbf, scope) = match &ticket.parent {
            Parent::Token(token) => {
                let Verified { identity, id, expires_at, issued_at, not_before, scopes, .. } = &**token;
                (identity, &**id, *expires_at, *issued_at, *not_before, scopes.as_str())
            }
            Parent::Static { identity, sha256: digest } => {
                sha256 = digest.to_string();
                (identity, sha256.as_str(), 0, 0, 0, "")
            }
        };
        let (id, target) = (format!("{:032x}", ticket.id), ticket.target.to_string());
        let claims = Claims { aud: AUDIENCE, id, issued: ticket.issued_at, target, sub, token, exp, iat, nbf, scope };
        let key = self.signing(ticket.issued_at / 1000).ok_or(NotIssued::NoKey)?;
        key.sign_ticket(TYPE, &claims).ok_or(NotIssued::Cryptography)
    }

    /// Verifies `ticket` at `now`, in milliseconds since 1970. Its caller checks what it is for, and its parent.
    ///
    /// # Errors
    /// [`InvalidTicket`].
    pub fn verify_ticket(&self, ticket: &Presented<'_>, now: i64) -> Result<Ticket, InvalidTicket> {
        let claims = self.ticket_claims(ticket, now / 1000).ok_or(InvalidTicket::Forged)?;
        let ticket = parse(&claims).ok_or(InvalidTicket::Forged)?;
        let is_recent = (-TICKET_SKEW..TICKET_LIFETIME).contains(&(now - ticket.issued_at));
        let is_in_time = match &ticket.parent {
            Parent::Token(token) => token.is_in_time(now / 1000),
            Parent::Static { .. } => true,
        };
        if is_recent && is_in_time { Ok(ticket) } else { Err(InvalidTicket::Expired) }
    }

    fn ticket_claims(&self, ticket: &Presented<'_>, now: i64) -> Option<Object> {
        let Segments { signed, header, payload, signature } = Segments::of(ticket.bytes).ok()?;
        let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).ok();
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header = json::object(&header).ok()?;
        if !is_acceptable(&header) || header.get("typ").and_then(Value::as_str) != Some(TYPE) {
            return None;
        }
        self.signer_by(&header, now, |key| key.verify_ticket(signed, &signature)).ok()?;
        json::object(&payload).ok()
    }
}

fn parse(claims: &Object) -> Option<Ticket> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let number = |name: &str| claims.get(name).and_then(Value::as_i64);
    if text("aud") != Some(AUDIENCE) {
        return None;
    }
    let (identity, token): (Arc<str>, _) =
        (text("sub").filter(|identity| !identity.is_empty())?.into(), text("token")?);
    let parent = if identity.starts_with(STATIC_PREFIX) {
        Parent::Static { identity, sha256: token.parse().ok()? }
    } else {
        Parent::Token(Arc::new(Verified {
            identity,
            issued_at: number("iat")?,
            not_before: number("nbf")?,
            expires_at: number("exp")?,
            id: token.into(),
            password_mark: token.strip_prefix("jti:").and_then(mark_of).map(Box::from),
            scopes: Scopes::parse(text("scope").unwrap_or_default()).ok()?,
        }))
    };
    Some(Ticket {
        id: u128::from_str_radix(text("id")?, 16).ok()?,
        issued_at: number("issued")?,
        target: text("target")?.parse().ok()?,
        parent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Key, Settings, TokenError, marked_jti};

    const NOW: i64 = 1_700_000_000;

    fn keys(kid: &str, secret: u8) -> Keys {
        let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
        Keys::new(vec![Key::named(kid, &[secret; 32]).unwrap()], settings).unwrap()
    }

    fn token(keys: &Keys) -> (String, Arc<Verified>) {
        let jti = marked_jti(&"0".repeat(32), "00ff00ff00ff00ff");
        let token = keys.issue_scoped("user01", &jti, &Scopes::parse("editor viewer").unwrap(), NOW).unwrap();
        let verified = keys.verify(&Presented::new(token.as_bytes()).unwrap(), NOW).unwrap();
        (token, verified)
    }

    fn ticket(parent: Parent) -> Ticket {
        Ticket { id: 7, issued_at: NOW * 1000, target: ticket_target("a.example", "/events"), parent }
    }

    fn verify(keys: &Keys, ticket: &str, now: i64) -> Result<Ticket, InvalidTicket> {
        keys.verify_ticket(&Presented::new(ticket.as_bytes()).unwrap(), now)
    }

    #[test]
    fn a_ticket_has_everything_of_its_token_that_a_request_is_checked_by() {
        let keys = keys("a", 1);
        let issued = ticket(Parent::Token(token(&keys).1));
        let text = keys.issue_ticket(&issued).unwrap();
        assert_eq!(verify(&keys, &text, NOW * 1000), Ok(issued.clone()));
        let Parent::Token(parent) = issued.parent else { panic!("not a token") };
        assert_eq!(parent.password_mark.as_deref(), Some("00ff00ff00ff00ff"));
        assert!(text.len() < 700, "{} characters", text.len());
        let of_machine = ticket(Parent::Static { identity: "static:m".into(), sha256: Digest::of(b"secret") });
        assert_eq!(verify(&keys, &keys.issue_ticket(&of_machine).unwrap(), NOW * 1000), Ok(of_machine));
    }

    #[test]
    fn a_ticket_is_no_token_and_a_token_is_no_ticket() {
        let keys = keys("a", 1);
        let (token, verified) = token(&keys);
        assert_eq!(verify(&keys, &token, NOW * 1000), Err(InvalidTicket::Forged));
        let text = keys.issue_ticket(&ticket(Parent::Token(verified))).unwrap();
        let as_token = keys.verify(&Presented::new(text.as_bytes()).unwrap(), NOW);
        assert_eq!(as_token, Err(TokenError::Signature));
    }

    #[test]
    fn it_is_valid_for_thirty_seconds_and_not_longer_than_its_token() {
        let keys = keys("a", 1);
        let verified = token(&keys).1;
        let text = keys.issue_ticket(&ticket(Parent::Token(Arc::clone(&verified)))).unwrap();
        for (after, is_valid) in
            [(-TICKET_SKEW, true), (-TICKET_SKEW - 1, false), (TICKET_LIFETIME - 1, true), (TICKET_LIFETIME, false)]
        {
            assert_eq!(verify(&keys, &text, NOW * 1000 + after).is_ok(), is_valid, "{after}");
        }
        let late = Ticket { issued_at: (NOW + 290) * 1000, ..ticket(Parent::Token(verified)) };
        let text = keys.issue_ticket(&late).unwrap();
        assert!(verify(&keys, &text, (NOW + 299) * 1000).is_ok());
        assert_eq!(verify(&keys, &text, (NOW + 300) * 1000), Err(InvalidTicket::Expired));
    }

    #[test]
    fn other_keys_and_any_change_are_refused() {
        let issuer = keys("a", 1);
        let text = issuer.issue_ticket(&ticket(Parent::Token(token(&issuer).1))).unwrap();
        for other in [keys("a", 2), keys("b", 1)] {
            assert_eq!(verify(&other, &text, NOW * 1000), Err(InvalidTicket::Forged));
        }
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(verify(&issuer, &changed, NOW * 1000), Err(InvalidTicket::Forged), "{index}");
        }
    }

    #[test]
    fn the_target_depends_on_host_and_path() {
        let targets =
            [("a", "/b"), ("a", "/c"), ("b", "/b"), ("a", "/b/")].map(|(host, path)| ticket_target(host, path));
        for (index, target) in targets.iter().enumerate() {
            assert_eq!(targets.iter().filter(|other| *other == target).count(), 1, "{index}");
        }
    }
}
