//! The program `eic-ca`: its library does everything.

use std::process::ExitCode;

use clap::Parser as _;
use eic_ca::command::{self, CommandLine};

fn main() -> ExitCode {
    command::run(&CommandLine::parse())
}
