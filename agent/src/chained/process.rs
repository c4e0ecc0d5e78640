//! One program's output, bounded in time and bytes. No shell; stdin is /dev/null; of the environment only what
//! sshd itself sets; a process group of its own, which is killed whole: no child outlives the answer.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::NoLines;
use crate::clock::Deadline;
use crate::passwd::Account;

/// What a program may take.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) deadline: Deadline,
    pub(super) max_bytes: usize,
}

/// A program: the file that is run, the name by which it is called (busybox and the like go by it), and whom it
/// runs as, where that is not ourselves.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub(super) file: &'a Path,
    pub(super) name: &'a Path,
    pub(super) account: Option<&'a Account>,
}

impl Program<'_> {
    fn command(&self, arguments: &[OsString]) -> Command {
        let mut command = Command::new(self.file);
        command
            .arg0(self.name)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH);
        match self.account {
            Some(account) => become_it(&mut command, account),
            None => keep_sshds(&mut command),
        }
        command
    }
}

/// Group and user of the account, and none of root's further groups: the standard library drops them all
/// (setgroups(2)) whenever root starts a program as somebody else.
fn become_it(command: &mut Command, account: &Account) {
    command.gid(account.gid).uid(account.uid);
    for name in ["USER", "LOGNAME"] {
        command.env(name, &account.name);
    }
    command.env("HOME", &account.home);
}

fn keep_sshds(command: &mut Command) {
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// What sshd's own commands find in their environment (misc.c, subprocess), PATH apart.
const KEPT: [&str; 4] = ["USER", "LOGNAME", "HOME", "LANG"];
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Longest sleep in a read loop: how late the end of a program whose child keeps its output open is noticed.
const STEP: Duration = Duration::from_millis(20);
/// The same once its output has ended, when only its status is missing.
const LAST_STEP: Duration = Duration::from_millis(1);

/// Bytes of stderr that the log gets to see.
const MAX_SAID: usize = 200;
/// Reads of stderr in one go.
const MAX_TURNS: usize = 16;

/// The stdout of `program` once it has ended with 0.
///
/// # Errors
/// [`NoLines`]: it did not start, ran or wrote too long, or ended in another way.
pub(super) fn output(
    program: &Program<'_>,
    arguments: &[OsString],
    limits: &Limits,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<u8>, NoLines> {
    let mut group = Group::start(program, arguments)?;
    let mut read = Output::default();
    let outcome = group.follow(&mut read, limits, cancelled);
    let status = group.end()?;
    outcome?;
    if status.success() {
        Ok(read.stdout)
    } else {
        let said = first_line(&read.stderr);
        Err(NoLines::Status { status, said })
    }
}

/// A child that leads its own process group.
struct Group {
    child: Child,
    id: Option<Pid>,
}

#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Group {
    fn start(program: &Program<'_>, arguments: &[OsString]) -> Result<Self, NoLines> {
        let mut command = program.command(arguments);
        let child = command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(NoLines::Start)?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self { child, id })
    }

    /// Reads until the program has ended, or may run no longer.
    fn follow(
        &mut self,
        read: &mut Output,
        limits: &Limits,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), NoLines> {
        let mut stdout = self.child.stdout.take();
        let mut stderr = self.child.stderr.take();
        for pipe in [
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ] {
            pipe.map_or(Ok(()), set_nonblocking)
                .map_err(NoLines::Read)?;
        }
        loop {
            let left = limits.deadline.remaining().ok_or(NoLines::Late)?;
            if cancelled() {
                return Err(NoLines::Cancelled);
            }
            // Asked before the read: whatever an ended program has written is then in the pipe.
            let ended = self.has_ended();
            drain(&mut stdout, &mut read.stdout, Some(limits.max_bytes))?;
            drain(&mut stderr, &mut read.stderr, None)?;
            if ended {
                return Ok(());
            }
            let step = if stdout.is_some() { STEP } else { LAST_STEP };
            wait_for_either(stdout.as_ref(), stderr.as_ref(), left.min(step));
        }
    }

    /// Whether the program has ended; its number stays taken, so that the group can still be killed safely.
    fn has_ended(&self) -> bool {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        self.id
            .is_none_or(|id| !matches!(waitid(WaitId::Pid(id), peek), Ok(None)))
    }

    /// Kills whatever is left of the group, and reaps its leader.
    fn end(&mut self) -> Result<ExitStatus, NoLines> {
        if let Some(id) = self.id {
            let _ = kill_process_group(id, Signal::KILL);
        }
        self.child.wait().map_err(NoLines::Read)
    }
}

fn set_nonblocking(pipe: std::os::fd::BorrowedFd<'_>) -> std::io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(pipe, true)?)
}

/// Reads what is there. With `cap`, more than so many bytes are an error; without, only the first ones are kept.
fn drain<R: Read>(
    pipe: &mut Option<R>,
    bytes: &mut Vec<u8>,
    cap: Option<usize>,
) -> Result<(), NoLines> {
    let mut chunk = [0; 4096];
    // A program that only complains must not keep us from looking at the time.
    let turns = cap.map_or(MAX_TURNS, |cap| cap + 1);
    for _ in 0..turns {
        let Some(open) = pipe else { return Ok(()) };
        match open.read(&mut chunk) {
            Ok(0) => *pipe = None,
            Ok(count) => {
                let room = cap.map_or(MAX_SAID.saturating_sub(bytes.len()), |_| count);
                bytes.extend(chunk.iter().take(count.min(room)));
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(NoLines::Read(e)),
        }
        if cap.is_some_and(|cap| bytes.len() > cap) {
            return Err(NoLines::TooMuch);
        }
    }
    Ok(())
}

fn wait_for_either(stdout: Option<&impl AsFd>, stderr: Option<&impl AsFd>, at_most: Duration) {
    let pipes = [stdout.map(AsFd::as_fd), stderr.map(AsFd::as_fd)];
    let mut waited: Vec<PollFd<'_>> = pipes
        .iter()
        .flatten()
        .map(|pipe| PollFd::from_borrowed_fd(*pipe, PollFlags::IN))
        .collect();
    let time = Timespec {
        tv_sec: 0,
        tv_nsec: at_most.subsec_nanos().into(),
    };
    // Whatever it says, the loop reads and looks at the time again.
    let _ = poll(&mut waited, Some(&time));
}

/// What a failing program said first, for the log.
fn first_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    match text.lines().next().map(eic_protocol::text::printable) {
        Some(line) if !line.is_empty() => format!(", saying: {line}"),
        _ => String::new(),
    }
}
