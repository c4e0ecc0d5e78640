//! Through another ssh host: `ssh -W`. The other login is ssh's business, with the user's own configuration; where
//! it is a host of ours, ssh starts this program again for it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use eic_protocol::os_user::OsUser;
use eic_protocol::text::printable;
use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, recv};
use serde::{Deserialize, Serialize};

use super::chain::{self, Chain};
use super::race::Canceller;
use crate::exit_code::{self, Failure};
use crate::host_name::HostName;

/// How long the first byte may take: a login at the bastion, perhaps with a question on the terminal.
const FIRST_BYTE: Duration = Duration::from_secs(60);

/// `[user@]host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bastion {
    user: Option<OsUser>,
    host: HostName,
    port: Option<u16>,
}

impl Bastion {
    /// The host.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// The arguments of ssh: its options end before the destination (H-03).
    fn arguments(&self, address: IpAddr, port: u16) -> Vec<String> {
        let target = match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        let mut arguments = vec!["-W".to_owned(), target];
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        let destination = match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.to_string(),
        };
        arguments.extend(["--".to_owned(), destination]);
        arguments
    }
}

impl FromStr for Bastion {
    type Err = InvalidBastion;

    fn from_str(text: &str) -> Result<Self, InvalidBastion> {
        let invalid = || InvalidBastion(printable(text));
        let (user, place) = text
            .split_once('@')
            .map_or((None, text), |(user, place)| (Some(user), place));
        // An address of IPv6 has no port here: ssh_config can give it one.
        let (host, port) = match place.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (place, None),
        };
        Ok(Self {
            user: user.map(str::parse).transpose().map_err(|_| invalid())?,
            host: host.parse().map_err(|_| invalid())?,
            port: port.map(str::parse).transpose().map_err(|_| invalid())?,
        })
    }
}

impl TryFrom<String> for Bastion {
    type Error = InvalidBastion;

    fn try_from(text: String) -> Result<Self, InvalidBastion> {
        text.parse()
    }
}

impl From<Bastion> for String {
    fn from(bastion: Bastion) -> Self {
        bastion.to_string()
    }
}

impl fmt::Display for Bastion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Not a bastion.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a bastion: expected `[user@]host[:port]`")]
pub struct InvalidBastion(String);

/// Connects to an address as the bastion sees it. `user_agent` is the agent for the bastion's login: the one in our
/// own environment may be a socket for the login that is being made. `behind` are the hosts that wait for that login.
///
/// # Errors
/// A [`Failure`]; ssh has said more on stderr.
pub fn open(
    bastion: &Bastion,
    address: IpAddr,
    port: u16,
    user_agent: Option<&Path>,
    behind: &Chain,
    canceller: &Canceller,
) -> Result<UnixStream, Failure> {
    let broken = |e: io::Error| Failure::of(&e).context("cannot run ssh for the bastion");
    let (ours, theirs) = UnixStream::pair().map_err(broken)?;
    let out = theirs.try_clone().map_err(broken)?;
    let mut command = Command::new("ssh");
    command
        .args(bastion.arguments(address, port))
        .env(chain::VARIABLE, behind.value())
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::from(OwnedFd::from(out)));
    match user_agent {
        Some(agent) => command.env("SSH_AUTH_SOCK", agent),
        None => command.env_remove("SSH_AUTH_SOCK"),
    };
    let child = command.spawn().map_err(broken)?;
    // The ends that ssh inherited: without them its end would never show.
    drop(command);
    canceller.watch(child);
    let spoke = speaks(&ours);
    canceller.release();
    match spoke {
        Ok(true) => Ok(ours),
        Ok(false) => Err(unreached(bastion, address, port, "ssh to it ended")),
        Err(_) => Err(unreached(
            bastion,
            address,
            port,
            "the host said nothing within a minute",
        )),
    }
}

fn unreached(bastion: &Bastion, address: IpAddr, port: u16, why: &str) -> Failure {
    let text = format!("{address} port {port} was not reached through `{bastion}`: {why}");
    Failure::new(exit_code::UNREACHABLE, text)
}

/// Whether the far sshd sends its first byte (RFC 4253 §4.2: the server speaks without being asked). It stays there.
fn speaks(stream: &UnixStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(FIRST_BYTE))?;
    let mut byte = [0];
    // Ctrl-Z and fg stop this process too: a socket with a time limit then meets EINTR (signal(7)).
    let (_, received) = retry_on_intr(|| recv(stream.as_fd(), &mut byte[..], RecvFlags::PEEK))?;
    stream.set_read_timeout(None)?;
    Ok(received > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bastions_that_are_options_or_commands_are_refused() {
        // H-03
        for bad in [
            "",
            "-oProxyCommand=x",
            "$(id)@h",
            "u@-l",
            "a b",
            "h:",
            "h:x",
            "h:99999",
            "u@",
            "@h",
            "h;id",
        ] {
            assert!(bad.parse::<Bastion>().is_err(), "{bad:?}");
        }
        for good in ["jump.example.com", "ops@jump:2222", "i-01234567", "fd00::1"] {
            assert_eq!(good.parse::<Bastion>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn sshs_options_end_before_the_destination() {
        let bastion: Bastion = "ops@jump:2222".parse().unwrap();
        let words = bastion.arguments("fd00::5".parse().unwrap(), 22);
        assert_eq!(
            words,
            ["-W", "[fd00::5]:22", "-p", "2222", "--", "ops@jump"]
        );
        let bare: Bastion = "jump".parse().unwrap();
        assert_eq!(
            bare.arguments("10.0.0.5".parse().unwrap(), 22),
            ["-W", "10.0.0.5:22", "--", "jump"]
        );
    }
}
