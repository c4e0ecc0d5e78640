//! Issuers' published keys: fetched from the issuer's own host, or from the address that the configuration
//! pins; kept for an hour; asked for again at most once a minute when a token names an unknown one.
//! An outage leaves the last good set in use for a day, an empty answer changes nothing (threats B-04, B-17).

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eic_aws::http_client::{HttpClient, Limits};
use http::Request;
use serde::Deserialize;

use super::issuer::IssuerRules;
use super::jwt::KeySet;

/// How long a set is used without asking. Seconds.
const FRESH: u64 = 3_600;
/// How long a set is used when the issuer does not answer. Seconds.
const MAX_STALE: u64 = 86_400;
/// Shortest time between two questions. Seconds.
const PATIENCE: u64 = 60;
/// Of each of the two fetches, the look-up of the issuer's name included.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(5),
    max_body: 256 * 1024,
};

/// Looks up a host's addresses.
type Resolve = fn(String, u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// One issuer and where its keys are.
pub struct IssuerKeys {
    rules: IssuerRules,
    client: HttpClient,
    resolve: Resolve,
    limits: Limits,
    kept: Mutex<Kept>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    set: Option<(u64, Arc<KeySet>)>,
    asked_at: Option<u64>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl IssuerKeys {
    /// Nothing is fetched yet.
    #[must_use]
    pub fn new(rules: IssuerRules, client: HttpClient) -> Self {
        Self {
            rules,
            client,
            resolve: |host, port| Box::pin(resolve(host, port)),
            limits: LIMITS,
            kept: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// What the configuration says of the issuer.
    #[must_use]
    pub fn rules(&self) -> &IssuerRules {
        &self.rules
    }

    /// A set to verify a token with that names `key_id`. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`NoKeys`] where there is none that may be used.
    pub async fn get(&self, key_id: &str, now: u64) -> Result<Arc<KeySet>, NoKeys> {
        if let Some(set) = self.usable(key_id, now) {
            return Ok(set);
        }
        // One question at a time; who waited may find that it was answered.
        let _turn = self.turn.lock().await;
        if let Some(set) = self.usable(key_id, now) {
            return Ok(set);
        }
        if self.may_ask(now) {
            match self.fetch().await {
                Ok(set) => self.keep(set, now),
                Err(error) => {
                    tracing::warn!(issuer = self.rules.issuer.as_str(), %error, "an issuer's keys could not be fetched");
                    return self.stale(now).ok_or(error);
                }
            }
        }
        self.stale(now).ok_or(NoKeys::NotYet)
    }

    /// A fresh set that has the key.
    fn usable(&self, key_id: &str, now: u64) -> Option<Arc<KeySet>> {
        let (at, set) = self.lock().set.clone()?;
        (now.abs_diff(at) < FRESH && set.has(key_id)).then_some(set)
    }

    fn stale(&self, now: u64) -> Option<Arc<KeySet>> {
        let (at, set) = self.lock().set.clone()?;
        (now.abs_diff(at) < MAX_STALE).then_some(set)
    }

    fn may_ask(&self, now: u64) -> bool {
        let mut kept = self.lock();
        let may = kept.asked_at.is_none_or(|at| now.abs_diff(at) >= PATIENCE);
        if may {
            kept.asked_at = Some(now);
        }
        may
    }

    fn keep(&self, set: KeySet, now: u64) {
        self.lock().set = Some((now, Arc::new(set)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<KeySet, NoKeys> {
        let uri = match &self.rules.jwks_uri {
            Some(pinned) => pinned.clone(),
            None => self.discover().await?,
        };
        let body = self.read(&uri).await?;
        KeySet::parse(&body).ok_or(NoKeys::Unusable)
    }

    /// The issuer names its own host's address or none (threats B-09, B-17).
    async fn discover(&self) -> Result<String, NoKeys> {
        let issuer = &self.rules.issuer;
        let body = self.read(&issuer.discovery_url()).await?;
        let found: Discovery = serde_json::from_slice(&body).map_err(|_| NoKeys::Unusable)?;
        if found.issuer == issuer.as_str() && issuer.is_home_of(&found.jwks_uri) {
            Ok(found.jwks_uri)
        } else {
            Err(NoKeys::Elsewhere)
        }
    }

    /// One deadline for all of it: name servers that do not answer would hold every host's turn.
    async fn read(&self, uri: &str) -> Result<Vec<u8>, NoKeys> {
        let deadline = self.limits.deadline;
        let read = tokio::time::timeout(deadline, self.read_checked(uri)).await;
        let late = |_| {
            NoKeys::Http(format!(
                "there was no answer within {} s",
                deadline.as_secs()
            ))
        };
        read.map_err(late)?
    }

    async fn read_checked(&self, uri: &str) -> Result<Vec<u8>, NoKeys> {
        let request = Request::get(uri)
            .header("accept", "application/json")
            .body(Vec::new())
            .map_err(|e| NoKeys::Http(e.to_string()))?;
        if !self.rules.private_addresses {
            let uri = request.uri();
            let port = uri.port_u16().unwrap_or(443);
            self.check_public(uri.host().unwrap_or_default(), port)
                .await?;
        }
        let answer = self.client.send(request, self.limits).await;
        let answer = answer.map_err(|e| NoKeys::Http(e.to_string()))?;
        // A redirect is another place than the one that was checked.
        if answer.status == 200 {
            Ok(answer.body)
        } else {
            Err(NoKeys::Http(format!(
                "the issuer answered {}",
                answer.status
            )))
        }
    }

    async fn check_public(&self, host: &str, port: u16) -> Result<(), NoKeys> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = (self.resolve)(bare.to_owned(), port).await;
        let addresses = addresses.map_err(|e| NoKeys::Http(e.to_string()))?;
        let mut addresses = addresses.into_iter().map(|address| address.to_canonical());
        let private = addresses.find(|ip| !is_public(*ip));
        private.map_or(Ok(()), |address| Err(NoKeys::PrivateAddress(address)))
    }
}

async fn resolve(host: String, port: u16) -> io::Result<Vec<IpAddr>> {
    let addresses = tokio::net::lookup_host((host, port)).await?;
    Ok(addresses.map(|address| address.ip()).collect())
}

/// IANA's special-purpose address registries (RFC 6890): what is not for the whole Internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let benchmark = a == 198 && (18..20).contains(&b);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local();
            !(special || shared || benchmark || a == 0 || a >= 224 || v4.is_documentation())
        }
        IpAddr::V6(v6) => {
            // Only 2000::/3 is given out as global unicast; of it, 2001:db8::/32 and 2002::/16 lead elsewhere.
            let [first, second, ..] = v6.segments();
            let elsewhere = (first == 0x2001 && second == 0x0db8) || first == 0x2002;
            first & 0xe000 == 0x2000 && !elsewhere
        }
    }
}

/// Why there are no keys to verify with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKeys {
    /// The issuer did not answer.
    #[error("fetch the issuer's keys: {0}")]
    Http(String),
    /// Not a key set, or none of its keys can be used.
    #[error("fetch the issuer's keys: the answer holds no key that can be used")]
    Unusable,
    /// The issuer points to another host.
    #[error(
        "fetch the issuer's keys: the issuer names another issuer, or keys on another host; pin it with `jwks_uri` if that is meant"
    )]
    Elsewhere,
    /// A private address that the configuration does not name.
    #[error(
        "fetch the issuer's keys: its host is at the private address {0}; set `private_addresses = true` if that is meant"
    )]
    PrivateAddress(IpAddr),
    /// Asked for a moment ago, without success.
    #[error("fetch the issuer's keys: there was no answer a moment ago")]
    NotYet,
}

#[cfg(test)]
mod tests;
