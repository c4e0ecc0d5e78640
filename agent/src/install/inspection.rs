//! What is installed, looked at again: whether sshd still asks this program, and whether it would get an answer.
//! Reads only; `status` and `doctor` tell what it finds.

use std::path::{Path, PathBuf};

use super::accounts::{self, Account};
use super::drop_in::KEYWORDS;
use super::execution::principals_for_root;
use super::existing::lost_cas;
use super::manifest::Manifest;
use super::placement::foreign;
use super::plan::CA_KEYS;
use super::{SshdOptions, System, ca_keys, effective, overrides, revoked_keys, service};
use crate::commands::cannot;
use crate::config::Config;
use crate::passwd::AMAZONS_COMMAND_USER;
use crate::sshd::Sshd;
use crate::sshd::config_file::{self, Statement, words};
use crate::trust_state::TrustState;
use crate::ways_in::further::closed_commands;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    /// The sshd, if there is one.
    pub(crate) sshd: Option<Sshd>,
    /// Where our lines stand.
    pub(crate) lines_in: Option<PathBuf>,
    /// Whether sshd uses them for everybody that was looked at.
    pub(crate) effective: bool,
    /// When the first installation was made.
    pub(crate) installed: Option<u64>,
    /// The host certificate that our lines name.
    pub(crate) host_certificate: Option<PathBuf>,
    /// What is wrong, each with its remedy.
    pub(crate) problems: Vec<Problem>,
    /// What the administrator may want to know.
    pub(crate) remarks: Vec<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) what: String,
    pub(crate) fix: String,
}

impl Inspection {
    /// Looks at sshd, its configuration and the files that it is told to read.
    pub(crate) fn make(
        options: &SshdOptions,
        system: &System,
        config: &Config,
        trust: Option<&TrustState>,
    ) -> Self {
        let mut found = Self::default();
        let state = &config.trust.state;
        if let Ok(Some(manifest)) = Manifest::load(state, &system.trusted) {
            found.installed = manifest.installed;
        }
        match Sshd::find(&options.program, &options.config_dir) {
            Ok(sshd) => found.look_at_sshd(sshd, options, system, trust),
            Err(e) => found.wrong(
                cannot(&e),
                "install openssh-server, or name sshd with --sshd",
            ),
        }
        found.remarks.extend(closed_commands(config));
        found.look_at_files(state, system, trust);
        found
    }

    fn wrong(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem {
            what: what.into(),
            fix: fix.into(),
        });
    }

    fn look_at_sshd(
        &mut self,
        sshd: Sshd,
        options: &SshdOptions,
        system: &System,
        trust: Option<&TrustState>,
    ) {
        if let Err(e) = sshd.test() {
            self.wrong(
                cannot(&e),
                "correct the line that sshd names; a restart of sshd would fail",
            );
        }
        let statements = config_file::read(&sshd.config);
        let others = foreign(&statements, &options.config_dir, &sshd.config);
        let ours: Vec<&Statement> = statements.iter().filter(|s| !others.contains(s)).collect();
        let accounts = accounts::read(&system.passwd, &system.trusted).unwrap_or_default();
        match ours.iter().find(|s| KEYWORDS.contains(&s.keyword.as_str())) {
            Some(first) => self.lines_in = Some(first.file.clone()),
            None => self.wrong("sshd is not set up to ask this agent", "eic-agent install"),
        }
        if self.lines_in.is_some() {
            self.check_effective(&sshd, &ours, &others, &accounts, options);
            self.try_commands(&ours, &accounts, trust);
            self.remarks.extend(amazons_account(&ours));
            self.remarks.extend(lost_cas(&others));
        }
        self.host_certificate = value(&ours, "hostcertificate").map(PathBuf::from);
        self.sshd = Some(sshd);
    }

    fn check_effective(
        &mut self,
        sshd: &Sshd,
        ours: &[&Statement],
        others: &[Statement],
        accounts: &[Account],
        options: &SshdOptions,
    ) {
        let wanted: Vec<(&'static str, String)> = SPELLED
            .iter()
            .filter_map(|keyword| Some((*keyword, value(ours, &keyword.to_ascii_lowercase())?)))
            .collect();
        let tolerated = tolerated(others);
        let users = accounts::samples(accounts);
        let folder = &options.config_dir;
        let judged = unit_overrides(&wanted, options)
            .and_then(|()| effective::check(sshd, &wanted, &users, &tolerated, folder));
        match judged {
            Ok(remarks) => {
                self.effective = true;
                self.remarks.extend(remarks);
            }
            Err(e) => self.wrong(
                cannot(&e),
                "take the other setting out, or run `eic-agent install` again",
            ),
        }
    }

    /// The program that sshd would run, as the account that it would run it as.
    fn try_commands(
        &mut self,
        ours: &[&Statement],
        accounts: &[Account],
        trust: Option<&TrustState>,
    ) {
        let command = value(ours, "authorizedprincipalscommand").unwrap_or_default();
        let program = PathBuf::from(words(&command).first().cloned().unwrap_or_default());
        if let Err(e) = crate::trusted_file::Trusted::system().check(&program) {
            self.wrong(
                format!("sshd does not run {}: {}", program.display(), cannot(&e)),
                "every folder on the way must be root's and writable by root only",
            );
            return;
        }
        let user = value(ours, "authorizedprincipalscommanduser").unwrap_or_default();
        let Some(account) = accounts.iter().find(|account| account.name == user) else {
            self.wrong(
                format!("the commands' account {user} does not exist"),
                "eic-agent install",
            );
            return;
        };
        // A CA to ask about: which one does not matter, only that there is an answer.
        let ca = trust.and_then(|state| state.user_cas().next());
        let Some(ca) = ca.map(|ca| ca.key.fingerprint()) else {
            return;
        };
        if let Err(said) = principals_for_root(&program, account, &ca) {
            self.wrong(
                format!("{user} cannot run the commands: failed to {said}"),
                "let that account read the files (0755 folders, 0644 files)",
            );
        }
    }

    fn look_at_files(&mut self, state: &Path, system: &System, trust: Option<&TrustState>) {
        if self.lines_in.is_none() {
            return;
        }
        let version = self.sshd.as_ref().map(|sshd| sshd.version);
        let expected = version
            .zip(trust)
            .and_then(|(version, trust)| ca_keys::text(trust.user_cas(), version));
        let present = system.trusted.read(&state.join(CA_KEYS), 1 << 20);
        match (expected, present) {
            (_, Err(e)) => self.wrong(cannot(&e), "eic-agent install"),
            (Some(expected), Ok(present)) if !same_lines(&expected, &present) => self.wrong(
                format!(
                    "{} does not hold the CA keys of the signed documents",
                    state.join(CA_KEYS).display()
                ),
                "eic-agent install",
            ),
            _ => {}
        }
        self.look_at_revocations(&state.join(revoked_keys::NAME));
    }

    fn look_at_revocations(&mut self, path: &Path) {
        let named = self
            .lines_in
            .as_deref()
            .map(config_file::read)
            .unwrap_or_default();
        let is_named = named
            .iter()
            .any(|s| s.keyword == "revokedkeys" && Path::new(&s.value) == path);
        if !is_named {
            return;
        }
        let list = std::fs::read(path).unwrap_or_default();
        if !revoked_keys::is_list(&list) {
            self.wrong(
                format!(
                    "{} is no key revocation list: sshd refuses every key",
                    path.display()
                ),
                "eic-agent install (it puts a valid list there)",
            );
        }
    }
}

const SPELLED: [&str; 6] = [
    "TrustedUserCAKeys",
    "AuthorizedPrincipalsCommand",
    "AuthorizedPrincipalsCommandUser",
    "AuthorizedKeysCommand",
    "AuthorizedKeysCommandUser",
    "RevokedKeys",
];

/// In any order: who wrote the file last decided about that.
fn same_lines(expected: &str, present: &[u8]) -> bool {
    let present = String::from_utf8_lossy(present);
    let (mut a, mut b): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), present.lines().collect());
    a.sort_unstable();
    b.sort_unstable();
    a == b
}

fn value(statements: &[&Statement], keyword: &str) -> Option<String> {
    let found = statements.iter().find(|s| s.keyword == keyword)?;
    Some(found.value.clone())
}

/// sshd refuses every certificate and pushed key once the account of its commands is gone.
fn amazons_account(ours: &[&Statement]) -> Option<String> {
    let mut users = ours.iter().filter(|s| s.keyword.ends_with("commanduser"));
    users
        .any(|statement| statement.value == AMAZONS_COMMAND_USER)
        .then(|| {
            format!(
                "sshd runs the commands as {AMAZONS_COMMAND_USER}, an account that AWS's package takes with it when it is removed: `eic-agent install --command-user eic` before that"
            )
        })
}

/// What Match blocks of the administrator's say about AuthorizedKeysCommand: they were accepted at the installation.
fn tolerated(others: &[Statement]) -> Vec<(String, String)> {
    others
        .iter()
        .filter(|s| s.condition.is_some() && s.keyword.starts_with("authorizedkeyscommand"))
        .map(|s| (s.keyword.clone(), words(&s.value).join(" ")))
        .collect()
}

/// Options on sshd's command line: in its units, in option files, or of the process that runs.
fn unit_overrides(
    wanted: &[(&'static str, String)],
    options: &SshdOptions,
) -> Result<(), super::InstallError> {
    let mut found = overrides::elsewhere(&options.pid_file);
    for unit in service::take_over()? {
        let present = std::fs::read_to_string(&unit.file).unwrap_or_default();
        if present != unit.text {
            found.extend(unit.overrides);
        }
    }
    effective::check_overrides(wanted, &found)
}
