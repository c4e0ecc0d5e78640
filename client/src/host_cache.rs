//! Hosts as they were listed last, in `$XDG_CACHE_HOME/eic/hosts.json`: for completion, inventories and ssh's `User`
//! without a network call. Nothing is decided by it: a login asks again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eic_protocol::api::instance::InstanceView;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::host_name::matches_pattern;

/// Largest file that is read. Bytes; 50,000 hosts have about 25 MB.
const MAX_FILE: u64 = 32 * 1024 * 1024;
/// How long a listing is kept that nobody renews. Seconds.
const MAX_AGE: u64 = 30 * 86_400;
/// Most listings: one for each CA or selection of credentials.
const MAX_SOURCES: usize = 32;
const VERSION: u32 = 1;

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedHost {
    /// The host.
    #[serde(flatten)]
    pub view: InstanceView,
    /// Its state in EC2 (`running`, `stopped`, …), where EC2 was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// Hosts of one CA, or of one selection of credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// When they were listed, in Unix seconds.
    pub at: u64,
    /// Whether a CA stands behind them.
    pub by_ca: bool,
    /// Whether there were more than are listed here.
    pub truncated: bool,
    /// The hosts, by name and id.
    pub hosts: Vec<CachedHost>,
}

/// All listings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Stored {
    version: u32,
    sources: BTreeMap<String, Listing>,
}

/// The file.
#[derive(Clone, Debug)]
pub struct HostCache(PathBuf);

impl HostCache {
    /// In the folder of caches.
    #[must_use]
    pub fn new(cache_dir: &Path) -> Self {
        Self(cache_dir.join("hosts.json"))
    }

    /// The file, for whoever removes it.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.0
    }

    /// Replaces the listing of `source`.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn keep(&self, source: &str, mut listing: Listing) -> Result<(), FileError> {
        listing.hosts.sort_by_cached_key(|host| order(&host.view));
        let mut stored = self.read();
        let now = listing.at;
        stored
            .sources
            .retain(|_, old| now.saturating_sub(old.at) < MAX_AGE);
        if stored.sources.len() >= MAX_SOURCES {
            let oldest = stored.sources.iter().min_by_key(|(_, old)| old.at);
            let oldest = oldest.map(|(name, _)| name.clone()).unwrap_or_default();
            stored.sources.remove(&oldest);
        }
        stored.sources.insert(source.to_owned(), listing);
        let bytes = serde_json::to_vec(&stored).unwrap_or_default();
        if let Some(folder) = self.0.parent() {
            files::private_dir(folder)?;
        }
        files::write_atomic(&self.0, &bytes, 0o600)
    }

    /// The listing of `source`.
    #[must_use]
    pub fn listing(&self, source: &str) -> Option<Listing> {
        self.read().sources.remove(source)
    }

    /// Every listing, whoever it is of.
    #[must_use]
    pub fn all(&self) -> Vec<Listing> {
        self.read().sources.into_values().collect()
    }

    /// A cache that is damaged or of another version is an empty one: it is only a cache.
    fn read(&self) -> Stored {
        let empty = Stored {
            version: VERSION,
            ..Stored::default()
        };
        let bytes = files::read_capped(&self.0, MAX_FILE).ok().flatten();
        let stored = bytes.and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok());
        stored.filter(|s| s.version == VERSION).unwrap_or(empty)
    }
}

fn order(view: &InstanceView) -> (bool, String, String) {
    let name = view.name.clone().unwrap_or_default().to_ascii_lowercase();
    (name.is_empty(), name, view.id.to_string())
}

/// Whether a filter that somebody typed means this host: a pattern with `*` or `?` for one of its names as a whole,
/// other text for a part of one. Names are id, `Name` tag, DNS name, addresses, Region and account.
#[must_use]
pub fn matches(filter: &str, view: &InstanceView) -> bool {
    let names = [
        Some(view.id.to_string()),
        view.name.clone(),
        view.private_dns.clone(),
        Some(view.region.to_string()),
        Some(view.account.to_string()),
    ];
    let addresses = view.addresses.iter().map(ToString::to_string);
    let mut names = names.into_iter().flatten().chain(addresses);
    // More stars than a person types would make the match slow.
    let is_pattern = filter.contains(['*', '?']) && filter.matches('*').count() <= 4;
    let lower = filter.to_ascii_lowercase();
    names.any(|name| {
        if is_pattern {
            matches_pattern(filter, &name)
        } else {
            name.to_ascii_lowercase().contains(&lower)
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use eic_protocol::api::instance::{Enrolment, InstanceConnectMode};
    use std::os::unix::fs::MetadataExt as _;

    pub(crate) fn view(id: &str, name: Option<&str>) -> InstanceView {
        InstanceView {
            id: id.parse().unwrap(),
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            availability_zone: None,
            name: name.map(str::to_owned),
            private_dns: None,
            addresses: vec!["10.0.0.5".parse().unwrap()],
            ssh_port: 22,
            enrolment: Enrolment::Unknown,
            instance_connect: InstanceConnectMode::On,
            users: Vec::new(),
            host_keys: Vec::new(),
        }
    }

    fn listing(at: u64, hosts: &[(&str, Option<&str>)]) -> Listing {
        let host = |(id, name): &(&str, Option<&str>)| CachedHost {
            view: view(id, *name),
            state: Some("running".to_owned()),
        };
        Listing {
            at,
            by_ca: false,
            truncated: false,
            hosts: hosts.iter().map(host).collect(),
        }
    }

    #[test]
    fn a_damaged_cache_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let cache = HostCache::new(dir.path());
        for bad in ["", "{", "[]", "{\"version\":2,\"sources\":{}}"] {
            std::fs::write(cache.file(), bad).unwrap();
            assert!(cache.all().is_empty(), "{bad:?}");
        }
    }

    #[test]
    fn listings_are_replaced_by_their_own_source_and_forgotten_when_old() {
        let dir = tempfile::tempdir().unwrap();
        let cache = HostCache::new(&dir.path().join("eic"));
        let hosts = [("i-00000002", None), ("i-00000001", Some("web"))];
        cache.keep("one", listing(1, &hosts)).unwrap();
        cache.keep("two", listing(2, &[])).unwrap();
        cache.keep("one", listing(3, &hosts)).unwrap();
        let kept = cache.listing("one").unwrap();
        assert_eq!((kept.at, cache.all().len()), (3, 2));
        assert_eq!(kept.hosts[0].view.id.as_str(), "i-00000001", "not sorted");
        cache.keep("one", listing(2 + MAX_AGE, &[])).unwrap();
        assert_eq!(cache.all().len(), 1);
        let mode = std::fs::metadata(cache.file()).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn filters_mean_parts_or_patterns_of_names() {
        let host = view("i-0123456789abcdef0", Some("Web-1"));
        for (filter, meant) in [
            ("web", true),
            ("WEB-1", true),
            ("web-?", true),
            ("web", true),
            ("b-1*", false),
            ("10.0.0", true),
            ("eu-west", true),
            ("123456789012", true),
            ("db", false),
            ("i-0123*", true),
            ("*a*b*c*d*e*", false),
        ] {
            assert_eq!(matches(filter, &host), meant, "{filter}");
        }
    }
}
