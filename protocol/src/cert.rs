//! OpenSSH certificates (draft-miller-ssh-cert): what ours hold, their bytes, and their checks.
//! The signature itself comes from outside; `tbs` gives the bytes, `Linted` takes the answer.

pub mod check;
pub mod lint;
pub mod options;
pub mod tbs;

use std::collections::BTreeSet;

use crate::instance_id::InstanceId;
use crate::key_id::KeyId;
use crate::principal::Principal;
use crate::serial::Serial;
use crate::subject_key::SubjectKey;
use crate::validity::Validity;
use options::{Extension, ForceCommand, SourceAddresses};

/// Most principals of one certificate (OpenSSH reads up to 256).
pub const MAX_PRINCIPALS: usize = 32;
/// Largest to-be-signed body: kms:Sign takes 1 to 4096 bytes RAW.
pub const MAX_TBS: usize = 4096;

/// A user certificate before it has bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCertificate {
    /// The key that is certified.
    pub subject: SubjectKey,
    /// Random, stored before signing.
    pub serial: Serial,
    /// Caller and request.
    pub key_id: KeyId,
    /// At least one.
    pub principals: BTreeSet<Principal>,
    /// When it is good.
    pub validity: Validity,
    /// Critical options.
    pub restrictions: Restrictions,
    /// What the session may do.
    pub extensions: BTreeSet<Extension>,
}

/// The critical options of a user certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// `force-command`
    pub force_command: Option<ForceCommand>,
    /// `source-address`
    pub source_addresses: Option<SourceAddresses>,
    /// `verify-required`: FIDO keys must ask for a PIN. sshd ignores it for other keys.
    pub verify_required: bool,
}

impl Restrictions {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A host certificate before it has bytes: one principal, the instance id; no option, no extension
/// (ssh refuses a host certificate with a critical option).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCertificate {
    /// The host key that is certified.
    pub subject: SubjectKey,
    /// Random, stored before signing.
    pub serial: Serial,
    /// Caller and request.
    pub key_id: KeyId,
    /// The host.
    pub instance: InstanceId,
    /// When it is good.
    pub validity: Validity,
}

/// Either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For a person or job.
    User(UserCertificate),
    /// For a host.
    Host(HostCertificate),
}

impl Profile {
    fn subject(&self) -> &SubjectKey {
        match self {
            Self::User(user) => &user.subject,
            Self::Host(host) => &host.subject,
        }
    }

    fn serial(&self) -> Serial {
        match self {
            Self::User(user) => user.serial,
            Self::Host(host) => host.serial,
        }
    }

    fn key_id(&self) -> &KeyId {
        match self {
            Self::User(user) => &user.key_id,
            Self::Host(host) => &host.key_id,
        }
    }

    fn validity(&self) -> Validity {
        match self {
            Self::User(user) => user.validity,
            Self::Host(host) => host.validity,
        }
    }

    /// Sorted and unique, as they stand in the certificate.
    fn principals(&self) -> Vec<String> {
        match self {
            Self::User(user) => user.principals.iter().map(ToString::to_string).collect(),
            Self::Host(host) => vec![host.instance.to_string()],
        }
    }

    /// Name and content of each critical option, in lexical order.
    fn critical_options(&self) -> Vec<(&'static str, Option<String>)> {
        let Self::User(user) = self else {
            return Vec::new();
        };
        let restrictions = &user.restrictions;
        let mut options = Vec::new();
        if let Some(command) = &restrictions.force_command {
            options.push(("force-command", Some(command.as_str().to_owned())));
        }
        if let Some(addresses) = &restrictions.source_addresses {
            options.push(("source-address", Some(addresses.to_string())));
        }
        if restrictions.verify_required {
            options.push(("verify-required", None));
        }
        options
    }

    /// Name of each extension, in lexical order.
    fn extensions(&self) -> Vec<&'static str> {
        let Self::User(user) = self else {
            return Vec::new();
        };
        let mut names: Vec<_> = user.extensions.iter().map(|e| e.as_str()).collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
pub(crate) mod tests;
