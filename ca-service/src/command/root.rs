//! `eic-ca root update|show|init|sign|install`: the root document, by one root key at hand or by several offline.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use eic_protocol::trust::root::{KeyState, Root};

pub(super) mod ceremony;

use super::config_file::ConfigFile;
use super::runtime::block_on;
use crate::audit::{Actor, AppendError, Operator, Recorder};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::keys::{KeysError, RootError, RootKeys, root, root_history};
use crate::log;
use crate::random::NoEntropy;
use crate::signer::document::RootKey;
use crate::signer::local::LocalKeyError;
use crate::store::{Store, StoreConfig, StoreError};

/// What to do with the root document.
#[derive(Debug, Args)]
pub struct RootArgs {
    #[command(flatten)]
    config: ConfigFile,
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
    /// Write an unsigned root with the configured keys, for several people to sign.
    Init(ceremony::DraftArgs),
    /// Add a signature to such a draft; needs no configuration and no network.
    Sign(ceremony::SignArgs),
    /// Put a draft in place that enough root keys have signed.
    Install(ceremony::InstallArgs),
    /// Print the keys that it names, with the fingerprint that hosts and clients pin.
    Show,
}

/// Runs the command.
///
/// # Errors
/// [`RootCommandError`]
pub fn run(args: &RootArgs) -> Result<ExitCode, RootCommandError> {
    let config = || args.config.load();
    log::start(tracing::Level::WARN);
    match &args.verb {
        Verb::Update { root_key } => update(&config()?, root_key.as_ref()),
        Verb::Init(args) => ceremony::draft(&config()?, args),
        Verb::Install(args) => ceremony::install(&config()?, args),
        // A signer has nothing of the CA's.
        Verb::Sign(args) => ceremony::sign(args),
        Verb::Show => {
            let config = config()?;
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
    let (_, present) = root::read(path)?;
    let Some((next, envelope)) = root::successor(&present, &keys, &root_key, clock.now())? else {
        println!(
            "{} version {} names the configured keys already",
            path.display(),
            present.version
        );
        return Ok(ExitCode::SUCCESS);
    };
    record(&store, &clock, &next)?;
    let installed = root_history::succeed(path, &envelope)?;
    println!(
        "wrote {} version {}; give it to hosts (`eic-ca host-state`) and restart `eic-ca serve`",
        path.display(),
        installed.version
    );
    Ok(ExitCode::SUCCESS)
}

fn record(store: &Store, clock: &Clock, next: &Root) -> Result<(), RootCommandError> {
    let event = root::installation(next, Actor::Operator(Operator::current()))?;
    let recorder = Recorder::new(store, clock.clone());
    Ok(block_on(recorder.append(&event))??)
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

pub(super) fn state(state: KeyState) -> &'static str {
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
    /// The record.
    #[error(transparent)]
    Record(#[from] AppendError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
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
    /// Nobody to sign.
    #[error(
        "write a root: there is none yet; name each signer's public key with `--root-key FILE.pub`"
    )]
    NoSigners,
    /// More signatures than keys.
    #[error(
        "write a root: {threshold} of {keys} distinct root keys cannot sign; choose a threshold from 1 to {keys}"
    )]
    Signers {
        /// Needed signatures.
        threshold: usize,
        /// Keys.
        keys: usize,
    },
    /// A draft.
    #[error("use `{path}`: {flaw}")]
    Draft {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: String,
    },
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}
