//! libFuzzer's entry to [`eic_fuzz::targets::web_tokens`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eic_fuzz::targets::web_tokens(data));
