//! Parses stored passwords and compares them.

use argon2::password_hash::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, MIN_SALT_LEN, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::Password;
use super::cost::{Argon2Cost, HashCost};
use super::foreign::ForeignHash;
use super::limits::{CostLimits, Unverifiable};
use super::stored_bcrypt::StoredBcrypt;
use crate::model::PasswordForm;

/// A parsed stored value.
pub(super) enum Stored<'a> {
    Argon2(Box<StoredArgon2<'a>>),
    Bcrypt(StoredBcrypt),
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
            Self::Bcrypt(hash) => Some(HashCost::Bcrypt(hash.cost())),
            Self::ForeignHash(hash) => Some(hash.cost()),
            Self::Plain(_) => None,
        }
    }

    pub(super) fn matches(&self, password: &Password) -> bool {
        match self {
            Self::Argon2(hash) => hash.matches(password),
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
    expected: Output,
    salt: Vec<u8>,
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
        // Before the parameters are parsed: with more lanes than memory, that panics.
        let lanes = hash.params.iter().filter(|(name, _)| name.as_str() == "p").map(|(_, lanes)| lanes.decimal());
        if lanes.flatten().any(|lanes| lanes > CostLimits::PARALLELISM) {
            return Err(Unverifiable::Costly);
        }
        let params = Params::try_from(&hash).map_err(|_| Unverifiable::Damaged)?;
        let (Some(expected), Some(salt)) = (hash.hash, hash.salt) else { return Err(Unverifiable::Damaged) };
        // Checked here: a check that fails before its work would be the fastest of all failed checks.
        let mut buffer = [0_u8; 64];
        let salt = salt.decode_b64(&mut buffer).map_err(|_| Unverifiable::Damaged)?.to_vec();
        if salt.len() < MIN_SALT_LEN {
            return Err(Unverifiable::Damaged);
        }
        let bounded = params.m_cost() <= CostLimits::MEMORY_KIB
            && params.t_cost() <= CostLimits::ITERATIONS
            && params.p_cost() <= CostLimits::PARALLELISM;
        let read = Self { text, django: django.is_some(), expected, salt, algorithm, version, params };
        bounded.then_some(read).ok_or(Unverifiable::Costly)
    }

    pub(super) fn is_current_variant(&self) -> bool {
        self.algorithm == Algorithm::Argon2id && self.version == Version::V0x13
    }

    fn matches(&self, password: &Password) -> bool {
        let mut output = vec![0_u8; self.expected.len()];
        let argon2 = Argon2::new(self.algorithm, self.version, self.params.clone());
        let computed = argon2.hash_password_into(password.as_bytes(), &self.salt, &mut output);
        computed.is_ok() && verify_slices_are_equal(&output, self.expected.as_bytes()).is_ok()
    }
}
