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

/// Makes the folder, or nothing. `now` is in Unix seconds.
///
/// # Errors
/// [`InitError`]
pub fn init(folder: &Path, now: u64) -> Result<Generated, InitError> {
    let mut made = Made::default();
    made.folder(folder)?;
    // Before the keys: a folder that has a configuration already is somebody's CA.
    for (name, text) in [
        (CONFIG, sample::CONFIG),
        (POLICY, sample::POLICY),
        (INVENTORY, sample::INVENTORY),
    ] {
        made.file(folder.join(name), text)?;
    }
    let keys_folder = folder.join(KEYS);
    made.folder(&keys_folder)?;
    if !made.folders.contains(&keys_folder) {
        let there = std::io::ErrorKind::AlreadyExists.into();
        return Err(failed(&keys_folder, there));
    }
    let generated = keys::init(&keys_folder, now)?;
    made.keep();
    Ok(generated)
}

fn failed(path: &Path, error: std::io::Error) -> InitError {
    InitError::File(path.display().to_string(), error)
}

/// What was made so far; dropped without [`Made::keep`] all of it goes again, and nothing else.
#[derive(Default)]
struct Made {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Made {
    /// Makes a folder and those above it, where they are missing.
    fn folder(&mut self, folder: &Path) -> Result<(), InitError> {
        let missing = folder
            .ancestors()
            .take_while(|f| !f.as_os_str().is_empty() && !f.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        for folder in missing.into_iter().rev() {
            let made = DirBuilder::new().mode(0o700).create(&folder);
            made.map_err(|e| failed(&folder, e))?;
            self.folders.push(folder);
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf, text: &str) -> Result<(), InitError> {
        let created = create(&path, text);
        // One that could not be written to its end was made too; one that was there already was not.
        if !matches!(&created, Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists) {
            self.files.push(path.clone());
        }
        created.map_err(|e| failed(&path, e))
    }

    fn keep(mut self) {
        self.files.clear();
        self.folders.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
        // Keys that were made lie in a folder of ours.
        for folder in self.folders.iter().rev() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
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
    fn what_fails_leaves_nothing_half_made_and_nothing_of_others_away() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("a/ca");
        // Somebody's keys are in the way, beside a file of his.
        std::fs::create_dir_all(ca.join("keys")).unwrap();
        std::fs::write(ca.join("keys/user-ca"), "his").unwrap();
        assert!(init(&ca, 1_800_000_000).is_err());
        let left: Vec<_> = std::fs::read_dir(&ca).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(
            std::fs::read_to_string(ca.join("keys/user-ca")).unwrap(),
            "his"
        );
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(init(&folder.path().join("file/ca"), 1_800_000_000).is_err());
        std::fs::write(folder.path().join("policy.json"), "his").unwrap();
        assert!(init(folder.path(), 1_800_000_000).is_err());
        assert!(!folder.path().join("eic-ca.toml").exists());
        assert!(folder.path().join("policy.json").exists());
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
