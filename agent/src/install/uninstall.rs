//! Taking an installation back: every file byte for byte as it was, what sshd reads first.

use std::path::{Path, PathBuf};

use super::documents::HOST_CERTIFICATE;
use super::execution::undone;
use super::leftovers;
use super::manifest::{self, Manifest};
use super::placement::{self, NAME as DROP_IN};
use super::transaction::{Content, Transaction, remove_state};
use super::trial::FOLDER_NAME as TRIAL;
use super::{
    InstallError, System, UninstallOptions, accounts, demand_root, diff, reload, revoked_keys,
    service, units,
};
use crate::config::Config;
use crate::sshd::Sshd;
use crate::state_lock;
use crate::trust_store::{DOCUMENTS_FILE, TRUST_FILE};
use crate::trusted_file::UntrustedFile;

/// Puts the host back; returns what was done, for the terminal.
///
/// # Errors
/// [`InstallError`]; the installation is then still in place, unless the error says otherwise.
pub fn uninstall(options: &UninstallOptions, system: &System) -> Result<String, InstallError> {
    demand_root()?;
    let state = state_folder(system)?;
    let lock = if options.dry_run {
        None
    } else {
        super::lock(&state)?
    };
    let manifest = Manifest::load(&state, &system.trusted)?;
    if options.dry_run {
        let steps = manifest.map(|m| Steps::new(&m, system).map(|steps| steps.describe(&m)));
        return steps.unwrap_or(Ok(nothing(&state)));
    }
    leftovers::sweep([state.as_path(), &state.join(manifest::NAME)]);
    let done = match manifest {
        Some(manifest) => take_back(&manifest, &state, options, system)?,
        None => nothing(&state),
    };
    if lock.is_some() {
        // Best effort: an empty file that only root can open.
        let _ = state_lock::remove(&state);
    }
    Ok(done)
}

fn nothing(state: &Path) -> String {
    format!(
        "nothing is installed: there is no record in {}\n",
        state.display()
    )
}

fn take_back(
    manifest: &Manifest,
    state: &Path,
    options: &UninstallOptions,
    system: &System,
) -> Result<String, InstallError> {
    leftovers::sweep(manifest.originals.keys().map(PathBuf::as_path));
    let steps = Steps::new(manifest, system)?;
    let mut transaction = Transaction::default();
    match steps.carry_out(&mut transaction, options) {
        Ok(told) => {
            // Before the account goes: the service runs as it.
            let drop_ins = manifest
                .originals
                .keys()
                .any(|path| units::is_drop_in(path));
            let units = units::leaving(manifest);
            let failed = units::disable(&units, drop_ins);
            let failed = failed.map(|e| format!("left over: {}: {e}\n", units.join(" ")));
            let cleaned = clean_up(manifest, state, &steps);
            Ok(steps.report(&told) + &failed.unwrap_or_default() + &cleaned)
        }
        Err(failure) => {
            let failure = undone(transaction, failure);
            // sshd may have been told half-way; it reads what is in place again. The failure is what counts.
            let _ = reload::reload(&options.sshd, steps.units());
            Err(failure)
        }
    }
}

fn state_folder(system: &System) -> Result<PathBuf, InstallError> {
    match Config::load(Some(&system.agent_toml), &system.trusted) {
        Ok(config) => Ok(config.trust.state),
        Err(crate::config::InvalidConfig::File(UntrustedFile::Missing(_))) => {
            Ok(Config::default().trust.state)
        }
        Err(e) => Err(e.into()),
    }
}

/// What becomes of one file.
pub(super) struct Restored {
    pub(super) content: Option<Content>,
    /// Why it is not what it was before the installation.
    pub(super) remark: Option<String>,
    /// Where a copy of what it is now goes, so that nobody's lines are lost.
    saved: Option<PathBuf>,
}

impl Restored {
    fn to(content: Option<&Content>) -> Self {
        Self {
            content: content.cloned(),
            remark: None,
            saved: None,
        }
    }

    fn remarked(self, remark: String) -> Self {
        Self {
            remark: Some(remark),
            ..self
        }
    }
}

/// What a file goes back to: what it was, unless somebody has edited it since.
pub(super) fn restored(
    manifest: &Manifest,
    path: &Path,
    now: Option<&Content>,
    original: Option<&Content>,
    system: &System,
) -> Restored {
    let as_we_left_it = now.is_none() || now == original || manifest.is_untouched(path, now);
    if as_we_left_it {
        return Restored::to(original);
    }
    if let Some(without) = now.and_then(without_block) {
        let remark = format!(
            "edited since: {}, only the block of eic-agent was taken out",
            path.display()
        );
        return Restored::to(Some(&without)).remarked(remark);
    }
    if path == system.agent_toml {
        let remark = format!("kept: {} was edited since the installation", path.display());
        return Restored::to(now).remarked(remark);
    }
    if path.file_name().is_some_and(|name| name == DROP_IN) {
        let saved = path.with_extension("conf.saved");
        let remark = format!(
            "saved: {} was edited since the installation, see {}",
            path.display(),
            saved.display()
        );
        return Restored {
            saved: Some(saved),
            ..Restored::to(original).remarked(remark)
        };
    }
    Restored::to(original)
}

fn without_block(now: &Content) -> Option<Content> {
    let text = std::str::from_utf8(&now.bytes.0).ok()?;
    placement::has_block(text).then(|| {
        let mut content = now.clone();
        content.bytes.0 = placement::without_block(text).into_bytes();
        content
    })
}

/// The files that go back: path, what it is, what it will be. What sshd reads comes first.
struct Steps {
    files: Vec<(PathBuf, Option<Content>, Option<Content>)>,
    remarks: Vec<String>,
}

impl Steps {
    fn new(manifest: &Manifest, system: &System) -> Result<Self, InstallError> {
        let (mut files, mut remarks) = (Vec::new(), Vec::new());
        for (path, original) in &manifest.originals {
            let now = Content::of(path)?;
            let back = restored(manifest, path, now.as_ref(), original.as_ref(), system);
            remarks.extend(back.remark);
            if let Some(saved) = back.saved {
                files.push((saved.clone(), Content::of(&saved)?, now.clone()));
            }
            files.push((path.clone(), now, back.content));
        }
        files.sort_by_key(|(path, ..)| order(path));
        Ok(Self { files, remarks })
    }

    /// Whether a unit of sshd's goes back.
    fn units(&self) -> bool {
        let changed = |(path, now, back): &(PathBuf, Option<Content>, Option<Content>)| {
            now != back && service::is_drop_in(path)
        };
        self.files.iter().any(changed)
    }

    fn describe(&self, manifest: &Manifest) -> String {
        let changed = self.files.iter().filter(|(_, now, back)| now != back);
        let mut text: String = changed
            .map(|(path, now, back)| diff::show(path, now.as_ref(), back.as_ref(), None))
            .collect();
        let units = units::leaving(manifest);
        if !units.is_empty() {
            text.push_str(&format!("disabled: {}\n", units.join(" ")));
        }
        if let Some(account) = &manifest.account {
            text.push_str(&format!("removed: system account {account}\n"));
        }
        text + &self.remark_lines()
    }

    fn remark_lines(&self) -> String {
        self.remarks
            .iter()
            .map(|remark| format!("{remark}\n"))
            .collect()
    }

    fn report(&self, told: &str) -> String {
        let result = if self.remarks.is_empty() {
            "uninstalled: every file is as it was"
        } else {
            "uninstalled: sshd does not ask this agent any more"
        };
        format!("{result}\n{told}\n{}", self.remark_lines())
    }

    fn carry_out(
        &self,
        transaction: &mut Transaction,
        options: &UninstallOptions,
    ) -> Result<String, InstallError> {
        let sshds: Vec<_> = self.files.iter().filter(|f| order(&f.0) == SSHDS).collect();
        for (path, _, back) in &sshds {
            transaction.put(path, back.as_ref())?;
        }
        let sshd = Sshd::find(&options.sshd.program, &options.sshd.config_dir)?;
        sshd.test()?;
        let told = reload::reload(&options.sshd, self.units())?;
        for (path, _, back) in self.files.iter().filter(|f| order(&f.0) != SSHDS) {
            if is_still_read(path, options) {
                continue;
            }
            transaction.put(path, back.as_ref())?;
        }
        Ok(told)
    }
}

const SSHDS: u8 = 0;

/// What sshd reads first: it must stop asking before what it asks for goes. The revocation list last of all:
/// an sshd that still names it refuses every key without it.
fn order(path: &Path) -> u8 {
    let name = path.file_name().unwrap_or_default();
    let is_main = name == "sshd_config";
    if is_main || name == DROP_IN || service::is_drop_in(path) {
        SSHDS
    } else if name == revoked_keys::NAME {
        2
    } else {
        1
    }
}

/// Whether a running sshd that nobody has told goes on looking at the revocation list.
fn is_still_read(path: &Path, options: &UninstallOptions) -> bool {
    path.file_name()
        .is_some_and(|name| name == revoked_keys::NAME)
        && !options.sshd.reload
        && reload::running_sshd(&options.sshd.pid_file).is_some()
}

/// The account, the folders and at last the record; what cannot go is told, since nothing rests on it any more.
fn clean_up(manifest: &Manifest, state: &Path, steps: &Steps) -> String {
    let mut left = Vec::new();
    if let Some(Err(e)) = manifest.account.as_deref().map(accounts::delete) {
        left.push(format!("the account: failed to {e}"));
    }
    // Best effort: only a killed trial leaves a folder, and what the service made is signed elsewhere.
    let _ = std::fs::remove_dir_all(state.join(TRIAL));
    let made = [DOCUMENTS_FILE, TRUST_FILE, HOST_CERTIFICATE];
    let made = made.map(|name| state.join(name));
    for path in made
        .iter()
        .filter(|path| !manifest.originals.contains_key(*path))
    {
        let _ = std::fs::remove_file(path);
    }
    let mut folders: Vec<&PathBuf> = manifest.folders.iter().filter(|f| *f != state).collect();
    // Inner folders first.
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
    for folder in folders.iter().filter(|folder| folder.exists()) {
        if let Err(e) = std::fs::remove_dir(folder) {
            left.push(format!("{}: {e}", folder.display()));
        }
    }
    left.extend(remove_record(manifest, state, steps));
    left.iter()
        .map(|line| format!("left over: {line}\n"))
        .collect()
}

/// The record and its folder in one step, where the folder came with us and holds nothing else.
fn remove_record(manifest: &Manifest, state: &Path, steps: &Steps) -> Option<String> {
    let others = std::fs::read_dir(state).map_or(0, |entries| {
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .filter(|name| name != manifest::NAME && name != state_lock::NAME)
            .count()
    });
    let came_with_us = manifest.folders.iter().any(|folder| folder == state);
    let outcome = if came_with_us && others == 0 {
        remove_state(state)
    } else {
        crate::atomic_file::remove(&state.join(manifest::NAME))
    };
    if came_with_us && others > 0 {
        let kept = steps
            .files
            .iter()
            .find(|(path, ..)| path.exists() && order(path) == 2);
        let why = kept.map_or(
            "files of others are in it",
            |_| "the running sshd still reads the revocation list in it",
        );
        return Some(format!("{}: {why}", state.display()));
    }
    outcome.err().map(|e| format!("{}: {e}", state.display()))
}
