//! The installed ssh as the judge: the settings that it would use, and a login with its own account of it.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use eic_protocol::os_user::OsUser;

use super::{Patient, SshConfigFile, is_set_up, not_read, ssh_output};
use crate::cause::Cause;
use crate::config::Config;
use crate::control::message::ConnectAsk;
use crate::exit_code::{self, Failure};
use crate::files;
use crate::host_name::matches_pattern;

/// Most that is read of ssh's messages. Bytes.
const MAX_OUTPUT: u64 = 256 * 1024;

/// How ssh is started.
#[derive(Clone, Debug)]
pub struct Ssh {
    /// `ssh -F FILE`: another configuration than the user's own.
    pub config: SshConfigFile,
    /// This program, whose `ssh` works where setup was not run.
    pub program: PathBuf,
}

/// What `ssh -G` says of the host.
pub(super) struct Settings {
    pub(super) user: OsUser,
    pub(super) port: u16,
    proxy_command: String,
    identity_agent: String,
}

impl Ssh {
    /// The settings that ssh has for the host.
    pub(super) fn settings(&self, patient: &Patient) -> Result<Settings, Failure> {
        let mut command = self.plain();
        command.arg("-G").arg("--").arg(patient.host.as_str());
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|e| Failure::of(&e))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let line = text.lines().last().unwrap_or_default().to_owned();
            return Err(Failure::usage(line).because(Cause::SshConfiguration));
        }
        Settings::read(&String::from_utf8_lossy(&output.stdout))
    }

    /// Logs in, runs `true`, and tells why it did not work.
    pub(super) fn log_in(
        &self,
        patient: &Patient,
        login: &ConnectAsk,
        deadline: Duration,
    ) -> Result<String, Failure> {
        let mut command = if self.config.is_some() || is_set_up(&patient.paths) {
            self.plain()
        } else {
            let mut wrapper = Command::new(&self.program);
            wrapper.arg("ssh");
            wrapper
        };
        command.args(["-v", "-T", "-oBatchMode=yes", "-oControlPath=none"]);
        command.args(["-oConnectTimeout=30", "-oNumberOfPasswordPrompts=0"]);
        command.arg(format!("-l{}", login.user));
        command.arg("--").arg(patient.host.as_str()).arg("true");
        let nonce = files::random_name().map_err(|e| Failure::of(&e))?;
        command.env(crate::terminal::TELL_CAUSE, &nonce);
        let output = run(command, deadline).map_err(|e| Failure::of(&e))?;
        if output.status.success() {
            return Ok(format!("{}@{} logged in", login.user, patient.host));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(ssh_output::diagnose(&said, &nonce))
    }

    fn plain(&self) -> Command {
        let mut command = Command::new("ssh");
        if let Some(file) = &self.config {
            command.arg("-F").arg(file);
        }
        command
    }
}

impl Settings {
    fn read(text: &str) -> Result<Self, Failure> {
        let value = |name: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
            let found = pairs.find(|(n, _)| *n == name);
            found.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        let user = value("user");
        let wrong = |e: eic_protocol::os_user::InvalidOsUser| {
            Failure::usage(format!("{e}; name the account: USER@HOST")).because(Cause::WhichUser)
        };
        Ok(Self {
            user: user.parse().map_err(wrong)?,
            port: value("port").parse().unwrap_or(22),
            proxy_command: value("proxycommand"),
            identity_agent: value("identityagent"),
        })
    }

    /// Whether the account is what this machine's user is called.
    pub(super) fn is_local_user(&self) -> bool {
        let own = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
        own.is_ok_and(|own| own == self.user.as_str())
    }

    /// Why plain ssh does not come by this program, where it does not.
    pub(super) fn wrong(&self, patient: &Patient, config: &Config) -> Option<Failure> {
        let ours = self.proxy_command.contains(" connect --dir ");
        let run_dir = config.run_dir(&patient.paths);
        let agent = self.identity_agent.contains(&*run_dir.to_string_lossy());
        if ours && agent {
            return None;
        }
        let host = patient.host.as_str();
        let covered = ["i-*", "mi-*"]
            .into_iter()
            .chain(config.patterns.iter().map(String::as_str))
            .any(|pattern| matches_pattern(pattern, host));
        let set_up = patient.ssh.config.is_some() || is_set_up(&patient.paths);
        let (message, cause) = if !set_up {
            let elsewhere = not_read(&patient.paths);
            let told = || "plain ssh does not use this program yet".to_owned();
            (elsewhere.unwrap_or_else(told), Cause::NotSetUp)
        } else if !covered {
            (
                format!("no pattern covers `{host}`: plain ssh does not use this program for it"),
                Cause::NotCovered,
            )
        } else {
            let option = if ours {
                "IdentityAgent"
            } else {
                "ProxyCommand"
            };
            (
                format!("ssh's configuration sets another {option} for `{host}`"),
                Cause::OverriddenOptions,
            )
        };
        Some(Failure::new(exit_code::USAGE, message).because(cause))
    }
}

/// Runs to the end or to the deadline; what it says is read as far as [`MAX_OUTPUT`].
fn run(mut command: Command, deadline: Duration) -> std::io::Result<Output> {
    let until = Instant::now() + deadline;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut said = said?;
        let _ = said.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
        // The rest is read too, so that ssh does not wait for us.
        let _ = std::io::copy(&mut said, &mut std::io::sink());
        Some(bytes)
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= until {
            child.kill()?;
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let stderr = reader.join().ok().flatten().unwrap_or_default();
    Ok(Output {
        status,
        stdout: Vec::new(),
        stderr,
    })
}
