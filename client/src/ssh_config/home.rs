//! Where ssh looks for a user's configuration: the home folder of the system's user database, whatever `HOME` says.
//! Setup goes by `HOME`, as everything else that a user configures; where the two differ, somebody must be told.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What to say where the installed ssh does not read `ssh_dir`; nothing where it does, or does not tell.
#[must_use]
pub fn not_read(ssh_dir: &Path) -> Option<String> {
    told(ssh_dir, &of_ssh()?)
}

fn told(ours: &Path, read: &Path) -> Option<String> {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if real(ours) == real(read) {
        return None;
    }
    let (read, file) = (read.display(), ours.join("config"));
    Some(format!(
        "ssh reads {read}, not {}, since HOME is not the home folder of this account: use `eic-login ssh`, or `ssh -F {}`",
        ours.display(),
        file.display()
    ))
}

/// `~/.ssh` as ssh expands it; `-G` connects to nothing.
fn of_ssh() -> Option<PathBuf> {
    let mut command = Command::new("ssh");
    command.args(["-G", "-F", "none", "-oIdentityAgent=~/.ssh", "--", "x"]);
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let folder = lines.find_map(|line| line.strip_prefix("identityagent "))?;
    Some(PathBuf::from(folder)).filter(|folder| folder.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_ssh_does_not_read_is_said_with_what_works() {
        let dir = tempfile::tempdir().unwrap();
        let said = not_read(&dir.path().join(".ssh")).unwrap();
        let file = format!("ssh -F {}/.ssh/config", dir.path().display());
        assert!(
            said.contains(&file) && said.contains("eic-login ssh"),
            "{said}"
        );
    }

    #[test]
    fn the_folder_that_ssh_reads_is_not_mentioned() {
        let read = of_ssh().unwrap();
        assert_eq!(not_read(&read), None);
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        assert_eq!(told(&dir.path().join("link"), dir.path()), None);
    }
}
