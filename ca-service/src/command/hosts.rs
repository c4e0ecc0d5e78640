//! `eic-ca hosts`: who is enrolled and how they are; who waits; one-time tokens; shutting a host out.
//! Works on the store beside a running service, which sees every change with its next request.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use eic_protocol::api::host_certificate::evidence::EnrolmentToken;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::request_id::RequestId;
use serde_json::json;

use super::config_file::ConfigFile;
use super::runtime::block_on;
use crate::audit::{Event, EventName, OnceError, Operator, Recorder};
use crate::bundle::{BundleError, first_bundle_with_all};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::keys::{RootError, root};
use crate::random::{self, NoEntropy};
use crate::store::hosts::{HostChange, RequestState, StoredToken};
use crate::store::trust::{self, RevocationOrder};
use crate::store::{Reader, Store, StoreConfig, StoreError};

mod show;

/// Longest life of a token. Hours.
const MAX_TOKEN_HOURS: u64 = 7 * 24;

/// What to do.
#[derive(Debug, Args)]
pub struct HostsArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Enrolled hosts with what they last reported, and legacy hosts whose keys are known.
    List {
        /// Only hosts that have not reported the present root and a bundle with all that is revoked now.
        #[arg(long)]
        behind: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// One host.
    Show {
        /// Its id.
        instance: InstanceId,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Keys that wait for an operator, or for the host's console.
    Pending(JsonArgs),
    /// Let a host have certificates for the keys that it asked for.
    Approve(DecideArgs),
    /// Refuse them.
    Reject(DecideArgs),
    /// Make a one-time token for a host's first enrolment; it is printed once.
    Token {
        /// The host that it enrols: `mi-…`, or `i-…`.
        #[arg(long, value_name = "ID")]
        name: InstanceId,
        /// Hours until it ends.
        #[arg(long, value_name = "HOURS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_TOKEN_HOURS))]
        ttl: u64,
    },
    /// Revoke a host's certificates, give it no more and take no reports of it; also before it is enrolled.
    Block(HostArgs),
    /// End that; what was revoked stays so.
    Unblock(HostArgs),
    /// Revoke a host's certificates, and forget it and its keys: for one that is gone, or whose keys came with an image.
    Remove(HostArgs),
}

#[derive(Debug, Args)]
struct JsonArgs {
    /// One JSON object for each line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DecideArgs {
    /// The enrolment, as `eic-ca hosts pending` shows it: just these keys for just this host.
    enrolment: RequestId,
}

#[derive(Debug, Args)]
struct HostArgs {
    /// The host.
    instance: InstanceId,
    /// Why; for the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// A change, and what is told of it.
struct Order {
    change: HostChange,
    event: EventName,
    parameters: serde_json::Value,
    done: String,
    undone: String,
}

/// Runs the command. What changes nothing ends with exit code 1.
///
/// # Errors
/// [`HostsError`]
pub fn run(args: &HostsArgs) -> Result<ExitCode, HostsError> {
    let config = args.config.load()?;
    // Who only looks opens nothing for writing.
    let reader = Reader::new(&config.store);
    if !reader.is_there() && matches!(args.what, What::List { .. } | What::Pending(_)) {
        eprintln!(
            "eic-ca: no host yet: there is no store `{}`; `eic-ca serve` makes it at its first start",
            config.store.display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    let order = match &args.what {
        What::List { behind, json } => {
            let now = Clock::system().moment();
            let present = behind.then(|| present(&config, &reader, now.passed));
            return Ok(show::list(
                &reader,
                json.json,
                present.transpose()?,
                now.now,
            )?);
        }
        What::Show { instance, json } => {
            return Ok(show::one(&reader, instance, json.json)?);
        }
        What::Pending(args) => return Ok(show::pending(&reader, args.json)?),
        What::Approve(args) => decide(args, RequestState::Approved),
        What::Reject(args) => decide(args, RequestState::Rejected),
        What::Token { name, ttl } => token(name, *ttl)?,
        What::Block(args) => block(args)?,
        What::Unblock(args) => unblock(args),
        What::Remove(args) => remove(args)?,
    };
    let store = Store::open(&StoreConfig::at(&config.store))?;
    block_on(carry_out(&store, order))?
}

/// What a host has that is up to date. `passed` as in [`crate::clock::Moment`].
fn present(config: &Config, reader: &Reader, passed: u64) -> Result<show::Present, HostsError> {
    let (_, root) = root::read(&config.keys.root_document)?;
    Ok(show::Present {
        root: root.version,
        bundle: first_bundle_with_all(reader, passed)?,
    })
}

async fn carry_out(store: &Store, order: Order) -> Result<ExitCode, HostsError> {
    let recorder = Recorder::new(store, Clock::system());
    let mut event = Event::of_operator(order.event)?;
    event.parameters = Some(order.parameters);
    let book = store.host_book();
    let changed = recorder
        .change_host(&book, order.change, Some(&event), None)
        .await?;
    if changed {
        println!("{}", order.done);
        Ok(ExitCode::SUCCESS)
    } else {
        eprintln!("eic-ca: {}", order.undone);
        Ok(ExitCode::FAILURE)
    }
}

fn decide(args: &DecideArgs, state: RequestState) -> Order {
    let event = if state == RequestState::Approved {
        EventName::ApproveHost
    } else {
        EventName::RejectHost
    };
    let enrolment = args.enrolment;
    Order {
        change: HostChange::Decide {
            enrolment,
            state,
            by: Operator::current().label(),
        },
        event,
        parameters: json!({ "enrolment": enrolment.to_string() }),
        done: format!(
            "{} {enrolment}; the host is told at its next request",
            state.as_str()
        ),
        undone: format!("nothing waits as {enrolment}; see `eic-ca hosts pending`"),
    }
}

/// The token leaves this function as text to be printed, and as a digest to be kept.
fn token(name: &InstanceId, hours: u64) -> Result<Order, HostsError> {
    let token = EnrolmentToken::from_random(random::bytes()?);
    let now = Clock::system().now();
    let stored = StoredToken {
        digest: token.digest(),
        instance: name.clone(),
        made_by: Operator::current().label(),
        made_at: now,
        ends: now.saturating_add(hours.saturating_mul(3_600)),
        used_at: None,
    };
    Ok(Order {
        parameters: json!({
            "instanceId": name.as_str(),
            "tokenDigest": stored.digest,
            "ends": stored.ends,
        }),
        change: HostChange::AddToken(stored),
        event: EventName::CreateEnrolmentToken,
        done: token.reveal().to_owned(),
        undone: "the token was not stored".to_owned(),
    })
}

fn block(args: &HostArgs) -> Result<Order, NoEntropy> {
    let instance = args.instance.clone();
    Ok(Order {
        parameters: parameters(args),
        done: format!("{instance} is blocked; certificates that it has are revoked"),
        undone: format!("{instance} was blocked before"),
        change: HostChange::Block {
            revoked: revocation(args, trust::What::Host(instance.clone()))?,
            instance,
        },
        event: EventName::BlockHost,
    })
}

fn revocation(args: &HostArgs, what: trust::What) -> Result<RevocationOrder, NoEntropy> {
    Ok(RevocationOrder {
        id: random::request_id()?,
        what,
        by: Operator::current().label(),
        reason: args.reason.clone(),
        at: Clock::system().now(),
    })
}

fn unblock(args: &HostArgs) -> Order {
    let instance = args.instance.clone();
    Order {
        parameters: parameters(args),
        done: format!("{instance} is not blocked any more; it gets new certificates"),
        undone: format!("{instance} was not blocked"),
        change: HostChange::Unblock { instance },
        event: EventName::UnblockHost,
    }
}

fn remove(args: &HostArgs) -> Result<Order, NoEntropy> {
    let instance = args.instance.clone();
    Ok(Order {
        parameters: parameters(args),
        done: format!(
            "{instance} is forgotten, and certificates that it has are revoked; its next enrolment is its first"
        ),
        undone: format!("{instance} is not enrolled, and no keys of it are known"),
        change: HostChange::Remove {
            revoked: revocation(args, trust::What::HostCertificates(instance.clone()))?,
            instance,
        },
        event: EventName::RemoveHost,
    })
}

fn parameters(args: &HostArgs) -> serde_json::Value {
    json!({ "instanceId": args.instance.as_str(), "reason": args.reason })
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root document.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The list of what is revoked.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The record.
    #[error(transparent)]
    Record(#[from] OnceError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}
