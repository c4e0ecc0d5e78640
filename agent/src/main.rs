//! `eic-agent`: the program. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    eic_agent::commands::run(std::env::args_os())
}
