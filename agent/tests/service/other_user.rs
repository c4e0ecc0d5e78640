//! Chained commands of another user: run by the root helper behind its door for logins, for a real sshd's
//! AuthorizedKeysCommandUser and nobody else, and nothing but what root's file lists.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::helper_door::as_account;
use crate::sandbox::{Running, ok, stderr, wait_until};
use crate::station::{Station, mode};

const DOOR: &str = "/run/eic-logins.sock";
/// What the unit leaves the helper.
const CAPABILITIES: &str = "-all,+setuid,+setgid,+kill";
/// The other user's number, which no account of the machine has.
const UID: u32 = 47_110;

/// Seeds of keys: known to a command of AuthorizedKeysCommandUser, to one of the other user, to nobody.
const OWN: u8 = 44;
const OTHERS: u8 = 45;
const STRANGER: u8 = 46;

fn line_of(seed: u8) -> String {
    crate::documents::key(seed)
        .public_key()
        .to_openssh()
        .unwrap()
}

/// A host with a command of each kind; `more` goes behind them.
fn station(more: &str) -> Option<Station> {
    let station = Station::new("")?;
    let host = &station.host;
    let passwd = host.read("etc/passwd");
    let account = format!("keys:x:{UID}:{UID}::/srv/keys:/usr/sbin/nologin\n");
    let roots = "toor:x:0:0::/root:/bin/sh\nstaff0:x:47111:0::/:/bin/sh\n";
    host.write("etc/passwd", format!("{passwd}{account}{roots}"));
    program(&station, "own-keys", &format!("echo '{}'", line_of(OWN)));
    // Uid, all groups, environment, tokens and open files must be right: no socket, root's listening one least of all.
    let environment = "HOME=/srv/keys LOGNAME=keys USER=keys";
    program(
        &station,
        "other-keys",
        &format!(
            "[ \"$(id -u) $(id -G)\" = '{UID} {UID}' ] && [ \"$1 $2\" = 'root /root' ] || exit 1\n\
             [ \"$(env | grep -v -e ^PATH= -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | sort | tr '\\n' ' ')\" = '{environment} ' ] || exit 2\n\
             grep -q '^CapEff:.0*$' /proc/self/status || exit 3\n\
             ! ls -l /proc/self/fd | grep -q socket: || exit 4\n\
             echo '{}'",
            line_of(OTHERS)
        ),
    );
    station.with_metadata("http://127.0.0.1:1");
    let commands = format!(
        "[[authorized_keys.command]]\nname = \"own\"\ncommand = [\"/usr/local/bin/own-keys\"]\n\
         [[authorized_keys.command]]\nname = \"other\"\nuser = \"keys\"\ncommand = [\"/usr/local/bin/other-keys\", \"%u\", \"%h\"]\n\
         {more}"
    );
    station.configure(|toml| toml + &commands);
    // sshd passes `%h` on from now on.
    ok(&host.install(&["--no-reload"]));
    Some(station)
}

fn program(station: &Station, name: &str, script: &str) {
    let path = format!("bin/{name}");
    let script = format!("#!/bin/sh\n{script}\n");
    station.host.program(&path, &script);
}

/// A login of root's with a seed's key.
fn login(station: &Station, seed: u8) -> Output {
    station.identity(seed);
    station.ssh("-e", "id -u").output().unwrap()
}

fn is_let_in(station: &Station, seed: u8) -> bool {
    let output = login(station, seed);
    let denied = stderr(&output).contains("Permission denied");
    assert!(output.status.success() != denied, "{}", stderr(&output));
    !denied
}

/// An errand as sshd's command user would send it.
fn errand(station: &Station, command: &str, tokens: &[&str]) -> String {
    let line = serde_json::json!({ "command": command, "tokens": tokens }).to_string();
    as_account(station, "eic", DOOR, &line)
}

#[test]
fn a_key_of_another_users_command_opens_a_real_sshd_and_without_the_helper_only_that_one_does_not()
{
    let Some(station) = station("") else { return };
    assert!(!is_let_in(&station, OTHERS));
    assert!(is_let_in(&station, OWN));
    let logins = station.logins(CAPABILITIES);
    assert!(is_let_in(&station, OTHERS), "{}", station.said());
    assert!(is_let_in(&station, OWN));
    assert!(!is_let_in(&station, STRANGER));
    drop(logins);
    assert!(!is_let_in(&station, OTHERS));
    assert!(is_let_in(&station, OWN));
}

#[test]
fn only_sshds_command_user_is_served_and_only_with_what_is_listed() {
    let more = "[[authorized_keys.command]]\nname = \"toors\"\nuser = \"toor\"\ncommand = [\"/bin/echo\"]\n\
                [[authorized_keys.command]]\nname = \"groups\"\nuser = \"staff0\"\ncommand = [\"/bin/echo\"]\n\
                [[authorized_keys.command]]\nname = \"nobodys\"\nuser = \"nosuch\"\ncommand = [\"/bin/echo\"]\n";
    let Some(station) = station(more) else { return };
    let _logins = station.logins(CAPABILITIES);
    let good = "{\"command\":\"other\",\"tokens\":[\"u=root\",\"h=/root\"]}";
    for stranger in ["nobody", "keys"] {
        assert_eq!(as_account(&station, stranger, DOOR, good), "", "{stranger}");
    }
    let served = as_account(&station, "eic", DOOR, good);
    assert!(served.contains(&line_of(OTHERS)), "{served}");
    for (command, tokens, reason) in [
        ("own", &["u=root"][..], "that have a `user`"),
        ("none", &["u=root"], "that have a `user`"),
        ("/bin/sh", &["u=root"], "that have a `user`"),
        ("toors", &["u=root"], "root's uid or group"),
        ("groups", &["u=root"], "root's uid or group"),
        ("nobodys", &["u=root"], "no such account"),
        (
            "other",
            &["u=root", "h=/root", "x=1"],
            "for a token of sshd's",
        ),
        ("other", &["u=root", "u=eic"], "for a token of sshd's"),
        (
            "other",
            &["u=--config=/tmp/x", "h=/root"],
            "for a token of sshd's",
        ),
        (
            "other",
            &["u=root", "h=/home/../root"],
            "for a token of sshd's",
        ),
        ("other", &["u=root"], "expand `%h`"),
    ] {
        let answer = errand(&station, command, tokens);
        let expected = answer.starts_with("{\"failed\":") && answer.contains(reason);
        assert!(expected, "{command} {tokens:?}: {answer}");
    }
    // Neither the service's verbs nor anything else.
    for line in [
        "{\"repair\":{}}",
        "{\"command\":\"other\",\"tokens\":[],\"user\":\"root\"}",
        "{",
        "",
    ] {
        assert_eq!(as_account(&station, "eic", DOOR, line), "", "{line}");
    }
    // Nor this verb at the service's door.
    assert_eq!(
        as_account(&station, "eic", "/run/eic-helper.sock", good),
        ""
    );
}

#[test]
fn commands_end_at_their_deadline_at_their_limit_and_when_nobody_waits() {
    let more = "[[authorized_keys.command]]\nname = \"hanging\"\nuser = \"keys\"\ncommand = [\"/usr/local/bin/hanging\"]\ndeadline_ms = 10000\n\
                [[authorized_keys.command]]\nname = \"late\"\nuser = \"keys\"\ncommand = [\"/bin/sleep\", \"60\"]\ndeadline_ms = 200\n\
                [[authorized_keys.command]]\nname = \"loud\"\nuser = \"keys\"\ncommand = [\"/usr/bin/yes\"]\nmax_bytes = 4096\n\
                [[authorized_keys.command]]\nname = \"failing\"\nuser = \"keys\"\ncommand = [\"/bin/false\"]\n";
    let Some(station) = station(more) else { return };
    program(
        &station,
        "hanging",
        "echo $$ > /run/keys/pid\nexec sleep 60",
    );
    fs::create_dir(station.host.path("run/keys")).unwrap();
    chown(station.host.path("run/keys"), Some(UID), Some(UID)).unwrap();
    let _logins = station.logins(CAPABILITIES);
    for (command, reason) in [
        ("late", "deadline_ms"),
        ("loud", "max_bytes"),
        ("failing", "exit status: 1"),
    ] {
        let answer = errand(&station, command, &["u=root"]);
        assert!(answer.contains(reason), "{command}: {answer}");
    }
    let mut command = station.host.command("setpriv");
    command.args(["--reuid", "eic", "--clear-groups", "python3", "-c"]);
    command.arg("import socket,time\ns=socket.socket(socket.AF_UNIX)\ns.connect('/run/eic-logins.sock')\ns.sendall(b'{\"command\":\"hanging\",\"tokens\":[\"u=root\"]}\\n')\ntime.sleep(60)");
    let client = Running(command.spawn().unwrap());
    let pid = || {
        let text = fs::read_to_string(station.host.path("run/keys/pid")).unwrap_or_default();
        text.trim().parse::<u32>().ok()
    };
    wait_until("the command", || pid().is_some());
    let stat = format!("/proc/{}/stat", pid().unwrap());
    assert!(fs::metadata(&stat).is_ok());
    drop(client);
    let started = std::time::Instant::now();
    wait_until("its end", || fs::metadata(&stat).is_err());
    // By its deadline it would end after 10 s.
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn more_errands_at_once_than_may_run_are_refused_with_the_reason_and_the_next_one_is_served() {
    let more = "[[authorized_keys.command]]\nname = \"slow\"\nuser = \"keys\"\ncommand = [\"/bin/sleep\", \"60\"]\ndeadline_ms = 10000\n";
    let Some(station) = station(more) else { return };
    let _logins = station.logins(CAPABILITIES);
    // 64 of them run, each in a connection that is kept open; then all are hung up.
    let script = "import socket\ndef ask(line):\n s=socket.socket(socket.AF_UNIX)\n s.settimeout(20)\n s.connect('/run/eic-logins.sock')\n s.sendall(line+b'\\n')\n return s\n\
                  slow=b'{\"command\":\"slow\",\"tokens\":[\"u=root\"]}'\nkept=[ask(slow) for _ in range(64)]\nprint(ask(slow).makefile().readline())\n";
    let mut command = station.host.command("setpriv");
    command.args(["--reuid", "eic", "--clear-groups", "python3", "-c", script]);
    let told = ok(&command.output().unwrap());
    assert!(told.contains("asked too often"), "{told}");
    let good = ["u=root", "h=/root"];
    wait_until("a place", || {
        errand(&station, "other", &good).contains(&line_of(OTHERS))
    });
}

#[test]
fn files_that_others_may_write_and_missing_capabilities_run_nothing() {
    let Some(station) = station("") else { return };
    let good = ["u=root", "h=/root"];
    let logins = station.logins(CAPABILITIES);
    let program = station.host.path("bin/other-keys");
    mode(&program, 0o775);
    assert!(errand(&station, "other", &good).contains("writable by nobody else"));
    mode(&program, 0o755);
    let toml = station.host.path("etc/eic/agent.toml");
    mode(&toml, 0o666);
    assert_eq!(errand(&station, "other", &good), "");
    mode(&toml, 0o644);
    assert!(errand(&station, "other", &good).contains(&line_of(OTHERS)));
    drop(logins);
    for capabilities in ["-all,+setuid", "-all,+setgid"] {
        let _logins = station.logins(capabilities);
        let answer = errand(&station, "other", &good);
        assert!(answer.contains("start it"), "{capabilities}: {answer}");
    }
}

#[test]
fn the_listening_socket_may_be_standard_input() {
    let Some(station) = station("") else { return };
    let path = station.host.path("run/eic-logins.sock");
    let listener = UnixListener::bind(&path).unwrap();
    mode(&path, 0o666);
    let mut command = station.host.command("setsid");
    command.args(["/usr/local/bin/eic-agent-service", "helper", "--logins"]);
    let descriptor = std::os::fd::OwnedFd::from(listener);
    command.stdin(Stdio::from(descriptor)).stderr(Stdio::null());
    let _running = Running(command.spawn().unwrap());
    let answer = errand(&station, "other", &["u=root", "h=/root"]);
    assert!(answer.contains(&line_of(OTHERS)), "{answer}");
    let mut command = station.host.command("setsid");
    command.args(["/usr/local/bin/eic-agent-service", "helper", "--logins"]);
    let output = command.output().unwrap();
    assert!(crate::sandbox::refused(&output).contains("the helper's socket"));
}

#[test]
fn on_a_terminal_the_door_is_not_opened() {
    let Some(station) = station("") else { return };
    if !std::path::Path::new("/usr/bin/script").exists() {
        eprintln!("skipped: no script(1)");
        return;
    }
    let line = "/usr/local/bin/eic-agent helper --logins --listen /run/eic-logins.sock";
    // A terminal of its own, which the program's session controls.
    let mut command = station.host.command("/usr/bin/script");
    command.args(["-q", "-e", "-c", line, "/dev/null"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("serve logins from a terminal"), "{said}");
}
