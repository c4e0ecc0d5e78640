//! From the host as typed to one instance: asked of the CA, and of EC2 where there is no CA to ask.
//! Every meaning of the name is looked up; what is found must be one host, or the candidates are named.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Mutex;

use eic_protocol::api::instance::{Enrolment, InstanceConnectMode, InstanceView, InstancesQuery};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::proof::Audience;

use super::settings::{Ca, Setting};
use super::{LoginError, Resident, lock};
use crate::ca::CaError;
use crate::config::Config;
use crate::credentials::{Selection, SelectionId};
use crate::fallback::stricter;
use crate::host_cache::HostCache;
use crate::host_name::HostName;
use crate::host_spec::{Meaning, meanings};
use crate::key::KeyType;

mod ec2;
mod given;

pub(super) use ec2::Listed;

/// How long a name stays resolved. Seconds. The instance itself is verified at each login by its host key.
const KEPT: u64 = 60;
/// Most names that are kept.
const MAX_KEPT: usize = 4096;

/// A host, and how it became known.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) view: InstanceView,
    /// The place of the answer among all answers.
    pub(super) answer: u64,
    pub(super) source: Source,
    /// The credentials with which AWS is asked about the host.
    pub(super) with: Selection,
    /// Lines for stderr.
    pub(super) notes: Vec<String>,
}

/// Who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The CA.
    Ca,
    /// EC2, since there is no CA or it is absent.
    Ec2,
}

impl Target {
    /// The same host as the answer to a certificate request had it. The CA's word counts before EC2's, of two words
    /// of the CA the newer one; but one that forbids a push counts whatever its age (H-18).
    pub(super) fn with_answer(self, answer: u64, view: InstanceView) -> Self {
        if view.id != self.view.id {
            return self;
        }
        let takes_it = self.source == Source::Ec2 || answer > self.answer;
        let (newer, older) = if takes_it {
            (view, &self.view)
        } else {
            (self.view.clone(), &view)
        };
        Self {
            view: strictest(newer, older),
            answer: answer.max(self.answer),
            source: Source::Ca,
            ..self
        }
    }
}

fn strictest(newer: InstanceView, older: &InstanceView) -> InstanceView {
    InstanceView {
        enrolment: match older.enrolment {
            Enrolment::Enrolled => Enrolment::Enrolled,
            _ => newer.enrolment,
        },
        instance_connect: stricter(newer.instance_connect, older.instance_connect),
        // Not every answer of the CA has them.
        host_keys: match newer.host_keys.is_empty() {
            true => older.host_keys.clone(),
            false => newer.host_keys,
        },
        ..newer
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    ca: Option<Audience>,
    selection: SelectionId,
    host: HostName,
}

/// Names that were resolved a moment ago.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<HashMap<Name, (u64, Target)>>);

impl Routes {
    fn get(&self, name: &Name, now: u64) -> Option<Target> {
        let kept = lock(&self.0);
        let recent = kept.get(name).filter(|(at, _)| is_recent(*at, now));
        recent.map(|(_, target)| Target {
            // Told once.
            notes: Vec::new(),
            ..target.clone()
        })
    }

    fn keep(&self, name: Name, target: Target, now: u64) -> Target {
        let mut kept = lock(&self.0);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (at, _)| is_recent(*at, now));
        }
        if kept.len() < MAX_KEPT {
            kept.insert(name, (now, target.clone()));
        }
        target
    }

    /// Forgets a host that could not be reached: it may have a new address.
    pub(super) fn forget(&self, host: &HostName) {
        lock(&self.0).retain(|name, _| name.host != *host);
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}

impl Resident {
    /// Resolves a host. The second value is the CA's absence, where EC2 was asked because of it.
    pub(super) async fn resolve(
        &self,
        setting: &Setting,
        selection: &Selection,
        host: &HostName,
    ) -> Result<(Target, Option<CaError>), LoginError> {
        let Some(ca) = &setting.ca else {
            let target = self.resolve_by_ec2(&setting.config, selection, host).await;
            return Ok((target?, None));
        };
        match self
            .resolve_by_ca(ca, &setting.config, selection, host)
            .await
        {
            Err(LoginError::Ca(error)) if error.is_absence() => {
                let target = self.resolve_by_ec2(&setting.config, selection, host).await;
                Ok((target?, Some(error)))
            }
            other => other.map(|target| (target, None)),
        }
    }

    async fn resolve_by_ca(
        &self,
        ca: &Ca,
        config: &Config,
        selection: &Selection,
        host: &HostName,
    ) -> Result<Target, LoginError> {
        let name = Name {
            ca: Some(ca.config.url.clone()),
            selection: selection.id(),
            host: host.clone(),
        };
        if let Some(kept) = self.routes.get(&name, self.now()) {
            return Ok(kept);
        }
        let kind = config.profile(host.as_str()).key_type;
        let meanings = self.with_respelled(meanings(host, config)?);
        let found = self.ask_ca_for(ca, selection, kind, &meanings).await?;
        let answer = self.next_answer();
        let view = only_one(host, &meant_id(host, config), found)?;
        self.memory().learn(&view, self.now())?;
        let target = Target {
            with: credentials_for(config, selection, &view),
            view,
            answer,
            source: Source::Ca,
            notes: Vec::new(),
        };
        Ok(self.routes.keep(name, target, self.now()))
    }

    async fn ask_ca_for(
        &self,
        ca: &Ca,
        selection: &Selection,
        kind: KeyType,
        meanings: &[Meaning],
    ) -> Result<Vec<InstanceView>, LoginError> {
        let mut found = Vec::new();
        for meaning in meanings {
            let views = self.ask_ca(ca, selection, kind, &meaning.name).await?;
            found.extend(views.into_iter().filter(|view| meaning.within.admits(view)));
        }
        Ok(found)
    }

    /// ssh makes host names lower-case, `Name` tags keep their case: the same names also as they were spelled when
    /// hosts were listed last. Only the spelling is taken from there. Never only where the typed one finds nothing:
    /// whoever may tag an instance `web-1` would get the logins that are meant for `Web-1`.
    fn with_respelled(&self, mut meanings: Vec<Meaning>) -> Vec<Meaning> {
        let respelled = self.respelled(&meanings);
        meanings.extend(respelled);
        meanings
    }

    fn respelled(&self, meanings: &[Meaning]) -> Vec<Meaning> {
        let cache = HostCache::new(&self.settings.paths().cache_dir);
        let listings = cache.all();
        let hosts = listings.iter().flat_map(|listing| &listing.hosts);
        let names: BTreeSet<HostName> = hosts
            .filter_map(|host| host.view.name.as_ref()?.parse().ok())
            .collect();
        let spellings = |meaning: &Meaning| {
            let typed = meaning.name.clone();
            let within = meaning.within.clone();
            let other = move |name: &&HostName| {
                **name != typed && name.as_str().eq_ignore_ascii_case(typed.as_str())
            };
            let respelled = names.iter().filter(other).cloned();
            let meant = respelled.map(|name| Meaning {
                name,
                within: within.clone(),
            });
            meant.collect::<Vec<_>>()
        };
        // An id or an address has one spelling, whatever a tag says.
        let named = meanings.iter().filter(|meaning| !is_number(&meaning.name));
        named.flat_map(spellings).collect()
    }

    async fn ask_ca(
        &self,
        ca: &Ca,
        selection: &Selection,
        kind: KeyType,
        host: &HostName,
    ) -> Result<Vec<InstanceView>, LoginError> {
        let query = InstancesQuery {
            host: Some(host.to_string()),
            after: None,
        };
        let session = self.session(ca, selection, kind).await?;
        let asked = ca
            .client
            .instances(session.granted(self.now()), &query)
            .await;
        let found = match asked {
            Err(error) if error.wants_new_session() => {
                let session = self.renew_session(ca, selection, kind).await?;
                let granted = session.granted(self.now());
                ca.client.instances(granted, &query).await?
            }
            other => other?,
        };
        Ok(found.instances)
    }

    async fn resolve_by_ec2(
        &self,
        config: &Config,
        selection: &Selection,
        host: &HostName,
    ) -> Result<Target, LoginError> {
        let name = Name {
            ca: None,
            selection: selection.id(),
            host: host.clone(),
        };
        if let Some(kept) = self.routes.get(&name, self.now()) {
            return Ok(kept);
        }
        let meanings = self.with_respelled(meanings(host, config)?);
        let mut looked = self.look_up(config, selection, &meanings).await;
        let answer = self.next_answer();
        let found = std::mem::take(&mut looked.found);
        let notes = std::mem::take(&mut looked.notes);
        let (views, selections): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let ids: Vec<InstanceId> = views.iter().map(|view| view.id.clone()).collect();
        let only = only_one(host, &meant_id(host, config), views);
        let view = match only {
            Err(LoginError::UnknownHost(host)) => {
                return Err(looked
                    .first_failure()
                    .unwrap_or(LoginError::UnknownHost(host)));
            }
            Ok(view) => sure(view, host, looked, &meanings)?,
            Err(other) => return Err(other),
        };
        let at = ids.iter().position(|id| *id == view.id).unwrap_or(0);
        let target = Target {
            with: selections.get(at).unwrap_or(selection).clone(),
            notes,
            view,
            answer,
            source: Source::Ec2,
        };
        Ok(self.routes.keep(name, target, self.now()))
    }
}

/// The one host that was found, unless a place that must be searched could hold another one.
fn sure(
    view: InstanceView,
    host: &HostName,
    looked: ec2::Looked,
    meanings: &[Meaning],
) -> Result<InstanceView, LoginError> {
    match looked.failed.into_iter().next() {
        Some((place, cause)) if !is_placed(meanings) => Err(LoginError::NotSearched {
            host: host.clone(),
            place,
            cause: Box::new(cause),
        }),
        _ => Ok(view),
    }
}

/// A host that the CA names is asked about with the profile of the place that it belongs to.
fn credentials_for(config: &Config, selection: &Selection, view: &InstanceView) -> Selection {
    let place = config.places.iter().find(|place| place.holds(view));
    place.map_or_else(|| selection.clone(), |place| place.selection(selection))
}

/// Whether nothing that was not searched can hold another host that is meant: it is named by its id, or somebody
/// said where it is. A Region alone is no place: several accounts have hosts there.
fn is_placed(meanings: &[Meaning]) -> bool {
    meanings.iter().any(|meaning| {
        let within = &meaning.within;
        meaning.name.is_instance() || within.place.is_some() || within.account.is_some()
    })
}

fn is_number(name: &HostName) -> bool {
    name.is_instance() || name.as_str().parse::<IpAddr>().is_ok()
}

fn is_recent(at: u64, now: u64) -> bool {
    now.saturating_sub(at) < KEPT
}

/// The id that was typed, directly or by an alias.
fn meant_id(host: &HostName, config: &Config) -> Option<InstanceId> {
    let name = config
        .meant(host)
        .as_str()
        .rsplit('/')
        .next()
        .unwrap_or_default();
    name.parse().ok()
}

/// Exactly one host, found once or several times, and the one that was asked for where that was an id.
fn only_one(
    host: &HostName,
    asked: &Option<InstanceId>,
    mut found: Vec<InstanceView>,
) -> Result<InstanceView, LoginError> {
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found.dedup_by(|a, b| a.id == b.id);
    let only = match found.len() {
        0 | 1 => found.pop(),
        _ => {
            return Err(LoginError::Ambiguous {
                host: host.clone(),
                candidates: found.iter().map(candidate).collect(),
            });
        }
    };
    let only = only.ok_or_else(|| LoginError::UnknownHost(host.clone()))?;
    match asked {
        Some(asked) if *asked != only.id => Err(LoginError::OtherInstance {
            asked: asked.to_string(),
            answered: only.id,
        }),
        _ => Ok(only),
    }
}

/// What tells one candidate from the other.
fn candidate(view: &InstanceView) -> String {
    let name = view.name.as_deref().unwrap_or("without a name");
    format!("{} ({name}, {}, {})", view.id, view.region, view.account)
}

/// A mode of `eic:instance-connect`; one that is not understood is `off`: a slip in a tag must not open a door.
fn mode_of_tag(tag: Option<&str>) -> InstanceConnectMode {
    match tag {
        None | Some("on") => InstanceConnectMode::On,
        Some("break-glass") => InstanceConnectMode::BreakGlass,
        Some(_) => InstanceConnectMode::Off,
    }
}

#[cfg(test)]
mod tests;
