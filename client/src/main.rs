//! The `eic-login` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(eic_login::run(std::env::args_os().collect()))
}
