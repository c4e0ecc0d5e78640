//! `eic-agent doctor`: why a login would be accepted or refused here, one line per finding, each with its fix.
//!
//! It asks what sshd would ask, in sshd's order, and changes nothing. What only a connection shows (its address,
//! what PAM says at that moment) is told as a condition, not judged.

mod account;
mod certificate;
mod finding;
mod key;
mod server;
mod time;

use std::path::PathBuf;

use self::account::Account;
use self::finding::Findings;
use crate::commands::cannot;
use crate::config::Config;
use crate::install::inspection::Inspection;
use crate::install::{InstallError, SshdOptions, System, demand_root};
use crate::sshd::{Settings, Sshd};
use crate::status::Judged;
use crate::trust_state::TrustState;

/// `eic-agent doctor …`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoctorOptions {
    /// The account that somebody wants to open.
    pub user: Option<String>,
    /// The public key that is offered.
    pub key: Option<PathBuf>,
    /// The certificate that is offered.
    pub certificate: Option<PathBuf>,
    /// JSON instead of text.
    pub json: bool,
    /// Which sshd.
    pub sshd: SshdOptions,
}

/// Looks at this host and at one login.
///
/// # Errors
/// Not root: sshd's configuration cannot be read.
pub fn doctor(options: &DoctorOptions, system: &System) -> Result<Judged, InstallError> {
    demand_root()?;
    let now = crate::clock::unix_seconds()?;
    let mut findings = Findings::default();
    let case = Case::prepare(options, system, now, &mut findings);
    case.examine(&mut findings);
    Ok(findings.judged(options.json))
}

/// One login, and what this host knows about it.
struct Case<'a> {
    options: &'a DoctorOptions,
    system: &'a System,
    now: u64,
    config: Config,
    trust: Option<TrustState>,
    account: Option<Account>,
    /// What sshd uses for that account.
    settings: Settings,
}

impl<'a> Case<'a> {
    fn prepare(
        options: &'a DoctorOptions,
        system: &'a System,
        now: u64,
        findings: &mut Findings,
    ) -> Self {
        let config = Config::load(Some(&system.agent_toml), &system.trusted).unwrap_or_else(|e| {
            findings.bad("configuration", cannot(&e), "correct the file");
            Config::default()
        });
        let trust = match TrustState::load(&config.trust, &system.trusted, &system.identity, now) {
            Ok(state) => Some(state),
            Err(e) => {
                findings.bad(
                    "trust",
                    cannot(&e),
                    "eic-agent install, with documents of your CA",
                );
                None
            }
        };
        let found = Inspection::make(&options.sshd, system, &config, trust.as_ref());
        host(&found, findings);
        let account = options
            .user
            .as_deref()
            .and_then(|user| account::find(user, findings));
        let user = options.user.as_deref().unwrap_or("root");
        Self {
            options,
            system,
            now,
            config,
            trust,
            account,
            settings: settings(found.sshd.as_ref(), user),
        }
    }

    fn examine(&self, findings: &mut Findings) {
        if let Some(account) = &self.account {
            account::examine(account, &self.settings, self.now, findings);
            server::examine(account, &self.settings, findings);
        }
        time::examine(&self.config, self.system, self.now, findings);
        if let Some(file) = &self.options.certificate {
            certificate::examine(file, self, findings);
        }
        if let Some(file) = &self.options.key {
            key::examine(file, self, findings);
        }
        if self.options.certificate.is_none() && self.options.key.is_none() {
            key::examine_instance_connect(self, None, findings);
        }
    }
}

fn host(found: &Inspection, findings: &mut Findings) {
    for problem in &found.problems {
        findings.bad("host", problem.what.clone(), &problem.fix);
    }
    if found.problems.is_empty() {
        findings.good("host", "sshd asks this agent, and it answers");
    }
    for remark in &found.remarks {
        findings.note("host", remark.clone());
    }
}

/// Nothing where sshd does not answer; that is a finding of its own already.
fn settings(sshd: Option<&Sshd>, user: &str) -> Settings {
    let asked = sshd.and_then(|sshd| sshd.effective(user).ok());
    asked.unwrap_or_default()
}
