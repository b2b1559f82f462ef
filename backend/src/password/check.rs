//! What a stored value means, and what a check of it costs.
//!
//! A check that fails costs the same for every name: one argon2id hash with the
//! current parameters, and one bcrypt hash more once a stored bcrypt value has been
//! met. Otherwise the time of a refusal would tell which names exist.

use std::sync::atomic::{AtomicU32, Ordering};

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use super::{Password, Settings};
use crate::model::PasswordForm;

/// The most that a hash may cost, stored ones included: whoever can write to the
/// database must not be able to take this process's memory.
#[derive(Clone, Copy, Debug)]
pub struct CostLimits;

impl CostLimits {
    /// Memory, in KiB: 256 MiB.
    pub const MEMORY_KIB: u32 = 256 * 1024;
    /// Passes.
    pub const ITERATIONS: u32 = 16;
    /// Lanes.
    pub const PARALLELISM: u32 = 16;
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
    /// It is. Where the stored form is to be replaced, the argon2id hash to replace it by.
    Matches {
        /// The new stored value, as a PHC string.
        upgrade: Option<String>,
    },
}

/// The pure part of the hasher: parameters, and what it learnt about bcrypt.
#[derive(Debug)]
pub(super) struct Checker {
    argon2: Argon2<'static>,
    upgrade: bool,
    /// The highest bcrypt cost met so far, zero for none.
    bcrypt_cost: AtomicU32,
}

impl Checker {
    /// Builds it, or tells what argon2 does not take.
    pub(super) fn new(settings: &Settings) -> Result<Self, argon2::Error> {
        let params = Params::new(settings.memory_kib, settings.iterations, settings.parallelism, None)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Ok(Self { argon2, upgrade: settings.upgrade, bcrypt_cost: AtomicU32::new(0) })
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
        let (matches, argon2_done, bcrypt_done) = match stored {
            None => (false, false, false),
            Some(stored) => match PasswordForm::of(stored) {
                PasswordForm::Argon2id => match readable_argon2(stored) {
                    Some(hash) => (self.argon2.verify_password(password.as_bytes(), &hash).is_ok(), true, false),
                    None => (false, false, false),
                },
                PasswordForm::Bcrypt => match self.bcrypt(password, stored) {
                    Some(matches) => (matches, false, true),
                    None => (false, false, false),
                },
                PasswordForm::Plain => (is_same(password, stored), false, false),
            },
        };
        if !matches && !bcrypt_done {
            self.waste_bcrypt(password);
        }
        if !(argon2_done || (matches && bcrypt_done)) {
            self.waste_argon2(password);
        }
        if !matches {
            return Outcome::Differs;
        }
        let wanted = self.upgrade && stored.is_some_and(|stored| self.is_outdated(stored, password));
        // Without a new hash the login is as good; the next one tries again.
        Outcome::Matches { upgrade: wanted.then(|| self.hash(password).ok()).flatten() }
    }

    /// Whether a value that matched `password` should be replaced.
    fn is_outdated(&self, stored: &str, password: &Password) -> bool {
        match PasswordForm::of(stored) {
            PasswordForm::Plain => return true,
            // The hash knows 72 bytes of it only. A longer one may be mistyped past them,
            // and hashing that would lock the true one out.
            PasswordForm::Bcrypt => return password.as_bytes().len() <= BCRYPT_LENGTH,
            PasswordForm::Argon2id => {}
        }
        let current = self.argon2.params();
        let params = readable_argon2(stored).and_then(|hash| Params::try_from(&hash).ok());
        let Some(params) = params else { return false };
        let (stored, current) = ((params.m_cost(), params.t_cost()), (current.m_cost(), current.t_cost()));
        stored != current && stored.0 <= current.0 && stored.1 <= current.1
    }

    fn bcrypt(&self, password: &Password, stored: &str) -> Option<bool> {
        // $2x$ marks the hashes of a faulty implementation, which are not comparable.
        if stored.starts_with("$2x") {
            return None;
        }
        let parts: bcrypt::HashParts = stored.parse().ok()?;
        let cost = parts.get_cost();
        if !(4..=BCRYPT_COST_LIMIT).contains(&cost) {
            return None;
        }
        self.bcrypt_cost.fetch_max(cost, Ordering::Relaxed);
        let matches = bcrypt::verify(password.as_bytes(), stored).unwrap_or(false);
        // bcrypt repeats the password with a NUL between: "a" and "a\0a" hash alike. The
        // libraries that made these hashes refuse a NUL.
        Some(matches && !password.as_bytes().contains(&0))
    }

    fn waste_argon2(&self, password: &Password) {
        let mut output = [0_u8; Params::DEFAULT_OUTPUT_LEN];
        let done = self.argon2.hash_password_into(password.as_bytes(), &[0; 16], &mut output);
        std::hint::black_box((done, output)).0.ok();
    }

    fn waste_bcrypt(&self, password: &Password) {
        let cost = self.bcrypt_cost.load(Ordering::Relaxed);
        if cost > 0 {
            std::hint::black_box(bcrypt::hash_with_salt(password.as_bytes(), cost, [0; 16])).ok();
        }
    }
}

/// Whether `password` is the plain text that is stored, in a time that does not tell how
/// much of it is. A document with an empty one is no open door.
fn is_same(password: &Password, stored: &str) -> bool {
    let same = aws_lc_rs::constant_time::verify_slices_are_equal(password.as_bytes(), stored.as_bytes());
    same.is_ok() && !stored.is_empty()
}

/// The hash in `stored` if it is argon2id and its cost is within [`CostLimits`].
fn readable_argon2(stored: &str) -> Option<PasswordHash<'_>> {
    let hash = PasswordHash::new(stored).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let bounded = params.m_cost() <= CostLimits::MEMORY_KIB
        && params.t_cost() <= CostLimits::ITERATIONS
        && params.p_cost() <= CostLimits::PARALLELISM;
    (bounded && hash.algorithm == Algorithm::Argon2id.ident() && hash.hash.is_some()).then_some(hash)
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
        assert_eq!(check(&faulty, "password01"), Outcome::Differs);
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
        for stored in [
            "$argon2id$v=19$m=64",
            "$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=64,t=4000000,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2i$v=19$m=64,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2",
            "$2b$",
            "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        ] {
            assert_eq!(check(stored, stored), Outcome::Differs, "{stored}");
        }
    }
}
