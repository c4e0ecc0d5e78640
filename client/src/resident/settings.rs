//! The configuration as the agent sees it: read again whenever its files change, never while they do not.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eic_aws::proxy::Proxy;
use eic_protocol::api::discovery::{AuthMethod, Discovery, SessionMode};
use eic_protocol::arn::AccountId;
use eic_protocol::trust::envelope::Untrusted;

use super::ca_trust::CaTrust;
use super::{LoginError, lock};
use crate::ca::{CaClient, CaError, common_protocol};
use crate::config::{CaConfig, Config, ConfigError};
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
    pub(super) proxy: Option<Proxy>,
    pub(super) ca: Option<Ca>,
}

/// The configured CA.
#[derive(Debug)]
pub(super) struct Ca {
    pub(super) config: CaConfig,
    pub(super) client: CaClient,
    pub(super) trust: CaTrust,
    /// What it and its issuers are reached through.
    pub(super) proxy: Option<Proxy>,
    asked: tokio::sync::Mutex<Option<u64>>,
}

/// What a CA announces.
#[derive(Clone, Debug)]
pub(super) struct Announced {
    pub(super) protocol: u32,
    pub(super) sessions: SessionMode,
    /// Accounts of which it takes a web identity token beside AWS credentials.
    pub(super) web_identity: Vec<AccountId>,
    /// Whether it takes tokens of any issuer.
    pub(super) takes_tokens: bool,
}

/// How long the CA's bundle is not asked for again. Seconds: a host with a foreign certificate must not make a request of
/// every try.
const ASKED_AGAIN: u64 = 3;
/// How long the answer may take: it is waited for beside a sign-in, and where something unknown was met.
const REFRESH: Duration = Duration::from_secs(3);

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
        // Whether one that is not there may be missing is not only up to it.
        let is_there = stamp.first().is_some_and(Option::is_some);
        let same = |(of, _): &&(Stamp, Arc<Setting>)| is_there && *of == stamp;
        if let Some((_, setting)) = lock(&self.cached).as_ref().filter(same) {
            return Ok(Arc::clone(setting));
        }
        let config = Config::in_force(&self.paths)?;
        let before = lock(&self.cached).as_ref().map(|(_, old)| Arc::clone(old));
        let before = before.as_ref().and_then(|old| old.ca.as_ref());
        let proxy = config.proxy().map_err(ConfigError::from)?;
        let ca = config
            .ca
            .clone()
            .map(|ca| Ca::new(ca, &self.paths, proxy.as_ref(), before))
            .transpose()?;
        let setting = Arc::new(Setting { config, proxy, ca });
        *lock(&self.cached) = Some((stamp, Arc::clone(&setting)));
        Ok(setting)
    }
}

impl Ca {
    /// `before` is the CA as it was when the files were read last.
    fn new(
        config: CaConfig,
        paths: &Paths,
        proxy: Option<&Proxy>,
        before: Option<&Self>,
    ) -> Result<Self, LoginError> {
        let trust = CaTrust::load(paths, &config)?;
        let same = before.filter(|before| before.config.url == config.url);
        Ok(Self {
            client: CaClient::new(&config, proxy)?,
            trust: match same {
                Some(before) => trust.with_news_of(&before.trust),
                None => trust,
            },
            config,
            proxy: proxy.cloned(),
            asked: tokio::sync::Mutex::default(),
        })
    }

    /// Asks the CA what it speaks, and takes the next root document from it where the installed one vouches for it.
    pub(super) async fn announced(&self) -> Result<Announced, CaError> {
        let discovery = self.client.discovery().await?;
        let protocol = common_protocol(discovery.protocol)?;
        self.take_newer_root(&discovery).await;
        let takes_tokens = |method: &AuthMethod| matches!(method, AuthMethod::Oidc { .. });
        Ok(Announced {
            protocol,
            sessions: discovery.sessions,
            takes_tokens: discovery.auth.iter().any(takes_tokens),
            web_identity: discovery
                .auth
                .into_iter()
                .find_map(accounts_with_tokens)
                .unwrap_or_default(),
        })
    }

    /// A root that the installed one's threshold did not sign is left alone: the installed one stays in force.
    async fn take_newer_root(&self, discovery: &Discovery) {
        let Err(Untrusted::Gap { offered, installed }) =
            self.trust.take_next(discovery.root.clone())
        else {
            return;
        };
        let between = self.client.trust_bundle(installed).await;
        let roots = between.map(|answer| answer.roots).unwrap_or_default();
        self.trust.take_roots(&roots, offered);
    }

    /// Asks the CA for roots and bundle, unless it was asked a moment ago; `now` is in Unix seconds. Whether it answered
    /// or not, what is trusted afterwards counts: neither sign-in nor login depends on it.
    pub(super) async fn refresh(&self, now: u64) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|then| now.saturating_sub(then) < ASKED_AGAIN) {
            return;
        }
        let version = self.trust.roots().root().version;
        let answer = tokio::time::timeout(REFRESH, self.client.trust_bundle(version)).await;
        if let Ok(Ok(answer)) = answer {
            self.trust.take(&answer, now);
        }
        *asked = Some(now);
    }
}

fn accounts_with_tokens(method: AuthMethod) -> Option<Vec<AccountId>> {
    match method {
        AuthMethod::AwsSts { web_identity, .. } => Some(web_identity),
        _ => None,
    }
}

fn stamp(path: &Path) -> Option<(i64, i64, u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
}
