//! The options of the two commands that ssh runs: `--name value` pairs, each once, nothing else.
//! By hand, since these programs start once or twice for every login.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use eic_protocol::os_user::OsUser;

use crate::control::message::ConnectAsk;
use crate::credentials::Selection;
use crate::exit_code::Failure;
use crate::host_name::HostName;

/// Parsed pairs.
#[derive(Debug)]
pub(super) struct Options(Vec<(String, String)>);

/// What both commands are told about the login.
#[derive(Debug)]
pub(super) struct LoginOptions {
    pub(super) dir: PathBuf,
    pub(super) user: OsUser,
    pub(super) host: HostName,
    pub(super) port: u16,
}

impl Options {
    pub(super) fn parse(args: &[OsString], known: &[&str]) -> Result<Self, Failure> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let name = name
                .to_str()
                .and_then(|n| n.strip_prefix("--"))
                .filter(|n| known.contains(n));
            let name = name.ok_or_else(|| {
                Failure::usage(format!(
                    "unknown option; known are: --{}",
                    known.join(", --")
                ))
            })?;
            let value = args.next().and_then(|value| value.to_str());
            let value = value.ok_or_else(|| Failure::usage(format!("--{name} needs a value")))?;
            if pairs.iter().any(|(given, _)| given == name) {
                return Err(Failure::usage(format!("--{name} is given twice")));
            }
            pairs.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self(pairs))
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, Failure> {
        let value = self
            .0
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str());
        value.ok_or_else(|| Failure::usage(format!("--{name} is missing")))
    }

    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<T, Failure> {
        self.text(name)?
            .parse()
            .map_err(|e| Failure::usage(format!("--{name}: {e}")))
    }

    pub(super) fn login(&self) -> Result<LoginOptions, Failure> {
        let dir = PathBuf::from(self.text("dir")?);
        if !dir.is_absolute() {
            return Err(Failure::usage("--dir must be an absolute path"));
        }
        Ok(LoginOptions {
            dir,
            user: self.parsed("user")?,
            host: self.parsed("host")?,
            port: self.parsed("port")?,
        })
    }
}

impl LoginOptions {
    /// The login that the resident agent is asked about, with what the environment says.
    pub(super) fn ask(self) -> ConnectAsk {
        let ssh_pid = ssh_pid();
        ConnectAsk {
            user_agent: user_agent(&self.dir, ssh_pid),
            user: self.user,
            host: self.host,
            port: self.port,
            ssh_pid,
            selection: Selection::from_env(),
        }
    }
}

/// The user's own agent. Once ssh has read its configuration, its `SSH_AUTH_SOCK` names our socket;
/// the environment that ssh itself was started with still names the user's.
fn user_agent(dir: &Path, ssh_pid: Option<u32>) -> Option<PathBuf> {
    let own = |path: &PathBuf| path.is_absolute() && !path.starts_with(dir);
    let ours = std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from);
    ours.filter(own).or_else(|| {
        let environment = std::fs::read(format!("/proc/{}/environ", ssh_pid?)).ok()?;
        let value = environment
            .split(|b| *b == 0)
            .find_map(|line| line.strip_prefix(b"SSH_AUTH_SOCK="))?;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(value))).filter(own)
    })
}

/// The ssh process that started this one. ssh puts `exec` before its ProxyCommand, so there is no shell between.
fn ssh_pid() -> Option<u32> {
    let parent = rustix::process::getppid()?;
    u32::try_from(parent.as_raw_nonzero().get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["dir", "user", "host", "port"];

    fn login(args: &[&str]) -> Result<LoginOptions, Failure> {
        Options::parse(&args.iter().map(OsString::from).collect::<Vec<_>>(), &KNOWN)?.login()
    }

    #[test]
    fn hostile_users_hosts_and_options_are_refused() {
        // H-03
        let good = [
            "--dir",
            "/run/eic",
            "--user",
            "alice",
            "--host",
            "i-01234567",
            "--port",
            "22",
        ];
        assert!(login(&good).is_ok());
        for (at, bad) in [
            (1, "run/eic"),
            (3, "$(id)"),
            (3, "a%rb"),
            (3, "x\ny"),
            (3, "-l"),
            (3, "Alice"),
            (5, "-oProxyCommand=touch /tmp/p"),
            (5, "a b"),
            (5, "a;b"),
            (7, "0x16"),
            (7, "65536"),
            (7, ""),
            (0, "--unknown"),
            (0, "dir"),
            (2, "--dir"),
        ] {
            let mut args = good;
            args[at] = bad;
            assert!(login(&args).is_err(), "{bad:?}");
        }
        assert!(login(&good[..7]).is_err() && login(&good[..6]).is_err() && login(&[]).is_err());
    }
}
