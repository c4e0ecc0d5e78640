//! What the configuration, not a policy, decides about policies: lifetimes, uid-0 names, whole accounts.

use eic_protocol::os_user::OsUser;

use super::action::Action;
use super::extension::ExtensionSet;
use super::request::Request;

/// The settings of the policy engine. They are part of the policy's digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether an Allow may name a whole account (`Principal: {"AWS": "1111…"}`).
    pub whole_account: bool,
    /// Names with uid 0 beside `root` and `toor`: an Allow must name them literally.
    pub uid0_names: Vec<OsUser>,
    /// Lifetimes of target certificates.
    pub target: Lifetime,
    /// Lifetimes of fleet certificates.
    pub fleet: Lifetime,
    /// How long the running policy may be used while its files cannot be loaded, in seconds.
    pub max_stale_seconds: u64,
}

/// Lifetimes of one kind of certificate, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Given by an Allow that says nothing of `eic:TtlSeconds`, and taken when a request names none.
    pub default: u64,
    /// Never exceeded, whatever a policy says.
    pub max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            whole_account: false,
            uid0_names: Vec::new(),
            target: Lifetime {
                default: 300,
                max: 3600,
            },
            fleet: Lifetime {
                default: 3600,
                max: 12 * 3600,
            },
            max_stale_seconds: 24 * 3600,
        }
    }
}

impl Settings {
    /// Whether that user has uid 0, as far as the configuration knows.
    pub(crate) fn is_uid0(&self, user: &OsUser) -> bool {
        matches!(user.as_str(), "root" | "toor") || self.uid0_names.contains(user)
    }

    /// The lifetimes of what the action issues; none when it issues no user certificate.
    pub(super) fn lifetime(&self, action: Action) -> Option<Lifetime> {
        match action {
            Action::SendSshPublicKey => Some(self.target),
            Action::IssueFleetCertificate => Some(self.fleet),
            _ => None,
        }
    }

    /// The lifetime that the request is for. A host certificate has no default here: what is asked for is what
    /// conditions see, and `[hosts]` bounds it.
    pub(super) fn requested_ttl(&self, request: &Request<'_>) -> Option<u64> {
        let asked = request.asked.ttl_seconds;
        match self.lifetime(request.action) {
            Some(lifetime) => Some(asked.unwrap_or(lifetime.default)),
            None if request.action == Action::IssueHostCertificate => asked,
            None => None,
        }
    }

    /// The extensions that the request is for.
    pub(super) fn requested_extensions(&self, request: &Request<'_>) -> ExtensionSet {
        request.asked.extensions.unwrap_or(ExtensionSet::DEFAULT)
    }

    /// The settings in a form whose digest is that of no other settings.
    pub(super) fn canonical(&self) -> String {
        let Self {
            whole_account,
            uid0_names,
            target,
            fleet,
            max_stale_seconds,
        } = self;
        format!("{whole_account:?} {uid0_names:?} {target:?} {fleet:?} {max_stale_seconds}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_uid_0_without_being_configured() {
        // C-14
        let settings = Settings {
            uid0_names: vec!["admin0".parse().unwrap()],
            ..Settings::default()
        };
        for (name, expected) in [
            ("root", true),
            ("toor", true),
            ("admin0", true),
            ("ubuntu", false),
            ("ubuntu-root", false),
        ] {
            assert_eq!(settings.is_uid0(&name.parse().unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn settings_that_differ_have_different_digests() {
        let base = Settings::default();
        for changed in [
            Settings {
                whole_account: true,
                ..base.clone()
            },
            Settings {
                uid0_names: vec!["a".parse().unwrap()],
                ..base.clone()
            },
            Settings {
                target: Lifetime {
                    default: 301,
                    max: 3600,
                },
                ..base.clone()
            },
            Settings {
                fleet: Lifetime {
                    default: 300,
                    max: 3600,
                },
                ..base.clone()
            },
            Settings {
                max_stale_seconds: 1,
                ..base.clone()
            },
        ] {
            assert_ne!(changed.canonical(), base.canonical());
        }
    }
}
