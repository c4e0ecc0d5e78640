//! Programs that run in a room: a command builder, its outcome, and a handle for those that keep running.
//!
//! Outputs go to files of the lab, not to pipes: a program's leftover child (an ssh control master, say) would keep a
//! pipe open for ever, and the files are what a failed test leaves to read.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::deadline::wait_for;
use crate::error::{Context, Error, Result};

/// How long a command may run when nothing else is said.
const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// Where programs are looked for in a room.
const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Numbers the output files.
static COUNTER: AtomicU32 = AtomicU32::new(1);

/// A user to run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// User and group id.
    pub(crate) id: u32,
}

/// A command line for a room, with an environment of its own and nothing of the machine's.
#[derive(Clone)]
pub struct RoomCommand {
    room: u32,
    logs: PathBuf,
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    user: Option<Credentials>,
    dir: String,
    stdin: Option<String>,
    limit: Duration,
    furnished: bool,
    tied: bool,
}

/// The environment stays out: it may hold AWS credentials.
impl std::fmt::Debug for RoomCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RoomCommand({})", self.line())
    }
}

impl RoomCommand {
    pub(crate) fn new(room: u32, logs: PathBuf, program: String) -> RoomCommand {
        RoomCommand {
            room,
            logs,
            program,
            args: Vec::new(),
            env: vec![
                ("PATH".into(), PATH.into()),
                ("HOME".into(), "/root".into()),
                ("LANG".into(), "C.UTF-8".into()),
            ],
            user: None,
            dir: "/".into(),
            stdin: None,
            limit: DEFAULT_LIMIT,
            furnished: true,
            tied: true,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable, or replaces it.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.env.retain(|(other, _)| *other != name);
        self.env.push((name, value.into()));
        self
    }

    /// Sets the working directory, as seen in the room.
    #[must_use]
    pub fn current_dir(mut self, dir: impl Into<String>) -> Self {
        self.dir = dir.into();
        self
    }

    /// Text for the standard input; without it, that is /dev/null.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// How long it may run (60 s unless said).
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn user(mut self, user: Credentials) -> Self {
        self.user = Some(user);
        self
    }

    /// For rooms whose setpriv cannot tie a program to its parent: killing the handle leaves the program to the room.
    pub(crate) fn loose(mut self) -> Self {
        self.tied = false;
        self
    }

    /// Enters only the network and process namespaces and keeps the machine's files and environment: for tools whose
    /// program files are not in the room.
    pub(crate) fn network_only(mut self) -> Self {
        self.furnished = false;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started or passes its limit. A failing exit status is not an error here; see
    /// [`Output::success`].
    pub fn run(&self) -> Result<Output> {
        let started = Instant::now();
        let mut process = self.start()?;
        let status = wait_for(&format!("the end of `{}`", self.line()), self.limit, || {
            process.exit()
        })?;
        Ok(Output {
            command: self.line(),
            status,
            elapsed: started.elapsed(),
            stdout: process.stdout(),
            stderr: process.stderr(),
        })
    }

    /// Starts it and leaves it running; dropping the handle ends it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self) -> Result<Process> {
        let outputs = self.outputs();
        let mut command = self.to_std();
        command.stdout(create(&outputs.with_extension("out"))?);
        command.stderr(create(&outputs.with_extension("err"))?);
        command.stdin(if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut child = command
            .spawn()
            .context(|| format!("start `{}`", self.line()))?;
        if let (Some(text), Some(mut pipe)) = (self.stdin.clone(), child.stdin.take()) {
            // On its own thread: a program that does not read must not stop the test. A closed pipe is its business.
            std::thread::spawn(move || drop(pipe.write_all(text.as_bytes())));
        }
        Ok(Process {
            child,
            command: self.line(),
            outputs,
        })
    }

    /// The same command for `std`, for tests that need pipes of their own.
    pub fn to_std(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.room))
            .args(["--net", "--pid"]);
        if self.furnished {
            command.arg("--mount");
        }
        command.args(["--", "setpriv"]);
        if self.tied {
            // The program goes when nsenter does: killing the handle kills what it stands for.
            command.arg("--pdeathsig=KILL");
        }
        match self.user {
            Some(user) => command
                .args([
                    format!("--reuid={}", user.id),
                    format!("--regid={}", user.id),
                ])
                .arg("--init-groups"),
            None => command.arg("--clear-groups"),
        };
        command.args(["--", "env", "-i"]);
        command.arg(format!("--chdir={}", self.dir));
        command.args(
            self.env
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        command.arg(&self.program).args(&self.args);
        command
    }

    /// The command line as a person would type it.
    pub fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    fn outputs(&self) -> PathBuf {
        let name = Path::new(&self.program)
            .file_name()
            .map_or_else(|| "program".into(), |n| n.to_string_lossy().into_owned());
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        self.logs
            .join(format!("{number:04}-{}.log", name.replace('.', "_")))
    }
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line.
    pub command: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// From start to end.
    pub elapsed: Duration,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The same, if it exited with 0.
    ///
    /// # Errors
    /// [`Error::Command`] with both outputs otherwise.
    pub fn success(self) -> Result<Output> {
        if self.status.success() {
            return Ok(self);
        }
        Err(Error::Command {
            status: self.status.to_string(),
            output: format!("{}{}", self.stdout, self.stderr),
            command: self.command,
        })
    }
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    command: String,
    outputs: PathBuf,
}

impl Process {
    /// What it has written to its standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.outputs.with_extension("out"))
    }

    /// What it has written to its standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.outputs.with_extension("err"))
    }

    /// Its exit status, once it has ended.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Error::Deadline`] when it runs longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of `{}`", self.command);
        wait_for(&what, limit, || self.child.try_wait().ok().flatten())
    }

    /// Sends it a signal (not to nsenter, which stands before it).
    ///
    /// # Errors
    /// When it is no longer there.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid()?;
        kill_process(pid, signal)
            .map_err(|cause| crate::error::unexpected("signal a program of the lab", cause))
    }

    /// Its pid as seen from the machine.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<Pid> {
        child_of(self.child.id()).context(|| format!("find the process of `{}`", self.command))
    }

    /// Waits until `probe` yields something, and fails at once when the program ends before.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let found = wait_for(what, limit, || match self.exit() {
            Some(status) => Some(Err(status)),
            None => probe().map(Ok),
        })?;
        found.map_err(|status| Error::Command {
            command: self.command.clone(),
            status: status.to_string(),
            output: format!("{}{}", self.stdout(), self.stderr()),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn create(file: &Path) -> Result<File> {
    File::create(file).context(|| format!("write `{}`", file.display()))
}

fn read(file: &Path) -> String {
    fs::read(file)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The first process whose parent is `parent`: not every kernel has `/proc/PID/task/*/children`.
fn child_of(parent: u32) -> Option<Pid> {
    let folder = fs::read_dir("/proc").ok()?;
    let pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.into_iter()
        .find(|pid| parent_of(*pid) == Some(parent))
        .and_then(Pid::from_raw)
}

fn parent_of(pid: i32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}
