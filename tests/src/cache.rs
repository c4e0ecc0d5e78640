//! Things that take long to make and are kept in the build cache: moto's Python packages, another OpenSSH.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use crate::binaries;
use crate::error::{Context, Error, Result, unexpected};

/// The folder `name` of the build cache, made by `make` unless it was made from the same `recipe` before.
///
/// A lock keeps two test processes from making it at once; the recipe that is written at the end tells a complete
/// folder from one whose making was interrupted.
pub(crate) fn kept(
    name: &str,
    recipe: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let cache = binaries::cache()?;
    let (folder, mark) = (cache.join(name), cache.join(format!("{name}.complete")));
    let lock = fs::File::create(cache.join(format!("{name}.lock")))
        .context(|| format!("lock the cache of {name}"))?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(|cause| unexpected(&format!("lock the cache of {name}"), cause))?;
    if fs::read_to_string(&mark).is_ok_and(|made_from| made_from == recipe) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).context(|| format!("remove the old {name}"))?;
    }
    fs::create_dir_all(&folder).context(|| format!("make `{}`", folder.display()))?;
    make(&folder)?;
    fs::write(&mark, recipe).context(|| format!("mark {name} complete"))?;
    Ok(folder)
}

/// Runs a step of making something.
pub(crate) fn step(command: &mut Command) -> Result<String> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w| w.to_string_lossy())
        .collect();
    let line = words.join(" ");
    let output = command.output().context(|| format!("run `{line}`"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Command {
        command: line,
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
