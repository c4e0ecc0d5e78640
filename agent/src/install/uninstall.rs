//! Taking an installation back: every file byte for byte as it was, sshd's own first.

use std::path::{Path, PathBuf};

use super::drop_in;
use super::execution::undone;
use super::manifest::{self, Manifest};
use super::sshd::Sshd;
use super::transaction::{Content, Transaction};
use super::{InstallError, System, UninstallOptions, accounts, demand_root, diff, reload};
use crate::config::Config;
use crate::trusted_file::UntrustedFile;

/// Puts the host back; returns what was done, for the terminal.
///
/// # Errors
/// [`InstallError`]; the installation is then still in place, unless the error says otherwise.
pub fn uninstall(options: &UninstallOptions, system: &System) -> Result<String, InstallError> {
    demand_root()?;
    let state = state_folder(system)?;
    let Some(manifest) = Manifest::load(&state, &system.trusted)? else {
        return Ok("nothing is installed\n".to_owned());
    };
    let steps = Steps::new(&manifest, system)?;
    if options.dry_run {
        return Ok(steps.describe(&manifest));
    }
    let mut transaction = Transaction::default();
    match steps.carry_out(&mut transaction, options) {
        Ok(report) => Ok(report + &clean_up(&manifest, &state)),
        Err(failure) => {
            let failure = undone(transaction, failure);
            // sshd may have been told half-way; it reads what is in place again. The failure is what counts.
            let _ = reload::reload(&options.sshd);
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

/// The files that go back, the drop-in first.
struct Steps {
    files: Vec<(PathBuf, Option<Content>, Option<Content>)>,
    remarks: Vec<String>,
}

impl Steps {
    fn new(manifest: &Manifest, system: &System) -> Result<Self, InstallError> {
        let mut steps = Self {
            files: Vec::new(),
            remarks: Vec::new(),
        };
        for (path, original) in &manifest.originals {
            let now = Content::of(path)?;
            if *path == system.agent_toml && !manifest.is_untouched(path, now.as_ref()) {
                steps.remarks.push(format!(
                    "kept: {} was edited since the installation",
                    path.display()
                ));
                continue;
            }
            if is_drop_in(path) && now.is_some() && !manifest.is_untouched(path, now.as_ref()) {
                steps.save_edited(path, now.clone())?;
            }
            steps.files.push((path.clone(), now, original.clone()));
        }
        // sshd must stop asking before what it asks for goes.
        steps.files.sort_by_key(|(path, ..)| !is_drop_in(path));
        Ok(steps)
    }

    /// Somebody's lines in our drop-in are kept beside it, under a name that sshd does not read.
    fn save_edited(&mut self, path: &Path, now: Option<Content>) -> Result<(), InstallError> {
        let saved = path.with_extension("conf.saved");
        self.remarks.push(format!(
            "saved: {} was edited since the installation, see {}",
            path.display(),
            saved.display()
        ));
        self.files.push((saved.clone(), Content::of(&saved)?, now));
        Ok(())
    }

    fn describe(&self, manifest: &Manifest) -> String {
        let changed = self
            .files
            .iter()
            .filter(|(_, now, original)| now != original);
        let mut text: String = changed
            .map(|(path, now, original)| diff::show(path, now.as_ref(), original.as_ref()))
            .collect();
        if let Some(account) = &manifest.account {
            text.push_str(&format!("removed: system account {account}\n"));
        }
        text + &self
            .remarks
            .iter()
            .map(|remark| format!("{remark}\n"))
            .collect::<String>()
    }

    fn carry_out(
        &self,
        transaction: &mut Transaction,
        options: &UninstallOptions,
    ) -> Result<String, InstallError> {
        let (drop_ins, others): (Vec<_>, Vec<_>) =
            self.files.iter().partition(|(path, ..)| is_drop_in(path));
        for (path, _, original) in drop_ins {
            transaction.put(path, original.as_ref())?;
        }
        let sshd = Sshd::find(&options.sshd.program, &options.sshd.config_dir)?;
        sshd.test()?;
        let told = reload::reload(&options.sshd)?;
        for (path, _, original) in others {
            transaction.put(path, original.as_ref())?;
        }
        let remarks: String = self
            .remarks
            .iter()
            .map(|remark| format!("{remark}\n"))
            .collect();
        Ok(format!(
            "uninstalled: every file is as it was\n{told}\n{remarks}"
        ))
    }
}

fn is_drop_in(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == drop_in::NAME)
}

/// The record, the account and the folders; what cannot go is told, since nothing rests on it any more.
fn clean_up(manifest: &Manifest, state: &Path) -> String {
    let mut left = Vec::new();
    if let Err(e) = crate::atomic_file::remove(&state.join(manifest::NAME)) {
        left.push(format!("{}: {e}", state.join(manifest::NAME).display()));
    }
    if let Some(Err(e)) = manifest.account.as_deref().map(accounts::delete) {
        left.push(e.to_string());
    }
    let mut folders = manifest.folders.clone();
    // Inner folders first.
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
    for folder in folders {
        if let Err(e) = std::fs::remove_dir(&folder) {
            left.push(format!("{}: {e}", folder.display()));
        }
    }
    left.iter()
        .map(|line| format!("left over: {line}\n"))
        .collect()
}
