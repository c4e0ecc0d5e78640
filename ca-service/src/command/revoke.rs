//! `eic-ca revoke caller`: ends a caller's sessions and new certificates at once, beside a running service.
//! Certificates that are out already end by their own short life.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::runtime::block_on;
use crate::audit::{Actor, AppendError, Event, EventName, Operator, Origin, Recorder};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::random::{self, NoEntropy};
use crate::store::{Revocation, RevokedCaller, Store, StoreConfig, StoreError};

/// What to revoke.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The service's configuration file.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "eic-ca.toml",
        global = true
    )]
    config: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A person, a job, or a role with all its sessions.
    Caller(CallerArgs),
}

#[derive(Debug, Args)]
struct CallerArgs {
    /// ARN of a user, role or role session, or a unique id (AIDA…, AROA…, AROA…:session).
    who: RevokedCaller,
    /// Why; for the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// End the revocation.
    #[arg(long)]
    undo: bool,
}

/// Runs the command. Undoing what is not revoked ends it with exit code 1.
///
/// # Errors
/// [`RevokeError`]
pub fn run(args: &RevokeArgs) -> Result<ExitCode, RevokeError> {
    let What::Caller(caller) = &args.what;
    let clock = Clock::system();
    let store = Store::open(&StoreConfig::at(Config::load(&args.config)?.store))?;
    let recorder = Recorder::new(&store, clock.clone());
    let changed = block_on(revoke(&recorder, caller, Operator::current(), clock.now()))??;
    println!("{}", outcome(caller, changed));
    Ok(if changed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn revoke(
    recorder: &Recorder,
    args: &CallerArgs,
    operator: Operator,
    now: u64,
) -> Result<bool, RevokeError> {
    let by = operator
        .name
        .clone()
        .unwrap_or_else(|| format!("uid {}", operator.uid));
    let name = if args.undo {
        EventName::UnrevokeCaller
    } else {
        EventName::RevokeCaller
    };
    let mut event = Event::new(
        name,
        Actor::Operator(operator),
        Origin::default(),
        random::request_id()?,
    );
    event.parameters = Some(match &args.reason {
        Some(reason) => json!({ "who": args.who.as_str(), "reason": reason }),
        None => json!({ "who": args.who.as_str() }),
    });
    let revocation = Revocation {
        who: args.who.clone(),
        by,
        reason: args.reason.clone(),
        at: now,
    };
    Ok(recorder.revoke(revocation, args.undo, &event).await?)
}

fn outcome(args: &CallerArgs, changed: bool) -> String {
    match (args.undo, changed) {
        (false, _) => format!(
            "revoked {}: no session and no certificate from now on; certificates that are out end within an hour, fleet certificates within 12",
            args.who
        ),
        (true, true) => format!("{} is not revoked any more", args.who),
        (true, false) => format!("{} was not revoked; nothing changed", args.who),
    }
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}
