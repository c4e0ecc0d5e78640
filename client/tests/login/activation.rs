//! The resident agent on a socket that systemd or launchd opened: what is refused, and that the socket outlives it.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::control::socket_path;
use crate::files::private_dir;
use crate::paths::Paths;
use crate::real_ssh::{program, said};

/// A home with a folder for sockets in its default place.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        private_dir(&dir.path().join(".eic")).unwrap();
        private_dir(&dir.path().join(".eic/run")).unwrap();
        Self(dir)
    }

    fn control(&self) -> std::path::PathBuf {
        socket_path(&self.0.path().join(".eic/run"))
    }

    /// As systemd starts a service: descriptor 3, and the variables of sd_listen_fds(3). The shell becomes the agent.
    fn started(&self, listener: impl Into<OwnedFd>, pid: &str, number: usize) -> Running {
        let line =
            format!("LISTEN_PID={pid} LISTEN_FDS={number} exec \"$0\" agent 3<&0 4<&0 </dev/null");
        self.shell(&line, listener.into())
    }

    fn shell(&self, line: &str, stdin: OwnedFd) -> Running {
        let agent = Command::new("sh")
            .args(["-c", line])
            .arg(program())
            .env_remove("XDG_RUNTIME_DIR")
            .env("HOME", self.0.path())
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Running(agent.unwrap())
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.args(args).env_clear().env("HOME", self.0.path());
        command.stdin(Stdio::null()).output().unwrap()
    }
}

/// An agent that no failed test leaves behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ended(mut agent: Running) -> Output {
    let until = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = agent.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until, "it goes on");
        std::thread::sleep(Duration::from_millis(10));
    };
    let (mut told, stderr) = (Vec::new(), agent.0.stderr.as_mut());
    stderr.unwrap().read_to_end(&mut told).unwrap();
    Output {
        status,
        stdout: Vec::new(),
        stderr: told,
    }
}

#[test]
fn what_is_no_control_socket_of_this_agent_is_refused() {
    let home = Home::new();
    let own = || {
        let _ = std::fs::remove_file(home.control());
        UnixListener::bind(home.control()).unwrap()
    };
    let elsewhere = UnixListener::bind(home.0.path().join("other.sock")).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (connection, _other) = UnixStream::pair().unwrap();
    let cases: [(OwnedFd, usize, &str); 6] = [
        (elsewhere.into(), 1, "other.sock"),
        (tcp.into(), 1, "cannot be used as a control socket"),
        (connection.into(), 1, "Accept=no"),
        (own().into(), 2, "2 sockets were passed"),
        (own().into(), 0, "0 sockets were passed"),
        (
            std::fs::File::open("/dev/null").unwrap().into(),
            1,
            "cannot be used as a control socket",
        ),
    ];
    for (descriptor, number, told) in cases {
        let out = ended(home.started(descriptor, "$$", number));
        assert_eq!(out.status.code(), Some(2), "{told}: {}", said(&out));
        assert!(said(&out).contains(told), "{told}: {}", said(&out));
    }
}

#[test]
fn a_socket_for_another_process_is_left_alone() {
    let home = Home::new();
    let elsewhere = UnixListener::bind(home.0.path().join("other.sock")).unwrap();
    let _agent = home.started(elsewhere, "1", 1);
    let until = Instant::now() + Duration::from_secs(20);
    while UnixStream::connect(home.control()).is_err() {
        assert!(Instant::now() < until, "it does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn flags_of_descriptor(pid: u32, number: u32) -> Option<String> {
    // Memory and descriptors of the agent are hidden from all but root.
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    Some(line.trim().to_owned())
}

/// Asks it, ends it, asks the next one: the socket stays.
fn serves_and_leaves_its_socket(start: impl Fn(&Home, UnixListener) -> Running) {
    let home = Home::new();
    let listener = UnixListener::bind(home.control()).unwrap();
    for _ in 0..2 {
        let agent = start(&home, listener.try_clone().unwrap());
        let pid = agent.0.id();
        let status = home.run(&["status", "--json"]);
        let told: serde_json::Value = serde_json::from_slice(&status.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", said(&status)));
        assert_eq!(told["agent"]["pid"], pid);
        if let Some(flags) = flags_of_descriptor(pid, 3) {
            // O_CLOEXEC (proc(5): octal): credential programs do not inherit it.
            assert!(
                u32::from_str_radix(&flags, 8).unwrap() & 0o2_000_000 != 0,
                "{flags}"
            );
        }
        let out = home.run(&["logout"]);
        assert!(said(&out).contains("Ended 0 sessions"), "{}", said(&out));
        let out = ended(agent);
        assert!(out.status.success(), "{}", said(&out));
        assert!(is_socket(&home.control()), "removed");
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

#[test]
fn an_agent_of_systemd_answers_on_its_socket_and_leaves_it() {
    serves_and_leaves_its_socket(|home, listener| home.started(listener, "$$", 1));
}

#[test]
fn an_agent_of_launchd_answers_on_its_socket_and_leaves_it() {
    // inetdCompatibility with Wait: the listening socket is stdin.
    let line = "exec \"$0\" agent";
    serves_and_leaves_its_socket(|home, listener| home.shell(line, listener.into()));
}

#[test]
fn the_units_name_the_default_socket() {
    let socket = |variables: &[(&str, &str)]| {
        let found = Paths::from_lookup(|name| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| value.into())
        });
        socket_path(&found.unwrap().run_dir).display().to_string()
    };
    let runtime = tempfile::tempdir().unwrap();
    let runtime = runtime.path().to_str().unwrap();
    let unit = include_str!("../../../infra/systemd/user/eic-login.socket");
    let named = socket(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", runtime)]).replace(runtime, "%t");
    assert!(
        unit.contains(&format!("\nListenStream={named}\n")),
        "{named}"
    );
    let plist = include_str!("../../../infra/launchd/io.eic.login.plist");
    let named = socket(&[("HOME", "/h")]).replace("/h/", "@HOME@/");
    assert!(
        plist.contains(&format!("<string>{named}</string>")),
        "{named}"
    );
}
