//! Real releases of OpenSSH beside the machine's: servers of 7.6 and 8.4, clients of 8.4 and 8.9, from before much of what
//! the others have, and (only where asked for, since it changes each month) the newest one. 10.0 is in `login.rs`.

use std::path::Path;
use std::time::{Duration, Instant};

use eic_lab::openssh::{BIONIC, BULLSEYE, JAMMY, Release, SID};
use eic_lab::process::Output;
use eic_lab::small_fleet::{self, SmallFleet};
use eic_lab::{Ca, Client, Host, Lab};

/// For a line that sshd writes right after a login, and from a revocation to the refusal.
const SOON: Duration = Duration::from_secs(30);

/// Where a release's own files are for clients that run its ssh beside the machine's.
const OLD_SSH: &str = "#!/bin/sh\nlib=/opt/usr/lib/$(uname -m)-linux-gnu\n\
    exec $lib/ld-linux-x86-64.so.2 --library-path $lib /opt/usr/bin/ssh \"$@\"\n";

/// A CA behind TLS, as the agent's service wants it, and hosts with this release.
struct Servers {
    lab: Lab,
    ca: Ca,
    alice: Client,
    web: Host,
    legacy: Host,
}

impl Servers {
    fn new(release: &'static Release, sshd_config: &str) -> Servers {
        let lab = Lab::new().unwrap();
        let ca = small_fleet::ca(&lab).unwrap().https().unwrap();
        let ca = ca.start().unwrap();
        let web = lab.host("web-1").openssh(release).sshd_config(sshd_config);
        let web = small_fleet::enrolled(&ca, web).unwrap();
        let legacy = lab.host("legacy-1").openssh(release).tag("team", "web");
        let legacy = legacy.instance_connect_only().start().unwrap();
        let roots = lab.folder().join("ca-tls-root.pem");
        std::fs::write(&roots, ca.tls_root().unwrap()).unwrap();
        let alice = small_fleet::person(&lab, "alice").unwrap();
        let alice = alice.env("SSL_CERT_FILE", roots.display().to_string());
        small_fleet::set_up(&alice, &ca).unwrap();
        Servers {
            lab,
            ca,
            alice,
            web,
            legacy,
        }
    }
}

fn ubuntu_at(host: &Host) -> String {
    format!("ubuntu@{}", host.id())
}

/// By a key file, without any of our configuration; a certificate beside it counts as with plain ssh.
fn with_key(client: &Client, ssh: &str, key: &str, host: &Host) -> Output {
    let target = format!("ubuntu@{}", host.address());
    let options = [
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-i",
        key,
    ];
    let command = client.command(ssh).args(options);
    command.args([&target, "whoami"]).run().unwrap()
}

fn refused(output: &Output) -> bool {
    output.status.code() == Some(255) && output.stderr.contains("Permission denied")
}

/// A certificate, a pushed key, a chained command's key; each of them refused elsewhere.
fn three_ways_in(servers: &Servers, release: &Release) {
    let (alice, web) = (&servers.alice, &servers.web);
    let target = ubuntu_at(web);
    let said = alice.run("ssh", ["-v", &target, "whoami"]).unwrap();
    let said = said.success().unwrap();
    let version = format!("remote software version {}", release.banner());
    assert!(said.stderr.contains(&version), "{}", said.stderr);
    assert_eq!(said.stdout, "ubuntu\n");
    let accepted = web.log_line("Accepted publickey for ubuntu", SOON).unwrap();
    assert!(accepted.contains(" ID eic:user/alice:"), "{accepted}");

    let pushed = alice.run("ssh", [ubuntu_at(&servers.legacy).as_str(), "whoami"]);
    assert_eq!(pushed.unwrap().success().unwrap().stdout, "ubuntu\n");
    let provided = "Providing ssh key from EC2 Instance Connect with fingerprint: SHA256:";
    servers.legacy.log_line(provided, SOON).unwrap();

    let company = alice.make_key("company").unwrap();
    alice.make_key("stranger").unwrap();
    for key in [".ssh/company", ".ssh/stranger"] {
        assert!(refused(&with_key(alice, "ssh", key, web)), "{key}");
    }
    chain(web, company.trim());
    let by_command = with_key(alice, "ssh", ".ssh/company", web);
    assert_eq!(by_command.success().unwrap().stdout, "ubuntu\n");
    assert!(refused(&with_key(alice, "ssh", ".ssh/stranger", web)));
}

/// A company's own command that answers with one key for everyone.
fn chain(host: &Host, key: &str) {
    let program = host.file("/usr/local/bin/company-keys");
    write_program(&program, &format!("#!/bin/sh\necho '{key}'\n"));
    let settings = host.file("/etc/eic/agent.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let command =
        "\n[[authorized_keys.command]]\ncommand = [\"/usr/local/bin/company-keys\", \"%u\"]\n";
    std::fs::write(&settings, text + command).unwrap();
}

/// A script to be run. Another process writes it: while a descriptor that writes is open, in a child of another test
/// even, nobody can run the file (execve(2), ETXTBSY).
fn write_program(file: &Path, script: &str) {
    let written = std::process::Command::new("sh")
        .args([
            "-c",
            r#"printf %s "$2" > "$1.new" && chmod 755 "$1.new" && mv "$1.new" "$1""#,
            "sh",
        ])
        .arg(file)
        .arg(script)
        .status();
    assert!(written.unwrap().success());
}

/// A key and certificate in a folder; the certificate's serial.
fn issue(client: &Client, host: &Host, folder: &str) -> String {
    let target = ubuntu_at(host);
    let args = ["issue", "--target", &target, "--out", folder];
    client.run("eic-login", args).unwrap().success().unwrap();
    let listed = client.run("ssh-keygen", ["-L", "-f", &format!("{folder}/id-cert.pub")]);
    let listed = listed.unwrap().success().unwrap().stdout;
    let serial = listed.split("Serial: ").nth(1).unwrap();
    serial.lines().next().unwrap().trim().to_owned()
}

/// This sshd reads the revocation list that our agent writes; a master that is open already goes on (H-16).
fn what_is_revoked_is_refused(servers: &Servers) {
    let Servers { alice, web, ca, .. } = servers;
    let _service = web
        .start_agent_service(ca, "host_certificates = false\nreport = false\n")
        .unwrap();
    let lost = issue(alice, web, "lost");
    issue(alice, web, "kept");
    for folder in ["lost", "kept"] {
        let output = with_key(alice, "ssh", &format!("{folder}/id"), web);
        assert_eq!(output.success().unwrap().stdout, "ubuntu\n", "{folder}");
    }
    let options = "-F none -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -S master";
    let address = web.address();
    let master = |more: &str| {
        let script = format!("ssh {options} {more}");
        alice.run("bash", ["-c", &script]).unwrap()
    };
    master(&format!("-fNM -i lost/id ubuntu@{address}"))
        .success()
        .unwrap();
    let config = ca.config().display().to_string();
    let revoke = ["revoke", "serial", &lost, "--reason", "laptop lost"];
    let revoke = ca.command(revoke).args(["--config", &config]);
    revoke.run().unwrap().success().unwrap();
    let called = Instant::now();
    while !refused(&with_key(alice, "ssh", "lost/id", web)) {
        assert!(called.elapsed() < SOON, "still let in");
    }
    println!(
        "refused {:.1} s after the call",
        called.elapsed().as_secs_f64()
    );
    let kept = with_key(alice, "ssh", "kept/id", web);
    assert_eq!(kept.success().unwrap().stdout, "ubuntu\n");
    let open = master(&format!("ubuntu@{address} whoami"));
    assert_eq!(open.success().unwrap().stdout, "ubuntu\n");
    master("-O exit x").success().unwrap();
}

fn installing_again_changes_nothing(servers: &Servers) {
    let web = &servers.web;
    let lines = || {
        web.exec(
            "bash",
            [
                "-c",
                "cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/* 2> /dev/null || true",
            ],
        )
    };
    let before = lines().unwrap().stdout;
    let fingerprint = servers.ca.root_fingerprint();
    let again = ["install", "--root-fingerprint", fingerprint];
    let again = again
        .into_iter()
        .chain(["--state-from", "/root/eic-state", "--no-reload"]);
    web.exec("/usr/local/bin/eic-agent", again).unwrap();
    assert_eq!(lines().unwrap().stdout, before);
}

fn uninstalling_leaves_nothing(servers: &Servers) {
    let web = &servers.web;
    web.exec("/usr/local/bin/eic-agent", ["uninstall", "--no-reload"])
        .unwrap();
    let left = web.command("grep").args(["-rl", "eic", "/etc/ssh"]).run();
    let left = left.unwrap().stdout;
    assert_eq!(left, "", "left behind");
    web.exec("/usr/sbin/sshd", ["-t"]).unwrap();
}

/// Without `Include` the agent's lines stand in sshd_config itself.
#[test]
#[ignore = "from Ubuntu's archive, which not every machine reaches: make soak"]
fn an_openssh_7_6_server_takes_every_way_in_and_refuses_what_is_revoked() {
    let servers = Servers::new(&BIONIC, "");
    let config = std::fs::read_to_string(servers.web.file("/etc/ssh/sshd_config")).unwrap();
    assert!(config.contains("AuthorizedPrincipalsCommand /usr/local/bin/eic-agent"));
    three_ways_in(&servers, &BIONIC);
    installing_again_changes_nothing(&servers);
    what_is_revoked_is_refused(&servers);
    uninstalling_leaves_nothing(&servers);
}

#[test]
fn an_openssh_8_4_server_takes_every_way_in_and_refuses_what_is_revoked() {
    let servers = Servers::new(&BULLSEYE, "");
    three_ways_in(&servers, &BULLSEYE);
    installing_again_changes_nothing(&servers);
    what_is_revoked_is_refused(&servers);
    uninstalling_leaves_nothing(&servers);
    drop(servers.lab);
}

/// `ssh` is this release's for this person, everything else the machine's; everybody has it as `old-ssh`.
fn with_its_ssh(person: Client, fleet: &SmallFleet, release: &Release) -> Client {
    let program = fleet.lab.control().folder().join("bin/old-ssh");
    write_program(&program, OLD_SSH);
    let link = "mkdir old; ln -s /usr/local/bin/old-ssh old/ssh";
    person.run("bash", ["-c", link]).unwrap().success().unwrap();
    let folder = format!("/home/{}/old", person.name());
    let person = person.env("PATH", folder + ":/usr/local/bin:/usr/sbin:/usr/bin");
    let version = person.run("ssh", ["-V"]).unwrap().stderr;
    assert!(version.starts_with(&release.banner()), "{version}");
    person
}

#[test]
#[ignore = "from Ubuntu's archive, which not every machine reaches: make soak"]
fn an_openssh_8_9_client_logs_in_by_what_setup_wrote_for_it() {
    let lab = Lab::beside_openssh(&JAMMY).unwrap();
    let fleet = SmallFleet::start_shaped(lab, |host| host).unwrap();
    let alice = with_its_ssh(fleet.alice.clone(), &fleet, &JAMMY);
    small_fleet::set_up(&alice, &fleet.ca).unwrap();
    for host in [&fleet.web, &fleet.legacy] {
        let said = alice.run("ssh", ["-v", &ubuntu_at(host), "whoami"]);
        let said = said.unwrap().success().unwrap();
        let version = format!("Local version string SSH-2.0-{}", JAMMY.banner());
        assert!(said.stderr.contains(&version), "{}", said.stderr);
        assert_eq!(said.stdout, "ubuntu\n");
    }
    let refused = alice.run("ssh", [&format!("root@{}", fleet.web.id())]);
    let refused = refused.unwrap();
    assert!(
        refused.stderr.contains("the CA refused"),
        "{}",
        refused.stderr
    );
}

/// A client before KnownHostsCommand cannot tie a host key to an instance: it is not set up at all. What `issue` and
/// `exec` give works with its ssh as with any other program.
#[test]
fn setup_refuses_an_openssh_8_4_client_and_changes_nothing() {
    let fleet = SmallFleet::start_shaped(Lab::beside_openssh(&BULLSEYE).unwrap(), |host| host);
    let fleet = fleet.unwrap();
    let erin = small_fleet::person(&fleet.lab, "erin").unwrap();
    let erin = with_its_ssh(erin, &fleet, &BULLSEYE);
    let url = fleet.ca.url();
    let fingerprint = fleet.ca.root_fingerprint();
    let setup = ["setup", &url, "--fingerprint", fingerprint, "--yes"];
    let setup = erin.run("eic-login", setup).unwrap();
    assert_eq!(setup.status.code(), Some(2), "{}", setup.stderr);
    let told = "OpenSSH 8.4 is too old: host keys can be tied to instances from 8.5 on";
    assert!(setup.stderr.contains(told), "{}", setup.stderr);
    let left = erin.run("find", [".", "-path", "./old", "-prune", "-o", "-print"]);
    assert_eq!(left.unwrap().stdout, ".\n", "files were made");

    let alice = &fleet.alice;
    issue(alice, &fleet.web, "job");
    let by_file = with_key(alice, "old-ssh", "job/id", &fleet.web);
    assert_eq!(by_file.success().unwrap().stdout, "ubuntu\n");
    let by_socket = format!(
        "eic-login exec --target {} -- old-ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no \
         -o UserKnownHostsFile=/dev/null ubuntu@{} whoami",
        ubuntu_at(&fleet.web),
        fleet.web.address()
    );
    let by_socket = alice.run("bash", ["-c", &by_socket]).unwrap();
    assert_eq!(by_socket.success().unwrap().stdout, "ubuntu\n");
}

#[test]
#[ignore = "another version each month: make soak"]
fn the_newest_openssh_works_on_both_sides() {
    // From 9.8 on an address that is refused a few times is not listened to for a while; ours is on purpose.
    let servers = Servers::new(&SID, "PerSourcePenalties no");
    three_ways_in(&servers, &SID);
    installing_again_changes_nothing(&servers);
    what_is_revoked_is_refused(&servers);
    uninstalling_leaves_nothing(&servers);
    let fleet = SmallFleet::start_with_openssh(&SID).unwrap();
    for host in [&fleet.web, &fleet.legacy] {
        let target = ubuntu_at(host);
        let said = fleet.alice.run("ssh", ["-v", &target, "whoami"]).unwrap();
        let said = said.success().unwrap();
        let version = format!("Local version string SSH-2.0-{}", SID.banner());
        assert!(said.stderr.contains(&version), "{}", said.stderr);
        assert_eq!(said.stdout, "ubuntu\n");
    }
}
