//! The configuration as the agent sees it: read again whenever its files change, never while they do not.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use eic_protocol::api::discovery::{Discovery, SessionMode};
use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::trust::root::{KeyState, Root};

use super::{LoginError, lock};
use crate::ca::{CaClient, CaError, common_protocol};
use crate::config::{self, CaConfig, Config};
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
    trust: Mutex<(Envelope, Root)>,
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
        let trust = config::load_root(paths, &config)?;
        let client = CaClient::new(&config)?;
        Ok(Self {
            config,
            client,
            paths: paths.clone(),
            trust: Mutex::new(trust),
        })
    }

    /// Asks the CA what it speaks, and takes a newer root document from it where the pinned keys vouch for it.
    pub(super) async fn announced(&self) -> Result<Announced, CaError> {
        let discovery = self.client.discovery().await?;
        let protocol = common_protocol(discovery.protocol)?;
        self.take_newer_root(&discovery);
        Ok(Announced {
            protocol,
            sessions: discovery.sessions,
        })
    }

    /// A root that is older, unsigned or otherwise wrong is left alone: the stored one stays in force.
    fn take_newer_root(&self, discovery: &Discovery) {
        let mut trust = lock(&self.trust);
        let pinned = Root::pinned(&discovery.root, &self.config.root_fingerprints).ok();
        let next = pinned.or_else(|| trust.1.successor(&discovery.root).ok());
        let Some(root) = next.filter(|root| root.version > trust.1.version) else {
            return;
        };
        let still_pinned = Root::pinned(&discovery.root, &self.config.root_fingerprints).is_ok();
        // Only a document that the pinned keys sign can be read back at the next start.
        if still_pinned && config::store_root(&self.paths, &discovery.root).is_err() {
            return;
        }
        *trust = (discovery.root.clone(), root);
    }

    pub(super) fn user_cas(&self) -> Vec<CaKey> {
        let trust = lock(&self.trust);
        let signing = trust
            .1
            .trusted_user_cas()
            .filter(|ca| ca.state == KeyState::Active);
        signing.map(|ca| ca.key.clone()).collect()
    }

    pub(super) fn host_cas(&self) -> Vec<CaKey> {
        lock(&self.trust).1.host_cas.clone()
    }
}

fn stamp(path: &Path) -> Option<(i64, i64, u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
}
