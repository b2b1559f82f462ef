//! What a stored value means, and what a check of it costs.
//!
//! A check that fails costs the same for every name: see [`super::effort`].

use argon2::password_hash::{PasswordHash, PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::effort::{Argon2Cost, Effort, Efforts};
use super::foreign::Foreign;
use super::{Password, Settings};
use crate::hex;
use crate::model::PasswordForm;

/// The most that a stored hash may cost: anyone who can write to the database must not be
/// able to take this process's memory or processors.
#[derive(Clone, Copy, Debug)]
pub struct CostLimits;

impl CostLimits {
    /// Memory of argon2 or scrypt, in KiB: 256 MiB.
    pub const MEMORY_KIB: u32 = 256 * 1024;
    /// Passes of argon2.
    pub const ITERATIONS: u32 = 16;
    /// Lanes of argon2.
    pub const PARALLELISM: u32 = 16;
    /// Rounds of PBKDF2 (some 4 s); Django and Werkzeug use about 1,000,000.
    pub const PBKDF2_ROUNDS: u32 = 10_000_000;
    /// `N * r * p` of scrypt (some 4 s); Werkzeug uses 262,144.
    pub const SCRYPT_BLOCKS: u64 = 1 << 23;
}

/// The highest cost of a stored bcrypt hash that is checked (some 4 s); the usual one is 12.
pub const BCRYPT_COST_LIMIT: u32 = 16;

/// bcrypt reads no further than this many bytes of a password.
const BCRYPT_LENGTH: usize = 72;

/// What a check found.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The password is not the stored one.
    Differs,
    /// The stored value is a hash that cannot be checked: no password matches it.
    Unverifiable(Unverifiable),
    /// It is. Where the stored form is to be replaced, the argon2id hash to replace it by.
    Matches {
        /// The new stored value, as a PHC string.
        upgrade: Option<String>,
    },
}

/// Why a stored hash cannot be checked. Its text is fit for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverifiable {
    /// [`PasswordForm::Unsupported`].
    #[error("its form is not supported")]
    Unsupported,
    /// It begins like a supported form and cannot be read.
    #[error("it is damaged")]
    Damaged,
    /// It costs more than [`CostLimits`] or [`BCRYPT_COST_LIMIT`].
    #[error("it costs too much")]
    Costly,
}

/// The pure part of the hasher: parameters, and the costs that it has met.
#[derive(Debug)]
pub(super) struct Checker {
    argon2: Argon2<'static>,
    upgrade: bool,
    efforts: Efforts,
}

/// A stored value that has been read.
enum Stored<'a> {
    Argon2(Box<StoredArgon2<'a>>),
    Bcrypt(StoredBcrypt<'a>),
    Foreign(Foreign),
    Plain(&'a str),
}

impl Checker {
    /// Builds it, or tells what argon2 does not take.
    pub(super) fn new(settings: &Settings) -> Result<Self, argon2::Error> {
        let params = Params::new(settings.memory_kib, settings.iterations, settings.parallelism, None)?;
        let efforts = Efforts::new(Argon2Cost::of(&params));
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Ok(Self { argon2, upgrade: settings.upgrade, efforts })
    }

    /// A new stored value. Blocks for as long as the hash takes.
    pub(super) fn hash(&self, password: &Password) -> Result<String, argon2::password_hash::Error> {
        let mut random = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| argon2::password_hash::Error::Crypto)?;
        let salt = SaltString::encode_b64(&random)?;
        Ok(self.argon2.hash_password(password.as_bytes(), &salt)?.to_string())
    }

    /// Checks `password` against `stored`; `None` is no user, or a disabled one, and
    /// never matches. Blocks for as long as the hashes take.
    pub(super) fn verify(&self, password: &Password, stored: Option<&str>) -> Outcome {
        let (outcome, effort) = match stored.map(Stored::read) {
            None => (Outcome::Differs, None),
            Some(Err(why)) => (Outcome::Unverifiable(why), None),
            Some(Ok(stored)) => {
                let effort = stored.effort();
                // Before the work: a refusal of another name at the same time is to take as long.
                effort.into_iter().for_each(|effort| self.efforts.meet(effort));
                if stored.matches(password) {
                    let upgrade = self.upgrade.then(|| self.upgraded(&stored, password)).flatten();
                    return Outcome::Matches { upgrade };
                }
                (Outcome::Differs, effort)
            }
        };
        self.efforts.make_up(effort, password);
        outcome
    }

    /// The value that replaces one which matched `password`, if one should.
    fn upgraded(&self, stored: &Stored<'_>, password: &Password) -> Option<String> {
        let outdated = match stored {
            Stored::Plain(_) => true,
            // A longer one may be mistyped past the bytes that the hash covers, and hashing that
            // would lock the right one out.
            Stored::Bcrypt(hash) => hash.prehashed || password.as_bytes().len() <= BCRYPT_LENGTH,
            // HMAC pads its key with NUL: the same is true of a password with one at its end.
            Stored::Foreign(_) => !password.as_bytes().ends_with(&[0]),
            Stored::Argon2(hash) if hash.is_current_variant() => {
                let current = self.argon2.params();
                let (stored, current) =
                    ((hash.params.m_cost(), hash.params.t_cost()), (current.m_cost(), current.t_cost()));
                let weaker = stored.0 <= current.0 && stored.1 <= current.1 && stored != current;
                if !weaker {
                    // Django's spelling of a hash that is no weaker than a new one would be.
                    return hash.django.then(|| hash.text.to_owned());
                }
                true
            }
            Stored::Argon2(_) => true,
        };
        // Without a new hash the login is as good; the next one tries again.
        outdated.then(|| self.hash(password).ok()).flatten()
    }
}

impl<'a> Stored<'a> {
    fn read(stored: &'a str) -> Result<Self, Unverifiable> {
        match PasswordForm::of(stored) {
            PasswordForm::Argon2id => StoredArgon2::read(stored).map(|hash| Self::Argon2(Box::new(hash))),
            PasswordForm::Bcrypt => StoredBcrypt::read(stored).map(Self::Bcrypt),
            PasswordForm::Pbkdf2 => Foreign::pbkdf2(stored).map(Self::Foreign),
            PasswordForm::Scrypt => Foreign::scrypt(stored).map(Self::Foreign),
            PasswordForm::Unsupported => Err(Unverifiable::Unsupported),
            PasswordForm::Plain => Ok(Self::Plain(stored)),
        }
    }

    fn effort(&self) -> Option<Effort> {
        match self {
            Self::Argon2(hash) => Some(Effort::Argon2(Argon2Cost::of(&hash.params))),
            Self::Bcrypt(hash) => Some(Effort::Bcrypt(hash.cost)),
            Self::Foreign(hash) => Some(hash.effort()),
            Self::Plain(_) => None,
        }
    }

    fn matches(&self, password: &Password) -> bool {
        match self {
            Self::Argon2(hash) => hash.matches(password).unwrap_or(false),
            Self::Bcrypt(hash) => hash.matches(password),
            Self::Foreign(hash) => hash.matches(password),
            Self::Plain(stored) => is_same(password, stored),
        }
    }
}

/// Whether `password` is the plain text that is stored, in a time that does not depend on how
/// much of it is. No password matches a document with an empty one.
fn is_same(password: &Password, stored: &str) -> bool {
    let same = verify_slices_are_equal(password.as_bytes(), stored.as_bytes());
    same.is_ok() && !stored.is_empty()
}

/// A hash of argon2 whose cost is within [`CostLimits`].
struct StoredArgon2<'a> {
    /// The PHC string.
    text: &'a str,
    /// Whether Django's name of the hasher came before it.
    django: bool,
    hash: PasswordHash<'a>,
    algorithm: Algorithm,
    version: Version,
    params: Params,
}

impl<'a> StoredArgon2<'a> {
    fn read(stored: &'a str) -> Result<Self, Unverifiable> {
        let django = stored.strip_prefix("argon2").filter(|phc| phc.starts_with('$'));
        let text = django.unwrap_or(stored);
        let hash = PasswordHash::new(text).map_err(|_| Unverifiable::Damaged)?;
        let algorithm = Algorithm::try_from(hash.algorithm).map_err(|_| Unverifiable::Damaged)?;
        // The first version wrote no number of its own.
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

    fn is_current_variant(&self) -> bool {
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

/// A hash of bcrypt whose cost is within [`BCRYPT_COST_LIMIT`].
struct StoredBcrypt<'a> {
    text: &'a str,
    /// Whether it is of the password's SHA-256 in hexadecimal digits, as Django's
    /// `bcrypt_sha256` has it.
    prehashed: bool,
    cost: u32,
}

impl<'a> StoredBcrypt<'a> {
    fn read(stored: &'a str) -> Result<Self, Unverifiable> {
        let (text, prehashed) = match (stored.strip_prefix("bcrypt_sha256$"), stored.strip_prefix("bcrypt$")) {
            (Some(text), _) => (text, true),
            (None, Some(text)) => (text, false),
            (None, None) => (stored, false),
        };
        // $2x$ marks the hashes of a faulty implementation, which are not comparable.
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
        // bcrypt repeats the password with a NUL between: "a" and "a\0a" hash alike. The
        // libraries that made these hashes refuse a NUL.
        matches && !password.as_bytes().contains(&0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(upgrade: bool) -> Settings {
        Settings { memory_kib: 64, iterations: 2, parallelism: 1, concurrency: 1, queue: 0, upgrade }
    }

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).unwrap()
    }

    fn check(stored: &str, text: &str) -> Outcome {
        Checker::new(&settings(true)).unwrap().verify(&password(text), Some(stored))
    }

    const KEPT: Outcome = Outcome::Matches { upgrade: None };

    #[test]
    fn what_was_hashed_matches_and_is_kept() {
        let checker = Checker::new(&settings(true)).unwrap();
        let stored = checker.hash(&password("password01")).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{stored}");
        assert_eq!(checker.verify(&password("password01"), Some(&stored)), KEPT);
        assert_eq!(checker.verify(&password("password02"), Some(&stored)), Outcome::Differs);
        assert_ne!(stored, checker.hash(&password("password01")).unwrap(), "each has a salt of its own");
    }

    #[test]
    fn nobody_never_matches() {
        let checker = Checker::new(&settings(true)).unwrap();
        assert_eq!(checker.verify(&password(""), None), Outcome::Differs);
    }

    #[test]
    fn plain_text_matches_and_becomes_argon2id() {
        let Outcome::Matches { upgrade: Some(hash) } = check("password01", "password01") else { panic!("no upgrade") };
        assert_eq!(check(&hash, "password01"), KEPT);
        assert_eq!(check("password01", "password0"), Outcome::Differs);
        assert_eq!(check("", ""), Outcome::Differs);
    }

    #[test]
    fn bcrypt_matches_in_each_of_its_spellings_and_becomes_argon2id() {
        let parts = bcrypt::hash_with_salt("password01", 4, [7; 16]).unwrap();
        for version in [bcrypt::Version::TwoA, bcrypt::Version::TwoB, bcrypt::Version::TwoY] {
            let stored = parts.format_for_version(version);
            assert!(matches!(check(&stored, "password01"), Outcome::Matches { upgrade: Some(_) }), "{stored}");
            assert_eq!(check(&stored, "password02"), Outcome::Differs);
        }
        let faulty = parts.format_for_version(bcrypt::Version::TwoX);
        assert_eq!(check(&faulty, "password01"), Outcome::Unverifiable(Unverifiable::Unsupported));
    }

    #[test]
    fn bcrypt_reads_72_bytes_and_such_a_password_is_not_rehashed() {
        let long = "x".repeat(80);
        let stored = bcrypt::hash_with_salt(&long, 4, [7; 16]).unwrap().to_string();
        assert_eq!(check(&stored, &long), KEPT);
        assert_eq!(check(&stored, &"x".repeat(90)), KEPT);
        assert_eq!(check(&stored, &"x".repeat(71)), Outcome::Differs);
    }

    #[test]
    fn bcrypt_takes_no_nul() {
        let stored = bcrypt::hash_with_salt("a", 4, [7; 16]).unwrap().to_string();
        assert_eq!(check(&stored, "a\0a"), Outcome::Differs);
    }

    #[test]
    fn upgrades_can_be_off() {
        let checker = Checker::new(&settings(false)).unwrap();
        assert_eq!(checker.verify(&password("password01"), Some("password01")), KEPT);
    }

    #[test]
    fn a_weaker_argon2id_is_hashed_anew_and_a_stronger_one_kept() {
        let with = |memory_kib, iterations| {
            let checker = Checker::new(&Settings { memory_kib, iterations, ..settings(true) }).unwrap();
            check(&checker.hash(&password("p")).unwrap(), "p")
        };
        assert!(matches!(with(32, 2), Outcome::Matches { upgrade: Some(_) }));
        assert!(matches!(with(64, 1), Outcome::Matches { upgrade: Some(_) }));
        assert_eq!(with(128, 2), KEPT);
        assert_eq!(with(32, 3), KEPT, "less memory and more passes cannot be ranked");
    }

    #[test]
    fn a_damaged_or_costly_stored_value_matches_nothing_not_even_itself() {
        let key = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (stored, why) in [
            ("$argon2id$v=19$m=64".to_owned(), Unverifiable::Damaged),
            (format!("$argon2id$v=19$m=4194304,t=2,p=1${key}"), Unverifiable::Costly),
            (format!("$argon2id$v=19$m=64,t=4000000,p=1${key}"), Unverifiable::Costly),
            ("$argon2".to_owned(), Unverifiable::Damaged),
            ("$2b$".to_owned(), Unverifiable::Damaged),
            ("$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(), Unverifiable::Costly),
        ] {
            assert_eq!(check(&stored, &stored), Outcome::Unverifiable(why), "{stored}");
        }
        let unmatched = format!("$argon2i$v=19$m=64,t=2,p=1${key}");
        assert_eq!(check(&unmatched, &unmatched), Outcome::Differs);
    }
}
