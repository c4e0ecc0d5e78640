//! The targets' code; `fuzz_targets/` holds one line for each.

pub mod targets;
