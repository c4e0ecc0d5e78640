//! What differs for some hosts: key type, lifetime, what the certificate may do.
//! A profile can only ask; what is allowed is the CA's policy. `instance_connect` can only forbid.

use std::collections::BTreeSet;

use eic_protocol::api::certificate::Reason;
use eic_protocol::api::instance::InstanceConnectMode;
use eic_protocol::cert::options::{Extension, ForceCommand, SourceAddresses};
use eic_protocol::os_user::OsUser;
use eic_protocol::validity::{DEFAULT_TARGET_TTL, MAX_TARGET_TTL, MIN_TTL};
use serde::{Deserialize, Serialize};

use crate::host_name::matches_pattern;
use crate::key::KeyType;
use crate::transport::bastion::Bastion;
use crate::transport::endpoint::EndpointId;
use crate::transport::ssm::SessionBy;
use crate::transport::{Via, Way};

/// One `[[host]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostProfile {
    /// Hosts that it is for, as typed: letters, digits, `*` and `?`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// The account to log in as where ssh is given none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<OsUser>,
    /// Kind of the ephemeral key.
    #[serde(default)]
    pub key_type: KeyType,
    /// Certificate lifetime to ask for, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Certificate extensions to ask for; absent: pty and port forwarding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<BTreeSet<Extension>>,
    /// The only command to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<ForceCommand>,
    /// The only source addresses to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_addresses: Option<SourceAddresses>,
    /// Why access is needed; policy may demand it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Whether a key may be pushed by Instance Connect; the stricter of this and the CA's word counts.
    #[serde(default = "allowed")]
    pub instance_connect: InstanceConnectMode,
    /// Which way to take to the host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub via: Via,
    /// An ssh host through which it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bastion: Option<Bastion>,
    /// The EC2 Instance Connect Endpoint for it; absent: the one that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointId>,
    /// Who speaks the data channel of Session Manager's sessions to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ssm: SessionBy,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn allowed() -> InstanceConnectMode {
    InstanceConnectMode::On
}

impl Default for HostProfile {
    fn default() -> Self {
        Self {
            pattern: "*".to_owned(),
            user: None,
            key_type: KeyType::default(),
            ttl_seconds: None,
            extensions: None,
            force_command: None,
            source_addresses: None,
            reason: None,
            instance_connect: allowed(),
            via: Via::Auto,
            bastion: None,
            endpoint: None,
            ssm: SessionBy::Auto,
        }
    }
}

impl HostProfile {
    /// Whether the profile is for this host.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        matches_pattern(&self.pattern, host)
    }

    /// The longest lifetime that is asked for, in seconds.
    #[must_use]
    pub fn max_ttl(&self) -> u64 {
        self.ttl_seconds.unwrap_or(DEFAULT_TARGET_TTL)
    }

    /// Whether it asks for something that a pushed key cannot carry.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        let fewer = self
            .extensions
            .as_ref()
            .is_some_and(|asked| !asked.is_superset(&Extension::defaults()));
        fewer || self.force_command.is_some() || self.source_addresses.is_some()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-*?/".contains(&b);
        if self.pattern.is_empty()
            || !self.pattern.bytes().all(plain)
            || self.pattern.matches('*').count() > 4
        {
            return Err("match: use letters, digits, `._:-`, `?` and up to four `*`".to_owned());
        }
        if self.via == Via::Only(Way::Bastion) && self.bastion.is_none() {
            return Err(
                "via: a bastion must be named, `bastion = \"[user@]host[:port]\"`".to_owned(),
            );
        }
        match self.ttl_seconds {
            Some(ttl) if !(MIN_TTL..=MAX_TARGET_TTL).contains(&ttl) => Err(format!(
                "ttl_seconds: {ttl} is not between {MIN_TTL} and {MAX_TARGET_TTL}"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_pushed_key_cannot_carry_counts_as_restricted() {
        // H-18
        assert!(!HostProfile::default().is_restricted());
        let more = Extension::ALL.into_iter().collect();
        assert!(
            !HostProfile {
                extensions: Some(more),
                ..HostProfile::default()
            }
            .is_restricted()
        );
        let fewer = BTreeSet::from([Extension::Pty]);
        assert!(
            HostProfile {
                extensions: Some(fewer),
                ..HostProfile::default()
            }
            .is_restricted()
        );
        let command = "uptime".parse().ok();
        assert!(
            HostProfile {
                force_command: command,
                ..HostProfile::default()
            }
            .is_restricted()
        );
    }
}
