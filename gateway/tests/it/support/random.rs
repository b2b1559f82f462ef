//! Random inputs for property tests. Each case has a seed, with which it can be repeated.
//!
//! `HOLODULE_FUZZ_CASES` replaces the number of cases of each property; `HOLODULE_FUZZ_SEED` is the seed of the
//! first case, and each further case has the next number.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A random number generator (SplitMix64), not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// `true` with a probability of 1 in `count`.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// The number of cases for a property: `cases` unless the environment sets it.
pub fn cases(cases: u64) -> u64 {
    number("HOLODULE_FUZZ_CASES").unwrap_or(cases)
}

/// The seed of a property's first case.
pub fn seed() -> u64 {
    // Each run has other cases; a failure reports its seed.
    number("HOLODULE_FUZZ_SEED").unwrap_or_else(|| RandomState::new().hash_one(0))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a whole number")))
}

/// Prints the number of executed cases, which `--nocapture` shows.
#[allow(clippy::print_stdout, reason = "long runs report the number of cases")]
pub fn executed(property: &str, count: u64) {
    println!("{property}: {count} cases executed");
}

/// Runs `property`, which panics on failure, with random cases.
pub fn check(name: &str, cases: u64, mut property: impl FnMut(&mut Random)) {
    let (first, cases) = (seed(), self::cases(cases));
    for number in 0..cases {
        let seed = first.wrapping_add(number);
        let case = catch_unwind(AssertUnwindSafe(|| property(&mut Random::new(seed))));
        if let Err(panic) = case {
            report_seed(name, seed);
            resume_unwind(panic);
        }
    }
    executed(name, cases);
}

/// Prints how to repeat a failed case.
#[allow(clippy::print_stderr, reason = "the output of a failed test shows how to repeat it")]
pub fn report_seed(name: &str, seed: u64) {
    eprintln!("{name} fails for HOLODULE_FUZZ_SEED={seed} HOLODULE_FUZZ_CASES=1");
}
