//! The host's /dev/log: a datagram socket whose messages are collected in a file.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::error::{Context, Result};

/// A syslog message is at most 8 KiB with every sender here (RFC 5424 section 6.1 asks receivers for 2 KiB).
const LONGEST: usize = 8192;

/// The collector of one host.
#[derive(Debug)]
pub(crate) struct Syslog {
    file: PathBuf,
    socket: PathBuf,
    collector: Option<JoinHandle<()>>,
}

impl Syslog {
    /// Listens on `dev/log` of a room's folder and writes to `log/syslog`.
    pub(crate) fn start(room: &Path) -> Result<Syslog> {
        let socket = room.join("dev/log");
        let file = room.join("log/syslog");
        let listener = UnixDatagram::bind(&socket).context(|| "listen on the host's /dev/log")?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))
            .context(|| "open /dev/log to everyone")?;
        let log = File::create(&file).context(|| "write the host's log")?;
        let collector = std::thread::spawn(move || collect(&listener, log));
        Ok(Syslog {
            file,
            socket,
            collector: Some(collector),
        })
    }

    /// The file: the lab's folder is at the same place in each room.
    pub(crate) fn path(&self) -> PathBuf {
        self.file.clone()
    }

    /// Everything so far, one message a line.
    pub(crate) fn text(&self) -> String {
        fs::read(&self.file)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        // An empty datagram is the collector's signal to end; no program logs one.
        let told = UnixDatagram::unbound().and_then(|socket| socket.send_to(&[], &self.socket));
        if let (Ok(_), Some(collector)) = (told, self.collector.take()) {
            drop(collector.join());
        }
    }
}

fn collect(listener: &UnixDatagram, mut log: File) {
    let mut buffer = [0u8; LONGEST];
    while let Ok(length @ 1..) = listener.recv(&mut buffer) {
        let message = buffer.get(..length).unwrap_or_default();
        let line = message
            .trim_ascii_end()
            .strip_suffix(b"\0")
            .unwrap_or(message.trim_ascii_end());
        if log.write_all(&[line, b"\n"].concat()).is_err() {
            return;
        }
    }
}
