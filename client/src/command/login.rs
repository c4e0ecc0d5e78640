//! `eic-login` without a command: sign in, and show who the CA says you are and what you may reach.

use eic_protocol::api::instance::{Enrolment, InstanceView};
use eic_protocol::api::session::NameStanding;
use eic_protocol::text::printable;

use super::{moment, paths, run_dir};
use crate::control::client::Agent;
use crate::control::message::{Ask, Reply, SignedIn};
use crate::credentials::Selection;
use crate::exit_code::{self, Failure};
use crate::paths::Paths;
use crate::ssh_config::installation::Installation;
use crate::terminal;

/// Runs the command.
pub(super) fn run() -> Result<(), Failure> {
    let paths = paths()?;
    let agent = Agent::new(&run_dir(&paths)?)?;
    match agent.ask(Ask::SignIn(Selection::from_env()))?.1 {
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
            "Signed in at {} as {} ({}), {}.\nSession until {}; it renews itself while these credentials last.\n",
            printable(ca),
            printable(&caller.name),
            standing(caller.name_standing),
            printable(&caller.identity()),
            moment(signed_in.expires_at.unwrap_or_default()),
        ),
        _ => format!(
            "No CA is configured: EC2 Instance Connect only, with the credentials of {}.\n",
            printable(&signed_in.selection)
        ),
    };
    text.push('\n');
    text.push_str(&table(&signed_in.instances));
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

fn table(instances: &[InstanceView]) -> String {
    if instances.is_empty() {
        return "There is no host that you may log in to.\n".to_owned();
    }
    let rows: Vec<Vec<String>> = instances.iter().map(row).collect();
    terminal::table(
        &["INSTANCE", "NAME", "USERS", "ADDRESS", "REGION", "LOGIN BY"],
        &rows,
    )
}

fn row(view: &InstanceView) -> Vec<String> {
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
        match view.enrolment {
            Enrolment::Enrolled => "certificate",
            Enrolment::Legacy => "pushed key",
            Enrolment::Unknown => "-",
        }
        .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use eic_protocol::api::instance::InstanceConnectMode;
    use eic_protocol::api::session::CallerView;

    #[test]
    fn the_answer_tells_who_where_and_what_without_escapes() {
        // H-15: a Name tag is anybody's text.
        let view = InstanceView {
            id: "i-01234567".parse().unwrap(),
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            availability_zone: None,
            name: Some("web\u{1b}]0;owned\u{7}".to_owned()),
            private_dns: None,
            addresses: vec!["10.0.0.5".parse().unwrap()],
            ssh_port: 22,
            enrolment: Enrolment::Legacy,
            instance_connect: InstanceConnectMode::On,
            users: vec!["ubuntu".parse().unwrap()],
            host_keys: Vec::new(),
        };
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
            instances: vec![view],
            truncated: true,
            notes: Vec::new(),
            selection: "profile dev".to_owned(),
        };
        let text = render(&signed_in);
        assert!(!text.contains('\u{1b}'));
        for told in [
            "as alice (name claimed",
            "1970-01-01T00:00:00Z",
            "i-01234567",
            "ubuntu",
            "10.0.0.5",
            "pushed key",
            "and more",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
}
