//! The inventory: which hosts there are, in which account, with which tags and addresses.
//!
//! It comes from the service's own sources (a file, EC2), never from a request (threats C-10).
//! Tags that a decision rests on are at most 30 s old; a host that is not known is looked up at once.
//! Who may see or use a host is policy's business.

use std::net::IpAddr;
use std::sync::Arc;

use eic_protocol::api::instance::{Enrolment, InstanceView};
use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

pub mod ec2;
mod flights;
pub mod record;
pub mod static_file;

pub use record::InstanceRecord;

use ec2::{Ec2Inventory, Listed};
use static_file::StaticInventory;

use crate::host_identity::enrolment::EnrolledHost;
use crate::store::HostsSeen;

/// Oldest facts that a decision may rest on. Seconds.
pub const MAX_AGE: u64 = 30;
/// Most hosts that one name of a failing place is looked up again for.
const MAX_NAMESAKES: usize = 20;

/// All sources together. The file wins where two name one host.
pub struct Inventory {
    file: Option<StaticInventory>,
    ec2: Option<Ec2Inventory>,
    seen: HostsSeen,
}

/// Hosts, and whether these are all.
#[derive(Debug)]
pub struct Hosts {
    /// Each once.
    pub hosts: Vec<Arc<InstanceRecord>>,
    /// False: the hosts of an account or Region that does not answer are missing.
    pub complete: bool,
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

/// Whose look-ups of hosts are counted together that a listing lacks.
const LISTING: &str = "listing";

impl Inventory {
    /// Over these sources; `seen` are the hosts that got a view of this CA.
    #[must_use]
    pub fn new(file: Option<StaticInventory>, ec2: Option<Ec2Inventory>, seen: HostsSeen) -> Self {
        Self { file, ec2, seen }
    }

    /// The file's part, for reloading.
    #[must_use]
    pub fn file(&self) -> Option<&StaticInventory> {
        self.file.as_ref()
    }

    /// The host as a caller sees it who may log in as `users`. One that this CA enrolled is enrolled,
    /// whatever its tags say meanwhile: who may edit tags must not turn certificates off (threats H-18).
    #[must_use]
    pub fn view(&self, host: &InstanceRecord, users: Vec<OsUser>) -> InstanceView {
        let mut view = host.view(users);
        if self.seen.contains(host.id()) {
            view.enrolment = Enrolment::Enrolled;
        }
        view
    }

    /// The host of this id, with facts at most 30 s old. `asker` is whose look-ups of unknown ids are
    /// counted together; `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`InventoryError`]
    pub async fn instance(
        &self,
        id: &InstanceId,
        asker: &str,
        now: u64,
    ) -> Result<Option<Arc<InstanceRecord>>, InventoryError> {
        let in_file = self.file.as_ref().and_then(|file| file.instance(id));
        match (&self.ec2, in_file) {
            (_, Some(record)) => Ok(Some(record)),
            // `mi-…` is a name of Systems Manager; EC2 does not know it.
            (Some(ec2), None) if !id.is_managed() => ec2.instance(id, asker, now).await,
            _ => Ok(None),
        }
    }

    /// As [`Self::instance`], of a host of this account and Region, by the listing that all who ask share: for
    /// thousands of hosts that are looked at every 30 s.
    ///
    /// # Errors
    /// [`InventoryError`]
    pub async fn listed_instance(
        &self,
        id: &InstanceId,
        account: &AccountId,
        region: AwsRegion,
        now: u64,
    ) -> Result<Option<Arc<InstanceRecord>>, InventoryError> {
        let in_file = self.file.as_ref().and_then(|file| file.instance(id));
        let found = match (&self.ec2, in_file) {
            (_, Some(record)) => Some(record),
            (Some(ec2), None) if !id.is_managed() => {
                match ec2.listed(id, account, region, now).await? {
                    // EC2's listings can lack an instance for a while, and a tag that makes a host stricter with it.
                    None => ec2.instance(id, LISTING, now).await?,
                    listed => listed,
                }
            }
            _ => None,
        };
        // An id that is another account's or Region's by now is another host.
        let same = |host: &InstanceRecord| host.account() == account && host.region() == region;
        Ok(found.filter(|host| same(host)))
    }

    /// Every host that `host` names: by id, `Name` tag, private DNS name or address.
    ///
    /// # Errors
    /// [`InventoryError`]; also where nothing was found and an account or Region does not answer:
    /// that a host does not exist is said only by those who would know.
    pub async fn find(
        &self,
        host: &str,
        asker: &str,
        now: u64,
    ) -> Result<Vec<Arc<InstanceRecord>>, InventoryError> {
        if let Ok(id) = host.parse::<InstanceId>() {
            return Ok(self.instance(&id, asker, now).await?.into_iter().collect());
        }
        let wanted = Wanted::of(host);
        let listed = match &self.ec2 {
            Some(ec2) => ec2.names(now).await,
            None => Listed::default(),
        };
        let mut found = self.with_file(listed.hosts);
        found.retain(|record| wanted.is_met_by(record));
        match listed.failure {
            None => Ok(found),
            Some(failure) if found.is_empty() => Err(failure),
            Some(failure) if found.len() > MAX_NAMESAKES => Err(failure),
            Some(_) => self.read_again(&found, &wanted, asker, now).await,
        }
    }

    /// Names may come from an old listing; what they lead to may not. Fresh hosts cost nothing here.
    async fn read_again(
        &self,
        found: &[Arc<InstanceRecord>],
        wanted: &Wanted<'_>,
        asker: &str,
        now: u64,
    ) -> Result<Vec<Arc<InstanceRecord>>, InventoryError> {
        let mut fresh = Vec::new();
        for host in found {
            // One that cannot be read could be the other of two with this name: no guess.
            fresh.extend(self.instance(host.id(), asker, now).await?);
        }
        fresh.retain(|record| wanted.is_met_by(record));
        Ok(fresh)
    }

    /// Every host of the accounts and Regions that answer, with facts at most 30 s old.
    ///
    /// # Errors
    /// [`InventoryError`] where none answers.
    pub async fn all(&self, now: u64) -> Result<Hosts, InventoryError> {
        let listed = match &self.ec2 {
            Some(ec2) => ec2.all(now).await,
            None => Listed::default(),
        };
        let complete = listed.failure.is_none();
        let hosts = self.with_file(listed.hosts);
        match listed.failure {
            Some(failure) if hosts.is_empty() => Err(failure),
            _ => Ok(Hosts { hosts, complete }),
        }
    }

    /// Whether a whole listing has this host, if it is there: its account and Region are asked, or the file
    /// is where such hosts are named.
    #[must_use]
    pub fn covers(&self, host: &EnrolledHost) -> bool {
        if host.instance.is_managed() {
            return self.file.is_some();
        }
        let ec2 = self.ec2.as_ref();
        ec2.is_some_and(|ec2| ec2.asks(&host.account, host.region))
    }

    /// Every host of these accounts and Regions (none named: all Regions), with facts at most 30 s old.
    ///
    /// # Errors
    /// [`InventoryError`] where one of them does not answer.
    pub async fn all_in(
        &self,
        accounts: &[AccountId],
        regions: &[AwsRegion],
        now: u64,
    ) -> Result<Vec<Arc<InstanceRecord>>, InventoryError> {
        let hosts = match &self.ec2 {
            Some(ec2) => ec2.all_in(accounts, regions, now).await?,
            None => Vec::new(),
        };
        Ok(self.with_file(hosts))
    }

    /// With the file's hosts, which win where both name one.
    fn with_file(&self, mut hosts: Vec<Arc<InstanceRecord>>) -> Vec<Arc<InstanceRecord>> {
        if let Some(file) = &self.file {
            hosts.retain(|record| file.instance(record.id()).is_none());
            hosts.extend(file.all());
        }
        hosts
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
                // ssh makes names lower-case, and never the stricter of two spellings: whoever may tag an
                // instance `web-1` must not get the logins that are meant for `Web-1`; both are found.
                let name = record.name();
                dns || name.is_some_and(|name| name.eq_ignore_ascii_case(self.text))
            }
        }
    }
}

#[cfg(test)]
mod tests;
