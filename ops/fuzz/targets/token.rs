#![no_main]

#[path = "../../../gateway/tests/it/fuzz/token.rs"]
mod token;

libfuzzer_sys::fuzz_target!(|data: &[u8]| token::check(data));
