//! Revoked callers: their names, and the snapshot in memory that every request is checked against.
//! The certificates that they have are in the revocation list (`trust`).

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use eic_protocol::arn::{AccountId, Arn, CallerArn, Identity, Partition};
use eic_protocol::text::printable;

use crate::caller::Caller;
use crate::web_token::issuer::Issuer;

/// Whom a revocation names. Paths are left out: an IAM name is unique in its account,
/// and a role's path is never part of what STS answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RevokedCaller {
    /// One identity: a user, one role session, a federated user, the root user.
    Identity(String),
    /// A role with all its sessions.
    Role(String),
    /// A unique id: `AIDA…`, or `AROA…` with all its sessions, or `AROA…:session`.
    UniqueId(String),
    /// The subject of an OpenID Connect issuer: `issuer#subject`.
    Subject(String),
}

impl RevokedCaller {
    /// Whether it names this one identity, and not a role with its sessions.
    #[must_use]
    pub fn is_just(&self, caller: &Caller) -> bool {
        match (self, caller.arn()) {
            (Self::Identity(name), Some(arn)) => *name == identity_key(arn),
            (Self::Subject(name), None) => name == caller.identity(),
            _ => false,
        }
    }

    /// One canonical text, as the store keeps it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Identity(text)
            | Self::Role(text)
            | Self::UniqueId(text)
            | Self::Subject(text) => text,
        }
    }
}

impl fmt::Display for RevokedCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RevokedCaller {
    type Err = NotRevocable;

    fn from_str(text: &str) -> Result<Self, NotRevocable> {
        let found = role(text).or_else(|| {
            text.parse()
                .ok()
                .map(|arn| Self::Identity(identity_key(&arn)))
        });
        found
            .or_else(|| unique_id(text))
            .or_else(|| subject(text))
            .ok_or_else(|| NotRevocable(printable(text)))
    }
}

/// `arn:aws:iam::<account>:role/[path/]name`.
fn role(text: &str) -> Option<RevokedCaller> {
    let arn: Arn = text.parse().ok()?;
    let name = arn.resource.strip_prefix("role/")?.rsplit('/').next()?;
    let grammar = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b));
    let sound =
        arn.service == "iam" && arn.region.is_empty() && grammar && (1..=64).contains(&name.len());
    let account = arn.account.filter(|_| sound)?;
    Some(RevokedCaller::Role(role_key(arn.partition, &account, name)))
}

fn role_key(partition: Partition, account: &AccountId, name: &str) -> String {
    format!("arn:{partition}:iam::{account}:role/{name}")
}

fn identity_key(arn: &CallerArn) -> String {
    match arn.identity() {
        Identity::User { name, .. } => {
            format!("arn:{}:iam::{}:user/{name}", arn.partition(), arn.account())
        }
        _ => arn.to_string(),
    }
}

fn unique_id(text: &str) -> Option<RevokedCaller> {
    let (id, session) = text
        .split_once(':')
        .map_or((text, None), |(id, session)| (id, Some(session)));
    let grammar = id
        .bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let known = id.starts_with("AROA") || (id.starts_with("AIDA") && session.is_none());
    let name = |s: &str| {
        s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
    };
    let sound = grammar
        && known
        && (16..=128).contains(&id.len())
        && session.is_none_or(|s| name(s) && !s.is_empty());
    sound.then(|| RevokedCaller::UniqueId(text.to_owned()))
}

/// An issuer has no `#`, so the first one ends it.
fn subject(text: &str) -> Option<RevokedCaller> {
    let (issuer, subject) = text.split_once('#')?;
    issuer.parse::<Issuer>().ok()?;
    let plain = subject.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    (plain && !subject.is_empty()).then(|| RevokedCaller::Subject(text.to_owned()))
}

/// A revocation as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whom.
    pub who: RevokedCaller,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When, in Unix seconds.
    pub at: u64,
}

/// The revoked callers as of now, shared by all who ask.
#[derive(Clone, Default)]
pub struct Revocations(Arc<ArcSwap<HashSet<String>>>);

impl Revocations {
    /// Whether this identity is revoked: by its ARN, its role, or its unique id.
    #[must_use]
    pub fn contains(&self, arn: &CallerArn, user_id: &str) -> bool {
        let set = self.0.load();
        if set.is_empty() {
            return false;
        }
        let role_id = user_id.split_once(':').map_or(user_id, |(id, _)| id);
        let by_role = match arn.identity() {
            Identity::AssumedRole { role, .. } => {
                set.contains(&role_key(arn.partition(), arn.account(), role))
            }
            _ => false,
        };
        by_role
            || set.contains(user_id)
            || set.contains(role_id)
            || set.contains(&identity_key(arn))
    }

    /// Whether this caller is revoked.
    #[must_use]
    pub fn covers(&self, caller: &Caller) -> bool {
        match caller.arn() {
            Some(arn) => self.contains(arn, caller.user_id()),
            None => self.0.load().contains(caller.identity()),
        }
    }

    /// The same of a caller in the journal, by the texts that are kept there.
    pub(super) fn covers_row(&self, caller: &str, caller_id: &str) -> bool {
        match caller.parse::<CallerArn>() {
            Ok(arn) => self.contains(&arn, caller_id),
            Err(_) => self.0.load().contains(caller),
        }
    }

    /// Just this one, to ask whom it covers.
    pub(super) fn only(who: &RevokedCaller) -> Self {
        let revocations = Self::default();
        revocations.replace([who.to_string()].into());
        revocations
    }

    pub(super) fn replace(&self, revoked: HashSet<String>) {
        self.0.store(Arc::new(revoked));
    }
}

/// Not somebody who can be revoked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "revoke `{0}`: expected the ARN of a user, role or role session, a unique id that begins with `AIDA` or `AROA`, or `https://issuer#subject`"
)]
pub struct NotRevocable(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn revocations(names: &[&str]) -> Revocations {
        let revocations = Revocations::default();
        let keys = names
            .iter()
            .map(|n| n.parse::<RevokedCaller>().unwrap().to_string());
        revocations.replace(keys.collect());
        revocations
    }

    fn hits(names: &[&str], arn: &str, user_id: &str) -> bool {
        revocations(names).contains(&arn.parse().unwrap(), user_id)
    }

    const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/Dev/alice";
    const SESSION_ID: &str = "AROA0123456789ABCDEF:alice";

    #[test]
    fn what_is_no_identity_is_refused() {
        for bad in [
            "",
            "alice",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/a*",
            "AKIA0123456789ABCDEF",
            "arn:aws:iam::111122223333:group/x",
            "AROA0123456789ABCDEF:",
            "AIDA0123456789ABCDEF:x",
            "AROA",
            "AROA*",
            "arn:aws:ec2::111122223333:role/x",
            "arn:aws:sts::111122223333:role/x",
            "https://issuer.example",
            "https://issuer.example#",
            "issuer.example#alice",
            "http://issuer.example#alice",
            "https://issuer.example#a\nb",
        ] {
            assert!(bad.parse::<RevokedCaller>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_revoked_role_covers_all_its_sessions_whatever_its_path() {
        assert!(hits(
            &["arn:aws:iam::111122223333:role/Dev"],
            SESSION,
            SESSION_ID
        ));
        assert!(hits(
            &["arn:aws:iam::111122223333:role/eng/team/Dev"],
            SESSION,
            SESSION_ID
        ));
        assert!(hits(&["AROA0123456789ABCDEF"], SESSION, SESSION_ID));
        assert!(!hits(
            &["arn:aws:iam::111122223333:role/Deve"],
            SESSION,
            SESSION_ID
        ));
        assert!(!hits(
            &["arn:aws:iam::444455556666:role/Dev"],
            SESSION,
            SESSION_ID
        ));
        assert!(!hits(
            &["arn:aws-cn:iam::111122223333:role/Dev"],
            SESSION,
            SESSION_ID
        ));
    }

    #[test]
    fn a_revoked_session_leaves_the_roles_other_sessions() {
        for name in [SESSION, SESSION_ID] {
            assert!(hits(&[name], SESSION, SESSION_ID));
            assert!(!hits(
                &[name],
                "arn:aws:sts::111122223333:assumed-role/Dev/bob",
                "AROA0123456789ABCDEF:bob"
            ));
        }
    }

    #[test]
    fn a_user_and_a_role_of_one_name_are_different() {
        let user = "arn:aws:iam::111122223333:user/eng/Dev";
        assert!(hits(
            &[user],
            "arn:aws:iam::111122223333:user/Dev",
            "AIDA0123456789ABCDEF"
        ));
        assert!(!hits(&[user], SESSION, SESSION_ID));
        assert!(!hits(
            &["arn:aws:iam::111122223333:role/Dev"],
            user,
            "AIDA0123456789ABCDEF"
        ));
        assert!(hits(
            &["AIDA0123456789ABCDEF"],
            user,
            "AIDA0123456789ABCDEF"
        ));
    }

    #[test]
    fn a_revoked_subject_is_that_of_its_issuer_and_no_other() {
        let name = "https://issuer.example#repo:acme/app:ref:refs/heads/main";
        let revoked = revocations(&[name]);
        assert!(revoked.covers_row(name, ""));
        for other in [
            "https://issuer.example#repo:acme/app:ref:refs/heads/main2",
            "https://other.example#repo:acme/app:ref:refs/heads/main",
            "https://issuer.example",
            SESSION,
        ] {
            assert!(!revoked.covers_row(other, SESSION_ID), "{other}");
        }
    }
}
