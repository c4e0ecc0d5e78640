//! The host view: what one host is called, signed by a bundle key.

use serde::{Deserialize, Serialize};

use super::envelope::{Envelope, Untrusted, parse};
use super::root::Root;
use crate::fleet::FleetName;
use crate::instance_id::InstanceId;
use crate::os_user::OsUser;
use crate::sshsig::Namespace;
use crate::subject_key::SubjectKey;

/// What a bundle key signs for one host (namespace `eic-host-view-v1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostView {
    /// Grows with each view of this host.
    pub version: u64,
    /// The host; the agent compares it with DMI, so that a cloned image is not taken for its origin.
    pub instance: InstanceId,
    /// The fleets that it belongs to.
    pub fleets: Vec<FleetMembership>,
    /// How far the rollout is here.
    pub stage: Stage,
    /// OS users that the CA wants to exist (reserved).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub os_users: Vec<OsUser>,
    /// Oldest root that this view goes with.
    pub root_version: u64,
    /// When it was made, in Unix seconds.
    pub issued: u64,
    /// After this moment the host is told to be out of date; logins go on.
    pub refresh_after: u64,
    /// After this moment no certificate opens the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_stop: Option<u64>,
}

/// One fleet of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetMembership {
    /// The fleet.
    pub name: FleetName,
    /// Whether keys held in memory never open it.
    #[serde(default)]
    pub kms_only: bool,
}

/// How far the rollout is on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Certificates and Instance Connect keys.
    Hybrid,
    /// Certificates only.
    CertificatesOnly,
}

impl HostView {
    /// The view in `envelope`, where a bundle key of `root` signed it for `instance` and its
    /// hard stop has not passed. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn verified(
        envelope: &Envelope,
        root: &Root,
        instance: &InstanceId,
        now: u64,
    ) -> Result<Self, Untrusted> {
        let view = Self::authentic(envelope, root, instance)?;
        if view.hard_stop.is_some_and(|stop| stop <= now) {
            return Err(Untrusted::HardStop);
        }
        Ok(view)
    }

    /// As [`Self::verified`], even after its hard stop: what is kept until a newer one comes.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn authentic(
        envelope: &Envelope,
        root: &Root,
        instance: &InstanceId,
    ) -> Result<Self, Untrusted> {
        let bundle = |key: &SubjectKey| root.bundle_keys.contains(key);
        let view: Self = parse(envelope.verified(Namespace::HostView, 1, bundle)?)?;
        if view.instance != *instance {
            return Err(Untrusted::OtherHost(view.instance.to_string()));
        }
        if root.version < view.root_version {
            return Err(Untrusted::Rollback {
                offered: root.version,
                installed: view.root_version,
            });
        }
        Ok(view)
    }
}
