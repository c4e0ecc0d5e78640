//! A room: one network, mount and process namespace with a furnished file system, like a machine of its own.
//!
//! A room knows nothing about sshd, AWS or our programs. What happens inside is written in `room/holder.sh`; here is
//! only how a room is opened, entered and closed.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::deadline::wait_for;
use crate::error::{Context, Error, Result, unexpected};
use crate::process::RoomCommand;

mod furniture;

pub use furniture::{Account, Furniture, Hardware};
pub(crate) use furniture::{add_account, append, copy_program, make_folder, write};

/// The script that becomes process 1 of each room.
const HOLDER: &str = include_str!("room/holder.sh");

/// How long a room may take to open or to close.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens a room and, once that is over, removes the lab's folder if this room was its keeper and nobody asked to
/// keep it. `--one-file-system` so that a mount left behind by accident is never emptied.
const OPEN: &str = r#"
unshare --net --mount --pid --fork --kill-child --propagation private sh -c "$1" holder.sh "$2" "$3"
if [ "$4" = keeper ] && [ ! -e "$2/keep" ]; then
    for attempt in 1 2 3 4 5; do rm -rf --one-file-system "$2" 2> /dev/null && break; sleep 0.2; done
fi
"#;

/// One open room. Dropping it ends every process in it.
#[derive(Debug)]
pub struct Room {
    name: String,
    folder: PathBuf,
    /// The pid of process 1, as seen from the machine.
    pid: u32,
    /// Whether programs end with the room only.
    loose: bool,
    /// Its standard input is the room's life line: at its end the room closes, also when the test is killed.
    holder: Child,
}

/// Whether the lab's folder goes when the room closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The first room of a lab: the last to close, and its holder removes the folder.
    Keeper,
    /// Any other room.
    Guest,
}

impl Room {
    /// Opens a room named `name` in the lab's folder.
    pub(crate) fn open(lab: &Path, name: &str, role: Role, furniture: &Furniture) -> Result<Room> {
        let folder = lab.join("rooms").join(name);
        if folder.exists() {
            return Err(Error::Unexpected(format!(
                "open a room: the lab has one named `{name}` already"
            )));
        }
        furniture.set_up(&folder)?;
        let mut holder = Command::new("sh")
            .args(["-c", OPEN, "eic-lab", HOLDER])
            .arg(lab)
            .arg(name)
            .arg(if role == Role::Keeper {
                "keeper"
            } else {
                "guest"
            })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()) // for the reason of a failure; nothing is written after the room is ready
            .process_group(0) // Ctrl-C reaches the test, whose end closes the room in good order
            .spawn()
            .context(|| "open a room")?;
        let Some(pid) = ready(&mut holder) else {
            return Err(unready(holder, name));
        };
        let room = Room {
            name: name.to_owned(),
            folder,
            pid,
            loose: furniture.loose,
            holder,
        };
        room.set_up_loopback()?;
        Ok(room)
    }

    /// The room's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The room's folder, as seen from the machine: `etc`, `home`, `root`, `tmp`, `var`, `bin`, `log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the machine sees `path` of the room, mounts and all. Valid while the room is open.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let inside = path.as_ref();
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(relative)
    }

    /// The pid of the room's process 1, as seen from the machine.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A command that will run in the room as root.
    pub fn command(&self, program: impl Into<String>) -> RoomCommand {
        let command = RoomCommand::new(self.pid, self.folder.join("log"), program.into());
        if self.loose { command.loose() } else { command }
    }

    /// Runs `work` on a thread whose sockets are the room's.
    ///
    /// # Errors
    /// When the thread cannot enter the namespace, or `work` panicked.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                Self::enter_network_of(self.pid)?;
                Ok(work())
            });
            worker.join().map_err(|_| {
                Error::Unexpected("finish a task in the room's network: it panicked".into())
            })?
        })
    }

    /// Moves the calling thread's future sockets into the room with this pid. For threads that stay there.
    pub(crate) fn enter_network_of(pid: u32) -> Result<()> {
        let namespace =
            File::open(format!("/proc/{pid}/ns/net")).context(|| "open a room's network")?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|cause| unexpected("enter a room's network", cause))
    }

    /// Applies lines of ip(8) commands in the room's network. Pids in them are the machine's.
    ///
    /// # Errors
    /// When ip refuses one.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(["--net", "--", "ip", "-batch", "-"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context(|| "run ip")?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(lines.as_bytes())
                .context(|| "tell ip what to do")?;
        }
        let output = child.wait_with_output().context(|| "run ip")?;
        if output.status.success() {
            return Ok(());
        }
        Err(unexpected(
            "set up a room's network",
            String::from_utf8_lossy(&output.stderr),
        ))
    }

    fn set_up_loopback(&self) -> Result<()> {
        self.ip("link set lo up\n")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let closed = wait_for("a room to close", PATIENCE, || {
            self.holder.try_wait().ok().flatten()
        });
        if closed.is_err() {
            drop(self.holder.kill());
            drop(self.holder.wait());
        }
    }
}

/// Reads the holder's "ready PID".
fn ready(holder: &mut Child) -> Option<u32> {
    let mut line = String::new();
    BufReader::new(holder.stdout.take()?)
        .read_line(&mut line)
        .ok()?;
    line.strip_prefix("ready ")?.trim().parse().ok()
}

/// What to say about a room that did not open.
fn unready(mut holder: Child, name: &str) -> Error {
    drop(holder.stdin.take());
    let reason = holder
        .wait_with_output()
        .map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned());
    unexpected(
        &format!("open the room `{name}`"),
        reason.unwrap_or_default(),
    )
}
