//! What a user certificate names: one user on one host, or on one fleet.
//! The only writer and the only parser of principals (design rule: strict grammars at every boundary).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fleet::FleetName;
use crate::instance_id::InstanceId;
use crate::os_user::OsUser;
use crate::text::printable;

/// A name in a user certificate's `valid principals` (draft-miller-ssh-cert §2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Principal {
    /// `<os-user>@<instance-id>`
    Target(OsUser, InstanceId),
    /// `<os-user>@fleet/<name>`
    Fleet(OsUser, FleetName),
    /// `<os-user>`: opens every host that trusts the CA without an agent of ours.
    /// Only where the configuration says `bare_principals = true`.
    Bare(OsUser),
}

impl Principal {
    /// The account that the principal opens.
    #[must_use]
    pub fn os_user(&self) -> &OsUser {
        match self {
            Self::Target(user, _) | Self::Fleet(user, _) | Self::Bare(user) => user,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(user, instance) => write!(f, "{user}@{instance}"),
            Self::Fleet(user, fleet) => write!(f, "{user}@fleet/{fleet}"),
            Self::Bare(user) => write!(f, "{user}"),
        }
    }
}

impl FromStr for Principal {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        parse(text).ok_or_else(|| InvalidPrincipal(printable(text)))
    }
}

fn parse(text: &str) -> Option<Principal> {
    let Some((user, place)) = text.split_once('@') else {
        return text.parse().ok().map(Principal::Bare);
    };
    let user = user.parse().ok()?;
    match place.strip_prefix("fleet/") {
        Some(fleet) => Some(Principal::Fleet(user, fleet.parse().ok()?)),
        None => Some(Principal::Target(user, place.parse().ok()?)),
    }
}

impl TryFrom<String> for Principal {
    type Error = InvalidPrincipal;

    fn try_from(text: String) -> Result<Self, InvalidPrincipal> {
        text.parse()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.to_string()
    }
}

/// The text is not a principal of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a principal: expected `<user>@<instance-id>` or `<user>@fleet/<name>`")]
pub struct InvalidPrincipal(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_with_commas_wildcards_and_blanks_are_refused() {
        // D-02
        for bad in [
            "",
            "@",
            "root@",
            "@i-01234567",
            "deploy,root",
            "*",
            "root@*",
            "root@fleet/",
            "root@fleet/a/b",
            "root@i-01234567@i-01234567",
            "root@i-01234567 ",
            " root",
            "root#x",
            "Root@i-01234567",
        ] {
            assert!(bad.parse::<Principal>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn each_form_is_written_as_it_was_read() {
        for good in [
            "ubuntu@i-0123456789abcdef0",
            "ubuntu@mi-0123456789abcdef0",
            "deploy@fleet/web",
            "ubuntu",
        ] {
            assert_eq!(good.parse::<Principal>().unwrap().to_string(), good);
        }
    }
}
