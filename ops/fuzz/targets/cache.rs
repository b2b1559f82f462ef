#![no_main]

#[path = "../../../gateway/tests/it/fuzz/cache.rs"]
mod cache;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cache::check(data));
