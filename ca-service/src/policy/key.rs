//! The condition keys: their names, their types, and which proof can carry them.
//! Sources: IAM user guide, "AWS global condition context keys"; Service Authorization Reference,
//! "Amazon EC2 Instance Connect"; `eic:` and `oidc:` keys are ours.

use std::fmt;

/// A condition key, parsed once at load. Names ignore case, tag keys and claim names too, as in IAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    OsUser,
    /// `aws:ResourceTag/…` and `ec2:ResourceTag/…`, the tag key as written.
    ResourceTag(String),
    PrincipalTag(String),
    /// `oidc:…`, the claim as written.
    Claim(String),
    SourceIp,
    VpcSourceIp,
    PrincipalArn,
    PrincipalAccount,
    PrincipalType,
    PrincipalOrgId,
    UserId,
    UserName,
    RequestedRegion,
    ResourceAccount,
    CurrentTime,
    EpochTime,
    TokenIssueTime,
    SecureTransport,
    MfaPresent,
    MfaAge,
    TtlSeconds,
    ForceCommand,
    SourceAddress,
    Extensions,
    Fleet,
    Reason,
    ApprovedBy,
    /// `eic:KeyType`
    CertifiedType,
    NameAttested,
    RemotePort,
    PrivateIpAddress,
    MaxTunnelDuration,
    /// A global key that no request of ours carries, or that no proof of ours shows.
    Foreign(&'static Foreign),
}

/// What a key's value is, for the choice of operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text of a known meaning.
    Text,
    /// Text that others define: tags and claims. Any operator may read it.
    Free,
    Number,
    Date,
    Bool,
    Address,
    Arn,
}

/// A global key that only the table below knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    name: &'static str,
    kind: Kind,
    several: bool,
    pub(super) answer: Answer,
}

/// What every request says of a foreign key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// AWS could know it; neither GetCallerIdentity nor a web identity token shows it.
    Unknowable,
    /// AWS would leave it out of a direct call of this kind.
    Absent,
    /// AWS would say false for a direct call by a principal of an account.
    False,
}

/// The way in which a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A signed GetCallerIdentity.
    AwsSts,
    /// A token of sts:GetWebIdentityToken.
    WebIdentity,
    /// A token of another OpenID Connect issuer.
    Oidc,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwsSts => "aws-sts",
            Self::WebIdentity => "web-identity",
            Self::Oidc => "oidc",
        })
    }
}

impl Key {
    /// The key of that name; none when it is not one that we know.
    pub(super) fn parse(name: &str) -> Option<Self> {
        fixed(name)
            .or_else(|| prefixed(name))
            .or_else(|| foreign(name).map(Self::Foreign))
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::ResourceTag(_) | Self::PrincipalTag(_) | Self::Claim(_) => Kind::Free,
            Self::SourceIp | Self::VpcSourceIp | Self::SourceAddress | Self::PrivateIpAddress => {
                Kind::Address
            }
            Self::PrincipalArn => Kind::Arn,
            Self::CurrentTime | Self::EpochTime | Self::TokenIssueTime => Kind::Date,
            Self::SecureTransport | Self::MfaPresent | Self::NameAttested => Kind::Bool,
            Self::MfaAge | Self::TtlSeconds | Self::RemotePort | Self::MaxTunnelDuration => {
                Kind::Number
            }
            Self::Foreign(foreign) => foreign.kind,
            _ => Kind::Text,
        }
    }

    /// Whether a request may carry several values; such a key cannot be a variable.
    pub(super) fn has_several_values(&self) -> bool {
        match self {
            Self::Extensions | Self::SourceAddress => true,
            Self::Foreign(foreign) => foreign.several,
            _ => false,
        }
    }

    /// Whether the caller chose the value with the request, so that a denial may speak of it (design: denials).
    pub(super) fn is_chosen_by_caller(&self) -> bool {
        matches!(
            self,
            Self::OsUser
                | Self::TtlSeconds
                | Self::ForceCommand
                | Self::SourceAddress
                | Self::Extensions
                | Self::Fleet
                | Self::Reason
                | Self::ApprovedBy
                | Self::CertifiedType
        )
    }

    /// Whether a proof of that kind can tell the key, at least for some callers.
    pub(super) fn is_carried_by(&self, proof: Proof) -> bool {
        match self {
            Self::PrincipalTag(_) | Self::PrincipalOrgId => proof != Proof::AwsSts,
            // Only a long-term key is known to have neither; see `Caller::with_long_term_key`.
            Self::MfaPresent | Self::MfaAge | Self::TokenIssueTime => proof == Proof::Oidc,
            Self::Foreign(foreign) => foreign.answer != Answer::Unknowable,
            _ => true,
        }
    }

    /// Whether this key says who the caller is.
    pub(super) fn identifies_caller(&self) -> bool {
        matches!(
            self,
            Self::PrincipalArn
                | Self::PrincipalAccount
                | Self::PrincipalOrgId
                | Self::PrincipalTag(_)
                | Self::UserId
                | Self::UserName
                | Self::Claim(_)
        )
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResourceTag(tag) => write!(f, "aws:ResourceTag/{tag}"),
            Self::PrincipalTag(tag) => write!(f, "aws:PrincipalTag/{tag}"),
            Self::Claim(claim) => write!(f, "oidc:{claim}"),
            Self::Foreign(foreign) => f.write_str(foreign.name),
            fixed => f.write_str(
                FIXED
                    .iter()
                    .find(|(_, key)| key == fixed)
                    .map_or("?", |(name, _)| name),
            ),
        }
    }
}

/// Equal without regard to case, in every script.
pub(super) fn same_name(left: &str, right: &str) -> bool {
    left.chars()
        .flat_map(char::to_lowercase)
        .eq(right.chars().flat_map(char::to_lowercase))
}

fn fixed(name: &str) -> Option<Key> {
    FIXED
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, key)| key.clone())
}

fn prefixed(name: &str) -> Option<Key> {
    let after = |prefix: &str| {
        let (head, rest) = name.split_at_checked(prefix.len())?;
        let valid =
            (1..=MAX_TAG_CHARS).contains(&rest.chars().count()) && !rest.contains(['*', '?', '$']);
        (head.eq_ignore_ascii_case(prefix) && valid).then(|| rest.to_owned())
    };
    after("aws:ResourceTag/")
        .or_else(|| after("ec2:ResourceTag/"))
        .map(Key::ResourceTag)
        .or_else(|| after("aws:PrincipalTag/").map(Key::PrincipalTag))
        .or_else(|| after("oidc:").map(Key::Claim))
}

fn foreign(name: &str) -> Option<&'static Foreign> {
    FOREIGN
        .iter()
        .find(|known| known.name.eq_ignore_ascii_case(name))
}

/// Longest tag key (EC2 user guide, "Tag restrictions": 128 characters).
const MAX_TAG_CHARS: usize = 128;

const FIXED: [(&str, Key); 29] = [
    ("ec2:osuser", Key::OsUser),
    ("aws:SourceIp", Key::SourceIp),
    ("aws:VpcSourceIp", Key::VpcSourceIp),
    ("aws:PrincipalArn", Key::PrincipalArn),
    ("aws:PrincipalAccount", Key::PrincipalAccount),
    ("aws:PrincipalType", Key::PrincipalType),
    ("aws:PrincipalOrgID", Key::PrincipalOrgId),
    ("aws:userid", Key::UserId),
    ("aws:username", Key::UserName),
    ("aws:RequestedRegion", Key::RequestedRegion),
    ("aws:ResourceAccount", Key::ResourceAccount),
    ("aws:CurrentTime", Key::CurrentTime),
    ("aws:EpochTime", Key::EpochTime),
    ("aws:TokenIssueTime", Key::TokenIssueTime),
    ("aws:SecureTransport", Key::SecureTransport),
    ("aws:MultiFactorAuthPresent", Key::MfaPresent),
    ("aws:MultiFactorAuthAge", Key::MfaAge),
    ("eic:TtlSeconds", Key::TtlSeconds),
    ("eic:ForceCommand", Key::ForceCommand),
    ("eic:SourceAddress", Key::SourceAddress),
    ("eic:Extensions", Key::Extensions),
    ("eic:Fleet", Key::Fleet),
    ("eic:Reason", Key::Reason),
    ("eic:ApprovedBy", Key::ApprovedBy),
    ("eic:KeyType", Key::CertifiedType),
    ("eic:NameAttested", Key::NameAttested),
    ("ec2-instance-connect:remotePort", Key::RemotePort),
    (
        "ec2-instance-connect:privateIpAddress",
        Key::PrivateIpAddress,
    ),
    (
        "ec2-instance-connect:maxTunnelDuration",
        Key::MaxTunnelDuration,
    ),
];

const fn entry(name: &'static str, kind: Kind, answer: Answer) -> Foreign {
    Foreign {
        name,
        kind,
        several: false,
        answer,
    }
}

const fn several(name: &'static str, kind: Kind, answer: Answer) -> Foreign {
    Foreign {
        name,
        kind,
        several: true,
        answer,
    }
}

static FOREIGN: [Foreign; 26] = [
    several("aws:PrincipalOrgPaths", Kind::Text, Answer::Unknowable),
    entry("aws:SourceIdentity", Kind::Text, Answer::Unknowable),
    entry("aws:FederatedProvider", Kind::Text, Answer::Unknowable),
    entry("aws:AssumedRoot", Kind::Bool, Answer::Unknowable),
    entry("aws:SourceVpc", Kind::Text, Answer::Unknowable),
    entry("aws:SourceVpce", Kind::Text, Answer::Unknowable),
    entry("aws:UserAgent", Kind::Text, Answer::Unknowable),
    entry("aws:Referer", Kind::Text, Answer::Unknowable),
    entry("aws:ResourceOrgID", Kind::Text, Answer::Unknowable),
    several("aws:ResourceOrgPaths", Kind::Text, Answer::Unknowable),
    entry("aws:Ec2InstanceSourceVpc", Kind::Text, Answer::Unknowable),
    entry(
        "aws:Ec2InstanceSourcePrivateIPv4",
        Kind::Address,
        Answer::Unknowable,
    ),
    entry("ec2:SourceInstanceARN", Kind::Arn, Answer::Unknowable),
    entry("ec2:RoleDelivery", Kind::Number, Answer::Unknowable),
    entry("aws:ViaAWSService", Kind::Bool, Answer::False),
    entry("aws:PrincipalIsAWSService", Kind::Bool, Answer::False),
    entry("aws:PrincipalServiceName", Kind::Text, Answer::Absent),
    several("aws:PrincipalServiceNamesList", Kind::Text, Answer::Absent),
    several("aws:CalledVia", Kind::Text, Answer::Absent),
    entry("aws:CalledViaFirst", Kind::Text, Answer::Absent),
    entry("aws:CalledViaLast", Kind::Text, Answer::Absent),
    entry("aws:SourceArn", Kind::Arn, Answer::Absent),
    entry("aws:SourceAccount", Kind::Text, Answer::Absent),
    entry("aws:SourceOrgID", Kind::Text, Answer::Absent),
    several("aws:SourceOrgPaths", Kind::Text, Answer::Absent),
    several("aws:TagKeys", Kind::Text, Answer::Absent),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_near_misses_are_no_keys() {
        // C-03
        for bad in [
            "",
            "eic:Foo",
            "aws:SourceIP ",
            "SourceIp",
            "aws:",
            "oidc:",
            "aws:ResourceTag/",
            "aws:ResourceTag",
            "ec2:osuser/x",
            "s3:prefix",
            "aws:PrincipalTag/a*",
            "aws:ResourceTag/${aws:username}",
            "ec2:InstanceType",
            "aws:RequestTag/x",
        ] {
            assert_eq!(Key::parse(bad), None, "{bad:?}");
        }
        assert_eq!(
            Key::parse(&format!("aws:ResourceTag/{}", "x".repeat(129))),
            None
        );
    }

    #[test]
    fn names_ignore_case_and_show_as_documented() {
        assert_eq!(Key::parse("AWS:sourceip"), Some(Key::SourceIp));
        assert_eq!(
            Key::parse("AWS:RESOURCETAG/Team"),
            Some(Key::ResourceTag("Team".into()))
        );
        assert_eq!(
            Key::parse("ec2:ResourceTag/Team"),
            Key::parse("aws:ResourceTag/Team")
        );
        for (name, key) in &FIXED {
            assert_eq!(key.to_string(), *name);
            assert_eq!(Key::parse(name).as_ref(), Some(key));
        }
        for known in &FOREIGN {
            assert_eq!(Key::parse(known.name), Some(Key::Foreign(known)));
        }
        assert!(same_name("Straße-É", "straße-é"));
        assert!(!same_name("a", "ab"));
    }
}
