//! The RevokedKeys file before sshd sees it: ours by our own reader, readable by the installed OpenSSH, and
//! both of one opinion. sshd refuses every key over a list that it cannot read (sshd_config(5) RevokedKeys).

use std::path::{Path, PathBuf};
use std::process::Command;

use eic_protocol::krl::Krl;
use eic_protocol::subject_key::CaKey;

use crate::atomic_file;
use crate::child;

/// Names of the files with which ssh-keygen is asked; a killed run leaves them.
pub(super) const PROBES: [&str; 2] = [".revoked-keys.probe", ".key.probe"];

/// Writes `bytes` under a name that sshd does not read, asks ssh-keygen, removes it again.
///
/// # Errors
/// [`NotReadable`]: then the file that sshd reads stays as it is.
pub(super) fn check(
    bytes: &[u8],
    krl: &Krl,
    keys: &[CaKey],
    state: &Path,
    ssh_keygen: &Path,
) -> Result<(), NotReadable> {
    let [list_name, key_name] = PROBES;
    let list = Probe::write(state.join(list_name), bytes)?;
    for key in keys {
        let line = format!("{key}\n");
        let file = Probe::write(state.join(key_name), line.as_bytes())?;
        let theirs = ask(ssh_keygen, &list.0, &file.0)?;
        let ours = krl.revokes_key(key.key().blob());
        if theirs != ours {
            return Err(NotReadable::Disagree {
                key: key.fingerprint(),
                theirs,
            });
        }
    }
    Ok(())
}

/// Whether ssh-keygen finds the key revoked; its exit status alone does not tell this from an error.
fn ask(ssh_keygen: &Path, list: &Path, key: &Path) -> Result<bool, NotReadable> {
    let mut question = Command::new(ssh_keygen);
    question.arg("-Q").arg("-f").args([list, key]);
    let output =
        child::output(&mut question, child::LIMIT).map_err(|source| NotReadable::Program {
            program: ssh_keygen.to_path_buf(),
            source,
        })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let said = said.trim_end();
    if output.status.success() && said.ends_with(": ok") {
        Ok(false)
    } else if said.ends_with(": REVOKED") {
        Ok(true)
    } else {
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(NotReadable::Refused(eic_protocol::text::printable(
            complaint.trim(),
        )))
    }
}

/// A file that goes again.
struct Probe(PathBuf);

impl Probe {
    fn write(path: PathBuf, bytes: &[u8]) -> Result<Self, NotReadable> {
        atomic_file::write(&path, bytes, 0o600).map_err(|source| NotReadable::Write {
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Best effort: the next check replaces it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Why a revocation list is not installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReadable {
    /// The probe could not be written.
    #[error("write `{}`", .path.display())]
    Write {
        /// The probe.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// ssh-keygen could not be started.
    #[error("run `{}`", .program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// ssh-keygen does not read it, so sshd would not.
    #[error("have the installed OpenSSH read the revocation list, it said: {0}")]
    Refused(String),
    /// It reads something else than we do.
    #[error("agree with the installed OpenSSH on the revocation list: it says that CA key {key} is {}revoked", if *.theirs { "" } else { "not " })]
    Disagree {
        /// The key's fingerprint.
        key: String,
        /// What ssh-keygen says.
        theirs: bool,
    },
}
