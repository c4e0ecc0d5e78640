//! Everything that an installation needs to know and will write, before the first byte is written.

use std::path::{Path, PathBuf};

use super::accounts::{self, Account, CommandUser};
use super::documents::{Documents, HOST_CERTIFICATE};
use super::drop_in::{self, DropIn};
use super::manifest::Manifest;
use super::overrides::{self, Override};
use super::sshd::{Sshd, Version};
use super::transaction::Content;
use super::{InstallError, InstallOptions, System, agent_toml, ca_keys, diff};
use crate::config::{Config, InvalidConfig, MAX_BYTES};
use crate::trust_state::{ROOT_FILE, VIEW_FILE};
use crate::trusted_file::UntrustedFile;

/// The TrustedUserCAKeys file in the state folder.
const CA_KEYS: &str = "user-ca-keys";

/// A checked installation.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) sshd: Sshd,
    pub(super) config_dir: PathBuf,
    pub(super) drop_in: DropIn,
    pub(super) command_user: CommandUser,
    pub(super) accounts: Vec<Account>,
    pub(super) overrides: Vec<Override>,
    pub(super) state: PathBuf,
    /// A CA key to try the principals command with.
    pub(super) ca: String,
    pub(super) previous: Manifest,
    /// Every file that will be ours: what it is and what it will be. The drop-in comes after all that it names.
    pub(super) changes: Vec<Change>,
}

/// One file.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) path: PathBuf,
    pub(super) before: Option<Content>,
    pub(super) after: Option<Content>,
}

impl Plan {
    /// Reads and verifies everything; writes nothing.
    pub(super) fn prepare(
        options: &InstallOptions,
        system: &System,
        now: u64,
    ) -> Result<Self, InstallError> {
        let agent = own_program(system)?;
        let sshd = Sshd::find(&options.sshd.program, &options.sshd.config_dir)?;
        sshd.test()?;
        let accounts = accounts::read(&system.passwd, &system.trusted)?;
        let command_user = accounts::choose(options.command_user.as_deref(), &accounts)?;
        let toml = configuration(options, system)?;
        let state = Config::parse(&toml)?.trust.state;
        let documents = Documents::read(options, system, now)?;
        documents.check_not_older(&state, options, system)?;
        documents.check_host_certificate(&sshd, now)?;
        let certificate = documents.host_certificate.as_ref();
        let drop_in = DropIn {
            agent,
            user: command_user.name().to_owned(),
            ca_keys: state.join(CA_KEYS),
            host_certificate: certificate.map(|_| state.join(HOST_CERTIFICATE)),
        };
        let previous = Manifest::load(&state, &system.trusted)?.unwrap_or_default();
        let mut files = state_files(&documents, &drop_in, &state, sshd.version)?;
        files.push((system.agent_toml.clone(), toml.into_bytes()));
        let drop_ins = options.sshd.config_dir.join("sshd_config.d");
        files.push((drop_ins.join(drop_in::NAME), drop_in.text()?.into_bytes()));
        Ok(Self {
            overrides: overrides::find(&options.sshd.pid_file),
            config_dir: options.sshd.config_dir.clone(),
            ca: documents.first_ca(),
            changes: changes(files, &previous)?,
            sshd,
            drop_in,
            command_user,
            accounts,
            state,
            previous,
        })
    }

    /// What `--dry-run` shows.
    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        if let CommandUser::ToCreate(name) = self.command_user {
            text.push_str(&format!("new: system account {name}\n"));
        }
        for change in self.changes.iter().filter(|change| change.is_one()) {
            text.push_str(&diff::show(
                &change.path,
                change.before.as_ref(),
                change.after.as_ref(),
            ));
        }
        if text.is_empty() {
            "nothing would change\n".to_owned()
        } else {
            text
        }
    }

    /// Whether anything on the host will differ.
    pub(super) fn is_change(&self) -> bool {
        let new_account = matches!(self.command_user, CommandUser::ToCreate(_));
        new_account || self.changes.iter().any(Change::is_one)
    }
}

impl Change {
    fn is_one(&self) -> bool {
        self.before != self.after
    }
}

/// This very file, in a place that sshd accepts.
fn own_program(system: &System) -> Result<PathBuf, InstallError> {
    let own = std::env::current_exe().map_err(InstallError::OwnPath)?;
    system
        .trusted
        .check(&own)
        .map_err(InstallError::UnsafeProgram)
}

fn configuration(options: &InstallOptions, system: &System) -> Result<String, InstallError> {
    let existing = match system.trusted.read(&system.agent_toml, MAX_BYTES) {
        Ok(bytes) => Some(String::from_utf8(bytes).map_err(|_| InvalidConfig::NotText)?),
        Err(UntrustedFile::Missing(_)) => None,
        Err(e) => return Err(e.into()),
    };
    agent_toml::with_pins(
        existing.as_deref(),
        &options.fingerprints,
        &system.agent_toml,
    )
}

/// The files of the state folder.
fn state_files(
    documents: &Documents,
    drop_in: &DropIn,
    state: &Path,
    version: Version,
) -> Result<Vec<(PathBuf, Vec<u8>)>, InstallError> {
    let keys =
        ca_keys::text(&documents.state.root, version).ok_or(InstallError::NoCaKeys(version))?;
    let mut files = vec![
        (state.join(ROOT_FILE), documents.root.clone()),
        (state.join(VIEW_FILE), documents.view.clone()),
        (drop_in.ca_keys.clone(), keys.into_bytes()),
    ];
    let certificate = drop_in
        .host_certificate
        .clone()
        .zip(documents.host_certificate.clone());
    files.extend(certificate);
    Ok(files)
}

/// The files as they will be, and those of an earlier installation that this one does without, as they were before it.
fn changes(
    files: Vec<(PathBuf, Vec<u8>)>,
    previous: &Manifest,
) -> Result<Vec<Change>, InstallError> {
    let mut changes = Vec::new();
    let dropped = previous
        .originals
        .iter()
        .filter(|(path, _)| !files.iter().any(|(own, _)| own == *path));
    let dropped: Vec<_> = dropped
        .map(|(path, original)| (path.clone(), original.clone()))
        .collect();
    for (path, bytes) in files {
        let before = Content::of(&path)?;
        changes.push(Change {
            path,
            before,
            after: Some(Content::public(bytes)),
        });
    }
    for (path, after) in dropped {
        let before = Content::of(&path)?;
        changes.push(Change {
            path,
            before,
            after,
        });
    }
    Ok(changes)
}
