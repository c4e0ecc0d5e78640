//! AWS as the lab has it: moto for identities, instances and keys, our stand-in in front of it, and helpers that say
//! in one line what a test needs.
//!
//! Set-up calls take the same road as everyone's: signed by an administrator of the account and judged by moto.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use hyper::body::Bytes;
use serde_json::json;

use crate::clock::Clock;
use crate::error::{Context, Error, Result, unexpected};
use crate::exchange::exchange_blocking;
use crate::host::Instance;
use crate::pki::SignerChain;
use crate::room::Room;
use crate::standin::{Standin, locked};
use crate::xml;

mod call;
mod credentials;
mod moto;

pub use call::Call;
pub use credentials::Credentials;
pub(crate) use moto::Moto;

/// The lab's first account, where everything is unless said otherwise.
pub const ACCOUNT: &str = "123456789012";

/// Its second one.
pub const OTHER_ACCOUNT: &str = "210987654321";

/// The region of everything unless said otherwise.
pub const REGION: &str = "us-east-1";

/// The domain of the partition `aws`, of which all is here.
pub const DOMAIN: &str = "amazonaws.com";

/// Lets its holder do everything.
const EVERYTHING: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// The stand-ins of one lab.
#[derive(Debug)]
pub struct Aws {
    standin: Standin,
    _moto: Moto,
    control: u32,
    clock: Arc<Clock>,
    subnets: Mutex<HashMap<(String, String), String>>,
    chains: Mutex<HashMap<String, Arc<SignerChain>>>,
}

/// One account.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    aws: &'a Aws,
    id: &'a str,
}

impl Aws {
    /// Starts moto and the front in the control room, with both accounts.
    pub(crate) fn start(control: &Room, clock: Arc<Clock>) -> Result<Aws> {
        let moto = Moto::start(control)?;
        let standin = Standin::start(control, Arc::clone(&clock))?;
        let (subnets, chains) = (Mutex::default(), Mutex::default());
        let aws = Aws {
            standin,
            _moto: moto,
            control: control.pid(),
            clock,
            subnets,
            chains,
        };
        for account in [ACCOUNT, OTHER_ACCOUNT] {
            aws.make_administrator(account)?;
        }
        aws.start_judging()?;
        Ok(aws)
    }

    /// The stand-in: faults, requests seen, console texts, pushed keys.
    pub fn standin(&self) -> &Standin {
        &self.standin
    }

    /// The URL that clients in the control room use as `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", Standin::address())
    }

    /// The variables that make an AWS program use the lab with these credentials.
    pub fn env(&self, credentials: &Credentials) -> Vec<(&'static str, String)> {
        let mut env = credentials.env();
        env.push(("AWS_ENDPOINT_URL", self.endpoint()));
        env.push(("AWS_REGION", REGION.into()));
        env.push(("AWS_EC2_METADATA_DISABLED", "true".into()));
        env
    }

    /// An account by its id.
    pub fn account<'a>(&'a self, id: &'a str) -> Account<'a> {
        Account { aws: self, id }
    }

    /// A user of the first account; see [`Account::user`].
    ///
    /// # Errors
    /// As there.
    pub fn user(&self, name: &str, policy: &str) -> Result<Credentials> {
        self.account(ACCOUNT).user(name, policy)
    }

    /// A role of the first account; see [`Account::role`].
    ///
    /// # Errors
    /// As there.
    pub fn role(&self, name: &str, trusted: &str, policy: &str) -> Result<String> {
        self.account(ACCOUNT).role(name, trusted, policy)
    }

    /// A signing key of the first account; see [`Account::kms_key`].
    ///
    /// # Errors
    /// As there.
    pub fn kms_key(&self, spec: &str) -> Result<String> {
        self.account(ACCOUNT).kms_key(spec)
    }

    /// Credentials of a role's session.
    ///
    /// # Errors
    /// When moto refuses it to this caller.
    pub fn assume_role(
        &self,
        caller: &Credentials,
        role_arn: &str,
        session: &str,
    ) -> Result<Credentials> {
        let parameters = [("RoleArn", role_arn), ("RoleSessionName", session)];
        credentials_of(&self.call(caller, &Call::query("sts", "AssumeRole", &parameters))?)
    }

    /// Makes any call with someone's credentials, through the front.
    ///
    /// # Errors
    /// [`Error::Refused`] with the answer when it is not 200.
    pub fn call(&self, caller: &Credentials, call: &Call) -> Result<String> {
        call.accepted(self.send(
            Standin::address(),
            call.signed(Standin::address(), caller, self.clock.now())?,
        )?)
    }

    /// Sends any request into the control room's network: a test's own, badly signed, say.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send(&self, address: SocketAddr, request: Request<Bytes>) -> Result<Response<Bytes>> {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                Room::enter_network_of(self.control)?;
                exchange_blocking(address, request)
            });
            worker
                .join()
                .map_err(|_| Error::Unexpected("send a request: the sender panicked".into()))?
        })
    }

    /// Instance Connect's signer in a region; the same for all hosts there.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn signer_chain(&self, region: &str) -> Result<Arc<SignerChain>> {
        let mut chains = locked(&self.chains);
        if let Some(chain) = chains.get(region) {
            return Ok(Arc::clone(chain));
        }
        let chain = Arc::new(SignerChain::right(region, DOMAIN, self.clock.now())?);
        chains.insert(region.to_owned(), Arc::clone(&chain));
        Ok(chain)
    }

    /// Before moto judges, anyone may make an administrator; a role's session leads into the other account.
    fn make_administrator(&self, account: &str) -> Result<()> {
        let anyone = Credentials {
            access_key_id: "AKIALABBOOTSTRAP".into(),
            secret_access_key: "none".into(),
            session_token: None,
        };
        let role = format!("arn:aws:iam::{account}:role/bootstrap");
        let parameters = [("RoleArn", role.as_str()), ("RoleSessionName", "lab")];
        let caller = credentials_of(
            &self.call_moto(&anyone, &Call::query("sts", "AssumeRole", &parameters))?,
        )?;
        let name = ("UserName", "lab-administrator");
        self.call_moto(&caller, &Call::query("iam", "CreateUser", &[name]))?;
        let policy = [name, ("PolicyName", "all"), ("PolicyDocument", EVERYTHING)];
        self.call_moto(&caller, &Call::query("iam", "PutUserPolicy", &policy))?;
        let key = credentials_of(
            &self.call_moto(&caller, &Call::query("iam", "CreateAccessKey", &[name]))?,
        )?;
        self.standin.add_administrator(account, key);
        Ok(())
    }

    fn call_moto(&self, caller: &Credentials, call: &Call) -> Result<String> {
        call.accepted(self.send(
            Moto::address(),
            call.signed(Moto::address(), caller, self.clock.now())?,
        )?)
    }

    /// From here on moto checks signatures, session tokens and identity policies. It reads the raw body, so the content
    /// type must not be a form's.
    fn start_judging(&self) -> Result<()> {
        let request = Request::post("/moto-api/reset-auth")
            .header("host", Moto::address().to_string())
            .header("content-type", "text/plain")
            .body(Bytes::from_static(b"0"))
            .map_err(|cause| unexpected("write a request", cause))?;
        let answer = self.send(Moto::address(), request)?;
        let status = answer.status().as_u16();
        let body = || String::from_utf8_lossy(answer.body()).into_owned();
        if status == 200 {
            Ok(())
        } else {
            Err(Error::Refused {
                action: "moto-api:reset-auth".into(),
                status,
                body: body(),
            })
        }
    }
}

impl Account<'_> {
    /// A user with an inline policy, and an access key of it.
    ///
    /// # Errors
    /// When moto refuses: the name is taken, or the policy is no policy.
    pub fn user(&self, name: &str, policy: &str) -> Result<Credentials> {
        self.administer(&Call::query("iam", "CreateUser", &[("UserName", name)]))?;
        let parameters = [
            ("UserName", name),
            ("PolicyName", "inline"),
            ("PolicyDocument", policy),
        ];
        self.administer(&Call::query("iam", "PutUserPolicy", &parameters))?;
        credentials_of(&self.administer(&Call::query(
            "iam",
            "CreateAccessKey",
            &[("UserName", name)],
        ))?)
    }

    /// A role that the principal `trusted` (an ARN, or an account's id) may assume; its ARN.
    ///
    /// # Errors
    /// When moto refuses.
    pub fn role(&self, name: &str, trusted: &str, policy: &str) -> Result<String> {
        let trust = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": trusted}, "Action": "sts:AssumeRole"}
        ]});
        let parameters = [
            ("RoleName", name),
            ("AssumeRolePolicyDocument", &trust.to_string()),
        ];
        let made = self.administer(&Call::query("iam", "CreateRole", &parameters))?;
        let parameters = [
            ("RoleName", name),
            ("PolicyName", "inline"),
            ("PolicyDocument", policy),
        ];
        self.administer(&Call::query("iam", "PutRolePolicy", &parameters))?;
        xml::text(&made, "Arn").context(|| "make a role: the answer names no ARN")
    }

    /// A key for signing, by AWS's name of its spec; its ARN.
    ///
    /// # Errors
    /// When the stand-ins do not have the spec.
    pub fn kms_key(&self, spec: &str) -> Result<String> {
        let made = self.administer(&Call::json(
            "kms",
            "CreateKey",
            &json!({"KeySpec": spec, "KeyUsage": "SIGN_VERIFY"}),
        ))?;
        let made: serde_json::Value = serde_json::from_str(&made)
            .map_err(|cause| unexpected("read CreateKey's answer", cause))?;
        made.pointer("/KeyMetadata/Arn")
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
            .context(|| "make a key: the answer names no ARN")
    }

    /// Disables a key. moto wants the bare id here, without the ARN around it.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn disable_kms_key(&self, arn: &str) -> Result<()> {
        let id = arn.rsplit('/').next().unwrap_or(arn);
        self.administer(&Call::json("kms", "DisableKey", &json!({"KeyId": id})))
            .map(drop)
    }

    /// Has a key deleted in a week; until then it refuses like a disabled one.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn delete_kms_key(&self, arn: &str) -> Result<()> {
        let id = arn.rsplit('/').next().unwrap_or(arn);
        let body = json!({"KeyId": id, "PendingWindowInDays": 7});
        self.administer(&Call::json("kms", "ScheduleKeyDeletion", &body))
            .map(drop)
    }

    /// A running instance with tags, in a subnet without public addresses.
    ///
    /// # Errors
    /// When moto refuses.
    pub fn instance(&self, region: &str, tags: &[(String, String)]) -> Result<Instance> {
        let subnet = self.subnet(region)?;
        let mut parameters = vec![
            ("ImageId".to_owned(), "ami-12345678".to_owned()),
            ("MinCount".into(), "1".into()),
            ("MaxCount".into(), "1".into()),
            ("SubnetId".into(), subnet),
            ("TagSpecification.1.ResourceType".into(), "instance".into()),
        ];
        for (number, (key, value)) in (1..).zip(tags) {
            parameters.push((format!("TagSpecification.1.Tag.{number}.Key"), key.clone()));
            parameters.push((
                format!("TagSpecification.1.Tag.{number}.Value"),
                value.clone(),
            ));
        }
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let answer =
            self.administer(&Call::query("ec2", "RunInstances", &parameters).region(region))?;
        self.parse_instance(region, &answer)
            .context(|| "start an instance: the answer lacks its id, zone or address")
    }

    /// Any call as this account's administrator.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn administer(&self, call: &Call) -> Result<String> {
        self.aws
            .call(&self.aws.standin.administrator(self.id)?, call)
    }

    fn parse_instance(&self, region: &str, answer: &str) -> Option<Instance> {
        Some(Instance {
            id: xml::text(answer, "instanceId")?,
            account: self.id.to_owned(),
            region: region.to_owned(),
            availability_zone: xml::text(answer, "availabilityZone")?,
            private_ip: xml::text(answer, "privateIpAddress")?
                .parse::<Ipv4Addr>()
                .ok()?,
        })
    }

    /// The lab's subnet of this account in a region: one of the 16 networks 10.77.16.0/20 and on, made on first use.
    fn subnet(&self, region: &str) -> Result<String> {
        let mut subnets = locked(&self.aws.subnets);
        let key = (self.id.to_owned(), region.to_owned());
        if let Some(subnet) = subnets.get(&key) {
            return Ok(subnet.clone());
        }
        let network = format!("10.77.{}.0/20", 16 * (subnets.len() + 1));
        let made = self.administer(
            &Call::query("ec2", "CreateVpc", &[("CidrBlock", "10.77.0.0/16")]).region(region),
        )?;
        let vpc = xml::text(&made, "vpcId").context(|| "make a network: the answer names none")?;
        let zone = format!("{region}a");
        let parameters = [
            ("VpcId", vpc.as_str()),
            ("CidrBlock", &network),
            ("AvailabilityZone", &zone),
        ];
        let made =
            self.administer(&Call::query("ec2", "CreateSubnet", &parameters).region(region))?;
        let subnet =
            xml::text(&made, "subnetId").context(|| "make a subnet: the answer names none")?;
        subnets.insert(key, subnet.clone());
        Ok(subnet)
    }
}

/// The access key in the answer of CreateAccessKey or AssumeRole.
pub(crate) fn credentials_of(answer: &str) -> Result<Credentials> {
    let text = |name: &str| xml::text(answer, name);
    Ok(Credentials {
        access_key_id: text("AccessKeyId").context(|| "read credentials: no AccessKeyId")?,
        secret_access_key: text("SecretAccessKey")
            .context(|| "read credentials: no SecretAccessKey")?,
        session_token: text("SessionToken"),
    })
}
