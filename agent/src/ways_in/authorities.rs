//! TrustedUserCAKeys and what decides which names of their certificates count.

use std::path::Path;

use super::account::Account;
use super::key_file::{files, open_to_others, read_regular};
use super::key_line::KeyLine;
use super::{Kind, WayIn};
use crate::sshd::{Settings, Version};

const MAX_BYTES: u64 = 1024 * 1024;

/// The authorities for an account, and the names that its principals file holds.
pub(super) fn ways(account: &Account, settings: &Settings) -> Vec<WayIn> {
    let names = names(account, settings);
    let mut ways = Vec::new();
    for file in settings.values("TrustedUserCAKeys") {
        let bytes = read_regular(file.as_ref(), MAX_BYTES).unwrap_or_default();
        for (number, line) in authorities(&String::from_utf8_lossy(&bytes)) {
            let what = format!("{}, {}", line.shown(), names.said);
            ways.push(
                WayIn::new(Kind::CertificateAuthority, what, format!("{file}:{number}"))
                    .blocked(names.blocked.clone()),
            );
        }
    }
    if !ways.is_empty() {
        ways.extend(names.listed);
    }
    ways
}

/// The keys up to the first line that holds none: sshd stops there (authfile.c).
fn authorities(text: &str) -> Vec<(usize, KeyLine)> {
    let lines = text.lines().enumerate();
    let relevant = lines.filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    relevant
        .map_while(|(index, line)| Some((index + 1, KeyLine::parse(line)?)))
        .take_while(|(_, line)| line.options.is_none())
        .collect()
}

/// Which names count.
struct Names {
    said: String,
    blocked: Option<String>,
    listed: Vec<WayIn>,
}

fn names(account: &Account, settings: &Settings) -> Names {
    let patterns = settings.values("AuthorizedPrincipalsFile");
    let command = settings.values("AuthorizedPrincipalsCommand");
    let mut listed = Vec::new();
    for pattern in &patterns {
        for file in files(pattern, account, Version { major: 0, minor: 0 }) {
            listed.extend(principals(&file, account, settings));
        }
    }
    let (said, blocked) = match (patterns.is_empty(), command.is_empty()) {
        (true, true) => (
            format!("for certificates that name `{}`", account.name),
            None,
        ),
        (_, false) => (
            "for the names that AuthorizedPrincipalsCommand prints".to_owned(),
            None,
        ),
        (false, true) => {
            let none = listed
                .is_empty()
                .then(|| "AuthorizedPrincipalsFile names nobody for it".to_owned());
            ("for the names in AuthorizedPrincipalsFile".to_owned(), none)
        }
    };
    Names {
        said,
        blocked,
        listed,
    }
}

/// The last word of each line is a name, what stands before it are options (sshd_config(5),
/// AuthorizedPrincipalsFile); everything from `#` on is cut.
fn principals(file: &Path, account: &Account, settings: &Settings) -> Vec<WayIn> {
    let bytes = read_regular(file, MAX_BYTES).unwrap_or_default();
    let distrusted = super::further::is_on(settings, "StrictModes")
        .then(|| open_to_others(file, account))
        .flatten();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let line = line.split('#').next().unwrap_or_default().trim();
            let (options, name) = line.rsplit_once([' ', '\t']).unwrap_or(("", line));
            let from = format!("{}:{}", file.display(), index + 1);
            let mut way = WayIn::new(Kind::Principal, name, from).blocked(distrusted.clone());
            way.options = Some(options.trim())
                .filter(|o| !o.is_empty())
                .map(eic_protocol::text::printable);
            (!name.is_empty()).then_some(way)
        })
        .collect()
}
