//! Certificates for a fleet: granted by the fleet's name, refused where a present member is explicitly denied.

use eic_protocol::fleet::FleetName;
use eic_protocol::os_user::OsUser;

use super::App;
use super::facts::{Choices, Facts, resource};
use crate::config::certificates::FleetConfig;
use crate::http::context::Context;
use crate::inventory::InstanceRecord;
use crate::policy::{Action, Decision, DenialKind, Permit, Resource};
use crate::refusal::{Denied, Refusal};

/// Members that are asked about between two pauses for other requests.
const BATCH: usize = 64;

impl App {
    pub(super) async fn decide_fleet(
        &self,
        facts: &Facts,
        choices: &Choices<'_>,
        user: &OsUser,
        name: &FleetName,
        context: &Context,
    ) -> Result<Permit, Refusal> {
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
        let permit = self.ask(
            facts,
            Action::IssueFleetCertificate,
            &named,
            choices,
            user,
            Some(name),
        )?;
        self.check_members(facts, choices, user, fleet, context)
            .await?;
        Ok(permit)
    }

    async fn check_members(
        &self,
        facts: &Facts,
        choices: &Choices<'_>,
        user: &OsUser,
        fleet: &FleetConfig,
        context: &Context,
    ) -> Result<(), Refusal> {
        let hosts = self.inventory.all(context.now).await?;
        let members: Vec<_> = hosts.iter().filter(|host| fleet.selects(host)).collect();
        for batch in members.chunks(BATCH) {
            for host in batch {
                self.check_member(facts, choices, user, host)?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// That no statement allows the host by itself is no reason: the fleet's name was granted.
    fn check_member(
        &self,
        facts: &Facts,
        choices: &Choices<'_>,
        user: &OsUser,
        host: &InstanceRecord,
    ) -> Result<(), Refusal> {
        let resource = resource(host);
        let asked = choices.asked(user, None);
        match self
            .policy
            .decide(&facts.request(Action::SendSshPublicKey, &resource, &asked))
        {
            Decision::Deny(denial)
                if matches!(denial.kind(), DenialKind::Explicit(_) | DenialKind::Stale) =>
            {
                Err(Denied::FleetMember(host.id().to_string()).into())
            }
            _ => Ok(()),
        }
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
