//! The inventory: which hosts there are, in which account, with which tags and addresses.
//!
//! It comes from the service's own sources (a file, EC2), never from a request (threats C-10).
//! Tags that a decision rests on are at most 30 s old; a host that is not known is looked up at once.
//! Who may see or use a host is policy's business.

use std::net::IpAddr;
use std::sync::Arc;

use eic_protocol::instance_id::InstanceId;

pub mod ec2;
pub mod record;
pub mod static_file;

pub use record::InstanceRecord;

use ec2::Ec2Inventory;
use static_file::StaticInventory;

/// Oldest facts that a decision may rest on. Seconds.
pub const MAX_AGE: u64 = 30;

/// All sources together. The file wins where two name one host.
pub struct Inventory {
    file: Option<StaticInventory>,
    ec2: Option<Ec2Inventory>,
}

/// Why a look-up gave no answer; "there is no such host" is an answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InventoryError {
    /// EC2 did not answer, or said no to us.
    #[error("look the host up in EC2: {0}")]
    Ec2(String),
    /// Too many look-ups of hosts that are not known.
    #[error("look the host up: too many unknown hosts were asked for")]
    Busy,
}

impl Inventory {
    /// Over these sources.
    #[must_use]
    pub fn new(file: Option<StaticInventory>, ec2: Option<Ec2Inventory>) -> Self {
        Self { file, ec2 }
    }

    /// The file's part, for reloading.
    #[must_use]
    pub fn file(&self) -> Option<&StaticInventory> {
        self.file.as_ref()
    }

    /// The host of this id, with facts at most 30 s old. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`InventoryError`]
    pub async fn instance(
        &self,
        id: &InstanceId,
        now: u64,
    ) -> Result<Option<Arc<InstanceRecord>>, InventoryError> {
        let in_file = self.file.as_ref().and_then(|file| file.instance(id));
        match (&self.ec2, in_file) {
            (_, Some(record)) => Ok(Some(record)),
            // `mi-…` is a name of Systems Manager; EC2 does not know it.
            (Some(ec2), None) if !id.is_managed() => ec2.instance(id, now).await,
            _ => Ok(None),
        }
    }

    /// Every host that `host` names: by id, `Name` tag, private DNS name or address.
    ///
    /// # Errors
    /// [`InventoryError`]
    pub async fn find(
        &self,
        host: &str,
        now: u64,
    ) -> Result<Vec<Arc<InstanceRecord>>, InventoryError> {
        if let Ok(id) = host.parse::<InstanceId>() {
            return Ok(self.instance(&id, now).await?.into_iter().collect());
        }
        let wanted = Wanted::of(host);
        let mut found = self.all(now).await?;
        found.retain(|record| wanted.is_met_by(record));
        Ok(found)
    }

    /// Every host, each once.
    ///
    /// # Errors
    /// [`InventoryError`]
    pub async fn all(&self, now: u64) -> Result<Vec<Arc<InstanceRecord>>, InventoryError> {
        let mut hosts = match &self.ec2 {
            Some(ec2) => ec2.all(now).await?,
            None => Vec::new(),
        };
        if let Some(file) = &self.file {
            hosts.retain(|record| file.instance(record.id()).is_none());
            hosts.extend(file.all());
        }
        Ok(hosts)
    }
}

/// What a host name stands for.
struct Wanted<'h> {
    text: &'h str,
    address: Option<IpAddr>,
}

impl<'h> Wanted<'h> {
    fn of(host: &'h str) -> Self {
        Self {
            text: host,
            address: host.parse::<IpAddr>().ok().map(|a| a.to_canonical()),
        }
    }

    fn is_met_by(&self, record: &InstanceRecord) -> bool {
        match self.address {
            Some(address) => record.addresses().contains(&address),
            None => {
                let dns = record
                    .private_dns()
                    .is_some_and(|dns| dns.eq_ignore_ascii_case(self.text));
                dns || record.name() == Some(self.text)
            }
        }
    }
}

#[cfg(test)]
mod tests;
