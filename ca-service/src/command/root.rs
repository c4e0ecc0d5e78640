//! `eic-ca root update|show`: brings the root document in line with the configured keys, by the root key.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use eic_protocol::trust::root::{KeyState, Root};

use super::runtime::block_on;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::keys::{KeysError, RootError, RootKeys, root};
use crate::signer::document::RootKey;
use crate::signer::local::LocalKeyError;
use crate::store::{Store, StoreConfig, StoreError};

/// What to do with the root document.
#[derive(Debug, Args)]
pub struct RootArgs {
    /// The service's configuration file.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "eic-ca.toml",
        global = true
    )]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Sign a new version where the configured keys are not those that it names.
    Update {
        /// The root key, where the configuration names none because it is kept offline.
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
    },
    /// Print the keys that it names, with the fingerprint that hosts and clients pin.
    Show,
}

/// Runs the command.
///
/// # Errors
/// [`RootCommandError`]
pub fn run(args: &RootArgs) -> Result<ExitCode, RootCommandError> {
    let config = Config::load(&args.config)?;
    match &args.verb {
        Verb::Update { root_key } => update(&config, root_key.as_ref()),
        Verb::Show => {
            let (_, document) = root::read(&config.keys.root_document)?;
            print!("{}", shown(&document));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn update(config: &Config, root_key: Option<&PathBuf>) -> Result<ExitCode, RootCommandError> {
    let file = root_key
        .or(config.keys.root.as_ref())
        .ok_or(RootCommandError::NoRootKey)?;
    let root_key = RootKey::load(file)?;
    let clock = Clock::system();
    let store = Store::open(&StoreConfig::at(&config.store))?;
    let opened = block_on(RootKeys::open(&config.keys, &store.key_pins(), clock.now()))?;
    let (keys, _) = opened?;
    let path = &config.keys.root_document;
    let (version, new) = root::update(path, &keys, &root_key, clock.now())?;
    if new {
        println!(
            "wrote {} version {version}; give it to hosts (`eic-ca host-state`) and restart `eic-ca serve`",
            path.display()
        );
    } else {
        println!(
            "{} version {version} names the configured keys already",
            path.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(root: &Root) -> String {
    let mut text = format!(
        "version {}, {} of {} root keys sign\n",
        root.version,
        root.threshold,
        root.root_keys.len()
    );
    for key in &root.root_keys {
        text.push_str(&format!("root     {}\n", key.fingerprint()));
    }
    for key in &root.bundle_keys {
        text.push_str(&format!("bundle   {}\n", key.fingerprint()));
    }
    for ca in &root.user_cas {
        text.push_str(&format!(
            "user CA  {} {}\n",
            ca.key.fingerprint(),
            state(ca.state)
        ));
    }
    for key in &root.host_cas {
        text.push_str(&format!("host CA  {}\n", key.fingerprint()));
    }
    text
}

fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::Announced => "announced",
        KeyState::Active => "active",
        KeyState::Retired => "retired",
    }
}

/// Why the root document was not shown or renewed.
#[derive(Debug, thiserror::Error)]
pub enum RootCommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configured keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The root key.
    #[error(transparent)]
    RootKey(#[from] LocalKeyError),
    /// The document.
    #[error(transparent)]
    Root(#[from] RootError),
    /// No root key.
    #[error(
        "sign the next root: the configuration names no root key; give one with `--root-key FILE`"
    )]
    NoRootKey,
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}
