//! The list of hosts: of the CA's inventory, or of EC2 where there is no CA to ask. What is found is kept for
//! completion and for ssh's `User`, and read from there by whoever asked.

use std::sync::Arc;

use eic_protocol::api::instance::{InstanceView, InstancesQuery};
use eic_protocol::instance_id::InstanceId;

use super::resolve::Listed;
use super::sessions::Session;
use super::settings::{Ca, Setting};
use super::{LoginError, Resident};
use crate::control::message::HostsListed;
use crate::credentials::Selection;
use crate::files::FileError;
use crate::host_cache::{CachedHost, HostCache, Listing};
use crate::key::KeyType;
use crate::ssh_config::host_users;
use crate::ssh_config::installation::Installation;

/// Most pages of one listing: 50,000 hosts, about what the cache holds.
const MAX_PAGES: usize = 50;

/// Most hosts of a listing that could not be kept: as many as fit into one frame.
const MAX_UNKEPT: usize = 1_000;

/// What the CA shows.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The hosts, by name within each page.
    pub(super) instances: Vec<InstanceView>,
    /// Whether there are more.
    pub(super) truncated: bool,
}

impl Found {
    /// As the cache keeps them.
    pub(super) fn cached(&self) -> Vec<CachedHost> {
        let hosts = self.instances.iter().cloned();
        hosts.map(|view| CachedHost { view, state: None }).collect()
    }
}

impl Resident {
    /// Lists and keeps.
    pub(super) async fn hosts(&self, selection: Selection) -> Result<HostsListed, LoginError> {
        let selection = selection.filtered();
        let setting = self.settings.current()?;
        let Some(ca) = &setting.ca else {
            return self.hosts_by_ec2(&setting, &selection, Vec::new()).await;
        };
        match self.list_by_ca(ca, &selection).await {
            Ok(listing) => Ok(self.keep_hosts(&setting, &selection, listing, Vec::new())),
            Err(LoginError::Ca(error)) if error.is_absence() => {
                let note = format!("EC2 was asked instead, since {error}");
                self.hosts_by_ec2(&setting, &selection, vec![note]).await
            }
            Err(other) => Err(other),
        }
    }

    async fn list_by_ca(&self, ca: &Ca, selection: &Selection) -> Result<Listing, LoginError> {
        let session = self.session(ca, selection, KeyType::default()).await?;
        let found = self.all_of_ca(ca, selection, session).await?;
        Ok(Listing {
            at: self.now(),
            by_ca: true,
            truncated: found.truncated,
            hosts: found.cached(),
        })
    }

    /// Every host that the CA shows, page by page. A session that has ended is renewed, as after each page where the
    /// CA grants single requests.
    pub(super) async fn all_of_ca(
        &self,
        ca: &Ca,
        selection: &Selection,
        mut session: Arc<Session>,
    ) -> Result<Found, LoginError> {
        let mut found = Found::default();
        let mut query = InstancesQuery::default();
        for _ in 0..MAX_PAGES {
            let asked = ca.client.instances(session.granted(self.now()), &query);
            let page = match asked.await {
                Err(error) if error.wants_new_session() => {
                    session = self
                        .renew_session(ca, selection, KeyType::default())
                        .await?;
                    let granted = session.granted(self.now());
                    ca.client.instances(granted, &query).await?
                }
                other => other?,
            };
            found.instances.extend(page.instances);
            found.truncated = page.truncated;
            // One that does not go on would never end.
            let goes_on = |next: &InstanceId| query.after.as_ref() < Some(next);
            match page.next.filter(goes_on) {
                Some(next) => query.after = Some(next),
                None => return Ok(found),
            }
        }
        Ok(found)
    }

    async fn hosts_by_ec2(
        &self,
        setting: &Setting,
        selection: &Selection,
        mut notes: Vec<String>,
    ) -> Result<HostsListed, LoginError> {
        let Listed { hosts, notes: more } = self.list_by_ec2(&setting.config, selection).await?;
        notes.extend(more);
        let cached = |(view, state)| CachedHost {
            view,
            state: Some(state),
        };
        let listing = Listing {
            at: self.now(),
            by_ca: setting.ca.is_some(),
            truncated: false,
            hosts: hosts.into_iter().map(cached).collect(),
        };
        Ok(self.keep_hosts(setting, selection, listing, notes))
    }

    /// Keeps a listing. Where that cannot be, it is said, and it goes on as far as it fits into an answer: neither
    /// sign-in nor list depends on a cache.
    pub(super) fn keep_hosts(
        &self,
        setting: &Setting,
        selection: &Selection,
        listing: Listing,
        mut notes: Vec<String>,
    ) -> HostsListed {
        let source = source(setting, selection);
        let kept = self.try_to_keep(setting, &source, listing.clone());
        let unkept = kept.err().map(|error| {
            notes.push(format!(
                "the list of hosts cannot be kept for completion: {error}"
            ));
            shortened(listing)
        });
        HostsListed {
            source,
            unkept,
            notes,
        }
    }

    /// In the cache, and as accounts for ssh where setup was run.
    fn try_to_keep(
        &self,
        setting: &Setting,
        source: &str,
        listing: Listing,
    ) -> Result<(), FileError> {
        let paths = self.settings.paths();
        let cache = HostCache::new(&paths.cache_dir);
        cache.keep(source, listing)?;
        if Installation::new(&paths.ssh_dir).is_in_place() {
            let all = cache.all();
            let views = all.iter().flat_map(|l| &l.hosts).map(|host| &host.view);
            let text = host_users::render(&views.collect::<Vec<_>>(), &setting.config);
            host_users::write(&paths.ssh_dir, &text)?;
        }
        Ok(())
    }
}

fn shortened(mut listing: Listing) -> Listing {
    listing.truncated |= listing.hosts.len() > MAX_UNKEPT;
    listing.hosts.truncate(MAX_UNKEPT);
    listing
}

/// What a listing is called: hosts differ by who asks.
fn source(setting: &Setting, selection: &Selection) -> String {
    let ca = setting.ca.as_ref();
    let asked = ca.map_or_else(|| "ec2".to_owned(), |ca| ca.config.url.to_string());
    format!("{asked} {}", selection.label())
}
