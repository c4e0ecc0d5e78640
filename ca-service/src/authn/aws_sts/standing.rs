//! Whether somebody other than the caller vouches for the name in an ARN.

use std::collections::HashSet;

use eic_protocol::api::session::NameStanding;
use eic_protocol::arn::{AccountId, CallerArn, Identity};

/// Names of the roles that IAM Identity Center makes (IAM Identity Center user guide, "Permission sets").
const SSO_ROLE: &str = "AWSReservedSSO_";

/// An IAM user's name is IAM's own. A session's name is chosen by whoever calls sts:AssumeRole, even
/// when it looks like an instance id; of an Identity Center role it is Identity Center's choice, but an
/// account's administrator can make a role of such a name (threats A-32): the configuration must say
/// that nobody in that account can.
pub(super) fn of(arn: &CallerArn, sso_accounts: &HashSet<AccountId>) -> NameStanding {
    match arn.identity() {
        Identity::Root | Identity::User { .. } => NameStanding::Attested,
        Identity::AssumedRole { role, .. }
            if role.starts_with(SSO_ROLE) && sso_accounts.contains(arn.account()) =>
        {
            NameStanding::Attested
        }
        Identity::AssumedRole { .. } | Identity::FederatedUser { .. } => NameStanding::Claimed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(arn: &str) -> NameStanding {
        of(
            &arn.parse().unwrap(),
            &HashSet::from(["111122223333".parse().unwrap()]),
        )
    }

    #[test]
    fn names_that_callers_choose_are_claimed() {
        //
        for arn in [
            "arn:aws:sts::111122223333:assumed-role/Dev/alice",
            "arn:aws:sts::111122223333:assumed-role/Web/i-0123456789abcdef0",
            "arn:aws:sts::999922223333:assumed-role/AWSReservedSSO_Admin_deadbeef/alice",
            "arn:aws:sts::111122223333:federated-user/alice",
        ] {
            assert_eq!(standing(arn), NameStanding::Claimed, "{arn}");
        }
    }

    #[test]
    fn users_and_roles_of_named_identity_center_accounts_are_attested() {
        for arn in [
            "arn:aws:iam::999922223333:user/alice",
            "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/alice@corp.example",
        ] {
            assert_eq!(standing(arn), NameStanding::Attested, "{arn}");
        }
    }
}
