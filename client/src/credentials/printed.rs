//! What a child process prints: bounded in size and time, wiped when dropped, the child ended with it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use zeroize::Zeroizing;

/// How a child ended and what it printed, its first `most` bytes.
pub(super) type Printed = (ExitStatus, Zeroizing<Vec<u8>>);

/// Runs `command` without input, in `/`; its stderr is nobody's.
///
/// # Errors
/// It cannot be run; [`std::io::ErrorKind::TimedOut`] after `deadline`.
pub(super) async fn printed(
    command: &mut Command,
    most: u64,
    deadline: Duration,
) -> std::io::Result<Printed> {
    printed_after(command, &[], most, deadline).await
}

/// The same with `input` on its stdin, which a pipe holds at once (a few KiB).
///
/// # Errors
/// As [`printed`].
pub(super) async fn printed_after(
    command: &mut Command,
    input: &[u8],
    most: u64,
    deadline: Duration,
) -> std::io::Result<Printed> {
    let stdin = match input {
        [] => Stdio::null(),
        _ => Stdio::piped(),
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .current_dir("/")
        .kill_on_drop(true)
        .spawn()?;
    let mut bytes = Zeroizing::new(Vec::new());
    let stdout = child.stdout.take();
    let stdin = child.stdin.take();
    let talk = async {
        if let Some(mut stdin) = stdin {
            stdin.write_all(input).await?;
        }
        if let Some(stdout) = stdout {
            stdout.take(most).read_to_end(&mut bytes).await?;
        }
        child.wait().await
    };
    let status = tokio::time::timeout(deadline, talk).await??;
    Ok((status, bytes))
}
