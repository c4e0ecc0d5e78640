//! Other people's programs that log in by way of ours: Ansible, paramiko, asyncssh and libssh2, fetched from PyPI into the
//! build cache for the machine's own /usr/bin/python3, which rooms have too. Nothing is installed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::binaries;
use crate::cache::{kept, step};
use crate::error::{Context, Result};

/// Frozen versions.
const REQUIREMENTS: &str = include_str!("../other-programs-requirements.txt");

/// The interpreter inside rooms. One under /root, such as pyenv's, would be hidden there.
pub const PYTHON: &str = "/usr/bin/python3";

/// Where a lab's clients find the packages; for `PYTHONPATH`.
pub const PACKAGES: &str = "/opt/packages";

/// The folder with `packages` in it, about 80 MB.
///
/// # Errors
/// When pip cannot fetch them, or there is no /usr/bin/python3.
pub(crate) fn folder() -> Result<PathBuf> {
    let system = binaries::on_path("python3", "python3-venv")?;
    binaries::system("python3", "python3")?;
    kept("other-programs", REQUIREMENTS, |folder| {
        let (venv, list) = (folder.join("venv"), folder.join("requirements.txt"));
        fs::write(&list, REQUIREMENTS).context(|| "write the list of other programs")?;
        step(Command::new(system).args(["-m", "venv"]).arg(&venv))?;
        let pip = ["--quiet", "--no-input", "--python", PYTHON, "install"];
        step(
            Command::new(venv.join("bin/pip"))
                .env("PIP_ROOT_USER_ACTION", "ignore") // nothing is installed into the machine
                .args(pip)
                .arg("--target")
                .arg(folder.join("packages"))
                .arg("-r")
                .arg(&list),
        )?;
        fs::remove_dir_all(&venv).context(|| "remove pip's environment")
    })
}
