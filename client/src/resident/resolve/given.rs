//! An instance as the command line gives it, for clients without a CA that may not call ec2:DescribeInstances. AWS's
//! own need no such permission for a push, nor `mssh` where it is told the address. Never after any other answer of
//! EC2: a host that is not there, and one that nobody could ask about, stay what they are.

use eic_protocol::api::instance::{Enrolment, InstanceConnectMode, InstanceView};

use super::{Source, Target, ec2, meanings, meant_id};
use crate::ca::CaError;
use crate::config::Config;
use crate::control::message::Given;
use crate::credentials::Selection;
use crate::host_name::HostName;
use crate::resident::settings::Setting;
use crate::resident::{LoginError, Resident};

/// Nobody's, where the account is not known: it is neither shown nor compared.
const NO_ACCOUNT: &str = "000000000000";

impl Resident {
    /// [`Resident::resolve`], for whoever needs no address of EC2's where something is `given`.
    pub(in crate::resident) async fn resolve_given(
        &self,
        setting: &Setting,
        selection: &Selection,
        host: &HostName,
        given: Option<&Given>,
    ) -> Result<(Target, Option<CaError>), LoginError> {
        let Some(given) = given.filter(|_| setting.ca.is_none()) else {
            return self.resolve(setting, selection, host).await;
        };
        let selection = self.in_region_of(given, selection).await?;
        match self.resolve(setting, &selection, host).await {
            Err(error) if is_unauthorized(&error) => {
                let target = self.as_given(&setting.config, &selection, host, given);
                target.await.map(|target| (target, None)).ok_or(error)
            }
            other => other,
        }
    }

    /// Where nothing else names a Region, the zone does.
    async fn in_region_of(
        &self,
        given: &Given,
        selection: &Selection,
    ) -> Result<Selection, LoginError> {
        let Some(region) = given.zone.as_ref().and_then(|zone| zone.region()) else {
            return Ok(selection.clone());
        };
        let found = self.credentials(selection).await?;
        Ok(match found.names_region {
            true => selection.clone(),
            false => selection.with_region(region),
        })
    }

    /// Not kept: who asks next may need an address.
    async fn as_given(
        &self,
        config: &Config,
        selection: &Selection,
        host: &HostName,
        given: &Given,
    ) -> Option<Target> {
        let id = meant_id(host, config).filter(|id| !id.is_managed())?;
        let meanings = meanings(host, config).ok()?;
        let corners = meanings
            .iter()
            .flat_map(|meaning| ec2::corners(config, selection, &meaning.within));
        let mut corners = corners.collect::<Vec<_>>().into_iter();
        // Of several places nobody says which one it is in.
        let (Some(corner), None) = (corners.next(), corners.next()) else {
            return None;
        };
        let found = self.credentials_of(&corner).await.ok()?;
        let is_named = corner.region.is_some() || found.names_region;
        let is_there = |zone: &crate::zone::Zone| zone.region() == Some(found.region);
        if !is_named || !given.zone.as_ref().is_none_or(is_there) {
            return None;
        }
        let region = found.region;
        let note = format!(
            "{id} is taken as given, in {region}: ec2:DescribeInstances is not allowed, so its tags do not count"
        );
        Some(Target {
            view: InstanceView {
                id,
                account: NO_ACCOUNT.parse().ok()?,
                region,
                availability_zone: given.zone.as_ref().map(ToString::to_string),
                name: None,
                private_dns: None,
                addresses: Vec::new(),
                ssh_port: 22,
                enrolment: Enrolment::Unknown,
                instance_connect: InstanceConnectMode::On,
                users: Vec::new(),
                host_keys: Vec::new(),
            },
            answer: self.next_answer(),
            source: Source::Ec2,
            with: corner.selection,
            notes: vec![note],
        })
    }
}

/// EC2's word for a missing permission, and no other.
fn is_unauthorized(error: &LoginError) -> bool {
    matches!(error, LoginError::Aws { cause, .. } if cause.code() == Some("UnauthorizedOperation"))
}
