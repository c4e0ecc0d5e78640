//! `eic-agent install` and `uninstall`: one host's sshd made to ask this program, and put back again.
//!
//! Everything is read and verified first (`plan`), then done as one transaction: a failure at any
//! point, sshd's own verdict and a trial login included, leaves the host as it was, and a kill leaves it
//! with an sshd that starts and a record by which it can be taken back. Nothing is fetched from the network.

pub(crate) mod accounts;
mod agent_toml;
pub(crate) mod ca_keys;
mod confinement;
mod diff;
mod documents;
mod drop_in;
mod effective;
mod execution;
mod existing;
pub(crate) mod host_certificate;
pub(crate) mod inspection;
mod leftovers;
mod manifest;
mod overrides;
mod placement;
pub(crate) mod plan;
pub(crate) mod reload;
pub(crate) mod revoked_keys;
mod service;
mod systemd;
mod transaction;
mod trial;
mod uninstall;
mod units;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(crate) use self::documents::HOST_CERTIFICATE;
pub use self::uninstall::uninstall;

use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::proof::Audience;

use crate::clock::ClockBeforeEpoch;
use crate::config::InvalidConfig;
use crate::sshd;
use crate::state_lock::{self, StateLock};
use crate::trust_state::{Identity, NoTrust};
use crate::trusted_file::{Trusted, UntrustedFile};
use plan::Plan;

/// `eic-agent install …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallOptions {
    /// Keys that must have signed the root document.
    pub fingerprints: BTreeSet<KeyFingerprint>,
    /// The folder with the signed documents.
    pub state_from: PathBuf,
    /// Whom sshd runs the commands as.
    pub command_user: Option<String>,
    /// The CA that the service keeps this host's trust fresh from; none: the service is left alone.
    pub ca: Option<Audience>,
    /// Another CA or principals command may stop to count.
    pub replace: bool,
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
    if options.dry_run {
        return Ok(Plan::prepare(options, system, now)?.describe());
    }
    let state = plan::state_folder(options, system)?;
    // Before anything is read: what the helper renews in between would be put back to its older content.
    let mut lock = lock(&state)?;
    let outcome =
        Plan::prepare(options, system, now).and_then(|p| p.apply(&mut lock, options, system));
    if outcome.is_err() && lock.is_some() && !state.join(manifest::NAME).exists() {
        // Best effort: an empty file that only root can open.
        let _ = state_lock::remove(&state);
    }
    outcome
}

/// The state folder's lock; `None` where there is no such folder yet, and so nothing installed.
fn lock(state: &Path) -> Result<Option<StateLock>, InstallError> {
    match StateLock::take(state, state_lock::PATIENCE) {
        Ok(lock) => Ok(Some(lock)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) if state_lock::is_held(&e) => Err(InstallError::Busy),
        Err(source) => Err(InstallError::Change {
            path: state.join(state_lock::NAME),
            source,
        }),
    }
}

pub(crate) fn demand_root() -> Result<(), InstallError> {
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
    #[error("add `{line}` to `{}`: do it by hand, under `[{table}]`", .path.display())]
    Edit {
        /// The configuration.
        path: PathBuf,
        /// Under which head.
        table: &'static str,
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
    /// This sshd does not tell the principals command which CA signed.
    #[error("use {0}: the oldest sshd that this agent works with is OpenSSH 7.4")]
    OldSshd(sshd::Version),
    /// Our lines would have to stand in a file of the distribution's.
    #[error("add lines to `{}`: it belongs to the distribution and includes no /etc/ssh/sshd_config.d/*.conf, copy it to /etc/ssh/sshd_config first", .0.display())]
    VendorFile(PathBuf),
    /// sshd's main file cannot be edited safely.
    #[error("edit `{}`: it is not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// Another CA would not be trusted any more.
    #[error(
        "set up sshd beside another certificate authority: {place} sets `{keyword}`, which would not count any more (add --replace where that is meant)"
    )]
    WouldReplace {
        /// The keyword, in lower case.
        keyword: &'static str,
        /// File and line.
        place: String,
    },
    /// Root's rights are not given to chained commands.
    #[error(
        "chain `{command}` ({place}): sshd runs it as root, and chained commands run without root's rights; let another account run it (AuthorizedKeysCommandUser) or take it out"
    )]
    ChainedAsRoot {
        /// The command.
        command: String,
        /// File and line.
        place: String,
    },
    /// An existing command is not fit to be chained.
    #[error("chain `{command}` ({place})")]
    Chain {
        /// The command.
        command: String,
        /// File and line.
        place: String,
        /// What does not fit.
        source: InvalidConfig,
    },
    /// A unit's drop-in comes after ours.
    #[error("start sshd without the options in `{}`: that file has the last word, rename or remove it", .0.display())]
    UnitOrder(PathBuf),
    /// A second installation, or a renewal of trust that does not end, at the same time.
    #[error("set up sshd: another installation or a renewal of trust is under way")]
    Busy,
    /// Somebody has changed a file since it was read.
    #[error("change `{}`: somebody else has just changed it, run this again", .0.display())]
    Edited(PathBuf),
    /// The throw-away login went wrong.
    #[error("have the trial login end well: {0}")]
    Trial(String),
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
    #[error("put everything back after a failure (check {left_over}); what failed first was to")]
    RollBack {
        /// What went wrong first.
        #[source]
        failure: Box<InstallError>,
        /// What could not be put back, each with its reason.
        left_over: String,
    },
}
