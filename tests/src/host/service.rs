//! `eic-agent run` and its root helper on an enrolled host, as systemd would start them.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use crate::ca::Ca;
use crate::deadline::wait_for;
use crate::error::{Context, Result};
use crate::host::{Host, SERVICE_ACCOUNT};
use crate::process::{Credentials, Process};
use crate::room::{append, make_folder, write};

use std::time::Duration;

const AGENT: &str = "/usr/local/bin/eic-agent";
const SOCKET: &str = "/run/eic-helper.sock";
const STATUS: &str = "/run/eic/status.json";
const TLS_ROOTS: &str = "/etc/eic/tls-roots.pem";

/// How long its first fetch may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The two processes. Dropping it ends them.
#[derive(Debug)]
pub struct AgentService {
    _service: Process,
    _helper: Process,
    status: std::path::PathBuf,
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
        let helper = host
            .command(AGENT)
            .args(["helper", "--listen", SOCKET])
            .start()?;
        let socket = host.file(SOCKET);
        wait_for("the helper's socket", PATIENCE, || {
            socket.exists().then_some(())
        })?;
        let account = Credentials {
            id: SERVICE_ACCOUNT,
        };
        let service = host.command(AGENT).arg("run").user(account).start()?;
        let service = Self {
            _service: service,
            _helper: helper,
            status: host.file(STATUS),
        };
        // Not null: documents are installed.
        service.wait_for("\"refresh_after\": 1")?;
        Ok(service)
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
        found.map_err(|cause| crate::error::unexpected(&cause.to_string(), self.status()))
    }
}

/// Where the program of both is, beside the agent.
pub(super) fn copy_program(host: &Host) -> Result<()> {
    let program = crate::binaries::find("eic-agent-service")?;
    crate::room::copy_program(&program, Path::new(&host.file("/usr/local/bin")))
}
