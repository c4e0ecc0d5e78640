//! The configuration as the agent sees it: read again whenever its files change, never while they do not.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use eic_protocol::api::discovery::{Discovery, SessionMode};
use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::envelope::Untrusted;
use eic_protocol::trust::root::KeyState;

use super::{LoginError, lock};
use crate::ca::{CaClient, CaError, common_protocol};
use crate::config::{CaConfig, Config, RootChain};
use crate::paths::Paths;

/// Gives the current configuration.
#[derive(Debug)]
pub(super) struct Settings {
    paths: Paths,
    cached: Mutex<Option<(Stamp, Arc<Setting>)>>,
}

/// One state of the configuration.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) config: Config,
    pub(super) ca: Option<Ca>,
}

/// The configured CA.
#[derive(Debug)]
pub(super) struct Ca {
    pub(super) config: CaConfig,
    pub(super) client: CaClient,
    paths: Paths,
    trust: Mutex<Trust>,
}

/// What is trusted of it.
#[derive(Debug)]
struct Trust {
    roots: RootChain,
    /// Version of a good root that the CA has and that cannot be taken, since those between are missing.
    ahead: Option<u64>,
}

/// What a CA announces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    pub(super) protocol: u32,
    pub(super) sessions: SessionMode,
}

type Stamp = [Option<(i64, i64, u64, u64)>; 2];

impl Settings {
    pub(super) fn new(paths: Paths) -> Self {
        Self {
            paths,
            cached: Mutex::new(None),
        }
    }

    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }

    pub(super) fn current(&self) -> Result<Arc<Setting>, LoginError> {
        let stamp = [
            stamp(&self.paths.config_file()),
            stamp(&self.paths.root_file()),
        ];
        if let Some((_, setting)) = lock(&self.cached).as_ref().filter(|(of, _)| *of == stamp) {
            return Ok(Arc::clone(setting));
        }
        let config = Config::load(&self.paths)?;
        let ca = config
            .ca
            .clone()
            .map(|ca| Ca::new(ca, &self.paths))
            .transpose()?;
        let setting = Arc::new(Setting { config, ca });
        *lock(&self.cached) = Some((stamp, Arc::clone(&setting)));
        Ok(setting)
    }
}

impl Ca {
    fn new(config: CaConfig, paths: &Paths) -> Result<Self, LoginError> {
        let roots = RootChain::load(paths, &config)?;
        let client = CaClient::new(&config)?;
        Ok(Self {
            config,
            client,
            paths: paths.clone(),
            trust: Mutex::new(Trust { roots, ahead: None }),
        })
    }

    /// Asks the CA what it speaks, and takes the next root document from it where the installed one vouches for it.
    pub(super) async fn announced(&self) -> Result<Announced, CaError> {
        let discovery = self.client.discovery().await?;
        let protocol = common_protocol(discovery.protocol)?;
        self.take_newer_root(&discovery).await;
        Ok(Announced {
            protocol,
            sessions: discovery.sessions,
        })
    }

    /// A root that the installed one's threshold did not sign is left alone: the installed one stays in force.
    /// The pinned fingerprints count at setup only; later a root key alone could lower the threshold by them.
    async fn take_newer_root(&self, discovery: &Discovery) {
        let installed = lock(&self.trust).roots.clone();
        let (next, ahead) = match installed.followed_by(discovery.root.clone()) {
            Ok(roots) => (Some(roots), None),
            Err(Untrusted::Gap { offered, .. }) => (self.walk(&installed).await, Some(offered)),
            Err(_) => (None, None),
        };
        let mut trust = lock(&self.trust);
        // One that cannot be stored is not used: the next start would not know it.
        if let Some(Ok(roots)) = next.map(|roots| roots.advance(&self.paths, &self.config)) {
            trust.roots = roots;
        }
        trust.ahead = ahead.filter(|offered| *offered > trust.roots.root().version);
    }

    /// Through the roots between, where the CA keeps them: each must follow from the one before it.
    async fn walk(&self, installed: &RootChain) -> Option<RootChain> {
        let version = installed.root().version;
        let between = self.client.roots_after(version).await.ok()?;
        let step = |chain: RootChain, envelope| chain.followed_by(envelope).ok();
        between.into_iter().try_fold(installed.clone(), step)
    }

    /// The installed root's version and that of the CA's, where there are others between them.
    pub(super) fn behind(&self) -> Option<(u64, u64)> {
        let trust = lock(&self.trust);
        trust
            .ahead
            .map(|offered| (trust.roots.root().version, offered))
    }

    pub(super) fn user_cas(&self) -> Vec<CaKey> {
        let trust = lock(&self.trust);
        let signing = trust
            .roots
            .root()
            .trusted_user_cas()
            .filter(|ca| ca.state == KeyState::Active);
        signing.map(|ca| ca.key.clone()).collect()
    }

    pub(super) fn host_cas(&self) -> Vec<CaKey> {
        lock(&self.trust).roots.root().host_cas.clone()
    }
}

fn stamp(path: &Path) -> Option<(i64, i64, u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
}
