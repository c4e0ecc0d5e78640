//! A plan carried out: recorded, written, tried, judged by sshd, and only then told to the running sshd;
//! or taken back. At every moment the host either has the old configuration or one that was tried, and
//! the record by which `uninstall` can take everything back.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::accounts::{self, Account};
use super::leftovers;
use super::manifest::{self, Manifest};
use super::placement::{self, Placement};
use super::plan::{Change, Plan};
use super::transaction::{Content, Transaction};
use super::trial::{self, Trial};
use super::{InstallError, InstallOptions, System, effective, reload, units};
use crate::state_lock::StateLock;

impl Plan {
    /// Does it, or leaves the host as it was. Without a lock there was no state folder: it comes with one.
    pub(super) fn apply(
        self,
        lock: &mut Option<StateLock>,
        options: &InstallOptions,
        system: &System,
    ) -> Result<String, InstallError> {
        let mut transaction = Transaction::default();
        let recorded = self.record(&mut transaction, lock);
        match recorded.and_then(|()| self.carry_out(&mut transaction, options, system)) {
            Ok(report) => Ok(report),
            Err(failure) => {
                let failure = undone(transaction, failure);
                if self.changes_units() {
                    // sshd may have been started anew half-way; the failure is what counts.
                    let _ = reload::reload(&options.sshd, true);
                }
                Err(failure)
            }
        }
    }

    fn sweep(&self) {
        let record = self.state.join(manifest::NAME);
        let own = [record.as_path(), self.state.as_path()];
        leftovers::sweep(
            own.into_iter()
                .chain(self.changes.iter().map(|c| c.path.as_path())),
        );
    }

    fn carry_out(
        &self,
        transaction: &mut Transaction,
        options: &InstallOptions,
        system: &System,
    ) -> Result<String, InstallError> {
        self.sweep();
        self.make_account_and_folders(transaction)?;
        let (sshds, others): (Vec<&Change>, Vec<&Change>) = self
            .changes
            .iter()
            .partition(|c| c.is_sshds(&self.placement));
        put(transaction, &others)?;
        let mut remarks = self.remarks.clone();
        if self.is_change() {
            remarks.extend(self.try_login(system)?);
        }
        put(transaction, &sshds)?;
        self.sshd.test()?;
        remarks.extend(self.check_effective()?);
        self.try_commands(system)?;
        let told = self.tell(options)?;
        Ok(remarks
            .iter()
            .fold(told, |text, remark| format!("{text}note: {remark}\n")))
    }

    fn tell(&self, options: &InstallOptions) -> Result<String, InstallError> {
        let drop_ins = self.changed_drop_ins();
        let units = || units::enable(&self.units.enabled, &drop_ins, &options.sshd);
        if !self.is_change() {
            let told = "nothing to change: sshd asks this agent already\n".to_owned();
            return Ok(told + &units().unwrap_or_default());
        }
        let told = reload::reload(&options.sshd, self.changes_units())?;
        Ok(format!(
            "installed: sshd asks {} as {}\n{told}\n{}",
            self.drop_in.agent.display(),
            self.drop_in.user,
            units().unwrap_or_default()
        ))
    }

    /// The record comes first: whatever follows can be taken back by it, even after a kill.
    fn record(
        &self,
        transaction: &mut Transaction,
        lock: &mut Option<StateLock>,
    ) -> Result<(), InstallError> {
        let (record, content) = (self.state.join(manifest::NAME), self.manifest().content());
        if lock.is_some() {
            return transaction.put(&record, Some(&content));
        }
        *lock = Some(transaction.make_state(&self.state, &record, &content)?);
        Ok(())
    }

    fn make_account_and_folders(&self, transaction: &mut Transaction) -> Result<(), InstallError> {
        if let Some(name) = self.new_account {
            transaction.make_account(name)?;
        }
        for folder in &self.folders {
            transaction.make_folder(folder)?;
        }
        Ok(())
    }

    /// The record of this installation; what earlier ones found is kept.
    fn manifest(&self) -> Manifest {
        let mut manifest = self.previous.clone();
        manifest.installed.get_or_insert(self.now);
        if let Some(name) = self.new_account {
            manifest.account = Some(name.to_owned());
        }
        for unit in &self.units.new {
            if !manifest.units.contains(unit) {
                manifest.units.push(unit.clone());
            }
        }
        let state = (!self.state.exists()).then(|| self.state.clone());
        let folders: Vec<_> = self.folders.iter().cloned().chain(state).collect();
        manifest.folders.extend(folders);
        for change in &self.changes {
            let original = self.original(change);
            manifest.originals.insert(change.path.clone(), original);
            if let Some(after) = &change.after {
                let hash = manifest::sha256(after);
                manifest.written.insert(change.path.clone(), hash);
            }
        }
        manifest
    }

    /// What a file goes back to: its content before the first installation; where it was edited since,
    /// that edited content, without our part.
    fn original(&self, change: &Change) -> Option<Content> {
        let Some(original) = self.previous.originals.get(&change.path) else {
            return without_ours(change.before.clone(), &self.placement, &change.path);
        };
        let before = change.before.as_ref();
        let as_it_was = before == original.as_ref()
            || before.is_none()
            || self.previous.is_untouched(&change.path, before);
        let is_block =
            change.path == self.placement.file() && matches!(self.placement, Placement::Block(_));
        if as_it_was || !is_block {
            return original.clone();
        }
        without_ours(change.before.clone(), &self.placement, &change.path)
    }

    fn check_effective(&self) -> Result<Vec<String>, InstallError> {
        let users = accounts::samples(&self.accounts);
        let wanted = self.drop_in.settings()?;
        effective::check(
            &self.sshd,
            &wanted,
            &users,
            &self.tolerated,
            &self.config_dir,
        )
    }

    fn try_login(&self, system: &System) -> Result<Vec<String>, InstallError> {
        // The account may be new since the plan was made.
        let accounts = accounts::read(&system.passwd, &system.trusted)?;
        let trial = Trial {
            sshd: &self.sshd,
            placement: &self.placement,
            drop_in: &self.drop_in,
            config_dir: &self.config_dir,
            state: &self.state,
            instance: &self.instance,
            accounts: &accounts,
            tolerated: &self.tolerated,
        };
        trial::run(&trial, self.now)
    }

    /// Runs the principals command as the account that sshd will use: it must be able to read everything.
    fn try_commands(&self, system: &System) -> Result<(), InstallError> {
        let failed = |complaint: String| InstallError::SelfTest {
            user: self.drop_in.user.clone(),
            complaint,
        };
        let accounts = accounts::read(&system.passwd, &system.trusted)?;
        let account = accounts
            .iter()
            .find(|account| account.name == self.drop_in.user)
            .ok_or_else(|| failed("no such account".to_owned()))?;
        match principals_for_root(&self.drop_in.agent, account, &self.ca) {
            Ok(()) => Ok(()),
            Err(complaint) => Err(failed(complaint)),
        }
    }
}

/// Runs `authorized-principals root CA` as sshd would; the error is what it said.
pub(crate) fn principals_for_root(agent: &Path, account: &Account, ca: &str) -> Result<(), String> {
    let output = Command::new(agent)
        .args(["authorized-principals", "root", ca])
        .env_clear()
        .current_dir("/")
        .gid(account.gid)
        .uid(account.uid)
        .output()
        .map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let own = said
        .strip_prefix("eic-agent: failed to ")
        .map(str::to_owned);
    Err(own.unwrap_or(said))
}

fn put(transaction: &mut Transaction, changes: &[&Change]) -> Result<(), InstallError> {
    for change in changes {
        if Content::of(&change.path)? != change.before {
            return Err(InstallError::Edited(change.path.clone()));
        }
        transaction.put(&change.path, change.after.as_ref())?;
    }
    Ok(())
}

/// The main file without a block that an installation without record has left in it.
fn without_ours(content: Option<Content>, placement: &Placement, path: &Path) -> Option<Content> {
    let mut content = content?;
    if matches!(placement, Placement::Block(file) if file == path)
        && let Ok(text) = std::str::from_utf8(&content.bytes.0)
    {
        content.bytes.0 = placement::without_block(text).into_bytes();
    }
    Some(content)
}

/// Rolls back; a failure on the way is told with the first one.
pub(super) fn undone(transaction: Transaction, failure: InstallError) -> InstallError {
    let left_over = transaction.roll_back();
    if left_over.is_empty() {
        failure
    } else {
        InstallError::RollBack {
            failure: Box::new(failure),
            left_over: left_over.join("; "),
        }
    }
}
