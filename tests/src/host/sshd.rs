//! A host's sshd: Debian's binary with a Debian-like configuration, in the host's room.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::error::{Error, Result};
use crate::host::read;
use crate::process::Process;
use crate::room::{Account, Room, append, make_folder, write};

/// How long sshd may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where an sshd with `Include` looks for more, first of all.
const INCLUDE: &str = "Include /etc/ssh/sshd_config.d/*.conf\n";

/// As Debian's package installs it, with the two host keys that the lab makes (an RSA key would cost a second).
const CONFIG: &str = "\
HostKey /etc/ssh/ssh_host_ed25519_key
HostKey /etc/ssh/ssh_host_ecdsa_key
PidFile /run/sshd.pid
KbdInteractiveAuthentication no
UsePAM yes
X11Forwarding yes
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
";

/// The listening sshd.
#[derive(Debug)]
pub(crate) struct Sshd {
    process: Process,
}

/// Writes sshd's configuration and makes host keys.
pub(crate) fn configure(room: &Room, lines: &str, has_include: bool) -> Result<()> {
    let folder = room.folder().join("etc/ssh");
    let include = if has_include { INCLUDE } else { "" };
    let config = format!("{include}{CONFIG}");
    write(&folder.join("sshd_config"), &config, 0o644)?;
    if has_include {
        make_folder(&folder.join("sshd_config.d"), 0o755)?;
    }
    if !lines.is_empty() {
        add_lines(&folder, "50-lab.conf", lines)?;
    }
    for kind in ["ed25519", "ecdsa"] {
        let file = format!("/etc/ssh/ssh_host_{kind}_key");
        let comment = format!("root@{}", room.name());
        room.command("ssh-keygen")
            .args(["-q", "-t", kind, "-N", "", "-C", &comment, "-f", &file])
            .run()?
            .success()?;
    }
    Ok(())
}

/// Adds lines to the configuration in `folder`: a file of their own where sshd reads further files.
pub(crate) fn add_lines(folder: &Path, name: &str, lines: &str) -> Result<()> {
    let drop_ins = folder.join("sshd_config.d");
    if drop_ins.exists() {
        write(&drop_ins.join(name), lines, 0o644)
    } else {
        append(&folder.join("sshd_config"), lines)
    }
}

/// Adds a line to a user's authorized_keys.
pub(crate) fn authorize(room: &Room, account: &Account, key: &str) -> Result<()> {
    let folder = room.folder().join("home").join(&account.name).join(".ssh");
    make_folder(&folder, 0o700)?;
    let file = folder.join("authorized_keys");
    let old = fs::read_to_string(&file).unwrap_or_default();
    write(&file, &format!("{old}{}\n", key.trim()), 0o600)?;
    for path in [&folder, &file] {
        chown(path, Some(account.id), Some(account.id)).map_err(|source| Error::Io {
            what: "give a user its keys".into(),
            source,
        })?;
    }
    Ok(())
}

/// The host's public keys, `type base64`, without comments.
pub(crate) fn host_keys(room: &Room) -> Result<Vec<String>> {
    let keys = ["ed25519", "ecdsa"].map(|kind| {
        read(
            room.folder()
                .join(format!("etc/ssh/ssh_host_{kind}_key.pub")),
        )
    });
    keys.into_iter()
        .map(|line| {
            Ok(line?
                .split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" "))
        })
        .collect()
}

impl Sshd {
    /// Starts sshd in the foreground; it logs to the room's /dev/log.
    pub(crate) fn start(room: &Room) -> Result<Sshd> {
        Ok(Sshd {
            process: room.command("/usr/sbin/sshd").arg("-D").start()?,
        })
    }

    /// Makes it read its configuration again.
    pub(crate) fn reload(&self) -> Result<()> {
        self.process.signal(Signal::HUP)
    }

    /// Waits until port 22 answers with a banner.
    pub(crate) fn wait(&mut self, address: SocketAddr, control: &Room) -> Result<()> {
        self.process.until("sshd's banner", PATIENCE, || {
            control.in_network(|| banner(address)).ok().flatten()
        })
    }
}

fn banner(address: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut start = [0u8; 4];
    stream.read_exact(&mut start).ok()?;
    (&start == b"SSH-").then_some(())
}
