//! Amazon Resource Names: strict parsing, and the identities that GetCallerIdentity can answer.
//! A role's path is not in an assumed-role ARN: nothing here guesses it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::printable;

/// Longest ARN that AWS documents (IAM and STS reference: 2048 characters).
const MAX_LEN: usize = 2048;

/// `arn:partition:service:region:account:resource`, split but not interpreted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arn {
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: Partition,
    /// `iam`, `sts`, `ec2`, …
    pub service: String,
    /// Region, empty for global services.
    pub region: String,
    /// Account, where the service names one.
    pub account: Option<AccountId>,
    /// All that follows the fifth colon; it may hold colons.
    pub resource: String,
}

impl FromStr for Arn {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, InvalidArn> {
        parse_arn(text).ok_or_else(|| InvalidArn(printable(text)))
    }
}

fn parse_arn(text: &str) -> Option<Arn> {
    if text.len() > MAX_LEN || !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return None;
    }
    let mut parts = text.splitn(6, ':');
    if parts.next() != Some("arn") {
        return None;
    }
    let partition = parts.next()?.parse().ok()?;
    let service = parts
        .next()
        .filter(|s| !s.is_empty() && s.bytes().all(is_label))?
        .to_owned();
    let region = parts.next().filter(|r| r.bytes().all(is_label))?.to_owned();
    let account = match parts.next()? {
        "" => None,
        digits => Some(digits.parse().ok()?),
    };
    let resource = parts.next().filter(|r| !r.is_empty())?.to_owned();
    Some(Arn {
        partition,
        service,
        region,
        account,
        resource,
    })
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.account.as_ref().map_or("", AccountId::as_str);
        let Self {
            partition,
            service,
            region,
            resource,
            ..
        } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

/// An AWS partition: a separate set of accounts, endpoints and ARNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Partition {
    /// The commercial Regions.
    Aws,
    /// China.
    AwsCn,
    /// GovCloud (US).
    AwsUsGov,
}

impl Partition {
    /// The name as ARNs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
        }
    }
}

impl FromStr for Partition {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, InvalidArn> {
        [Self::Aws, Self::AwsCn, Self::AwsUsGov]
            .into_iter()
            .find(|p| p.as_str() == text)
            .ok_or_else(|| InvalidArn(printable(text)))
    }
}

impl TryFrom<String> for Partition {
    type Error = InvalidArn;

    fn try_from(text: String) -> Result<Self, InvalidArn> {
        text.parse()
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> Self {
        partition.as_str().to_owned()
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Twelve digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

impl AccountId {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, InvalidArn> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidArn(printable(text)))
        }
    }
}

impl TryFrom<String> for AccountId {
    type Error = InvalidArn;

    fn try_from(text: String) -> Result<Self, InvalidArn> {
        text.parse()
    }
}

impl From<AccountId> for String {
    fn from(account: AccountId) -> Self {
        account.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An identity that sts:GetCallerIdentity can answer. The kinds never compare equal to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CallerArn {
    partition: Partition,
    account: AccountId,
    identity: Identity,
}

/// Who, within an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// `:root`, the account's root user.
    Root,
    /// `user/[path/]name`.
    User {
        /// `/` or `/a/b/`.
        path: String,
        /// The user's name.
        name: String,
    },
    /// `assumed-role/role/session`: the session name is the caller's choice unless a trust policy pins it.
    AssumedRole {
        /// The role's name, without its path.
        role: String,
        /// The session's name.
        session: String,
    },
    /// `federated-user/name` (sts:GetFederationToken).
    FederatedUser {
        /// The name given to GetFederationToken.
        name: String,
    },
}

impl CallerArn {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Who, within the account.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// `aws:PrincipalType` as the IAM user guide gives it.
    #[must_use]
    pub fn principal_type(&self) -> &'static str {
        match self.identity {
            Identity::Root => "Account",
            Identity::User { .. } => "User",
            Identity::AssumedRole { .. } => "AssumedRole",
            Identity::FederatedUser { .. } => "FederatedUser",
        }
    }

    /// A short name for logs and key ids: `user/alice`, `role/Dev/alice@corp`, `federated-user/bob`, `root`.
    #[must_use]
    pub fn short(&self) -> String {
        match &self.identity {
            Identity::Root => "root".to_owned(),
            Identity::User { name, .. } => format!("user/{name}"),
            Identity::AssumedRole { role, session } => format!("role/{role}/{session}"),
            Identity::FederatedUser { name } => format!("federated-user/{name}"),
        }
    }

    /// Whether `user_id` is of the form that STS gives for this kind of identity.
    /// (IAM user guide, "Unique identifiers"; GetCallerIdentity API page.)
    #[must_use]
    pub fn agrees_with_user_id(&self, user_id: &str) -> bool {
        match &self.identity {
            Identity::Root => user_id == self.account.as_str(),
            Identity::User { .. } => is_unique_id(user_id, "AIDA"),
            Identity::AssumedRole { session, .. } => user_id
                .split_once(':')
                .is_some_and(|(id, name)| is_unique_id(id, "AROA") && name == session),
            Identity::FederatedUser { name } => user_id
                .split_once(':')
                .is_some_and(|(account, id)| account == self.account.as_str() && id == name),
        }
    }
}

fn is_unique_id(text: &str, prefix: &str) -> bool {
    let upper = text
        .bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    // 16 to 128 characters (IAM API reference); moto and AWS give 20 or 21.
    text.starts_with(prefix) && upper && (16..=128).contains(&text.len())
}

impl FromStr for CallerArn {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, InvalidArn> {
        text.parse::<Arn>()
            .ok()
            .and_then(|arn| caller(&arn))
            .ok_or_else(|| InvalidArn(printable(text)))
    }
}

fn caller(arn: &Arn) -> Option<CallerArn> {
    if !arn.region.is_empty() {
        return None;
    }
    let identity = match (arn.service.as_str(), arn.resource.as_str()) {
        ("iam", "root") => Identity::Root,
        ("iam", resource) => user(resource.strip_prefix("user/")?)?,
        ("sts", resource) => session(resource)?,
        _ => return None,
    };
    Some(CallerArn {
        partition: arn.partition,
        account: arn.account.clone()?,
        identity,
    })
}

fn user(rest: &str) -> Option<Identity> {
    let (path, name) = match rest.rsplit_once('/') {
        Some((path, name)) => (format!("/{path}/"), name),
        None => ("/".to_owned(), rest),
    };
    // IAM: a path is up to 512 printable characters, without an empty segment in the middle of it.
    let path_ok =
        path.len() <= 512 && !path.contains("//") && path.bytes().all(|b| b.is_ascii_graphic());
    (path_ok && is_name(name, 1, 64)).then(|| Identity::User {
        path,
        name: name.to_owned(),
    })
}

fn session(resource: &str) -> Option<Identity> {
    let mut parts = resource.split('/');
    let identity = match (parts.next()?, parts.next()?, parts.next()) {
        ("assumed-role", role, Some(session))
            if is_name(role, 1, 64) && is_name(session, 2, 64) =>
        {
            Identity::AssumedRole {
                role: role.to_owned(),
                session: session.to_owned(),
            }
        }
        ("federated-user", name, None) if is_name(name, 2, 32) => Identity::FederatedUser {
            name: name.to_owned(),
        },
        _ => return None,
    };
    parts.next().is_none().then_some(identity)
}

/// `[\w+=,.@-]`: IAM names and STS session names.
fn is_name(text: &str, min: usize, max: usize) -> bool {
    let grammar = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b));
    grammar && (min..=max).contains(&text.len())
}

impl fmt::Display for CallerArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            account,
            identity,
        } = self;
        match identity {
            Identity::Root => write!(f, "arn:{partition}:iam::{account}:root"),
            Identity::User { path, name } => {
                write!(f, "arn:{partition}:iam::{account}:user{path}{name}")
            }
            Identity::AssumedRole { role, session } => {
                write!(
                    f,
                    "arn:{partition}:sts::{account}:assumed-role/{role}/{session}"
                )
            }
            Identity::FederatedUser { name } => {
                write!(f, "arn:{partition}:sts::{account}:federated-user/{name}")
            }
        }
    }
}

impl TryFrom<String> for CallerArn {
    type Error = InvalidArn;

    fn try_from(text: String) -> Result<Self, InvalidArn> {
        text.parse()
    }
}

impl From<CallerArn> for String {
    fn from(arn: CallerArn) -> Self {
        arn.to_string()
    }
}

/// The text is not an ARN, an account or a partition of the expected form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid ARN, account or partition here")]
pub struct InvalidArn(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_caller_arns_are_refused_without_a_panic() {
        //
        for bad in [
            "",
            "arn",
            "arn:aws:iam::123456789012",
            "arn:aws:iam::123456789012:",
            "arn:aws:iam::12345678901:user/a",
            "arn:aws:iam::1234567890123:user/a",
            "arn:aws:iam::abcdefghijkl:user/a",
            "arn:aws:iam:::user/a",
            "arn:aws:iam:us-east-1:123456789012:user/a",
            "arn:aws:sts::123456789012:assumed-role/a",
            "arn:aws:sts::123456789012:assumed-role/a/b/c",
            "arn:aws:sts::123456789012:assumed-role/a/",
            "arn:aws:zz::123456789012:user/a",
            "arn:zz:iam::123456789012:user/a",
            "arn:aws:iam::123456789012:user/",
            "arn:aws:iam::123456789012:user//a",
            "arn:aws:iam::123456789012:user/a\0",
            "arn:aws:iam::123456789012:user/a\n",
            "arn:aws:sts::123456789012:root",
            "arn:aws:iam::123456789012:role/a",
            "arn:aws:iam::123456789012:root:x",
            "arn:aws:sts::123456789012:federated-user/a/b",
        ] {
            assert!(bad.parse::<CallerArn>().is_err(), "{bad:?}");
        }
        assert!(
            format!("arn:aws:iam::123456789012:user/{}", "a".repeat(4096))
                .parse::<CallerArn>()
                .is_err()
        );
    }

    #[test]
    fn kinds_of_identity_never_compare_equal() {
        // an IAM user named `role`, a federated user named like a role.
        let arns = [
            "arn:aws:iam::123456789012:user/Admin",
            "arn:aws:sts::123456789012:federated-user/Admin",
            "arn:aws:sts::123456789012:assumed-role/Admin/Admin",
            "arn:aws:iam::123456789012:root",
            "arn:aws:iam::123456789012:user/role/Admin",
        ];
        for (i, a) in arns.iter().enumerate() {
            for (j, b) in arns.iter().enumerate() {
                assert_eq!(a.parse::<CallerArn>() == b.parse::<CallerArn>(), i == j);
            }
        }
    }

    #[test]
    fn user_ids_of_another_kind_or_session_disagree() {
        let role: CallerArn = "arn:aws:sts::123456789012:assumed-role/Dev/alice@corp,x"
            .parse()
            .unwrap();
        assert!(role.agrees_with_user_id("AROA0123456789ABCDEF0:alice@corp,x"));
        assert!(!role.agrees_with_user_id("AROA0123456789ABCDEF0:bob"));
        assert!(!role.agrees_with_user_id("AIDA0123456789ABCDEF0"));
        let user: CallerArn = "arn:aws:iam::123456789012:user/a/b/alice".parse().unwrap();
        assert!(user.agrees_with_user_id("AIDA0123456789ABCDEF0"));
        assert!(!user.agrees_with_user_id("123456789012"));
        assert_eq!(user.to_string(), "arn:aws:iam::123456789012:user/a/b/alice");
    }
}
