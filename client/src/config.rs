//! The client's configuration: which CA, which root key is pinned, which hosts are ours.
//! `eic-login setup` writes it; host profiles are added by hand and kept by the next `setup`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use eic_aws::proxy::{InvalidProxy, Proxy};
use eic_protocol::os_user::OsUser;
use eic_protocol::proof::Audience;
use eic_protocol::secret::Secret;
use eic_protocol::text::printable;
use eic_protocol::trust::envelope::Untrusted;
use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::credentials::IdTokenConfig;
use crate::exit_code::{self, Failure};
use crate::files::{self, FileError};
use crate::host_name::{HostName, check_pattern};
use crate::paths::Paths;
use crate::ssh_config::installation::Installation;

mod host_profile;
mod place;
mod root_chain;

pub use host_profile::HostProfile;
pub use place::Place;
pub use root_chain::RootChain;

/// Largest configuration or root document that is read. Bytes.
const MAX_FILE: u64 = 2 * 1024 * 1024;

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where sockets live; ssh_config names the same folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_dir: Option<PathBuf>,
    /// What HTTPS goes through: `http://[user:password@]host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Secret<String>>,
    /// Names (each for itself and all below it), addresses and networks that are reached without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_proxy: Vec<String>,
    /// Where AWS publishes its address ranges, if not at its own place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_ranges_url: Option<String>,
    /// Host patterns beside `i-*` and `mi-*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
    /// The CA; without one this is an Instance Connect client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaConfig>,
    /// Where ID tokens come from, for those who sign in without AWS credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<IdTokenConfig>,
    /// What differs for some hosts; the first match counts.
    #[serde(default, rename = "host", skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostProfile>,
    /// Accounts and Regions in which hosts are looked for; none: those of the environment's credentials.
    #[serde(default, rename = "place", skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// Names of one's own, and the hosts that they mean.
    #[serde(default, rename = "alias", skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<HostName, HostName>,
    /// The account to use on hosts of an image (`ami-…`) that carry no tag `eic:user`.
    #[serde(default, rename = "image", skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, OsUser>,
}

/// The CA and how it is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaConfig {
    /// Its URL: also the audience of every proof.
    pub url: Audience,
    /// Fingerprints of the root keys that were pinned at setup.
    pub root_fingerprints: BTreeSet<String>,
    /// A PEM file with the only authorities that the CA's TLS certificate may chain to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Config {
    /// Reads the file; one that is not there is the empty configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names file and mistake.
    pub fn load(paths: &Paths) -> Result<Self, ConfigError> {
        let file = paths.config_file();
        let Some(bytes) = files::read_capped(&file, MAX_FILE)? else {
            return Ok(Self::default());
        };
        let invalid = |what: String| ConfigError::Invalid {
            file: file.display().to_string(),
            what,
        };
        let text = String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
        let config: Self = toml::from_str(&text).map_err(|e| invalid(mistake(&text, &e)))?;
        config.check().map_err(invalid)?;
        Ok(config)
    }

    /// The configuration that logins go by: as [`Self::load`], but where ssh was set up, its file must be there.
    /// With another `XDG_CONFIG_HOME` than at setup, a client without any CA would come of it (D22).
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn in_force(paths: &Paths) -> Result<Self, ConfigError> {
        let file = paths.config_file();
        if !file.exists() && Installation::new(&paths.ssh_dir).is_in_place() {
            return Err(ConfigError::Elsewhere(file));
        }
        Self::load(paths)
    }

    fn check(&self) -> Result<(), String> {
        self.proxy().map_err(|e| e.to_string())?;
        if self.proxy.is_none() && !self.no_proxy.is_empty() {
            return Err("`no_proxy` is for a `proxy`, and none is named".to_owned());
        }
        if let Some(id_token) = &self.id_token {
            id_token.check().map_err(|e| format!("[id_token] {e}"))?;
        }
        for pattern in &self.patterns {
            check_pattern(pattern).map_err(|e| format!("patterns: {e}"))?;
        }
        for host in &self.hosts {
            host.check()
                .map_err(|e| format!("[[host]] `{}`: {e}", printable(&host.pattern)))?;
        }
        for (at, place) in self.places.iter().enumerate() {
            let told = |e: String| format!("[[place]] `{}`: {e}", printable(&place.name));
            place.check().map_err(told)?;
            let twice = self
                .places
                .iter()
                .skip(at + 1)
                .any(|p| p.name == place.name);
            if twice {
                return Err(told("the name is used twice".to_owned()));
            }
        }
        if let Some(alias) = self.aliases.keys().find(|a| a.is_instance()) {
            return Err(format!("[alias] `{alias}`: an instance id means itself"));
        }
        let relative = |path: &Option<PathBuf>| path.as_ref().is_some_and(|p| !p.is_absolute());
        if relative(&self.run_dir) || self.ca.as_ref().is_some_and(|ca| relative(&ca.ca_file)) {
            return Err("run_dir and ca.ca_file must be absolute paths".to_owned());
        }
        match &self.ca {
            Some(ca) if ca.root_fingerprints.is_empty() => {
                Err("ca.root_fingerprints names no key".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The proxy that HTTPS goes through. One that was read from the file is good.
    ///
    /// # Errors
    /// [`InvalidProxy`]
    pub fn proxy(&self) -> Result<Option<Proxy>, InvalidProxy> {
        let url = self.proxy.as_ref();
        url.map(|url| Proxy::new(url.reveal(), &self.no_proxy))
            .transpose()
    }

    /// The same without the proxy's user and password, for a terminal.
    #[must_use]
    pub fn without_password(&self) -> Self {
        let place = |url: &Secret<String>| Some(url.reveal().rsplit_once('@')?.1.to_owned());
        let hidden = self.proxy.as_ref().and_then(place);
        let hidden = hidden.map(|place| Secret::new(format!("http://***@{place}")));
        Self {
            proxy: hidden.or_else(|| self.proxy.clone()),
            ..self.clone()
        }
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`ConfigError`] where a value has no TOML form.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let body = toml::to_string(self).map_err(|e| ConfigError::Write(e.to_string()))?;
        Ok(format!("{HEADER}{body}"))
    }

    /// The host behind an alias, in whatever case it was typed; any other host is itself.
    #[must_use]
    pub fn meant<'a>(&'a self, host: &'a HostName) -> &'a HostName {
        let typed = |alias: &HostName| alias.as_str().eq_ignore_ascii_case(host.as_str());
        let mut aliases = self.aliases.iter();
        let alias = aliases.find(|(alias, _)| typed(alias));
        alias.map_or(host, |(_, meant)| meant)
    }

    /// Where sockets live: as configured, else where setup told ssh, as long as that can be, else where it would be
    /// told now. All sessions share one agent so, those without `XDG_RUNTIME_DIR` too.
    #[must_use]
    pub fn run_dir(&self, paths: &Paths) -> PathBuf {
        let usable = |dir: &PathBuf| dir.parent().is_some_and(Path::exists);
        let told = || Installation::new(&paths.ssh_dir).run_dir().filter(usable);
        let chosen = self.run_dir.clone().or_else(told);
        chosen.unwrap_or_else(|| paths.run_dir.clone())
    }

    /// The profile of a host: the first whose pattern matches, or the default one.
    #[must_use]
    pub fn profile(&self, host: &str) -> HostProfile {
        self.hosts
            .iter()
            .find(|profile| profile.matches(host))
            .cloned()
            .unwrap_or_default()
    }
}

const HEADER: &str = "# Written by `eic-login setup`. Host profiles ([[host]]) may be added; the next setup keeps them,\n\
                      # but not their comments.\n";

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is there, but wrong.
    #[error("`{file}` is not a valid configuration: {what}")]
    Invalid {
        /// The file.
        file: String,
        /// Line, key and mistake.
        what: String,
    },
    /// ssh was set up with another file.
    #[error(
        "`{}` is not there, but `eic-login setup` told ssh of this program: set XDG_CONFIG_HOME as it was then, \
         or run `eic-login setup` again", .0.display()
    )]
    Elsewhere(PathBuf),
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] InvalidProxy),
    /// A value cannot be written.
    #[error("the configuration cannot be written: {0}")]
    Write(String),
    /// The pinned root is gone.
    #[error("the pinned root document is missing: run `eic-login setup URL` again")]
    NoRoot,
    /// The root is not signed by a pinned key.
    #[error("the stored root document is not trusted: {0}; run `eic-login setup URL` again")]
    Root(#[from] Untrusted),
}

/// One line: the parser's own text is a drawing of several.
fn mistake(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", error.message().replace('\n', ", "))
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = if matches!(error, ConfigError::Root(_)) {
            exit_code::UNTRUSTED
        } else {
            exit_code::USAGE
        };
        Self::new(code, error.to_string()).because(Cause::Configuration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_path_buf();
        let paths =
            Paths::from_lookup(|name| (name == "HOME").then(|| home.clone().into())).unwrap();
        files::private_dir(&paths.config_dir).unwrap();
        std::fs::write(paths.config_file(), text).unwrap();
        Config::load(&paths)
    }

    #[test]
    fn a_file_that_ssh_was_set_up_with_and_that_is_not_there_is_no_empty_configuration() {
        // D22
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_path_buf();
        let paths =
            Paths::from_lookup(|name| (name == "HOME").then(|| home.clone().into())).unwrap();
        assert_eq!(Config::in_force(&paths).unwrap(), Config::default());
        files::private_dir(&paths.ssh_dir).unwrap();
        std::fs::write(paths.ssh_dir.join("config"), "Include eic.config\n").unwrap();
        std::fs::write(paths.ssh_dir.join("eic.config"), "").unwrap();
        let refused = Config::in_force(&paths).unwrap_err().to_string();
        assert!(refused.contains("XDG_CONFIG_HOME"), "{refused}");
        files::private_dir(&paths.config_dir).unwrap();
        std::fs::write(paths.config_file(), "").unwrap();
        assert!(Config::in_force(&paths).is_ok());
    }

    #[test]
    fn mistakes_are_told_in_one_line_with_their_number() {
        let text = load("patterns = []\n[[host]]\nmatch = \"i-*\"\nkey_typ = \"rsa\"\n");
        let text = text.unwrap_err().to_string();
        assert!(
            text.contains("line 4: ") && text.contains("key_typ"),
            "{text}"
        );
        assert!(!text.contains('\n'), "{text}");
    }

    const CA: &str = "[ca]\nurl = \"https://ca.example\"\nroot_fingerprints = [\"SHA256:x\"]\n";

    #[test]
    fn mistakes_are_refused_with_their_place() {
        for (bad, told) in [
            ("unknown = 1", "unknown"),
            ("patterns = [\"*\"]", "`*`"),
            ("patterns = [\"a\\nHost *\"]", "pattern"),
            ("run_dir = \"relative\"", "absolute"),
            (
                "[ca]\nurl = \"http://ca.example\"\nroot_fingerprints = [\"SHA256:x\"]",
                "http",
            ),
            (
                "[ca]\nurl = \"https://ca.example\"\nroot_fingerprints = []",
                "no key",
            ),
            ("[[host]]\nmatch = \"*\"\nttl_seconds = 4000", "ttl_seconds"),
            (
                "[[host]]\nmatch = \"web-*\"\nextensions = [\"permit-everything\"]",
                "permit-everything",
            ),
            ("a = 1\na = 2", "duplicate"),
            ("proxy = \"socks5://u:canary@p:1080\"", "`proxy`"),
            ("proxy = \"http://u:canary@p:port\"", "`proxy`"),
            (
                "proxy = \"http://u:canary@p:1\"\nno_proxy = [\"a b\"]",
                "`a b` in `no_proxy`",
            ),
            ("no_proxy = [\"ca.example\"]", "`no_proxy`"),
        ] {
            let error = load(bad).unwrap_err().to_string();
            assert!(
                error.contains("config.toml") && error.contains(told),
                "{bad:?}: {error}"
            );
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn the_written_file_reads_back_the_same() {
        let text = format!(
            "run_dir = \"/run/user/1000/eic\"\npatterns = [\"web-*\"]\n{CA}[[host]]\nmatch = \"db-*\"\nkey_type = \"ecdsa-p256\"\n"
        );
        let config = load(&text).unwrap();
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        assert_eq!(load("").unwrap(), Config::default());
    }

    #[test]
    fn a_proxy_is_kept_with_its_password_and_shown_without() {
        let text = format!("proxy = \"http://u:c@nary@p:3128\"\nno_proxy = [\"ca.example\"]\n{CA}");
        let config = load(&text).unwrap();
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        let proxy = config.proxy().unwrap().unwrap();
        assert_eq!(proxy.to_string(), "p:3128");
        assert!(!proxy.leads_to("ca.example", 443) && proxy.leads_to("sts.amazonaws.com", 443));
        let shown = config.without_password().to_toml().unwrap();
        assert!(shown.contains("http://***@p:3128"), "{shown}");
        assert!(!shown.contains("nary"), "{shown}");
        let plain = load("proxy = \"http://p:3128\"").unwrap();
        assert_eq!(plain.without_password(), plain);
    }

    #[test]
    fn the_first_matching_profile_counts() {
        let text = format!(
            "{CA}[[host]]\nmatch = \"db-*\"\nttl_seconds = 60\n[[host]]\nmatch = \"*\"\nttl_seconds = 120\n"
        );
        let config = load(&text).unwrap();
        assert_eq!(config.profile("db-1").ttl_seconds, Some(60));
        assert_eq!(config.profile("web-1").ttl_seconds, Some(120));
        assert_eq!(Config::default().profile("web-1"), HostProfile::default());
    }
}
