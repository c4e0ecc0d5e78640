//! `eic-agent install` and `uninstall`: one host's sshd made to ask this program, and put back again.
//!
//! Everything is read and verified first (`plan`), then done as one transaction: a failure at any
//! point, sshd's own verdict included, leaves the host as it was. For sshd with drop-ins
//! (`sshd_config.d`); nothing is fetched from the network.

mod accounts;
mod agent_toml;
mod ca_keys;
mod diff;
mod documents;
mod drop_in;
mod effective;
mod execution;
mod host_certificate;
mod manifest;
mod overrides;
mod plan;
mod reload;
mod sshd;
mod transaction;
mod uninstall;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use self::uninstall::uninstall;

use crate::clock::ClockBeforeEpoch;
use crate::config::InvalidConfig;
use crate::fingerprint::Fingerprint;
use crate::trust_state::{Identity, NoTrust};
use crate::trusted_file::{Trusted, UntrustedFile};
use plan::Plan;

/// `eic-agent install …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallOptions {
    /// Keys that must have signed the root document.
    pub fingerprints: BTreeSet<Fingerprint>,
    /// The folder with the signed documents.
    pub state_from: PathBuf,
    /// Whom sshd runs the commands as.
    pub command_user: Option<String>,
    /// Show, do not do.
    pub dry_run: bool,
    /// Which sshd.
    pub sshd: SshdOptions,
}

/// `eic-agent uninstall …`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UninstallOptions {
    /// Show, do not do.
    pub dry_run: bool,
    /// Which sshd.
    pub sshd: SshdOptions,
}

/// Which sshd is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshdOptions {
    /// The folder of `sshd_config` and `sshd_config.d`.
    pub config_dir: PathBuf,
    /// The program.
    pub program: PathBuf,
    /// Where the running one says its process id.
    pub pid_file: PathBuf,
    /// Whether the running one is told.
    pub reload: bool,
}

impl Default for SshdOptions {
    fn default() -> Self {
        Self {
            config_dir: PathBuf::from("/etc/ssh"),
            program: PathBuf::from("/usr/sbin/sshd"),
            pid_file: PathBuf::from("/run/sshd.pid"),
            reload: true,
        }
    }
}

/// The host that is set up.
#[derive(Clone, Debug)]
pub struct System {
    /// Whose files are believed.
    pub trusted: Trusted,
    /// How the host knows its id.
    pub identity: Identity,
    /// `/etc/eic/agent.toml`
    pub agent_toml: PathBuf,
    /// `/etc/passwd`
    pub passwd: PathBuf,
}

impl System {
    /// This host.
    #[must_use]
    pub fn this() -> Self {
        Self {
            trusted: Trusted::system(),
            identity: Identity::this(),
            agent_toml: PathBuf::from(crate::config::DEFAULT_PATH),
            passwd: PathBuf::from("/etc/passwd"),
        }
    }
}

/// Sets the host up; returns what was done, for the terminal.
///
/// # Errors
/// [`InstallError`]; the host is then as it was, unless the error says otherwise.
pub fn install(options: &InstallOptions, system: &System) -> Result<String, InstallError> {
    demand_root()?;
    let now = crate::clock::unix_seconds()?;
    let plan = Plan::prepare(options, system, now)?;
    if options.dry_run {
        Ok(plan.describe())
    } else {
        plan.apply(options, system)
    }
}

fn demand_root() -> Result<(), InstallError> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(InstallError::NotRoot)
    }
}

/// Why a host was not set up.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Not root.
    #[error("set up sshd: run this as root")]
    NotRoot,
    /// The clock.
    #[error(transparent)]
    Clock(#[from] ClockBeforeEpoch),
    /// This program's own file is open to others: sshd would silently stop running it.
    #[error(
        "use this program from where it is: move it to a folder that only root can write, such as /usr/local/bin"
    )]
    UnsafeProgram(#[source] UntrustedFile),
    /// This program cannot find itself.
    #[error("find this program's own file")]
    OwnPath(#[source] std::io::Error),
    /// A path that sshd_config cannot hold without quoting.
    #[error("write `{}` into sshd_config: use a path of letters, digits and `/._-` only", .0.display())]
    Path(PathBuf),
    /// A file cannot be believed.
    #[error(transparent)]
    File(#[from] UntrustedFile),
    /// The agent's configuration is wrong.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The configuration cannot be edited safely.
    #[error("add `{line}` to `{}`: do it by hand, under `[trust]`", .path.display())]
    Edit {
        /// The configuration.
        path: PathBuf,
        /// What belongs there.
        line: String,
    },
    /// The documents do not verify.
    #[error(transparent)]
    Trust(#[from] NoTrust),
    /// The documents are older than those in place.
    #[error("install {document} version {offered}: version {installed} is installed already")]
    Rollback {
        /// Which document.
        document: &'static str,
        /// Its version.
        offered: u64,
        /// The version in place.
        installed: u64,
    },
    /// The root names no CA key that this sshd can read.
    #[error("install the CA keys: the root document names none that this sshd ({0}) can read")]
    NoCaKeys(sshd::Version),
    /// The host certificate does not fit.
    #[error("install the host certificate")]
    HostCertificate(#[from] host_certificate::Unfit),
    /// sshd refused.
    #[error(transparent)]
    Sshd(#[from] sshd::SshdError),
    /// Something else in sshd's configuration wins over ours.
    #[error(transparent)]
    NotEffective(#[from] effective::NotEffective),
    /// The account for the commands.
    #[error(transparent)]
    Account(#[from] accounts::AccountError),
    /// The system refused.
    #[error("change `{}`", .path.display())]
    Change {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The commands do not work for the account that sshd will run them as.
    #[error("run the commands as `{user}`: {complaint}")]
    SelfTest {
        /// The account.
        user: String,
        /// What the command said.
        complaint: String,
    },
    /// The record of an earlier installation is damaged.
    #[error("read `{}`: it is not a record of an installation", .0.display())]
    Manifest(PathBuf),
    /// Telling the running sshd failed.
    #[error(transparent)]
    Reload(#[from] reload::ReloadError),
    /// Worse than failed.
    #[error("put everything back after a failure ({failure}): check {left_over:?}")]
    RollBack {
        /// What went wrong first.
        failure: Box<InstallError>,
        /// What could not be put back, each with its reason.
        left_over: Vec<String>,
    },
}
