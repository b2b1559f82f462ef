//! PBKDF2 and scrypt hashes of Werkzeug, Django and passlib.
//!
//! | library | PBKDF2 | scrypt |
//! |---|---|---|
//! | Werkzeug | `pbkdf2:DIGEST:ROUNDS$SALT$HEX` | `scrypt:N:R:P$SALT$HEX` |
//! | Django | `pbkdf2_DIGEST$ROUNDS$SALT$BASE64` | `scrypt$N$SALT$R$P$BASE64` |
//! | passlib | `$pbkdf2-DIGEST$ROUNDS$SALT$BASE64`, `$pbkdf2$…` for SHA-1 | `$scrypt$ln=LN,r=R,p=P$SALT$BASE64` |
//!
//! Only passlib encodes the salt; its PBKDF2 form has `.` instead of Base64's `+`.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Password;
use super::cost::{Digest, HashCost, ScryptCost};
use super::limits::{CostLimits, Unverifiable};

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Lengths of a stored key, in bytes. A shorter one could be matched by chance.
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 16..=64;

/// A parsed hash within the cost limits.
pub(super) struct ForeignHash {
    cost: HashCost,
    rounds: NonZeroU32,
    salt: Vec<u8>,
    key: Vec<u8>,
}

impl ForeignHash {
    /// Parses a stored value with a prefix of PBKDF2.
    pub(super) fn pbkdf2(stored: &str) -> Result<Self, Unverifiable> {
        let (digest, rounds, salt, key) = read_pbkdf2(stored).ok_or(Unverifiable::Damaged)?;
        // A key longer than the digest costs all rounds again for each further block.
        let cost = u64::from(rounds.get()).saturating_mul(key.len().div_ceil(digest.length()) as u64);
        if cost > u64::from(CostLimits::PBKDF2_ROUNDS) {
            return Err(Unverifiable::Costly);
        }
        Ok(Self { cost: HashCost::Pbkdf2(digest, cost), rounds, salt, key })
    }

    /// Parses a stored value with a prefix of scrypt.
    pub(super) fn scrypt(stored: &str) -> Result<Self, Unverifiable> {
        let (n, r, p, salt, key) = read_scrypt(stored).ok_or(Unverifiable::Damaged)?;
        if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
            return Err(Unverifiable::Damaged);
        }
        let memory = n.saturating_add(u64::from(p)).saturating_mul(u64::from(r)).saturating_mul(128);
        let blocks = n.saturating_mul(u64::from(r)).saturating_mul(u64::from(p));
        if memory > u64::from(CostLimits::MEMORY_KIB) * 1024 || blocks > CostLimits::SCRYPT_BLOCKS {
            return Err(Unverifiable::Costly);
        }
        let log_n = u8::try_from(n.trailing_zeros()).map_err(|_| Unverifiable::Costly)?;
        Ok(Self { cost: HashCost::Scrypt(ScryptCost { log_n, r, p }), rounds: NonZeroU32::MIN, salt, key })
    }

    pub(super) fn cost(&self) -> HashCost {
        self.cost
    }

    /// Whether `password` matches. Blocks while hashing.
    pub(super) fn matches(&self, password: &Password) -> bool {
        match self.cost {
            HashCost::Pbkdf2(digest, _) => {
                pbkdf2::verify(digest.algorithm(), self.rounds, &self.salt, password.as_bytes(), &self.key).is_ok()
            }
            HashCost::Scrypt(cost) => {
                let mut key = vec![0; self.key.len()];
                cost.derive(password.as_bytes(), &self.salt, &mut key)
                    && aws_lc_rs::constant_time::verify_slices_are_equal(&key, &self.key).is_ok()
            }
            HashCost::Argon2(_) | HashCost::Bcrypt(_) => false,
        }
    }
}

type Pbkdf2Parts = (Digest, NonZeroU32, Vec<u8>, Vec<u8>);

fn read_pbkdf2(stored: &str) -> Option<Pbkdf2Parts> {
    let (digest, rounds, salt, key) = if let Some(rest) = stored.strip_prefix("pbkdf2:") {
        let [method, salt, key] = fields(rest, '$')?;
        let [digest, rounds] = fields(method, ':')?;
        (Digest::named(digest)?, rounds, salt.as_bytes().to_vec(), hexadecimal(key)?)
    } else if let Some(rest) = stored.strip_prefix("pbkdf2_") {
        let [digest, rounds, salt, key] = fields(rest, '$')?;
        (Digest::named(digest)?, rounds, salt.as_bytes().to_vec(), BASE64.decode(key).ok()?)
    } else {
        let [digest, rounds, salt, key] = fields(stored.strip_prefix("$pbkdf2")?, '$')?;
        let digest = if digest.is_empty() { Digest::Sha1 } else { Digest::named(digest.strip_prefix('-')?)? };
        (digest, rounds, passlib_base64(salt)?, passlib_base64(key)?)
    };
    let rounds: NonZeroU32 = number(rounds)?;
    KEY_LENGTHS.contains(&key.len()).then_some((digest, rounds, salt, key))
}

type ScryptParts = (u64, u32, u32, Vec<u8>, Vec<u8>);

fn read_scrypt(stored: &str) -> Option<ScryptParts> {
    let (n, r, p, salt, key) = if let Some(rest) = stored.strip_prefix("scrypt:") {
        let [method, salt, key] = fields(rest, '$')?;
        let [n, r, p] = fields(method, ':')?;
        (number(n)?, r, p, salt.as_bytes().to_vec(), hexadecimal(key)?)
    } else if let Some(rest) = stored.strip_prefix("scrypt$") {
        let [n, salt, r, p, key] = fields(rest, '$')?;
        (number(n)?, r, p, salt.as_bytes().to_vec(), BASE64.decode(key).ok()?)
    } else {
        let [costs, salt, key] = fields(stored.strip_prefix("$scrypt$")?, '$')?;
        let [ln, r, p] = fields(costs, ',')?;
        let n = 1_u64.checked_shl(number(ln.strip_prefix("ln=")?)?)?;
        (n, r.strip_prefix("r=")?, p.strip_prefix("p=")?, BASE64.decode(salt).ok()?, BASE64.decode(key).ok()?)
    };
    KEY_LENGTHS.contains(&key.len()).then_some((n, number(r)?, number(p)?, salt, key))
}

/// The fields between separators, if there are exactly `COUNT`.
fn fields<const COUNT: usize>(text: &str, separator: char) -> Option<[&str; COUNT]> {
    // One more than `COUNT` detects too many.
    let parts: Vec<&str> = text.splitn(COUNT + 1, separator).collect();
    parts.try_into().ok()
}

/// Parses decimal digits.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let decoded = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect::<Option<Vec<u8>>>();
    decoded.filter(|_| rest.is_empty())
}

fn passlib_base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.replace('.', "+")).ok()
}
