//! `eic-login explain`: what a login would do and why, from the same rules, without making it.

use clap::Args;
use eic_protocol::os_user::OsUser;
use eic_protocol::text::printable;

use super::{Destination, paths, run_dir};
use crate::control::client::Agent;
use crate::control::message::{Ask, Explanation, Reply};
use crate::exit_code::{self, Failure};
use crate::terminal::{self, one_line};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// [USER@]HOST.
    destination: Destination,
    /// The account, where the destination names none.
    #[arg(long)]
    user: Option<OsUser>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let paths = paths()?;
    let dir = run_dir(&paths)?;
    let login = arguments.destination.login(arguments.user.as_ref(), &dir)?;
    match Agent::new(&dir)?.ask(Ask::Explain(login))?.1 {
        Reply::Explained(explanation) => {
            explanation
                .notes
                .iter()
                .for_each(|note| terminal::note(note));
            if arguments.json {
                return terminal::print_json(&explanation);
            }
            terminal::print(&render(&explanation));
            Ok(())
        }
        Reply::Failed(failure) => Err(failure),
        _ => Err(Failure::new(
            exit_code::FAILURE,
            "the resident agent gave an unexpected answer",
        )),
    }
}

fn render(told: &Explanation) -> String {
    let host = &told.host;
    let name = host.name.as_deref().map(|n| format!(" ({})", printable(n)));
    let by = if told.told_by_ca { "the CA" } else { "EC2" };
    let mut lines = vec![format!(
        "host       {}{} in {} of account {}, as {by} says",
        host.id,
        name.unwrap_or_default(),
        host.region,
        host.account
    )];
    lines.push(format!("account    {}: {}", told.user, account(told)));
    if let Some(ca) = &told.ca {
        let state = match &told.ca_absent {
            None => "it answers".to_owned(),
            Some(error) => format!("it cannot be asked now: {error}"),
        };
        lines.push(format!("CA         {ca}: {state}"));
        lines.push(format!("login      {}", told.now));
        lines.push(format!("CA absent  {}", told.without_ca));
    } else {
        lines.push("CA         none is configured".to_owned());
        lines.push(format!("login      {}", told.now));
    }
    lines.push(format!("host key   {}", told.host_key));
    lines
        .iter()
        .map(|line| format!("{}\n", one_line(line)))
        .collect()
}

fn account(told: &Explanation) -> String {
    let users: Vec<&str> = told.host.users.iter().map(OsUser::as_str).collect();
    match told.user_known {
        Some(true) => "among those that profile, tag, image or policy name".to_owned(),
        Some(false) => format!("not among the known ones: {}", users.join(", ")),
        None if told.told_by_ca => {
            "the CA's policy decides; it names no account by itself".to_owned()
        }
        None => "nobody says which accounts the host has: tag it eic:user".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_cache::tests::view;

    #[test]
    fn each_question_has_its_line_and_nothing_escapes() {
        // H-15
        let told = Explanation {
            host: view("i-01234567", Some("web\u{1b}[2J")),
            told_by_ca: false,
            ca: Some("https://ca.example".to_owned()),
            ca_absent: Some("timed out\n".to_owned()),
            user: "ubuntu".parse().unwrap(),
            user_known: None,
            now: "a certificate opens it".to_owned(),
            without_ca: "no login".to_owned(),
            host_key: "nothing is remembered".to_owned(),
            notes: Vec::new(),
        };
        let text = render(&told);
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(text.lines().count(), 6, "{text}");
        for word in ["as EC2 says", "tag it eic:user", "timed out", "CA absent"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
