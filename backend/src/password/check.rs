//! Hashes passwords, and checks them against stored values.
//!
//! A failed check costs the same for every name: see [`super::cost`].

use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use super::cost::{Argon2Cost, CostEqualizer};
use super::limits::Unverifiable;
use super::stored::Stored;
use super::{Password, Settings};

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The password does not match.
    Differs,
    /// The stored hash cannot be checked: no password matches it.
    Unverifiable(Unverifiable),
    /// The password matches.
    Matches {
        /// An argon2id hash that should replace the stored value, as a PHC string.
        upgrade: Option<String>,
    },
}

/// The synchronous part of the hasher.
#[derive(Debug)]
pub(super) struct Checker {
    argon2: Argon2<'static>,
    upgrade: bool,
    equalizer: CostEqualizer,
}

impl Checker {
    /// # Errors
    /// Invalid parameters of argon2.
    pub(super) fn new(settings: &Settings) -> Result<Self, argon2::Error> {
        let params = Params::new(settings.memory_kib, settings.iterations, settings.parallelism, None)?;
        let equalizer = CostEqualizer::new(Argon2Cost::of(&params));
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Ok(Self { argon2, upgrade: settings.upgrade, equalizer })
    }

    /// Hashes a new password. Blocks while hashing.
    pub(super) fn hash(&self, password: &Password) -> Result<String, argon2::password_hash::Error> {
        let mut random = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| argon2::password_hash::Error::Crypto)?;
        let salt = SaltString::encode_b64(&random)?;
        Ok(self.argon2.hash_password(password.as_bytes(), &salt)?.to_string())
    }

    /// Checks `password` against `stored`. `None` is an unknown or disabled user, and never matches. Blocks while
    /// hashing.
    pub(super) fn verify(&self, password: &Password, stored: Option<&str>) -> Outcome {
        let (outcome, cost) = match stored.map(Stored::read) {
            None => (Outcome::Differs, None),
            Some(Err(why)) => (Outcome::Unverifiable(why), None),
            Some(Ok(stored)) => {
                let cost = stored.cost();
                // Before the work, so that a concurrent check of another name takes as long.
                cost.into_iter().for_each(|cost| self.equalizer.record(cost));
                if stored.matches(password) {
                    let upgrade = self.upgrade.then(|| self.upgraded(&stored, password)).flatten();
                    return Outcome::Matches { upgrade };
                }
                (Outcome::Differs, cost)
            }
        };
        self.equalizer.equalize(cost, password);
        outcome
    }

    /// The value that should replace one that matched `password`.
    fn upgraded(&self, stored: &Stored<'_>, password: &Password) -> Option<String> {
        let outdated = match stored {
            Stored::Plain(_) => true,
            // A longer password may be mistyped beyond the bytes covered by the hash; rehashing it would lock the right
            // one out.
            Stored::Bcrypt(hash) => hash.covers(password),
            // HMAC pads its key with NUL, so a trailing NUL in the password is not covered by the hash.
            Stored::ForeignHash(_) => !password.as_bytes().ends_with(&[0]),
            Stored::Argon2(hash) if hash.is_current_variant() => {
                let current = self.argon2.params();
                let (stored, current) =
                    ((hash.params.m_cost(), hash.params.t_cost()), (current.m_cost(), current.t_cost()));
                let weaker = stored.0 <= current.0 && stored.1 <= current.1 && stored != current;
                if !weaker {
                    // Django's form of a hash that is at least as strong as a new one.
                    return hash.django.then(|| hash.text.to_owned());
                }
                true
            }
            Stored::Argon2(_) => true,
        };
        // Without a new hash the login succeeds anyway; the next one retries.
        outdated.then(|| self.hash(password).ok()).flatten()
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
    fn a_new_hash_matches_and_is_not_upgraded() {
        let checker = Checker::new(&settings(true)).unwrap();
        let stored = checker.hash(&password("password01")).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{stored}");
        assert_eq!(checker.verify(&password("password01"), Some(&stored)), KEPT);
        assert_eq!(checker.verify(&password("password02"), Some(&stored)), Outcome::Differs);
        assert_ne!(stored, checker.hash(&password("password01")).unwrap(), "each has its own salt");
    }

    #[test]
    fn no_user_never_matches() {
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
    fn bcrypt_matches_in_each_variant_and_becomes_argon2id() {
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
    fn bcrypt_uses_72_bytes_and_a_longer_password_is_not_rehashed() {
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
    fn a_weaker_argon2id_is_rehashed_and_a_stronger_one_is_not() {
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
