//! The actions that a statement can allow here, and the patterns that name them.

use std::fmt;

use super::glob::{self, Symbol};

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `ec2-instance-connect:SendSSHPublicKey`: log in to an instance, by certificate or by pushed key.
    SendSshPublicKey,
    /// `ec2-instance-connect:OpenTunnel`: a connection through an Instance Connect Endpoint.
    OpenTunnel,
    /// `eic:IssueFleetCertificate`: a certificate for a named fleet.
    IssueFleetCertificate,
    /// `eic:IssueHostCertificate`: a host certificate for an instance.
    IssueHostCertificate,
    /// `eic:Revoke`: end grants, sessions and certificates of others.
    Revoke,
    /// `eic:ReadAudit`.
    ReadAudit,
    /// `eic:ReadInventory`: see hosts that one may not log in to.
    ReadInventory,
    /// `eic:Administer`: everything that changes the service itself.
    Administer,
}

impl Action {
    /// Every action, in the order of its bit in a statement's set.
    pub const ALL: [Self; 8] = [
        Self::SendSshPublicKey,
        Self::OpenTunnel,
        Self::IssueFleetCertificate,
        Self::IssueHostCertificate,
        Self::Revoke,
        Self::ReadAudit,
        Self::ReadInventory,
        Self::Administer,
    ];

    /// The name as policies write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendSshPublicKey => "ec2-instance-connect:SendSSHPublicKey",
            Self::OpenTunnel => "ec2-instance-connect:OpenTunnel",
            Self::IssueFleetCertificate => "eic:IssueFleetCertificate",
            Self::IssueHostCertificate => "eic:IssueHostCertificate",
            Self::Revoke => "eic:Revoke",
            Self::ReadAudit => "eic:ReadAudit",
            Self::ReadInventory => "eic:ReadInventory",
            Self::Administer => "eic:Administer",
        }
    }

    /// Whether an allow ends in a user certificate, with a lifetime and extensions.
    #[must_use]
    pub fn issues_user_certificate(self) -> bool {
        matches!(self, Self::SendSshPublicKey | Self::IssueFleetCertificate)
    }

    fn bit(self) -> u8 {
        match self {
            Self::SendSshPublicKey => 1,
            Self::OpenTunnel => 2,
            Self::IssueFleetCertificate => 4,
            Self::IssueHostCertificate => 8,
            Self::Revoke => 16,
            Self::ReadAudit => 32,
            Self::ReadInventory => 64,
            Self::Administer => 128,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The actions that one statement is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ActionSet {
    bits: u8,
    /// Those that a pattern of our own service, `eic:…`, names.
    ours: u8,
}

impl ActionSet {
    /// The actions that any of the patterns names; refuses what looks like one of ours and is not.
    pub(super) fn named_by<'p>(
        patterns: impl IntoIterator<Item = &'p str>,
    ) -> Result<Self, UnknownAction> {
        let mut set = Self::default();
        for pattern in patterns {
            let bits = covered(pattern)?;
            set.bits |= bits;
            if pattern
                .split_once(':')
                .is_some_and(|(service, _)| service.eq_ignore_ascii_case(OURS))
            {
                set.ours |= bits;
            }
        }
        Ok(set)
    }

    pub(super) fn contains(self, action: Action) -> bool {
        self.bits & action.bit() != 0
    }

    /// Whether it names the action as one of this service: `*`, `NotAction` and `e*:…` do not.
    pub(super) fn names_as_ours(self, action: Action) -> bool {
        self.ours & action.bit() != 0
    }

    /// The meaning of `NotAction`.
    pub(super) fn complement(self) -> Self {
        Self {
            bits: !self.bits,
            ours: 0,
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.bits == 0
    }
}

/// The pattern names no action of a service whose actions we know: a slip that could widen or empty a statement.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnknownAction {
    #[error("`{0}` is not `*` and not `service:Action`")]
    Form(String),
    #[error("`{0}` names no action of its service; known are {known}", known = known_names())]
    Name(String),
}

/// Our own service, in the names of its actions.
const OURS: &str = "eic";
/// Of the same AWS service, but nothing that this service decides: such statements stay unread.
const FOREIGN: &str = "ec2-instance-connect:sendserialconsolesshpublickey";

fn covered(pattern: &str) -> Result<u8, UnknownAction> {
    let Some((service, _)) = pattern.split_once(':') else {
        return if pattern == "*" {
            Ok(u8::MAX)
        } else {
            Err(UnknownAction::Form(pattern.to_owned()))
        };
    };
    let folded = pattern.to_ascii_lowercase();
    let symbols = glob::compile(&folded);
    let bits = Action::ALL
        .into_iter()
        .filter(|action| glob::matches(&symbols, &action.as_str().to_ascii_lowercase()))
        .fold(0, |bits, action| bits | action.bit());
    let ours = ["ec2-instance-connect", OURS]
        .iter()
        .any(|own| service.eq_ignore_ascii_case(own));
    if bits == 0 && ours && !is_foreign(&symbols) {
        return Err(UnknownAction::Name(pattern.to_owned()));
    }
    Ok(bits)
}

fn is_foreign(symbols: &[Symbol]) -> bool {
    glob::matches(symbols, FOREIGN)
}

fn known_names() -> String {
    Action::ALL.map(|action| format!("`{action}`")).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(pattern: &str) -> Vec<Action> {
        let set = ActionSet::named_by([pattern]).unwrap();
        Action::ALL
            .into_iter()
            .filter(|a| set.contains(*a))
            .collect()
    }

    #[test]
    fn a_misspelt_action_of_ours_is_refused() {
        for bad in [
            "eic:Foo",
            "eic:Issue",
            "ec2-instance-connect:SendSSHPublicKeys",
            "EIC:x*",
            "eic:",
            "SendSSHPublicKey",
            "**",
            "",
        ] {
            assert!(ActionSet::named_by([bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn actions_of_other_services_name_none_of_ours() {
        for other in [
            "s3:*",
            "ec2:*",
            "ec2-instance-connect:SendSerialConsoleSSHPublicKey",
            "ec2-instance-connect:SendSerial*",
            "ec?:*",
        ] {
            assert!(named(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn names_ignore_case_and_take_wildcards() {
        assert_eq!(
            named("EC2-Instance-Connect:sendSSHpublickey"),
            [Action::SendSshPublicKey]
        );
        assert_eq!(
            named("ec2-instance-connect:*"),
            [Action::SendSshPublicKey, Action::OpenTunnel]
        );
        assert_eq!(
            named("eic:Issue????Certificate"),
            [Action::IssueHostCertificate]
        );
        assert_eq!(
            named("eic:Read*"),
            [Action::ReadAudit, Action::ReadInventory]
        );
        assert_eq!(named("*"), Action::ALL);
        assert_eq!(named("*:*"), Action::ALL);
    }

    #[test]
    fn not_action_is_every_other_action() {
        let rest = ActionSet::named_by(["eic:*"]).unwrap().complement();
        assert!(rest.contains(Action::SendSshPublicKey));
        assert!(!rest.contains(Action::Administer));
        assert!(ActionSet::named_by(["*"]).unwrap().complement().is_empty());
    }
}
