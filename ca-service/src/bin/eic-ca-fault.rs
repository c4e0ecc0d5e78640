//! `eic-ca` with named points at which a test may kill it (`src/fault.rs`). Built by `make fault` only, never shipped:
//! a name of its own, so that no build of the service can be mistaken for it.

use std::process::ExitCode;

use clap::Parser as _;
use eic_ca::command::{CommandLine, run};

fn main() -> ExitCode {
    run(&CommandLine::parse())
}
