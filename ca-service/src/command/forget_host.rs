//! `eic-ca forget-host`: an enrolled host counts as one that never was, so that its tags decide again.
//! For hosts from which the agent was removed; what the host itself trusts does not change.

use std::process::ExitCode;

use clap::Args;
use eic_protocol::instance_id::InstanceId;
use serde_json::json;

use super::config_file::ConfigFile;
use super::output::print;
use super::runtime::block_on;
use crate::audit::{AppendError, Event, EventName, Recorder};
use crate::clock::Clock;
use crate::config::ConfigError;
use crate::random::NoEntropy;
use crate::store::{Store, StoreConfig, StoreError};

/// Which host.
#[derive(Debug, Args)]
pub struct ForgetHostArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// The host.
    #[arg(value_name = "ID")]
    instance: InstanceId,
    /// Why; for the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Runs the command. A host that is not enrolled ends it with exit code 1.
///
/// # Errors
/// [`ForgetHostError`]
pub fn run(args: &ForgetHostArgs) -> Result<ExitCode, ForgetHostError> {
    let store = Store::open(&StoreConfig::at(args.config.load()?.store))?;
    // Its next fetch of trust would make it known again.
    if block_on(store.host_book().stored(&args.instance))??
        .enrolled
        .is_some()
    {
        return Err(ForgetHostError::Enrolled(args.instance.clone()));
    }
    let recorder = Recorder::new(&store, Clock::system());
    let event = event(args)?;
    let forgotten = block_on(recorder.forget_host(args.instance.clone(), &event))??;
    let host = &args.instance;
    if forgotten {
        print(format_args!(
            "{host} counts as never enrolled: its tags or its inventory file decide again; a client that met it enrolled remembers that\n"
        ));
        return Ok(ExitCode::SUCCESS);
    }
    print(format_args!(
        "{host} was not enrolled by this CA; nothing changed\n"
    ));
    Ok(ExitCode::FAILURE)
}

fn event(args: &ForgetHostArgs) -> Result<Event, NoEntropy> {
    let mut event = Event::of_operator(EventName::ForgetHost)?;
    event.parameters = Some(json!({ "instanceId": args.instance.as_str(), "reason": args.reason }));
    Ok(event)
}

/// Why nothing was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetHostError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It has keys here.
    #[error("forget `{0}`: it is enrolled by its own keys; run `eic-ca hosts remove {0}` first")]
    Enrolled(InstanceId),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}
