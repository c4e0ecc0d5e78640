//! The program that runs ssh, where that is `ssh-copy-id`: it would leave a key on the host for ever, past every policy.
//!
//! This keeps people from doing so unawares; it is no barrier to somebody who wants to. Linux tells it by proc(5);
//! elsewhere nothing is noticed.

use crate::exit_code::Failure;

const COPIER: &[u8] = b"ssh-copy-id";

/// Whether ssh may go on; `ssh_pid` is its process.
///
/// # Errors
/// Where a shell runs `ssh-copy-id`, and that runs this ssh.
pub(super) fn check(ssh_pid: Option<u32>) -> Result<(), Failure> {
    let line = ssh_pid.and_then(parent).and_then(command_line);
    if !line.is_some_and(|line| is_copier(&line)) {
        return Ok(());
    }
    Err(Failure::usage(
        "`ssh-copy-id` is refused: its key would open the host for ever, past every policy, and none is needed: plain ssh logs in, \
         and `eic-login exec` serves programs with an SSH of their own",
    ))
}

/// Of a process: the `PPid` of its status.
fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// The NUL-separated words of a process.
fn command_line(pid: u32) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/cmdline")).ok()
}

/// `ssh-copy-id` itself, or a shell whose script it is; another program with such an argument (`make ssh-copy-id`) is none.
fn is_copier(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next().map(file_name).unwrap_or_default();
    let script = words.find(|word| !word.starts_with(b"-") && !word.starts_with(b"+"));
    program == COPIER || (program.ends_with(b"sh") && script.map(file_name) == Some(COPIER))
}

/// The last part of a path.
fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_copy_id_is_told_from_everything_else_that_runs_ssh() {
        for (line, copies) in [
            ("/bin/sh\0/usr/bin/ssh-copy-id\0alice@web-1\0", true),
            ("sh\0ssh-copy-id\0-i\0key\0web-1\0", true),
            ("/usr/bin/bash\0-x\0./ssh-copy-id\0web-1\0", true),
            ("ssh-copy-id\0web-1\0", true),
            ("bash\0deploy.sh\0ssh-copy-id\0", false),
            ("bash\0-c\0ssh web-1 ssh-copy-id\0", false),
            ("sh\0/opt/ssh-copy-id/run\0", false),
            ("sh\0my-ssh-copy-id\0", false),
            ("make\0ssh-copy-id\0", false),
            ("-bash\0", false),
            ("ssh-copy-id-2\0", false),
            ("", false),
        ] {
            assert_eq!(is_copier(line.as_bytes()), copies, "{line:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_script_of_that_name_is_refused_and_another_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        for (name, refused) in [("ssh-copy-id", true), ("deploy", false)] {
            let script = dir.path().join(name);
            // Stands for ssh: it lives until its input ends.
            std::fs::write(&script, "exec 3<&0; cat <&3 & echo $!; wait\n").unwrap();
            let (answer, pid) = checked(&script);
            assert_eq!(answer.is_err(), refused, "{name} runs {pid}");
        }
        assert!(check(None).is_ok());
    }

    /// What is said of a child of this script.
    #[cfg(target_os = "linux")]
    fn checked(script: &std::path::Path) -> (Result<(), Failure>, u32) {
        use std::io::{BufRead as _, BufReader};
        use std::process::{Command, Stdio};
        let mut command = Command::new("sh");
        command.arg(script).stdin(Stdio::piped());
        let mut shell = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pid = line.trim().parse().unwrap();
        let answer = check(Some(pid));
        drop(shell.stdin.take());
        shell.wait().unwrap();
        (answer, pid)
    }
}
