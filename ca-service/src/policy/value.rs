//! The values that a request has for a condition key, typed as the key is.

use std::borrow::Cow;
use std::net::IpAddr;

use super::caller::{Caller, HiddenClaims, PrincipalArn, Who};
use super::date;
use super::key::{Answer, Key, same_name};
use super::network::{Cidr, Source};
use super::request::{Fact, Request, Tags};
use super::settings::Settings;

/// One value of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Text(&'a str),
    /// A role's ARN whose path is not known.
    RoleArn {
        prefix: &'a str,
        name: &'a str,
    },
    Number(u64),
    /// Unix seconds, as ISO 8601 when compared as text.
    Time(u64),
    /// Unix seconds, as digits when compared as text.
    Epoch(u64),
    Bool(bool),
    Address(IpAddr),
    Network(Cidr),
}

impl<'a> Value<'a> {
    /// The text that String operators and variables see; none where a part of it is not known.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        Some(match *self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::RoleArn { .. } => return None,
            Self::Number(number) | Self::Epoch(number) => Cow::Owned(number.to_string()),
            Self::Time(seconds) => Cow::Owned(date::iso(seconds)),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Address(address) => Cow::Owned(address.to_string()),
            Self::Network(network) => Cow::Owned(network.to_string()),
        })
    }
}

/// All that a request has for a key.
#[derive(Clone, Debug)]
pub(super) enum Found<'a> {
    Absent,
    Unknowable,
    One(Value<'a>),
    Many(Vec<Value<'a>>),
}

/// A request together with the settings that fill in its defaults.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) settings: &'a Settings,
}

impl<'a> Context<'a> {
    /// Looks a key up.
    pub(super) fn find(&self, key: &Key) -> Found<'a> {
        match key {
            Key::ResourceTag(tag) => tag_value(self.request.resource.tags(), tag),
            Key::SourceIp | Key::VpcSourceIp => self.source(key),
            Key::RequestedRegion => text(self.request.resource.region()),
            Key::ResourceAccount => self.resource_account(),
            Key::CurrentTime => Found::One(Value::Time(self.request.now)),
            Key::EpochTime => Found::One(Value::Epoch(self.request.now)),
            Key::SecureTransport => Found::One(Value::Bool(self.request.secure_transport)),
            Key::Foreign(foreign) => match foreign.answer {
                Answer::Unknowable => Found::Unknowable,
                Answer::Absent => Found::Absent,
                Answer::False => Found::One(Value::Bool(false)),
            },
            Key::RemotePort | Key::PrivateIpAddress | Key::MaxTunnelDuration => self.tunnel(key),
            _ if key.is_chosen_by_caller() => self.asked(key),
            _ => of_caller(self.request.caller, key),
        }
    }

    fn source(&self, key: &Key) -> Found<'a> {
        match (self.request.source, key) {
            (Source::Public(address), Key::SourceIp)
            | (Source::Private(address), Key::VpcSourceIp) => Found::One(Value::Address(address)),
            _ => Found::Absent,
        }
    }

    /// Present when the resource is in one account, as any AWS resource is.
    fn resource_account(&self) -> Found<'a> {
        match self.request.resource.accounts() {
            [account] => Found::One(Value::Text(account.as_str())),
            [] => Found::Absent,
            _ => Found::Unknowable,
        }
    }

    fn asked(&self, key: &Key) -> Found<'a> {
        let asked = self.request.asked;
        let issues = self.request.action.issues_user_certificate();
        match key {
            Key::OsUser => text(asked.os_user.map(|user| user.as_str())),
            Key::TtlSeconds => number(self.settings.requested_ttl(self.request)),
            Key::Extensions if issues => {
                let set = self.settings.requested_extensions(self.request);
                Found::Many(
                    set.iter()
                        .map(|extension| Value::Text(extension.as_str()))
                        .collect(),
                )
            }
            Key::ForceCommand => text(asked.force_command),
            Key::SourceAddress => several(
                asked
                    .source_address
                    .iter()
                    .map(|cidr| Value::Network(*cidr)),
            ),
            Key::Fleet => text(asked.fleet.map(|fleet| fleet.as_str())),
            Key::Reason => text(asked.reason),
            Key::ApprovedBy => text(asked.approved_by),
            Key::CertifiedType => text(asked.key_type),
            _ => Found::Absent,
        }
    }

    fn tunnel(&self, key: &Key) -> Found<'a> {
        let Some(tunnel) = self.request.asked.tunnel else {
            return Found::Absent;
        };
        match key {
            Key::RemotePort => Found::One(Value::Number(tunnel.remote_port.into())),
            Key::PrivateIpAddress => Found::One(Value::Address(tunnel.private_ip)),
            _ => number(tunnel.max_duration),
        }
    }
}

fn of_caller<'a>(caller: &'a Caller, key: &Key) -> Found<'a> {
    match key {
        Key::PrincipalTag(tag) => tag_value(caller.tags.as_ref(), tag),
        Key::Claim(claim) => claim_values(caller, claim),
        Key::PrincipalOrgId => fact(caller.organization.as_ref(), |id| Value::Text(id)),
        Key::MfaPresent => fact(caller.mfa, Value::Bool),
        Key::MfaAge => fact(caller.mfa_age, Value::Number),
        Key::TokenIssueTime => fact(caller.token_issued, Value::Time),
        Key::NameAttested => Found::One(Value::Bool(caller.name_attested)),
        _ => of_aws_caller(caller, key),
    }
}

fn of_aws_caller<'a>(caller: &'a Caller, key: &Key) -> Found<'a> {
    let Some(aws) = caller.as_aws() else {
        return Found::Absent;
    };
    match key {
        Key::PrincipalArn => Found::One(match &aws.principal_arn {
            PrincipalArn::Known(arn) => Value::Text(arn),
            PrincipalArn::UnknownPath { prefix, name } => Value::RoleArn { prefix, name },
        }),
        Key::PrincipalAccount => Found::One(Value::Text(aws.arn.account().as_str())),
        Key::PrincipalType => Found::One(Value::Text(aws.arn.principal_type())),
        Key::UserId => Found::One(Value::Text(&aws.user_id)),
        Key::UserName => text(aws.user_name()),
        _ => Found::Absent,
    }
}

/// Tag keys ignore case here. Two tags that differ only by case are no answer at all:
/// whoever may tag could otherwise choose which of them counts.
fn tag_value<'a>(tags: Fact<&'a Tags>, wanted: &str) -> Found<'a> {
    let tags = match tags {
        Fact::Present(tags) => tags,
        Fact::Absent => return Found::Absent,
        Fact::Unknowable => return Found::Unknowable,
    };
    let mut hits = tags
        .iter()
        .filter(|(name, _)| same_name(name, wanted))
        .map(|(_, value)| value);
    match (hits.next(), hits.next()) {
        (None, _) => Found::Absent,
        (Some(value), None) => Found::One(Value::Text(value)),
        (Some(_), Some(_)) => Found::Unknowable,
    }
}

fn claim_values<'a>(caller: &'a Caller, wanted: &str) -> Found<'a> {
    let issuer_and_subject = match (&caller.who, wanted) {
        (Who::Oidc { issuer, .. }, _) if same_name(wanted, "iss") => Some(issuer),
        (Who::Oidc { subject, .. }, _) if same_name(wanted, "sub") => Some(subject),
        _ => None,
    };
    if let Some(value) = issuer_and_subject {
        return Found::One(Value::Text(value));
    }
    let is_hidden = match &caller.hidden {
        HiddenClaims::None => false,
        HiddenClaims::These(names) => names.iter().any(|name| same_name(name, wanted)),
        HiddenClaims::Others => !caller.claims.keys().any(|name| same_name(name, wanted)),
    };
    if is_hidden {
        return Found::Unknowable;
    }
    let mut hits = caller
        .claims
        .iter()
        .filter(|(name, _)| same_name(name, wanted))
        .map(|(_, values)| values);
    match (hits.next(), hits.next()) {
        (None, _) => Found::Absent,
        (Some(values), None) => several(values.iter().map(|value| Value::Text(value))),
        (Some(_), Some(_)) => Found::Unknowable,
    }
}

fn fact<'a, T>(fact: Fact<T>, value: impl Fn(T) -> Value<'a>) -> Found<'a> {
    match fact {
        Fact::Present(known) => Found::One(value(known)),
        Fact::Absent => Found::Absent,
        Fact::Unknowable => Found::Unknowable,
    }
}

fn text(value: Option<&str>) -> Found<'_> {
    value.map_or(Found::Absent, |text| Found::One(Value::Text(text)))
}

fn number<'a>(value: Option<u64>) -> Found<'a> {
    value.map_or(Found::Absent, |number| Found::One(Value::Number(number)))
}

/// A claim with an empty list is as good as none; one value is a single value.
fn several<'a>(values: impl Iterator<Item = Value<'a>>) -> Found<'a> {
    let values: Vec<_> = values.collect();
    match values.as_slice() {
        [] => Found::Absent,
        [one] => Found::One(*one),
        _ => Found::Many(values),
    }
}
