//! `eic-ca host-state`: the files that one host needs, for an operator to copy there.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::trust::host_view::{FleetMembership, Stage};

use super::config_file::ConfigFile;
use super::inventory::find_host;
use super::runtime::block_on;
use crate::audit::Recorder;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::inventory::InstanceRecord;
use crate::keys::{self, HostState, HostStateError, HostViewOrder, KeysError};
use crate::store::{Store, StoreConfig, StoreError};

/// Which host, and what it is told.
#[derive(Debug, Args)]
pub struct HostStateArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// The host.
    #[arg(long, value_name = "ID")]
    instance: InstanceId,
    /// A fleet that it belongs to, by the name in the configuration; may be repeated.
    #[arg(long = "fleet", value_name = "NAME")]
    fleets: Vec<FleetName>,
    /// How far the rollout is on this host.
    #[arg(long, value_enum, default_value_t = StageArg::Hybrid)]
    stage: StageArg,
    /// No certificate opens the host after so many days without a new view.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=365))]
    hard_stop: Option<u64>,
    /// The host's public key (/etc/ssh/ssh_host_ed25519_key.pub): also writes a host certificate, good for 24 hours.
    #[arg(long, value_name = "FILE")]
    host_key: Option<PathBuf>,
    /// Folder for root.json, host-view.json and host-cert.pub.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StageArg {
    /// Certificates and Instance Connect keys.
    Hybrid,
    /// Certificates only.
    CertificatesOnly,
}

impl From<StageArg> for Stage {
    fn from(stage: StageArg) -> Self {
        match stage {
            StageArg::Hybrid => Self::Hybrid,
            StageArg::CertificatesOnly => Self::CertificatesOnly,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`HostStateCommandError`]
pub fn run(args: &HostStateArgs) -> Result<ExitCode, HostStateCommandError> {
    let config = args.config.load()?;
    let order = order(args, &config)?;
    for warning in block_on(warnings(&config, &order))? {
        eprintln!("eic-ca: {warning}");
    }
    let state = block_on(write(&config, &order))??;
    for file in &state.files {
        println!("wrote {}", file.display());
    }
    if let Some((serial, request_id)) = &state.certificate {
        println!("host certificate: serial {serial}, request {request_id}, good for 24 hours");
    }
    Ok(ExitCode::SUCCESS)
}

/// A slip in an id makes files that no host takes; the operator may still know better than the inventory.
async fn warnings(config: &Config, order: &HostViewOrder) -> Vec<String> {
    let instance = &order.instance;
    match find_host(config, instance).await {
        Ok(Some(host)) => strangers(config, order, &host),
        Ok(None) => vec![format!(
            "warning: the inventory has no host `{instance}`; the files are made all the same"
        )],
        Err(error) => vec![format!(
            "warning: whether there is a host `{instance}` is not known; failed to {error}"
        )],
    }
}

/// Fleets marked `kms_only` that are given where by the inventory none selects the host: keys in memory would sign for it,
/// and the host would refuse what they sign.
fn strangers(config: &Config, order: &HostViewOrder, host: &InstanceRecord) -> Vec<String> {
    let mut marked = config.fleets.iter().filter(|fleet| fleet.kms_only);
    if marked.any(|fleet| fleet.selects(host)) {
        return Vec::new();
    }
    let given = order.fleets.iter().filter(|fleet| fleet.kms_only);
    given
        .map(|fleet| {
            format!(
                "warning: fleet `{}` is marked `kms_only` and does not select `{}` by the inventory: where keys in memory sign, the host refuses its logins; change the host's tags or the fleet's section",
                fleet.name, order.instance
            )
        })
        .collect()
}

async fn write(config: &Config, order: &HostViewOrder) -> Result<HostState, HostStateCommandError> {
    let clock = Clock::system();
    let store = Store::open(&StoreConfig::at(&config.store))?;
    let stored = store.host_book().stored(&order.instance).await?;
    if order.host_key.is_some() && stored.blocked {
        return Err(HostStateCommandError::Blocked(order.instance.clone()));
    }
    let keys = keys::load(&config.keys, &store.key_pins(), clock.now()).await?;
    let host_ca = keys.host_ca.public();
    if order.host_key.is_some() && store.trust_book().watch().revokes(host_ca.key()) {
        return Err(HostStateCommandError::CaRevoked(host_ca.fingerprint()));
    }
    let recorder = Recorder::new(&store, clock.clone());
    Ok(keys::host_state(&keys, &store, &recorder, order, &clock).await?)
}

fn order(args: &HostStateArgs, config: &Config) -> Result<HostViewOrder, HostStateCommandError> {
    let fleets: Result<Vec<FleetMembership>, _> = args
        .fleets
        .iter()
        .map(|name| membership(name, config))
        .collect();
    let host_key = args
        .host_key
        .as_deref()
        .map(keys::read_host_key)
        .transpose()?;
    Ok(HostViewOrder {
        instance: args.instance.clone(),
        fleets: fleets?,
        stage: args.stage.into(),
        hard_stop: args.hard_stop.map(|days| days * 86_400),
        host_key,
        folder: args.out.clone(),
    })
}

/// Only fleets of the configuration: whether one is `kms_only` is written there.
fn membership(name: &FleetName, config: &Config) -> Result<FleetMembership, HostStateCommandError> {
    let fleet = config.fleets.iter().find(|fleet| fleet.name == *name);
    let fleet = fleet.ok_or_else(|| HostStateCommandError::Fleet(name.clone()))?;
    Ok(FleetMembership {
        name: name.clone(),
        kms_only: fleet.kms_only,
    })
}

/// Why a host's files were not written.
#[derive(Debug, thiserror::Error)]
pub enum HostStateCommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An operator shut it out.
    #[error("certify `{0}`: it is blocked; run `eic-ca hosts unblock {0}` first")]
    Blocked(InstanceId),
    /// Clients would refuse what it signs.
    #[error(
        "certify the host: the host CA's key `{0}` is revoked; name another one as `host_ca`, then run `eic-ca root update` and restart the service"
    )]
    CaRevoked(String),
    /// A fleet that is not configured.
    #[error(
        "write the host view: fleet `{0}` is not in the configuration; add a section `[fleets.{0}]`"
    )]
    Fleet(FleetName),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The files.
    #[error(transparent)]
    State(#[from] HostStateError),
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}
