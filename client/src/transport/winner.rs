//! Which way won last, for each network and group of hosts, so that the next login begins with it. A small file in
//! the cache folder: losing it costs 400 ms once.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Way;
use crate::files;

/// Most that is remembered.
const MAX_ENTRIES: usize = 64;
/// How long it is. Seconds.
const KEPT: u64 = 7 * 24 * 3600;
/// Largest file that is read. Bytes.
const MAX_FILE: u64 = 64 * 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    key: String,
    way: Way,
    at: u64,
}

/// The file, for whoever removes it.
#[must_use]
pub fn file(cache_dir: &Path) -> PathBuf {
    cache_dir.join("ways.json")
}

/// What is remembered of one network and group.
#[derive(Debug)]
pub struct Winner {
    file: PathBuf,
    key: String,
}

impl Winner {
    /// The memory for hosts of `group` on the network that this machine is on now.
    #[must_use]
    pub fn new(cache_dir: &Path, group: &str, address: Option<IpAddr>) -> Self {
        let mut hash = Sha256::new();
        for part in [group.as_bytes(), network(address).as_bytes()] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        Self {
            file: file(cache_dir),
            key: hex::encode(hash.finalize()).chars().take(32).collect(),
        }
    }

    /// The way that won.
    #[must_use]
    pub fn recall(&self, now: u64) -> Option<Way> {
        let file = self.read();
        let known = file.entries.iter().find(|entry| entry.key == self.key);
        known
            .filter(|entry| is_recent(entry, now))
            .map(|entry| entry.way)
    }

    /// Remembers a way that is news. A memory that cannot be written is done without.
    pub fn remember(&self, way: Way, now: u64) {
        // What is assumed anyway needs no entry.
        if self.recall(now).unwrap_or(Way::Direct) == way {
            return;
        }
        let mut entries = self.read().entries;
        entries.retain(|entry| entry.key != self.key && is_recent(entry, now));
        entries.push(Entry {
            key: self.key.clone(),
            way,
            at: now,
        });
        entries.sort_by_key(|entry| entry.at);
        let surplus = entries.len().saturating_sub(MAX_ENTRIES);
        entries.drain(..surplus);
        let _ = self.write(&File { entries });
    }

    fn read(&self) -> File {
        let bytes = files::read_capped(&self.file, MAX_FILE).ok().flatten();
        bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    fn write(&self, file: &File) -> Result<(), files::FileError> {
        if let Some(folder) = self.file.parent() {
            files::private_dir_unless_there(folder)?;
        }
        files::write_atomic(
            &self.file,
            &serde_json::to_vec(file).unwrap_or_default(),
            0o600,
        )
    }
}

fn is_recent(entry: &Entry, now: u64) -> bool {
    // An entry of the future is one of a clock that was wrong.
    entry.at <= now && now - entry.at < KEPT
}

/// What tells one network from another: the default gateways, and the address that this machine has towards the host.
fn network(address: Option<IpAddr>) -> String {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    format!(
        "{}|{}",
        gateways(&routes),
        address.and_then(own_address).unwrap_or_default()
    )
}

/// Interface, destination, gateway, …: a destination of zeros is the default (proc(5), /proc/net/route).
fn gateways(routes: &str) -> String {
    let rows = routes
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let defaults = rows.filter(|row| row.get(1) == Some(&"00000000"));
    let named = defaults.filter_map(|row| Some(format!("{}={}", row.first()?, row.get(2)?)));
    named.collect::<Vec<_>>().join(",")
}

/// No packet is sent: the kernel only picks a route.
fn own_address(address: IpAddr) -> Option<String> {
    let any: SocketAddr = match address {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((address, 22)).ok()?;
    socket.local_addr().ok().map(|own| own.ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_304_439;

    #[test]
    fn a_broken_an_old_and_a_foreign_entry_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let winner = Winner::new(&cache, "1/eu-west-1", None);
        winner.remember(Way::Endpoint, NOW);
        assert_eq!(winner.recall(NOW), Some(Way::Endpoint));
        assert_eq!(winner.recall(NOW + KEPT), None);
        assert_eq!(winner.recall(NOW - 1), None);
        assert_eq!(Winner::new(&cache, "2/eu-west-1", None).recall(NOW), None);
        std::fs::write(cache.join("ways.json"), "{").unwrap();
        assert_eq!(winner.recall(NOW), None);
        winner.remember(Way::Endpoint, NOW);
        assert_eq!(winner.recall(NOW), Some(Way::Endpoint));
    }

    #[test]
    fn the_file_is_bounded_and_has_no_entry_for_what_is_assumed_anyway() {
        let dir = tempfile::tempdir().unwrap();
        let first = Winner::new(dir.path(), "0", None);
        first.remember(Way::Direct, NOW);
        assert!(!dir.path().join("ways.json").exists());
        for n in 0..100_u64 {
            Winner::new(dir.path(), &n.to_string(), None).remember(Way::Endpoint, NOW + n);
        }
        assert_eq!(first.read().entries.len(), MAX_ENTRIES);
        assert_eq!(first.recall(NOW + 100), None);
        let last = Winner::new(dir.path(), "99", None);
        last.remember(Way::Direct, NOW + 200);
        assert_eq!(last.recall(NOW + 200), Some(Way::Direct));
    }

    #[test]
    fn the_default_gateway_tells_networks_apart() {
        let table =
            "Iface\tDestination\tGateway\neth0\t00000000\t0100000A\neth0\t0000000A\t00000000\n";
        assert_eq!(gateways(table), "eth0=0100000A");
        assert_eq!(gateways(""), "");
    }
}
