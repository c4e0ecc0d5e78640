//! Where docs/clients.md and docs/automation.md happen: a host of the CA and a legacy one, both with sshds that allow
//! two tries; alice with eight keys of her own that open nothing; a job with a role; a job with a token only.

use eic_lab::aws::{ACCOUNT, REGION};
use eic_lab::other_programs::PACKAGES;
use eic_lab::process::Process;
use eic_lab::{Ca, Client, Host, Lab, small_fleet};
use serde_json::json;

use super::page;
use crate::oidc::{self, Issuer};

/// alice's own agent.
const OWN_AGENT: &str = "/home/alice/agent";

/// What the reader of a page about other programs has installed and set.
const PROGRAMS: &str = "/opt/packages/bin:/usr/local/bin:/usr/bin:/bin";

pub(super) struct Company {
    web: Host,
    legacy: Host,
    alice: Client,
    /// With the role `deploy`.
    job: Client,
    /// Without AWS credentials.
    runner: Client,
    ca: Ca,
    _own_agent: Process,
}

impl Company {
    pub(super) fn new() -> Company {
        let lab = Lab::with_other_programs().unwrap();
        let issuer = Issuer::start(&lab);
        let ca = ca(&lab, &issuer);
        let host = |name: &str| {
            let host = lab.host(name).tag("team", "web").account("deploy", 1003);
            host.sshd_config("MaxAuthTries 2")
        };
        let web = host("web-1").tag("eic:enrolled", "true");
        let web = web.trusting(&ca, &["--fleet=web"]).start().unwrap();
        let legacy = host("legacy-1").instance_connect_only().start().unwrap();
        let alice = with_programs(small_fleet::person(&lab, "alice").unwrap());
        let alice = alice.env("SSH_AUTH_SOCK", OWN_AGENT);
        small_fleet::set_up(&alice, &ca).unwrap();
        let own_agent = start_own_agent(&alice);
        let company = Company {
            job: with_programs(job(&lab)),
            runner: oidc::job_of(&lab, "runner", &issuer.token(&ca.url(), oidc::SUBJECT)),
            web,
            legacy,
            alice,
            ca,
            _own_agent: own_agent,
        };
        company.give_files();
        company
    }

    /// What the pages' commands read.
    fn give_files(&self) {
        let here = "mkdir site; echo report > report.txt; echo '<h1>site</h1>' > site/index.html";
        self.alice
            .run("bash", ["-ec", here])
            .unwrap()
            .success()
            .unwrap();
        let playbook = "- hosts: all\n  gather_facts: false\n  tasks:\n    - command: id -un\n";
        let there = self.job.home().join("site.yml");
        std::fs::write(there, playbook).unwrap();
    }
}

/// The lab's company, a fleet, and two kinds of jobs.
fn ca(lab: &Lab, issuer: &Issuer) -> Ca {
    let tags = std::collections::BTreeMap::from([("team".to_owned(), "web".to_owned())]);
    let ca = small_fleet::ca(lab).unwrap().policy(&policy());
    let ca = ca.set("fleets.web.accounts", vec![ACCOUNT.to_owned()]);
    let ca = ca.set("fleets.web.tags", tags);
    oidc::trusting(ca, issuer).start().unwrap()
}

fn policy() -> String {
    let mut policy: serde_json::Value = serde_json::from_str(&small_fleet::policy()).unwrap();
    let deploy = json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:role/deploy")});
    let statements = policy["Statement"].as_array_mut().unwrap();
    statements.push(json!({
        "Sid": "DeployOnTeamWeb", "Effect": "Allow", "Principal": deploy, "Resource": "*",
        "Action": "ec2-instance-connect:SendSSHPublicKey",
        "Condition": {"StringEquals": {"ec2:osuser": "deploy", "aws:ResourceTag/team": "web"}},
    }));
    statements.push(json!({
        "Sid": "DeployOnFleet", "Effect": "Allow", "Principal": deploy, "Resource": "arn:aws:eic:::fleet/web",
        "Action": "eic:IssueFleetCertificate", "Condition": {"StringEquals": {"ec2:osuser": "deploy"}},
    }));
    policy.to_string()
}

/// A job of CI with the session of a role.
fn job(lab: &Lab) -> Client {
    let aws = lab.aws().unwrap();
    let may = |actions: serde_json::Value| {
        let statement = json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
        json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
    };
    let runner = aws.user("ci", &may(json!(["sts:AssumeRole"]))).unwrap();
    let trusted = format!("arn:aws:iam::{ACCOUNT}:user/ci");
    let policy = may(json!([
        "ec2-instance-connect:SendSSHPublicKey",
        "ec2:GetConsoleOutput"
    ]));
    let role = aws.role("deploy", &trusted, &policy).unwrap();
    let session = aws.assume_role(&runner, &role, "run-42").unwrap();
    lab.client("job").unwrap().credentials(&session).unwrap()
}

fn with_programs(client: Client) -> Client {
    let settings = [
        ("PATH", PROGRAMS),
        ("PYTHONPATH", PACKAGES),
        ("ANSIBLE_NOCOLOR", "1"),
        ("ANSIBLE_DEPRECATION_WARNINGS", "0"), // of paramiko's connection: another text with each release
        ("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3"),
    ];
    settings
        .into_iter()
        .fold(client, |client, (name, value)| client.env(name, value))
}

/// An agent with eight keys, which ends with the company.
fn start_own_agent(alice: &Client) -> Process {
    let agent = alice.command("ssh-agent").args(["-D", "-a", OWN_AGENT]);
    let agent = agent.start().unwrap();
    let keys = "until [ -S agent ]; do sleep 0.05; done; mkdir foreign; \
                for n in 1 2 3 4 5 6 7 8; do ssh-keygen -q -t ed25519 -N '' -f foreign/$n; ssh-add -q foreign/$n; done";
    alice.run("bash", ["-ec", keys]).unwrap().success().unwrap();
    agent
}

impl page::Stage for Company {
    fn type_line(&mut self, place: &str, line: &str) -> String {
        let person = match place {
            "you" => &self.alice,
            "job" => &self.job,
            "runner" => &self.runner,
            other => panic!("nobody stands at `{other}`"),
        };
        let output = person.run("bash", ["-c", &format!("exec 2>&1; {line}")]);
        output.unwrap().stdout
    }

    fn pairs(&self, _place: &str) -> Vec<(&'static str, String)> {
        let mut names = page::names(&self.ca, &self.web, &self.legacy);
        names.push(("eu_west_1", REGION.replace('-', "_")));
        names
    }

    /// The reader saves the page's programs as `job.py`.
    fn take_file(&mut self, language: &str, text: &str) {
        if language == "python" {
            let pairs = self.pairs("you").into_iter();
            let text = pairs.fold(text.to_owned(), |text, (page, real)| {
                text.replace(page, &real)
            });
            std::fs::write(self.alice.home().join("job.py"), text).unwrap();
        }
    }
}
