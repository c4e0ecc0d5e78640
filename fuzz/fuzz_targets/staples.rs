//! libFuzzer's entry to [`eic_fuzz::targets::staples`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eic_fuzz::targets::staples(data));
