//! The names `mssh` and `msftp`: the command lines of the EC2 Instance Connect CLI (1.0.3), made into one for the
//! installed ssh or sftp. Nothing goes through a shell, and where that program takes ssh's own flags for something
//! else, ssh's meaning counts. Starts nothing and calls nobody.

mod command_line;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

use crate::zone::Zone;

pub use command_line::Refusal;

/// Which program is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `mssh`: ssh.
    Mssh,
    /// `msftp`: sftp.
    Msftp,
}

impl Program {
    /// By the name that this program was started under.
    #[must_use]
    pub fn of(argv0: &OsString) -> Option<Self> {
        match Path::new(argv0).file_name()?.to_str()? {
            "mssh" => Some(Self::Mssh),
            "msftp" => Some(Self::Msftp),
            _ => None,
        }
    }

    /// Its own name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mssh => "mssh",
            Self::Msftp => "msftp",
        }
    }

    /// The program that does the work.
    #[must_use]
    pub fn runs(self) -> &'static str {
        match self {
            Self::Mssh => "ssh",
            Self::Msftp => "sftp",
        }
    }

    /// The usage text.
    #[must_use]
    pub fn usage(self) -> String {
        let (name, ssh) = (self.name(), self.runs());
        let target = match self {
            Self::Mssh => "target [command]",
            Self::Msftp => "target",
        };
        format!(
            "usage: {name} [-t instance_id] [-u profile] [-z availability_zone] [-r region] [-d] [supported {ssh} flags] {target}\n"
        )
    }
}

/// A command line that is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which program.
    pub program: Program,
    /// The instance.
    pub instance: InstanceId,
    /// The account there.
    pub user: OsUser,
    /// Where to connect, if not to the instance's own addresses: an address or a DNS name.
    pub host: Option<String>,
    /// `-u`.
    pub profile: Option<String>,
    /// `-r`.
    pub region: Option<AwsRegion>,
    /// `-z`.
    pub zone: Option<Zone>,
    /// `-d`.
    pub debug: bool,
    /// Flags for ssh or sftp, as they were.
    pub flags: Vec<OsString>,
    /// The remote command, word by word; for sftp nothing.
    pub command: Vec<OsString>,
    /// sftp's file.
    pub file: Option<String>,
}

impl Line {
    /// Understands the words after the program's name.
    ///
    /// # Errors
    /// [`Refusal`] with the documented message and exit code.
    pub fn parse(program: Program, words: &[OsString]) -> Result<Self, Refusal> {
        command_line::parse(program, words)
    }

    /// The arguments of ssh or sftp, after the `-o` options that this program adds.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let verbose = self.debug.then(|| OsString::from("-v"));
        let file = self
            .file
            .as_ref()
            .map_or_else(String::new, |file| format!(":{file}"));
        let destination = format!("{}@{}{file}", self.user, self.instance);
        verbose
            .into_iter()
            .chain(self.flags.iter().cloned())
            .chain(["--".into(), destination.into()])
            .chain(self.command_words())
            .collect()
    }

    /// ssh goes on reading options behind the destination, up to the first word that is none.
    fn command_words(&self) -> impl Iterator<Item = OsString> {
        let first = self.command.first().map(|word| word.to_string_lossy());
        let guard = first
            .filter(|word| word.starts_with('-'))
            .map(|_| OsString::from("--"));
        guard.into_iter().chain(self.command.iter().cloned())
    }

    /// Where to connect instead, resolved: [`Line::host`] may be a name.
    ///
    /// # Errors
    /// The system's error for a name that does not resolve.
    pub fn address(&self) -> std::io::Result<Option<IpAddr>> {
        use std::net::ToSocketAddrs as _;
        let Some(host) = &self.host else {
            return Ok(None);
        };
        let found = (host.as_str(), 22).to_socket_addrs()?.next();
        let nothing = || std::io::Error::other("the name has no address");
        found.map(|found| Some(found.ip())).ok_or_else(nothing)
    }
}

#[cfg(test)]
mod tests;
