//! Certificates for a fleet: granted by the fleet's name, refused where a present member is explicitly denied.

use std::sync::Arc;

use eic_protocol::fleet::FleetName;
use eic_protocol::os_user::OsUser;

use super::App;
use super::certificates::permitted;
use super::facts::{Choices, Facts, resource};
use crate::config::certificates::FleetConfig;
use crate::http::context::Context;
use crate::inventory::InstanceRecord;
use crate::policy::{Action, Asked, Decision, DenialKind, Permit, PolicySnapshot, Resource};
use crate::refusal::{Denied, Refusal};

/// Members that are asked about between two pauses for other requests.
const BATCH: usize = 64;

impl App {
    /// Whether only the user CA's own key opens this host: a fleet of its is marked `kms_only`.
    pub(super) fn is_kms_only(&self, host: &InstanceRecord) -> bool {
        let mut marked = self.fleets.iter().filter(|fleet| fleet.kms_only);
        marked.any(|fleet| fleet.selects(host))
    }

    /// What is permitted, and whether one member is in a fleet marked `kms_only`: that or another one.
    pub(super) async fn decide_fleet(
        &self,
        facts: &Facts,
        choices: &Choices<'_>,
        user: &OsUser,
        name: &FleetName,
        context: &Context,
    ) -> Result<(Permit, bool), Refusal> {
        let fleet = self
            .fleets
            .iter()
            .find(|fleet| fleet.name == *name)
            .ok_or(Denied::NoSuchFleet)?;
        let partition = fleet
            .regions
            .first()
            .map_or(eic_protocol::arn::Partition::Aws, |region| {
                region.partition()
            });
        let named = Resource::fleet(partition, name, &fleet.accounts);
        // One policy for the fleet's name and for every member (threats C-17).
        let policy = self.policy.snapshot(context.now);
        let asked = choices.asked(user, Some(name));
        let request = facts.request(Action::IssueFleetCertificate, &named, &asked);
        let permit = permitted(policy.decide(&request))?;
        let members = self.members(fleet, context.now).await?;
        check_members(&policy, facts, &choices.asked(user, None), &members).await?;
        let kms_only = members.iter().any(|host| self.is_kms_only(host));
        Ok((permit, kms_only))
    }

    /// The accounts and Regions that can hold a member must answer, others need not.
    async fn members(
        &self,
        fleet: &FleetConfig,
        now: u64,
    ) -> Result<Vec<Arc<InstanceRecord>>, Refusal> {
        // An id may be in any Region of the accounts.
        let regions = if fleet.ids.is_empty() {
            fleet.regions.as_slice()
        } else {
            &[]
        };
        let hosts = self.inventory.all_in(&fleet.accounts, regions, now).await?;
        Ok(hosts
            .into_iter()
            .filter(|host| fleet.selects(host))
            .collect())
    }
}

async fn check_members(
    policy: &PolicySnapshot,
    facts: &Facts,
    asked: &Asked<'_>,
    members: &[Arc<InstanceRecord>],
) -> Result<(), Refusal> {
    for batch in members.chunks(BATCH) {
        for host in batch {
            check_member(policy, facts, asked, host)?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// That no statement allows the host by itself is no reason: the fleet's name was granted.
fn check_member(
    policy: &PolicySnapshot,
    facts: &Facts,
    asked: &Asked<'_>,
    host: &InstanceRecord,
) -> Result<(), Refusal> {
    let resource = resource(host);
    match policy.decide(&facts.request(Action::SendSshPublicKey, &resource, asked)) {
        Decision::Deny(denial)
            if matches!(denial.kind(), DenialKind::Explicit(_) | DenialKind::Stale) =>
        {
            Err(Denied::FleetMember(host.id().to_string()).into())
        }
        _ => Ok(()),
    }
}

impl FleetConfig {
    /// Whether the host is one of the fleet's: by account always, then by id, or by Region and every tag.
    #[must_use]
    pub fn selects(&self, host: &InstanceRecord) -> bool {
        let by_tags = !self.tags.is_empty()
            && (self.regions.is_empty() || self.regions.contains(&host.region()))
            && self
                .tags
                .iter()
                .all(|(key, value)| host.tags().get(key) == Some(value));
        self.accounts.contains(host.account()) && (self.ids.contains(host.id()) || by_tags)
    }
}
