//! A system program's output with a limit on time and bytes, for root: never found by the caller's PATH. Not for
//! programs that must not be killed half-way (useradd), nor for chained commands, which have limits of their own.

use std::io::{Error, ErrorKind, Read, Result, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::clock::Deadline;
use crate::watchdog;

/// Where system programs are, whatever the caller's environment says.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest wait for a program that only looks something up.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Most that is kept of each stream, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Most that is given to one, in bytes: written before it starts, so it must fit into the pipe.
const MAX_INPUT: usize = 60 * 1024;
/// How late the end of a program that has closed its output is noticed.
const STEP: Duration = Duration::from_millis(2);

/// Runs `command` to its end, with no standard input and with [`PATH`].
///
/// # Errors
/// It did not start, or not end within `limit`: it is then killed with all its children.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    output_of(command, Stdio::null(), limit)
}

/// As [`output`], with `input` as standard input: at most what a pipe takes at once (pipe(7): 64 KiB).
///
/// # Errors
/// As [`output`]; or the input is too long.
pub(crate) fn output_of_input(
    command: &mut Command,
    input: &[u8],
    limit: Duration,
) -> Result<Output> {
    if input.len() > MAX_INPUT {
        return Err(ErrorKind::InvalidInput.into());
    }
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(input)?;
    drop(writer);
    output_of(command, Stdio::from(reader), limit)
}

fn output_of(command: &mut Command, input: Stdio, limit: Duration) -> Result<Output> {
    let deadline = Deadline::after(limit);
    let mut child = command
        .env("PATH", PATH)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = watchdog::within(limit, move || {
        let complaint = thread::spawn(move || all(stderr));
        let said = all(stdout);
        (said, complaint.join().unwrap_or_default())
    });
    // What it said is not whole: it may have ended, but as long as nobody has waited for it its number is its own.
    let Ok((stdout, stderr)) = read else {
        return Err(killed(&mut child));
    };
    let Some(status) = end(&mut child, &deadline)? else {
        return Err(killed(&mut child));
    };
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

/// Bytes of a broken pipe up to where it broke: the status tells whether they count.
fn all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(MAX_BYTES).read_to_end(&mut bytes);
    }
    bytes
}

/// How the program ended; `None` where it did not in time.
fn end(child: &mut Child, deadline: &Deadline) -> Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait()?;
        if status.is_some() || deadline.remaining().is_none() {
            return Ok(status);
        }
        thread::sleep(STEP);
    }
}

/// Kills a program that nobody has waited for yet, and its children; afterwards the number may be another's.
fn killed(child: &mut Child) -> Error {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    Error::new(ErrorKind::TimedOut, "it did not end in time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str, limit: Duration) -> Result<Output> {
        output(Command::new("sh").args(["-c", script]), limit)
    }

    #[test]
    fn programs_that_hang_are_killed() {
        let started = Instant::now();
        for script in ["sleep 60 & sleep 60", "exec >&- 2>&-; sleep 60"] {
            let outcome = shell(script, Duration::from_millis(100));
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut, "{script}");
        }
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn children_of_a_program_that_has_ended_are_killed_where_they_hold_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}", mark.display());
        let outcome = shell(&script, Duration::from_secs(3));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut);
        let pid = std::fs::read_to_string(&mark).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let until = Instant::now() + Duration::from_secs(10);
        // A zombie whose parent is not us counts as gone.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < until, "{pid} is still there");
            thread::yield_now();
        }
    }

    #[test]
    fn a_program_of_the_callers_path_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let fake = folder.path().join("id");
        std::os::unix::fs::symlink("/bin/false", &fake).unwrap();
        let mut command = Command::new("id");
        let output = output(command.env("PATH", folder.path()), LIMIT).unwrap();
        assert!(output.status.success());
    }

    #[test]
    fn an_input_arrives_whole_and_one_too_long_is_refused() {
        let input = vec![b'x'; MAX_INPUT];
        let mut command = Command::new("cat");
        let output = output_of_input(&mut command, &input, LIMIT).unwrap();
        assert_eq!(output.stdout, input);
        let long = vec![b'x'; MAX_INPUT + 1];
        assert!(output_of_input(&mut command, &long, LIMIT).is_err());
    }

    #[test]
    fn both_streams_and_the_status_are_kept() {
        let output = shell("echo a; echo b >&2; exit 3", LIMIT).unwrap();
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b"a\n"[..], &b"b\n"[..])
        );
        assert_eq!(output.status.code(), Some(3));
    }
}
