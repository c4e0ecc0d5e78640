//! Hosts named in a file: machines outside EC2, laboratories, small installations.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use eic_protocol::api::instance::{Enrolment, InstanceConnectMode};
use eic_protocol::instance_id::InstanceId;

use super::record::{InstanceRecord, SSH_PORT};
use crate::config::certificates::read_tags;
use crate::config::document::{ConfigError, Section, read_file};
use crate::config::inventory::MODES;

type Hosts = HashMap<InstanceId, Arc<InstanceRecord>>;

/// The file's hosts; replaced as a whole when the file changes.
pub struct StaticInventory {
    file: PathBuf,
    hosts: ArcSwap<Hosts>,
}

impl StaticInventory {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake.
    pub fn open(file: &Path) -> Result<Self, ConfigError> {
        Ok(Self {
            file: file.to_owned(),
            hosts: ArcSwap::from_pointee(load(file)?),
        })
    }

    /// Reads the file again; on an error the hosts stay as they were. `true`: something changed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn reload(&self) -> Result<bool, ConfigError> {
        let fresh = load(&self.file)?;
        let changed = **self.hosts.load() != fresh;
        if changed {
            self.hosts.store(Arc::new(fresh));
        }
        Ok(changed)
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The host of this id.
    pub(crate) fn instance(&self, id: &InstanceId) -> Option<Arc<InstanceRecord>> {
        self.hosts.load().get(id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<InstanceRecord>> {
        self.hosts.load().values().cloned().collect()
    }
}

fn load(file: &Path) -> Result<Hosts, ConfigError> {
    read_file(file, |top| {
        let mut hosts = Hosts::new();
        for section in top.tables("instance") {
            let Some(record) = read(&section) else {
                continue;
            };
            if hosts.contains_key(&record.id) {
                section.mistake("id", format!("`{}` is named twice", record.id));
            }
            hosts.insert(record.id.clone(), Arc::new(record));
        }
        Some(hosts)
    })
}

const ENROLMENT: [(&str, Enrolment); 3] = [
    ("enrolled", Enrolment::Enrolled),
    ("legacy", Enrolment::Legacy),
    ("unknown", Enrolment::Unknown),
];

fn read(section: &Section<'_>) -> Option<InstanceRecord> {
    let id = section.required("id", "id = \"i-0123456789abcdef0\"");
    let account = section.required("account", "account = \"111122223333\"");
    let region = section.required("region", "region = \"eu-west-1\"");
    let addresses: Vec<IpAddr> = section.list("addresses").unwrap_or_default();
    let ssh_port = section
        .number("ssh_port", 1..=65_535)
        .and_then(|port| u16::try_from(port).ok());
    let tags = section.table("tags").map(|tags| {
        let read = read_tags(&tags);
        tags.refuse_unknown();
        read
    });
    let availability_zone = section.string("availability_zone");
    let private_dns = section.string("private_dns");
    let enrolment = section
        .word("enrolment", &ENROLMENT)
        .unwrap_or(Enrolment::Unknown);
    let instance_connect = section
        .word("instance_connect", &MODES)
        .unwrap_or(InstanceConnectMode::Off);
    let users = section.list("users").unwrap_or_default();
    section.refuse_unknown();
    Some(InstanceRecord {
        id: id?,
        account: account?,
        region: region?,
        availability_zone,
        is_up: true,
        is_gone: false,
        private_dns,
        addresses: addresses
            .into_iter()
            .map(|address| address.to_canonical())
            .collect(),
        ssh_port: ssh_port.unwrap_or(SSH_PORT),
        enrolment,
        instance_connect,
        users,
        tags: tags.unwrap_or_default(),
    })
}
