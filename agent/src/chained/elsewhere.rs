//! A command of another user, run by the root helper behind its door for logins. sshd has given up root's rights
//! before it starts us, so nobody here could change to that user.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::errand::{Errand, MAX_OUTCOME, Outcome};
use super::{ChainedCommand, NoLines, Tokens, lines};
use crate::clock::Deadline;
use crate::helper::wire::{self, Patience};

/// The key lines that the helper got from the command.
///
/// # Errors
/// [`NoLines`]: no helper, it refused, or the command failed.
pub(super) fn run(
    command: &ChainedCommand,
    tokens: &Tokens,
    door: &Path,
    cancelled: &dyn Fn() -> bool,
) -> Result<String, NoLines> {
    let deadline = Deadline::after(command.deadline);
    match ask(
        command,
        tokens,
        door,
        &Patience {
            deadline,
            cancelled,
        },
    ) {
        Ok(Outcome::Lines(text)) => Ok(lines::kept(text.as_bytes())),
        Ok(Outcome::Failed(reason)) => Err(NoLines::Helper(reason)),
        Err(_) if cancelled() => Err(NoLines::Cancelled),
        Err(_) if deadline.remaining().is_none() => Err(NoLines::Late),
        Err(source) => Err(no_answer(door, source)),
    }
}

fn no_answer(door: &Path, source: std::io::Error) -> NoLines {
    let door = door.to_path_buf();
    match source.kind() {
        ErrorKind::PermissionDenied => NoLines::NotLetIn(door),
        _ => NoLines::NoHelper { door, source },
    }
}

/// Whether there is such a door at all, for people: nobody is asked.
pub(crate) fn has_door(door: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(door).is_ok_and(|about| about.file_type().is_socket())
}

fn ask(
    command: &ChainedCommand,
    tokens: &Tokens,
    door: &Path,
    patience: &Patience<'_>,
) -> std::io::Result<Outcome> {
    let stream = UnixStream::connect(door)?;
    let errand = Errand {
        command: command.name.clone(),
        tokens: tokens.words(),
    };
    wire::send(&stream, &errand)?;
    // Hung up by whoever drops the stream: the helper then kills what it has started.
    wire::receive_within(&stream, MAX_OUTCOME, patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_of_another_group_is_told_with_what_to_do() {
        let told = |kind: ErrorKind| no_answer(Path::new("/run/door"), kind.into()).to_string();
        let shut = told(ErrorKind::PermissionDenied);
        assert!(
            shut.contains("`/run/door`") && shut.contains("set SocketGroup= of"),
            "{shut}"
        );
        assert!(told(ErrorKind::NotFound).contains("eic-agent-logins.socket active"));
    }
}
