//! How bytes get to the host's sshd. A way yields one connected descriptor ([`Link`]): the TCP connection itself,
//! or one end of a socket pair whose other end a [`carrier`] pumps. What hands it to ssh is the same for all.

pub mod bastion;
pub mod carrier;
pub mod chain;
pub mod direct;
pub mod endpoint;
pub mod hand_over;
pub mod order;
pub mod proxy;
pub mod pump;
pub mod race;
pub mod slots;
pub mod ssm;
pub mod websocket;
pub mod winner;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One way to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// TCP to the host's own addresses.
    Direct,
    /// Through another ssh host (`ssh -W`).
    Bastion,
    /// Through an EC2 Instance Connect Endpoint.
    Endpoint,
    /// Through Session Manager.
    Ssm,
}

impl Way {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Bastion, Self::Endpoint, Self::Ssm];

    /// The word for configuration, options and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bastion => "bastion",
            Self::Endpoint => "endpoint",
            Self::Ssm => "ssm",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which way to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Via {
    /// Whichever answers first, in the order of what they cost.
    #[default]
    Auto,
    /// This one, and no other.
    Only(Way),
}

impl FromStr for Via {
    type Err = UnknownWay;

    fn from_str(text: &str) -> Result<Self, UnknownWay> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let way = Way::ALL.into_iter().find(|way| way.as_str() == text);
        way.map(Self::Only)
            .ok_or_else(|| UnknownWay(eic_protocol::text::printable(text)))
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(way) => way.fmt(f),
        }
    }
}

impl TryFrom<String> for Via {
    type Error = UnknownWay;

    fn try_from(text: String) -> Result<Self, UnknownWay> {
        text.parse()
    }
}

impl From<Via> for String {
    fn from(via: Via) -> Self {
        via.to_string()
    }
}

/// Not a way.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a way to a host: use `auto`, `direct`, `bastion`, `endpoint` or `ssm`")]
pub struct UnknownWay(String);

/// A connected descriptor.
#[derive(Debug)]
pub enum Link {
    /// The host's own connection.
    Tcp(TcpStream),
    /// Our end of a socket pair; somebody else pumps the other one.
    Carried(UnixStream),
}

impl Link {
    /// A second handle of the same connection.
    ///
    /// # Errors
    /// The system's error.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Carried(stream) => stream.try_clone().map(Self::Carried),
        }
    }

    /// Says that no more bytes will be sent.
    ///
    /// # Errors
    /// The system's error.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Carried(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Carried(stream) => stream.as_fd(),
        }
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Carried(stream) => stream.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Carried(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_name_no_way_are_refused() {
        for bad in ["", "Direct", "ssh", "SSM", "auto ", "endpoint,direct"] {
            assert!(bad.parse::<Via>().is_err(), "{bad:?}");
        }
        for via in ["auto", "direct", "bastion", "endpoint", "ssm"] {
            assert_eq!(via.parse::<Via>().unwrap().to_string(), via);
        }
    }
}
