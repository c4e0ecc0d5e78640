//! `eic-login doctor`: why a login does not work, step by step, with the one cause and its fix.

use std::path::PathBuf;

use clap::Args;
use eic_protocol::os_user::OsUser;

use super::{Destination, paths};
use crate::credentials::Selection;
use crate::doctor::{Diagnosis, Patient, Ssh, examine};
use crate::exit_code::{self, Failure};
use crate::terminal::{self, one_line};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// [USER@]HOST.
    destination: Destination,
    /// The account, where the destination names none.
    #[arg(long)]
    user: Option<OsUser>,
    /// Another configuration of ssh than the user's own.
    #[arg(short = 'F', value_name = "FILE")]
    config: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command; the exit code is that of what is wrong.
pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let patient = Patient {
        host: arguments.destination.host.clone(),
        user: arguments
            .destination
            .user
            .clone()
            .or_else(|| arguments.user.clone()),
        paths: paths()?,
        selection: Selection::from_env(),
        ssh: Ssh {
            config: arguments.config.clone(),
            program: std::env::current_exe().map_err(|e| Failure::of(&e))?,
        },
    };
    let diagnosis = examine(&patient);
    if arguments.json {
        terminal::print_json(&diagnosis)?;
    } else {
        terminal::print(&render(&diagnosis));
    }
    Ok(diagnosis
        .finding
        .map_or(exit_code::OK, |finding| finding.code))
}

fn render(diagnosis: &Diagnosis) -> String {
    let width = diagnosis.steps.iter().map(|s| s.step.len()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for step in &diagnosis.steps {
        let mark = if step.ok { "ok  " } else { "FAIL" };
        let detail = one_line(&step.detail);
        text.push_str(&format!("{mark}  {:<width$}  {detail}\n", step.step));
    }
    match &diagnosis.finding {
        None => text.push_str("\nThe login works.\n"),
        Some(finding) => text.push_str(&format!(
            "\nCause: {} ({})\nFix:   {}\n",
            one_line(&finding.detail),
            finding.cause.as_str(),
            finding.fix
        )),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Cause;
    use crate::doctor::{Finding, Step};

    #[test]
    fn the_cause_and_its_fix_are_at_the_end_and_escaped() {
        // H-15
        let step = |step, ok, detail: &str| Step {
            step,
            ok,
            detail: detail.to_owned(),
        };
        let diagnosis = Diagnosis {
            steps: vec![
                step("ssh", true, "OpenSSH 9.2"),
                step("identity", false, "no\u{1b}[2J"),
            ],
            finding: Some(Finding {
                cause: Cause::CredentialsExpired,
                detail: "no\u{1b}[2J".to_owned(),
                fix: Cause::CredentialsExpired.fix(),
                code: exit_code::CREDENTIALS,
            }),
        };
        let text = render(&diagnosis);
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(
            text.contains("ok    ssh       OpenSSH 9.2\nFAIL  identity"),
            "{text}"
        );
        assert!(
            text.contains("(credentials-expired)\nFix:   sign in"),
            "{text}"
        );
        assert!(render(&Diagnosis::default()).contains("The login works."));
    }
}
