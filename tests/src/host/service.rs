//! `eic-agent run` and its root helper on an enrolled host, as systemd would start them.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;

use crate::ca::Ca;
use crate::deadline::wait_for;
use crate::error::{Context, Result, unexpected};
use crate::host::{Host, SERVICE_ACCOUNT};
use crate::process::{Credentials, Process, RoomCommand};
use crate::room::{append, make_folder, write};

const AGENT: &str = "/usr/local/bin/eic-agent";
const SOCKET: &str = "/run/eic-helper.sock";
const HELPER: [&str; 3] = ["helper", "--listen", SOCKET];
const STATUS: &str = "/run/eic/status.json";
const TLS_ROOTS: &str = "/etc/eic/tls-roots.pem";

/// How long its first fetch may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The two processes. Dropping it ends them.
#[derive(Debug)]
pub struct AgentService {
    service: Running,
    helper: Running,
    socket: PathBuf,
    status: PathBuf,
}

/// A program that can be started again.
#[derive(Debug)]
struct Running {
    command: RoomCommand,
    process: Option<Process>,
}

impl Running {
    fn start(command: RoomCommand) -> Result<Self> {
        let process = Some(command.start()?);
        Ok(Self { command, process })
    }

    /// Without a chance to finish anything.
    fn kill(&mut self) {
        self.process = None;
    }

    fn again(&mut self) -> Result<()> {
        self.kill();
        self.process = Some(self.command.start()?);
        Ok(())
    }
}

impl AgentService {
    /// Starts both with `more` in `[service]`, and waits until the first trust bundle is in place.
    pub(super) fn start(host: &Host, ca: &Ca, more: &str) -> Result<Self> {
        let mut settings = format!("\n[service]\nca = \"{}\"\npoll_seconds = 2\n", ca.url());
        if let Some(root) = ca.tls_root() {
            write(&host.file(TLS_ROOTS), root, 0o644)?;
            settings.push_str(&format!("tls_roots = \"{TLS_ROOTS}\"\n"));
        }
        append(&host.file("/etc/eic/agent.toml"), &(settings + more))?;
        let runtime = host.file("/run/eic");
        make_folder(&runtime, 0o755)?;
        chown(&runtime, Some(SERVICE_ACCOUNT), Some(SERVICE_ACCOUNT))
            .context(|| "give the agent's service its folder")?;
        let helper = Running::start(host.command(AGENT).args(HELPER))?;
        let socket = host.file(SOCKET);
        answers(&socket)?;
        let account = Credentials {
            id: SERVICE_ACCOUNT,
        };
        let service = Self {
            service: Running::start(host.command(AGENT).arg("run").user(account))?,
            helper,
            socket,
            status: host.file(STATUS),
        };
        // Not null: documents are installed.
        service.wait_for("\"refresh_after\": 1")?;
        Ok(service)
    }

    /// Kills the unprivileged half and starts it again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.service.again()
    }

    /// Kills the root helper, whatever it is doing.
    pub fn kill_helper(&mut self) {
        self.helper.kill();
    }

    /// The root helper's pid as seen from the machine.
    ///
    /// # Errors
    /// When it does not run.
    pub fn helper_pid(&self) -> Result<Pid> {
        let process = self.helper.process.as_ref();
        process
            .context(|| "find the root helper: it was stopped")?
            .pid()
    }

    /// Whether the root helper has ended.
    pub fn helper_has_ended(&mut self) -> bool {
        let process = self.helper.process.as_mut();
        process.is_none_or(|process| process.exit().is_some())
    }

    /// Starts the root helper again and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_helper(&mut self) -> Result<()> {
        self.helper.again()?;
        answers(&self.socket)
    }

    /// Resident memory of the unprivileged half in KiB: all of it, and what is not its program's file.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resident_kib(&self) -> Result<(u32, u32)> {
        let process = self.service.process.as_ref();
        let pid = process.context(|| "measure the agent's service: it was stopped")?;
        let file = format!("/proc/{}/status", pid.pid()?.as_raw_nonzero());
        let text = fs::read_to_string(&file).context(|| format!("read `{file}`"))?;
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.context(|| format!("find `{name}` in `{file}`"))
        };
        Ok((kib("VmRSS:")?, kib("RssAnon:")?))
    }

    /// What the service says of itself (JSON).
    pub fn status(&self) -> String {
        fs::read_to_string(&self.status).unwrap_or_default()
    }

    /// Waits until its status contains `text`.
    ///
    /// # Errors
    /// When it does not in time; with the status.
    pub fn wait_for(&self, text: &str) -> Result<()> {
        let found = wait_for(&format!("`{text}` in the agent's status"), PATIENCE, || {
            self.status().contains(text).then_some(())
        });
        found.map_err(|cause| unexpected(&cause.to_string(), self.status()))
    }
}

/// Waits until somebody accepts connections: the socket of a killed helper is still there.
fn answers(socket: &Path) -> Result<()> {
    wait_for("the helper's socket", PATIENCE, || {
        UnixStream::connect(socket).ok().map(drop)
    })
}

/// Where the program of both is, beside the agent.
pub(super) fn copy_program(host: &Host) -> Result<()> {
    let program = host.program("eic-agent-service")?;
    crate::room::copy_program(&program, Path::new(&host.file("/usr/local/bin")))
}
