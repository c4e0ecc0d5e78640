//! The two kinds of certificate as types, so that one kind never reaches the other's CA key.

use crate::audit::EventName;

mod sealed {
    pub trait Sealed {}
}

/// User or host; closed.
pub trait Kind: sealed::Sealed + Send + Sync + 'static {
    /// The journal's name for it.
    const NAME: &'static str;
    /// The audit's event.
    const EVENT: EventName;
}

/// Certificates for people and jobs.
#[derive(Clone, Copy, Debug)]
pub struct User;

/// Certificates for hosts.
#[derive(Clone, Copy, Debug)]
pub struct Host;

impl sealed::Sealed for User {}
impl sealed::Sealed for Host {}

impl Kind for User {
    const NAME: &'static str = "user";
    const EVENT: EventName = EventName::IssueUserCertificate;
}

impl Kind for Host {
    const NAME: &'static str = "host";
    const EVENT: EventName = EventName::IssueHostCertificate;
}
