//! STS, EC2, IAM and an account's token issuer, as a test wants them; and a CA that asks them.

use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::http_stub::{HttpStub, Received, response};
use crate::metadata_signer::MetadataSigner;
use crate::program::{Program, real_now};
use crate::sts;
use crate::token_issuer::TokenIssuer;
use crate::world::World;

pub(crate) const HOST: &str = "i-0123456789abcdef0";
pub(crate) const OTHER: &str = "i-0123456789abcdef1";
/// Outside EC2.
pub(crate) const MANAGED: &str = "mi-0123456789abcdef0";
pub(crate) const ACCOUNT: &str = "111122223333";
const ONLY_EC2: &str = r#"{"Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;

const LISTED: &str = r#"
[[instance]]
id = "mi-0123456789abcdef0"
account = "999900001111"
region = "eu-west-1"
"#;

/// What AWS says.
pub(crate) struct Aws {
    pub(crate) state: &'static str,
    pub(crate) private_ip: &'static str,
    pub(crate) role: &'static str,
    pub(crate) trust: String,
    pub(crate) console: String,
    /// An action that fails, with status and code.
    pub(crate) failing: Option<(&'static str, u16, &'static str)>,
    /// Whether `HOST` is missing where all are listed, and there only.
    pub(crate) unlisted: bool,
    /// An answer that is held back.
    pub(crate) held: Option<Held>,
}

/// The next answer about an instance: the test is told that it was asked for, and says when it may be given.
pub(crate) struct Held {
    instance: &'static str,
    asked: tokio::sync::oneshot::Sender<()>,
    go: std::sync::mpsc::Receiver<()>,
}

impl Held {
    fn is_for(&self, request: &Received) -> bool {
        let about = format!("Filter.1.Value.1={}", self.instance);
        action(request).as_deref() == Some("DescribeInstances") && request.body.contains(&about)
    }

    fn wait(self) {
        let _ = self.asked.send(());
        let patience = std::time::Duration::from_secs(30);
        tokio::task::block_in_place(|| self.go.recv_timeout(patience)).unwrap();
    }
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            state: "running",
            private_ip: "10.0.0.5",
            role: "Web",
            trust: ONLY_EC2.to_owned(),
            console: String::new(),
            failing: None,
            unlisted: false,
            held: None,
        }
    }
}

/// A CA as a program, and its AWS.
pub(crate) struct HostWorld {
    pub(crate) world: World,
    pub(crate) signer: MetadataSigner,
    pub(crate) issuer: Arc<TokenIssuer>,
    pub(crate) aws: Arc<Mutex<Aws>>,
    program: Option<Program>,
}

impl HostWorld {
    /// With this rule for first enrolment.
    pub(crate) async fn new(first_enrolment: &str) -> Self {
        Self::configured(first_enrolment, |config| config).await
    }

    /// With a changed section about hosts.
    pub(crate) async fn configured(
        first_enrolment: &str,
        change: impl FnOnce(String) -> String,
    ) -> Self {
        let signer = MetadataSigner::new();
        let issuer = Arc::new(TokenIssuer::new());
        let world = World::with_files(|config| config, &[("eu-west-1.pem", &signer.pem)]).await;
        let origin = world.sts.origin().to_owned();
        let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
        let config = config + &change(hosts_section(&origin, first_enrolment));
        let inventory = std::fs::read_to_string(world.path("inventory.toml")).unwrap();
        let mut world = world.stopped().await;
        world.write("inventory.toml", &(inventory + LISTED));
        let aws = Arc::new(Mutex::new(Aws::default()));
        answer(&world.sts, &origin, &aws, &issuer);
        let program = Program::start(&world, &config);
        world.address = program.address;
        world.clock = eic_ca::clock::Clock::system();
        Self {
            world,
            signer,
            issuer,
            aws,
            program: Some(program),
        }
    }

    pub(crate) fn issuer_url(&self) -> String {
        self.world.sts.origin().to_owned()
    }

    /// The actions that AWS was asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        let received = self.world.sts.received();
        received.iter().filter_map(action).collect()
    }

    /// Holds EC2's next answer about an instance back: what tells that it was asked for, and what lets it go.
    pub(crate) fn hold(
        &self,
        instance: &'static str,
    ) -> (
        tokio::sync::oneshot::Receiver<()>,
        std::sync::mpsc::Sender<()>,
    ) {
        let (asked, is_asked) = tokio::sync::oneshot::channel();
        let (let_go, go) = std::sync::mpsc::channel();
        self.aws.lock().unwrap().held = Some(Held {
            instance,
            asked,
            go,
        });
        (is_asked, let_go)
    }

    /// Runs `eic-ca hosts …`; its output, where it succeeds.
    pub(crate) fn hosts(&self, arguments: &[&str]) -> Result<String, String> {
        self.eic_ca(&[&["hosts"], arguments].concat())
    }

    /// Any command of the program on the same configuration.
    pub(crate) fn eic_ca(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(env!("CARGO_BIN_EXE_eic-ca"))
            .args(arguments)
            .arg("--config")
            .arg(self.world.path("eic-ca.toml"))
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// Ends the service and starts it on what its files say now.
    pub(crate) fn restart(&mut self) {
        self.end();
        let config = std::fs::read_to_string(self.world.path("eic-ca.toml")).unwrap();
        let program = Program::start(&self.world, &config);
        self.world.address = program.address;
        self.program = Some(program);
    }

    /// Ends the service and returns what it logged.
    pub(crate) fn end(&mut self) -> String {
        self.program.take().unwrap().end()
    }
}

fn hosts_section(origin: &str, first_enrolment: &str) -> String {
    format!(
        r#"
[[inventory.ec2]]
account = "{ACCOUNT}"
regions = ["eu-west-1"]
endpoint_override = "{origin}"

[hosts]
identity_certificates = "."

[[hosts.accounts]]
account = "{ACCOUNT}"
first_enrolment = "{first_enrolment}"
evidence = ["web-identity", "identity-document"]
issuer = "{origin}"
private_addresses = true
"#
    )
}

fn answer(stub: &HttpStub, origin: &str, aws: &Arc<Mutex<Aws>>, issuer: &Arc<TokenIssuer>) {
    let (origin, aws, issuer) = (origin.to_owned(), Arc::clone(aws), Arc::clone(issuer));
    stub.answer_with(move |request| {
        let now = real_now();
        let held = aws
            .lock()
            .unwrap()
            .held
            .take_if(|held| held.is_for(request));
        if let Some(held) = held {
            held.wait();
        }
        let aws = aws.lock().unwrap();
        if let Some(failure) = failure(&aws, request) {
            return failure;
        }
        match action(request).as_deref() {
            Some("DescribeInstances") => response(200, now, &described(&aws, request)),
            Some("GetInstanceProfile") => response(200, now, &profile(&aws)),
            Some("GetConsoleOutput") => response(200, now, &console(&aws, request)),
            Some(_) => sts::judge(request, now),
            None if request.head.contains("openid-configuration") => {
                let keys = format!("{origin}/keys");
                let body = json!({ "issuer": origin, "jwks_uri": keys }).to_string();
                response(200, now, &body)
            }
            None => response(200, now, &issuer.key_set().to_string()),
        }
    });
}

/// `Latest` is what older instance types cannot.
fn failure(aws: &Aws, request: &Received) -> Option<Vec<u8>> {
    let (failing, status, code) = aws.failing?;
    let hit = action(request).as_deref() == Some(failing);
    let old_type = code == "UnsupportedOperation" && !request.body.contains("Latest=true");
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>canary-of-aws</Message></Error></Errors></Response>"
    );
    (hit && !old_type).then(|| response(status, real_now(), &body))
}

fn action(request: &Received) -> Option<String> {
    let pairs = request.body.split('&');
    let mut actions = pairs.filter_map(|pair| pair.strip_prefix("Action="));
    actions.next().map(str::to_owned)
}

/// The instance that was asked for, or both, in their own account.
fn described(aws: &Aws, request: &Received) -> String {
    let mut pairs = request.body.split('&');
    let asked = pairs.find_map(|pair| pair.strip_prefix("Filter.1.Value.1="));
    let all = || match aws.unlisted {
        true => vec![OTHER],
        false => vec![HOST, OTHER],
    };
    let ids = asked.map_or_else(all, |id| vec![id]);
    let Aws {
        state, private_ip, ..
    } = aws;
    let items: String = ids
        .iter()
        .map(|id| {
            format!(
                "<item><instanceId>{id}</instanceId><instanceState><name>{state}</name></instanceState>\
                 <privateIpAddress>{private_ip}</privateIpAddress><iamInstanceProfile>\
                 <arn>arn:aws:iam::{ACCOUNT}:instance-profile/fleet/web</arn></iamInstanceProfile>\
                 <tagSet><item><key>env</key><value>dev</value></item>\
                 <item><key>eic:stage</key><value>certificates-only</value></item></tagSet></item>"
            )
        })
        .collect();
    format!(
        "<DescribeInstancesResponse><reservationSet><item><ownerId>{ACCOUNT}</ownerId>\
         <instancesSet>{items}</instancesSet></item></reservationSet></DescribeInstancesResponse>"
    )
}

fn profile(aws: &Aws) -> String {
    let policy: String = aws.trust.bytes().map(|b| format!("%{b:02X}")).collect();
    format!(
        "<GetInstanceProfileResponse><GetInstanceProfileResult><InstanceProfile><Roles><member>\
         <RoleName>{}</RoleName><AssumeRolePolicyDocument>{policy}</AssumeRolePolicyDocument>\
         </member></Roles></InstanceProfile></GetInstanceProfileResult></GetInstanceProfileResponse>",
        aws.role
    )
}

fn console(aws: &Aws, request: &Received) -> String {
    let mut pairs = request.body.split('&');
    let id = pairs
        .find_map(|pair| pair.strip_prefix("InstanceId="))
        .unwrap_or_default();
    let output = STANDARD.encode(&aws.console);
    format!(
        "<GetConsoleOutputResponse><instanceId>{id}</instanceId><output>{output}</output></GetConsoleOutputResponse>"
    )
}

/// An identity document of the metadata service.
pub(crate) fn document(instance: &str, pending_time: &str) -> Value {
    json!({
        "accountId": ACCOUNT, "architecture": "x86_64", "availabilityZone": "eu-west-1a",
        "imageId": "ami-0123456789abcdef0", "instanceId": instance, "pendingTime": pending_time,
        "privateIp": "10.0.0.5", "region": "eu-west-1", "version": "2017-09-30",
    })
}
