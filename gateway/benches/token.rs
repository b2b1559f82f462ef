//! What it costs to verify a token: one that is new, one that was seen before, and one that is
//! forged. `cargo bench -p holodule-gateway --bench token` prints nanoseconds.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]

use std::hint::black_box;
use std::time::Instant;

use holodule_gateway::token::{Digest, Key, Keys, Presented, Routes, Settings, StaticToken, StaticTokens};

const NOW: i64 = 1_700_000_000;
const ROUNDS: usize = 20_000;

/// What one round costs, in nanoseconds: the least of seven measurements, which other programs
/// disturbed the least.
fn measure(what: &str, mut round: impl FnMut(usize)) {
    let measured = (0..7).map(|_| {
        let began = Instant::now();
        (0..ROUNDS).for_each(&mut round);
        began.elapsed().as_secs_f64() * 1e9 / ROUNDS as f64
    });
    println!("{what}: {:.0} ns", measured.fold(f64::INFINITY, f64::min));
}

fn main() {
    let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
    let keys = || Keys::new(vec![Key::named("2026-11", &[7; 32]).unwrap()], settings).unwrap();
    let issuer = keys();
    // More than the table of seen tokens has places for, so that a round finds none again.
    let tokens: Vec<String> =
        (0..4 * ROUNDS).map(|number| issuer.issue("user01", &format!("{number:032x}"), NOW).unwrap()).collect();
    let token = |number: usize| tokens.get(number % tokens.len()).unwrap().as_bytes();
    let verify = |keys: &Keys, token: &[u8]| keys.verify(&Presented::new(black_box(token)).unwrap(), NOW).is_ok();

    let mut next = 0;
    let verifier = keys();
    measure("new", |_| {
        next += 1;
        assert!(verify(&verifier, token(next)));
    });
    measure("seen, always the same", |_| assert!(verify(&verifier, token(1))));
    let verifier = keys();
    (0..1000).for_each(|number| assert!(verify(&verifier, token(number))));
    measure("seen, one of a thousand", |number| assert!(verify(&verifier, token(number % 1000))));
    let forger = Keys::new(vec![Key::named("2026-11", &[8; 32]).unwrap()], settings).unwrap();
    let forged = forger.issue("user01", "0", NOW).unwrap();
    measure("forged", |_| assert!(!verify(&verifier, forged.as_bytes())));
    let long = vec![b'a'; 9 * 1024];
    measure("too long", |_| assert!(Presented::new(black_box(&long)).is_err()));

    for count in [1, 1024] {
        let word = |number: usize| format!("holodule_{number:064x}");
        let known = (0..count).map(|number| {
            StaticToken::new(&number.to_string(), Digest::of(word(number).as_bytes()), Routes::All, None).unwrap()
        });
        let known = StaticTokens::new(known.collect()).unwrap();
        let word = word(count / 2);
        measure(&format!("static, of {count}"), |_| {
            assert!(known.find(&Presented::new(black_box(word.as_bytes())).unwrap()).is_some());
        });
    }
}
