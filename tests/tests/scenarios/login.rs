//! The main job: after `eic-login setup`, plain ssh and its relatives reach the hosts that policy names.
//! Refusals stand in `refusal.rs`.

use std::time::Duration;

use eic_lab::openssh::TRIXIE;
use eic_lab::small_fleet::{self, SmallFleet};
use eic_lab::{Client, Host, Lab};

/// For a line that sshd writes right after a login.
const SOON: Duration = Duration::from_secs(10);

fn ubuntu_at(host: &Host) -> String {
    format!("ubuntu@{}", host.id())
}

/// The output of `ssh` with these arguments, which must succeed.
fn ssh(client: &Client, args: &[&str]) -> String {
    client
        .run("ssh", args.iter().copied())
        .unwrap()
        .success()
        .unwrap()
        .stdout
}

/// The certificate's serial and key id as sshd logged them.
fn logged_certificate(host: &Host) -> (String, String) {
    let line = host
        .log_line("Accepted publickey for ubuntu", SOON)
        .unwrap();
    let id = line
        .split(" ID ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap()
        .to_owned();
    let serial = line
        .split("(serial ")
        .nth(1)
        .and_then(|rest| rest.split(')').next())
        .unwrap()
        .to_owned();
    (id, serial)
}

#[test]
fn one_login_by_certificate_one_by_instance_connect_and_the_audit_joins_them() {
    let fleet = SmallFleet::start().unwrap();
    let (web, legacy) = (ubuntu_at(&fleet.web), ubuntu_at(&fleet.legacy));

    assert_eq!(ssh(&fleet.alice, &[&web, "whoami"]).trim(), "ubuntu");
    let (key_id, serial) = logged_certificate(&fleet.web);
    assert!(key_id.starts_with("eic:user/alice:"), "{key_id}");

    let output = fleet
        .alice
        .run("ssh", [legacy.as_str(), "whoami"])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(output.stdout.trim(), "ubuntu");
    assert!(
        output.stderr.contains("Instance Connect"),
        "the fallback is said: {}",
        output.stderr
    );
    fleet
        .legacy
        .log_line(
            "Providing ssh key from EC2 Instance Connect with fingerprint: SHA256:",
            SOON,
        )
        .unwrap();

    let config = fleet.ca.config().display().to_string();
    let records = fleet
        .ca
        .command(["audit", "query", "--config", &config, "--json"])
        .run()
        .unwrap()
        .success()
        .unwrap();
    let records: Vec<serde_json::Value> = records
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let request_id = key_id.rsplit(':').next().unwrap();
    let issued: Vec<_> = records
        .iter()
        .filter(|r| r["requestID"] == request_id)
        .collect();
    assert!(
        issued
            .iter()
            .any(|r| r["eventName"] == "IssueUserCertificate"),
        "{records:#?}"
    );
    assert!(
        issued.iter().any(|r| r.to_string().contains(&serial)),
        "the serial joins record and log line: {issued:#?}"
    );
    let record = issued[0];
    for field in [
        "eventVersion",
        "eventID",
        "eventTime",
        "eventSource",
        "awsRegion",
        "userIdentity",
        "sourceIPAddress",
        "userAgent",
        "requestParameters",
        "recipientAccountId",
    ] {
        assert!(record.get(field).is_some(), "{field}: {record:#?}");
    }
    assert_eq!(
        record["userIdentity"]["arn"],
        "arn:aws:iam::123456789012:user/alice"
    );
    assert!(
        records.iter().any(|r| r["eventName"] == "PushKeyReported"),
        "{records:#?}"
    );
    fleet
        .ca
        .command(["audit", "verify", "--config", &config])
        .run()
        .unwrap()
        .success()
        .unwrap();
}

/// Every program that starts ssh itself, on one fleet.
fn programs_work(fleet: &SmallFleet) {
    let (alice, web) = (&fleet.alice, ubuntu_at(&fleet.web));
    let sh = |script: String| {
        alice
            .run("bash", ["-euc", &script])
            .unwrap()
            .success()
            .unwrap()
            .stdout
    };

    sh(format!(
        "head -c 100000 /dev/urandom > file && scp -q file {web}:copy && scp -q {web}:copy back && cmp file back"
    ));
    sh(format!(
        "printf 'get copy again\\nbye\\n' | sftp -q -b - {web} && cmp file again"
    ));
    sh(format!(
        "mkdir -p tree/a && cp file tree/a && rsync -a tree/ {web}:tree/ && rsync -a {web}:tree/ tree2/ && diff -r tree tree2"
    ));
    ssh(
        alice,
        &[
            &web,
            "git init -q repo && cd repo && git -c user.name=u -c user.email=u@x commit -q --allow-empty -m one",
        ],
    );
    sh(format!(
        "git clone -q {web}:repo cloned && git -C cloned log --oneline | grep -q one"
    ));
    sh(format!(
        "ssh -fN -o ControlMaster=yes -o ControlPath=$HOME/.ssh/master -o ControlPersist=no {web} && \
         ssh -o ControlPath=$HOME/.ssh/master {web} whoami && ssh -o ControlPath=$HOME/.ssh/master -O exit {web}"
    ));
    let forwarded = sh(format!(
        "ssh -fN -M -S $HOME/.ssh/forward -o ExitOnForwardFailure=yes -L 2222:127.0.0.1:22 {web} && \
         exec 3<>/dev/tcp/127.0.0.1/2222 && read -r banner <&3 && echo \"$banner\" && ssh -S $HOME/.ssh/forward -O exit {web}"
    ));
    assert!(forwarded.contains("SSH-2.0-OpenSSH"), "{forwarded}");
}

#[test]
fn unmodified_programs_work_with_instance_ids_and_leave_no_private_key_on_disk() {
    let fleet = SmallFleet::start().unwrap();
    programs_work(&fleet);
    assert_no_private_key(&fleet);
}

#[test]
fn the_same_programs_work_with_openssh_10_on_both_sides() {
    let fleet = SmallFleet::start_with_openssh(&TRIXIE).unwrap();
    let web = ubuntu_at(&fleet.web);
    let said = fleet
        .alice
        .run("ssh", ["-v", &web, "true"])
        .unwrap()
        .success()
        .unwrap()
        .stderr;
    assert!(
        said.contains("Local version string SSH-2.0-OpenSSH_10"),
        "{said}"
    );
    assert!(
        said.contains("remote software version OpenSSH_10"),
        "{said}"
    );
    programs_work(&fleet);
    let bastion =
        small_fleet::enrolled(&fleet.ca, fleet.lab.host("bastion").openssh(&TRIXIE)).unwrap();
    let jumped = ssh(&fleet.alice, &["-J", &ubuntu_at(&bastion), &web, "whoami"]);
    assert_eq!(jumped.trim(), "ubuntu");
    assert_no_private_key(&fleet);
}

/// Looks through everything that alice's account wrote.
fn assert_no_private_key(fleet: &SmallFleet) {
    let script = "! grep -rIl -e 'PRIVATE KEY' -e 'openssh-key-v1' \"$HOME\" \"$XDG_RUNTIME_DIR\" /tmp 2>/dev/null";
    fleet
        .alice
        .run("bash", ["-c", script])
        .unwrap()
        .success()
        .unwrap();
}

#[test]
fn a_bastion_is_one_flag_away_and_each_hop_gets_its_own_certificate() {
    let fleet = SmallFleet::start().unwrap();
    let bastion = eic_lab::small_fleet::enrolled_host(&fleet.lab, &fleet.ca, "bastion").unwrap();
    let (web, jump) = (ubuntu_at(&fleet.web), ubuntu_at(&bastion));
    assert_eq!(
        ssh(&fleet.alice, &["-J", &jump, &web, "whoami"]).trim(),
        "ubuntu"
    );
    let first = logged_certificate(&bastion);
    let second = logged_certificate(&fleet.web);
    assert_ne!(first, second);
}

#[test]
fn names_that_match_the_pattern_work_too() {
    let fleet = SmallFleet::start().unwrap();
    assert_eq!(
        ssh(&fleet.alice, &["ubuntu@web-1", "hostname; whoami"])
            .lines()
            .last(),
        Some("ubuntu")
    );
    fleet
        .web
        .log_line("Accepted publickey for ubuntu", SOON)
        .unwrap();
}

/// alice may log in as bob, too.
fn two_users_policy() -> String {
    let one = r#""ec2:osuser":"ubuntu""#;
    let policy = small_fleet::policy().replace(one, r#""ec2:osuser":["ubuntu","bob"]"#);
    assert!(!policy.contains(one), "{policy}");
    policy
}

#[test]
fn two_users_and_two_hosts_at_once_each_get_their_own_identity() {
    let lab = Lab::new().unwrap();
    let fleet = SmallFleet::start_with(lab, |ca| ca.policy(&two_users_policy())).unwrap();
    let second = small_fleet::enrolled_host(&fleet.lab, &fleet.ca, "web-2").unwrap();
    let hosts = [&fleet.web, &second];
    let script = format!(
        "for n in 1 2 3; do for user in ubuntu bob; do for host in {} {}; do \
           ssh -v $user@$host 'echo $(whoami) at $SSH_CONNECTION' > out-$n-$user-$host 2> err-$n-$user-$host & \
         done; done; done; wait; cat out-* | cut -d' ' -f1,2,5 | sort | uniq -c; \
         cat err-* | grep -c 'Offering public key'",
        hosts[0].id(),
        hosts[1].id()
    );
    let output = fleet.alice.run("bash", ["-c", &script]).unwrap();
    let mut expected: Vec<String> = hosts
        .iter()
        .flat_map(|host| ["ubuntu", "bob"].map(|user| format!("3 {user} at {}", host.address())))
        .collect();
    // Each login offers its own certificate and nothing before it.
    expected.push("12".to_owned());
    let mut told: Vec<_> = output.stdout.lines().map(str::trim).collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected, "{}", output.stderr);
}

#[test]
fn jobs_get_a_key_and_a_certificate_as_files() {
    let fleet = SmallFleet::start().unwrap();
    let target = ubuntu_at(&fleet.web);
    fleet
        .alice
        .run("eic-login", ["issue", "--target", &target, "--out", "job"])
        .unwrap()
        .success()
        .unwrap();
    let listed = fleet
        .alice
        .run(
            "bash",
            [
                "-c",
                "ssh-keygen -L -f job/*-cert.pub; stat -c '%a %n' job job/*",
            ],
        )
        .unwrap();
    let listed = listed.success().unwrap().stdout;
    assert!(
        listed.contains(&target) && listed.contains("700 job"),
        "{listed}"
    );
    assert!(
        listed
            .lines()
            .any(|l| l.starts_with("600 ") && !l.ends_with(".pub")),
        "{listed}"
    );
    let address = fleet.web.address();
    let script = format!(
        "key=$(ls job/* | grep -v pub | head -1); ssh -F none -i $key -o CertificateFile=$(ls job/*-cert.pub) \
         -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null ubuntu@{address} whoami"
    );
    let output = fleet
        .alice
        .run("bash", ["-c", &script])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(output.stdout.trim(), "ubuntu");
}

#[test]
fn sign_in_shows_who_the_ca_says_one_is_and_what_one_may_reach() {
    let fleet = SmallFleet::start().unwrap();
    let shown = fleet
        .alice
        .run("eic-login", Vec::<String>::new())
        .unwrap()
        .success()
        .unwrap()
        .stdout;
    assert!(
        shown.contains("arn:aws:iam::123456789012:user/alice"),
        "{shown}"
    );
    assert!(
        shown.contains(fleet.web.id())
            && shown.contains("web-1")
            && shown.contains(fleet.legacy.id()),
        "{shown}"
    );
    let status = fleet
        .alice
        .run("eic-login", ["status"])
        .unwrap()
        .success()
        .unwrap()
        .stdout;
    assert!(status.contains(" as alice "), "{status}");
    fleet
        .alice
        .run("eic-login", ["logout"])
        .unwrap()
        .success()
        .unwrap();
    let status = fleet.alice.run("eic-login", ["status"]).unwrap().stdout;
    assert!(!status.contains(" as alice "), "{status}");
}

#[test]
fn without_a_ca_the_client_is_an_instance_connect_client() {
    let lab = Lab::new().unwrap();
    let legacy = lab
        .host("legacy-1")
        .instance_connect_only()
        .start()
        .unwrap();
    let carol = eic_lab::small_fleet::person(&lab, "carol").unwrap();
    carol
        .run("eic-login", ["setup", "--no-ca", "--yes"])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(
        ssh(&carol, &[&ubuntu_at(&legacy), "whoami"]).trim(),
        "ubuntu"
    );
    legacy
        .log_line("Providing ssh key from EC2 Instance Connect", SOON)
        .unwrap();
}

#[test]
fn setup_twice_changes_nothing_and_undo_restores_every_byte() {
    let lab = Lab::new().unwrap();
    let ca = eic_lab::small_fleet::ca(&lab).unwrap().start().unwrap();
    let dave = eic_lab::small_fleet::person(&lab, "dave").unwrap();
    let before = "# mine\nHost example\n    User me\n";
    dave.run("bash", ["-c", "mkdir -m 700 .ssh && printf '# mine\\nHost example\\n    User me\\n' > .ssh/config && find . | sort > /tmp/before"])
        .unwrap()
        .success()
        .unwrap();
    let config = dave.home().join(".ssh/config");
    eic_lab::small_fleet::set_up(&dave, &ca).unwrap();
    let once = std::fs::read_to_string(&config).unwrap();
    assert!(once.ends_with(before) && once != before, "{once}");
    eic_lab::small_fleet::set_up(&dave, &ca).unwrap();
    assert_eq!(std::fs::read_to_string(&config).unwrap(), once);
    dave.run("eic-login", ["setup", "--undo", "--yes"])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before);
    let left = dave
        .run("bash", ["-c", "find . | sort | diff /tmp/before -"])
        .unwrap();
    assert!(left.status.success(), "left behind: {}", left.stdout);
}
