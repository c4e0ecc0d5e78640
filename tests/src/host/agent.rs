//! Our agent on a host: by hand for a legacy host, by its own installer for one that trusts a CA.

use std::fs;
use std::path::PathBuf;

use crate::error::{Context, Result};
use crate::host::Host;
use crate::room::{copy_program, make_folder, write};

/// Where the agent is on a host: root-owned all the way up, as sshd demands.
const AGENT: &str = "/usr/local/bin/eic-agent";

/// Where the trust documents are put before the installer takes them.
const STATE: &str = "/root/eic-state";

/// The drop-in of a legacy host, as the official package configures its scripts.
const LEGACY_SSHD: &str = "\
AuthorizedKeysCommand /usr/local/bin/eic-agent authorized-keys %u %f
AuthorizedKeysCommandUser ec2-instance-connect
";

/// The agent's configuration: the test signer's root stands for Amazon's.
const CONFIG: &str = "[instance_connect]\nroots = \"/etc/eic/instance-connect-roots.pem\"\n";

/// Makes the trust documents for a host; see [`HostBuilder::enrolled`](crate::host::HostBuilder::enrolled).
type StateMaker = Box<dyn FnOnce(&Host) -> Result<PathBuf>>;

/// How the agent gets onto a host.
pub(super) enum Agent {
    /// Instance Connect by hand.
    InstanceConnectOnly,
    /// `eic-agent install`.
    Enrolled {
        /// The root key to trust.
        root_fingerprint: String,
        /// Makes the folder with the trust documents.
        state: StateMaker,
    },
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Agent::InstanceConnectOnly => f.write_str("InstanceConnectOnly"),
            Agent::Enrolled {
                root_fingerprint, ..
            } => write!(f, "Enrolled({root_fingerprint})"),
        }
    }
}

impl Agent {
    /// Puts the agent onto a running host and lets sshd use it.
    pub(super) fn set_up(self, host: &mut Host) -> Result<()> {
        copy_program(&host.program("eic-agent")?, &host.file("/usr/local/bin"))?;
        super::service::copy_program(host)?;
        write_config(host)?;
        match self {
            Agent::InstanceConnectOnly => {
                let name = "60-ec2-instance-connect.conf";
                super::sshd::add_lines(&host.file("/etc/ssh"), name, LEGACY_SSHD)?;
            }
            Agent::Enrolled {
                root_fingerprint,
                state,
            } => {
                copy_state(host, &state(host)?)?;
                install(host, &root_fingerprint)?;
            }
        }
        host.reload_sshd()
    }
}

fn write_config(host: &Host) -> Result<()> {
    let Some(aws) = host.lab().aws_if_any() else {
        return Ok(());
    };
    make_folder(&host.file("/etc/eic"), 0o755)?;
    let roots = aws.signer_chain(&host.instance().region)?.root.pem();
    write(
        &host.file("/etc/eic/instance-connect-roots.pem"),
        &roots,
        0o644,
    )?;
    write(&host.file("/etc/eic/agent.toml"), CONFIG, 0o644)
}

fn copy_state(host: &Host, source: &std::path::Path) -> Result<()> {
    let target = host.file(STATE);
    make_folder(&target, 0o700)?;
    for entry in fs::read_dir(source).context(|| format!("read `{}`", source.display()))? {
        let file = entry.context(|| "read the trust documents")?;
        fs::copy(file.path(), target.join(file.file_name()))
            .context(|| "copy the trust documents to the host")?;
    }
    Ok(())
}

/// `--no-reload`: the lab reloads sshd itself and waits until it listens again.
fn install(host: &Host, root_fingerprint: &str) -> Result<()> {
    let args = [
        "install",
        "--root-fingerprint",
        root_fingerprint,
        "--state-from",
        STATE,
        "--no-reload",
    ];
    host.exec(AGENT, args).map(drop)
}
