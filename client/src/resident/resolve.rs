//! From the host as typed to one instance: asked of the CA, and of EC2 where there is no CA to ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use eic_aws::ec2::{Instance, Which};
use eic_protocol::api::instance::{Enrolment, InstanceConnectMode, InstanceView, InstancesQuery};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::proof::Audience;

use super::settings::{Ca, Setting};
use super::{LoginError, Resident, lock};
use crate::ca::CaError;
use crate::credentials::{Resolved, Selection, SelectionId};
use crate::host_name::HostName;
use crate::key::KeyType;

/// How long a name stays resolved. Seconds. The instance itself is verified at each login by its host key.
const KEPT: u64 = 60;
/// Most names that are kept.
const MAX_KEPT: usize = 4096;

/// A host, and how it became known.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) view: InstanceView,
    /// When it was asked for, in Unix seconds.
    pub(super) at: u64,
    pub(super) source: Source,
}

/// Who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The CA.
    Ca,
    /// EC2, since there is no CA or it is absent.
    Ec2,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    ca: Option<Audience>,
    selection: SelectionId,
    host: HostName,
}

/// Names that were resolved a moment ago.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<HashMap<Name, (u64, InstanceView)>>);

impl Routes {
    fn get(&self, name: &Name, source: Source, now: u64) -> Option<Target> {
        let kept = lock(&self.0);
        let recent = kept.get(name).filter(|(at, _)| is_recent(*at, now));
        recent.map(|(at, view)| Target {
            view: view.clone(),
            at: *at,
            source,
        })
    }

    fn keep(&self, name: Name, view: InstanceView, source: Source, now: u64) -> Target {
        let mut kept = lock(&self.0);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (at, _)| is_recent(*at, now));
        }
        if kept.len() < MAX_KEPT {
            kept.insert(name, (now, view.clone()));
        }
        Target {
            view,
            at: now,
            source,
        }
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
            return Ok((self.resolve_by_ec2(selection, host).await?, None));
        };
        let kind = setting.config.profile(host.as_str()).key_type;
        match self.resolve_by_ca(ca, selection, host, kind).await {
            Err(LoginError::Ca(error)) if error.is_absence() => {
                Ok((self.resolve_by_ec2(selection, host).await?, Some(error)))
            }
            other => other.map(|target| (target, None)),
        }
    }

    async fn resolve_by_ca(
        &self,
        ca: &Ca,
        selection: &Selection,
        host: &HostName,
        kind: KeyType,
    ) -> Result<Target, LoginError> {
        let name = Name {
            ca: Some(ca.config.url.clone()),
            selection: selection.id(),
            host: host.clone(),
        };
        if let Some(kept) = self.routes.get(&name, Source::Ca, self.now()) {
            return Ok(kept);
        }
        let query = InstancesQuery {
            host: Some(host.to_string()),
        };
        let session = self.session(ca, selection, kind).await?;
        let found = match ca
            .client
            .instances(session.granted(self.now()), &query)
            .await
        {
            Err(error) if error.wants_new_session() => {
                let session = self.renew_session(ca, selection, kind).await?;
                ca.client
                    .instances(session.granted(self.now()), &query)
                    .await?
            }
            other => other?,
        };
        let view = only_one(host, found.instances)?;
        self.memory().learn(&view, self.now())?;
        Ok(self.routes.keep(name, view, Source::Ca, self.now()))
    }

    async fn resolve_by_ec2(
        &self,
        selection: &Selection,
        host: &HostName,
    ) -> Result<Target, LoginError> {
        let name = Name {
            ca: None,
            selection: selection.id(),
            host: host.clone(),
        };
        if let Some(kept) = self.routes.get(&name, Source::Ec2, self.now()) {
            return Ok(kept);
        }
        let credentials = self.aws.credentials(selection, self.now()).await?;
        let mut found = Vec::new();
        for which in ways(host).iter().map(Way::which) {
            found = self.describe(&credentials, &which, selection).await?;
            if !found.is_empty() {
                break;
            }
        }
        let view = only_one(host, found.into_iter().map(view_of).collect())?;
        Ok(self.routes.keep(name, view, Source::Ec2, self.now()))
    }

    pub(super) async fn describe(
        &self,
        with: &Resolved,
        which: &Which<'_>,
        selection: &Selection,
    ) -> Result<Vec<Instance>, LoginError> {
        match self.aws.describe(with, which, self.now()).await {
            Ok(found) => Ok(found
                .into_iter()
                .filter(|i| matches!(i.state.as_str(), "running" | "pending"))
                .collect()),
            Err(error)
                if error
                    .code()
                    .is_some_and(|code| code.starts_with("InvalidInstanceID")) =>
            {
                Ok(Vec::new())
            }
            Err(cause) => Err(self.aws_error(
                selection,
                "cannot look up the host (ec2:DescribeInstances)",
                cause,
            )),
        }
    }
}

fn is_recent(at: u64, now: u64) -> bool {
    now.saturating_sub(at) < KEPT
}

/// One way to look a host up in EC2.
enum Way<'a> {
    Id([InstanceId; 1]),
    Filter(&'static str, &'a str),
}

impl Way<'_> {
    fn which(&self) -> Which<'_> {
        match self {
            Self::Id(ids) => Which::Ids(ids),
            Self::Filter(name, value) => Which::Filter(name, value),
        }
    }
}

fn ways(host: &HostName) -> Vec<Way<'_>> {
    let text = host.as_str();
    if let Ok(id) = text.parse::<InstanceId>() {
        return vec![Way::Id([id])];
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => vec![
            Way::Filter("private-ip-address", text),
            Way::Filter("ip-address", text),
        ],
        Ok(IpAddr::V6(_)) => vec![Way::Filter(
            "network-interface.ipv6-addresses.ipv6-address",
            text,
        )],
        Err(_) => vec![
            Way::Filter("tag:Name", text),
            Way::Filter("private-dns-name", text),
        ],
    }
}

/// Exactly one host, and the one that was asked for where that was an id.
fn only_one(host: &HostName, mut found: Vec<InstanceView>) -> Result<InstanceView, LoginError> {
    let only = found
        .pop()
        .ok_or_else(|| LoginError::UnknownHost(host.clone()))?;
    if !found.is_empty() {
        let mut ids: Vec<InstanceId> = found
            .into_iter()
            .chain([only])
            .map(|view| view.id)
            .collect();
        ids.sort();
        return Err(LoginError::Ambiguous {
            host: host.clone(),
            ids,
        });
    }
    let is_id = host.as_str().parse::<InstanceId>().is_ok();
    if is_id && only.id.as_str() != host.as_str() {
        return Err(LoginError::OtherInstance {
            asked: host.to_string(),
            answered: only.id,
        });
    }
    Ok(only)
}

/// An instance as EC2 describes it. Its tags can only make things stricter: `eic:enrolled`, `eic:instance-connect`.
pub(super) fn view_of(instance: Instance) -> InstanceView {
    let addresses = instance.addresses();
    let tag = |name: &str| instance.tags.get(name).map(String::as_str);
    let enrolled = tag("eic:enrolled").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let mode = match tag("eic:instance-connect") {
        Some("off") => InstanceConnectMode::Off,
        Some("break-glass") => InstanceConnectMode::BreakGlass,
        _ => InstanceConnectMode::On,
    };
    let users = tag("eic:user")
        .and_then(|user| user.parse().ok())
        .into_iter()
        .collect();
    InstanceView {
        id: instance.id,
        account: instance.account,
        region: instance.region,
        availability_zone: instance.availability_zone,
        name: instance.tags.get("Name").cloned(),
        private_dns: instance.private_dns,
        addresses,
        ssh_port: 22,
        enrolment: if enrolled {
            Enrolment::Enrolled
        } else {
            Enrolment::Unknown
        },
        instance_connect: mode,
        users,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(id: &str) -> InstanceView {
        let account = "123456789012".parse().unwrap();
        let tags = std::collections::BTreeMap::from([(
            "eic:instance-connect".to_owned(),
            "off".to_owned(),
        )]);
        view_of(Instance {
            id: id.parse().unwrap(),
            account,
            region: "eu-west-1".parse().unwrap(),
            state: "running".to_owned(),
            availability_zone: None,
            vpc_id: None,
            subnet_id: None,
            image_id: None,
            private_dns: None,
            public_dns: None,
            private_ip: None,
            public_ip: None,
            ipv6: Vec::new(),
            tags,
        })
    }

    #[test]
    fn no_host_several_hosts_and_another_host_are_refused() {
        let id: HostName = "i-01234567".parse().unwrap();
        let name: HostName = "web-1".parse().unwrap();
        assert!(matches!(
            only_one(&id, vec![]),
            Err(LoginError::UnknownHost(_))
        ));
        assert!(matches!(
            only_one(&id, vec![view("i-76543210")]),
            Err(LoginError::OtherInstance { .. })
        ));
        let two = only_one(&name, vec![view("i-76543210"), view("i-01234567")])
            .unwrap_err()
            .to_string();
        assert!(
            two.contains("2 instances") && two.contains("i-01234567, i-76543210"),
            "{two}"
        );
        assert!(only_one(&name, vec![view("i-76543210")]).is_ok());
    }

    #[test]
    fn a_tag_can_switch_pushing_off() {
        assert_eq!(
            view("i-01234567").instance_connect,
            InstanceConnectMode::Off
        );
    }
}
