//! Many hosts with one certificate: `eic-login exec --fleet` on real sshds, and what stays closed to it. How long 200
//! logins take is the bench's affair.

use eic_lab::aws::ACCOUNT;
use eic_lab::{Ca, Client, Host, Lab, small_fleet};

const HOSTS: usize = 3;
const LOGINS: usize = 30;

/// alice may have certificates of the fleet `web` as `ubuntu`.
fn policy() -> String {
    let mut policy: serde_json::Value = serde_json::from_str(&small_fleet::policy()).unwrap();
    policy["Statement"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({
            "Sid": "Fleets", "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/alice")},
            "Action": "eic:IssueFleetCertificate", "Resource": "arn:aws:eic:::fleet/web",
            "Condition": {"StringEquals": {"ec2:osuser": "ubuntu"}},
        }));
    policy.to_string()
}

struct Fleet {
    ca: Ca,
    alice: Client,
    members: Vec<Host>,
    /// Trusts the CA and is in no fleet.
    outside: Host,
}

impl Fleet {
    fn new() -> Fleet {
        let lab = Lab::new().unwrap();
        let tags = toml_of(&[("team", "web")]);
        let ca = small_fleet::ca(&lab).unwrap().policy(&policy());
        let ca = ca.set("fleets.web.accounts", vec![ACCOUNT.to_owned()]);
        let ca = ca.set("fleets.web.tags", tags).start().unwrap();
        let host = |name: &str, team: &str, args: &[&str]| {
            let host = lab.host(name).tag("team", team).tag("eic:enrolled", "true");
            let host = host.sshd_config("MaxStartups 100");
            host.trusting(&ca, args).start().unwrap()
        };
        let names = (1..=HOSTS).map(|number| format!("web-{number}"));
        let members = names
            .map(|name| host(&name, "web", &["--fleet=web"]))
            .collect();
        let outside = host("office-1", "office", &[]);
        let alice = small_fleet::person(&lab, "alice").unwrap();
        small_fleet::set_up(&alice, &ca).unwrap();
        Fleet {
            ca,
            alice,
            members,
            outside,
        }
    }

    /// `xargs ssh` to these hosts under one `exec`; what came back, sorted.
    fn fan_out(&self, hosts: &[&Host], logins: usize) -> String {
        let to: Vec<_> = hosts.iter().map(|h| h.address().to_string()).collect();
        let script = format!(
            "for n in $(seq {}); do printf '%s\\n' {}; done | xargs -P 8 -I TO ssh -F none -o BatchMode=yes \
             -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null ubuntu@TO whoami 2>&1 | \
             sort | uniq -c",
            logins / hosts.len(),
            to.join(" ")
        );
        let exec = ["exec", "--fleet", "ubuntu@web", "--", "bash", "-c", &script];
        let output = self.alice.run("eic-login", exec).unwrap();
        output.success().unwrap().stdout
    }
}

fn toml_of(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn a_fleets_certificate_opens_its_members_only_and_is_one_for_all_of_them() {
    let fleet = Fleet::new();
    let refused = fleet.fan_out(&[&fleet.outside], 1);
    assert!(refused.contains("Permission denied"), "{refused}");
    let members: Vec<&Host> = fleet.members.iter().collect();
    let all = fleet.fan_out(&members, LOGINS);
    assert_eq!(all.trim(), format!("{LOGINS} ubuntu"));
    let mut ids = std::collections::BTreeSet::new();
    for host in members {
        let log = host.log();
        let accepted = log.lines().filter(|l| l.contains("Accepted publickey"));
        let accepted: Vec<_> = accepted.collect();
        assert_eq!(accepted.len(), LOGINS / HOSTS, "{log}");
        let id = |line: &&str| line.split(" ID ").nth(1).unwrap().to_owned();
        ids.extend(accepted.iter().map(id));
    }
    assert_eq!(ids.len(), 1, "one certificate: {ids:?}");
    let config = fleet.ca.config().display().to_string();
    let query = ["audit", "query", "--config", &config, "--json"];
    let records = fleet.ca.command(query).run().unwrap().success().unwrap();
    let issued = records
        .stdout
        .lines()
        .filter(|record| record.contains("ubuntu@fleet/web") && record.contains("serial"));
    assert_eq!(issued.count(), 2, "one for each `exec`: {}", records.stdout);
}
