//! The pinned fingerprints and chained commands in an existing configuration: changed in place, every other
//! byte kept.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::InstallError;
use super::existing::OtherCommand;
use crate::chained::ChainedCommand;
use crate::chained::tokens::Template;
use crate::config::Config;
use crate::fingerprint::Fingerprint;

/// `existing` with `[trust] root_fingerprints` set to `pins`.
///
/// # Errors
/// The file is no valid configuration, or written in a way that cannot be edited without guessing.
pub(super) fn with_pins(
    existing: Option<&str>,
    pins: &BTreeSet<Fingerprint>,
    path: &Path,
) -> Result<String, InstallError> {
    let existing = existing.unwrap_or(FRESH);
    let config = Config::parse(existing)?;
    if config.trust.root_fingerprints == *pins {
        return Ok(existing.to_owned());
    }
    let list: Vec<String> = pins.iter().map(|pin| format!("\"{pin}\"")).collect();
    let value = format!("[{}]", list.join(", "));
    let edited = edit(existing, &value);
    // The editor may be fooled by an unusual layout; the parser is not.
    match Config::parse(&edited) {
        Ok(read) if read.trust.root_fingerprints == *pins && same_besides(&read, &config) => {
            Ok(edited)
        }
        _ => Err(InstallError::Edit {
            path: path.to_path_buf(),
            line: format!("root_fingerprints = {value}"),
        }),
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

#[derive(Deserialize)]
struct Probe {
    trust: Option<ProbeTrust>,
}

#[derive(Deserialize)]
struct ProbeTrust {
    root_fingerprints: Option<Spanned<Vec<String>>>,
}

fn edit(existing: &str, value: &str) -> String {
    let trust = toml::from_str::<Probe>(existing)
        .ok()
        .and_then(|probe| probe.trust);
    if let Some(span) = trust
        .as_ref()
        .and_then(|trust| trust.root_fingerprints.as_ref())
        .map(Spanned::span)
    {
        let (before, after) = (existing.get(..span.start), existing.get(span.end..));
        return [before.unwrap_or_default(), value, after.unwrap_or_default()].concat();
    }
    let line = format!("root_fingerprints = {value}\n");
    match after_header(existing) {
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
            format!("{existing}{gap}\n[trust]\n{line}")
        }
    }
}

/// Where the line after `[trust]` begins.
fn after_header(text: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if line
            .split('#')
            .next()
            .is_some_and(|code| code.trim() == "[trust]")
            && line.ends_with('\n')
        {
            return Some(at);
        }
    }
    None
}

fn same_besides(a: &Config, b: &Config) -> bool {
    a.trust.state == b.trust.state
        && a.trust.bare_principals == b.trust.bare_principals
        && a.authorized_keys == b.authorized_keys
        && a.instance_connect.roots == b.instance_connect.roots
        && a.instance_connect.imds_endpoint == b.instance_connect.imds_endpoint
        && a.instance_connect.extra_key_types == b.instance_connect.extra_key_types
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
    fn a_second_time_changes_nothing() {
        let once = pinned(None).unwrap();
        assert_eq!(pinned(Some(&once)).unwrap(), once);
        let own_layout = format!("[trust]\nroot_fingerprints = [ '{A}' ]\n");
        assert_eq!(pinned(Some(&own_layout)).unwrap(), own_layout);
    }
}
