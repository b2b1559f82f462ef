#![no_main]

#[path = "../../../backend/tests/it/fuzz/csv.rs"]
mod csv;

libfuzzer_sys::fuzz_target!(|data: &[u8]| csv::check(data));
