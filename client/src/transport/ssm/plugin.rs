//! AWS's session-manager-plugin, where it is installed and this program's own data channel cannot be used: sessions
//! that are encrypted with a KMS key. It is started as AWS CLI v2 starts it (`ssm start-session`), with one end of a
//! socket pair for stdin and stdout. It calls KMS itself, so it gets the credentials that the session was started with.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use eic_aws::proxy::Proxy;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::secret::Secret;
use eic_protocol::text::printable;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use serde::{Deserialize, Serialize};

use super::start::{Host, parameters};
use crate::cause::Cause;
use crate::credentials::Selection;
use crate::exit_code::{self, Failure};
use crate::transport::carrier;
use crate::transport::race::Canceller;

const PROGRAM: &str = "session-manager-plugin";
/// Where AWS's own installer for Linux and macOS puts it.
const INSTALLED: &str = "/usr/local/sessionmanagerplugin/bin";
/// The last version that takes the session's token in its arguments only, where everybody on this machine reads it
/// (AWS CLI v2, `ssm start-session`). It is not used.
const LAST_WITH_OPEN_TOKEN: [u32; 4] = [1, 2, 497, 0];
/// The variable that the token is in instead; the first argument names it.
const RESPONSE: &str = "AWS_SSM_START_SESSION_RESPONSE";
/// How long it may take to tell its version.
const VERSION: Duration = Duration::from_secs(5);
/// How long sshd's first line may take: a websocket, a handshake with KMS, a connection on the host.
const BANNER: Duration = Duration::from_secs(30);
/// Most that the plugin may say before it. Bytes.
const MAX_WORDS: usize = 8 * 1024;
/// Pause before a line that is not whole yet is looked at again.
const PAUSE: Duration = Duration::from_millis(10);

/// A session that was started for the plugin, and whose credentials it may use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PluginSession {
    /// Its id.
    pub id: String,
    /// Where its websocket is.
    pub url: Secret<String>,
    /// What opens the data channel.
    pub token: Secret<String>,
    /// The host's Region.
    pub region: AwsRegion,
    /// The host.
    pub target: InstanceId,
    /// The port there.
    pub port: u16,
    /// Where Systems Manager was called.
    pub endpoint: String,
    /// The credentials that the session was started with.
    pub selection: Selection,
    /// The configured proxy; none: what the environment names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Response<'a> {
    session_id: &'a str,
    token_value: &'a Secret<String>,
    stream_url: &'a Secret<String>,
}

impl PluginSession {
    /// `NAME REGION StartSession PROFILE PARAMETERS ENDPOINT`: no secret among them.
    fn arguments(&self) -> [String; 6] {
        let host = Host {
            id: &self.target,
            region: self.region,
            port: self.port,
        };
        [
            RESPONSE.to_owned(),
            self.region.as_str().to_owned(),
            "StartSession".to_owned(),
            self.selection.profile().unwrap_or_default().to_owned(),
            parameters(host).to_string(),
            self.endpoint.clone(),
        ]
    }

    /// The configured proxy as the plugin, which has no configuration, takes it: the first names that it looks for, so that
    /// those of the environment do not count beside it.
    fn proxy_variables(&self) -> Vec<(&'static str, String)> {
        let Some(proxy) = &self.proxy else {
            return Vec::new();
        };
        let pairs = [
            (
                ["HTTPS_PROXY", "https_proxy"],
                proxy.url().reveal().as_str(),
            ),
            (["NO_PROXY", "no_proxy"], proxy.except()),
        ];
        let each = pairs
            .into_iter()
            .flat_map(|(names, value)| names.map(|name| (name, value.to_owned())));
        each.collect()
    }

    fn response(&self) -> Secret<String> {
        let response = Response {
            session_id: &self.id,
            token_value: &self.token,
            stream_url: &self.url,
        };
        Secret::new(serde_json::to_string(&response).unwrap_or_default())
    }
}

/// An installed plugin that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin(PathBuf);

impl Plugin {
    /// The one of `PATH`, or where AWS's installer puts it; asks it for its version.
    ///
    /// # Errors
    /// [`PluginError`].
    pub fn installed() -> Result<Self, PluginError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = find(&path).ok_or(PluginError::Missing)?;
        let told = version_of(&program).map_err(PluginError::NotRun)?;
        if is_new_enough(&told) {
            Ok(Self(program))
        } else {
            Err(PluginError::TooOld(printable(told.trim())))
        }
    }

    /// Starts it, and waits until the host's sshd speaks.
    ///
    /// # Errors
    /// A [`Failure`] with the plugin's own words.
    pub fn open(
        &self,
        session: &PluginSession,
        canceller: &Canceller,
    ) -> Result<UnixStream, Failure> {
        let broken = |e: io::Error| Failure::of(&e).context("cannot run session-manager-plugin");
        let (mut ours, theirs) = UnixStream::pair().map_err(broken)?;
        canceller.watch(self.start(session, theirs).map_err(broken)?);
        let spoke = await_banner(&mut ours, Instant::now() + BANNER);
        match &spoke {
            Ok(()) => canceller.release(),
            Err(_) => canceller.cancel(),
        }
        spoke.map_err(|e| Failure::new(exit_code::UNREACHABLE, e.to_string()))?;
        ours.set_read_timeout(None).map_err(broken)?;
        Ok(ours)
    }

    /// With no other environment than a carrier has, and the credentials that were chosen.
    fn start(&self, session: &PluginSession, socket: UnixStream) -> io::Result<Child> {
        let out = socket.try_clone()?;
        let mut command = Command::new(&self.0);
        command
            .args(session.arguments())
            .env_clear()
            .envs(carrier::kept_environment())
            .envs(session.selection.aws_variables())
            .envs(session.proxy_variables())
            .env(RESPONSE, session.response().reveal())
            // A signal for ssh's process group is not for the session: it ends with its socket.
            .process_group(0)
            .stdin(OwnedFd::from(socket))
            .stdout(Stdio::from(OwnedFd::from(out)));
        // The command's own copies of the socket go with it: the plugin's end would never show otherwise.
        command.spawn()
    }
}

/// Folders that are relative are left out: they are somebody else's, depending on where ssh was typed.
fn find(path: &OsStr) -> Option<PathBuf> {
    let folders = std::env::split_paths(path).chain([PathBuf::from(INSTALLED)]);
    let programs = folders
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(PROGRAM));
    programs.into_iter().find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn version_of(program: &Path) -> io::Result<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .envs(carrier::kept_environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let until = Instant::now() + VERSION;
    while child.try_wait()?.is_none() {
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        std::thread::sleep(PAUSE);
    }
    let mut told = String::new();
    if let Some(out) = child.stdout.take() {
        out.take(64).read_to_string(&mut told)?;
    }
    Ok(told)
}

/// `1.2.707.0`, with fewer numbers too.
fn is_new_enough(told: &str) -> bool {
    let numbers: Result<Vec<u32>, _> = told.trim().split('.').map(str::parse).collect();
    numbers.is_ok_and(|numbers| numbers.len() <= 4 && numbers.as_slice() > &LAST_WITH_OPEN_TOKEN)
}

/// Takes what the plugin says of itself off the stream; what is left begins with sshd's own line (RFC 4253 §4.2).
fn await_banner(stream: &mut UnixStream, until: Instant) -> Result<(), NoBanner> {
    const MARK: &[u8] = b"SSH-";
    let (mut words, mut at_start) = (Vec::new(), true);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || words.len() > MAX_WORDS {
            return Err(NoBanner::Silent(told(&words)));
        }
        let _ = stream.set_read_timeout(Some(left));
        let mut seen = [0; 1024];
        let count = match recv(stream.as_fd(), &mut seen[..], RecvFlags::PEEK) {
            Ok((_, count)) => count,
            // Stopped by Ctrl-Z and gone on (signal(7)): what is left of the time counts.
            Err(Errno::INTR) => continue,
            Err(_) => return Err(NoBanner::Silent(told(&words))),
        };
        let seen = seen.get(..count).unwrap_or_default();
        if seen.is_empty() {
            return Err(NoBanner::Ended(told(&words)));
        }
        if at_start && seen.starts_with(MARK) {
            return Ok(());
        }
        if at_start && MARK.starts_with(seen) {
            std::thread::sleep(PAUSE);
            continue;
        }
        let end = seen.iter().position(|byte| *byte == b'\n');
        at_start = end.is_some();
        take(stream, end.map_or(count, |end| end + 1), &mut words)?;
    }
}

fn take(stream: &mut UnixStream, count: usize, words: &mut Vec<u8>) -> Result<(), NoBanner> {
    let mut line = vec![0; count];
    let read = stream.read_exact(&mut line);
    words.extend(line);
    read.map_err(|_| NoBanner::Ended(told(words)))
}

/// In one line.
fn told(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join("; ");
    match joined.as_str() {
        "" => "it said nothing".to_owned(),
        joined => printable(joined),
    }
}

/// The plugin reached no sshd.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NoBanner {
    #[error("session-manager-plugin ended before the host's sshd spoke: {0}")]
    Ended(String),
    #[error("through session-manager-plugin, the host's sshd said nothing within {limit} s: {0}", limit = BANNER.as_secs())]
    Silent(String),
}

/// There is no plugin to use.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Not installed.
    #[error(
        "session-manager-plugin is not installed: install version 1.2.498.0 or newer, or use another way than `ssm`"
    )]
    Missing,
    /// It does not run.
    #[error("session-manager-plugin does not tell its version: {0}")]
    NotRun(io::Error),
    /// The session's token would be in its arguments.
    #[error(
        "session-manager-plugin says that it is version `{0}`: one after 1.2.497.0 is needed, since older ones show the session's token to everybody on this machine"
    )]
    TooOld(String),
}

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Self {
        Self::usage(error.to_string()).because(Cause::SessionPlugin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn versions_that_show_the_token_to_everybody_are_not_used() {
        for old in [
            "1.2.497.0",
            "1.2.497",
            "1.2.54.0",
            "1.1.999.0",
            "",
            "1.2.x",
            "v2",
            "1.2.498.0.1",
            "-1",
        ] {
            assert!(!is_new_enough(old), "{old}");
        }
        for new in ["1.2.498.0\n", "1.2.707.0", "1.3", "2.0.0.0"] {
            assert!(is_new_enough(new), "{new}");
        }
    }

    #[test]
    fn a_configured_proxy_takes_the_place_of_the_environments() {
        let session = |proxy: serde_json::Value| -> PluginSession {
            serde_json::from_value(serde_json::json!({
                "id": "s-1", "url": "wss://x", "token": "t", "region": "eu-west-1", "target": "i-01234567",
                "port": 22, "endpoint": "https://x", "selection": {}, "proxy": proxy,
            }))
            .unwrap()
        };
        assert!(
            session(serde_json::Value::Null)
                .proxy_variables()
                .is_empty()
        );
        let named = serde_json::json!({"proxy": "http://u:canary@p:1", "no_proxy": ["a", "b"]});
        let named = session(named);
        for (name, value) in [
            ("HTTPS_PROXY", "http://u:canary@p:1"),
            ("https_proxy", "http://u:canary@p:1"),
            ("NO_PROXY", "a,b"),
            ("no_proxy", "a,b"),
        ] {
            let pair = (name, value.to_owned());
            assert!(named.proxy_variables().contains(&pair), "{name}");
        }
        let told = format!("{:?}{:?}", named, named.arguments());
        assert!(!told.contains("canary"), "{told}");
    }

    #[test]
    fn relative_folders_of_the_path_are_not_searched() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(PROGRAM);
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        let path = OsStr::new("relative:.:").to_owned();
        assert_ne!(find(&path), Some(PathBuf::from("relative").join(PROGRAM)));
        // Not executable: somebody's document.
        assert_ne!(find(dir.path().as_os_str()), Some(program.clone()));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(dir.path().as_os_str()), Some(program));
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_plugin_that_ends_without_a_host_is_told_in_its_own_words() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs
            .write_all(b"\nStarting session\nSSHD is \x1b[2Jnot there\n")
            .unwrap();
        drop(theirs);
        let NoBanner::Ended(words) = await_banner(&mut ours, soon()).unwrap_err() else {
            panic!("it ended")
        };
        assert!(words.starts_with("Starting session; SSHD is"), "{words}");
        assert!(!words.contains('\x1b'), "{words}");
    }

    #[test]
    fn silence_and_endless_talk_end() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let now = Instant::now();
        assert!(matches!(
            await_banner(&mut ours, now),
            Err(NoBanner::Silent(_))
        ));
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let talk = std::thread::spawn(move || while theirs.write_all(&[b'x'; 512]).is_ok() {});
        assert!(matches!(
            await_banner(&mut ours, soon()),
            Err(NoBanner::Silent(_))
        ));
        drop(ours);
        talk.join().unwrap();
    }

    #[test]
    fn what_the_plugin_says_of_itself_does_not_reach_ssh() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let talk = std::thread::spawn(move || {
            // In pieces; `SSH-` within a line is no banner.
            for piece in [
                "\nStarting session with SessionId: SSH-1\n",
                "S",
                "SH-2.0-x\r\nrest",
            ] {
                theirs.write_all(piece.as_bytes()).unwrap();
            }
        });
        await_banner(&mut ours, soon()).unwrap();
        talk.join().unwrap();
        let mut left = String::new();
        ours.read_to_string(&mut left).unwrap();
        assert_eq!(left, "SSH-2.0-x\r\nrest");
    }
}
