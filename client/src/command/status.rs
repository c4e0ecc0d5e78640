//! `eic-login status`: what the resident agent holds. No secret is among it, and asking starts no agent.

use clap::Args;
use eic_protocol::text::printable;

use super::{moment, paths};
use crate::config::Config;
use crate::control::client::Agent;
use crate::control::message::{Ask, Reply, Status};
use crate::exit_code::{self, Failure};
use crate::paths::Paths;
use crate::ssh_config::home;
use crate::ssh_config::installation::Installation;
use crate::terminal;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let paths = paths()?;
    let config = Config::in_force(&paths)?;
    if arguments.json {
        return as_json(&paths, &config);
    }
    let ca = config.ca.as_ref().map_or_else(
        || "none (EC2 Instance Connect only)".to_owned(),
        |ca| ca.url.to_string(),
    );
    let ssh = match Installation::new(&paths.ssh_dir).is_in_place() {
        true => match home::not_read(&paths.ssh_dir) {
            Some(told) => format!("set up, but {told}"),
            None => "set up".to_owned(),
        },
        false => "not set up: run `eic-login setup`".to_owned(),
    };
    terminal::print(&format!("CA: {ca}\nssh: {ssh}\n"));
    match Agent::new(&config.run_dir(&paths))?.ask_running(Ask::Status)? {
        Some(Reply::Status(status)) => terminal::print(&render(&status)),
        Some(Reply::OtherConfiguration { serves, .. }) => terminal::print(&format!(
            "Resident agent: it goes by another configuration, that in {}\n",
            printable(&serves.display().to_string())
        )),
        Some(Reply::OtherVersion) => terminal::print("Resident agent: of another version, ended\n"),
        None => terminal::print("Resident agent: not running (it starts with the next login)\n"),
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

/// The same for scripts; `agent` is null where none runs.
fn as_json(paths: &Paths, config: &Config) -> Result<(), Failure> {
    let agent = Agent::new(&config.run_dir(paths))?;
    let status = match agent.ask_running(Ask::Status)? {
        Some(Reply::Status(status)) => Some(status),
        Some(Reply::Failed(failure)) => return Err(failure),
        _ => None,
    };
    let told = serde_json::json!({
        "ca": config.ca.as_ref().map(|ca| ca.url.to_string()),
        "set_up": Installation::new(&paths.ssh_dir).is_in_place(),
        "agent": status,
    });
    terminal::print_json(&told)
}

fn render(status: &Status) -> String {
    let mut text = format!("Resident agent: process {}\n", status.pid);
    for session in &status.sessions {
        text.push_str(&format!(
            "Session at {} as {} ({}) until {}, key {}\n",
            printable(&session.ca),
            printable(&session.caller.name),
            printable(&session.selection),
            moment(session.expires_at),
            session.key
        ));
    }
    for certificate in &status.certificates {
        let principal = printable(&certificate.principal);
        text.push_str(&format!(
            "Certificate {} for {principal} until {}\n",
            certificate.serial,
            moment(certificate.valid_before)
        ));
    }
    for login in &status.logins {
        text.push_str(&format!("Login being made: {}\n", printable(login)));
    }
    if status.unsent_events > 0 {
        text.push_str(&format!(
            "{} pushed keys are not reported to the CA yet\n",
            status.unsent_events
        ));
    }
    if let Some(why) = &status.keys_not_locked {
        text.push_str(&format!(
            "Keys may be written to swap, this system locks no memory: {}; see `ulimit -l`\n",
            printable(why)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_may_be_swapped_out_are_said() {
        let status = Status {
            keys_not_locked: Some("Cannot allocate memory\u{1b}".to_owned()),
            ..Status::default()
        };
        let told = render(&status);
        assert!(
            told.contains("swap") && told.contains("ulimit -l"),
            "{told}"
        );
        assert!(!told.contains('\u{1b}') && !render(&Status::default()).contains("swap"));
    }
}
