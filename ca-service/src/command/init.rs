//! `eic-ca init DIR`: everything that a first `eic-ca serve` needs, in one new folder.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::output::print;
use crate::clock::Clock;
use crate::config::sample;
use crate::keys::{self, Generated, KeysError};

/// Where to.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder; made where it is missing. Nothing in it is overwritten.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Names of the files beside the keys.
const CONFIG: &str = "eic-ca.toml";
const POLICY: &str = "policy.json";
const INVENTORY: &str = "inventory.toml";
const KEYS: &str = "keys";

/// Runs the command.
///
/// # Errors
/// [`InitError`]
pub fn run(args: &InitArgs) -> Result<ExitCode, InitError> {
    let generated = init(&args.folder, Clock::system().now())?;
    print(next_steps(&args.folder, &generated));
    Ok(ExitCode::SUCCESS)
}

/// Makes the folder. `now` is in Unix seconds.
///
/// # Errors
/// [`InitError`]
pub fn init(folder: &Path, now: u64) -> Result<Generated, InitError> {
    let failed = |path: &Path, e: std::io::Error| InitError::File(path.display().to_string(), e);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|e| failed(folder, e))?;
    // Before the keys: a folder that has a configuration already is somebody's CA.
    for (name, text) in [
        (CONFIG, sample::CONFIG),
        (POLICY, sample::POLICY),
        (INVENTORY, sample::INVENTORY),
    ] {
        let path = folder.join(name);
        create(&path, text).map_err(|e| failed(&path, e))?;
    }
    Ok(keys::init(&folder.join(KEYS), now)?)
}

fn create(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn next_steps(folder: &Path, generated: &Generated) -> String {
    let folder = folder.display();
    let fingerprint = &generated.root_fingerprint;
    format!(
        "made {folder}: {CONFIG}, {POLICY}, {INVENTORY} and the keys in {KEYS}/\n\
         root key: {fingerprint}\n\n\
         Put your accounts, roles and hosts into {POLICY} and {INVENTORY}. Then:\n\n\
         \x20 eic-ca serve --config {folder}/{CONFIG}\n\
         \x20 eic-ca host-state --help    # what a host needs to trust this CA\n\
         \x20 eic-login setup http://127.0.0.1:8443 --fingerprint {fingerprint}\n"
    )
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file that is there already, or cannot be made.
    #[error("make `{0}`: {1}")]
    File(String, std::io::Error),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::policy_sources;
    use crate::config::Config;
    use crate::inventory::static_file::StaticInventory;
    use crate::policy::PolicySet;

    #[test]
    fn a_folder_that_holds_a_ca_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), 1_800_000_000).unwrap();
        let before = std::fs::read(folder.path().join("keys/user-ca")).unwrap();
        assert!(init(folder.path(), 1_800_000_001).is_err());
        assert_eq!(
            std::fs::read(folder.path().join("keys/user-ca")).unwrap(),
            before
        );
    }

    #[test]
    fn what_was_made_is_taken_by_every_reader() {
        let folder = tempfile::tempdir().unwrap();
        let generated = init(&folder.path().join("ca"), 1_800_000_000).unwrap();
        let config = Config::load(&folder.path().join("ca/eic-ca.toml")).unwrap();
        assert!(
            PolicySet::load(&policy_sources(&config))
                .unwrap()
                .statement_count()
                > 0
        );
        assert!(StaticInventory::open(config.inventory.static_file.as_ref().unwrap()).is_ok());
        let steps = next_steps(Path::new("ca"), &generated);
        assert!(
            steps.contains("eic-ca serve --config ca/eic-ca.toml") && steps.contains("SHA256:"),
            "{steps}"
        );
    }
}
