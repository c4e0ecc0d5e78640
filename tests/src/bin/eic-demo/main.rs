//! `make demo`: the product in one minute, on this machine alone. Real programs, real output.
//! It asserts nothing beyond "each step worked"; the scenarios do.

mod story;
mod teller;

use std::process::ExitCode;

fn main() -> ExitCode {
    match story::tell() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe demo stopped: {error}");
            ExitCode::FAILURE
        }
    }
}
