//! `eic-ca config check`: every mistake of a configuration, with file, line and key.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output::print;
use super::runtime::block_on;
use crate::app::policy_sources;
use crate::clock::Clock;
use crate::config::keys::SignerConfig;
use crate::config::{Config, ConfigError};
use crate::host_identity::region_certificates::RegionCertificates;
use crate::http::check_tls;
use crate::inventory::static_file::StaticInventory;
use crate::keys::{self, KeyMaterial};
use crate::policy::PolicySet;
use crate::session::GrantSecret;
use crate::signer::UserCa;
use crate::store::KeyPins;

/// What to do with the configuration.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read the configuration, its policies and its inventory; nothing is started.
    Check {
        /// The configuration file.
        #[arg(value_name = "FILE", default_value = "eic-ca.toml")]
        file: PathBuf,
        /// Do not ask KMS: its keys, and whether the root document names them, stay unchecked.
        #[arg(long)]
        offline: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// [`ConfigCommandError`]
pub fn run(args: &ConfigArgs) -> Result<ExitCode, ConfigCommandError> {
    let Verb::Check { file, offline } = &args.verb;
    let config = Config::load(file)?;
    let problems = problems(&config, *offline)?;
    if problems.is_empty() {
        print(format_args!("{}: no mistakes\n", file.display()));
        return Ok(ExitCode::SUCCESS);
    }
    Err(ConfigCommandError::Problems(problems))
}

/// All that would keep the service from starting, or from issuing.
fn problems(config: &Config, offline: bool) -> Result<Vec<String>, ConfigCommandError> {
    let mut problems = missing_files(config);
    if problems.is_empty() {
        problems.extend(key_problems(config, offline)?);
    }
    if let Some(inventory) = &config.inventory.static_file {
        let mistakes = StaticInventory::open(inventory).err();
        problems.extend(mistakes.map_or_else(Vec::new, told));
    }
    if let Some(folder) = &config.hosts.identity_certificates {
        let certificates = RegionCertificates::load(folder);
        problems.extend(certificates.err().map(|e| e.to_string()));
    }
    let mistakes = PolicySet::mistakes(&policy_sources(config));
    problems.extend(mistakes.iter().map(ToString::to_string));
    Ok(problems)
}

/// Those of keys, root document and certificate: the checks of `eic-ca serve`. Nothing is written.
fn key_problems(config: &Config, offline: bool) -> Result<Vec<String>, ConfigCommandError> {
    let mut problems = Vec::new();
    let in_kms = |signer: &SignerConfig| matches!(signer, SignerConfig::Kms(_));
    if !offline || !signers(config).any(|(_, signer)| in_kms(signer)) {
        let pins = KeyPins::read_only(&config.store);
        let loaded = block_on(keys::load(&config.keys, &pins, Clock::system().now()))?;
        match loaded {
            Ok(keys) => problems.extend(silent_keys(&keys)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    for file in &config.keys.grant_secrets {
        problems.extend(GrantSecret::load(file).err().map(|e| e.to_string()));
    }
    if let Some(files) = &config.server.tls {
        problems.extend(check_tls(files).err().map(|e| e.to_string()));
    }
    Ok(problems)
}

/// The service starts without them and signs nothing until they answer.
fn silent_keys(keys: &KeyMaterial) -> Vec<String> {
    let users = std::iter::once(&keys.user_ca).chain(&keys.spares);
    let unreached = users.filter_map(UserCa::unreached);
    let all = unreached.chain(keys.host_ca.unreached());
    all.map(|reason| reason.to_string()).collect()
}

/// One line for each mistake of a file.
fn told(error: ConfigError) -> Vec<String> {
    match error {
        ConfigError::Mistakes(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        other => vec![other.to_string()],
    }
}

/// Every CA key that is opened, by its place in the configuration.
fn signers(config: &Config) -> impl Iterator<Item = (&'static str, &SignerConfig)> {
    let keys = &config.keys;
    let spares = keys.spare_user_cas.iter();
    [
        ("keys.user_ca", &keys.user_ca),
        ("keys.host_ca", &keys.host_ca),
    ]
    .into_iter()
    .chain(spares.map(|spare| ("keys.spare_user_cas", spare)))
}

/// Files that the service could not start without.
fn missing_files(config: &Config) -> Vec<String> {
    let mut files: Vec<(&str, &PathBuf)> = vec![
        ("keys.bundle", &config.keys.bundle),
        ("keys.root_document", &config.keys.root_document),
    ];
    for (key, signer) in signers(config) {
        if let SignerConfig::Local { file } = signer {
            files.push((key, file));
        }
    }
    files.extend(
        config
            .keys
            .grant_secrets
            .iter()
            .map(|file| ("keys.grant_secrets", file)),
    );
    if let Some(tls) = &config.server.tls {
        files.extend([
            ("server.tls.certificate", &tls.certificate),
            ("server.tls.key", &tls.key),
        ]);
    }
    let missing = files.into_iter().filter(|(_, file)| !file.is_file());
    missing
        .map(|(key, file)| format!("`{key}` names `{}`, which is not there", file.display()))
        .collect()
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigCommandError {
    /// The configuration's own mistakes.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Those of the files that it names.
    #[error("use the files that the configuration names:\n  {}", .0.join("\n  "))]
    Problems(Vec<String>),
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}
