//! Random cases by the thousand: each has a seed of its own, which a failure tells.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test tells what it ran by its own output")]

use std::time::{SystemTime, UNIX_EPOCH};

/// Runs `case` as often as `HOLODULE_FUZZ_CASES` says, or `usual` times, and prints how often it
/// was. `HOLODULE_FUZZ_SEED` is where it begins; a failure prints what to set it to.
pub fn run(what: &str, usual: u64, mut case: impl FnMut(&mut Random)) {
    let number = |name: &str| {
        std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is no number")))
    };
    let cases = number("HOLODULE_FUZZ_CASES").unwrap_or(usual);
    let first = number("HOLODULE_FUZZ_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs() << 20 | u64::from(now.subsec_micros())
    });
    for seed in (0..cases).map(|index| first.wrapping_add(index)) {
        let failure = Failure { what, seed };
        case(&mut Random(seed));
        std::mem::forget(failure);
    }
    println!("{what}: {cases} executions from seed {first}");
}

/// Tells the seed of a case that panics.
struct Failure<'a> {
    what: &'a str,
    seed: u64,
}

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        eprintln!("{}: failed; HOLODULE_FUZZ_SEED={} HOLODULE_FUZZ_CASES=1 repeats it", self.what, self.seed);
    }
}

/// Numbers that look random: SplitMix64, which any seed starts well.
pub struct Random(u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number under `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(end).unwrap()).unwrap()
    }

    /// Whether one of `of` chances came.
    pub fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    /// One of `all`.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}
