//! The pinned fingerprints, the CA's address and chained commands in an existing configuration: changed in place,
//! every other byte kept.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::proof::Audience;
use serde::Deserialize;
use toml::Spanned;

use super::InstallError;
use super::existing::OtherCommand;
use crate::chained::ChainedCommand;
use crate::chained::tokens::Template;
use crate::config::Config;

/// `existing` with `[trust] root_fingerprints` set to `pins`.
///
/// # Errors
/// The file is no valid configuration, or written in a way that cannot be edited without guessing.
pub(super) fn with_pins(
    existing: Option<&str>,
    pins: &BTreeSet<KeyFingerprint>,
    path: &Path,
) -> Result<String, InstallError> {
    let existing = existing.unwrap_or(FRESH);
    let config = Config::parse(existing)?;
    if config.trust.root_fingerprints == *pins {
        return Ok(existing.to_owned());
    }
    let list: Vec<String> = pins.iter().map(|pin| format!("\"{pin}\"")).collect();
    let span = probe(existing)
        .trust
        .and_then(|trust| trust.root_fingerprints)
        .map(|value| value.span());
    let place = Place {
        table: "trust",
        key: "root_fingerprints",
        path,
    };
    let value = format!("[{}]", list.join(", "));
    place.set(existing, &value, span, |read| {
        read.trust.root_fingerprints == *pins
    })
}

/// `text` with `[service] ca` set.
///
/// # Errors
/// As [`with_pins`].
pub(super) fn with_ca(text: &str, ca: &Audience, path: &Path) -> Result<String, InstallError> {
    if Config::parse(text)?.service.ca.as_ref() == Some(ca) {
        return Ok(text.to_owned());
    }
    let span = probe(text)
        .service
        .and_then(|service| service.ca)
        .map(|value| value.span());
    let place = Place {
        table: "service",
        key: "ca",
        path,
    };
    place.set(text, &format!("\"{ca}\""), span, |read| {
        read.service.ca.as_ref() == Some(ca)
    })
}

/// `text` with `[service] command_user` set: the helper's door for logins serves that account.
///
/// # Errors
/// As [`with_pins`].
pub(super) fn with_command_user(
    text: &str,
    user: &str,
    path: &Path,
) -> Result<String, InstallError> {
    let span = probe(text)
        .service
        .and_then(|service| service.command_user)
        .map(|value| value.span());
    let place = Place {
        table: "service",
        key: "command_user",
        path,
    };
    // A JSON string is a TOML string as well.
    let value = serde_json::Value::from(user).to_string();
    place.set(text, &value, span, |read| {
        read.service.command_user.as_deref() == Some(user)
    })
}

/// A setting of the configuration's file.
struct Place<'a> {
    table: &'static str,
    key: &'static str,
    path: &'a Path,
}

impl Place<'_> {
    /// `existing` with the setting's value at `span`, or below its table's head, or in a new table at the end.
    fn set(
        &self,
        existing: &str,
        value: &str,
        span: Option<Range<usize>>,
        is_set: impl Fn(&Config) -> bool,
    ) -> Result<String, InstallError> {
        let edited = self.edit(existing, value, span);
        // The editor may be fooled by an unusual layout; the parser is not.
        match Config::parse(&edited) {
            Ok(read) if is_set(&read) && self.others(&edited) == self.others(existing) => {
                Ok(edited)
            }
            _ => Err(InstallError::Edit {
                path: self.path.to_path_buf(),
                table: self.table,
                line: format!("{} = {value}", self.key),
            }),
        }
    }

    fn edit(&self, existing: &str, value: &str, span: Option<Range<usize>>) -> String {
        if let Some(span) = span {
            let (before, after) = (existing.get(..span.start), existing.get(span.end..));
            return [before.unwrap_or_default(), value, after.unwrap_or_default()].concat();
        }
        let line = format!("{} = {value}\n", self.key);
        let head = format!("[{}]", self.table);
        match after_header(existing, &head) {
            Some(at) => {
                let (before, after) = existing.split_at(at);
                format!("{before}{line}{after}")
            }
            None => {
                let gap = if existing.ends_with('\n') || existing.is_empty() {
                    ""
                } else {
                    "\n"
                };
                format!("{existing}{gap}\n{head}\n{line}")
            }
        }
    }

    /// Everything else that a text says.
    fn others(&self, text: &str) -> Option<toml::Table> {
        let mut all: toml::Table = text.parse().ok()?;
        if let Some(toml::Value::Table(table)) = all.get_mut(self.table) {
            table.remove(self.key);
            if table.is_empty() {
                all.remove(self.table);
            }
        }
        Some(all)
    }
}

/// `text` with each of `commands` among its chained commands; those that it has already are not repeated.
///
/// # Errors
/// A command cannot be chained: the error names it and the reason.
pub(super) fn with_commands(text: &str, commands: &[OtherCommand]) -> Result<String, InstallError> {
    let mut edited = text.to_owned();
    for command in commands {
        let present = Config::parse(&edited)?.authorized_keys.command;
        if present
            .iter()
            .any(|chained| is_same(chained, &command.words))
        {
            continue;
        }
        // A JSON string is a TOML string as well.
        let words: Vec<String> = command
            .words
            .iter()
            .map(|word| serde_json::Value::from(word.as_str()).to_string())
            .collect();
        edited.push_str(&format!(
            "\n# Was sshd's AuthorizedKeysCommand in {}\n[[authorized_keys.command]]\ncommand = [{}]\n",
            eic_protocol::text::printable(&command.place),
            words.join(", ")
        ));
        Config::parse(&edited).map_err(|source| InstallError::Chain {
            command: command.words.join(" "),
            place: command.place.clone(),
            source,
        })?;
    }
    Ok(edited)
}

fn is_same(chained: &ChainedCommand, words: &[String]) -> bool {
    let Some((program, arguments)) = words.split_first() else {
        return false;
    };
    let parsed: Option<Vec<Template>> = arguments
        .iter()
        .map(|word| Template::parse(word).ok())
        .collect();
    // sshd gives a command without arguments the user name, and so does the agent.
    let parsed = parsed.map(|p| {
        if p.is_empty() {
            vec![Template::user()]
        } else {
            p
        }
    });
    chained.program == Path::new(program) && parsed.as_ref() == Some(&chained.arguments)
}

const FRESH: &str = "# Configuration of eic-agent. Only root may be able to write this file.\n";

/// Where the values stand that are edited.
#[derive(Default, Deserialize)]
struct Probe {
    trust: Option<ProbeTrust>,
    service: Option<ProbeService>,
}

#[derive(Deserialize)]
struct ProbeTrust {
    root_fingerprints: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize)]
struct ProbeService {
    ca: Option<Spanned<String>>,
    command_user: Option<Spanned<String>>,
}

fn probe(text: &str) -> Probe {
    toml::from_str(text).unwrap_or_default()
}

/// Where the line after a table's head begins.
fn after_header(text: &str, head: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        let code = line.split('#').next().unwrap_or_default();
        if code.trim() == head && line.ends_with('\n') {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const B: &str = "SHA256:BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn pinned(existing: Option<&str>) -> Result<String, InstallError> {
        with_pins(
            existing,
            &[A.parse().unwrap()].into(),
            Path::new("/etc/eic/agent.toml"),
        )
    }

    #[test]
    fn wrong_configurations_are_refused() {
        assert!(matches!(
            pinned(Some("nonsense = 1\n")),
            Err(InstallError::Config(_))
        ));
        assert!(matches!(
            pinned(Some("[trust\n")),
            Err(InstallError::Config(_))
        ));
    }

    #[test]
    fn layouts_that_cannot_be_edited_are_refused_not_guessed() {
        let inline = "trust = { bare_principals = true }\n";
        assert!(matches!(
            pinned(Some(inline)),
            Err(InstallError::Edit { .. })
        ));
    }

    #[test]
    fn a_new_file_holds_the_pin_only() {
        assert_eq!(
            pinned(None).unwrap(),
            format!("{FRESH}\n[trust]\nroot_fingerprints = [\"{A}\"]\n")
        );
    }

    #[test]
    fn other_settings_and_comments_are_kept() {
        let before = "# mine\n[instance_connect]\nroots = \"/r.pem\" # why\n\n[trust] # keys\nbare_principals = true\n";
        let after = pinned(Some(before)).unwrap();
        assert_eq!(
            after,
            before.replace(
                "# keys\n",
                &format!("# keys\nroot_fingerprints = [\"{A}\"]\n")
            )
        );
        let only_other = "[instance_connect]\nroots = \"/r.pem\"";
        assert_eq!(
            pinned(Some(only_other)).unwrap(),
            format!("{only_other}\n\n[trust]\nroot_fingerprints = [\"{A}\"]\n")
        );
    }

    #[test]
    fn another_pin_is_replaced_in_place() {
        let before =
            format!("[trust]\nroot_fingerprints = [\n  \"{B}\", # old\n]\nstate = \"/s\"\n");
        assert_eq!(
            pinned(Some(&before)).unwrap(),
            format!("[trust]\nroot_fingerprints = [\"{A}\"]\nstate = \"/s\"\n")
        );
    }

    fn other(words: &[&str]) -> OtherCommand {
        OtherCommand {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            user: None,
            place: "/etc/ssh/sshd_config:3".to_owned(),
        }
    }

    #[test]
    fn a_command_that_cannot_be_chained_is_refused_with_the_reason() {
        let refused = with_commands("", &[other(&["/usr/bin/x", "%q"])]).unwrap_err();
        assert!(matches!(&refused, InstallError::Chain { .. }), "{refused}");
        assert!(refused.to_string().contains("sshd_config:3"), "{refused}");
    }

    #[test]
    fn a_command_is_chained_once() {
        let commands = [
            other(&["/usr/bin/sss_ssh_authorizedkeys"]),
            other(&["/opt/x", "%u", "a b"]),
        ];
        let once = with_commands("# mine\n", &commands).unwrap();
        assert!(once.starts_with("# mine\n\n# Was sshd's"), "{once}");
        assert!(
            once.contains("command = [\"/opt/x\", \"%u\", \"a b\"]\n"),
            "{once}"
        );
        assert_eq!(
            Config::parse(&once)
                .unwrap()
                .authorized_keys
                .command
                .iter()
                .count(),
            2
        );
        assert_eq!(with_commands(&once, &commands).unwrap(), once);
    }

    #[test]
    fn the_cas_address_is_set_in_place_or_added() {
        let ca = "https://ca.example".parse().unwrap();
        let set = |text: &str| with_ca(text, &ca, Path::new("/etc/eic/agent.toml"));
        let line = "ca = \"https://ca.example\"\n";
        assert_eq!(
            set("# mine\n").unwrap(),
            format!("# mine\n\n[service]\n{line}")
        );
        let other = "[service] # s\nca = \"https://old.example\" # c\nreport = false\n";
        assert_eq!(set(other).unwrap(), other.replace("old.", "ca."));
        let without = "[service]\nreport = false\n[service.sshd]\nprogram = \"/s\"\n";
        let set_once = set(without).unwrap();
        assert_eq!(
            set_once,
            without.replace("[service]\n", &format!("[service]\n{line}"))
        );
        assert_eq!(set(&set_once).unwrap(), set_once);
        for odd in ["service = { report = false }\n", "service.report = false\n"] {
            assert!(matches!(set(odd), Err(InstallError::Edit { .. })), "{odd}");
        }
    }

    #[test]
    fn another_account_for_the_commands_is_set_beside_the_cas_address() {
        let path = Path::new("/etc/eic/agent.toml");
        let text = "[service]\nca = \"https://ca.example\"\n";
        let set = with_command_user(text, "svc", path).unwrap();
        assert_eq!(
            set,
            text.replace("[service]\n", "[service]\ncommand_user = \"svc\"\n")
        );
        let again = with_command_user(&set, "other", path).unwrap();
        assert_eq!(again, set.replace("svc", "other"));
    }

    #[test]
    fn a_second_time_changes_nothing() {
        let once = pinned(None).unwrap();
        assert_eq!(pinned(Some(&once)).unwrap(), once);
        let own_layout = format!("[trust]\nroot_fingerprints = [ '{A}' ]\n");
        assert_eq!(pinned(Some(&own_layout)).unwrap(), own_layout);
    }
}
