//! Revocation on a real sshd: refused at once, neighbours untouched, live sessions ended.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use eic_agent::helper::request::{Answer, Offer, Request};

use crate::documents::CA_KEY;
use crate::sandbox::{Running, wait_until};
use crate::station::{ROOT_HERE, Station};

#[test]
fn a_revoked_certificate_is_refused_and_its_neighbours_are_not() {
    // F-01
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert!(station.logs_in(4711));
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_sequence(10);
    station.authority.revoke(&[4711]);
    let called = std::time::Instant::now();
    station.ca.serve(station.authority.response());
    wait_until("the refusal", || !station.logs_in(4711));
    println!("refused after {:?}", called.elapsed());
    for neighbour in [4710, 4712] {
        assert!(station.logs_in(neighbour), "{neighbour}");
    }
}

#[test]
fn a_revocation_under_one_ca_says_nothing_about_another() {
    // F-08
    let Some(mut station) = Station::new("") else {
        return;
    };
    station
        .authority
        .succeed(&[crate::documents::ROOT_KEY], |root| {
            root.user_cas.push(crate::documents::ca(13));
        });
    station.authority.revoke(&[7]);
    assert_eq!(station.install().refused, None);
    assert!(!station.logs_in(7));
    station.certificate(7, 13, ROOT_HERE);
    assert!(station.ssh("-e", "true").status().unwrap().success());
}

#[test]
fn a_revoked_ca_key_closes_all_of_its_certificates_and_no_others() {
    // F-15
    let Some(mut station) = Station::new("") else {
        return;
    };
    station
        .authority
        .succeed(&[crate::documents::ROOT_KEY], |root| {
            root.user_cas.push(crate::documents::ca(13));
        });
    station.authority.revoke_ca(CA_KEY);
    assert_eq!(station.install().refused, None);
    assert!(!station.logs_in(7));
    station.certificate(7, 13, ROOT_HERE);
    assert!(station.ssh("-e", "true").status().unwrap().success());
}

/// At least so many logins, in step with a hundred replacements of every file: one certificate is always revoked,
/// one never. How many were judged.
fn logins_during_a_hundred_replacements(wanted: usize) -> usize {
    let Some(mut station) = Station::new("") else {
        return wanted;
    };
    let made = AtomicUsize::new(0);
    station.authority.revoke(&[7]);
    assert_eq!(station.install().refused, None);
    let done = AtomicBool::new(false);
    let station = &station;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            replace_a_hundred_times(station, |round| {
                // In step with the logins, where many are wanted.
                let due = round * wanted / 100;
                wait_until("logins", || made.load(Ordering::SeqCst) + 10 >= due);
            });
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) || made.load(Ordering::SeqCst) < wanted {
            assert!(station.logs_in(8), "wrongly refused");
            assert!(!station.logs_in(7), "wrongly let in");
            made.fetch_add(2, Ordering::SeqCst);
        }
        writer.join().unwrap();
    });
    let made = made.into_inner();
    println!("{made} logins during 100 replacements");
    made
}

fn replace_a_hundred_times(station: &Station, after_each: impl Fn(usize)) {
    let (helper, mut authority) = (station.helper(), station.authority.clone());
    for round in 0..100 {
        authority.revoke(&[1000 + u64::try_from(round).unwrap()]);
        let response = authority.response();
        let offer = Offer {
            roots: response.roots,
            bundle: Some(response.bundle),
            view: response.view,
        };
        helper.ask(&Request::InstallTrust(offer)).unwrap();
        after_each(round);
    }
}

#[test]
fn logins_during_a_hundred_replacements_are_all_right() {
    // F-10, J-14
    assert!(logins_during_a_hundred_replacements(40) >= 40);
}

#[test]
#[ignore = "a minute and more: 500 logins"]
fn five_hundred_logins_during_a_hundred_replacements_are_all_right() {
    assert!(logins_during_a_hundred_replacements(500) >= 500);
}

/// A /dev of the namespace's own, whose /dev/log is a file's end: `$1` is the log.
const WITH_DEV_LOG: &str = r#"set -e
mount -t tmpfs tmpfs /mnt
for device in null zero random urandom tty ptmx; do touch /mnt/$device; mount --bind /dev/$device /mnt/$device; done
ln -s /proc/self/fd /mnt/fd
mkdir /mnt/pts; mount --bind /dev/pts /mnt/pts
ln -s /run/dev-log /mnt/log
mount --move /mnt /dev 2>/dev/null || mount --rbind /mnt /dev
exec "$@""#;

/// Lines that reach the host's /dev/log go to its auth.log, as a syslog daemon would write them.
fn syslog(station: &Station) -> std::thread::JoinHandle<()> {
    use std::io::Write as _;
    let socket = std::os::unix::net::UnixDatagram::bind(station.host.path("run/dev-log")).unwrap();
    crate::station::mode(&station.host.path("run/dev-log"), 0o666);
    let path = station.host.path("var-lib/auth.log");
    std::thread::spawn(move || {
        let mut log = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let text = text.trim_end_matches(['\0', '\n']);
            let line = text.split_once('>').map_or(text, |(_, rest)| rest);
            // `Nov 22 04:58:01 sshd[12]: …` has no host name yet.
            let (date, rest) = line.split_at(16.min(line.len()));
            if writeln!(log, "{date}host {rest}").is_err() {
                return;
            }
        }
    })
}

/// A session that lasts, with a certificate of this serial.
fn session(station: &Station, serial: u64) -> Running {
    station.certificate(serial, CA_KEY, ROOT_HERE);
    let proxied = station.ssh("-o LogLevel=INFO", "echo ready; exec sleep 600");
    // The same command line with a /dev of its own in front of the program.
    let arguments: Vec<_> = proxied.get_args().map(std::ffi::OsStr::to_owned).collect();
    let at = arguments.iter().position(|word| word == "ssh").unwrap();
    let mut command = std::process::Command::new(proxied.get_program());
    command
        .args(&arguments[..at])
        .args(["/bin/sh", "-c", WITH_DEV_LOG, "sh"])
        .args(&arguments[at..]);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut ready = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).expect("the login");
    Running(child)
}

#[test]
fn sessions_of_a_ca_that_is_retired_in_its_time_go_on_until_its_key_is_revoked() {
    let Some(mut station) = Station::new("end_revoked_sessions = true") else {
        return;
    };
    let _syslog = syslog(&station);
    let mut session = session(&station, 7);
    station
        .authority
        .succeed(&[crate::documents::ROOT_KEY], |root| {
            root.user_cas[0].state = eic_protocol::trust::root::KeyState::Retired;
            root.user_cas.push(crate::documents::ca(13));
        });
    station.authority.revoke(&[9]);
    assert_eq!(station.install().refused, None);
    let ended = |station: &Station| {
        let answer = station.helper().ask(&Request::EndRevokedSessions {});
        match answer.unwrap() {
            Answer::Ended(ended) => ended.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ended(&station), 0);
    assert!(session.0.try_wait().unwrap().is_none());
    // As `eic-ca keys retire --now` does.
    station.authority.revoke_ca(CA_KEY);
    assert_eq!(station.install().refused, None);
    assert_eq!(ended(&station), 1);
    wait_until("the session's end", || {
        session.0.try_wait().unwrap().is_some()
    });
}

#[test]
fn live_sessions_of_revoked_certificates_end_and_others_go_on() {
    let Some(mut station) = Station::new("end_revoked_sessions = true") else {
        return;
    };
    let _syslog = syslog(&station);
    let mut doomed = session(&station, 7);
    let mut other = session(&station, 8);
    // A line that anybody could have written: right serial, somebody else's process.
    let stranger = other.0.id();
    let log = station.host.read("var-lib/auth.log");
    let line = log
        .lines()
        .find(|line| line.contains("(serial 7)"))
        .expect(&log);
    let forged = line.replacen("sshd[", &format!("sshd[{stranger}]: x sshd["), 1);
    station
        .host
        .write("var-lib/auth.log", format!("{log}{forged}\n"));
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_sequence(10);
    station.authority.revoke(&[7]);
    station.ca.serve(station.authority.response());
    wait_until("the session's end", || {
        doomed.0.try_wait().unwrap().is_some()
    });
    assert!(other.0.try_wait().unwrap().is_none());
    wait_until("the log", || {
        station.said().contains("ended the session of root")
    });
    station.authority.revoke(&[8]);
    station.ca.serve(station.authority.response());
    wait_until("the other session's end", || {
        other.0.try_wait().unwrap().is_some()
    });
}
