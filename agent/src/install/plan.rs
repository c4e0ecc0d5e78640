//! Everything that an installation needs to know and will write, before the first byte is written.

use std::path::{Path, PathBuf};

use eic_protocol::instance_id::InstanceId;

use super::accounts::{self, Account, CommandUser};
use super::documents::{Documents, HOST_CERTIFICATE};
use super::drop_in::DropIn;
use super::existing::Existing;
use super::manifest::Manifest;
use super::overrides;
use super::placement::{self, Placement};
use super::service::{self, TakenOver};
use super::transaction::Content;
use super::uninstall::restored;
use super::units::{self, Units};
use super::{
    InstallError, InstallOptions, System, agent_toml, ca_keys, confinement, diff, effective,
    revoked_keys, systemd,
};
use crate::config::{Config, InvalidConfig, MAX_BYTES};
use crate::sshd::{Sshd, Version, config_file};
use crate::trust_state::{ROOT_FILE, VIEW_FILE};
use crate::trusted_file::UntrustedFile;

/// The TrustedUserCAKeys file in the state folder.
pub(crate) const CA_KEYS: &str = "user-ca-keys";

/// The first sshd whose principals command is told the CA's fingerprint (`%F`, release notes of 7.4).
const OLDEST: Version = Version { major: 7, minor: 4 };

/// A checked installation.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) sshd: Sshd,
    pub(super) config_dir: PathBuf,
    pub(super) drop_in: DropIn,
    pub(super) placement: Placement,
    /// The account that must be made first.
    pub(super) new_account: Option<&'static str>,
    pub(super) accounts: Vec<Account>,
    pub(super) state: PathBuf,
    pub(super) instance: InstanceId,
    /// A CA key to try the principals command with.
    pub(super) ca: String,
    pub(super) previous: Manifest,
    /// Every file that will be ours: what it is and what it will be. What sshd reads comes after all that it names.
    pub(super) changes: Vec<Change>,
    /// Folders that are missing for them, outer ones first; the state folder is not among them.
    pub(super) folders: Vec<PathBuf>,
    /// What becomes of this agent's own units.
    pub(super) units: Units,
    /// Settings of Match blocks that may stay.
    pub(super) tolerated: Vec<(String, String)>,
    pub(super) remarks: Vec<String>,
    pub(super) now: u64,
}

/// One file.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) path: PathBuf,
    pub(super) before: Option<Content>,
    pub(super) after: Option<Content>,
    /// What `--dry-run` shows instead of the content.
    pub(super) summary: Option<String>,
}

/// A file as it will be; mode and owner are kept where it exists and `keeps` says so.
struct Wanted {
    path: PathBuf,
    bytes: Vec<u8>,
    summary: Option<String>,
    keeps_mode: bool,
}

impl Plan {
    /// Reads and verifies everything, our own inputs first; writes nothing.
    pub(super) fn prepare(
        options: &InstallOptions,
        system: &System,
        now: u64,
    ) -> Result<Self, InstallError> {
        let agent = own_program(system)?;
        let mut documents = Documents::read(options, system, now)?;
        let toml = configuration(options, system)?;
        let present = Config::parse(&toml)?;
        let state = present.trust.state.clone();
        documents.check_not_older(&state, options, system)?;
        let accounts = accounts::read(&system.passwd, &system.trusted)?;
        let command_user = command_user(options, &present, &accounts)?;
        let sshd = usable_sshd(options)?;
        documents.check_host_certificate(&sshd, now)?;
        let found = Found::look(&sshd, options)?;
        let toml = agent_toml::with_commands(&toml, &found.existing.commands)?;
        let toml = with_command_user(toml, &command_user, system)?;
        let config = Config::parse(&toml)?;
        let units = Units::plan(options, &config, &accounts, &command_user)?;
        let previous = Manifest::load(&state, &system.trusted)?.unwrap_or_default();
        let drop_in = DropIn {
            agent,
            config: None,
            keys_words: config.authorized_keys.command.sshd_words(),
            user: command_user.name().to_owned(),
            ca_keys: state.join(CA_KEYS),
            revoked_keys: found.revoked_keys(&state),
            host_certificate: shown_certificate(&documents, &state, &previous),
        };
        found.check_overrides(&drop_in, options)?;
        let remarks = remarks(&documents, &drop_in, &found, &accounts)?;
        let mut wanted = state_files(&documents, &drop_in, &state, sshd.version)?;
        wanted.push(Wanted::new(system.agent_toml.clone(), toml));
        let drop_ins = units.drop_ins.iter().cloned();
        wanted.extend(drop_ins.map(|(file, text)| Wanted::new(file, text)));
        wanted.extend(found.units.iter().map(TakenOver::wanted));
        wanted.push(configuration_file(&found.placement, &drop_in)?);
        let changes = changes(wanted, &previous, system)?;
        Ok(Self {
            folders: missing_folders(&changes, &state),
            config_dir: options.sshd.config_dir.clone(),
            instance: documents.state.view.instance.clone(),
            ca: documents.first_ca(),
            placement: found.placement,
            tolerated: found.existing.tolerated,
            changes,
            // The only account that is ever made is the units' own.
            new_account: command_user.missing().or(units.account),
            units,
            sshd,
            drop_in,
            accounts,
            state,
            previous,
            remarks,
            now,
        })
    }

    /// What `--dry-run` shows.
    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        if let Some(name) = self.new_account {
            text.push_str(&format!("new: system account {name}\n"));
        }
        for change in self.changes.iter().filter(|change| change.is_one()) {
            let (before, after) = (change.before.as_ref(), change.after.as_ref());
            let summary = change.summary.as_deref();
            text.push_str(&diff::show(&change.path, before, after, summary));
        }
        if text.is_empty() {
            text.push_str("nothing would change\n");
        }
        if !self.units.enabled.is_empty() {
            text.push_str(&format!("enabled: {}\n", self.units.enabled.join(" ")));
        }
        let remarks = self
            .remarks
            .iter()
            .map(|remark| format!("note: {remark}\n"));
        text + &remarks.collect::<String>()
    }

    /// Whether anything on the host will differ.
    pub(super) fn is_change(&self) -> bool {
        self.new_account.is_some() || self.changes.iter().any(Change::is_one)
    }

    /// Drop-ins of this agent's own units that will differ.
    pub(super) fn changed_drop_ins(&self) -> Vec<&Path> {
        let changes = self.changes.iter().filter(|change| change.is_one());
        let paths = changes.map(|change| change.path.as_path());
        paths.filter(|path| units::is_drop_in(path)).collect()
    }

    /// Whether a unit of sshd's will differ.
    pub(super) fn changes_units(&self) -> bool {
        self.changes
            .iter()
            .any(|change| change.is_one() && service::is_drop_in(&change.path))
    }
}

impl Change {
    fn is_one(&self) -> bool {
        self.before != self.after
    }

    /// Whether sshd, or what starts it, reads this file.
    pub(super) fn is_sshds(&self, placement: &Placement) -> bool {
        self.path == placement.file() || service::is_drop_in(&self.path)
    }
}

impl Wanted {
    fn new(path: PathBuf, content: impl Into<Vec<u8>>) -> Self {
        Self {
            path,
            bytes: content.into(),
            summary: None,
            keeps_mode: false,
        }
    }

    fn summarised(self, summary: String) -> Self {
        Self {
            summary: Some(summary),
            ..self
        }
    }

    fn change(self) -> Result<Change, InstallError> {
        let before = Content::of(&self.path)?;
        let public = Content::public(self.bytes);
        let after = match before.as_ref().filter(|_| self.keeps_mode) {
            Some(before) => Content {
                bytes: public.bytes,
                ..before.clone()
            },
            None => public,
        };
        Ok(Change {
            path: self.path,
            before,
            after: Some(after),
            summary: self.summary,
        })
    }
}

impl TakenOver {
    fn wanted(&self) -> Wanted {
        Wanted::new(self.file.clone(), self.text.clone())
    }
}

/// What sshd is set up to do before us.
struct Found {
    existing: Existing,
    units: Vec<TakenOver>,
    placement: Placement,
}

impl Found {
    fn look(sshd: &Sshd, options: &InstallOptions) -> Result<Self, InstallError> {
        let config_dir = &options.sshd.config_dir;
        let statements = config_file::read(&sshd.config);
        let placement = Placement::find(sshd, config_dir, &statements)?;
        let foreign = placement::foreign(&statements, config_dir, &sshd.config);
        let units = service::take_over()?;
        let options_out: Vec<_> = units.iter().flat_map(|u| u.overrides.clone()).collect();
        let existing = Existing::look(&foreign, &options_out, options.replace)?;
        Ok(Self {
            existing,
            units,
            placement,
        })
    }

    /// Ours, unless the administrator names one: sshd before 10.3 reads one file only.
    fn revoked_keys(&self, state: &Path) -> Option<PathBuf> {
        match self.existing.revoked_keys {
            Some(_) => None,
            None => Some(state.join(revoked_keys::NAME)),
        }
    }

    /// The running sshd has the options of a unit that is taken over until systemd restarts it.
    fn check_overrides(
        &self,
        drop_in: &DropIn,
        options: &InstallOptions,
    ) -> Result<(), InstallError> {
        let mut found = overrides::elsewhere(&options.sshd.pid_file);
        if systemd::is_there() {
            let leaves = |o: &overrides::Override| {
                let units = self.units.iter().flat_map(|unit| &unit.overrides);
                o.source.starts_with("/proc")
                    && units.into_iter().any(|unit| unit.keyword == o.keyword)
            };
            found.retain(|option| !leaves(option));
        }
        effective::check_overrides(&drop_in.settings()?, &found)
    }
}

/// The host certificate's place, where one comes with the documents. One that only the service has put there is
/// shown as well.
fn shown_certificate(documents: &Documents, state: &Path, previous: &Manifest) -> Option<PathBuf> {
    let path = state.join(HOST_CERTIFICATE);
    let by_service = path.exists() && !previous.originals.contains_key(&path);
    (documents.host_certificate.is_some() || by_service).then_some(path)
}

fn remarks(
    documents: &Documents,
    drop_in: &DropIn,
    found: &Found,
    accounts: &[Account],
) -> Result<Vec<String>, InstallError> {
    let mut remarks = Vec::new();
    if documents.host_certificate.is_none() {
        remarks.push(format!(
            "no {HOST_CERTIFICATE} came with the documents: clients that demand a host certificate will refuse this host"
        ));
    }
    for command in &found.existing.commands {
        remarks.extend(command.account_remark(&drop_in.user, accounts)?);
    }
    remarks.extend(found.existing.remarks.iter().cloned());
    remarks.extend(confinement::remarks(&drop_in.agent));
    Ok(remarks)
}

/// An sshd that is new enough, accepts its configuration as it is, and names keys as we do.
fn usable_sshd(options: &InstallOptions) -> Result<Sshd, InstallError> {
    let sshd = Sshd::find(&options.sshd.program, &options.sshd.config_dir)?;
    if sshd.version < OLDEST {
        return Err(InstallError::OldSshd(sshd.version));
    }
    sshd.test()?;
    effective::check_fingerprints(&sshd.effective("root")?, &options.sshd.config_dir)?;
    Ok(sshd)
}

/// This very file, in a place that sshd accepts.
fn own_program(system: &System) -> Result<PathBuf, InstallError> {
    let own = std::env::current_exe().map_err(InstallError::OwnPath)?;
    system
        .trusted
        .check(&own)
        .map_err(InstallError::UnsafeProgram)
}

/// Where the state of this installation will be.
pub(super) fn state_folder(
    options: &InstallOptions,
    system: &System,
) -> Result<PathBuf, InstallError> {
    Ok(Config::parse(&configuration(options, system)?)?.trust.state)
}

fn configuration(options: &InstallOptions, system: &System) -> Result<String, InstallError> {
    let existing = match system.trusted.read(&system.agent_toml, MAX_BYTES) {
        Ok(bytes) => Some(String::from_utf8(bytes).map_err(|_| InvalidConfig::NotText)?),
        Err(UntrustedFile::Missing(_)) => None,
        Err(e) => return Err(e.into()),
    };
    let path = &system.agent_toml;
    let text = agent_toml::with_pins(existing.as_deref(), &options.fingerprints, path)?;
    match &options.ca {
        Some(ca) => agent_toml::with_ca(&text, ca, path),
        None => Ok(text),
    }
}

/// The account that was asked for, now or in the configuration, or the one that our units name. No other is taken
/// unasked: AWS's package removes its own when it goes, and sshd then refuses every certificate and pushed key.
fn command_user(
    options: &InstallOptions,
    config: &Config,
    accounts: &[Account],
) -> Result<CommandUser, InstallError> {
    let configured = config.service.command_user.as_deref();
    let asked = options.command_user.as_deref().or(configured);
    // Ours is made where it is missing, whoever names it.
    let asked = asked.filter(|name| *name != units::USER);
    Ok(accounts::choose(asked, accounts)?)
}

/// The helper's door for logins must serve the account that sshd will use: told, unless it is the one that the
/// helper takes for itself.
fn with_command_user(
    toml: String,
    user: &CommandUser,
    system: &System,
) -> Result<String, InstallError> {
    let told = Config::parse(&toml)?.service.command_user;
    if told.as_deref().unwrap_or(units::USER) == user.name() {
        return Ok(toml);
    }
    agent_toml::with_command_user(&toml, user.name(), &system.agent_toml)
}

/// The file that sshd reads: our drop-in, or its main file with our block.
fn configuration_file(placement: &Placement, drop_in: &DropIn) -> Result<Wanted, InstallError> {
    let file = placement.file();
    let present = Content::of(file)?.map_or(Vec::new(), |content| content.bytes.0);
    let is_block = matches!(placement, Placement::Block(_));
    // Another encoding than UTF-8 in a comment must survive.
    let present = match String::from_utf8(present) {
        Ok(text) => text,
        Err(_) if is_block => return Err(InstallError::NotText(file.to_path_buf())),
        Err(_) => String::new(),
    };
    Ok(Wanted {
        keeps_mode: is_block,
        ..Wanted::new(
            file.to_path_buf(),
            placement.with(&present, &drop_in.lines()?),
        )
    })
}

/// The files of the state folder.
fn state_files(
    documents: &Documents,
    drop_in: &DropIn,
    state: &Path,
    version: Version,
) -> Result<Vec<Wanted>, InstallError> {
    let keys =
        ca_keys::text(documents.user_cas(), version).ok_or(InstallError::NoCaKeys(version))?;
    let (root, view) = documents.summaries();
    let mut files = vec![
        Wanted::new(state.join(ROOT_FILE), documents.root.clone()).summarised(root),
        Wanted::new(state.join(VIEW_FILE), documents.view.clone()).summarised(view),
        Wanted::new(drop_in.ca_keys.clone(), keys),
    ];
    if let Some(path) = &drop_in.revoked_keys {
        files.push(revocation_list(path)?);
    }
    let certificate = drop_in
        .host_certificate
        .clone()
        .zip(documents.host_certificate.clone());
    files.extend(certificate.map(|(path, bytes)| Wanted::new(path, bytes)));
    Ok(files)
}

/// The list that is there, which may be newer than anything that we know; else one that revokes nothing.
fn revocation_list(path: &Path) -> Result<Wanted, InstallError> {
    let present = Content::of(path)?.map(|content| content.bytes.0);
    let list = match present.filter(|bytes| revoked_keys::is_list(bytes)) {
        Some(list) => list,
        None => revoked_keys::empty(),
    };
    let summary = format!("a key revocation list of {} bytes", list.len());
    Ok(Wanted::new(path.to_path_buf(), list).summarised(summary))
}

/// The files as they will be, and those of an earlier installation that this one does without, as they were before it.
fn changes(
    wanted: Vec<Wanted>,
    previous: &Manifest,
    system: &System,
) -> Result<Vec<Change>, InstallError> {
    let paths: Vec<PathBuf> = wanted.iter().map(|file| file.path.clone()).collect();
    let mut changes = Vec::new();
    for file in wanted {
        changes.push(file.change()?);
    }
    for (path, original) in &previous.originals {
        if paths.contains(path) {
            continue;
        }
        let before = Content::of(path)?;
        let back = restored(previous, path, before.as_ref(), original.as_ref(), system);
        changes.push(Change {
            path: path.clone(),
            before,
            after: back.content,
            summary: None,
        });
    }
    Ok(changes)
}

fn missing_folders(changes: &[Change], state: &Path) -> Vec<PathBuf> {
    let files = changes.iter().filter(|change| change.after.is_some());
    let mut folders: Vec<PathBuf> = files
        .filter_map(|change| change.path.parent())
        .flat_map(|folder| folder.ancestors().take_while(|f| !f.exists()))
        .filter(|folder| !folder.starts_with(state) && !state.starts_with(folder))
        .map(Path::to_path_buf)
        .collect();
    folders.sort();
    folders.dedup();
    folders
}
