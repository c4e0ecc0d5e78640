//! The options of the two commands that ssh runs: `--name value` pairs, each once, nothing else.
//! By hand, since these programs start once or twice for every login.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use eic_protocol::os_user::OsUser;

use super::ssh::WITH_VALUE;
use super::ssh_caller;
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

    /// The value of an option that may be left out.
    pub(super) fn optional<T: FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Failure> {
        let given = self.0.iter().any(|(given, _)| given == name);
        given.then(|| self.parsed(name)).transpose()
    }

    /// A number of seconds up to `max`; none where the option is not given.
    pub(super) fn seconds(&self, name: &str, max: u64) -> Result<Duration, Failure> {
        if !self.0.iter().any(|(given, _)| given == name) {
            return Ok(Duration::ZERO);
        }
        let seconds: u64 = self.parsed(name)?;
        if seconds > max {
            return Err(Failure::usage(format!("--{name}: at most {max} seconds")));
        }
        Ok(Duration::from_secs(seconds))
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
    ///
    /// # Errors
    /// Where `ssh-copy-id` runs the ssh.
    pub(super) fn ask(self) -> Result<ConnectAsk, Failure> {
        let ssh_pid = ssh_pid();
        ssh_caller::check(ssh_pid)?;
        Ok(ConnectAsk {
            user_agent: user_agent(&self.dir, ssh_pid),
            default_user: ssh_pid.is_some_and(|pid| is_default_user(&self.user, &self.host, pid)),
            user: self.user,
            host: self.host,
            port: self.port,
            ssh_pid,
            selection: Selection::from_env(),
            given: None,
        })
    }
}

/// The user's own agent. Once ssh has read its configuration, its `SSH_AUTH_SOCK` names our socket;
/// the environment that ssh itself was started with still names the user's.
pub(super) fn user_agent(dir: &Path, ssh_pid: Option<u32>) -> Option<PathBuf> {
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

/// Whether ssh goes by the name of this machine's user because nobody named another account: neither on its
/// command line nor, as far as that shows, in its configuration. Where that cannot be read, somebody did.
fn is_default_user(user: &OsUser, host: &HostName, ssh_pid: u32) -> bool {
    let Some(own) = std::env::var("USER")
        .ok()
        .or_else(|| std::env::var("LOGNAME").ok())
    else {
        return false;
    };
    let Ok(line) = std::fs::read(format!("/proc/{ssh_pid}/cmdline")) else {
        return false;
    };
    own == user.as_str() && !names_user(&line, user, host)
}

/// `user@host`, `ssh://user@host`, `-l user`, `-luser`, `-o User=user`, in the NUL-separated words of a command line.
fn names_user(line: &[u8], user: &OsUser, host: &HostName) -> bool {
    let words: Vec<String> = line
        .split(|b| *b == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let names = |word: &String| {
        let destination = word.strip_prefix("ssh://").unwrap_or(word);
        let option = word.strip_prefix("-o").unwrap_or(word).to_ascii_lowercase();
        destination.starts_with(&format!("{user}@"))
            || option.trim_start().starts_with("user=")
            || option.trim_start().starts_with("user ")
            || names_by_letter(word)
    };
    // What follows the host is the remote command.
    let before_host = |word: &&String| !word.eq_ignore_ascii_case(host.as_str());
    words.iter().skip(1).take_while(before_host).any(names)
}

/// Whether a cluster such as `-vl` has `-l` among its options; what follows an option with a value is that value
/// (scp gives `-oPermitLocalCommand=no`).
fn names_by_letter(word: &str) -> bool {
    let letters = word.strip_prefix('-').unwrap_or_default();
    let mut with_value = letters.chars().filter(|c| WITH_VALUE.contains(*c));
    !letters.starts_with('-') && with_value.next() == Some('l')
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
    fn an_account_that_was_named_is_told_from_the_laptops_own() {
        let (user, host) = ("alice".parse().unwrap(), "web-1".parse().unwrap());
        for (line, named) in [
            ("ssh\0web-1\0", false),
            ("ssh\0-v\0-p\x0022\0web-1\0ls\0-l\0", false),
            // As scp and sftp start it.
            (
                "ssh\0-x\0-oPermitLocalCommand=no\0-oClearAllForwardings=yes\0-oRemoteCommand=none\0-oRequestTTY=no\0--\0web-1\0",
                false,
            ),
            ("ssh\0-i/keys/all\0-o\0ControlPath=~/l\0web-1\0", false),
            ("ssh\0-oPermitLocalCommand=no\0-l\0alice\0--\0web-1\0", true),
            ("ssh\0-vl\0alice\0web-1\0", true),
            ("ssh\0alice@web-1\0", true),
            ("ssh\0ssh://alice@web-1\0", true),
            ("ssh\0-l\0alice\0web-1\0", true),
            ("ssh\0-lalice\0web-1\0", true),
            ("ssh\0-oUser=alice\0web-1\0", true),
            ("ssh\0-o\0User alice\0web-1\0", true),
        ] {
            assert_eq!(names_user(line.as_bytes(), &user, &host), named, "{line:?}");
        }
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
