//! Every way to a host with real ssh and sshd: a login, a file, a crowd, a network that is gone for a while, a server
//! that is gone for good, a session that says nothing for long, and the quotas of AWS's tunnels.
//! The ignored tests are the long forms.

use std::time::Duration;

use eic_lab::aws::{ACCOUNT, Call};
use eic_lab::deadline::wait_for;
use eic_lab::process::Process;
use eic_lab::small_fleet::{self, SmallFleet};
use eic_lab::standin::{ENDPOINT_QUOTA, Fault, Times, Tunnels};
use eic_lab::{Client, Host, Lab};

/// For what follows at once.
const SOON: Duration = Duration::from_secs(45);

/// How long the network is away: beyond TCP's first retransmissions.
const AWAY: Duration = Duration::from_secs(2);

/// After this much silence something on the way forgets a tunnel; clients ping more often.
const FORGOTTEN: Duration = Duration::from_secs(25);

/// How much of each.
struct Size {
    file_mib: u32,
    crowd: u32,
    idle: Duration,
}

/// Beyond [`FORGOTTEN`].
const SHORT: Size = Size {
    file_mib: 32,
    crowd: 50,
    idle: Duration::from_secs(32),
};

/// Bastions are two sshds and two logins each; sessions start three a second.
const SHORT_SMALL_CROWD: Size = Size { crowd: 12, ..SHORT };

/// An hour is ten times the 350 s after which AWS's NAT gateways and load balancers forget a connection; here, where
/// that is after [`FORGOTTEN`], it is as many times that.
const LONG: Size = Size {
    file_mib: 1024,
    crowd: 50,
    idle: Duration::from_secs(260),
};

struct Scene {
    fleet: SmallFleet,
    alice: Client,
    tunnels: Tunnels,
    target: String,
    /// Where the way leads through one.
    bastion: Option<Host>,
}

impl Scene {
    /// A fleet whose hosts alice reaches this way only.
    fn new(via: &str) -> Scene {
        let lab = Lab::new().unwrap();
        let tunnels = lab.tunnels().unwrap();
        let fleet =
            SmallFleet::start_shaped(lab, |host| host.sshd_config("MaxStartups 200")).unwrap();
        let bastion = (via == "bastion").then(|| {
            let host = fleet
                .lab
                .host("bastion")
                .sshd_config("MaxStartups 200\nMaxSessions 200");
            small_fleet::enrolled(&fleet.ca, host).unwrap()
        });
        let named = bastion
            .as_ref()
            .map(|host| format!("\\nbastion = \"ubuntu@{}\"", host.id()));
        let alice = (tunnels.env().into_iter())
            .fold(fleet.alice.clone(), |alice, (name, value)| {
                alice.env(name, value)
            });
        let profile = format!(
            "printf '\\n[[host]]\\nmatch = \"{}\"\\nvia = \"{via}\"{}\\n' >> .config/eic/config.toml",
            fleet.web.id(),
            named.unwrap_or_default()
        );
        let scene = Scene {
            target: format!("ubuntu@{}", fleet.web.id()),
            tunnels,
            alice,
            bastion,
            fleet,
        };
        scene.admit_the_endpoint();
        scene.bash(&profile, SOON);
        scene
    }

    /// A rule of the instance's security group, where it has one.
    fn admit_the_endpoint(&self) {
        let account = self.fleet.lab.aws().unwrap().account(ACCOUNT);
        let id = [("InstanceId.1", self.fleet.web.id())];
        let told = account
            .administer(&Call::query("ec2", "DescribeInstances", &id))
            .unwrap();
        let Some(group) = told.split("<groupId>").nth(1) else {
            return;
        };
        let group = group.split('<').next().unwrap();
        let rule = [
            ("GroupId", group),
            ("IpPermissions.1.IpProtocol", "tcp"),
            ("IpPermissions.1.FromPort", "22"),
            ("IpPermissions.1.ToPort", "22"),
            ("IpPermissions.1.IpRanges.1.CidrIp", "10.77.0.0/16"),
        ];
        let authorize = Call::query("ec2", "AuthorizeSecurityGroupIngress", &rule);
        account.administer(&authorize).unwrap();
    }

    fn bash(&self, script: &str, limit: Duration) -> String {
        let command = self.alice.command("bash").args(["-euc", script]);
        command
            .limit(limit)
            .run()
            .unwrap()
            .success()
            .unwrap()
            .stdout
    }

    fn logs_in(&self) {
        let out = self.bash(&format!("ssh {} whoami", self.target), SOON);
        assert_eq!(out, "ubuntu\n");
    }

    /// There and back, and the same bytes.
    fn carries_a_file(&self, mib: u32) {
        let limit = Duration::from_secs(30) + Duration::from_secs(u64::from(mib));
        let script = format!(
            "head -c {mib}M /dev/urandom > file; scp -q file {target}:there; scp -q {target}:there back; cmp file back; \
             rm file back; ssh {target} rm there",
            target = self.target
        );
        self.bash(&script, limit);
    }

    fn carries_a_crowd(&self, logins: u32) {
        let script = format!(
            "for n in $(seq {logins}); do ssh {} 'echo in' > out-$n 2> err-$n & done; wait; cat err-* >&2; \
             cat out-* | grep -c '^in$'; rm out-* err-*",
            self.target
        );
        let command = self.alice.command("bash").args(["-c", &script]);
        let output = command.limit(SOON * 4).run().unwrap();
        assert_eq!(output.stdout, format!("{logins}\n"), "{}", output.stderr);
    }

    /// The host's cable is pulled while a file is under way, and put back.
    fn survives_a_network_that_is_away(&self) {
        let script = format!(
            "head -c 16M /dev/urandom > slow; scp -q -l 40000 slow {target}:slow; ssh {target} cat slow | cmp slow -",
            target = self.target
        );
        let command = self.alice.command("bash").args(["-euc", &script]);
        let mut copying = command.start().unwrap();
        let arriving = self.fleet.web.file("/home/ubuntu/slow");
        wait_for("the file to arrive", SOON, || {
            std::fs::metadata(&arriving)
                .is_ok_and(|file| file.len() > 1_000_000)
                .then_some(())
        })
        .unwrap();
        let room = self.fleet.web.room();
        room.ip("link set eth0 down\n").unwrap();
        std::thread::sleep(AWAY);
        assert_eq!(copying.exit(), None, "it waits: {}", copying.stderr());
        room.ip("link set eth0 up\n").unwrap();
        let status = copying.wait(SOON * 2).unwrap();
        assert!(status.success(), "{}", copying.stderr());
    }

    /// ssh ends soon and with its own code, and nothing of the tunnel is left.
    fn ends_with_its_server(&self) {
        let command = [self.target.as_str(), "echo started; exec sleep 600"];
        let mut ssh = self.alice.command("ssh").args(command).start().unwrap();
        started(&mut ssh);
        self.fleet
            .web
            .exec("pkill", ["-KILL", "-x", "sshd"])
            .unwrap();
        let status = ssh.wait(SOON).unwrap();
        assert_eq!(status.code(), Some(255), "{}", ssh.stderr());
        let gone = wait_for("the tunnels to close", SOON, || {
            (self.tunnels.seen().open == 0).then_some(())
        });
        gone.unwrap();
        let carriers = "ps -u alice -o args= | grep -c '[e]ic-login carry' || true";
        let left = wait_for("the carriers to end", SOON, || {
            (self.bash(carriers, SOON) == "0\n").then_some(())
        });
        left.unwrap();
    }

    /// A session that says something only after a long silence.
    fn idle(&self, silence: Duration) -> Process {
        let script = format!(
            "(sleep {}; echo still here) | ssh {} 'echo started; read -r line; echo \"$line\"'",
            silence.as_secs(),
            self.target
        );
        let command = self.alice.command("bash").args(["-euc", &script]);
        let mut session = command.start().unwrap();
        started(&mut session);
        session
    }

    fn passes(&self, size: &Size) {
        self.tunnels.forget_quiet_ones(FORGOTTEN);
        let mut idle = self.idle(size.idle);
        self.logs_in();
        self.carries_a_file(size.file_mib);
        self.carries_a_crowd(size.crowd);
        self.survives_a_network_that_is_away();
        let ended = idle.wait(size.idle + SOON).unwrap();
        assert!(ended.success(), "{}", idle.stderr());
        assert_eq!(idle.stdout(), "started\nstill here\n");
        assert_eq!(self.tunnels.seen().refused, Vec::<String>::new());
    }
}

fn started(process: &mut Process) {
    let seen = wait_for("the session", SOON, || {
        process.stdout().contains("started").then_some(())
    });
    seen.unwrap_or_else(|cause| panic!("{cause}: {}", process.stderr()));
}

/// No byte of a direct connection or one by a bastion passes AWS.
fn nothing_went_by_a_tunnel(scene: &Scene) {
    let seen = scene.tunnels.seen();
    assert_eq!((seen.through_endpoint, seen.by_session), (0, 0));
}

fn direct(size: &Size) {
    let scene = Scene::new("direct");
    scene.passes(size);
    scene.ends_with_its_server();
    nothing_went_by_a_tunnel(&scene);
}

fn bastion(size: &Size) {
    let scene = Scene::new("bastion");
    scene.passes(size);
    let bastion = scene.bastion.as_ref().unwrap();
    assert!(bastion.log().contains("Accepted publickey for ubuntu"));
    scene.ends_with_its_server();
    nothing_went_by_a_tunnel(&scene);
}

fn endpoint(size: &Size) {
    let scene = Scene::new("endpoint");
    scene.passes(size);
    let seen = scene.tunnels.seen();
    assert!(seen.pings > 0 && seen.by_session == 0, "{seen:?}");
    assert!(seen.most_open <= ENDPOINT_QUOTA, "{seen:?}");
    // Other people's connections count, too: theirs cannot be queued for, so the service's own words are told.
    scene.tunnels.occupy(ENDPOINT_QUOTA);
    let refused = scene.alice.run("ssh", [scene.target.as_str(), "true"]);
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(255));
    assert!(
        refused
            .stderr
            .contains("maximum number of concurrent connections (20)"),
        "{}",
        refused.stderr
    );
    scene.tunnels.occupy(0);
    scene.ends_with_its_server();
}

fn session_manager(size: &Size) {
    let scene = Scene::new("ssm");
    scene.passes(size);
    let seen = scene.tunnels.seen();
    assert!(seen.pings > 0 && seen.through_endpoint == 0, "{seen:?}");
    assert_eq!(seen.throttled, 0, "the client keeps to the quota by itself");
    let faults = scene.fleet.lab.aws().unwrap().standin().faults();
    faults.set("ssm:StartSession", Fault::Throttle, Times::Always);
    let refused = scene.alice.run("ssh", [scene.target.as_str(), "true"]);
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(255));
    assert!(
        refused.stderr.contains("3 sessions a second"),
        "{}",
        refused.stderr
    );
    faults.clear("ssm:StartSession");
    scene.ends_with_its_server();
}

#[test]
fn the_direct_way_carries_logins_files_crowds_and_silence_and_ends_with_its_server() {
    direct(&SHORT);
}

#[test]
fn a_bastion_carries_logins_files_crowds_and_silence_and_ends_with_its_server() {
    bastion(&SHORT_SMALL_CROWD);
}

#[test]
fn an_endpoint_carries_the_same_within_its_twenty_connections() {
    endpoint(&SHORT);
}

#[test]
fn session_manager_carries_the_same_within_three_sessions_a_second() {
    session_manager(&SHORT_SMALL_CROWD);
}

#[test]
#[ignore = "minutes: make soak"]
fn the_direct_way_carries_a_gibibyte_fifty_logins_and_a_long_silence() {
    direct(&LONG);
}

#[test]
#[ignore = "minutes: make soak"]
fn a_bastion_carries_a_gibibyte_fifty_logins_and_a_long_silence() {
    bastion(&LONG);
}

#[test]
#[ignore = "minutes: make soak"]
fn an_endpoint_carries_a_gibibyte_fifty_logins_and_a_long_silence() {
    endpoint(&LONG);
}

#[test]
#[ignore = "minutes: make soak"]
fn session_manager_carries_a_gibibyte_fifty_logins_and_a_long_silence() {
    session_manager(&LONG);
}

#[test]
#[ignore = "minutes: make soak"]
fn every_way_at_once_carries_a_gibibyte_fifty_logins_and_a_long_silence() {
    std::thread::scope(|scope| {
        for way in [direct, bastion, endpoint, session_manager] {
            scope.spawn(move || way(&LONG));
        }
    });
}
