//! A company in small: a CA, a host that trusts it, a host that does not, and a person who may log in to both.
//! Scenarios, the demo and the bench start from here; each changes what it is about.

use serde_json::json;

use crate::aws::{ACCOUNT, OTHER_ACCOUNT};
use crate::ca::CaBuilder;
use crate::error::Result;
use crate::host::HostBuilder;
use crate::openssh::Release;
use crate::{Ca, Client, Host, Lab};

/// What alice's IAM policy allows: the calls that an Instance Connect client makes, tunnels among them.
const MAY_CONNECT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":
["ec2:DescribeInstances","ec2:GetConsoleOutput","ec2-instance-connect:SendSSHPublicKey",
"ec2:DescribeInstanceConnectEndpoints","ec2:DescribeSecurityGroups","ssm:StartSession"],"Resource":"*"}]}"#;

/// What the CA asks of AWS.
const MAY_DESCRIBE: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":
["ec2:DescribeInstances","kms:Sign","kms:GetPublicKey","iam:GetRolePolicy"],"Resource":"*"}]}"#;

/// The company.
#[derive(Debug)]
pub struct SmallFleet {
    /// `web-1`: trusts the CA and Instance Connect.
    pub web: Host,
    /// `legacy-1`: knows Instance Connect only.
    pub legacy: Host,
    /// `alice`: an IAM user, set up with the CA.
    pub alice: Client,
    /// The CA.
    pub ca: Ca,
    /// Where they live.
    pub lab: Lab,
}

impl SmallFleet {
    /// Starts all of it in a lab of its own.
    ///
    /// # Errors
    /// When a part does not come up.
    pub fn start() -> Result<Self> {
        Self::start_with(Lab::new()?, |ca| ca)
    }

    /// The same in this lab, the CA changed by `change`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(lab: Lab, change: impl FnOnce(CaBuilder) -> CaBuilder) -> Result<Self> {
        Self::start_on(lab, change, |host| host)
    }

    /// The same with another release's OpenSSH on every host and at every client.
    ///
    /// # Errors
    /// As [`Self::start`], and when the release's packages cannot be fetched.
    pub fn start_with_openssh(release: &'static Release) -> Result<Self> {
        let lab = Lab::with_openssh(release)?;
        Self::start_on(lab, |ca| ca, |host| host.openssh(release))
    }

    /// The same in this lab, every host changed by `shape`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_shaped(lab: Lab, shape: impl Fn(HostBuilder) -> HostBuilder) -> Result<Self> {
        Self::start_on(lab, |ca| ca, shape)
    }

    fn start_on(
        lab: Lab,
        change: impl FnOnce(CaBuilder) -> CaBuilder,
        shape: impl Fn(HostBuilder) -> HostBuilder,
    ) -> Result<Self> {
        let ca = change(ca(&lab)?).start()?;
        let web = enrolled(&ca, shape(lab.host("web-1")))?;
        let legacy = shape(lab.host("legacy-1").tag("team", "web"))
            .instance_connect_only()
            .start()?;
        let alice = person(&lab, "alice")?;
        set_up(&alice, &ca)?;
        Ok(Self {
            web,
            legacy,
            alice,
            ca,
            lab,
        })
    }
}

/// The CA of the company, to be changed and started.
///
/// # Errors
/// When its AWS identity cannot be made.
pub fn ca(lab: &Lab) -> Result<CaBuilder> {
    let service = lab.aws()?.user("eic-ca", MAY_DESCRIBE)?;
    let ca = lab.ca().on_aws(&service)?.policy(&policy());
    Ok(ca.set("aws_sts.accounts", vec![toml::Value::from(ACCOUNT)]))
}

/// alice may log in as `ubuntu` to hosts of team `web`, bob to none; nobody to what is tagged `frozen`.
#[must_use]
pub fn policy() -> String {
    let instances = [
        format!("arn:aws:ec2:*:{ACCOUNT}:instance/*"),
        format!("arn:aws:ec2:*:{OTHER_ACCOUNT}:instance/*"),
    ];
    let action = "ec2-instance-connect:SendSSHPublicKey";
    let alice = json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:user/alice")});
    json!({"Version": "2012-10-17", "Statement": [
        {
            "Sid": "AliceOnTeamWeb", "Effect": "Allow", "Principal": alice, "Action": action, "Resource": instances,
            "Condition": {"StringEquals": {"ec2:osuser": "ubuntu", "aws:ResourceTag/team": "web"}},
        },
        {
            "Sid": "AliceFromTheOfficeOnly", "Effect": "Allow", "Principal": alice, "Action": action, "Resource": instances,
            "Condition": {
                "StringEquals": {"ec2:osuser": "ubuntu", "aws:ResourceTag/team": "office"},
                "IpAddress": {"aws:SourceIp": "203.0.113.0/24"},
            },
        },
        {
            "Sid": "NobodyOnFrozenHosts", "Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*",
            "Condition": {"StringEquals": {"aws:ResourceTag/frozen": "true"}},
        },
    ]})
    .to_string()
}

/// An IAM user who may use Instance Connect, at a machine with these credentials in its environment.
///
/// # Errors
/// When the account cannot be made.
pub fn person(lab: &Lab, name: &str) -> Result<Client> {
    let aws = lab.aws()?;
    let credentials = aws.user(name, MAY_CONNECT)?;
    lab.client(name)?.credentials(&credentials)
}

/// `eic-login setup`, the root pinned by its fingerprint.
///
/// # Errors
/// When it fails.
pub fn set_up(client: &Client, ca: &Ca) -> Result<()> {
    let (url, fingerprint) = (ca.url(), ca.root_fingerprint());
    client
        .run(
            "eic-login",
            [
                "setup",
                &url,
                "--fingerprint",
                fingerprint,
                "--match",
                "web-*",
                "--match",
                "legacy-*",
                "--yes",
            ],
        )?
        .success()
        .map(drop)
}

/// A host that trusts the CA: installed by `eic-agent install` from the files of `eic-ca host-state`.
///
/// # Errors
/// When a step fails.
pub fn enrolled_host(lab: &Lab, ca: &Ca, name: &str) -> Result<Host> {
    enrolled(ca, lab.host(name))
}

/// The same of a host that is already described.
///
/// # Errors
/// When a step fails.
pub fn enrolled(ca: &Ca, host: HostBuilder) -> Result<Host> {
    host.tag("team", "web")
        .tag("eic:enrolled", "true")
        .trusting(ca, &[])
        .start()
}
