//! What AWS says of an instance at this moment: EC2's description, the role in its profile, its console.
//! Never cached: evidence is compared with what is, not with what was. Asked only after AWS itself vouched
//! for the instance's document or token, and only about accounts of the configuration (threats E-14).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eic_aws::endpoint::Endpoint;
use eic_aws::error::AwsError;
use eic_aws::query::{Element, call};
use eic_aws::sigv4::Scope;
use eic_protocol::arn::{AccountId, Arn};
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;

use super::evidence::{Described, InstanceRole};
use super::role_trust;
use crate::authn::aws_sts::role_revocation::percent_decoded;
use crate::aws_access::{AwsAccess, ec2_endpoint, iam_endpoint};
use crate::config::inventory::Ec2Config;

const EC2_VERSION: &str = "2016-11-15";
const IAM_VERSION: &str = "2010-05-08";
/// All calls about one host together: agents wait longer, but their connections are not kept for ever.
const DEADLINE: Duration = Duration::from_secs(8);

/// Asks EC2 and IAM.
pub struct AwsLookUp {
    access: Arc<AwsAccess>,
    places: Vec<Place>,
    /// Origin of a stand-in for IAM on loopback.
    iam_override: Option<String>,
}

struct Place {
    account: AccountId,
    region: AwsRegion,
    endpoint: Endpoint,
}

/// Why AWS said nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLookUp {
    /// No source of the inventory covers the account's Region.
    #[error("look the host up in EC2: no [[inventory.ec2]] names account {0} with Region {1}")]
    NotConfigured(AccountId, AwsRegion),
    /// EC2 knows no such instance there.
    #[error("look the host up in EC2: there is no such instance")]
    NoSuchInstance,
    /// AWS refused us or did not answer.
    #[error("look the host up in AWS: {0}")]
    Aws(String),
}

impl AwsLookUp {
    /// Over the accounts of the inventory. The instance role is read from IAM at `iam_override`, if given.
    ///
    /// # Errors
    /// An endpoint override that is not an endpoint.
    pub fn new(
        access: Arc<AwsAccess>,
        accounts: &[Ec2Config],
        iam_override: Option<String>,
    ) -> Result<Self, eic_aws::endpoint::InvalidEndpoint> {
        let mut places = Vec::new();
        for config in accounts {
            for region in &config.regions {
                places.push(Place {
                    account: config.account.clone(),
                    region: *region,
                    endpoint: ec2_endpoint(config, *region)?,
                });
            }
        }
        Ok(Self {
            access,
            places,
            iam_override,
        })
    }

    /// EC2's description of the instance, with the role in its profile where `with_role` asks for it.
    /// `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`NoLookUp`]
    pub async fn describe(
        &self,
        instance: &InstanceId,
        account: &AccountId,
        region: AwsRegion,
        with_role: bool,
        now: u64,
    ) -> Result<Described, NoLookUp> {
        let place = self.place(account, region)?;
        within(async {
            let (mut described, profile) = self.describe_at(place, instance, now).await?;
            if let Some(profile) = profile.filter(|_| with_role) {
                described.role = self.role(place, &profile, now).await?;
            }
            Ok(described)
        })
        .await
    }

    /// The instance's console as it is now. Empty where there is none yet.
    ///
    /// # Errors
    /// [`NoLookUp`]
    pub async fn console(&self, described: &Described, now: u64) -> Result<String, NoLookUp> {
        let place = self.place(&described.account, described.region)?;
        within(self.console_at(place, &described.instance, now)).await
    }

    fn place(&self, account: &AccountId, region: AwsRegion) -> Result<&Place, NoLookUp> {
        let found = self
            .places
            .iter()
            .find(|place| place.account == *account && place.region == region);
        found.ok_or_else(|| NoLookUp::NotConfigured(account.clone(), region))
    }

    async fn describe_at(
        &self,
        place: &Place,
        instance: &InstanceId,
        now: u64,
    ) -> Result<(Described, Option<String>), NoLookUp> {
        let credentials = self.credentials(place, now).await?;
        let scope = place.scope("ec2", &credentials, now);
        // By filter: an id that is unknown is then an empty answer, not an error.
        let parameters = [
            pair("Action", "DescribeInstances"),
            pair("Version", EC2_VERSION),
            pair("Filter.1.Name", "instance-id"),
            pair("Filter.1.Value.1", instance.as_str()),
        ];
        let answer = call(self.access.client(), &place.endpoint, &scope, &parameters).await;
        let answer = answer.map_err(|e| failed(&e))?;
        described(&answer, place, instance).ok_or(NoLookUp::NoSuchInstance)
    }

    /// The one role of an instance profile, and who may assume it: both in one answer of IAM.
    async fn role(
        &self,
        place: &Place,
        profile: &str,
        now: u64,
    ) -> Result<Option<InstanceRole>, NoLookUp> {
        let arn: Option<Arn> = profile.parse().ok();
        let name = arn.and_then(|arn| {
            let path = arn.resource.strip_prefix("instance-profile/")?;
            path.rsplit('/').next().map(str::to_owned)
        });
        let Some(name) = name else {
            return Ok(None);
        };
        let (endpoint, region) =
            iam_endpoint(place.region.partition(), self.iam_override.as_deref())
                .map_err(|e| failed(&e))?;
        let credentials = self.credentials(place, now).await?;
        let scope = Scope {
            credentials: &credentials,
            region,
            service: "iam",
            now,
        };
        let parameters = [
            pair("Action", "GetInstanceProfile"),
            pair("Version", IAM_VERSION),
            pair("InstanceProfileName", &name),
        ];
        match call(self.access.client(), &endpoint, &scope, &parameters).await {
            Ok(answer) => Ok(role_of(&answer)),
            Err(error) if error.code() == Some("NoSuchEntity") => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn console_at(
        &self,
        place: &Place,
        instance: &InstanceId,
        now: u64,
    ) -> Result<String, NoLookUp> {
        match self.read_console(place, instance, true, now).await {
            // Instances that are not on the Nitro system show only what EC2 copied at the last boot.
            Err(error) if error.code() == Some("UnsupportedOperation") => self
                .read_console(place, instance, false, now)
                .await
                .map_err(|e| failed(&e)),
            answer => answer.map_err(|e| failed(&e)),
        }
    }

    async fn read_console(
        &self,
        place: &Place,
        instance: &InstanceId,
        latest: bool,
        now: u64,
    ) -> Result<String, AwsError> {
        let credentials = self
            .access
            .credentials(&place.account, now)
            .await
            .map_err(|e| AwsError::Signing(e.to_string()))?;
        let scope = place.scope("ec2", &credentials, now);
        let mut parameters = vec![
            pair("Action", "GetConsoleOutput"),
            pair("Version", EC2_VERSION),
            pair("InstanceId", instance.as_str()),
        ];
        if latest {
            parameters.push(pair("Latest", "true"));
        }
        let answer = call(self.access.client(), &place.endpoint, &scope, &parameters).await?;
        if answer.child_text("instanceId") != Some(instance.as_str()) {
            return Err(AwsError::Malformed("console output of another instance"));
        }
        let text = answer.child_text("output").unwrap_or_default();
        let compact: String = text.split_whitespace().collect();
        let bytes = STANDARD.decode(compact);
        let bytes = bytes.map_err(|_| AwsError::Malformed("console output is not base64"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn credentials(
        &self,
        place: &Place,
        now: u64,
    ) -> Result<aws_credential_types::Credentials, NoLookUp> {
        let found = self.access.credentials(&place.account, now).await;
        found.map_err(|e| failed(&e))
    }
}

impl Place {
    fn scope<'c>(
        &self,
        service: &'static str,
        credentials: &'c aws_credential_types::Credentials,
        now: u64,
    ) -> Scope<'c> {
        Scope {
            credentials,
            region: self.region,
            service,
            now,
        }
    }
}

/// The instance in EC2's answer, where the account owns it: shared subnets show hosts of other owners.
fn described(
    answer: &Element,
    place: &Place,
    instance: &InstanceId,
) -> Option<(Described, Option<String>)> {
    let reservations = answer.child("reservationSet")?.children("item");
    for reservation in reservations {
        let own = reservation.child_text("ownerId") == Some(place.account.as_str());
        let set = reservation.child("instancesSet").filter(|_| own);
        let mut items = set.into_iter().flat_map(|set| set.children("item"));
        let found = items.find(|item| item.child_text("instanceId") == Some(instance.as_str()));
        if let Some(item) = found {
            return Some(instance_of(item, place, instance));
        }
    }
    None
}

fn instance_of(
    item: &Element,
    place: &Place,
    instance: &InstanceId,
) -> (Described, Option<String>) {
    let state = item
        .child("instanceState")
        .and_then(|state| state.child_text("name"));
    let profile = item
        .child("iamInstanceProfile")
        .and_then(|profile| profile.child_text("arn"));
    let address = item.child_text("privateIpAddress");
    let described = Described {
        instance: instance.clone(),
        account: place.account.clone(),
        region: place.region,
        state: state.unwrap_or_default().to_owned(),
        private_ips: address.and_then(|a| a.parse().ok()).into_iter().collect(),
        role: None,
    };
    (described, profile.map(str::to_owned))
}

/// An instance profile holds one role at most (IAM user guide, "Instance profiles").
fn role_of(answer: &Element) -> Option<InstanceRole> {
    let mut members = answer.find("Roles")?.children("member");
    let role = members.next()?;
    if members.next().is_some() {
        return None;
    }
    let name = role.child_text("RoleName")?.to_owned();
    let policy = role
        .child_text("AssumeRolePolicyDocument")
        .unwrap_or_default();
    let policy = percent_decoded(policy).unwrap_or_default();
    Some(InstanceRole {
        name,
        trust: role_trust::read(&policy),
    })
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn failed(error: &dyn std::fmt::Display) -> NoLookUp {
    NoLookUp::Aws(eic_protocol::text::printable(&error.to_string()))
}

async fn within<T>(work: impl Future<Output = Result<T, NoLookUp>>) -> Result<T, NoLookUp> {
    let late = || Err(NoLookUp::Aws("no answer in time".to_owned()));
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| late())
}
