//! A login tried before sshd's own configuration is touched: a copy of the configuration as it will be, with a
//! throw-away root, CA and key in the place of the real ones, asked by the stock ssh client over a pipe.
//! No port is opened, nothing outside the trial's folder is written, and the folder goes with the trial.

mod keys;
mod login;

use std::path::{Path, PathBuf};

use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

use self::login::{Login, Verdict};
use super::drop_in::DropIn;
use super::placement::{FOLDER, NAME, Placement, redirected};
use super::{InstallError, accounts, effective};
use crate::atomic_file;
use crate::sshd::Sshd;

/// What a trial needs to know of the installation.
pub(super) struct Trial<'a> {
    /// The judge.
    pub(super) sshd: &'a Sshd,
    /// Where the lines will stand, and what they will say.
    pub(super) placement: &'a Placement,
    pub(super) drop_in: &'a DropIn,
    pub(super) config_dir: &'a Path,
    /// The state folder: the trial's own lies in it, where the commands' account and a policy let sshd read.
    pub(super) state: &'a Path,
    pub(super) instance: &'a InstanceId,
    pub(super) accounts: &'a [accounts::Account],
    /// Settings of Match blocks that may stay.
    pub(super) tolerated: &'a [(String, String)],
}

/// The trial's folder in the state folder.
pub(super) const FOLDER_NAME: &str = "trial";

/// Makes the trial; returns remarks for the administrator.
///
/// # Errors
/// [`InstallError::Trial`]: a good certificate was refused, or a bad one let in.
pub(super) fn run(trial: &Trial<'_>, now: u64) -> Result<Vec<String>, InstallError> {
    if !login::has_client() {
        let remark = "the trial login was left out: there is no ssh client on this host";
        return Ok(vec![remark.to_owned()]);
    }
    let folder = Folder::make(trial.state.join(FOLDER_NAME))?;
    let made = trial
        .prepare(&folder.0, now)
        .and_then(|()| trial.judge(&folder.0));
    drop(folder);
    made
}

impl Trial<'_> {
    fn prepare(&self, folder: &Path, now: u64) -> Result<(), InstallError> {
        let settings = self.sshd.effective("root")?;
        keys::make(folder, keys::kind(&settings))?;
        keys::documents(folder, self.instance, now)?;
        self.copy_configuration(folder)
    }

    /// The configuration as it will be, but for the trial's files; drop-ins are copied, other Includes stay.
    fn copy_configuration(&self, folder: &Path) -> Result<(), InstallError> {
        let lines = self.stand_in(folder).lines()?;
        let main = read(&self.sshd.config)?;
        let (from, to) = (self.config_dir.join(FOLDER), folder.join(FOLDER));
        make_folder(&to, 0o755)?;
        for entry in std::fs::read_dir(&from).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_file() {
                write(&to.join(entry.file_name()), &read(&path)?, 0o600)?;
            }
        }
        let main = match self.placement {
            Placement::Block(_) => self.placement.with(&main, &lines),
            Placement::DropIn(_) => {
                write(&to.join(NAME), &self.placement.with("", &lines), 0o600)?;
                main
            }
        };
        write(&config(folder), &redirected(&main, &from, &to), 0o600)
    }

    /// Our lines with the trial's root and CA.
    fn stand_in(&self, folder: &Path) -> DropIn {
        DropIn {
            config: Some(folder.join(keys::AGENT_TOML)),
            ca_keys: folder.join(keys::CA_KEYS),
            host_certificate: None,
            ..self.drop_in.clone()
        }
    }

    /// Looks for an account that this sshd lets in, and tries three certificates on it.
    fn judge(&self, folder: &Path) -> Result<Vec<String>, InstallError> {
        let copy = self.sshd.with_config(config(folder));
        copy.test()?;
        let wanted = self.stand_in(folder).settings()?;
        let users = accounts::samples(self.accounts);
        // A setting that would not win is a clearer answer than a refused login.
        effective::check(&copy, &wanted, &users, self.tolerated, self.config_dir)?;
        let (mut closed, mut half_way) = (Vec::new(), None);
        for user in self.users() {
            match self.good(folder, &user)? {
                Verdict::Accepted => return self.bad(folder, &user).map(|()| Vec::new()),
                Verdict::CertificateAccepted(why) => {
                    self.bad(folder, &user)?;
                    half_way.get_or_insert(format!(
                        "in the trial sshd took the certificate for {user}, but then said: {why}"
                    ));
                }
                Verdict::AccountClosed => closed.push(user.to_string()),
                Verdict::Refused(log) => {
                    return Err(InstallError::Trial(format!(
                        "a good certificate for {user} was refused, sshd said: {log}"
                    )));
                }
            }
        }
        let nothing = || {
            let accounts = closed.join(", ");
            format!(
                "the trial login showed nothing: sshd lets none of these accounts in by any key: {accounts}"
            )
        };
        Ok(vec![half_way.unwrap_or_else(nothing)])
    }

    fn users(&self) -> Vec<OsUser> {
        let names = accounts::samples(self.accounts);
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }

    fn good(&self, folder: &Path, user: &OsUser) -> Result<Verdict, InstallError> {
        let principal = format!("{user}@{}", self.instance);
        self.login(folder, user, keys::CA, &principal)
    }

    /// A CA that nobody named, and a certificate for somebody else: neither may get in.
    fn bad(&self, folder: &Path, user: &OsUser) -> Result<(), InstallError> {
        let own = format!("{user}@{}", self.instance);
        let others = format!("not-{user}@{}", self.instance);
        let cases = [
            (keys::FOREIGN_CA, own, "by a CA that is not trusted"),
            (keys::CA, others, "for another user"),
        ];
        for (ca, principal, what) in cases {
            match self.login(folder, user, ca, &principal)? {
                Verdict::Accepted | Verdict::CertificateAccepted(_) => {
                    return Err(InstallError::Trial(format!(
                        "a certificate {what} opened the account {user}"
                    )));
                }
                Verdict::AccountClosed | Verdict::Refused(_) => {}
            }
        }
        Ok(())
    }

    fn login(
        &self,
        folder: &Path,
        user: &OsUser,
        ca: &str,
        principal: &str,
    ) -> Result<Verdict, InstallError> {
        let certificate = keys::certify(folder, ca, principal)?;
        Login {
            sshd: &self.sshd.program,
            config: &config(folder),
            folder,
            certificate: &certificate,
            user: user.as_str(),
        }
        .run()
    }
}

fn config(folder: &Path) -> PathBuf {
    folder.join("sshd_config")
}

/// A folder that goes with the trial.
struct Folder(PathBuf);

impl Folder {
    fn make(path: PathBuf) -> Result<Self, InstallError> {
        // What a killed trial left.
        let _ = std::fs::remove_dir_all(&path);
        make_folder(&path, 0o755)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: the next installation and `uninstall` remove it as well.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), InstallError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let failed = |source| change(path, source);
    std::fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(failed)?;
    // The umask may have closed it to the commands' account.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
}

fn read(path: &Path) -> Result<String, InstallError> {
    let bytes = std::fs::read(path).map_err(|source| change(path, source))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), InstallError> {
    atomic_file::write(path, text.as_bytes(), mode).map_err(|source| change(path, source))
}

fn change(path: &Path, source: std::io::Error) -> InstallError {
    InstallError::Change {
        path: path.to_path_buf(),
        source,
    }
}
