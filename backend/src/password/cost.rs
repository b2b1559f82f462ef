//! Makes all failed checks cost the same.
//!
//! If a failure took only as long as its stored hash, it would reveal which names exist and how their passwords are
//! stored. So the highest cost of any stored hash since the start is recorded for each algorithm, and a failed check
//! spends, for every algorithm, the difference between its own work and that cost.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::pbkdf2;

use super::Password;

/// A digest for PBKDF2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    pub(super) fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    /// In bytes.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// Parameters of argon2. The cost is `memory_kib` times `iterations` blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Argon2Cost {
    pub(super) memory_kib: u32,
    pub(super) iterations: u32,
    pub(super) lanes: u32,
}

impl Argon2Cost {
    pub(super) fn of(params: &Params) -> Self {
        Self { memory_kib: params.m_cost(), iterations: params.t_cost(), lanes: params.p_cost() }
    }

    fn blocks(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.iterations)
    }

    /// Spends about `blocks`, and exactly this cost if `blocks` is all of it.
    fn spend(self, blocks: u64, password: &Password) {
        let memory_kib = u32::try_from(blocks / u64::from(self.iterations.max(1))).unwrap_or(u32::MAX);
        // With less memory, the work of argon2 is not measurable.
        let Ok(params) = Params::new(memory_kib.min(self.memory_kib), self.iterations, self.lanes, None) else {
            return;
        };
        let mut output = [0_u8; Params::DEFAULT_OUTPUT_LEN];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let done = argon2.hash_password_into(password.as_bytes(), &[0; 16], &mut output);
        std::hint::black_box((done, output)).0.ok();
    }
}

/// Parameters of scrypt. The cost is `2^log_n * r * p` blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScryptCost {
    pub(super) log_n: u8,
    pub(super) r: u32,
    pub(super) p: u32,
}

impl ScryptCost {
    fn blocks(self) -> u64 {
        1_u64.checked_shl(self.log_n.into()).unwrap_or(u64::MAX).saturating_mul(u64::from(self.r) * u64::from(self.p))
    }

    /// Fills `key`; false if scrypt refuses the parameters.
    pub(super) fn derive(self, password: &[u8], salt: &[u8], key: &mut [u8]) -> bool {
        let params = scrypt::Params::new(self.log_n, self.r, self.p);
        params.is_ok_and(|params| scrypt::scrypt(password, salt, &params, key).is_ok())
    }

    /// Spends `blocks` within a few, and exactly this cost if `blocks` is all of it.
    fn spend(self, blocks: u64, password: &Password) {
        let waste = |cost: Self| std::hint::black_box(cost.derive(password.as_bytes(), &[0; 16], &mut [0_u8; 32]));
        let pass = Self { p: 1, ..self }.blocks().max(1);
        if let Ok(p @ 1..) = u32::try_from(blocks / pass) {
            waste(Self { p, ..self });
        }
        // The remainder is a sum of powers of two.
        let left = blocks % pass / u64::from(self.r.max(1));
        for log_n in (1..self.log_n).rev().filter(|log_n| left >> log_n & 1 == 1) {
            waste(Self { log_n, p: 1, ..self });
        }
    }
}

/// The work of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashCost {
    Argon2(Argon2Cost),
    /// The binary logarithm of the rounds.
    Bcrypt(u32),
    /// The rounds of all blocks of the key.
    Pbkdf2(Digest, u64),
    Scrypt(ScryptCost),
}

/// The highest cost of each algorithm.
#[derive(Clone, Copy, Debug)]
struct HighestCosts {
    argon2: Argon2Cost,
    bcrypt: Option<u32>,
    sha1: u64,
    sha256: u64,
    sha512: u64,
    scrypt: Option<ScryptCost>,
}

/// Records the highest costs, and equalizes failed checks.
#[derive(Debug)]
pub(super) struct CostEqualizer(Mutex<HighestCosts>);

impl CostEqualizer {
    /// Starts with the cost of new hashes.
    pub(super) fn new(current: Argon2Cost) -> Self {
        Self(Mutex::new(HighestCosts { argon2: current, bcrypt: None, sha1: 0, sha256: 0, sha512: 0, scrypt: None }))
    }

    /// Records the cost of a stored hash.
    pub(super) fn record(&self, cost: HashCost) {
        let mut highest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match cost {
            HashCost::Argon2(cost) if cost.blocks() > highest.argon2.blocks() => highest.argon2 = cost,
            HashCost::Argon2(_) => {}
            HashCost::Bcrypt(cost) => highest.bcrypt = highest.bcrypt.max(Some(cost)),
            HashCost::Pbkdf2(Digest::Sha1, rounds) => highest.sha1 = highest.sha1.max(rounds),
            HashCost::Pbkdf2(Digest::Sha256, rounds) => highest.sha256 = highest.sha256.max(rounds),
            HashCost::Pbkdf2(Digest::Sha512, rounds) => highest.sha512 = highest.sha512.max(rounds),
            HashCost::Scrypt(cost) => {
                if highest.scrypt.is_none_or(|known| cost.blocks() > known.blocks()) {
                    highest.scrypt = Some(cost);
                }
            }
        }
    }

    /// Spends the difference between `done` and the highest cost of every algorithm.
    pub(super) fn equalize(&self, done: Option<HashCost>, password: &Password) {
        for step in self.missing(done) {
            step.spend(password);
        }
    }

    fn missing(&self, done: Option<HashCost>) -> Vec<Step> {
        let highest = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut steps = Vec::new();
        let done_argon2 = if let Some(HashCost::Argon2(cost)) = done { cost.blocks() } else { 0 };
        steps.push(Step::Argon2(highest.argon2, highest.argon2.blocks().saturating_sub(done_argon2)));
        if let Some(cost) = highest.bcrypt {
            match done {
                // Each increment of the cost doubles the rounds, so the increments up to the highest cost sum to the
                // difference.
                Some(HashCost::Bcrypt(done)) => steps.extend((done..cost).map(Step::Bcrypt)),
                _ => steps.push(Step::Bcrypt(cost)),
            }
        }
        for (digest, rounds) in
            [(Digest::Sha1, highest.sha1), (Digest::Sha256, highest.sha256), (Digest::Sha512, highest.sha512)]
        {
            let done = match done {
                Some(HashCost::Pbkdf2(of, rounds)) if of == digest => rounds,
                _ => 0,
            };
            steps.push(Step::Pbkdf2(digest, rounds.saturating_sub(done)));
        }
        if let Some(cost) = highest.scrypt {
            let done = if let Some(HashCost::Scrypt(cost)) = done { cost.blocks() } else { 0 };
            steps.push(Step::Scrypt(cost, cost.blocks().saturating_sub(done)));
        }
        steps.retain(|step| !matches!(step, Step::Argon2(_, 0) | Step::Pbkdf2(_, 0) | Step::Scrypt(_, 0)));
        steps
    }
}

/// Work whose result is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Argon2(Argon2Cost, u64),
    Bcrypt(u32),
    Pbkdf2(Digest, u64),
    Scrypt(ScryptCost, u64),
}

impl Step {
    fn spend(self, password: &Password) {
        match self {
            Self::Argon2(cost, blocks) => cost.spend(blocks, password),
            Self::Bcrypt(cost) => {
                std::hint::black_box(bcrypt::hash_with_salt(password.as_bytes(), cost, [0; 16])).ok();
            }
            Self::Pbkdf2(digest, rounds) => {
                let Some(rounds) = u32::try_from(rounds).ok().and_then(NonZeroU32::new) else { return };
                let mut output = vec![0_u8; digest.length()];
                pbkdf2::derive(digest.algorithm(), rounds, &[0; 16], password.as_bytes(), &mut output);
                std::hint::black_box(output);
            }
            Self::Scrypt(cost, blocks) => cost.spend(blocks, password),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: Argon2Cost = Argon2Cost { memory_kib: 64, iterations: 2, lanes: 1 };
    const SCRYPT: ScryptCost = ScryptCost { log_n: 10, r: 8, p: 2 };

    /// The work by algorithm, each in its own units.
    fn total(done: Option<HashCost>, steps: &[Step]) -> [u64; 6] {
        let mut units = [0; 6];
        let mut add = |unit: usize, cost: u64| units[unit] += cost;
        let digest = |digest| match digest {
            Digest::Sha1 => 2,
            Digest::Sha256 => 3,
            Digest::Sha512 => 4,
        };
        match done {
            None => {}
            Some(HashCost::Argon2(cost)) => add(0, cost.blocks()),
            Some(HashCost::Bcrypt(cost)) => add(1, 1 << cost),
            Some(HashCost::Pbkdf2(of, rounds)) => add(digest(of), rounds),
            Some(HashCost::Scrypt(cost)) => add(5, cost.blocks()),
        }
        for step in steps {
            match *step {
                Step::Argon2(_, blocks) => add(0, blocks),
                Step::Bcrypt(cost) => add(1, 1 << cost),
                Step::Pbkdf2(of, rounds) => add(digest(of), rounds),
                Step::Scrypt(_, blocks) => add(5, blocks),
            }
        }
        units
    }

    #[test]
    fn all_failed_checks_do_the_same_work() {
        let equalizer = CostEqualizer::new(CURRENT);
        let met = [
            HashCost::Argon2(CURRENT),
            HashCost::Argon2(Argon2Cost { memory_kib: 32, iterations: 1, lanes: 1 }),
            HashCost::Argon2(Argon2Cost { memory_kib: 1024, iterations: 2, lanes: 8 }),
            HashCost::Bcrypt(12),
            HashCost::Bcrypt(5),
            HashCost::Pbkdf2(Digest::Sha1, 10_000),
            HashCost::Pbkdf2(Digest::Sha256, 260_000),
            HashCost::Pbkdf2(Digest::Sha256, 1_000_000),
            HashCost::Pbkdf2(Digest::Sha512, 25_000),
            HashCost::Scrypt(SCRYPT),
            HashCost::Scrypt(ScryptCost { log_n: 9, r: 8, p: 1 }),
        ];
        assert_eq!(total(None, &equalizer.missing(None)), [128, 0, 0, 0, 0, 0]);
        met.into_iter().for_each(|cost| equalizer.record(cost));
        let expected = [2048, 4096, 10_000, 1_000_000, 25_000, 16_384];
        for done in std::iter::once(None).chain(met.map(Some)) {
            assert_eq!(total(done, &equalizer.missing(done)), expected, "{done:?}");
        }
    }

    #[test]
    fn the_costliest_check_has_nothing_left_to_spend() {
        let equalizer = CostEqualizer::new(CURRENT);
        equalizer.record(HashCost::Scrypt(SCRYPT));
        assert_eq!(equalizer.missing(Some(HashCost::Scrypt(SCRYPT))), [Step::Argon2(CURRENT, 128)]);
        assert_eq!(equalizer.missing(Some(HashCost::Argon2(CURRENT))), [Step::Scrypt(SCRYPT, 16_384)]);
    }
}
