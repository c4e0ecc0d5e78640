//! Disks that are full, failing or read-only, and a helper that is killed at every step: sshd always has valid
//! files, the state says why it is not well, and the next start makes everything good.

use std::path::Path;
use std::process::{Command, Stdio};

use eic_agent::helper::request::{Answer, Request};

use crate::documents::CA_KEY;
use crate::sandbox::{ok, wait_until};
use crate::station::Station;

/// What every instant must leave: a list and CA keys that OpenSSH reads, and principals.
fn assert_sshd_has_valid_files(station: &Station, at: &str) {
    let state = station.host.path("var-lib/eic");
    let key = station.host.path("run/probe.pub");
    std::fs::write(&key, format!("{}\n", crate::documents::public(40))).unwrap();
    let list = state.join("revoked-keys");
    let asked = Command::new("ssh-keygen")
        .arg("-Q")
        .arg("-f")
        .args([&list, &key])
        .output()
        .unwrap();
    assert!(
        asked.status.success(),
        "{at}: {}",
        String::from_utf8_lossy(&asked.stderr)
    );
    let keys = Command::new("ssh-keygen")
        .arg("-l")
        .arg("-f")
        .arg(state.join("user-ca-keys"))
        .output();
    assert!(keys.unwrap().status.success(), "{at}");
    let names = ok(&station.principals("alice", CA_KEY));
    assert!(names.contains("alice@i-0123456789abcdef0"), "{at}: {names}");
}

fn is_missing(program: &str) -> bool {
    let missing = !Path::new(program).exists();
    if missing {
        eprintln!("skipped: no {program}");
    }
    missing
}

/// One request to a helper of its own under strace, which does `what` to one system call.
fn helper_under_strace(station: &Station, what: &str, request: &Request) -> Option<Answer> {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixStream;
    let (own, theirs) = UnixStream::pair().unwrap();
    let mut command = station.host.command("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=all",
        "-e",
        what,
    ]);
    command.args(["/usr/local/bin/eic-agent", "helper"]);
    command
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    // A helper that is killed before it reads is no failure here.
    let line = serde_json::to_string(request).unwrap() + "\n";
    let _ = (&own).write_all(line.as_bytes());
    own.set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    let mut answer = String::new();
    let _ = BufReader::new(&own).read_line(&mut answer);
    child.wait().unwrap();
    serde_json::from_str(&answer).ok()
}

#[test]
fn killed_at_every_step_sshd_has_valid_files_and_the_next_start_heals() {
    // F-11
    let Some(mut station) = Station::new("") else {
        return;
    };
    if is_missing("/usr/bin/strace") {
        return;
    }
    assert_eq!(station.install().refused, None);
    let mut kills = 0;
    for call in [
        "openat", "write", "fsync", "rename", "unlink", "fchmod", "execve",
    ] {
        for step in 1.. {
            station
                .authority
                .revoke(&[1000 + station.authority.bundle.sequence]);
            let request = Request::InstallTrust(station.offer());
            let what = format!("inject={call}:signal=KILL:when={step}");
            let answer = helper_under_strace(&station, &what, &request);
            let at = format!("killed at {call} {step}");
            assert_sshd_has_valid_files(&station, &at);
            match answer {
                // Fewer calls than that: the whole run went through, and the next call's turn comes.
                Some(Answer::Trust(_)) => break,
                // A child of the helper's was killed.
                Some(Answer::Refused { .. }) => {}
                None => kills += 1,
                other => panic!("{at}: {other:?}"),
            }
            heal(&station, &at);
            assert!(step < 300, "{at}: no end");
        }
    }
    println!("{kills} kills");
    assert!(kills > 20, "{kills}");
}

/// The next start: what is half in place is completed without any server, and the newest is taken.
fn heal(station: &Station, at: &str) {
    station.repair();
    let answer = station.install();
    assert_eq!(answer.refused, None, "{at}");
    assert_eq!(
        answer.installed.bundle_sequence,
        Some(station.authority.bundle.sequence),
        "{at}"
    );
    let left = std::fs::read_dir(station.host.path("var-lib/eic")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    let litter = left
        .iter()
        .any(|name| name.to_string_lossy().ends_with(".new"));
    assert!(!litter, "{at}: {left:?}");
}

#[test]
fn failing_writes_change_nothing_and_are_told() {
    // F-11: ENOSPC and EIO at each write, sync and rename
    let Some(mut station) = Station::new("") else {
        return;
    };
    if is_missing("/usr/bin/strace") {
        return;
    }
    assert_eq!(station.install().refused, None);
    for (call, error) in [
        ("fsync", "EIO"),
        ("fsync", "ENOSPC"),
        ("rename", "EIO"),
        ("rename", "EROFS"),
    ] {
        for step in 1..=4 {
            station
                .authority
                .revoke(&[1000 + station.authority.bundle.sequence]);
            let request = Request::InstallTrust(station.offer());
            let what = format!("inject={call}:error={error}:when={step}");
            let answer = helper_under_strace(&station, &what, &request);
            let at = format!("{error} at {call} {step}");
            assert_sshd_has_valid_files(&station, &at);
            if let Some(Answer::Refused { reason }) = &answer {
                assert!(reason.contains("failed to write"), "{at}: {reason}");
            }
            heal(&station, &at);
        }
    }
}

#[test]
fn a_full_disk_leaves_the_old_files_and_an_unhealthy_state_with_the_reason() {
    // F-11: a tiny tmpfs over the state folder
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    let state = station.host.path("var-lib/eic");
    let Some(_disk) = TinyDisk::below(&mut station) else {
        return;
    };
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_sequence(10);
    let before = station.files();
    fill(&state);
    station
        .authority
        .revoke(&(1..3000).map(|n| n * 2).collect::<Vec<_>>());
    station.ca.serve(station.authority.response());
    station.wait_for_problem("trust", "No space left");
    assert_eq!(station.files(), before);
    assert_sshd_has_valid_files(&station, "full");
    std::fs::remove_file(state.join("filler")).unwrap();
    station.wait_for_sequence(11);
}

#[test]
fn a_read_only_disk_leaves_the_old_files_and_an_unhealthy_state_with_the_reason() {
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    let Some(disk) = TinyDisk::below(&mut station) else {
        return;
    };
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_sequence(10);
    disk.remount("ro");
    station.authority.revoke(&[7]);
    station.ca.serve(station.authority.response());
    station.wait_for_problem("trust", "Read-only file system");
    assert_sshd_has_valid_files(&station, "read-only");
    disk.remount("rw");
    station.wait_for_sequence(11);
    assert!(!station.logs_in(7));
}

#[test]
fn a_failing_disk_leaves_the_old_files_and_an_unhealthy_state_with_the_reason() {
    // F-11: EIO of a real block device
    // The first to be made, and so the last to go.
    let Some(device) = BlockDevice::new() else {
        return;
    };
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    let Some(_disk) = TinyDisk::on(&mut station, &[&device.path()]) else {
        return;
    };
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_sequence(10);
    let before = station.files();
    device.fails(true);
    station.authority.revoke(&[7]);
    station.ca.serve(station.authority.response());
    station.wait_for_problem("trust", "Input/output error");
    assert_eq!(station.files(), before);
    assert_sshd_has_valid_files(&station, "failing");
    assert!(station.logs_in(7), "nothing new is in place");
    device.fails(false);
    station.wait_for_sequence(11);
    assert!(!station.logs_in(7) && station.logs_in(8));
}

#[test]
fn files_that_others_could_write_are_made_anew() {
    // J-10
    let Some(station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    let list = station.host.path("var-lib/eic/revoked-keys");
    crate::station::mode(&list, 0o666);
    std::fs::write(station.host.path("var-lib/eic/user-ca-keys"), "").unwrap();
    let answer = station.repair();
    assert_eq!(answer.changed, ["revoked-keys", "user-ca-keys"]);
    assert_sshd_has_valid_files(&station, "repaired");
    let ca_keys = std::fs::read_to_string(station.host.path("var-lib/eic/user-ca-keys")).unwrap();
    assert!(ca_keys.contains(&crate::documents::public(CA_KEY).to_string()));
}

#[test]
fn damaged_documents_bring_nothing_back_that_was_retired() {
    let Some(mut station) = Station::new("") else {
        return;
    };
    station
        .authority
        .succeed(&[crate::documents::ROOT_KEY], |root| {
            root.user_cas[0].state = eic_protocol::trust::root::KeyState::Retired;
            root.user_cas.push(crate::documents::ca(13));
        });
    station.authority.revoke(&[7]);
    assert_eq!(station.install().refused, None);
    let before = station.files();
    station
        .host
        .write("var-lib/eic/documents.json", "{\"roots\":");
    station.repair();
    let keys = station.host.read("var-lib/eic/user-ca-keys");
    assert!(!keys.contains(&crate::documents::public(CA_KEY).to_string()));
    assert!(ok(&station.principals("alice", CA_KEY)).is_empty());
    assert!(ok(&station.principals("alice", 13)).contains("alice@"));
    let answer = station.install();
    assert_eq!(
        (answer.refused, answer.installed.bundle_sequence),
        (None, Some(11))
    );
    // Roots before the newest that a pinned key signed are not needed again.
    assert_eq!(station.files()[1..], before[1..]);
}

#[test]
fn files_that_somebody_deletes_or_empties_come_back() {
    // F-10: without its revocation list sshd refuses every key
    let Some(station) = Station::new("") else {
        return;
    };
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_sequence(10);
    let before = station.files();
    for name in ["revoked-keys", "user-ca-keys", "trust.json"] {
        std::fs::remove_file(station.host.path(&format!("var-lib/eic/{name}"))).unwrap();
        wait_until(name, || station.files() == before);
        station.host.write(&format!("var-lib/eic/{name}"), "");
        wait_until(name, || station.files() == before);
    }
}

#[test]
fn a_helper_that_is_away_is_told_and_missed_no_longer_than_it_is_away() {
    let Some(mut station) = Station::new("") else {
        return;
    };
    station.stop_helper();
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_problem("trust", "ask the helper");
    station.start_helper();
    station.wait_for_sequence(10);
    wait_until("health", || station.status().healthy);
}

/// A block device in memory whose writes of anything new fail with EIO while it may take no more memory (zram,
/// `mem_limit`); gone with the value.
struct BlockDevice(String);

impl BlockDevice {
    fn new() -> Option<Self> {
        let Ok(number) = std::fs::read_to_string("/sys/class/zram-control/hot_add") else {
            eprintln!("skipped: this kernel makes no zram device");
            return None;
        };
        let device = Self(number.trim().to_owned());
        device.set("disksize", "16M");
        let mut make = Command::new("mkfs.ext2");
        let made = make.args(["-q", "-F", &device.path()]).status();
        if made.is_ok_and(|status| status.success()) {
            return Some(device);
        }
        eprintln!("skipped: no mkfs.ext2");
        None
    }

    fn path(&self) -> String {
        format!("/dev/zram{}", self.0)
    }

    fn set(&self, setting: &str, value: &str) {
        let file = format!("/sys/block/zram{}/{setting}", self.0);
        std::fs::write(file, value).unwrap();
    }

    fn fails(&self, fails: bool) {
        self.set("mem_limit", if fails { "4K" } else { "0" });
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        // Whoever had it mounted may need a moment to end.
        let remove = || std::fs::write("/sys/class/zram-control/hot_remove", &self.0).is_ok();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !remove() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// A small file system with the content of the host's /var/lib, mounted over it; unmounted at the end.
struct TinyDisk(std::path::PathBuf);

impl TinyDisk {
    fn below(station: &mut Station) -> Option<Self> {
        let tmpfs = ["-t", "tmpfs", "-o", "size=256k,mode=0755", "tmpfs"];
        Self::on(station, &tmpfs)
    }

    /// What mount(8) gets, but for the place.
    fn on(station: &mut Station, what: &[&str]) -> Option<Self> {
        let folder = station.host.path("var-lib");
        let kept = folder.with_extension("kept");
        assert!(
            Command::new("cp")
                .arg("-a")
                .arg(&folder)
                .arg(&kept)
                .status()
                .unwrap()
                .success()
        );
        // The helper's namespace has the folder as it was when it started.
        station.stop_helper();
        let mounted = Command::new("mount").args(what).arg(&folder).status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("skipped: nothing can be mounted here");
            return None;
        }
        let disk = Self(folder.clone());
        let copied = Command::new("cp")
            .arg("-a")
            .arg(kept.join("."))
            .arg(&folder)
            .status();
        assert!(copied.unwrap().success());
        station.start_helper();
        Some(disk)
    }

    fn remount(&self, how: &str) {
        let option = format!("remount,{how}");
        let mut mount = Command::new("mount");
        mount.args(["-o", &option]).arg(&self.0);
        // Busy as long as the helper has a file there open to write it.
        wait_until("the remount", || mount.status().unwrap().success());
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Takes all room that is left.
fn fill(folder: &Path) {
    use std::io::Write as _;
    let mut filler = std::fs::File::create(folder.join("filler")).unwrap();
    while filler.write_all(&[b'x'; 1024]).is_ok() {}
}
