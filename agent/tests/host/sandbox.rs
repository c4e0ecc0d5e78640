//! A host for one test: folders that are mounted over /etc, /var/lib, /run, /sys and /usr/local/bin,
//! in a mount namespace of each command's own, and where a test wrote into `usr/` a layer over /usr.
//! Nothing outside them is written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::documents::{Documents, INSTANCE, ROOT_KEY, public};

/// The host; its folders go with it.
pub(crate) struct Host {
    folder: tempfile::TempDir,
}

/// Mounts in the namespace; `$1` is the host's folder. /run comes last: the folder lies in it.
const MOUNTS: &str = r#"set -e
d=$1; shift
if [ -d "$d/usr" ]; then
  mount -t overlay overlay -o "lowerdir=/usr,upperdir=$d/usr,workdir=$d/usr-work" /usr
fi
mount --bind "$d/etc" /etc
mount --bind "$d/var-lib" /var/lib
mount --bind "$d/bin" /usr/local/bin
mount --bind "$d/sys" /sys
mount --bind "$d/run" /run
exec "$@""#;

impl Host {
    /// A Debian-like host, or `None` (with the reason printed) where there can be none.
    pub(crate) fn new() -> Option<Self> {
        if let Some(reason) = missing() {
            eprintln!("skipped: {reason}");
            return None;
        }
        // Not under /tmp: sshd refuses commands in folders that others can write.
        let folder = tempfile::Builder::new()
            .prefix("eic-agent-test.")
            .tempdir_in("/run")
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let host = Self { folder };
        for part in ["var-lib", "bin", "sys", "run/sshd", "documents", "usr-work"] {
            fs::create_dir_all(host.path(part)).unwrap();
        }
        succeed(
            Command::new("cp")
                .arg("-a")
                .arg("/etc")
                .arg(host.path("etc")),
        );
        host.own_system_accounts();
        host.copy(env!("CARGO_BIN_EXE_eic-agent"), "bin/eic-agent");
        host.tag(INSTANCE);
        succeed(host.command("ssh-keygen").args(["-q", "-A"]));
        Some(host)
    }

    /// Numbers for new system accounts that no other host here has: processes are seen across hosts, and
    /// userdel(8) refuses an account whose number a process has.
    fn own_system_accounts(&self) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = std::process::id() + COUNT.fetch_add(1, Ordering::Relaxed);
        let first = 300 + count % 100 * 6;
        let path = self.path("etc/login.defs");
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        for kind in ["UID", "GID"] {
            text.push_str(&format!(
                "\nSYS_{kind}_MIN {first}\nSYS_{kind}_MAX {}\n",
                first + 5
            ));
        }
        fs::write(path, text).unwrap();
    }

    /// A file of the host's, by its path below the host's folder (`etc/…`, `var-lib/…`).
    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    pub(crate) fn write(&self, part: &str, content: impl AsRef<[u8]>) {
        let path = self.path(part);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A script to be run. Another process writes it: while a descriptor that writes is open, in a child of another
    /// test even, nobody can run the file (execve(2), ETXTBSY).
    pub(crate) fn program(&self, part: &str, script: &str) {
        let path = self.path(part);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = Command::new("sh");
        writer.args([
            "-c",
            r#"printf %s "$2" > "$1.new" && chmod 755 "$1.new" && mv "$1.new" "$1""#,
        ]);
        succeed(writer.arg("sh").arg(path).arg(script));
    }

    /// A copy of a program, to be run as [`Self::program`].
    pub(crate) fn copy(&self, from: impl AsRef<Path>, part: &str) {
        let path = self.path(part);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        succeed(Command::new("cp").arg(from.as_ref()).arg(path));
    }

    pub(crate) fn read(&self, part: &str) -> String {
        fs::read_to_string(self.path(part)).unwrap()
    }

    /// What the hypervisor calls the host.
    pub(crate) fn tag(&self, id: &str) {
        self.write(
            "sys/devices/virtual/dmi/id/board_asset_tag",
            format!("{id}\n"),
        );
    }

    /// The documents that `install` takes, valid now.
    pub(crate) fn documents(&self, documents: &Documents) {
        self.write("documents/root.json", documents.root_json());
        self.write("documents/host-view.json", documents.view_json());
    }

    /// A command on this host, with a minimal environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            MOUNTS,
            "sh",
        ]);
        command.arg(self.folder.path()).arg(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn agent(&self, arguments: &[&str]) -> Output {
        self.command("/usr/local/bin/eic-agent")
            .args(arguments)
            .output()
            .unwrap()
    }

    /// `eic-agent install` with the usual pin, and more arguments.
    pub(crate) fn install(&self, more: &[&str]) -> Output {
        let pin = public(ROOT_KEY).fingerprint();
        // The documents' folder is reached by its mounted name.
        self.write(
            "etc/eic-documents/root.json",
            fs::read(self.path("documents/root.json")).unwrap_or_default(),
        );
        self.write(
            "etc/eic-documents/host-view.json",
            fs::read(self.path("documents/host-view.json")).unwrap_or_default(),
        );
        let arguments = [
            "install",
            "--root-fingerprint",
            &pin,
            "--state-from",
            "/etc/eic-documents",
        ];
        self.agent(&[&arguments, more].concat())
    }

    /// Name, mode and content of every file that an installation could touch.
    pub(crate) fn snapshot(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for part in [
            "etc/ssh",
            "etc/eic",
            "etc/systemd",
            "usr/etc",
            "usr/lib/systemd",
            "etc/passwd",
            "etc/group",
            "etc/shadow",
            "var-lib",
        ] {
            collect(&self.path(part), &mut lines);
        }
        lines
    }
}

/// A process that ends with the test, however that ends.
pub(crate) struct Running(pub(crate) std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root: a mount namespace cannot be made");
    }
    if !Path::new("/usr/sbin/sshd").exists() {
        return Some("no /usr/sbin/sshd: install openssh-server");
    }
    None
}

fn collect(path: &Path, lines: &mut Vec<String>) {
    let Ok(about) = fs::symlink_metadata(path) else {
        return;
    };
    let mode = about.permissions().mode();
    if about.is_dir() {
        lines.push(format!("{} {mode:o}", path.display()));
        let mut inner: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inner.sort();
        inner.iter().for_each(|entry| collect(entry, lines));
    } else if about.is_file() {
        let content = shown(&fs::read(path).unwrap());
        lines.push(format!("{} {mode:o} {content}", path.display()));
    }
}

/// Short files as text, long ones as a digest: a failed comparison is to be read.
fn shown(bytes: &[u8]) -> String {
    if bytes.len() < 2000 {
        return format!("{:?}", String::from_utf8_lossy(bytes));
    }
    format!("{:?}", ring::digest::digest(&ring::digest::SHA256, bytes))
}

pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// stdout of a command that must have succeeded.
pub(crate) fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// stderr of a command that must have failed without printing anything.
pub(crate) fn refused(output: &Output) -> String {
    assert!(
        !output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(output.stdout.is_empty());
    stderr(output)
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Documents whose times are good now.
pub(crate) fn current() -> Documents {
    let mut documents = Documents::new();
    documents.root.issued = now() - 60;
    documents.view.issued = now() - 60;
    documents.view.refresh_after = now() + 3600;
    documents
}
