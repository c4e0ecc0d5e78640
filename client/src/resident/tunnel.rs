//! Signed addresses of tunnels: the host is resolved, the way is planned (and kept for a minute, so that a burst of
//! connections costs one look-up), and each tunnel gets a signature of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;

use super::aws::scope;
use super::{LoginError, Resident, lock};
use crate::control::message::{EndpointsAsk, Reply};
use crate::credentials::{Resolved, Selection, SelectionId};
use crate::transport::endpoint::{
    Ec2, EndpointError, EndpointId, Names, Plan, Presign, Reach, Wanted, administer, plan,
    presigned_path, signing_region,
};
use crate::transport::order::{Opening, TunnelAsk, TunnelTarget};

/// How long a plan is kept. Seconds.
const KEPT: u64 = 60;
/// Most plans that are kept.
const MAX_KEPT: usize = 1024;

/// Plans of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Plans(Mutex<HashMap<Key, (u64, Plan)>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    selection: SelectionId,
    region: AwsRegion,
    target: String,
    port: u16,
    endpoint: Option<EndpointId>,
    host: Option<String>,
}

/// What is to be reached, with whose credentials, in which Region.
struct Destination {
    with: Selection,
    region: Option<AwsRegion>,
    place: Place,
}

enum Place {
    Instance(InstanceId),
    Address(IpAddr),
}

impl Resident {
    /// Answers [`Reply::Tunnel`].
    pub(super) async fn tunnel(&self, ask: TunnelAsk) -> Result<Reply, LoginError> {
        let ask = TunnelAsk {
            selection: ask.selection.clone().filtered(),
            ..ask
        };
        let destination = self.destination(&ask).await?;
        let with = self.credentials(&destination.with).await?;
        let region = destination.region.unwrap_or(with.region);
        let plan = self.plan(&ask, &destination, &with, region).await?;
        let presign = Presign {
            credentials: &with.credentials,
            region: signing_region(region, &plan.host),
            now: self.now(),
            endpoint: &plan.endpoint,
            host: &plan.host,
            address: ask.address.unwrap_or(plan.address),
            port: ask.port,
            max_duration: ask.max_duration,
        };
        let path = presigned_path(&presign).map_err(|cause| LoginError::Aws {
            doing: "cannot sign the tunnel's address",
            cause,
        })?;
        Ok(Reply::Tunnel(Opening {
            endpoint: plan.endpoint,
            host: plan.host,
            path,
            notes: plan.notes,
            proxy: with.proxy.clone(),
        }))
    }

    async fn destination(&self, ask: &TunnelAsk) -> Result<Destination, LoginError> {
        let host = match &ask.target {
            TunnelTarget::Address(address, region) => {
                return Ok(Destination {
                    with: ask.selection.clone(),
                    region: *region,
                    place: Place::Address(*address),
                });
            }
            TunnelTarget::Host(host) => host,
        };
        let setting = self.settings.current()?;
        let (target, _) = self.resolve(&setting, &ask.selection, host).await?;
        Ok(Destination {
            with: target.with,
            region: Some(target.view.region),
            place: Place::Instance(target.view.id),
        })
    }

    async fn plan(
        &self,
        ask: &TunnelAsk,
        destination: &Destination,
        with: &Resolved,
        region: AwsRegion,
    ) -> Result<Plan, LoginError> {
        let key = key(ask, destination, region);
        if let Some(kept) = self.plans.get(&key, self.now()) {
            return Ok(kept);
        }
        let (client, endpoint) = self
            .aws
            .target(with, with.ec2.as_ref(), "ec2", region)
            .map_err(|cause| LoginError::Aws {
                doing: "cannot call EC2",
                cause,
            })?;
        let scope = scope(with, region, "ec2", self.now());
        let ec2 = Ec2 {
            client: &client,
            endpoint: &endpoint,
            scope: &scope,
        };
        let reach = match &destination.place {
            Place::Instance(id) => Reach::Instance(id),
            Place::Address(address) => Reach::Address(*address),
        };
        let wanted = Wanted {
            port: ask.port,
            endpoint: ask.endpoint.as_ref(),
            dns_name: ask.dns_name.as_ref(),
            names: names(&destination.with),
        };
        let found = plan(ec2, &reach, &wanted).await;
        let found = found.map_err(|error| self.endpoint_error(&destination.with, error))?;
        self.plans.keep(key, &found, self.now());
        Ok(found)
    }

    /// Answers [`Reply::Endpoints`].
    pub(super) async fn endpoints(&self, ask: EndpointsAsk) -> Result<Reply, LoginError> {
        let selection = ask.selection.filtered();
        let with = self.credentials(&selection).await?;
        let (client, endpoint) = self
            .aws
            .target(&with, with.ec2.as_ref(), "ec2", with.region)
            .map_err(|cause| LoginError::Aws {
                doing: "cannot call EC2",
                cause,
            })?;
        let scope = scope(&with, with.region, "ec2", self.now());
        let ec2 = Ec2 {
            client: &client,
            endpoint: &endpoint,
            scope: &scope,
        };
        let done = administer(ec2, &ask.what).await;
        // What was planned with another set of endpoints is planned anew.
        self.plans.clear();
        done.map(Reply::Endpoints)
            .map_err(|error| self.endpoint_error(&selection, error))
    }

    fn endpoint_error(&self, selection: &Selection, error: EndpointError) -> LoginError {
        match error {
            EndpointError::Aws { doing, cause } => self.aws_error(selection, doing, cause),
            EndpointError::Obstacle(obstacle) => LoginError::Endpoint(obstacle),
        }
    }
}

fn key(ask: &TunnelAsk, destination: &Destination, region: AwsRegion) -> Key {
    Key {
        selection: destination.with.id(),
        region,
        target: match &destination.place {
            Place::Instance(id) => id.to_string(),
            Place::Address(address) => address.to_string(),
        },
        port: ask.port,
        endpoint: ask.endpoint.clone(),
        host: ask.dns_name.as_ref().map(ToString::to_string),
    }
}

/// As the SDKs and tools reference has it: FIPS and dual-stack endpoints are asked for by variables.
fn names(selection: &Selection) -> Names {
    let is_set = |name: &str| {
        let mut all = selection.variables();
        all.any(|(given, value)| given == name && value.eq_ignore_ascii_case("true"))
    };
    Names {
        fips: is_set("AWS_USE_FIPS_ENDPOINT"),
        dualstack: is_set("AWS_USE_DUALSTACK_ENDPOINT"),
    }
}

impl Plans {
    fn get(&self, key: &Key, now: u64) -> Option<Plan> {
        let kept = lock(&self.0);
        let recent = kept
            .get(key)
            .filter(|(at, _)| now.saturating_sub(*at) < KEPT);
        recent.map(|(_, plan)| Plan {
            // Told once.
            notes: Vec::new(),
            ..plan.clone()
        })
    }

    fn keep(&self, key: Key, plan: &Plan, now: u64) {
        let mut kept = lock(&self.0);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, (now, plan.clone()));
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}
