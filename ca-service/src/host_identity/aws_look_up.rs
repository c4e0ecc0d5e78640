//! What AWS says of an instance at this moment: EC2's description, the role in its profile, its console.
//! Never cached: evidence is compared with what is, not with what was. Asked only after AWS itself vouched
//! for the instance's document or token, and only about accounts of the configuration (threats E-14).

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use eic_aws::ec2::{Instance, Which, describe_instances, latest_console_output};
use eic_aws::endpoint::Endpoint;
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

    /// The instance, and the ARN of its profile.
    async fn describe_at(
        &self,
        place: &Place,
        instance: &InstanceId,
        now: u64,
    ) -> Result<(Described, Option<String>), NoLookUp> {
        let credentials = self.credentials(place, now).await?;
        let scope = place.scope(&credentials, now);
        // By filter: an id that is unknown is then an empty answer, not an error.
        let which = Which::Filter("instance-id", instance.as_str());
        let client = self.access.client();
        let found = describe_instances(client, &place.endpoint, &scope, &which).await;
        // Shared subnets show hosts of other owners: they are not of this account (threats C-10).
        let own = |host: &Instance| host.id == *instance && host.account == place.account;
        let found = found.map_err(|e| failed(&e))?.into_iter().find(own);
        let found = found.ok_or(NoLookUp::NoSuchInstance)?;
        let described = Described {
            instance: found.id,
            account: found.account,
            region: found.region,
            state: found.state,
            private_ips: found.private_ip.into_iter().collect(),
            role: None,
        };
        Ok((described, found.instance_profile))
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
        let credentials = self.credentials(place, now).await?;
        let scope = place.scope(&credentials, now);
        let client = self.access.client();
        let output = latest_console_output(client, &place.endpoint, &scope, instance).await;
        output.map_err(|e| failed(&e))
    }

    async fn credentials(&self, place: &Place, now: u64) -> Result<Credentials, NoLookUp> {
        let found = self.access.credentials(&place.account, now).await;
        found.map_err(|e| failed(&e))
    }
}

impl Place {
    fn scope<'c>(&self, credentials: &'c Credentials, now: u64) -> Scope<'c> {
        Scope {
            credentials,
            region: self.region,
            service: "ec2",
            now,
        }
    }
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
