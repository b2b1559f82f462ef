//! Hashes of bcrypt, and the forms of Django and passlib that hash the password before bcrypt does.
//!
//! | form | input of bcrypt |
//! |---|---|
//! | `$2b$COST$…`, also `$2a$` and `$2y$`, also prefixed with Django's `bcrypt$` | the password |
//! | the same, prefixed with Django's `bcrypt_sha256$` | its SHA-256 in hexadecimal digits |
//! | passlib's `$bcrypt-sha256$v=2,t=2b,r=COST$SALT$DIGEST` | its HMAC-SHA-256 under the salt's text, in Base64 |
//! | passlib's `$bcrypt-sha256$2b,COST$SALT$DIGEST`, the first version | its SHA-256 in Base64 |

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Password;
use super::limits::{BCRYPT_COST_LIMIT, Unverifiable};
use crate::hex;

/// bcrypt uses at most this many bytes of a password.
const BCRYPT_LENGTH: usize = 72;

/// The length of a salt, in characters.
const SALT: usize = 22;

/// A bcrypt hash within [`BCRYPT_COST_LIMIT`].
pub(super) struct StoredBcrypt {
    /// The hash in the form of bcrypt itself.
    text: String,
    input: Input,
    cost: u32,
}

/// The input of bcrypt.
enum Input {
    Password,
    HexSha256,
    Base64Sha256,
    /// The key is the text of the salt.
    Base64Hmac(String),
}

impl StoredBcrypt {
    /// Parses a stored value with a prefix of bcrypt.
    pub(super) fn read(stored: &str) -> Result<Self, Unverifiable> {
        let (text, input) = if let Some(rest) = stored.strip_prefix("$bcrypt-sha256$") {
            parse_passlib(rest).ok_or(Unverifiable::Damaged)?
        } else if let Some(text) = stored.strip_prefix("bcrypt_sha256$") {
            (text.to_owned(), Input::HexSha256)
        } else {
            (stored.strip_prefix("bcrypt$").unwrap_or(stored).to_owned(), Input::Password)
        };
        // $2x$ marks hashes of a faulty implementation, which are not comparable.
        if text.starts_with("$2x") {
            return Err(Unverifiable::Unsupported);
        }
        let parts: bcrypt::HashParts = text.parse().map_err(|_| Unverifiable::Damaged)?;
        match parts.get_cost() {
            cost @ 4..=BCRYPT_COST_LIMIT => Ok(Self { text, input, cost }),
            0..4 => Err(Unverifiable::Damaged),
            _ => Err(Unverifiable::Costly),
        }
    }

    /// The base-2 logarithm of the number of rounds.
    pub(super) fn cost(&self) -> u32 {
        self.cost
    }

    /// Whether the hash depends on every byte of `password`.
    pub(super) fn covers(&self, password: &Password) -> bool {
        !matches!(self.input, Input::Password) || password.as_bytes().len() <= BCRYPT_LENGTH
    }

    /// Whether `password` has the stored hash. Blocks while hashing.
    pub(super) fn matches(&self, password: &Password) -> bool {
        let password = password.as_bytes();
        let input = match &self.input {
            Input::Password => {
                // bcrypt repeats the password with a NUL in between, so "a" and "a\0a" have the same hash. The
                // libraries that made these hashes reject NUL.
                return bcrypt::verify(password, &self.text).unwrap_or(false) && !password.contains(&0);
            }
            Input::HexSha256 => hex::encode(digest(&SHA256, password).as_ref()),
            Input::Base64Sha256 => STANDARD.encode(digest(&SHA256, password)),
            Input::Base64Hmac(salt) => {
                STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes()), password))
            }
        };
        bcrypt::verify(input, &self.text).unwrap_or(false)
    }
}

/// Converts the text after the name of passlib's scheme to the form of bcrypt itself.
fn parse_passlib(rest: &str) -> Option<(String, Input)> {
    let mut parts = rest.split('$');
    let (costs, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || salt.len() != SALT {
        return None;
    }
    let (version, cost, input) = match costs.strip_prefix("v=2,t=") {
        Some(costs) => {
            let (version, cost) = costs.split_once(",r=")?;
            (version, cost, Input::Base64Hmac(salt.to_owned()))
        }
        None => {
            let (version, cost) = costs.split_once(',')?;
            (version, cost, Input::Base64Sha256)
        }
    };
    let cost: u8 = cost.bytes().all(|byte| byte.is_ascii_digit()).then(|| cost.parse().ok()).flatten()?;
    Some((format!("${version}${cost:02}${salt}{digest}"), input))
}
