//! Programs that other people wrote, unmodified, each at a host of the CA and at a legacy host whose sshds allow two
//! tries, while the user's own agent holds eight keys that open nothing.

use eic_lab::other_programs::{PACKAGES, PYTHON};
use eic_lab::process::Output;
use eic_lab::small_fleet::SmallFleet;
use eic_lab::{Client, Host, Lab};

/// A server that gives up early, as hardened images do.
const TWO_TRIES: &str = "MaxAuthTries 2";

/// Starts an agent with eight keys; the shell's end takes it along.
const FOREIGN_KEYS: &str = "\
eval \"$(ssh-agent -s)\" > /dev/null; trap 'ssh-agent -k > /dev/null' EXIT; mkdir -p foreign; \
for n in 1 2 3 4 5 6 7 8; do [ -e foreign/$n ] || ssh-keygen -q -t ed25519 -N '' -f foreign/$n; ssh-add -q foreign/$n; done; ";

fn strict_fleet() -> SmallFleet {
    let lab = Lab::with_other_programs().unwrap();
    SmallFleet::start_shaped(lab, |host| host.sshd_config(TWO_TRIES)).unwrap()
}

fn bash(client: &Client, script: &str) -> Output {
    client
        .run("bash", ["-euc", &format!("{FOREIGN_KEYS}{script}")])
        .unwrap()
}

fn ubuntu_at(host: &Host) -> String {
    format!("ubuntu@{}", host.id())
}

#[test]
fn eight_foreign_keys_in_the_users_own_agent_do_not_use_up_two_tries() {
    let fleet = strict_fleet();
    for host in [&fleet.web, &fleet.legacy] {
        let script = format!("ssh-add -l | wc -l; ssh {} whoami", ubuntu_at(host));
        let output = bash(&fleet.alice, &script).success().unwrap();
        assert_eq!(output.stdout, "8\nubuntu\n", "{}", output.stderr);
    }
}

#[test]
fn ansible_runs_modules_and_copies_files_over_its_ssh_connection() {
    let fleet = strict_fleet();
    let inventory = format!(
        "web-1 ansible_host={}\\nlegacy-1 ansible_host={}\\n",
        fleet.web.id(),
        fleet.legacy.id()
    );
    let ansible = format!(
        "export PYTHONPATH={PACKAGES} ANSIBLE_PYTHON_INTERPRETER={PYTHON} ANSIBLE_REMOTE_USER=ubuntu ANSIBLE_NOCOLOR=1; \
         printf '{inventory}' > hosts; date > file; ansible() {{ {PYTHON} -m ansible adhoc -i hosts all -o \"$@\"; }}; "
    );
    let ran = bash(
        &fleet.alice,
        &format!("{ansible} ansible -m command -a whoami"),
    );
    let ran = ran.success().unwrap().stdout;
    for name in ["web-1", "legacy-1"] {
        assert!(
            ran.contains(&format!("{name} | CHANGED | rc=0 | (stdout) ubuntu")),
            "{ran}"
        );
    }
    let copied = bash(
        &fleet.alice,
        &format!("{ansible} ansible -m copy -a 'src=file dest=/home/ubuntu/file'"),
    );
    let copied = copied.success().unwrap().stdout;
    assert_eq!(copied.matches("| CHANGED =>").count(), 2, "{copied}");
}

#[test]
fn scp_sftp_rsync_and_git_reach_both_kinds_of_host() {
    let fleet = strict_fleet();
    for host in [&fleet.web, &fleet.legacy] {
        let script = format!(
            "target={}; head -c 100000 /dev/urandom > file; mkdir -p tree; cp file tree/; \
             scp -q file $target:copy; scp -q $target:copy back; cmp file back; \
             printf 'get copy again\\nbye\\n' | sftp -q -b - $target > sftp.out; cmp file again; \
             rsync -a tree/ $target:tree/; rsync -a --delete $target:tree/ tree2/; diff -r tree tree2; \
             ssh $target 'git init -q repo && git -C repo -c user.name=u -c user.email=u@x commit -q --allow-empty -m one'; \
             git clone -q $target:repo cloned; git -C cloned log --format=%s; rm -rf cloned",
            ubuntu_at(host)
        );
        let output = bash(&fleet.alice, &script).success().unwrap();
        assert_eq!(output.stdout, "one\n", "{}", output.stderr);
    }
}

/// It would leave a key on the host for ever. Somebody without keys of their own has none to leave: the login's own
/// are not shown to it.
#[test]
fn ssh_copy_id_finds_no_key_to_leave_behind() {
    let fleet = strict_fleet();
    for host in [&fleet.web, &fleet.legacy] {
        let target = ubuntu_at(host);
        let login = fleet.alice.run("ssh", [target.as_str(), "true"]);
        login.unwrap().success().unwrap();
        let copied = fleet.alice.run("ssh-copy-id", [target.as_str()]).unwrap();
        assert_eq!(copied.status.code(), Some(1), "{}", copied.stderr);
        assert!(
            copied.stderr.contains("No identities found"),
            "{}",
            copied.stderr
        );
        let kept = host.file("/home/ubuntu/.ssh/authorized_keys");
        assert!(!kept.exists(), "a key was left behind");
    }
}

/// What an editor's remote extension does: look at ssh's version and configuration, open a shell without a terminal
/// with a SOCKS port, type a script into it, and then talk through that port.
#[test]
fn an_editors_remote_session_gets_its_shell_and_its_socks_port() {
    let fleet = strict_fleet();
    for host in [&fleet.web, &fleet.legacy] {
        let target = ubuntu_at(host);
        let script = format!(
            "ssh -V; ssh -G {target} | grep -qi '^proxycommand '; \
             mkfifo in; (ssh -T -D 18080 -o ConnectTimeout=15 -o RemoteCommand=none {target} bash < in > out 2> err) & \
             exec 3> in; printf 'uname -sm; echo \"ready: $(whoami)\"\\n' >&3; \
             for n in $(seq 100); do grep -q ready: out && break; sleep 0.1; done; cat out; \
             curl -s --max-time 5 --socks5-hostname 127.0.0.1:18080 telnet://127.0.0.1:22 < /dev/null | head -1; \
             exec 3>&-; wait; rm in"
        );
        let output = bash(&fleet.alice, &script).success().unwrap();
        assert!(output.stdout.contains("ready: ubuntu"), "{output:?}");
        assert!(output.stdout.contains("SSH-2.0-OpenSSH"), "{output:?}");
    }
}

#[test]
fn a_third_program_that_is_refused_says_so_and_not_too_many_failures() {
    let fleet = strict_fleet();
    let target = format!("root@{}", fleet.web.id());
    let output = bash(&fleet.alice, &format!("scp file {target}:"));
    assert!(
        output.stderr.contains("the CA refused") && !output.stderr.contains("Too many"),
        "{}",
        output.stderr
    );
}

/// Libraries without ssh's configuration: they take their identities from the socket that `exec` gives them.
fn library_logs_in(script: &str) {
    logs_in_to(&strict_fleet(), script);
}

fn logs_in_to(fleet: &SmallFleet, script: &str) {
    for host in [&fleet.web, &fleet.legacy] {
        let program = format!(
            "eic-login exec --target {} -- env PYTHONPATH={PACKAGES} {PYTHON} -c '{script}' {}",
            ubuntu_at(host),
            host.address()
        );
        let output = bash(&fleet.alice, &program).success().unwrap();
        assert_eq!(output.stdout.trim(), "ubuntu", "{}", output.stderr);
    }
}

#[test]
fn paramiko_logs_in_from_the_socket_of_exec() {
    library_logs_in(
        "import paramiko, sys\n\
         client = paramiko.SSHClient()\n\
         client.set_missing_host_key_policy(paramiko.AutoAddPolicy())\n\
         client.connect(sys.argv[1], username=\"ubuntu\", look_for_keys=False)\n\
         print(client.exec_command(\"whoami\")[1].read().decode())",
    );
}

#[test]
fn asyncssh_logs_in_from_the_socket_of_exec() {
    library_logs_in(
        "import asyncio, asyncssh, sys\n\
         async def go():\n\
         \x20   async with asyncssh.connect(sys.argv[1], username=\"ubuntu\", known_hosts=None, config=None) as c:\n\
         \x20       print((await c.run(\"whoami\")).stdout)\n\
         asyncio.run(go())",
    );
}

/// libssh2 1.11 takes every identity of the socket; 1.10, which curl has in Debian 12, certificates of ECDSA keys only,
/// and one try of two is lost to it where it takes them from a socket.
#[test]
fn libssh2_logs_in_from_the_socket_of_exec_and_curl_with_the_files_of_issue() {
    let fleet = strict_fleet();
    logs_in_to(
        &fleet,
        "import socket, sys\n\
         from ssh2.session import Session\n\
         from ssh2.exceptions import AgentAuthenticationError\n\
         session = Session()\n\
         session.handshake(socket.create_connection((sys.argv[1], 22)))\n\
         agent = session.agent_init()\n\
         agent.connect()\n\
         agent.list_identities()\n\
         for identity in agent.get_identities():\n\
         \x20   try:\n\
         \x20       agent.userauth(\"ubuntu\", identity)\n\
         \x20       break\n\
         \x20   except AgentAuthenticationError:\n\
         \x20       pass\n\
         channel = session.open_session()\n\
         channel.execute(\"whoami\")\n\
         print(channel.read()[1].decode())",
    );
    let script = format!(
        "printf '[[host]]\\nmatch = \"i-*\"\\nkey_type = \"ecdsa-p256\"\\n' >> .config/eic/config.toml; \
         ssh {target} cat /etc/ssh/ssh_host_ed25519_key.pub | sed 's/^/{address} /' >> .ssh/known_hosts; \
         eic-login issue --target {target} --out job > said; \
         curl -sS -u ubuntu: --key job/id --pubkey job/id-cert.pub sftp://{address}/etc/hostname > name; [ -s name ] && echo in",
        target = ubuntu_at(&fleet.web),
        address = fleet.web.address()
    );
    let output = bash(&fleet.alice, &script).success().unwrap();
    assert_eq!(output.stdout, "in\n", "{}", output.stderr);
}

#[test]
fn ansible_logs_in_over_its_paramiko_connection() {
    let fleet = strict_fleet();
    for host in [&fleet.web, &fleet.legacy] {
        let script = format!(
            "export PYTHONPATH={PACKAGES} ANSIBLE_PYTHON_INTERPRETER={PYTHON} ANSIBLE_NOCOLOR=1 ANSIBLE_HOST_KEY_CHECKING=0; \
             eic-login exec --target {} -- {PYTHON} -m ansible adhoc -i {}, all -o -c paramiko_ssh -u ubuntu -m command -a whoami",
            ubuntu_at(host),
            host.address()
        );
        let output = bash(&fleet.alice, &script).success().unwrap();
        assert!(
            output.stdout.contains("rc=0 | (stdout) ubuntu"),
            "{output:?}"
        );
    }
}

/// PuTTY's command lines take the host key by fingerprint and the identities from exec's socket.
#[test]
fn plink_and_pscp_log_in_from_the_socket_of_exec() {
    let fleet = strict_fleet();
    for host in [&fleet.web, &fleet.legacy] {
        let script = format!(
            "ssh-keyscan -t ed25519 {address} 2> /dev/null | cut -d' ' -f2- > host.pub; \
             eic-login exec --target {target} -- plink -batch -hostkey \"$(ssh-keygen -lf host.pub | cut -d' ' -f2)\" \
             ubuntu@{address} whoami; \
             eic-login exec --target {target} -- pscp -q -batch -hostkey \"$(ssh-keygen -lf host.pub | cut -d' ' -f2)\" \
             host.pub ubuntu@{address}:there; ssh {target} cat there | cmp - host.pub",
            address = host.address(),
            target = ubuntu_at(host)
        );
        let output = bash(&fleet.alice, &script).success().unwrap();
        assert_eq!(output.stdout.trim(), "ubuntu", "{}", output.stderr);
    }
}
