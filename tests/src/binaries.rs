//! Where our programs and the build caches are.

use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// A folder whose programs come before those of the running test's profile: the bench measures released agents.
const RELEASED: &str = "EIC_LAB_RELEASED";

/// The program `name` of this workspace, built in the same profile as the running test.
///
/// # Errors
/// [`Error::MissingBinary`] when it is not built; the message says how to.
pub fn find(name: &str) -> Result<PathBuf> {
    if let Some(released) = released(name) {
        return Ok(released);
    }
    let path = profile_folder()?.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::MissingBinary(path))
    }
}

/// The program in the folder that the variable `EIC_LAB_RELEASED` names, if it is there.
pub fn released(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(RELEASED)?;
    Some(Path::new(&folder).join(name)).filter(|path| path.is_file())
}

/// The program `name` as it is released, for any glibc from 2.17 on.
///
/// # Errors
/// [`Error::MissingPortable`] when it is not built; the message says how to.
pub fn portable(name: &str) -> Result<PathBuf> {
    let profile = profile_folder()?;
    let target = profile.parent().context(|| "find the target folder")?;
    let path = target
        .join("portable")
        .join(std::env::consts::ARCH)
        .join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::MissingPortable(path))
    }
}

/// Those of our programs that are built.
pub(crate) fn built() -> Vec<PathBuf> {
    let names = ["eic-ca", "eic-login", "eic-agent", "eic-agent-service"];
    names
        .into_iter()
        .filter_map(|name| find(name).ok())
        .collect()
}

/// The lab's build cache: `$CARGO_TARGET_DIR/eic-lab`, by the place of the running test.
///
/// # Errors
/// When the place of the running program is unknown.
pub fn cache() -> Result<PathBuf> {
    let profile = profile_folder()?;
    let target = profile.parent().context(|| "find the target folder")?;
    let cache = target.join("eic-lab");
    std::fs::create_dir_all(&cache).context(|| format!("make `{}`", cache.display()))?;
    Ok(cache)
}

/// `target/debug`: a program's own folder, or its parent's for tests (`deps`) and examples.
fn profile_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context(|| "find the running program")?;
    let folder = program
        .parent()
        .context(|| "find the running program's folder")?;
    let nested = ["deps", "examples"]
        .iter()
        .any(|name| folder.ends_with(name));
    let profile = if nested {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    Ok(profile.to_path_buf())
}

/// A program of the system, with the Debian package to install when it is not there.
///
/// # Errors
/// [`Error::MissingProgram`].
pub fn system(program: &'static str, package: &'static str) -> Result<PathBuf> {
    let folders = ["/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let found = folders
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file());
    found.ok_or(Error::MissingProgram { program, package })
}

/// A program of the system anywhere on the PATH of the running test.
///
/// # Errors
/// [`Error::MissingProgram`].
pub fn on_path(program: &'static str, package: &'static str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    found.ok_or(Error::MissingProgram { program, package })
}
