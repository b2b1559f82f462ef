#![no_main]

#[path = "../../../gateway/tests/it/fuzz/feed.rs"]
mod feed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| feed::check(data));
