//! `eic-ca config check`: every mistake of a configuration, with file, line and key.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output::print;
use crate::app::policy_sources;
use crate::config::{Config, ConfigError};
use crate::inventory::static_file::StaticInventory;
use crate::policy::{LoadError, PolicySet};

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
    },
}

/// Runs the command.
///
/// # Errors
/// [`ConfigCommandError`]
pub fn run(args: &ConfigArgs) -> Result<ExitCode, ConfigCommandError> {
    let Verb::Check { file } = &args.verb;
    let config = Config::load(file)?;
    let mut problems = missing_files(&config);
    if let Some(inventory) = &config.inventory.static_file {
        problems.extend(
            StaticInventory::open(inventory)
                .err()
                .map_or_else(Vec::new, told),
        );
    }
    problems.extend(
        PolicySet::load(&policy_sources(&config))
            .err()
            .map(|e: LoadError| e.to_string()),
    );
    if problems.is_empty() {
        print(format_args!("{}: no mistakes\n", file.display()));
        return Ok(ExitCode::SUCCESS);
    }
    Err(ConfigCommandError::Problems(problems))
}

/// One line for each mistake of a file.
fn told(error: ConfigError) -> Vec<String> {
    match error {
        ConfigError::Mistakes(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        other => vec![other.to_string()],
    }
}

/// Files that the service could not start without.
fn missing_files(config: &Config) -> Vec<String> {
    use crate::config::keys::SignerConfig;
    let mut files: Vec<(&str, &PathBuf)> = vec![
        ("keys.bundle", &config.keys.bundle),
        ("keys.root_document", &config.keys.root_document),
    ];
    for (key, signer) in [
        ("keys.user_ca", &config.keys.user_ca),
        ("keys.host_ca", &config.keys.host_ca),
    ] {
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
}
