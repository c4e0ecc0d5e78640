//! `eic-login` without a command: sign in, and show who the CA says you are and what you may reach.

use clap::Args;
use eic_protocol::api::instance::InstanceView;
use eic_protocol::api::session::NameStanding;
use eic_protocol::text::printable;

use super::sign_in::Errand;
use super::{moment, paths, sign_in};
use crate::cause::Cause;
use crate::config::Config;
use crate::control::client::Agent;
use crate::control::message::{Ask, PersonAsk, Reply, SignedIn};
use crate::credentials::Selection;
use crate::exit_code::{self, Failure};
use crate::key::protect_memory;
use crate::oidc::Way;
use crate::paths::Paths;
use crate::ssh_config::installation::Installation;
use crate::terminal;
use crate::ways_in::{told, ways_in};

/// For those who sign in at an issuer: `issuer` under `[id_token]` of the configuration.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Sign in at your issuer with a code that is entered in any browser.
    #[arg(long, conflicts_with = "browser")]
    device: bool,
    /// Sign in at your issuer in the browser of this machine.
    #[arg(long)]
    browser: bool,
}

impl Arguments {
    fn way(&self) -> Option<Way> {
        let browser = self.browser.then_some(Way::Browser);
        self.device.then_some(Way::Device).or(browser)
    }
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let paths = paths()?;
    let config = Config::in_force(&paths)?;
    let agent = Agent::new(&config.run_dir(&paths))?;
    match signed_in(&agent, &config, arguments.way())? {
        Reply::SignedIn(signed_in) => {
            signed_in.notes.iter().for_each(|note| terminal::note(note));
            terminal::print(&render(&signed_in));
            if let Some(hint) = hint(&paths) {
                terminal::note(hint);
            }
            Ok(())
        }
        Reply::Failed(failure) => Err(failure),
        _ => Err(Failure::new(
            exit_code::FAILURE,
            "the resident agent gave an unexpected answer",
        )),
    }
}

/// By what the agent holds or finds; where a person must sign in first and is there, or asked for it, with him.
fn signed_in(agent: &Agent, config: &Config, way: Option<Way>) -> Result<Reply, Failure> {
    let selection = Selection::from_env();
    let errand = sign_in::errand(config, &selection);
    let ask = |selection: &Selection| agent.ask(Ask::SignIn(selection.clone()));
    match (errand, way) {
        (None, None) => Ok(ask(&selection)?.1),
        (None, Some(_)) => Err(Failure::usage(
            "--device and --browser are for those who sign in at an issuer: no `issuer` is configured under [id_token], \
             or the environment names other credentials",
        )),
        (Some(errand), Some(way)) => in_person(agent, &errand, way, selection),
        (Some(errand), None) => match ask(&selection)?.1 {
            Reply::Failed(failure) if failure.cause == Cause::SignIn => {
                if !sign_in::is_attended() {
                    return Err(unattended(failure));
                }
                in_person(agent, &errand, sign_in::usual_way(), selection)
            }
            other => Ok(other),
        },
    }
}

/// Nobody is before a terminal; but a browser may be opened, or a code shown, where that is asked for.
fn unattended(failure: Failure) -> Failure {
    let message = format!(
        "{}; without a terminal it must be told: `eic-login --browser`, or `eic-login --device`",
        failure.message
    );
    Failure { message, ..failure }
}

fn in_person(
    agent: &Agent,
    errand: &Errand,
    way: Way,
    selection: Selection,
) -> Result<Reply, Failure> {
    // Tokens are in this process for a moment.
    protect_memory().map_err(|e| Failure::of(&e).context("core dumps cannot be switched off"))?;
    let key = match agent.ask(Ask::PersonKey)?.1 {
        Reply::PersonKey(key) => key,
        other => return Ok(other),
    };
    let tokens = errand.tokens(way, &key)?;
    let ask = PersonAsk {
        selection,
        tokens,
        key,
    };
    Ok(agent.ask(Ask::SignInAs(Box::new(ask)))?.1)
}

/// What is still to be done before plain ssh works.
fn hint(paths: &Paths) -> Option<&'static str> {
    if Installation::new(&paths.ssh_dir).is_in_place() {
        None
    } else if paths.config_file().exists() {
        Some("ssh does not use this program yet: run `eic-login setup` again")
    } else {
        Some(
            "this machine is not set up: run `eic-login setup URL` with your CA's URL, or `eic-login setup --no-ca` \
             to use EC2 Instance Connect alone",
        )
    }
}

fn render(signed_in: &SignedIn) -> String {
    let mut text = match (&signed_in.ca, &signed_in.caller) {
        (Some(ca), Some(caller)) => format!(
            "Signed in at {} as {} ({}), {}.\nSession until {}; {}.\n",
            printable(ca),
            printable(&caller.name),
            standing(caller.name_standing),
            printable(&caller.identity()),
            moment(signed_in.expires_at.unwrap_or_default()),
            match signed_in.renews {
                true => "it renews itself while these credentials last",
                false => "it does not renew itself: the token serves one sign-in",
            },
        ),
        _ => format!(
            "No CA is configured: EC2 Instance Connect only, with the credentials of {}.\n",
            printable(&signed_in.selection)
        ),
    };
    text.push('\n');
    text.push_str(&table(&signed_in.instances, signed_in.ca.is_some()));
    if signed_in.truncated {
        text.push_str("... and more.\n");
    }
    text
}

fn standing(standing: NameStanding) -> &'static str {
    match standing {
        NameStanding::Attested => "name attested",
        NameStanding::Claimed => "name claimed: chosen by whoever started the session",
    }
}

fn table(instances: &[InstanceView], has_ca: bool) -> String {
    if instances.is_empty() {
        return "There is no host that you may log in to.\n".to_owned();
    }
    let rows = instances.iter().map(|view| row(view, has_ca));
    terminal::table(
        &["INSTANCE", "NAME", "USERS", "ADDRESS", "REGION", "LOGIN BY"],
        &rows.collect::<Vec<_>>(),
    )
}

fn row(view: &InstanceView, has_ca: bool) -> Vec<String> {
    let users: Vec<&str> = view
        .users
        .iter()
        .map(eic_protocol::os_user::OsUser::as_str)
        .collect();
    let or_dash = |text: String| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text
        }
    };
    vec![
        view.id.to_string(),
        or_dash(view.name.clone().unwrap_or_default()),
        or_dash(users.join(",")),
        or_dash(
            view.addresses
                .first()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        view.region.to_string(),
        told(&ways_in(view, has_ca)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_cache::tests::view;
    use eic_protocol::api::instance::Enrolment;
    use eic_protocol::api::session::CallerView;

    /// As an unnamed person whom no CA knows.
    fn without_ca(instances: Vec<InstanceView>) -> SignedIn {
        SignedIn {
            ca: None,
            caller: None,
            expires_at: None,
            renews: false,
            instances,
            truncated: false,
            notes: Vec::new(),
            selection: "profile dev".to_owned(),
        }
    }

    #[test]
    fn without_a_ca_no_host_is_said_to_open_to_a_certificate() {
        for (enrolment, way) in [
            (Enrolment::Enrolled, " none\n"),
            (Enrolment::Legacy, " pushed-key\n"),
            (Enrolment::Unknown, " pushed-key\n"),
        ] {
            let mut host = view("i-01234567", None);
            host.enrolment = enrolment;
            let text = render(&without_ca(vec![host]));
            assert!(text.ends_with(way), "{enrolment:?}: {text}");
        }
    }

    #[test]
    fn the_answer_tells_who_where_and_what_without_escapes() {
        // H-15: a Name tag is anybody's text.
        let mut host = view("i-01234567", Some("web\u{1b}]0;owned\u{7}"));
        host.enrolment = Enrolment::Legacy;
        host.addresses = vec!["10.0.0.5".parse().unwrap()];
        host.users = vec!["ubuntu".parse().unwrap()];
        let caller = CallerView {
            arn: "arn:aws:sts::123456789012:assumed-role/Dev/alice"
                .parse()
                .ok(),
            issuer: None,
            user_id: "AROA:alice".to_owned(),
            name: "alice".to_owned(),
            name_standing: NameStanding::Claimed,
        };
        let signed_in = SignedIn {
            ca: Some("https://ca.example".to_owned()),
            caller: Some(caller),
            expires_at: Some(0),
            truncated: true,
            ..without_ca(vec![host])
        };
        let text = render(&signed_in);
        assert!(!text.contains('\u{1b}'));
        for told in [
            "as alice (name claimed",
            "1970-01-01T00:00:00Z; it does not renew itself",
            "i-01234567",
            "ubuntu",
            "10.0.0.5",
            "pushed-key",
            "and more",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
}
