//! moto in server mode: the stand-in for STS, IAM, EC2 and KMS, as a process in the control room's network.
//!
//! It runs in its signature-checking mode: SigV4 signatures, session tokens and identity policies are judged. What it
//! lacks is added by the front in [`crate::standin`].

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::binaries;
use crate::cache::{kept, step};
use crate::error::{Context, Result};
use crate::process::Process;
use crate::room::Room;

/// The frozen packages of the virtual environment.
const REQUIREMENTS: &str = include_str!("../../moto-requirements.txt");

/// The version among them.
const VERSION: &str = "5.2.1";

/// Where moto listens in the control room.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 5000);

/// How long Python may take to import everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running moto.
#[derive(Debug)]
pub(crate) struct Moto {
    _process: Process,
}

impl Moto {
    /// Starts it in the room's network and waits until it answers.
    pub(crate) fn start(room: &Room) -> Result<Moto> {
        let python = python()?;
        let mut process = room
            .command(python.display().to_string())
            .args([
                "-m",
                "moto.server",
                "-H",
                "127.0.0.1",
                "-p",
                &ADDRESS.1.to_string(),
            ])
            .env("MOTO_EC2_LOAD_DEFAULT_AMIS", "false") // any image id will do, and the table costs a second
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .network_only()
            .start()?;
        process.until("moto's port", PATIENCE, || {
            room.in_network(|| {
                TcpStream::connect_timeout(&Self::address(), Duration::from_secs(1)).ok()
            })
            .ok()
            .flatten()
        })?;
        Ok(Moto { _process: process })
    }

    /// Where it listens.
    pub(crate) fn address() -> SocketAddr {
        ADDRESS.into()
    }
}

/// The machine's Python when it has this very moto, else the cached virtual environment's.
fn python() -> Result<PathBuf> {
    let system = binaries::on_path("python3", "python3-venv")?;
    let (interpreter, moto) = inspected(&system)?;
    if moto == VERSION {
        Ok(interpreter)
    } else {
        virtual_environment(&interpreter)
    }
}

/// The interpreter behind a `python3` that may be a wrapper script, and its version of moto if it has one.
fn inspected(python: &Path) -> Result<(PathBuf, String)> {
    let script =
        "import importlib.metadata as m, sys\nprint(sys.executable)\nprint(m.version('moto'))";
    let output = Command::new(python)
        .args(["-c", script])
        .stderr(Stdio::null())
        .output()
        .context(|| "run python3")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().map(str::to_owned);
    let interpreter = lines.next().context(|| "run python3: it printed nothing")?;
    Ok((interpreter.into(), lines.next().unwrap_or_default()))
}

/// `target/eic-lab/venv-VERSION`, made on first use.
fn virtual_environment(system: &Path) -> Result<PathBuf> {
    let folder = kept(&format!("venv-{VERSION}"), REQUIREMENTS, |folder| {
        let requirements = folder.join("requirements.txt");
        step(Command::new(system).args(["-m", "venv"]).arg(folder))?;
        fs::write(&requirements, REQUIREMENTS).context(|| "write moto's requirements")?;
        let pip = ["-m", "pip", "install", "--quiet", "--no-input", "-r"];
        step(
            Command::new(folder.join("bin/python"))
                .args(pip)
                .arg(&requirements),
        )
        .map(drop)
    })?;
    Ok(folder.join("bin/python"))
}
