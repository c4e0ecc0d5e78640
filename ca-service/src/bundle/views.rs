//! The latest view of each host, in memory. What it says is kept of every host, its signed bytes of those that asked last:
//! they are the same when they are signed again. A host of which nothing is known here gets a new version of its view.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::trust::host_view::{FleetMembership, HostView, Stage};

use super::edition::SealedView;
use crate::config::bundle::BundleConfig;
use crate::signer::document::{BundleKey, DocumentError};

/// Signed views that are kept at least: about 2 kB each.
const SEALED: usize = 8_192;
/// Hosts of which it is kept what their views say: about 300 bytes each.
const KNOWN: usize = 250_000;
/// How long a host's facts are taken as they were. Seconds.
const LOOK: u64 = 30;
/// A view is signed anew after this part of the time for which it is fresh.
const RENEWALS: u64 = 2;

/// What a view is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The fleets, by name.
    pub fleets: Vec<FleetMembership>,
    /// How far the rollout is.
    pub stage: Stage,
    /// The root that the view goes with.
    pub root_version: u64,
}

/// A view in memory.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) view: Arc<SealedView>,
    pub(crate) facts: HostFacts,
    /// Fleets whose tags the host has, and since when.
    pub(crate) joined: BTreeMap<FleetName, u64>,
    issued: u64,
    looked_at: u64,
}

/// What a view says, and the view while there is room.
#[derive(Clone)]
struct Known {
    version: u64,
    facts: HostFacts,
    joined: BTreeMap<FleetName, u64>,
    issued: u64,
    looked_at: u64,
    view: Option<Arc<SealedView>>,
}

#[derive(Default)]
struct Table {
    hosts: HashMap<InstanceId, Known>,
    /// How many of them have their view.
    sealed: usize,
}

impl Table {
    fn put(&mut self, host: &InstanceId, known: Known, room: usize) {
        if self.hosts.len() >= KNOWN && !self.hosts.contains_key(host) {
            let old = self.middle_age(|_| true);
            self.hosts.retain(|_, known| known.looked_at > old);
            self.count();
        }
        let gained = usize::from(known.view.is_some());
        let before = self.hosts.insert(host.clone(), known);
        let lost = usize::from(before.is_some_and(|known| known.view.is_some()));
        self.sealed = (self.sealed + gained).saturating_sub(lost);
        if self.sealed > room {
            self.drop_views(host);
        }
    }

    /// Those that were looked at longest ago make room; `latest` is not one of them.
    fn drop_views(&mut self, latest: &InstanceId) {
        let old = self.middle_age(|known| known.view.is_some());
        let others = self.hosts.iter_mut().filter(|(host, _)| *host != latest);
        for (_, known) in others.filter(|(_, known)| known.looked_at <= old) {
            known.view = None;
        }
        self.count();
    }

    fn count(&mut self) {
        self.sealed = self.hosts.values().filter(|k| k.view.is_some()).count();
    }

    fn middle_age(&self, counts: impl Fn(&Known) -> bool) -> u64 {
        let counted = self.hosts.values().filter(|known| counts(known));
        let mut ages: Vec<u64> = counted.map(|known| known.looked_at).collect();
        if ages.is_empty() {
            return 0;
        }
        let middle = ages.len() / 2;
        *ages.select_nth_unstable(middle).1
    }
}

impl Kept {
    /// Whether the facts need no look at `now` (Unix seconds) under this root.
    pub(crate) fn is_recent(&self, now: u64, root_version: u64) -> bool {
        now.abs_diff(self.looked_at) < LOOK && self.facts.root_version == root_version
    }
}

/// Signs and remembers views.
pub struct HostViews {
    key: BundleKey,
    rules: BundleConfig,
    table: Mutex<Table>,
    failures: Mutex<Failures>,
}

/// Failures are told once in a time: anybody may ask for a host's view, as often as his network may.
#[derive(Default)]
struct Failures {
    told_at: Option<u64>,
    untold: u64,
}

impl HostViews {
    /// None yet.
    #[must_use]
    pub fn new(key: BundleKey, rules: BundleConfig) -> Self {
        Self {
            key,
            rules,
            table: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// A view could not be renewed: how many failures were not told since the last one that was; none: nor is this one.
    /// `now` is in Unix seconds.
    pub(crate) fn tells_failure(&self, now: u64) -> Option<u64> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.told_at == Some(now) {
            failures.untold += 1;
            return None;
        }
        failures.told_at = Some(now);
        Some(std::mem::take(&mut failures.untold))
    }

    /// The public half of the key that signs.
    pub(crate) fn key(&self) -> &eic_protocol::subject_key::SubjectKey {
        self.key.public()
    }

    /// How far the rollout is where no tag says more.
    pub(crate) fn default_stage(&self) -> Stage {
        self.rules.stage
    }

    /// The latest view, signed again where its bytes made room for others.
    pub(crate) fn kept(&self, host: &InstanceId) -> Option<Kept> {
        let mut known = self.lock().hosts.get(host).cloned()?;
        let view = match known.view.take() {
            Some(view) => view,
            None => Arc::new(self.seal(host, &known).ok()?),
        };
        known.view = Some(Arc::clone(&view));
        let kept = Kept {
            view,
            facts: known.facts.clone(),
            joined: known.joined.clone(),
            issued: known.issued,
            looked_at: known.looked_at,
        };
        self.remember_bytes(host, known);
        Some(kept)
    }

    /// Unless another version came meanwhile.
    fn remember_bytes(&self, host: &InstanceId, known: Known) {
        let mut table = self.lock();
        let same = |now: &Known| now.version == known.version && now.view.is_none();
        if table.hosts.get(host).is_some_and(same) {
            table.put(host, known, self.room());
        }
    }

    /// Whether a kept view may go on as it is. `now` is in Unix seconds.
    pub(crate) fn still_good(&self, kept: &Kept, facts: &HostFacts, now: u64) -> bool {
        let fresh_for = self.rules.refresh_seconds / RENEWALS;
        kept.facts == *facts && now.abs_diff(kept.issued) < fresh_for
    }

    /// The facts were looked at and are the same.
    pub(crate) fn looked_at(&self, host: &InstanceId, now: u64) {
        if let Some(known) = self.lock().hosts.get_mut(host) {
            known.looked_at = now;
        }
    }

    /// Signs a view with these facts and remembers it, unless a later version was signed meanwhile: a host that has that
    /// one would refuse this. `joined`: since when the host's tags select it for fleets.
    /// Times in Unix seconds.
    ///
    /// # Errors
    /// [`DocumentError`]
    pub fn sign(
        &self,
        host: &InstanceId,
        version: u64,
        facts: HostFacts,
        joined: BTreeMap<FleetName, u64>,
        now: u64,
    ) -> Result<Arc<SealedView>, DocumentError> {
        let known = Known {
            version,
            facts,
            joined,
            issued: now,
            looked_at: now,
            view: None,
        };
        let view = Arc::new(self.seal(host, &known)?);
        let known = Known {
            view: Some(Arc::clone(&view)),
            ..known
        };
        let mut table = self.lock();
        let present = table.hosts.get(host);
        if present.is_some_and(|present| present.version > version) {
            drop(table);
            return Ok(self.kept(host).map_or(view, |kept| kept.view));
        }
        table.put(host, known, self.room());
        Ok(view)
    }

    /// The same bytes for the same facts: our JSON is, and Ed25519 signatures are, deterministic (RFC 8032 §5.1.6).
    fn seal(&self, host: &InstanceId, known: &Known) -> Result<SealedView, DocumentError> {
        let document = HostView {
            version: known.version,
            instance: host.clone(),
            fleets: known.facts.fleets.clone(),
            stage: known.facts.stage,
            os_users: Vec::new(),
            root_version: known.facts.root_version,
            issued: known.issued,
            refresh_after: known.issued.saturating_add(self.rules.refresh_seconds),
            hard_stop: self
                .rules
                .hard_stop_seconds
                .map(|seconds| known.issued.saturating_add(seconds)),
        };
        Ok(SealedView::new(self.key.seal(&document)?)?)
    }

    /// Each host that waits is looked at again and again: views are kept for all of these.
    fn room(&self) -> usize {
        SEALED.max(2 * self.rules.long_polls)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuance::tests::local_signer;
    use crate::keys::KeyType;

    fn host(number: u64) -> InstanceId {
        format!("i-{number:017x}").parse().unwrap()
    }

    fn facts() -> HostFacts {
        HostFacts {
            fleets: Vec::new(),
            stage: Stage::CertificatesOnly,
            root_version: 1,
        }
    }

    #[test]
    fn a_view_of_a_clock_that_was_ahead_is_looked_at_and_signed_again() {
        // Else hosts keep what they are called until that moment comes: a host that left a fleet stays in it.
        const NOW: u64 = 1_800_000_000;
        let key = BundleKey::new(local_signer(KeyType::Ed25519));
        let views = HostViews::new(key, BundleConfig::default());
        let signed = views.sign(&host(0), 1, facts(), BTreeMap::new(), NOW + 86_400);
        assert!(signed.is_ok());
        let kept = views.kept(&host(0)).unwrap();
        assert!(!kept.is_recent(NOW, 1) && !views.still_good(&kept, &facts(), NOW));
        // What the machines of one service differ by is no such thing.
        assert!(kept.is_recent(NOW + 86_399, 1) && kept.is_recent(NOW + 86_401, 1));
        assert!(views.still_good(&kept, &facts(), NOW + 86_399));
        assert!(!kept.is_recent(NOW + 86_400, 2));
    }

    #[test]
    fn of_two_that_were_signed_at_once_the_later_version_stays() {
        let key = BundleKey::new(local_signer(KeyType::Ed25519));
        let views = HostViews::new(key, BundleConfig::default());
        let sign = |version| views.sign(&host(0), version, facts(), BTreeMap::new(), 10);
        let later = sign(6).unwrap();
        assert_eq!(sign(5).unwrap().envelope(), later.envelope());
        let kept = views.kept(&host(0)).unwrap();
        assert_eq!(kept.view.envelope(), later.envelope());
    }

    #[test]
    fn failures_are_told_once_a_second_with_how_many_there_were() {
        let key = BundleKey::new(local_signer(KeyType::Ed25519));
        let views = HostViews::new(key, BundleConfig::default());
        let told: Vec<_> = [10, 10, 10, 11, 12]
            .map(|now| views.tells_failure(now))
            .into();
        assert_eq!(told, [Some(0), None, None, Some(2), Some(0)]);
    }

    /// More hosts than signed views: each would else get a new version at each question, and never a 304.
    #[test]
    fn a_view_that_made_room_is_the_same_when_it_is_asked_for_again() {
        let key = BundleKey::new(local_signer(KeyType::Ed25519));
        let views = HostViews::new(key, BundleConfig::default());
        let room = u64::try_from(views.room()).unwrap();
        let sign = |number, now| {
            views
                .sign(&host(number), 1, facts(), BTreeMap::new(), now)
                .unwrap()
        };
        let first = sign(0, 10);
        for number in 1..room + 2 {
            sign(number, 10 + number);
        }
        assert!(views.lock().hosts[&host(0)].view.is_none());
        let again = views.kept(&host(0)).unwrap();
        assert_eq!(again.view.envelope(), first.envelope());
        assert!(views.lock().sealed <= views.room());
    }
}
