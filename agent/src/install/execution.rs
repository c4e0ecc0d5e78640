//! A plan carried out: written, judged by sshd, tried as the commands' account, and only then told
//! to the running sshd; or taken back.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::accounts::{self, CommandUser};
use super::manifest::{self, Manifest};
use super::plan::Plan;
use super::transaction::Transaction;
use super::{InstallError, InstallOptions, System, effective, reload};

impl Plan {
    /// Does it, or leaves the host as it was.
    pub(super) fn apply(
        self,
        options: &InstallOptions,
        system: &System,
    ) -> Result<String, InstallError> {
        let mut transaction = Transaction::default();
        match self.carry_out(&mut transaction, options, system) {
            Ok(report) => Ok(report),
            Err(failure) => Err(undone(transaction, failure)),
        }
    }

    fn carry_out(
        &self,
        transaction: &mut Transaction,
        options: &InstallOptions,
        system: &System,
    ) -> Result<String, InstallError> {
        self.write(transaction, system)?;
        self.sshd.test()?;
        let users = accounts::samples(&self.accounts);
        let remarks = effective::check(
            &self.sshd,
            &self.drop_in.settings()?,
            &users,
            &self.overrides,
            &self.config_dir,
        )?;
        self.try_commands(system)?;
        let mut report = if self.is_change() {
            let told = reload::reload(&options.sshd)?;
            format!(
                "installed: sshd asks {} as {}\n{told}\n",
                self.drop_in.agent.display(),
                self.drop_in.user
            )
        } else {
            "nothing to change: sshd asks this agent already\n".to_owned()
        };
        for remark in remarks {
            report.push_str(&format!("note: {remark}\n"));
        }
        Ok(report)
    }

    fn write(&self, transaction: &mut Transaction, system: &System) -> Result<(), InstallError> {
        let mut manifest = self.manifest();
        if let CommandUser::ToCreate(name) = self.command_user {
            transaction.make_account(name)?;
            manifest.account = Some(name.to_owned());
        }
        let own_folders = [Some(self.state.as_path()), system.agent_toml.parent()];
        for folder in own_folders.into_iter().flatten() {
            manifest.folders.extend(transaction.make_folder(folder)?);
        }
        let drop_ins = self.config_dir.join("sshd_config.d");
        manifest.folders.extend(transaction.make_folder(&drop_ins)?);
        // The record comes first: an installation that is killed half-way can be taken back.
        transaction.put(&self.state.join(manifest::NAME), Some(&manifest.content()))?;
        for change in &self.changes {
            transaction.put(&change.path, change.after.as_ref())?;
        }
        Ok(())
    }

    /// The record of this installation; what earlier ones found is kept.
    fn manifest(&self) -> Manifest {
        let mut manifest = Manifest {
            originals: BTreeMap::new(),
            written: BTreeMap::new(),
            ..self.previous.clone()
        };
        for change in &self.changes {
            let Some(after) = &change.after else { continue };
            let original = self
                .previous
                .originals
                .get(&change.path)
                .unwrap_or(&change.before)
                .clone();
            manifest.originals.insert(change.path.clone(), original);
            manifest
                .written
                .insert(change.path.clone(), manifest::sha256(after));
        }
        manifest
    }

    /// Runs the principals command as the account that sshd will use: it must be able to read everything.
    fn try_commands(&self, system: &System) -> Result<(), InstallError> {
        let user = self.drop_in.user.clone();
        let failed = |complaint: String| InstallError::SelfTest {
            user: user.clone(),
            complaint,
        };
        let accounts = accounts::read(&system.passwd, &system.trusted)?;
        let account = accounts
            .iter()
            .find(|account| account.name == user)
            .ok_or_else(|| failed("no such account".to_owned()))?;
        let output = Command::new(&self.drop_in.agent)
            .args(["authorized-principals", "root", &self.ca])
            .env_clear()
            .current_dir("/")
            .gid(account.gid)
            .uid(account.uid)
            .output()
            .map_err(|e| failed(e.to_string()))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(failed(
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            ))
        }
    }
}

/// Rolls back; a failure on the way is told with the first one.
pub(super) fn undone(transaction: Transaction, failure: InstallError) -> InstallError {
    let left_over = transaction.roll_back();
    if left_over.is_empty() {
        failure
    } else {
        InstallError::RollBack {
            failure: Box::new(failure),
            left_over,
        }
    }
}
