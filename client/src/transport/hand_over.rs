//! From a connected descriptor to ssh: passed over stdout where that is a Unix socket (`ProxyUseFdpass yes`),
//! so that no byte of the session goes through us; else stdin and stdout are pumped.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, getsockname, sendmsg,
};

use super::Link;

/// Most that is copied at once: what a pipe holds. Bytes.
const AT_ONCE: usize = 64 * 1024;

/// Hands `link` to whoever started us, and returns when there is nothing left to do.
///
/// # Errors
/// The system's error.
pub fn hand_over(link: Link) -> io::Result<()> {
    let stdout = io::stdout();
    if is_unix_socket(stdout.as_fd()) {
        return pass(stdout.as_fd(), link.as_fd());
    }
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let stdout = File::from(stdout.as_fd().try_clone_to_owned()?);
    pump(stdin, stdout, link)
}

/// Whether stdout is a Unix socket, so that a descriptor is expected there.
#[must_use]
pub fn passes_descriptors() -> bool {
    is_unix_socket(io::stdout().as_fd())
}

/// stdin and stdout, where both are pipes, so that a runtime can wait for them.
#[derive(Debug)]
pub struct Pipes {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
}

impl Pipes {
    /// None where one is no pipe, is another user's, or the system has no /proc.
    #[must_use]
    pub fn of_stdio() -> Option<Self> {
        Some(Self {
            stdin: opened_again(io::stdin().as_fd(), OFlags::RDONLY)?,
            stdout: opened_again(io::stdout().as_fd(), OFlags::WRONLY)?,
        })
    }
}

/// The same pipe without blocking, and with it still for others who have the descriptor: that is a property of each
/// opening (open(2)).
fn opened_again(fd: BorrowedFd<'_>, access: OFlags) -> Option<OwnedFd> {
    let kind = FileType::from_raw_mode(fstat(fd).ok()?.st_mode);
    if kind != FileType::Fifo {
        return None;
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(
        path,
        access | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()
}

fn is_unix_socket(fd: BorrowedFd<'_>) -> bool {
    getsockname(fd).is_ok_and(|address| address.address_family() == AddressFamily::UNIX)
}

/// One byte with the descriptor attached, as OpenSSH's `mm_receive_fd` expects it.
fn pass(socket: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    // SIGPIPE is ignored since the start of the program, as in every Rust program; macOS has no flag for it.
    let sent = sendmsg(
        socket,
        &[IoSlice::new(&[0])],
        &mut ancillary,
        SendFlags::empty(),
    )?;
    if sent == 1 {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::WriteZero))
    }
}

/// Both ways until the host closes; the end of stdin is passed on as a half-close.
fn pump(mut stdin: File, mut stdout: File, link: Link) -> io::Result<()> {
    let mut sending = link.try_clone()?;
    std::thread::spawn(move || {
        let _ = copy(&mut stdin, &mut sending);
        let _ = sending.shutdown_write();
    });
    let mut receiving = link;
    copy(&mut receiving, &mut stdout)
}

/// What is there at once, in one piece: the standard library's copy takes 8 KiB at a time.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; AT_ONCE];
    loop {
        let read = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => to.write_all(bytes)?,
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::IoSliceMut;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn receive(socket: &UnixStream) -> TcpStream {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [9];
        let received = recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut ancillary,
            RecvFlags::empty(),
        )
        .unwrap();
        assert_eq!((received.bytes, byte), (1, [0]));
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        TcpStream::from(fd.unwrap())
    }

    #[test]
    fn pipes_are_not_taken_for_sockets() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(!is_unix_socket(reader.as_fd()));
        let (tcp, _peer) = tcp_pair();
        assert!(!is_unix_socket(tcp.as_fd()));
    }

    #[test]
    fn only_pipes_are_opened_again_and_stay_as_they_are_for_others() {
        let file = tempfile::tempfile().unwrap();
        assert!(opened_again(file.as_fd(), OFlags::RDONLY).is_none());
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(opened_again(ours.as_fd(), OFlags::RDONLY).is_none());
        let (reader, mut writer) = std::io::pipe().unwrap();
        let again = opened_again(reader.as_fd(), OFlags::RDONLY).unwrap();
        let flags = |fd: BorrowedFd<'_>| rustix::fs::fcntl_getfl(fd).unwrap();
        assert!(flags(again.as_fd()).contains(OFlags::NONBLOCK));
        assert!(!flags(reader.as_fd()).contains(OFlags::NONBLOCK));
        writer.write_all(b"same").unwrap();
        let mut bytes = [0; 4];
        File::from(again).read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"same");
    }

    #[test]
    fn the_descriptor_passes_over_a_socket_pair() {
        let (ours, ssh) = UnixStream::pair().unwrap();
        let (tcp, mut host) = tcp_pair();
        assert!(is_unix_socket(ours.as_fd()));
        pass(ours.as_fd(), tcp.as_fd()).unwrap();
        drop(tcp);
        let mut received = receive(&ssh);
        host.write_all(b"SSH-2.0-x").unwrap();
        let mut banner = [0; 9];
        received.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"SSH-2.0-x");
    }

    #[test]
    fn the_pump_passes_on_a_half_close_and_ends_with_the_host() {
        let (tcp, mut host) = tcp_pair();
        let (stdin_read, mut stdin) = std::io::pipe().unwrap();
        let (mut stdout, stdout_write) = std::io::pipe().unwrap();
        let pump_thread = std::thread::spawn(move || {
            pump(
                File::from(std::os::fd::OwnedFd::from(stdin_read)),
                File::from(std::os::fd::OwnedFd::from(stdout_write)),
                Link::Tcp(tcp),
            )
        });
        stdin.write_all(b"request").unwrap();
        drop(stdin);
        let mut request = Vec::new();
        host.read_to_end(&mut request).unwrap();
        assert_eq!(request, b"request");
        host.write_all(b"answer").unwrap();
        drop(host);
        let mut answer = Vec::new();
        stdout.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"answer");
        pump_thread.join().unwrap().unwrap();
    }
}
