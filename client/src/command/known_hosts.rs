//! `eic-login known-hosts`: ssh's KnownHostsCommand. Prints the one key that is good for the login, or nothing.
//! Writes no file, and trusts no pattern that a server sent (H-09).

use std::ffi::OsString;

use eic_protocol::subject_key::SubjectKey;

use super::options::Options;
use crate::control::client::Agent;
use crate::control::message::{Ask, HostKeyAsk, Reply};
use crate::exit_code::{self, Failure};
use crate::terminal;

/// What ssh puts for `%K` while it orders its algorithms (sshconnect.c, `load_hostkeys_command`).
const NO_KEY: &str = "NONE";

/// Runs the command.
pub(super) fn run(args: &[OsString]) -> Result<(), Failure> {
    let options = Options::parse(args, &["dir", "user", "host", "port", "name", "key"])?;
    let login = options.login()?;
    let name = known_hosts_name(options.text("name")?)?;
    let key = Some(options.text("key")?)
        .filter(|key| *key != NO_KEY)
        .map(str::to_owned);
    let agent = Agent::new(&login.dir)?;
    match agent
        .ask(Ask::HostKey(HostKeyAsk {
            login: login.ask()?,
            key,
        }))?
        .1
    {
        Reply::KnownHost { keys, notes } => {
            notes.iter().for_each(|note| terminal::note(note));
            terminal::print(&lines(name, &keys)?);
            Ok(())
        }
        Reply::Failed(failure) => Err(failure),
        _ => Err(Failure::new(
            exit_code::FAILURE,
            "the resident agent gave an unexpected answer",
        )),
    }
}

/// `host` or `[host]:port`, as ssh searches for it; no pattern, list or marker.
fn known_hosts_name(name: &str) -> Result<&str, Failure> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._:-[]%/".contains(&b));
    if plain && !name.is_empty() && name.len() <= 300 {
        Ok(name)
    } else {
        Err(Failure::usage("--name is not a host name"))
    }
}

fn lines(name: &str, keys: &[String]) -> Result<String, Failure> {
    let mut text = String::new();
    for key in keys {
        // Parsed again here: a line of anything but one plain key never reaches ssh.
        let key: SubjectKey = key
            .parse()
            .map_err(|_| Failure::new(exit_code::FAILURE, "the resident agent answered no key"))?;
        text.push_str(&format!("{name} {key}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{EphemeralKey, KeyType};

    #[test]
    fn names_that_are_patterns_markers_or_several_are_refused() {
        // H-09
        for bad in [
            "",
            "*",
            "a,b",
            "a b",
            "!a",
            "@cert-authority *",
            "a\nb",
            "|1|x",
        ] {
            assert!(known_hosts_name(bad).is_err(), "{bad:?}");
        }
        for good in ["i-01234567", "[web-1]:2222", "fe80::1"] {
            assert!(known_hosts_name(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn only_plain_keys_are_printed_one_a_line() {
        // H-09
        let key = EphemeralKey::generate(KeyType::Ed25519)
            .unwrap()
            .public()
            .to_string();
        for bad in [
            "@revoked",
            "",
            "ssh-ed25519",
            &format!("{key}\n* {key}"),
            "* ssh-ed25519 AAAA",
        ] {
            assert!(lines("web-1", &[bad.to_owned()]).is_err(), "{bad:?}");
        }
        assert_eq!(
            lines("web-1", std::slice::from_ref(&key)).unwrap(),
            format!("web-1 {key}\n")
        );
        assert_eq!(lines("web-1", &[]).unwrap(), "");
    }
}
