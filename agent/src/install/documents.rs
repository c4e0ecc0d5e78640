//! The signed documents that an installation takes: from a folder that may be anybody's, so that
//! only signatures, versions and names decide.

use std::path::Path;

use eic_protocol::trust::root::ScopedCa;

use super::host_certificate::{self, Unfit};
use super::{InstallError, InstallOptions, System};
use crate::config::Trust;
use crate::sshd::Sshd;
use crate::trust_state::{MAX_ENVELOPE, ROOT_FILE, TrustState, VIEW_FILE, verified_root};
use crate::trusted_file::{UntrustedFile, read_of_anybody};

/// The host certificate, in the folder of documents and in the state folder.
pub(crate) const HOST_CERTIFICATE: &str = "host-cert.pub";
/// Largest host certificate in bytes.
const MAX_CERTIFICATE: usize = 16 * 1024;

/// What the folder held, verified.
pub(super) struct Documents {
    pub(super) root: Vec<u8>,
    pub(super) view: Vec<u8>,
    pub(super) host_certificate: Option<Vec<u8>>,
    pub(super) state: TrustState,
    /// Keys that the service has in place beside the root's: they go on counting.
    endorsed: Vec<ScopedCa>,
}

impl Documents {
    pub(super) fn read(
        options: &InstallOptions,
        system: &System,
        now: u64,
    ) -> Result<Self, InstallError> {
        let root = read_of_anybody(&options.state_from.join(ROOT_FILE), MAX_ENVELOPE)?;
        let view = read_of_anybody(&options.state_from.join(VIEW_FILE), MAX_ENVELOPE)?;
        let host_certificate =
            match read_of_anybody(&options.state_from.join(HOST_CERTIFICATE), MAX_CERTIFICATE) {
                Err(UntrustedFile::Missing(_)) => None,
                other => Some(other?),
            };
        let own = system.identity.id(&system.trusted)?;
        let state = TrustState::verify(&root, &view, &options.fingerprints, &own, now)?;
        Ok(Self {
            root,
            view,
            host_certificate,
            state,
            endorsed: Vec::new(),
        })
    }

    /// An older document could bring a retired key back.
    pub(super) fn check_not_older(
        &mut self,
        state: &Path,
        options: &InstallOptions,
        system: &System,
    ) -> Result<(), InstallError> {
        // What these pins do not verify is no floor: it is being replaced.
        let installed = system.trusted.read(&state.join(ROOT_FILE), MAX_ENVELOPE);
        if let Ok(root) = installed.map(|bytes| verified_root(&bytes, &options.fingerprints))
            && let Ok(root) = root
        {
            not_older(ROOT_FILE, self.state.root.version, root.version)?;
        }
        let trust = Trust {
            root_fingerprints: options.fingerprints.clone(),
            state: state.to_path_buf(),
            bare_principals: false,
        };
        // At time 0 no hard stop has passed: a stopped view is still a floor.
        match TrustState::load(&trust, &system.trusted, &system.identity, 0) {
            Ok(installed) => {
                self.endorsed = installed.endorsed;
                not_older(VIEW_FILE, self.state.view.version, installed.view.version)
            }
            Err(_) => Ok(()),
        }
    }

    /// The user CAs that will count.
    pub(super) fn user_cas(&self) -> impl Iterator<Item = &ScopedCa> {
        self.state.user_cas().chain(&self.endorsed)
    }

    /// Root and host view in one line each, for people.
    pub(super) fn summaries(&self) -> (String, String) {
        let (root, view) = (&self.state.root, &self.state.view);
        let cas: Vec<String> = root
            .trusted_user_cas()
            .map(|ca| ca.key.fingerprint())
            .collect();
        let fleets: Vec<String> = view.fleets.iter().map(|f| f.name.to_string()).collect();
        let root = format!(
            "root document version {}, user CAs: {}",
            root.version,
            cas.join(", ")
        );
        let fleets = if fleets.is_empty() {
            "none".to_owned()
        } else {
            fleets.join(", ")
        };
        let view = format!(
            "host view version {} of {}, fleets: {fleets}",
            view.version, view.instance
        );
        (root, view)
    }

    /// The fingerprint of a CA key, to try the principals command with.
    pub(super) fn first_ca(&self) -> String {
        let keys = self.state.root.trusted_user_cas();
        keys.map(|ca| ca.key.fingerprint())
            .next()
            .unwrap_or_default()
    }

    pub(super) fn check_host_certificate(&self, sshd: &Sshd, now: u64) -> Result<(), InstallError> {
        let Some(bytes) = &self.host_certificate else {
            return Ok(());
        };
        let line = std::str::from_utf8(bytes).map_err(|_| Unfit::Form)?;
        let settings = sshd.effective("root")?;
        let host_keys = host_certificate::public_keys(&settings.values("HostKey"));
        Ok(host_certificate::check(
            line.trim_end(),
            &self.state,
            &host_keys,
            now,
        )?)
    }
}

fn not_older(document: &'static str, offered: u64, installed: u64) -> Result<(), InstallError> {
    if offered >= installed {
        Ok(())
    } else {
        Err(InstallError::Rollback {
            document,
            offered,
            installed,
        })
    }
}
