//! Every way in that sshd would accept on this host: keys, authorities, commands, passwords, and what else is on.
//!
//! Reads what sshd reads, by sshd's own effective configuration for each account (`sshd -T -C user=…`). It judges
//! no login: restrictions that only a connection shows (addresses, PAM, RevokedKeys) stand beside the list.

mod account;
mod authorities;
pub(crate) mod further;
mod key_file;
mod key_line;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::account::AccountError;
use self::account::{Account, Accounts};
use crate::config::Config;
use crate::sshd::{Settings, Sshd, SshdError, Version};

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// One account only.
    pub user: Option<String>,
    /// For programs.
    pub json: bool,
    /// Another folder than `/etc/ssh`.
    pub config_dir: Option<PathBuf>,
    /// Another sshd than `/usr/sbin/sshd`.
    pub sshd: Option<PathBuf>,
}

/// How somebody gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One public key.
    Key,
    /// A key that signs certificates.
    CertificateAuthority,
    /// A name that a certificate may carry, from a file.
    Principal,
    /// A program that is asked for keys or names.
    Command,
    /// The account's password.
    Password,
    /// Whatever PAM asks.
    KeyboardInteractive,
    /// Another host's word.
    HostBased,
    /// A Kerberos ticket.
    Kerberos,
}

/// One way in, for every account that it opens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct WayIn {
    /// How.
    pub kind: Kind,
    /// Which key, command or setting.
    pub what: String,
    /// The file and line, or sshd's keyword.
    pub from: String,
    /// Options that come with a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
    /// Why sshd refuses it for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// All ways, each with its accounts, and what else decides.
#[derive(Debug, Serialize)]
struct Listing {
    sshd: String,
    accounts: usize,
    ways: Vec<Shared>,
    remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Shared {
    users: Vec<String>,
    #[serde(flatten)]
    way: WayIn,
}

/// The list as text, or as JSON.
///
/// # Errors
/// Not root (other people's files must be read), no such account, or sshd refuses its configuration.
pub fn list(options: &ListOptions, config: &Config) -> Result<String, ListError> {
    if !rustix::process::geteuid().is_root() {
        return Err(ListError::NotRoot);
    }
    let program = options
        .sshd
        .as_deref()
        .unwrap_or(Path::new("/usr/sbin/sshd"));
    let folder = options
        .config_dir
        .as_deref()
        .unwrap_or(Path::new("/etc/ssh"));
    let sshd = Sshd::find(program, folder)?;
    let accounts = Accounts::read()?.selected(options.user.as_deref())?;
    let listing = collect(&sshd, &accounts, config)?;
    if options.json {
        let text = serde_json::to_string_pretty(&listing).map_err(ListError::Json)?;
        Ok(format!("{text}\n"))
    } else {
        Ok(listing.text())
    }
}

fn collect(sshd: &Sshd, accounts: &[Account], config: &Config) -> Result<Listing, ListError> {
    let mut users_of: BTreeMap<WayIn, Vec<String>> = BTreeMap::new();
    let mut remarks = Vec::new();
    for account in accounts {
        let settings = sshd.effective(&account.name)?;
        for way in of_account(account, &settings, sshd.version, config) {
            users_of.entry(way).or_default().push(account.name.clone());
        }
        for remark in further::remarks(&settings) {
            if !remarks.contains(&remark) {
                remarks.push(remark);
            }
        }
    }
    let shared = users_of
        .into_iter()
        .map(|(way, users)| Shared { users, way });
    Ok(Listing {
        sshd: sshd.version.to_string(),
        accounts: accounts.len(),
        ways: shared.collect(),
        remarks,
    })
}

/// Every way into one account; an account that may not log in keeps its ways, each with the reason.
fn of_account(
    account: &Account,
    settings: &Settings,
    version: Version,
    config: &Config,
) -> Vec<WayIn> {
    let mut ways = Vec::new();
    if further::is_on(settings, "PubkeyAuthentication") {
        ways.extend(key_file::ways(account, settings, version));
        ways.extend(authorities::ways(account, settings));
        ways.extend(further::commands(settings, config));
    }
    ways.extend(further::without_keys(account, settings));
    let barred = account.barred(settings);
    for way in &mut ways {
        way.blocked = way
            .blocked
            .take()
            .or_else(|| barred.clone())
            .or_else(|| account.root_rule(way, settings));
    }
    ways
}

impl WayIn {
    fn new(kind: Kind, what: impl Into<String>, from: impl Into<String>) -> Self {
        Self {
            kind,
            what: eic_protocol::text::printable(&what.into()),
            from: eic_protocol::text::printable(&from.into()),
            options: None,
            blocked: None,
        }
    }

    fn blocked(mut self, reason: Option<String>) -> Self {
        self.blocked = self.blocked.or(reason);
        self
    }
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::CertificateAuthority => "certificate authority",
            Self::Principal => "certificate name",
            Self::Command => "command",
            Self::Password => "password",
            Self::KeyboardInteractive => "keyboard-interactive",
            Self::HostBased => "host-based",
            Self::Kerberos => "kerberos",
        }
    }
}

impl Listing {
    fn text(&self) -> String {
        let mut text = String::new();
        for (title, is_blocked) in [("accepted", false), ("refused for now", true)] {
            let shown: Vec<&Shared> = self
                .ways
                .iter()
                .filter(|shared| shared.way.blocked.is_some() == is_blocked)
                .collect();
            text.push_str(&format!("{title} by {}: {}\n", self.sshd, shown.len()));
            for shared in shown {
                text.push_str(&format!("  {}\n", shared.line(self.accounts)));
            }
        }
        for remark in &self.remarks {
            text.push_str(&format!("note: {remark}\n"));
        }
        text
    }
}

impl Shared {
    fn line(&self, accounts: usize) -> String {
        let users = if self.users.len() == accounts && accounts > 1 {
            "every account".to_owned()
        } else {
            self.users.join(",")
        };
        let way = &self.way;
        let mut line = format!("{users}: {} {} ({})", way.kind.words(), way.what, way.from);
        if let Some(options) = &way.options {
            line.push_str(&format!(" [{options}]"));
        }
        if let Some(reason) = &way.blocked {
            line.push_str(&format!(": {reason}"));
        }
        line
    }
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Not root.
    #[error("list the keys of every account: run this as root")]
    NotRoot,
    /// sshd.
    #[error(transparent)]
    Sshd(#[from] SshdError),
    /// The accounts.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// Not expressible.
    #[error("write the list")]
    Json(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests;
