//! Who a statement is about: the `Principal` and `NotPrincipal` elements, and attachments.
//! Kinds of principals never match each other: a user named like a role is not that role.

use eic_protocol::arn::{AccountId, Arn, Identity, Partition};

use super::caller::{AwsCaller, Caller, NamedOnly, PrincipalArn, Who};
use super::glob::{self, Symbol};
use super::truth::Truth;
use crate::web_token::issuer::Issuer;

/// One principal that a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Principal {
    /// `*`
    Everyone,
    /// `111122223333` or `arn:aws:iam::111122223333:root`; both mean the account, as in IAM.
    Account {
        partition: Option<Partition>,
        account: AccountId,
    },
    /// A role with its path; its sessions match.
    Role {
        partition: Partition,
        account: AccountId,
        path: String,
        name: String,
    },
    /// A user, a role session or a federated user, by its ARN.
    Exact(String),
    /// A unique id, `AIDA…` or `AROA…`.
    UniqueId(String),
    /// The issuer of an OIDC caller, without `https://`.
    Issuer(String),
}

/// The text names no principal that IAM knows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PrincipalError {
    #[error(
        "`{0}`: a principal takes no wildcard but `*` alone; use `*` and a condition on aws:PrincipalArn"
    )]
    Wildcard(String),
    #[error(
        "`{0}` is not an account, an IAM or STS ARN, a unique id, or an issuer such as idp.example"
    )]
    Form(String),
}

impl Principal {
    /// A value of `"AWS": …`.
    pub(super) fn parse_aws(text: &str) -> Result<Self, PrincipalError> {
        if text == "*" {
            return Ok(Self::Everyone);
        }
        if text.contains(['*', '?']) {
            return Err(PrincipalError::Wildcard(text.to_owned()));
        }
        if let Ok(account) = text.parse() {
            return Ok(Self::Account {
                partition: None,
                account,
            });
        }
        if is_unique_id(text) {
            return Ok(Self::UniqueId(text.to_owned()));
        }
        from_arn(text).ok_or_else(|| PrincipalError::Form(text.to_owned()))
    }

    /// A value of `"Federated": …`: an issuer, with or without `https://`, or the ARN of its provider in IAM. None: a SAML
    /// provider, which no caller here has. A Deny must not be lost by the way in which it names an issuer.
    pub(super) fn parse_federated(text: &str) -> Result<Option<Self>, PrincipalError> {
        let form = || PrincipalError::Form(text.to_owned());
        let issuer = match text.strip_prefix("arn:") {
            None => text.strip_prefix("https://").unwrap_or(text),
            Some(arn) => match arn.split_once(":oidc-provider/") {
                Some((_, issuer)) => issuer,
                None if arn.contains(":saml-provider/") => return Ok(None),
                None => return Err(form()),
            },
        };
        let known: Issuer = format!("https://{issuer}").parse().map_err(|_| form())?;
        let known = known.as_str().strip_prefix("https://").unwrap_or_default();
        Ok(Some(Self::Issuer(known.to_owned())))
    }

    /// Whether it covers many callers at once; root and federated users are then left out of an Allow.
    pub(super) fn is_broad(&self) -> bool {
        matches!(self, Self::Everyone | Self::Account { .. })
    }

    /// Whether the caller is that principal.
    pub(super) fn covers(&self, caller: &Caller) -> Truth {
        match (self, &caller.who) {
            (Self::Everyone, _) => Truth::Yes,
            (Self::Issuer(own), Who::Oidc { issuer, .. }) => {
                (issuer.strip_prefix("https://") == Some(own.as_str())).into()
            }
            (_, Who::Aws(aws)) => self.covers_aws(aws),
            _ => Truth::No,
        }
    }

    fn covers_aws(&self, caller: &AwsCaller) -> Truth {
        match self {
            Self::Account { partition, account } => {
                let same = partition.is_none_or(|own| own == caller.arn.partition());
                (same && account == caller.arn.account()).into()
            }
            Self::Exact(arn) => (*arn == caller.session_arn).into(),
            Self::UniqueId(id) => (id == caller.unique_id()).into(),
            Self::Role {
                partition,
                account,
                path,
                name,
            } => {
                let same = *partition == caller.arn.partition() && account == caller.arn.account();
                if same {
                    covers_role(caller, path, name)
                } else {
                    Truth::No
                }
            }
            Self::Everyone | Self::Issuer(_) => Truth::No,
        }
    }
}

/// A role without a path in the policy matches by name: role names are unique in an account.
/// One with a path needs the caller's path, which a GetCallerIdentity answer does not have.
fn covers_role(caller: &AwsCaller, path: &str, name: &str) -> Truth {
    let Identity::AssumedRole { role, .. } = caller.arn.identity() else {
        return Truth::No;
    };
    if role != name {
        return Truth::No;
    }
    match &caller.principal_arn {
        PrincipalArn::UnknownPath { .. } if path == "/" => Truth::Yes,
        PrincipalArn::UnknownPath { .. } => Truth::Unknown,
        PrincipalArn::Known(arn) => arn.ends_with(&format!(":role{path}{name}")).into(),
    }
}

/// Whom a statement is about.
#[derive(Clone, Debug)]
pub(super) enum PrincipalRule {
    /// `Principal`
    Any(Vec<Principal>),
    /// `NotPrincipal`, only with Deny.
    Not(Vec<Principal>),
    /// The statement's document is attached to these.
    Attached(AttachedTo),
}

impl PrincipalRule {
    /// For a Deny: whether the statement is about the caller.
    pub(super) fn covers(&self, caller: &Caller) -> Truth {
        match self {
            Self::Any(principals) => Truth::any(principals.iter().map(|own| own.covers(caller))),
            Self::Not(principals) => !is_excepted(principals, caller),
            Self::Attached(to) => to.covers(caller),
        }
    }

    /// For an Allow: broad principals leave out the kinds of callers that must be named.
    pub(super) fn covers_for_allow(&self, caller: &Caller, named: &[NamedOnly]) -> Truth {
        let left_out = caller
            .needs_naming()
            .is_some_and(|kind| !named.contains(&kind));
        match self {
            Self::Any(principals) => {
                let counted = principals
                    .iter()
                    .filter(|own| !(left_out && own.is_broad()));
                Truth::any(counted.map(|own| own.covers(caller)))
            }
            Self::Attached(to) if left_out && to.is_broad() => Truth::No,
            other => other.covers(caller),
        }
    }
}

/// IAM user guide, "NotPrincipal with Deny": the account must be excepted too, and for a role session
/// the session, its role and the account; otherwise the Deny still applies.
fn is_excepted(principals: &[Principal], caller: &Caller) -> Truth {
    let names = |wanted: fn(&Principal) -> bool| {
        Truth::any(
            principals
                .iter()
                .filter(|own| wanted(own))
                .map(|own| own.covers(caller)),
        )
    };
    let Some(aws) = caller.as_aws() else {
        return names(|own| matches!(own, Principal::Issuer(_)));
    };
    let account = names(|own| matches!(own, Principal::Account { .. }));
    let itself = names(|own| matches!(own, Principal::Exact(_) | Principal::UniqueId(_)));
    match aws.arn.identity() {
        Identity::Root => account,
        Identity::User { .. } | Identity::FederatedUser { .. } => account.and(itself),
        Identity::AssumedRole { .. } => account.and(itself).and(names(|own| {
            matches!(own, Principal::Role { .. } | Principal::UniqueId(_))
        })),
    }
}

/// The callers that an identity policy is attached to, and the accounts that it reaches.
#[derive(Clone, Debug)]
pub(super) struct AttachedTo {
    target: Target,
    accounts: Vec<AccountId>,
}

#[derive(Clone, Debug)]
enum Target {
    Account(AccountId),
    UniqueId(String),
    /// Against `aws:PrincipalArn`: users and roles.
    PrincipalArn(Box<[Symbol]>),
    /// Against the ARN of GetCallerIdentity: root, role sessions and federated users.
    SessionArn(Box<[Symbol]>),
    Oidc {
        issuer: String,
        subject: Box<[Symbol]>,
    },
}

/// The attachment names no set of callers that can be meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AttachmentError {
    #[error(
        "`{0}` is not an account, a unique id, or an ARN such as arn:aws:iam::111122223333:role/Dev*"
    )]
    Form(String),
    #[error(
        "`{0}`: only the name, after `role/`, `user/`, `assumed-role/` or `federated-user/`, may hold wildcards"
    )]
    Wildcard(String),
    #[error("`{0}` is not an issuer such as https://issuer.example, without wildcards")]
    Issuer(String),
    #[error(
        "`{0}`: a `*` in a subject must follow `:` or `/`, or it also covers every longer name"
    )]
    Subject(String),
    #[error("an OIDC caller has no account of its own: list `accounts`")]
    NoAccounts,
}

impl AttachedTo {
    /// Callers with AWS identities.
    pub(super) fn aws(principal: &str, accounts: Vec<AccountId>) -> Result<Self, AttachmentError> {
        let target = if let Ok(account) = principal.parse() {
            Target::Account(account)
        } else if is_unique_id(principal) {
            Target::UniqueId(principal.to_owned())
        } else {
            arn_target(principal)?
        };
        Ok(Self { target, accounts })
    }

    /// Callers of an OIDC issuer whose subject fits the pattern.
    pub(super) fn oidc(
        issuer: &str,
        subject: &str,
        accounts: Vec<AccountId>,
    ) -> Result<Self, AttachmentError> {
        if accounts.is_empty() {
            return Err(AttachmentError::NoAccounts);
        }
        if !issuer.starts_with("https://") || issuer.contains(['*', '?']) {
            return Err(AttachmentError::Issuer(issuer.to_owned()));
        }
        if has_open_star(subject) {
            return Err(AttachmentError::Subject(subject.to_owned()));
        }
        let target = Target::Oidc {
            issuer: issuer.to_owned(),
            subject: glob::compile(subject),
        };
        Ok(Self { target, accounts })
    }

    pub(super) fn is_broad(&self) -> bool {
        matches!(self.target, Target::Account(_))
    }

    /// Whether the pattern needs the path of a role to be known.
    pub(super) fn turns_on_role_path(&self) -> bool {
        match &self.target {
            Target::PrincipalArn(pattern) => super::check::turns_on_role_path(&glob::text(pattern)),
            _ => false,
        }
    }

    fn covers(&self, caller: &Caller) -> Truth {
        match (&self.target, &caller.who) {
            (
                Target::Oidc {
                    issuer: own,
                    subject: pattern,
                },
                Who::Oidc { issuer, subject },
            ) => (own == issuer && glob::matches(pattern, subject)).into(),
            (Target::Account(account), Who::Aws(aws)) => (account == aws.arn.account()).into(),
            (Target::UniqueId(id), Who::Aws(aws)) => (id == aws.unique_id()).into(),
            (Target::SessionArn(pattern), Who::Aws(aws)) => {
                glob::matches(pattern, &aws.session_arn).into()
            }
            (Target::PrincipalArn(pattern), Who::Aws(aws)) => match &aws.principal_arn {
                PrincipalArn::Known(arn) => glob::matches(pattern, arn).into(),
                PrincipalArn::UnknownPath { prefix, name } => {
                    glob::matches_unknown_path(pattern, prefix, name)
                }
            },
            _ => Truth::No,
        }
    }

    /// Whether an Allow of the document reaches a resource of these accounts: the caller's own, and the listed ones.
    pub(super) fn reaches(&self, caller: &Caller, accounts: &[&AccountId]) -> bool {
        let own = caller.as_aws().map(|aws| aws.arn.account());
        accounts
            .iter()
            .all(|account| own == Some(*account) || self.accounts.contains(account))
    }
}

/// A `*` that a longer sibling name would also satisfy (B-19): `repo:acme/app*` covers `repo:acme/app-evil`.
pub(super) fn has_open_star(pattern: &str) -> bool {
    let mut before = None;
    pattern.chars().any(|character| {
        let open = character == '*' && !matches!(before, Some(':' | '/'));
        before = Some(character);
        open
    })
}

fn arn_target(text: &str) -> Result<Target, AttachmentError> {
    let form = || AttachmentError::Form(text.to_owned());
    let fixed = text
        .find(['*', '?'])
        .map_or(text, |wildcard| text.get(..wildcard).unwrap_or(""));
    let mut parts = fixed.splitn(6, ':');
    let head: Vec<&str> = parts.by_ref().take(5).collect();
    let (&["arn", partition, service, "", account], Some(resource)) =
        (head.as_slice(), parts.next())
    else {
        return Err(if fixed == text {
            form()
        } else {
            AttachmentError::Wildcard(text.to_owned())
        });
    };
    if partition.parse::<Partition>().is_err() || account.parse::<AccountId>().is_err() {
        return Err(form());
    }
    let is = |kind: &str| {
        resource.starts_with(kind) && text.len() > fixed.len() - resource.len() + kind.len()
    };
    match service {
        "iam" if is("user/") || is("role/") => Ok(Target::PrincipalArn(glob::compile(text))),
        "iam" if resource == "root" && fixed == text => Ok(Target::SessionArn(glob::compile(text))),
        "sts" if is("assumed-role/") || is("federated-user/") => {
            Ok(Target::SessionArn(glob::compile(text)))
        }
        _ if fixed == text => Err(form()),
        _ => Err(AttachmentError::Wildcard(text.to_owned())),
    }
}

fn from_arn(text: &str) -> Option<Principal> {
    let arn: Arn = text.parse().ok()?;
    let account = arn.account.clone().filter(|_| arn.region.is_empty())?;
    match (arn.service.as_str(), arn.resource.split_once('/')) {
        ("iam", None) if arn.resource == "root" => Some(Principal::Account {
            partition: Some(arn.partition),
            account,
        }),
        ("iam", Some(("role", rest))) => {
            let (path, name) = rest
                .rsplit_once('/')
                .map_or(("/".to_owned(), rest), |(p, n)| (format!("/{p}/"), n));
            (!name.is_empty()).then(|| Principal::Role {
                partition: arn.partition,
                account,
                path,
                name: name.to_owned(),
            })
        }
        // A user, a session or a federated user: what GetCallerIdentity can answer.
        ("iam" | "sts", Some(_)) => text
            .parse::<eic_protocol::arn::CallerArn>()
            .ok()
            .map(|c| Principal::Exact(c.to_string())),
        _ => None,
    }
}

/// `AIDA…` of a user or `AROA…` of a role (IAM user guide, "Unique identifiers").
fn is_unique_id(text: &str) -> bool {
    let kind = text.starts_with("AIDA") || text.starts_with("AROA");
    let grammar = text
        .bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    kind && grammar && (16..=128).contains(&text.len())
}

#[cfg(test)]
mod tests;
