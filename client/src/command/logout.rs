//! `eic-login logout`: the resident agent forgets everything and ends; its memory goes with it.

use super::{paths, run_dir};
use crate::control::client::Agent;
use crate::control::message::{Ask, Reply};
use crate::exit_code::{self, Failure};
use crate::terminal;

/// Runs the command.
pub(super) fn run() -> Result<(), Failure> {
    let paths = paths()?;
    match Agent::new(&run_dir(&paths)?)?.ask_running(Ask::Logout)? {
        Some(Reply::LoggedOut { sessions }) => {
            terminal::print(&format!("Ended {sessions} sessions; keys are wiped.\n"))
        }
        Some(Reply::OtherVersion) => {
            terminal::print("Ended the resident agent of another version; keys are wiped.\n")
        }
        None => terminal::print("There was no session.\n"),
        Some(Reply::Failed(failure)) => return Err(failure),
        Some(_) => {
            return Err(Failure::new(
                exit_code::FAILURE,
                "the resident agent gave an unexpected answer",
            ));
        }
    }
    Ok(())
}
