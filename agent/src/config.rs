//! `/etc/eic/agent.toml`: what the administrator of this host decided.
//! Only root may be able to write it: it names the roots and keys that logins rest on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use eic_protocol::key_fingerprint::KeyFingerprint;
use serde::Deserialize;

use crate::chained::ChainedCommands;
use crate::instance_connect::Settings;
use crate::instance_connect::endpoint::{Endpoint, InvalidEndpoint};
use crate::instance_connect::key::ExtraKeyType;
use crate::instance_connect::roots::{InvalidRoots, Roots, RootsSource};
use crate::run::settings::Service;
use crate::trusted_file::{Trusted, UntrustedFile};

/// Where the configuration is, unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/eic/agent.toml";

/// Where signed trust documents are kept, unless `[trust] state` says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/eic";

/// Largest configuration in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// Largest file of roots in bytes; Amazon's five have 6 KiB.
const MAX_ROOTS_BYTES: usize = 256 * 1024;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[instance_connect]`
    pub instance_connect: InstanceConnect,
    /// `[trust]`
    pub trust: Trust,
    /// `[service]`
    pub service: Service,
    /// `[authorized_keys]`
    pub authorized_keys: AuthorizedKeys,
}

/// `[authorized_keys]`: what else sshd's AuthorizedKeysCommand would be, were there room for more than one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorizedKeys {
    /// `[[authorized_keys.command]]`
    pub command: ChainedCommands,
}

/// `[instance_connect]`: keys from instance metadata.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceConnect {
    /// A PEM file of roots that replaces Amazon's.
    pub roots: Option<PathBuf>,
    /// Where the metadata service listens, instead of its link-local addresses.
    pub imds_endpoint: Option<String>,
    /// Key types that are accepted beyond RSA and Ed25519.
    pub extra_key_types: BTreeSet<ExtraKeyType>,
}

/// `[trust]`: certificates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// `SHA256:…` of the keys that may sign the root document.
    pub root_fingerprints: BTreeSet<KeyFingerprint>,
    /// The folder of the signed documents.
    pub state: PathBuf,
    /// Whether a certificate that names only the user opens this host.
    pub bare_principals: bool,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            root_fingerprints: BTreeSet::new(),
            state: PathBuf::from(DEFAULT_STATE),
            bare_principals: false,
        }
    }
}

impl Config {
    /// Reads `path`, or the default path; only there may the file be missing.
    ///
    /// # Errors
    /// The file is not root's alone, cannot be read, or has a mistake.
    pub fn load(path: Option<&Path>, trusted: &Trusted) -> Result<Self, InvalidConfig> {
        let bytes = match (
            path,
            trusted.read(path.unwrap_or(Path::new(DEFAULT_PATH)), MAX_BYTES),
        ) {
            (None, Err(UntrustedFile::Missing(_))) => return Ok(Self::default()),
            (_, read) => read?,
        };
        let text = String::from_utf8(bytes).map_err(|_| InvalidConfig::NotText)?;
        Self::parse(&text)
    }

    /// Parses the text of a configuration.
    ///
    /// # Errors
    /// An unknown or repeated key, or a value of the wrong form.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        toml::from_str(text).map_err(|e| InvalidConfig::Toml(e.to_string()))
    }
}

impl InstanceConnect {
    /// The settings with the files that they name.
    ///
    /// # Errors
    /// The roots cannot be read, or the endpoint is none.
    pub fn settings(&self, trusted: &Trusted) -> Result<Settings, InvalidConfig> {
        let roots = match &self.roots {
            Some(path) => {
                RootsSource::Given(Roots::from_pem(&trusted.read(path, MAX_ROOTS_BYTES)?)?)
            }
            None => RootsSource::Amazon,
        };
        Ok(Settings {
            roots,
            endpoint: self.endpoint()?,
            extra_key_types: self.extra_key_types.clone(),
        })
    }

    /// Where the metadata service listens.
    ///
    /// # Errors
    /// `imds_endpoint` is none.
    pub fn endpoint(&self) -> Result<Endpoint, InvalidConfig> {
        let configured = self.imds_endpoint.as_deref();
        Ok(configured.map_or(Ok(Endpoint::default()), str::parse)?)
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The file, or one that it names, is not trusted.
    #[error(transparent)]
    File(#[from] UntrustedFile),
    /// Not UTF-8.
    #[error("read the configuration: it is not UTF-8 text")]
    NotText,
    /// A mistake in it, with its place.
    #[error("read the configuration: {0}")]
    Toml(String),
    /// `imds_endpoint` is wrong.
    #[error("read the configuration: {0}")]
    Endpoint(#[from] InvalidEndpoint),
    /// `roots` names a file without roots.
    #[error(transparent)]
    Roots(#[from] InvalidRoots),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn tree() -> (tempfile::TempDir, Trusted) {
        let folder = tempfile::tempdir().unwrap();
        let trusted = Trusted::under(
            &folder.path().canonicalize().unwrap(),
            rustix::process::geteuid().as_raw(),
        );
        (folder, trusted)
    }

    #[test]
    fn mistakes_are_refused() {
        for bad in [
            "unknown = 1",
            "[instance_connect]\nroot = \"x\"",
            "[trust]\nroot_fingerprints = [\"MD5:aa\"]",
            "[trust]\nroot_fingerprints = [\"SHA256:short\"]",
            "[trust]\nbare_principals = \"yes\"",
            "[instance_connect]\nextra_key_types = [\"ssh-dss\"]",
            "[trust]\n[trust]",
            "[trust]\nstate = \"a\"\nstate = \"b\"",
            "[[authorized_keys.command]]\ncommand = [\"relative\"]",
            "[[authorized_keys.command]]\ncommand = [\"/x\"]\nuser = \"root\"",
            "[authorized_keys]\ncommands = []",
        ] {
            assert!(Config::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_configuration_that_others_may_write_is_refused() {
        let (folder, trusted) = tree();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(
            Config::load(Some(&path), &trusted),
            Err(InvalidConfig::File(_))
        ));
    }

    #[test]
    fn a_named_configuration_must_exist() {
        let (folder, trusted) = tree();
        assert!(Config::load(Some(&folder.path().join("none")), &trusted).is_err());
    }

    #[test]
    fn roots_that_others_may_write_are_refused() {
        let (folder, trusted) = tree();
        let path = folder.path().join("roots.pem");
        std::fs::write(
            &path,
            include_str!("instance_connect/roots/amazon-root-ca-1.pem"),
        )
        .unwrap();
        let settings = InstanceConnect {
            roots: Some(path.clone()),
            ..InstanceConnect::default()
        };
        assert_eq!(
            settings
                .settings(&trusted)
                .unwrap()
                .roots
                .load()
                .unwrap()
                .certificates()
                .len(),
            1
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(settings.settings(&trusted).is_err());
    }

    #[test]
    fn every_setting_is_read() {
        let pin = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let text = format!(
            "[instance_connect]\nimds_endpoint = \"http://127.0.0.1:1338\"\nextra_key_types = [\"ecdsa-sha2-nistp256\"]\n\
             [trust]\nroot_fingerprints = [\"{pin}\"]\nstate = \"/srv/eic\"\nbare_principals = true\n"
        );
        let config = Config::parse(&text).unwrap();
        let settings = config
            .instance_connect
            .settings(&Trusted::system())
            .unwrap();
        assert_eq!(settings.endpoint, "http://127.0.0.1:1338".parse().unwrap());
        assert_eq!(settings.extra_key_types.len(), 1);
        assert_eq!(settings.roots.load().unwrap().certificates().len(), 5);
        assert!(config.trust.bare_principals);
        assert_eq!(config.trust.state, Path::new("/srv/eic"));
        assert_eq!(
            config.trust.root_fingerprints.first().unwrap().to_string(),
            pin
        );
    }
}
