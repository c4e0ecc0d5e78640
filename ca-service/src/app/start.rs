//! Building the service from its configuration: everything that could fail, before the first request.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Bytes;
use eic_aws::http_client::{HttpClient, HttpError, Roots};
use eic_protocol::api::discovery::{AuthMethod, Discovery, SessionMode};
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::version::VersionRange;
use serde_json::json;

use super::hosts::{DeskError, HostDesk};
use super::refused_proofs::RefusedProofs;
use super::trust_bundle::TrustDesk;
use super::{App, MAX_CALLERS};
use crate::audit::{Actor, AppendError, Event, EventName, Origin, Recorder, event_request_id};
use crate::authn::Authenticator;
use crate::authn::aws_sts::clock_skew::ClockSkew;
use crate::authn::aws_sts::role_revocation::RoleRevocations;
use crate::authn::aws_sts::transport::StsTransport;
use crate::authn::aws_sts::{AwsSts, Rules};
use crate::authn::oidc::Oidc;
use crate::authn::web_identity::WebIdentities;
use crate::aws_access::AwsAccess;
use crate::bundle::BundleError;
use crate::bundle::publication::PublicationError;
use crate::clock::Clock;
use crate::config::policy::PolicyConfig;
use crate::config::{Config, ConfigError};
use crate::http::body::LargeBodies;
use crate::inventory::Inventory;
use crate::inventory::ec2::Ec2Inventory;
use crate::inventory::static_file::StaticInventory;
use crate::issuance::{Issuer, SpecialKeys};
use crate::keys::{self, KeyMaterial, KeysError, RootError, RootKeys};
use crate::policy::{Attachment, Lifetime, LoadError, PolicyStore, Settings, Sources};
use crate::random::NoEntropy;
use crate::rate::Buckets;
use crate::session::{GrantSecret, SecretError, Sessions};
use crate::store::{HostsSeen, Store, StoreConfig, StoreError};

/// What a role's callers may revoke of their own at once, keys and themselves, and how soon they may again. The largest
/// entry has 1 kB, so that half a day of them is 40 of the 512 kB that hosts take.
const OWN_REVOCATIONS: u32 = 16;
const OWN_REVOCATION_PACE: Duration = Duration::from_secs(1_800);

/// As many of a role's certificates may its callers revoke at once, and one more after each of these times. An entry has
/// eight bytes and stays for half a day at most: 5,000 of them are 40 kB.
const OWN_CERTIFICATES: u32 = 200;
const OWN_CERTIFICATE_PACE: Duration = Duration::from_secs(10);

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The root document.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A grant secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] LoadError),
    /// The inventory file.
    #[error(transparent)]
    Inventory(#[from] ConfigError),
    /// The HTTPS client.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// What hosts are verified with.
    #[error(transparent)]
    Hosts(#[from] DeskError),
    /// The trust bundle.
    #[error(transparent)]
    Bundle(BundleError),
    /// Where bundles are published.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// An endpoint override.
    #[error(transparent)]
    Endpoint(#[from] eic_aws::endpoint::InvalidEndpoint),
    /// The start could not be recorded.
    #[error(transparent)]
    Audit(#[from] AppendError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// Discovery could not be written down.
    #[error("write the discovery document: {0}")]
    Discovery(#[from] serde_json::Error),
}

impl App {
    /// Opens everything that the configuration names, names the orphans of an earlier process, and
    /// records the start.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn start(config: &Config, clock: Clock) -> Result<Arc<Self>, StartError> {
        let store = Store::serve(&StoreConfig::at(&config.store))?;
        let opened = RootKeys::open(&config.keys, &store.key_pins(), clock.now()).await?;
        let policy = PolicyStore::open(policy_sources(config))?;
        let recorder = Recorder::new(&store, clock.clone());
        recorder.reconcile().await?;
        keys::announce_spares(&config.keys, &opened.0, &recorder, clock.now()).await?;
        let keys = keys::belonging(&config.keys, opened)?;
        let skew = Arc::new(ClockSkew::default());
        let access = Arc::new(access(config).await?);
        let role_revocations = role_revocations(config, &access);
        let authn = authenticator(
            config,
            &access,
            &clock,
            &keys.special,
            &skew,
            role_revocations.clone(),
        );
        let discovery_source = DiscoverySource::of(config);
        let mut keys = keys;
        let spares = std::mem::take(&mut keys.spares);
        let host_ca = Arc::clone(&keys.host_ca);
        let trust = TrustDesk::open(config, &store, &keys, &clock).await?;
        let sequence = Some(trust.edition().bundle().sequence);
        let app = Self {
            limits: config.limits,
            trusted_proxies: config.server.trusted_proxies.clone(),
            large_bodies: LargeBodies::new(),
            discovery: ArcSwap::from_pointee(discovery_source.bytes(&keys.root, sequence)?),
            nat: config.nat.clone(),
            fleets: config.fleets.clone(),
            authn,
            skew,
            role_revocations,
            sessions: sessions(config)?,
            revocations: store.revocations(),
            replay: store.replay_guard(),
            policy,
            inventory: inventory(config, Arc::clone(&access), store.hosts_seen())?,
            hosts: HostDesk::open(
                config,
                Arc::clone(&access),
                Arc::clone(&host_ca),
                keys.special.clone(),
                store.host_book(),
            )?,
            trust,
            issuer: issuer(keys, &recorder, &store, &clock),
            recorder,
            callers: Buckets::new(config.limits.caller_rate, burst(config), MAX_CALLERS),
            roles: Buckets::new(
                config.limits.caller_rate.saturating_mul(SESSIONS_OF_A_ROLE),
                burst(config).saturating_mul(SESSIONS_OF_A_ROLE),
                MAX_CALLERS,
            ),
            own_revocations: Buckets::paced(OWN_REVOCATION_PACE, OWN_REVOCATIONS, MAX_CALLERS),
            own_certificates: Buckets::paced(OWN_CERTIFICATE_PACE, OWN_CERTIFICATES, MAX_CALLERS),
            listings: super::listings::Listings::default(),
            refused_proofs: RefusedProofs::new(),
            discovery_source,
            policy_files: policy_files(&config.policy),
            policy_mistake: std::sync::Mutex::default(),
            clock,
            store,
        };
        let app = Arc::new(app);
        app.trust.know_signers(app.issuer.ca(), spares, host_ca);
        app.trust.note_root(app.clock.now()).await?;
        let roots = Arc::clone(app.trust.edition().roots());
        app.choose_signer(&roots).await?;
        app.record_start().await?;
        Ok(app)
    }

    async fn record_start(&self) -> Result<(), StartError> {
        let mut event = Event::new(
            EventName::StartService,
            Actor::Service,
            Origin::default(),
            event_request_id()?,
        );
        event.additional = Some(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "policyHash": self.policy.current().digest().to_string(),
            "userCa": self.issuer.ca().public().fingerprint(),
        }));
        Ok(self.recorder.append(&event).await?)
    }
}

/// How many busy sessions of one role there may be at once, where their names are only claimed.
const SESSIONS_OF_A_ROLE: u32 = 10;

fn burst(config: &Config) -> u32 {
    config
        .limits
        .caller_rate
        .saturating_mul(config.limits.burst_seconds)
}

/// The accounts of the configuration, by its proxy.
pub(crate) async fn access(config: &Config) -> Result<AwsAccess, HttpError> {
    let client = http_client(config)?;
    Ok(AwsAccess::new(client, &config.inventory.ec2, config.proxy.as_ref()).await)
}

/// The system's roots are read only where TLS is spoken: with a stand-in on loopback and no EC2, nowhere.
fn http_client(config: &Config) -> Result<HttpClient, HttpError> {
    let plain = |origin: &Option<String>| {
        origin
            .as_ref()
            .is_some_and(|origin| origin.starts_with("http://"))
    };
    let only_plain = config
        .inventory
        .ec2
        .iter()
        .all(|ec2| plain(&ec2.endpoint_override));
    let mut issuers = config
        .hosts
        .accounts
        .iter()
        .filter_map(|a| a.issuer.as_ref());
    let hosts_plain = issuers.all(|issuer| {
        let pinned = issuer.jwks_uri.is_none() || plain(&issuer.jwks_uri);
        issuer.issuer.as_str().starts_with("http://") && pinned
    });
    let of_callers = config.oidc.iter().map(|rules| &rules.issuer);
    let of_accounts = config.aws_sts.web_identity.iter().map(|a| &a.issuer);
    let plain_issuers = hosts_plain
        && of_callers
            .chain(of_accounts)
            .all(|issuer| match &issuer.jwks_uri {
                Some(uri) => uri.starts_with("http://"),
                None => issuer.issuer.as_str().starts_with("http://"),
            });
    if plain(&config.aws_sts.endpoint_override) && only_plain && plain_issuers {
        HttpClient::plain_only()
    } else {
        HttpClient::new(Roots::System, config.proxy.as_ref())
    }
}

fn role_revocations(config: &Config, access: &Arc<AwsAccess>) -> Option<Arc<RoleRevocations>> {
    let endpoint = config.aws_sts.endpoint_override.clone();
    config
        .aws_sts
        .role_revocation
        .then(|| Arc::new(RoleRevocations::new(Arc::clone(access), endpoint)))
}

fn authenticator(
    config: &Config,
    access: &AwsAccess,
    clock: &Clock,
    special_keys: &SpecialKeys,
    skew: &Arc<ClockSkew>,
    revocations: Option<Arc<RoleRevocations>>,
) -> Authenticator {
    let endpoint = config.aws_sts.endpoint_override.clone();
    let transport = StsTransport::new(
        access.client().clone(),
        endpoint,
        config.limits.sts_calls,
        clock.clone(),
    );
    let rules = Rules {
        audience: config.server.public_url.clone(),
        accounts: config.aws_sts.accounts.clone(),
        sso_accounts: config.aws_sts.sso_accounts.clone(),
    };
    let (audience, client) = (&config.server.public_url, access.client());
    let accounts = config.aws_sts.web_identity.clone();
    Authenticator {
        audience: audience.clone(),
        special_keys: special_keys.clone(),
        aws_sts: AwsSts::new(rules, transport, Arc::clone(skew), revocations),
        web_identities: WebIdentities::new(audience.clone(), accounts, client),
        oidc: Oidc::new(audience.clone(), config.oidc.clone(), client),
    }
}

fn sessions(config: &Config) -> Result<Sessions, SecretError> {
    let secrets = config
        .keys
        .grant_secrets
        .iter()
        .map(|file| GrantSecret::load(file))
        .collect::<Result<_, _>>()?;
    let audience = config.server.public_url.clone();
    Ok(Sessions::new(
        audience,
        secrets,
        config.sessions.mode,
        config.sessions.ttl_seconds,
    ))
}

fn issuer(keys: KeyMaterial, recorder: &Recorder, store: &Store, clock: &Clock) -> Issuer {
    let ca = Arc::new(keys.user_ca);
    Issuer::new(
        recorder.clone(),
        ca,
        keys.special,
        store.revocations(),
        clock.clone(),
    )
}

pub(crate) fn inventory(
    config: &Config,
    access: Arc<AwsAccess>,
    seen: HostsSeen,
) -> Result<Inventory, StartError> {
    let file = config
        .inventory
        .static_file
        .as_deref()
        .map(StaticInventory::open)
        .transpose()?;
    let ec2 = match config.inventory.ec2.as_slice() {
        [] => None,
        accounts => Some(Ec2Inventory::new(
            access,
            accounts,
            config.inventory.enrolment.clone(),
        )?),
    };
    Ok(Inventory::new(file, ec2, seen))
}

/// What the policy engine is to load.
#[must_use]
pub fn policy_sources(config: &Config) -> Sources {
    let attachments = config
        .policy
        .attachments
        .iter()
        .map(|attachment| Attachment {
            file: attachment.file.clone(),
            principal: attachment.principal.clone(),
            accounts: attachment.accounts.clone(),
        });
    let certificates = config.certificates;
    Sources {
        files: config.policy.files.clone(),
        attachments: attachments.collect(),
        settings: Settings {
            whole_account: config.policy.whole_account,
            uid0_names: config.policy.uid0_names.clone(),
            target: Lifetime {
                default: certificates.default_ttl_seconds,
                max: certificates.max_ttl_seconds,
            },
            fleet: Lifetime {
                default: certificates.fleet_default_ttl_seconds,
                max: certificates.fleet_max_ttl_seconds,
            },
            max_stale_seconds: config.policy.max_stale_seconds,
        },
    }
}

fn policy_files(policy: &PolicyConfig) -> Vec<PathBuf> {
    policy
        .files
        .iter()
        .chain(policy.attachments.iter().map(|a| &a.file))
        .cloned()
        .collect()
}

/// What discovery says beside the root document.
pub(super) struct DiscoverySource {
    pub(super) root_document: PathBuf,
    auth: Vec<AuthMethod>,
    sessions: SessionMode,
}

impl DiscoverySource {
    fn of(config: &Config) -> Self {
        Self {
            root_document: config.keys.root_document.clone(),
            auth: auth_methods(config),
            sessions: config.sessions.mode,
        }
    }

    /// The document, made once for all who ask.
    pub(super) fn bytes(
        &self,
        root: &Envelope,
        bundle_sequence: Option<u64>,
    ) -> Result<Bytes, serde_json::Error> {
        let discovery = Discovery {
            server: format!("eic-ca/{}", env!("CARGO_PKG_VERSION")),
            protocol: VersionRange::OURS,
            auth: self.auth.clone(),
            root: root.clone(),
            sessions: self.sessions,
            bundle_sequence,
        };
        Ok(serde_json::to_vec(&discovery)?.into())
    }

    /// The path of the root document.
    pub(super) fn path(&self) -> &Path {
        &self.root_document
    }
}

fn auth_methods(config: &Config) -> Vec<AuthMethod> {
    let with_tokens = config.aws_sts.web_identity.iter();
    let mut methods = vec![AuthMethod::AwsSts {
        accounts: config.aws_sts.accounts.clone(),
        web_identity: with_tokens.map(|rules| rules.account.clone()).collect(),
    }];
    if !config.oidc.is_empty() {
        let issuers = config
            .oidc
            .iter()
            .map(|rules| rules.issuer.issuer.to_string());
        methods.push(AuthMethod::Oidc {
            issuers: issuers.collect(),
        });
    }
    methods
}
