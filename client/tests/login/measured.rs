//! How long `connect` takes with a kept certificate, from its start to the descriptor in ssh's hands.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::stub::{INSTANCE, World};

/// For the fastest: of a debug build on a busy machine, the others may wait for anything. The bench holds the release
/// build to its goal.
const BOUND: Duration = Duration::from_millis(250);

fn connect(world: &World) -> (Duration, bool) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_eic-login"))
        .args(["connect", "--dir"])
        .arg(&world.run_dir)
        .args(["--user", "alice", "--host", INSTANCE, "--port", "22"])
        .env_clear()
        .env("HOME", world.dir.path())
        .env("PATH", "/bin:/usr/bin")
        .env("AWS_PROFILE", "MAIN")
        .stdin(Stdio::null())
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let buffer = &mut [std::io::IoSliceMut::new(&mut byte)];
    recvmsg(&ours, buffer, &mut ancillary, RecvFlags::empty()).unwrap();
    let passed = ancillary
        .drain()
        .any(|m| matches!(m, RecvAncillaryMessage::ScmRights(_)));
    let took = started.elapsed();
    assert!(child.wait().unwrap().success());
    (took, passed)
}

#[tokio::test]
async fn a_kept_certificate_costs_a_login_next_to_nothing() {
    let world = World::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.state().port = listener.local_addr().unwrap().port();
    crate::stub::wait_for(|| eic_login::control::socket_path(&world.run_dir).exists()).await;
    let times = tokio::task::spawn_blocking(move || {
        let mut times: Vec<Duration> = (0..40)
            .map(|_| {
                let (took, passed) = connect(&world);
                assert!(passed, "no descriptor came over stdout");
                took
            })
            .collect();
        assert_eq!(world.state().certificates, 1);
        times.sort();
        times
    });
    let times = times.await.unwrap();
    let (fastest, median, slowest) = (times[0], times[20], times[39]);
    println!("connect: fastest {fastest:?}, median {median:?}, slowest {slowest:?}");
    assert!(fastest < BOUND, "{times:?}");
}
