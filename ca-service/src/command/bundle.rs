//! `eic-ca bundle publish|show|verify`: the trust bundle as a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use eic_aws::http_client::HttpError;
use eic_aws::s3::InvalidS3Folder;
use eic_protocol::api::trust_bundle::{MAX_RESPONSE, NotTrustBundle, TrustBundleResponse};
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::proof::Audience;
use eic_protocol::trust::bundle::{Bundle, Freshness};
use eic_protocol::trust::envelope::Untrusted;
use eic_protocol::trust::root::Root;

use super::config_file::ConfigFile;
use super::runtime::block_on;
use crate::app::{NotPublished, NotPut, StartError, ViewDesk, access, inventory};
use crate::audit::Recorder;
use crate::bundle::publication::{BUNDLE_FILE, Destination, PublicationError};
use crate::bundle::{BundleError, Edition, HostViews, Press};
use crate::clock::Clock;
use crate::config::publish::PublishTo;
use crate::config::{Config, ConfigError};
use crate::keys::{self, KeysError, RootError, RootHistory};
use crate::log;
use crate::moment;
use crate::store::{Store, StoreConfig, StoreError};

/// What to do with the bundle.
#[derive(Debug, Args)]
pub struct BundleArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Sign a bundle of what is revoked now, and put it and every host's view where hosts fetch them.
    Publish {
        /// A folder, or s3://BUCKET/PREFIX; absent: what `[publish]` names. Each file is replaced in one step.
        #[arg(long, value_name = "PLACE")]
        to: Option<String>,
        /// The bucket's Region.
        #[arg(long, requires = "to")]
        region: Option<AwsRegion>,
        /// Another endpoint than the bucket's own; plain HTTP on loopback only.
        #[arg(long, value_name = "URL", requires = "region")]
        endpoint: Option<Audience>,
    },
    /// Print what a bundle says; who signed it is not looked at.
    Show {
        /// An answer of `/v1/trust-bundle`, or a published file.
        file: PathBuf,
    },
    /// Check a bundle as a host does that has only a pinned root key.
    Verify {
        /// An answer of `/v1/trust-bundle`, or a published file.
        file: PathBuf,
        /// Fingerprint of a root key; absent: those of the configured root document.
        #[arg(long, value_name = "SHA256:…")]
        fingerprint: Vec<KeyFingerprint>,
    },
}

/// Runs the command. A bundle that is verified but out of date ends it with exit code 1.
///
/// # Errors
/// [`BundleCommandError`]
pub fn run(args: &BundleArgs) -> Result<ExitCode, BundleCommandError> {
    match &args.verb {
        Verb::Publish {
            to,
            region,
            endpoint,
        } => {
            let config = args.config.load()?;
            let place = match to {
                Some(to) => place(to, *region, endpoint.as_ref())?,
                None => {
                    let configured = config.publish.as_ref();
                    configured.ok_or(BundleCommandError::NoPlace)?.to.clone()
                }
            };
            log::start(tracing::Level::WARN);
            block_on(publish(&config, &place))?
        }
        Verb::Show { file } => {
            let response = read(file)?;
            let bundle = Bundle::parse(response.bundle.signed.as_slice())?;
            print!("{}", shown(&bundle));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Verify { file, fingerprint } => {
            let pins = match fingerprint.as_slice() {
                [] => own_pins(&args.config.load()?)?,
                given => given.iter().map(ToString::to_string).collect(),
            };
            verify(&read(file)?, &pins, Clock::system().now())
        }
    }
}

/// Numbers come from the store that the service uses as well: neither ever goes behind the other.
async fn publish(config: &Config, place: &PublishTo) -> Result<ExitCode, BundleCommandError> {
    let clock = Clock::system();
    let store = Store::open(&StoreConfig::at(&config.store))?;
    let keys = keys::load(&config.keys, &store.key_pins(), clock.now()).await?;
    let roots = Arc::new(RootHistory::read(&config.keys.root_document)?);
    let book = store.trust_book();
    book.know_cas(roots.cas()).await?;
    let press = Press::new(book, keys.bundle.for_bundles(), config.bundle);
    let edition: Edition = press.print(&roots, clock.moment()).await?;
    let destination = Destination::open(place, config.proxy.as_ref()).await?;
    let access = access(config).await?;
    let inventory = inventory(config, Arc::new(access), store.hosts_seen())?;
    let desk = ViewDesk {
        inventory: &inventory,
        fleets: &config.fleets,
        views: &HostViews::new(keys.bundle.shared(), config.bundle),
        store: &store,
        recorder: &Recorder::new(&store, clock.clone()),
        clock: &clock,
    };
    let done = crate::app::publish(&destination, &desk, &edition).await?;
    print!("{}", shown(edition.bundle()));
    println!(
        "wrote {BUNDLE_FILE} and {} host views to {destination}",
        done.views
    );
    told(&done.failed)
}

/// Every host by name: what is there of it is old, or nothing.
fn told(failed: &[(InstanceId, NotPut)]) -> Result<ExitCode, BundleCommandError> {
    for (host, error) in failed {
        eprintln!("eic-ca: {host}: failed to {error}");
    }
    match failed.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(BundleCommandError::Views(count)),
    }
}

/// As the configuration would name it.
fn place(
    to: &str,
    region: Option<AwsRegion>,
    endpoint: Option<&Audience>,
) -> Result<PublishTo, BundleCommandError> {
    match (to.starts_with("s3://"), region) {
        (true, region) => Ok(PublishTo::S3 {
            folder: to.parse()?,
            region: region.ok_or(BundleCommandError::NoRegion)?,
            endpoint: endpoint.map(ToString::to_string),
        }),
        (false, None) => Ok(PublishTo::Folder(PathBuf::from(to))),
        (false, Some(_)) => Err(BundleCommandError::RegionOfFolder(to.to_owned())),
    }
}

fn own_pins(config: &Config) -> Result<BTreeSet<String>, BundleCommandError> {
    let roots = RootHistory::read(&config.keys.root_document)?;
    let keys = roots.iter().flat_map(|(root, _)| &root.root_keys);
    Ok(keys.map(|key| key.fingerprint()).collect())
}

fn verify(
    response: &TrustBundleResponse,
    pins: &BTreeSet<String>,
    now: u64,
) -> Result<ExitCode, BundleCommandError> {
    let root = Root::served(&response.roots, pins)?;
    let bundle = Bundle::authentic(&response.bundle, &root)?;
    print!("{}", shown(&bundle));
    let endorsed = bundle.endorsed(&root);
    for flaw in &endorsed.refused {
        println!("an endorsement does not count: {flaw}");
    }
    let (word, code) = match bundle.freshness(now) {
        Freshness::Fresh => ("fresh", ExitCode::SUCCESS),
        Freshness::Stale => ("out of date", ExitCode::FAILURE),
        Freshness::Stopped => ("past its hard stop", ExitCode::FAILURE),
    };
    println!("verified with root {}; {word}", root.version);
    Ok(code)
}

fn read(file: &Path) -> Result<TrustBundleResponse, BundleCommandError> {
    let unreadable = |cause| BundleCommandError::Unreadable {
        file: file.to_owned(),
        cause,
    };
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > u64::try_from(MAX_RESPONSE).unwrap_or(u64::MAX) {
        return Err(NotTrustBundle::TooLarge.into());
    }
    let bytes = std::fs::read(file).map_err(unreadable)?;
    Ok(TrustBundleResponse::parse(&bytes)?)
}

fn shown(bundle: &Bundle) -> String {
    let list = &bundle.revocations;
    let (count, size) = (
        list.read().map_or(0, |krl| krl.count()),
        list.krl.as_slice().len(),
    );
    let stop = bundle.hard_stop.map_or("never".to_owned(), moment::rfc3339);
    format!(
        "sequence {}, goes with root {}\nmade {}, out of date after {}, hard stop {stop}\n\
         revocation list {}: {count} entries, {size} bytes\n{} endorsements\n",
        bundle.sequence,
        bundle.root_version,
        moment::rfc3339(bundle.issued),
        moment::rfc3339(bundle.refresh_after),
        list.number,
        bundle.endorsements.len(),
    )
}

/// Why there is no bundle, or none that counts.
#[derive(Debug, thiserror::Error)]
pub enum BundleCommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The root document.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The place.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// What was to be put there.
    #[error(transparent)]
    NotPublished(#[from] NotPublished),
    /// Some views.
    #[error("publish {0} host views, named above; the next publication tries them again")]
    Views(usize),
    /// No place.
    #[error("publish: name a place with `--to`, or in the configuration: `[publish] to = …`")]
    NoPlace,
    /// No Region.
    #[error("publish to S3: name the bucket's Region with `--region`")]
    NoRegion,
    /// A Region of no bucket.
    #[error("publish to `{0}`: `--region` is for a bucket, `s3://…`; this is a folder")]
    RegionOfFolder(String),
    /// Not a place in S3.
    #[error("publish: {0}")]
    NotS3(#[from] InvalidS3Folder),
    /// The inventory.
    #[error(transparent)]
    Inventory(#[from] StartError),
    /// The HTTPS client.
    #[error("look hosts up: {0}")]
    Http(#[from] HttpError),
    /// The file.
    #[error("read `{file}`: {cause}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Not a bundle.
    #[error("read the bundle: {0}")]
    Form(#[from] NotTrustBundle),
    /// Not one that counts.
    #[error("verify the bundle: {0}")]
    Untrusted(#[from] Untrusted),
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}
