//! Requests for tests, written as `name=value; name=value`. What is not said has a harmless default.

use std::net::IpAddr;

use eic_protocol::arn::{AccountId, CallerArn, Partition};
use eic_protocol::cert::options::Extension;
use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

use crate::policy::{
    Action, Asked, Caller, Cidr, Claims, ExtensionSet, Fact, Request, Resource, Settings, Source,
    Tags, Tunnel,
};

/// 2026-11-22T08:00:00Z.
pub(super) const NOW: u64 = 1_795_334_400;

/// Everything a request borrows.
pub(super) struct World {
    pub(super) caller: Caller,
    pub(super) action: Action,
    region: String,
    accounts: Vec<AccountId>,
    instance: InstanceId,
    fleet: Option<FleetName>,
    tags: Fact<Tags>,
    user: Option<OsUser>,
    ttl: Option<u64>,
    extensions: Option<ExtensionSet>,
    texts: Texts,
    ranges: Vec<Cidr>,
    tunnel: Option<Tunnel>,
    source: Source,
    tls: bool,
    now: u64,
    /// Settings that the policy is to be compiled with.
    pub(super) settings: Settings,
    /// The principal that the document is attached to, and its accounts.
    pub(super) attach: Option<String>,
    pub(super) attach_accounts: Vec<AccountId>,
    /// Whether an Allow for everyone stands beside.
    pub(super) everyone: bool,
}

#[derive(Default)]
struct Texts {
    command: Option<String>,
    reason: Option<String>,
    approved: Option<String>,
    key_type: Option<String>,
}

impl World {
    /// Parses the text; panics with the part that it does not know.
    pub(super) fn new(text: &str) -> Self {
        let pairs: Vec<(&str, &str)> = text
            .split("; ")
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .map(|p| p.split_once('=').unwrap_or((p, "")))
            .collect();
        let mut world = Self::default_for(&pairs);
        for (name, value) in pairs {
            world.set(name, value);
        }
        world
    }

    fn default_for(pairs: &[(&str, &str)]) -> Self {
        Self {
            caller: caller(pairs),
            action: Action::SendSshPublicKey,
            region: "us-east-1".into(),
            accounts: vec!["111122223333".parse().unwrap()],
            instance: "i-0123456789abcdef0".parse().unwrap(),
            fleet: None,
            tags: Fact::Present(Tags::new()),
            user: Some("ubuntu".parse().unwrap()),
            ttl: None,
            extensions: None,
            texts: Texts::default(),
            ranges: Vec::new(),
            tunnel: None,
            source: Source::of("203.0.113.9".parse().unwrap(), &[]),
            tls: true,
            now: NOW,
            settings: Settings::default(),
            attach: None,
            attach_accounts: Vec::new(),
            everyone: false,
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        if let Some(tag) = name.strip_prefix("tag.") {
            let Fact::Present(tags) = &mut self.tags else {
                panic!("tags are unknown")
            };
            tags.insert(tag.into(), value.into());
            return;
        }
        match name {
            "act" => {
                self.action = Action::ALL
                    .into_iter()
                    .find(|a| a.as_str() == value)
                    .unwrap()
            }
            "inst" => self.instance = value.parse().unwrap(),
            "racct" => self.accounts = vec![value.parse().unwrap()],
            "faccts" => self.accounts = value.split(',').map(|a| a.parse().unwrap()).collect(),
            "fleet" => self.fleet = Some(value.parse().unwrap()),
            "region" => self.region = value.into(),
            "tags" => self.tags = Fact::Unknowable,
            "os" => self.user = value.parse().ok(),
            "ttl" => self.ttl = Some(value.parse().unwrap()),
            "ext" => {
                self.extensions = Some(
                    value
                        .split(',')
                        .filter(|e| *e != "none")
                        .map(extension)
                        .collect(),
                )
            }
            "cmd" => self.texts.command = Some(value.into()),
            "reason" => self.texts.reason = Some(value.into()),
            "approved" => self.texts.approved = Some(value.into()),
            "ktype" => self.texts.key_type = Some(value.into()),
            "src" => self.ranges = value.split(',').map(|r| r.parse().unwrap()).collect(),
            "port" => self.tunnel().remote_port = value.parse().unwrap(),
            "tip" => self.tunnel().private_ip = value.parse().unwrap(),
            "dur" => self.tunnel().max_duration = Some(value.parse().unwrap()),
            "ip" => self.source = Source::of(value.parse().unwrap(), &[]),
            "tls" => self.tls = value == "true",
            "now" => self.now = value.parse().unwrap(),
            "uid0" => self.settings.uid0_names.push(value.parse().unwrap()),
            "whole" => self.settings.whole_account = true,
            "attach" => self.attach = Some(value.into()),
            "accounts" => {
                self.attach_accounts = value.split(',').map(|a| a.parse().unwrap()).collect()
            }
            "everyone" => self.everyone = true,
            _ => assert!(
                is_about_caller(name),
                "unknown name `{name}` in a test's request"
            ),
        }
    }

    /// The same request by a proof that shows nothing of tags, organization or session.
    pub(super) fn hide_facts(&mut self) {
        self.tags = Fact::Unknowable;
        self.caller.tags = Fact::Unknowable;
        self.caller.organization = Fact::Unknowable;
        self.caller.mfa = Fact::Unknowable;
        self.caller.mfa_age = Fact::Unknowable;
        self.caller.token_issued = Fact::Unknowable;
    }

    fn tunnel(&mut self) -> &mut Tunnel {
        let private_ip: IpAddr = "10.0.0.5".parse().unwrap();
        self.tunnel.get_or_insert(Tunnel {
            remote_port: 22,
            private_ip,
            max_duration: None,
        })
    }

    /// Calls with the request that borrows from this world.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Request<'_>) -> T) -> T {
        let resource = self.resource();
        let asked = Asked {
            os_user: self.user.as_ref(),
            ttl_seconds: self.ttl,
            extensions: self.extensions,
            force_command: self.texts.command.as_deref(),
            source_address: &self.ranges,
            fleet: self.fleet.as_ref(),
            reason: self.texts.reason.as_deref(),
            approved_by: self.texts.approved.as_deref(),
            key_type: self.texts.key_type.as_deref(),
            tunnel: self.tunnel,
        };
        question(&Request {
            caller: &self.caller,
            action: self.action,
            resource: &resource,
            asked: &asked,
            source: self.source,
            secure_transport: self.tls,
            now: self.now,
        })
    }

    fn resource(&self) -> Resource<'_> {
        let account = &self.accounts[0];
        let tags = self.tags.as_ref();
        match self.action {
            Action::IssueFleetCertificate => {
                Resource::fleet(Partition::Aws, self.fleet.as_ref().unwrap(), &self.accounts)
            }
            Action::Revoke | Action::ReadAudit | Action::ReadInventory | Action::Administer => {
                Resource::service(Partition::Aws)
            }
            Action::OpenTunnel => Resource::endpoint(
                Partition::Aws,
                &self.region,
                account,
                "eice-0123456789abcdef0",
                tags,
            ),
            Action::SendSshPublicKey | Action::IssueHostCertificate => {
                Resource::instance(Partition::Aws, &self.region, account, &self.instance, tags)
            }
        }
    }
}

fn is_about_caller(name: &str) -> bool {
    let known = [
        "user", "role", "path", "root", "fed", "oidc", "mfa", "org", "issued", "attested",
    ];
    known.contains(&name) || name.starts_with("ptag.") || name.starts_with("claim.")
}

fn extension(name: &str) -> Extension {
    name.parse()
        .unwrap_or_else(|_| panic!("no extension `{name}`"))
}

fn caller(pairs: &[(&str, &str)]) -> Caller {
    let get = |wanted: &str| {
        pairs
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| *value)
    };
    let prefixed = |prefix: &str| -> Vec<(String, String)> {
        let own = pairs
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value)));
        own.map(|(name, value)| (name.to_owned(), (*value).to_owned()))
            .collect()
    };
    if let Some((issuer, subject)) = get("oidc").and_then(|oidc| oidc.split_once(' ')) {
        let claims: Claims = prefixed("claim.")
            .into_iter()
            .map(|(name, values)| (name, values.split(',').map(str::to_owned).collect()))
            .collect();
        return Caller::oidc(issuer, subject, claims);
    }
    let mut caller = aws_caller(&get);
    let tags: Tags = prefixed("ptag.").into_iter().collect();
    if !tags.is_empty() {
        caller = caller.with_principal_tags(tags);
    }
    match get("org") {
        Some("absent") => caller = caller.with_organization(Fact::Absent),
        Some(id) => caller = caller.with_organization(Fact::Present(id.to_owned())),
        None => {}
    }
    if let Some(issued) = get("issued") {
        caller = caller.with_session(
            Fact::Unknowable,
            Fact::Unknowable,
            Fact::Present(issued.parse().unwrap()),
        );
    }
    if let Some(mfa) = get("mfa") {
        caller = caller.with_session(Fact::Present(mfa == "true"), Fact::Absent, Fact::Unknowable);
    }
    caller
}

fn aws_caller<'v>(get: &impl Fn(&str) -> Option<&'v str>) -> Caller {
    let arn = |text: String| -> CallerArn { text.parse().unwrap() };
    let attested = get("attested").is_some();
    if get("root").is_some() {
        return Caller::aws(
            arn("arn:aws:iam::111122223333:root".into()),
            "111122223333",
            None,
            attested,
        );
    }
    if let Some(name) = get("fed") {
        let id = format!("111122223333:{name}");
        return Caller::aws(
            arn(format!("arn:aws:sts::111122223333:federated-user/{name}")),
            &id,
            None,
            attested,
        );
    }
    if let Some(role) = get("role") {
        let session = role.split_once('/').unwrap().1;
        let id = format!("AROADEV00000000000001:{session}");
        return Caller::aws(
            arn(format!("arn:aws:sts::111122223333:assumed-role/{role}")),
            &id,
            get("path"),
            attested,
        );
    }
    let user = get("user").unwrap_or("alice").trim_start_matches('/');
    Caller::aws(
        arn(format!("arn:aws:iam::111122223333:user/{user}")),
        "AIDAALICE0000000000001",
        None,
        attested,
    )
    .with_long_term_key()
}
