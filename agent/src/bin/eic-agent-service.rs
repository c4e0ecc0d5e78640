//! `eic-agent-service`: what `eic-agent run` becomes. A program of its own, so that the TLS library stays out of
//! the one that sshd starts twice per login. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    eic_agent::commands::run::serve(std::env::args_os().skip(1))
}
