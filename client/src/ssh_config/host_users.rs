//! `~/.ssh/eic.hosts`: the account for each known host, so that `ssh web-1` does not log in as the laptop's user.
//! Written from the inventory, included by our block. It names no host that the block's patterns do not cover:
//! a tag in somebody's account never changes where other names lead, nor as whom (H-17).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eic_protocol::api::instance::InstanceView;
use eic_protocol::os_user::OsUser;

use super::block::OWN_PATTERNS;
use crate::config::Config;
use crate::files::{self, FileError};
use crate::host_name::{HostName, matches_pattern};

/// Most hosts that are written: ssh reads the file at every start.
const MAX_HOSTS: usize = 10_000;
/// Largest file that is compared. Bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The file in a `~/.ssh`.
#[must_use]
pub fn file(ssh_dir: &Path) -> PathBuf {
    ssh_dir.join("eic.hosts")
}

/// The file's text for these hosts.
#[must_use]
pub fn render(hosts: &[&InstanceView], config: &Config) -> String {
    let mut users: BTreeMap<HostName, Option<OsUser>> = BTreeMap::new();
    for view in hosts {
        let user = user(view, config);
        for name in names(view, config) {
            let told = users.entry(name).or_insert_with(|| user.clone());
            // One name of two hosts: an account for it only where both have the same.
            if *told != user {
                *told = None;
            }
        }
    }
    let mut text =
        "# Written by `eic-login hosts` and at each sign-in; removed by `eic-login setup --undo`.\n"
            .to_owned();
    let known = users.iter().filter_map(|(n, u)| Some((n, u.as_ref()?)));
    for (name, user) in known.take(MAX_HOSTS) {
        text.push_str(&format!("Host {name}\n    User {user}\n"));
    }
    text
}

/// Writes it where it changed.
///
/// # Errors
/// [`FileError`].
pub fn write(ssh_dir: &Path, text: &str) -> Result<(), FileError> {
    let file = file(ssh_dir);
    let before = files::read_capped(&file, MAX_FILE).ok().flatten();
    if before.as_deref() == Some(text.as_bytes()) {
        return Ok(());
    }
    files::write_atomic(&file, text.as_bytes(), 0o600)
}

/// The account for a host: the profile's, else the first that tag, image or policy name. Root is nobody's default.
#[must_use]
pub fn user(view: &InstanceView, config: &Config) -> Option<OsUser> {
    let own = |name: &str| config.profile(name).user;
    let profile = view.name.as_deref().and_then(own);
    let profile = profile.or_else(|| own(view.id.as_str()));
    let mut known = view.users.iter();
    profile.or_else(|| known.find(|user| user.as_str() != "root").cloned())
}

/// What a host may be called on ssh's command line, as far as our block covers it.
fn names(view: &InstanceView, config: &Config) -> Vec<HostName> {
    let texts = [
        Some(view.id.to_string()),
        view.name.clone(),
        view.private_dns.clone(),
    ];
    let names = texts
        .into_iter()
        .flatten()
        .filter_map(|name| name.parse().ok());
    let own = config
        .aliases
        .iter()
        .filter(|(_, host)| {
            host.as_str() == view.id.as_str() || Some(host.as_str()) == view.name.as_deref()
        })
        .map(|(alias, _)| alias.clone());
    names
        .chain(own)
        .filter(|name| is_covered(name, config))
        .collect()
}

/// Whether plain ssh comes by this program for a host.
#[must_use]
pub fn is_covered(name: &HostName, config: &Config) -> bool {
    let patterns = config.patterns.iter().map(String::as_str);
    OWN_PATTERNS
        .into_iter()
        .chain(patterns)
        .any(|pattern| matches_pattern(pattern, name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_cache::tests::view;

    fn host(id: &str, name: &str, users: &[&str]) -> InstanceView {
        InstanceView {
            users: users.iter().map(|user| user.parse().unwrap()).collect(),
            ..view(id, Some(name))
        }
    }

    fn config() -> Config {
        toml::from_str(
            "patterns = [\"web-*\"]\n[[host]]\nmatch = \"web-9\"\nuser = \"deploy\"\n[alias]\nweb-main = \"web-1\"\n",
        )
        .unwrap()
    }

    #[test]
    fn names_outside_the_patterns_and_names_that_are_no_names_are_not_written() {
        // H-17, H-03: a Name tag is anybody's text.
        let hosts = [
            host("i-00000001", "github.com", &["ubuntu"]),
            host("i-00000002", "web-1\n    ProxyCommand id", &["ubuntu"]),
            host("i-00000003", "web-* *", &["ubuntu"]),
            host("i-00000004", "*", &["ubuntu"]),
        ];
        let text = render(&hosts.iter().collect::<Vec<_>>(), &config());
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("Host ")).collect();
        assert_eq!(
            lines,
            [
                "Host i-00000001",
                "Host i-00000002",
                "Host i-00000003",
                "Host i-00000004"
            ]
        );
        assert!(!text.contains("Proxy"));
    }

    #[test]
    fn each_host_has_its_account_and_an_ambiguous_name_has_none() {
        let hosts = [
            host("i-00000001", "web-1", &["root", "ubuntu"]),
            host("i-00000002", "web-2", &[]),
            host("i-00000003", "web-3", &["admin"]),
            host("i-00000004", "web-3", &["ubuntu"]),
            host("i-00000005", "web-9", &["ubuntu"]),
        ];
        let text = render(&hosts.iter().collect::<Vec<_>>(), &config());
        for told in [
            "Host web-1\n    User ubuntu\n",
            "Host web-main\n    User ubuntu\n",
            "Host i-00000003\n    User admin\n",
            "Host web-9\n    User deploy\n",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
        assert!(!text.contains("web-3") && !text.contains("web-2"), "{text}");
    }
}
