//! What is remembered of hosts, in `$XDG_STATE_HOME/eic/hosts.json`: that they are enrolled, the keys of legacy
//! ones, and whether a key may be pushed. Keyed by instance id, which nobody else can have. Several processes have
//! the file (the resident agent, each `exec`): it is read again before it is changed, under a lock.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use eic_protocol::api::instance::{Enrolment, InstanceConnectMode, InstanceView};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::subject_key::SubjectKey;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// Largest file that is read. Bytes; 10,000 hosts of three keys have about 8 MB.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Most hosts that are remembered; then legacy ones that were seen longest ago are forgotten first.
const MAX_HOSTS: usize = 10_000;

/// What is remembered of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    /// It was seen enrolled: never legacy again.
    #[serde(default)]
    pub enrolled: bool,
    /// Whether a key may be pushed, as the CA said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_connect: Option<InstanceConnectMode>,
    /// Keys of a legacy host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<SubjectKey>,
    /// How those keys became known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<KeySource>,
    /// When it was last seen, in Unix seconds.
    #[serde(default)]
    pub seen: u64,
}

/// How a legacy host's keys became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeySource {
    /// From the instance's console.
    Console,
    /// From the CA, to which the host's own agent told them.
    Harvested,
    /// By the first login.
    FirstUse,
}

/// The memory, with the file that it lives in.
#[derive(Debug)]
pub struct HostMemory {
    file: PathBuf,
    hosts: BTreeMap<InstanceId, HostRecord>,
    /// The file as it was read or written last.
    stamp: Option<Stamp>,
}

/// Time of the last change, size and inode: a replaced file differs in one of them.
type Stamp = (i64, i64, u64, u64);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    hosts: BTreeMap<InstanceId, HostRecord>,
}

impl HostMemory {
    /// Reads the memory of `state_dir`.
    ///
    /// # Errors
    /// [`MemoryError`]: a file that cannot be understood is not taken for an empty one, since then
    /// enrolled hosts could be passed off as legacy.
    pub fn load(state_dir: &Path) -> Result<Self, MemoryError> {
        let file = state_dir.join("hosts.json");
        let stamp = stamp(&file);
        let hosts = read(&file)?;
        Ok(Self { file, hosts, stamp })
    }

    /// Takes over what another process has written since.
    ///
    /// # Errors
    /// [`MemoryError`]; what was known before stays then.
    pub fn refresh(&mut self) -> Result<(), MemoryError> {
        let stamp = stamp(&self.file);
        if stamp != self.stamp {
            self.merge(read(&self.file)?);
            self.stamp = stamp;
        }
        Ok(())
    }

    /// The file counts, but for one thing: a host that this process knows to be enrolled stays so (H-18).
    fn merge(&mut self, stored: BTreeMap<InstanceId, HostRecord>) {
        let before = std::mem::replace(&mut self.hosts, stored);
        for (id, record) in before.into_iter().filter(|(_, record)| record.enrolled) {
            let enrolled = &mut self.hosts.entry(id).or_insert(record).enrolled;
            *enrolled = true;
        }
    }

    /// What is remembered of a host.
    #[must_use]
    pub fn get(&self, instance: &InstanceId) -> Option<&HostRecord> {
        self.hosts.get(instance)
    }

    /// Whether the host was ever seen enrolled.
    #[must_use]
    pub fn is_enrolled(&self, instance: &InstanceId) -> bool {
        self.get(instance).is_some_and(|record| record.enrolled)
    }

    /// Remembers what the CA says about a host. It can make a host enrolled, never legacy again.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn learn(&mut self, view: &InstanceView, now: u64) -> Result<(), MemoryError> {
        let enrolled = view.enrolment == Enrolment::Enrolled;
        self.update(&view.id, now, |record| {
            record.instance_connect = Some(view.instance_connect);
            if enrolled {
                record.enrolled = true;
            }
        })
    }

    /// Remembers that a host showed a good certificate.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn mark_enrolled(&mut self, instance: &InstanceId, now: u64) -> Result<(), MemoryError> {
        self.update(instance, now, |record| {
            record.enrolled = true;
            record.keys.clear();
            record.source = None;
        })
    }

    /// Remembers the keys of a legacy host.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn remember_keys(
        &mut self,
        instance: &InstanceId,
        keys: Vec<SubjectKey>,
        source: KeySource,
        now: u64,
    ) -> Result<(), MemoryError> {
        self.update(instance, now, |record| {
            record.keys.clone_from(&keys);
            record.source = Some(source);
        })
    }

    /// Writes only where something other than the time of day changed.
    fn update(
        &mut self,
        instance: &InstanceId,
        now: u64,
        change: impl Fn(&mut HostRecord),
    ) -> Result<(), MemoryError> {
        self.refresh()?;
        if self.changed(instance, now, &change).is_none() {
            return Ok(());
        }
        if let Some(folder) = self.file.parent() {
            files::private_dir(folder)?;
        }
        let _lock = files::lock(&self.file)?;
        self.merge(read(&self.file)?);
        if let Some(record) = self.changed(instance, now, &change) {
            self.hosts.insert(instance.clone(), record);
        }
        self.forget_surplus();
        self.store()
    }

    /// The host's record after the change; `None` where it is as before.
    fn changed(
        &self,
        instance: &InstanceId,
        now: u64,
        change: impl Fn(&mut HostRecord),
    ) -> Option<HostRecord> {
        let day = 86_400;
        let before = self.hosts.get(instance);
        let mut record = before.cloned().unwrap_or_default();
        change(&mut record);
        let fresh = before.filter(|before| now.saturating_sub(before.seen) < day);
        record.seen = fresh.map_or(now, |before| before.seen);
        (before != Some(&record)).then_some(record)
    }

    fn forget_surplus(&mut self) {
        while self.hosts.len() > MAX_HOSTS {
            let oldest = self
                .hosts
                .iter()
                .min_by_key(|(_, record)| (record.enrolled, record.seen));
            let Some(id) = oldest.map(|(id, _)| id.clone()) else {
                break;
            };
            self.hosts.remove(&id);
        }
    }

    fn store(&mut self) -> Result<(), MemoryError> {
        let stored = Stored {
            version: 1,
            hosts: self.hosts.clone(),
        };
        let bytes = serde_json::to_vec(&stored).map_err(|e| MemoryError::Malformed {
            file: self.file.display().to_string(),
            what: e.to_string(),
        })?;
        files::write_atomic(&self.file, &bytes, 0o600)?;
        self.stamp = stamp(&self.file);
        Ok(())
    }
}

fn read(file: &Path) -> Result<BTreeMap<InstanceId, HostRecord>, MemoryError> {
    let Some(bytes) = files::read_capped(file, MAX_FILE)? else {
        return Ok(BTreeMap::new());
    };
    let malformed = |what: String| MemoryError::Malformed {
        file: file.display().to_string(),
        what,
    };
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
    if stored.version != 1 {
        let version = stored.version;
        return Err(malformed(format!(
            "version {version} is of a newer program"
        )));
    }
    Ok(stored.hosts)
}

fn stamp(file: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
}

/// The memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not of its form.
    #[error("`{file}` cannot be understood: {what}; restore it, or remove it to forget all hosts")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> InstanceId {
        format!("i-{n:08x}").parse().unwrap()
    }

    fn view(enrolment: Enrolment) -> InstanceView {
        InstanceView {
            id: id(1),
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            availability_zone: None,
            name: None,
            private_dns: None,
            addresses: Vec::new(),
            ssh_port: 22,
            enrolment,
            instance_connect: InstanceConnectMode::On,
            users: Vec::new(),
            host_keys: Vec::new(),
        }
    }

    #[test]
    fn a_host_once_seen_enrolled_is_never_legacy_again() {
        // H-18
        let dir = tempfile::tempdir().unwrap();
        let mut memory = HostMemory::load(&dir.path().join("eic")).unwrap();
        memory.learn(&view(Enrolment::Enrolled), 1).unwrap();
        memory.learn(&view(Enrolment::Legacy), 2).unwrap();
        assert!(memory.is_enrolled(&id(1)));
        assert!(
            HostMemory::load(&dir.path().join("eic"))
                .unwrap()
                .is_enrolled(&id(1)),
            "not on disk"
        );
    }

    #[test]
    fn what_one_process_learned_is_neither_lost_nor_unknown_to_another() {
        // H-18
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("eic");
        let mut first = HostMemory::load(&state).unwrap();
        let mut second = HostMemory::load(&state).unwrap();
        first.mark_enrolled(&id(1), 1).unwrap();
        second.mark_enrolled(&id(2), 1).unwrap();
        let stored = HostMemory::load(&state).unwrap();
        assert!(stored.is_enrolled(&id(1)) && stored.is_enrolled(&id(2)));
        first.refresh().unwrap();
        assert!(first.is_enrolled(&id(2)));
        // Not even by a file of before.
        std::fs::write(state.join("hosts.json"), "{\"version\":1,\"hosts\":{}}").unwrap();
        first.refresh().unwrap();
        assert!(first.is_enrolled(&id(1)));
        first.learn(&view(Enrolment::Legacy), 2).unwrap();
        assert!(HostMemory::load(&state).unwrap().is_enrolled(&id(1)));
    }

    #[test]
    fn processes_that_write_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("eic");
        let write = |first: u32| {
            let mut memory = HostMemory::load(&state).unwrap();
            for n in 0..20 {
                memory.mark_enrolled(&id(first + n), 1).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for writer in 0..4 {
                scope.spawn(move || write(writer * 100));
            }
        });
        assert_eq!(HostMemory::load(&state).unwrap().hosts.len(), 80);
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("eic")).unwrap();
        for bad in [
            "",
            "{}",
            "{\"version\":2,\"hosts\":{}}",
            "{\"version\":1,\"hosts\":{\"x\":{}}}",
        ] {
            std::fs::write(dir.path().join("eic/hosts.json"), bad).unwrap();
            assert!(
                HostMemory::load(&dir.path().join("eic")).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn legacy_hosts_are_forgotten_before_enrolled_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = HostMemory::load(&dir.path().join("eic")).unwrap();
        memory.mark_enrolled(&id(0), 1).unwrap();
        for n in 1..=u32::try_from(MAX_HOSTS).unwrap() {
            memory.hosts.insert(
                id(n),
                HostRecord {
                    seen: u64::from(n) + 1,
                    ..HostRecord::default()
                },
            );
        }
        memory.store().unwrap();
        memory.mark_enrolled(&id(99_999), 50).unwrap();
        assert_eq!(memory.hosts.len(), MAX_HOSTS);
        assert!(memory.is_enrolled(&id(0)) && memory.get(&id(1)).is_none());
    }
}
