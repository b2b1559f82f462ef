#![no_main]

#[path = "../../../gateway/tests/it/fuzz/proxy.rs"]
mod proxy;

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::check(data));
