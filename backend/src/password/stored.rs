//! Parses stored passwords and compares them.

use argon2::password_hash::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::Password;
use super::cost::{Argon2Cost, HashCost};
use super::foreign::ForeignHash;
use super::limits::{BCRYPT_COST_LIMIT, CostLimits, Unverifiable};
use crate::hex;
use crate::model::PasswordForm;

/// bcrypt uses at most this many bytes of a password.
pub(super) const BCRYPT_LENGTH: usize = 72;

/// A parsed stored value.
pub(super) enum Stored<'a> {
    Argon2(Box<StoredArgon2<'a>>),
    Bcrypt(StoredBcrypt<'a>),
    ForeignHash(ForeignHash),
    Plain(&'a str),
}

impl<'a> Stored<'a> {
    pub(super) fn read(stored: &'a str) -> Result<Self, Unverifiable> {
        match PasswordForm::of(stored) {
            PasswordForm::Argon2id => StoredArgon2::read(stored).map(|hash| Self::Argon2(Box::new(hash))),
            PasswordForm::Bcrypt => StoredBcrypt::read(stored).map(Self::Bcrypt),
            PasswordForm::Pbkdf2 => ForeignHash::pbkdf2(stored).map(Self::ForeignHash),
            PasswordForm::Scrypt => ForeignHash::scrypt(stored).map(Self::ForeignHash),
            PasswordForm::Unsupported => Err(Unverifiable::Unsupported),
            PasswordForm::Plain => Ok(Self::Plain(stored)),
        }
    }

    pub(super) fn cost(&self) -> Option<HashCost> {
        match self {
            Self::Argon2(hash) => Some(HashCost::Argon2(Argon2Cost::of(&hash.params))),
            Self::Bcrypt(hash) => Some(HashCost::Bcrypt(hash.cost)),
            Self::ForeignHash(hash) => Some(hash.cost()),
            Self::Plain(_) => None,
        }
    }

    pub(super) fn matches(&self, password: &Password) -> bool {
        match self {
            Self::Argon2(hash) => hash.matches(password).unwrap_or(false),
            Self::Bcrypt(hash) => hash.matches(password),
            Self::ForeignHash(hash) => hash.matches(password),
            Self::Plain(stored) => is_same(password, stored),
        }
    }
}

/// Compares with stored plain text in constant time. An empty stored value matches no password.
fn is_same(password: &Password, stored: &str) -> bool {
    let same = verify_slices_are_equal(password.as_bytes(), stored.as_bytes());
    same.is_ok() && !stored.is_empty()
}

/// An argon2 hash within [`CostLimits`].
pub(super) struct StoredArgon2<'a> {
    /// The PHC string.
    pub(super) text: &'a str,
    /// Whether it was prefixed with Django's name of the hasher.
    pub(super) django: bool,
    hash: PasswordHash<'a>,
    algorithm: Algorithm,
    version: Version,
    pub(super) params: Params,
}

impl<'a> StoredArgon2<'a> {
    fn read(stored: &'a str) -> Result<Self, Unverifiable> {
        let django = stored.strip_prefix("argon2").filter(|phc| phc.starts_with('$'));
        let text = django.unwrap_or(stored);
        let hash = PasswordHash::new(text).map_err(|_| Unverifiable::Damaged)?;
        let algorithm = Algorithm::try_from(hash.algorithm).map_err(|_| Unverifiable::Damaged)?;
        // The first version of argon2 wrote no version number.
        let version = hash.version.map_or(Ok(Version::V0x10), Version::try_from).map_err(|_| Unverifiable::Damaged)?;
        let params = Params::try_from(&hash).map_err(|_| Unverifiable::Damaged)?;
        if hash.hash.is_none() || hash.salt.is_none() {
            return Err(Unverifiable::Damaged);
        }
        let bounded = params.m_cost() <= CostLimits::MEMORY_KIB
            && params.t_cost() <= CostLimits::ITERATIONS
            && params.p_cost() <= CostLimits::PARALLELISM;
        let read = Self { text, django: django.is_some(), hash, algorithm, version, params };
        bounded.then_some(read).ok_or(Unverifiable::Costly)
    }

    pub(super) fn is_current_variant(&self) -> bool {
        self.algorithm == Algorithm::Argon2id && self.version == Version::V0x13
    }

    fn matches(&self, password: &Password) -> Option<bool> {
        let (expected, salt) = (self.hash.hash?, self.hash.salt?);
        let mut buffer = [0_u8; 64];
        let salt = salt.decode_b64(&mut buffer).ok()?;
        let mut output = vec![0_u8; expected.len()];
        let argon2 = Argon2::new(self.algorithm, self.version, self.params.clone());
        argon2.hash_password_into(password.as_bytes(), salt, &mut output).ok()?;
        Some(verify_slices_are_equal(&output, expected.as_bytes()).is_ok())
    }
}

/// A bcrypt hash within [`BCRYPT_COST_LIMIT`].
pub(super) struct StoredBcrypt<'a> {
    text: &'a str,
    /// Whether the password is first hashed to hexadecimal digits of SHA-256, as in Django's `bcrypt_sha256`.
    pub(super) prehashed: bool,
    cost: u32,
}

impl<'a> StoredBcrypt<'a> {
    fn read(stored: &'a str) -> Result<Self, Unverifiable> {
        let (text, prehashed) = match (stored.strip_prefix("bcrypt_sha256$"), stored.strip_prefix("bcrypt$")) {
            (Some(text), _) => (text, true),
            (None, Some(text)) => (text, false),
            (None, None) => (stored, false),
        };
        // $2x$ marks hashes of a faulty implementation, which are not comparable.
        if text.starts_with("$2x") {
            return Err(Unverifiable::Unsupported);
        }
        let parts: bcrypt::HashParts = text.parse().map_err(|_| Unverifiable::Damaged)?;
        match parts.get_cost() {
            cost @ 4..=BCRYPT_COST_LIMIT => Ok(Self { text, prehashed, cost }),
            0..4 => Err(Unverifiable::Damaged),
            _ => Err(Unverifiable::Costly),
        }
    }

    fn matches(&self, password: &Password) -> bool {
        if self.prehashed {
            let hashed = hex::encode(digest(&SHA256, password.as_bytes()).as_ref());
            return bcrypt::verify(hashed, self.text).unwrap_or(false);
        }
        let matches = bcrypt::verify(password.as_bytes(), self.text).unwrap_or(false);
        // bcrypt repeats the password with a NUL in between, so "a" and "a\0a" have the same hash. The libraries that
        // made these hashes reject NUL.
        matches && !password.as_bytes().contains(&0)
    }
}
