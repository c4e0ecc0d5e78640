//! libFuzzer's entry to [`eic_fuzz::targets::host_identity`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eic_fuzz::targets::host_identity(data));
