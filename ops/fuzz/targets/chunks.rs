#![no_main]

#[path = "../../../gateway/tests/it/fuzz/chunks.rs"]
mod chunks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| chunks::check(data));
