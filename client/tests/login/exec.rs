//! `eic-login exec` with programs that bring their own SSH, against a real sshd; and what is left when it ends.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use eic_protocol::api::instance::Enrolment;

use crate::real_ssh::{OWN_KEY, OwnAgent, Scene, program, said};
use crate::stub::INSTANCE;

async fn output(mut command: Command) -> Output {
    let waiting = tokio::task::spawn_blocking(move || command.output().unwrap());
    waiting.await.unwrap()
}

/// ssh with nothing of ours but the agent that `SSH_AUTH_SOCK` names.
fn plain_ssh(scene: &Scene) -> Vec<String> {
    let port = scene.world.state().port.to_string();
    let words = [
        "ssh",
        "-F",
        "none",
        "-p",
        &port,
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "IdentityFile=none",
        "-o",
        "BatchMode=yes",
    ];
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn exec(scene: &Scene, options: &[&str], command: &[String]) -> Command {
    let words: Vec<&str> = ["exec"]
        .into_iter()
        .chain(options.iter().copied())
        .chain(["--"])
        .chain(command.iter().map(String::as_str))
        .collect();
    scene.eic(&words)
}

fn leftovers(scene: &Scene) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&scene.world.paths.run_dir)
        .into_iter()
        .flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_string_lossy().contains("exec-"))
        .collect()
}

#[tokio::test]
async fn what_cannot_be_had_starts_no_command() {
    let scene = Scene::new(Some(INSTANCE)).await;
    scene.world.state().refuse = Some(eic_protocol::api::problem::ProblemCode::NotAllowed);
    let mark = scene.world.dir.path().join("started");
    let touch = ["touch".to_owned(), mark.display().to_string()];
    for options in [["--target", "root@web-1"], ["--fleet", "root@web"]] {
        let refused = output(exec(&scene, &options, &touch)).await;
        assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    }
    assert!(!mark.exists() && leftovers(&scene).is_empty());
}

#[tokio::test]
async fn a_target_opens_to_openssh_for_as_long_as_the_command_runs() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let target = format!("{}@web-1", scene.user);
    let host = format!("{}@127.0.0.1", scene.user);
    let mut ssh = plain_ssh(&scene);
    ssh.extend([host, "echo in; exit 7".to_owned()]);
    let done = output(exec(&scene, &["--target", &target], &ssh)).await;
    assert_eq!(
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stdout).as_ref()
        ),
        (Some(7), "in\n"),
        "{}\n{}",
        said(&done),
        scene.sshd_log()
    );
    assert!(leftovers(&scene).is_empty());
    let listed = output(exec(
        &scene,
        &["--target", &target],
        &["ssh-add".to_owned(), "-l".to_owned()],
    ))
    .await;
    assert!(said(&listed).contains("ED25519-CERT"), "{}", said(&listed));
}

#[tokio::test]
async fn one_fleet_certificate_opens_many_hosts() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let principals = scene.world.dir.path().join("principals");
    std::fs::write(principals, format!("{}@fleet/web\n", scene.user)).unwrap();
    let fleet = format!("{}@web", scene.user);
    let host = format!("{}@127.0.0.1", scene.user);
    let ssh = plain_ssh(&scene).join(" ");
    let loops = format!("for n in 1 2 3; do {ssh} {host} echo in $n || exit 9; done");
    let shell = ["sh".to_owned(), "-c".to_owned(), loops];
    let done = output(exec(&scene, &["--fleet", &fleet], &shell)).await;
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "in 1\nin 2\nin 3\n",
        "{}\n{}",
        said(&done),
        scene.sshd_log()
    );
    assert_eq!(scene.world.state().certificates, 1);
}

#[tokio::test]
async fn a_legacy_host_gets_its_key_pushed() {
    let scene = Scene::new(None).await;
    scene.world.state().enrolment = Enrolment::Legacy;
    let target = format!("{}@web-1", scene.user);
    let mut ssh = plain_ssh(&scene);
    ssh.extend([format!("{}@127.0.0.1", scene.user), "echo in".to_owned()]);
    let done = output(exec(&scene, &["--target", &target], &ssh)).await;
    assert!(said(&done).starts_with("in\n"), "{}", said(&done));
    assert!(said(&done).contains("Instance Connect"), "{}", said(&done));
    // H-18: no other process may ever run as the same person to tell the CA of the push.
    assert_eq!(scene.world.state().events.len(), 1);
    assert!(!scene.world.paths.state_dir.join("events.json").exists());
}

#[tokio::test]
async fn a_signal_ends_the_command_and_leaves_no_socket() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let target = format!("{}@web-1", scene.user);
    let mut command = exec(
        &scene,
        &["--target", &target],
        &["sleep".to_owned(), "600".to_owned()],
    );
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let waiting = tokio::task::spawn_blocking(move || {
        let mut child = child;
        child.wait().unwrap()
    });
    crate::stub::wait_for(|| !leftovers(&scene).is_empty()).await;
    // The command's own start may still be a moment away: until the whole has ended.
    let ended = tokio::time::timeout(Duration::from_secs(10), waiting);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = ended.await.unwrap().unwrap();
    assert_eq!(status.code(), Some(128 + 15), "{status:?}");
    assert!(leftovers(&scene).is_empty());
}

#[tokio::test]
async fn a_forwarded_connection_shows_the_users_own_keys_only() {
    // H-20
    let scene = Scene::new(Some(INSTANCE)).await;
    let url = scene.world.aws.clone();
    let all = Some(
        eic_protocol::cert::options::Extension::ALL
            .into_iter()
            .collect(),
    );
    let forwarding = crate::config::HostProfile {
        extensions: all,
        ..Default::default()
    };
    scene.world.configure(Some(&url), vec![forwarding]);
    let own = OwnAgent::new(scene.world.dir.path(), OWN_KEY..OWN_KEY + 1).await;
    let target = format!("{}@web-1", scene.user);
    let mut ssh = plain_ssh(&scene);
    let host = format!("{}@127.0.0.1", scene.user);
    ssh.extend(["-A".to_owned(), host, "ssh-add -l".to_owned()]);
    let mut command = exec(&scene, &["--target", &target], &ssh);
    own.is_used_by(&mut command);
    let listed = output(command).await;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let own_key = crate::stub::public(OWN_KEY).fingerprint();
    assert!(text.contains(&own_key), "{}", said(&listed));
    assert_eq!(text.lines().count(), 1, "{text}");
}

/// `ssh-add` asks for the passphrase by the program that this names, which says what `WORD` holds.
const ASKPASS: &str = "printf '#!/bin/sh\\necho $WORD\\n' > ask; chmod +x ask; export SSH_ASKPASS=$PWD/ask SSH_ASKPASS_REQUIRE=force; ";

/// What a shell in an empty folder says under `exec`.
async fn under_exec(scene: &Scene, script: &str, own: Option<&OwnAgent>) -> String {
    let folder = scene.world.dir.path().join("work");
    std::fs::create_dir(&folder).unwrap();
    let target = format!("{}@web-1", scene.user);
    let login = format!(
        "login() {{ {} {}@127.0.0.1 echo in; }}; ",
        plain_ssh(scene).join(" "),
        scene.user
    );
    let script = format!("{ASKPASS}{login}{script}");
    let shell = ["sh".to_owned(), "-c".to_owned(), script];
    let mut command = exec(scene, &["--target", &target], &shell);
    if let Some(own) = own {
        own.is_used_by(&mut command);
    }
    command.current_dir(folder);
    let done = output(command).await;
    println!("{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[tokio::test]
async fn a_locked_agent_shows_and_signs_nothing_until_the_right_passphrase() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let script = "WORD=one ssh-add -x; echo locked $?; ssh-add -l; echo list $?; login || echo no login; \
                  WORD=two ssh-add -X; echo wrong $?; WORD=three ssh-add -x; echo again $?; ssh-add -D; echo gone $?; \
                  WORD=one ssh-add -X; echo opened $?; ssh-add -l | grep -c CERT; login";
    let told = under_exec(&scene, script, None).await;
    assert_eq!(
        told,
        "locked 0\nThe agent has no identities.\nlist 1\nno login\nwrong 1\nagain 1\ngone 1\nopened 0\n1\nin\n"
    );
}

#[tokio::test]
async fn ssh_add_takes_identities_away_for_good_and_adds_none() {
    // H-06
    let scene = Scene::new(Some(INSTANCE)).await;
    let script = "ssh-keygen -q -t ed25519 -N '' -f own; ssh-add own; echo added $?; ssh-add -t 60 -c own; echo constrained $?; \
                  ssh-add -d own; echo unknown $?; login; ssh-add -L | grep cert > held.pub; ssh-add -d held.pub; \
                  echo removed $?; ssh-add -L; login || echo no login; ssh-add -D; echo all $?; ssh-add -l; echo list $?";
    let told = under_exec(&scene, script, None).await;
    assert_eq!(
        told,
        "added 1\nconstrained 1\nunknown 1\nin\nremoved 0\nThe agent has no identities.\nno login\nall 0\n\
         The agent has no identities.\nlist 1\n"
    );
    assert_eq!(
        scene.world.state().certificates,
        1,
        "what was removed is not renewed"
    );
}

/// A login's socket serves the ssh that opened it: from another program it is the user's own agent.
#[tokio::test]
async fn on_a_logins_socket_ssh_add_speaks_with_the_users_own_agent() {
    // H-14, H-20
    let scene = Scene::new(Some(INSTANCE)).await;
    let own = OwnAgent::new(scene.world.dir.path(), OWN_KEY..OWN_KEY + 2).await;
    let socket = format!(
        "SSH_AUTH_SOCK={}/{}@{INSTANCE}",
        scene.world.paths.run_dir.display(),
        scene.user
    );
    let local = format!(
        "LocalCommand={socket} ssh-add -l >&2; {socket} ssh-add -D; {socket} ssh-add -l >&2"
    );
    let words = [
        "-o",
        "PermitLocalCommand=yes",
        "-o",
        &local,
        INSTANCE,
        "echo in",
    ];
    let done = scene
        .run("ssh", &words, |command| own.is_used_by(command))
        .await;
    let text = said(&done);
    let key = |number| crate::stub::public(number).fingerprint();
    assert!(
        text.starts_with("in\n") && text.contains(&key(OWN_KEY)) && !text.contains("CERT"),
        "{text}"
    );
    assert!(text.contains("The agent has no identities"), "{text}");
}

/// Where the lab keeps other people's SSH libraries once it has fetched them.
pub(crate) fn libraries() -> Option<PathBuf> {
    let target = program().parent()?.parent()?;
    let packages = target.join("eic-lab/other-programs/packages");
    packages.join("paramiko").exists().then_some(packages)
}

#[tokio::test]
async fn paramiko_and_asyncssh_log_in_with_the_certificate() {
    let Some(packages) = libraries() else {
        println!("skipped: the lab has not fetched paramiko and asyncssh into target/eic-lab yet");
        return;
    };
    let scene = Scene::new(Some(INSTANCE)).await;
    let (target, port) = (
        format!("{}@web-1", scene.user),
        scene.world.state().port.to_string(),
    );
    let paramiko = "import paramiko,sys\nc=paramiko.SSHClient()\nc.set_missing_host_key_policy(paramiko.AutoAddPolicy())\n\
         c.connect('127.0.0.1',port=int(sys.argv[1]),username=sys.argv[2],look_for_keys=False)\n\
         print(c.exec_command('echo in')[1].read().decode(),end='')";
    let asyncssh = "import asyncssh,asyncio,sys\nasync def go():\n  async with asyncssh.connect('127.0.0.1',port=int(sys.argv[1]),\
         username=sys.argv[2],known_hosts=None,config=None) as c:\n    print((await c.run('echo in')).stdout,end='')\nasyncio.run(go())";
    for (name, text) in [("paramiko", paramiko), ("asyncssh", asyncssh)] {
        let words = ["/usr/bin/python3", "-c", text, &port, &scene.user];
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut command = exec(&scene, &["--target", &target], &words);
        command.env("PYTHONPATH", &packages);
        let done = output(command).await;
        assert_eq!(
            String::from_utf8_lossy(&done.stdout),
            "in\n",
            "{name}: {}",
            said(&done)
        );
    }
}

/// Lists identities, has a login signed, and lists them on a second connection: as many as the first gave, and the second.
const TWO_CONNECTIONS: &str = r"
import os, socket, struct
def connected():
    s = socket.socket(socket.AF_UNIX); s.connect(os.environ['SSH_AUTH_SOCK']); return s
def ask(s, message):
    s.sendall(struct.pack('>I', len(message)) + message)
    length = struct.unpack('>I', s.recv(4, socket.MSG_WAITALL))[0]
    return s.recv(length, socket.MSG_WAITALL)
string = lambda b: struct.pack('>I', len(b)) + b
count = lambda answer: struct.unpack('>I', answer[1:5])[0] if answer[0] == 12 else -1
first = connected()
listed = ask(first, b'\x0b')
length = struct.unpack('>I', listed[5:9])[0]
blob = listed[9:9 + length]
kind = blob[4:4 + struct.unpack('>I', blob[:4])[0]]
data = string(b'session') + b'\x32' + string(os.environ['ACCOUNT'].encode()) + string(b'ssh-connection')
data += string(b'publickey') + b'\x01' + string(kind) + string(blob)
signed = ask(first, b'\x0d' + string(blob) + string(data) + struct.pack('>I', 0))
print(count(listed), signed[0], count(ask(connected(), b'\x0b')))
";

#[tokio::test]
async fn an_ssh_that_marks_nothing_cannot_forward_the_commands_identities() {
    // H-20: ssh before 8.9, whose second connection is the forwarded one. Other programs log in over many.
    let scene = Scene::new(Some(INSTANCE)).await;
    let target = format!("{}@web-1", scene.user);
    let dir = scene.world.dir.path();
    let script = dir.join("two.py");
    std::fs::write(&script, TWO_CONNECTIONS).unwrap();
    for (name, told) in [("ssh", "1 14 -1\n"), ("library", "1 14 1\n")] {
        let interpreter = dir.join(name);
        std::os::unix::fs::symlink("/usr/bin/python3", &interpreter).unwrap();
        let words = [
            interpreter.display().to_string(),
            script.display().to_string(),
        ];
        let mut command = exec(&scene, &["--target", &target], &words);
        command.env("ACCOUNT", &scene.user);
        let done = output(command).await;
        assert_eq!(
            String::from_utf8_lossy(&done.stdout),
            told,
            "{}",
            said(&done)
        );
    }
}
