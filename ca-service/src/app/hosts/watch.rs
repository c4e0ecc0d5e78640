//! Hosts that are gone: what the inventory shows as terminated, or has stopped to show, keeps no certificate, for its
//! address goes to others (threats E-12). A host that comes back shows its evidence and gets new ones.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use eic_protocol::instance_id::InstanceId;
use serde_json::json;

use super::App;
use crate::audit::{Actor, Event, EventName, Origin, event_request_id};
use crate::host_identity::enrolment::EnrolledHost;
use crate::inventory::InstanceRecord;
use crate::refusal::Refusal;
use crate::store::hosts::HostChange;
use crate::store::trust::{RevocationOrder, What};

/// How long a host must be missing from whole listings before it counts as gone. Seconds: EC2 shows terminated
/// instances for about an hour, and new ones late.
const PATIENCE: u64 = 900;

/// Hosts that whole listings lack, and since when (Unix seconds).
#[derive(Debug, Default)]
pub(super) struct Missing(HashMap<InstanceId, u64>);

/// Why a host counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    Terminated,
    Missing,
}

impl Gone {
    fn as_str(self) -> &'static str {
        match self {
            Self::Terminated => "the instance was terminated",
            Self::Missing => "the inventory does not show the instance any more",
        }
    }
}

impl App {
    /// Looks for as long as the service runs.
    pub async fn watch_hosts(self: Arc<Self>) {
        let mut missing = Missing::default();
        loop {
            tokio::time::sleep(Duration::from_secs(self.hosts.watch_seconds)).await;
            if let Err(error) = self.end_gone_hosts(&mut missing).await {
                tracing::warn!(%error, "hosts that are gone could not be looked for; the next look tries again");
            }
        }
    }

    async fn end_gone_hosts(&self, missing: &mut Missing) -> Result<(), Refusal> {
        let now = self.clock.now();
        let known = self.hosts.book.present().await?;
        if known.is_empty() {
            *missing = Missing::default();
            return Ok(());
        }
        let listed = self.inventory.all(now).await?;
        let shown = listed.hosts.iter().map(|host| (host.id(), host.as_ref()));
        let shown: HashMap<_, _> = shown.collect();
        let all = |host: &EnrolledHost| listed.complete && self.inventory.covers(host);
        for (host, why) in missing.gone(&known, &shown, all, now) {
            self.end_host(host, why, now).await?;
        }
        Ok(())
    }

    async fn end_host(&self, host: &EnrolledHost, why: Gone, now: u64) -> Result<(), Refusal> {
        let (instance, id) = (host.instance.clone(), event_request_id()?);
        let mut event = Event::new(EventName::EndHost, Actor::Service, Origin::default(), id);
        event.region = Some(host.region);
        event.account = Some(host.account.clone());
        event.parameters = Some(json!({ "instanceId": instance.as_str(), "reason": why.as_str() }));
        let revoked = RevocationOrder {
            id,
            what: What::HostCertificates(instance.clone()),
            by: "eic-ca".to_owned(),
            reason: Some(why.as_str().to_owned()),
            at: now,
        };
        let change = HostChange::End {
            instance,
            at: now,
            revoked,
        };
        let book = &self.hosts.book;
        let ended = self.recorder.change_host(book, change, Some(&event), None);
        if ended.await? {
            tracing::info!(instance = %host.instance, reason = why.as_str(), "a host is gone; its certificates are revoked");
        }
        Ok(())
    }
}

impl Missing {
    /// Which of the `known` hosts are gone. `all` says of a host whether `shown` would have it, were it there.
    fn gone<'h>(
        &mut self,
        known: &'h [EnrolledHost],
        shown: &HashMap<&InstanceId, &InstanceRecord>,
        all: impl Fn(&EnrolledHost) -> bool,
        now: u64,
    ) -> Vec<(&'h EnrolledHost, Gone)> {
        let present: HashSet<_> = known.iter().map(|host| &host.instance).collect();
        self.0
            .retain(|id, _| present.contains(id) && !shown.contains_key(id));
        let mut gone = Vec::new();
        for host in known {
            let why = match shown.get(&host.instance) {
                Some(record) => record.is_gone().then_some(Gone::Terminated),
                None if all(host) => self.missing_for_long(&host.instance, now),
                None => None,
            };
            gone.extend(why.map(|why| (host, why)));
        }
        gone
    }

    fn missing_for_long(&mut self, instance: &InstanceId, now: u64) -> Option<Gone> {
        let since = *self.0.entry(instance.clone()).or_insert(now);
        (now.saturating_sub(since) >= PATIENCE).then_some(Gone::Missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_identity::evidence::EvidenceKind;

    const NOW: u64 = 1_800_000_000;

    fn host(last: u8) -> EnrolledHost {
        EnrolledHost {
            instance: format!("i-0123456789abcdef{last:x}").parse().unwrap(),
            account: "111122223333".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            evidence: EvidenceKind::WebIdentity,
            keys: Vec::new(),
            pending_time: None,
            enrolled_at: 1,
            certified_at: 1,
            ended_at: None,
            revision: 1,
        }
    }

    fn missing_after(looks: &[(u64, bool)]) -> usize {
        let (mut missing, hosts) = (Missing::default(), [host(1)]);
        let counts = looks.iter().map(|(at, whole)| {
            let gone = missing.gone(&hosts, &HashMap::new(), |_| *whole, NOW + at);
            gone.len()
        });
        counts.last().unwrap_or_default()
    }

    #[test]
    fn a_host_that_one_listing_lacks_keeps_its_certificates() {
        // E-12: an inventory that fails, or that shows a new instance late, ends no host.
        assert_eq!(missing_after(&[(0, true)]), 0);
        assert_eq!(missing_after(&[(0, true), (PATIENCE - 1, true)]), 0);
        assert_eq!(missing_after(&[(0, false), (PATIENCE, true)]), 0);
        assert_eq!(missing_after(&[(0, true), (PATIENCE, false)]), 0);
    }

    #[test]
    fn a_host_that_is_no_longer_stored_is_not_remembered_as_missing() {
        let (mut missing, hosts) = (Missing::default(), [host(1), host(2)]);
        let mut look = |hosts: &[EnrolledHost], at| {
            let gone = missing.gone(hosts, &HashMap::new(), |_| true, at);
            (gone.len(), missing.0.len())
        };
        assert_eq!(look(&hosts, NOW), (0, 2));
        assert_eq!(look(&hosts[..1], NOW + 1), (0, 1));
        // It was removed and enrolled anew: its time begins anew, too.
        assert_eq!(look(&hosts, NOW + PATIENCE), (1, 2));
    }

    #[test]
    fn a_host_that_whole_listings_lack_for_long_is_gone() {
        // E-12
        assert_eq!(missing_after(&[(0, true), (PATIENCE, true)]), 1);
    }
}
