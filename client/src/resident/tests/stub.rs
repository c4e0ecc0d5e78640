//! A CA, EC2 and Instance Connect on one loopback port, and a world around them with a running agent.
//! They verify nothing of what they are sent: that is the CA's own tests' business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use eic_protocol::api::discovery::{AuthMethod, SessionMode};
use eic_protocol::api::event::ClientEvent;
use eic_protocol::api::instance::{Enrolment, InstanceConnectMode, InstanceView};
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::session::Proof;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::envelope::Envelope;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::clock::unix_now;
use crate::config::{CaConfig, Config, HostProfile};
use crate::control::client::{Agent, Conversation};
use crate::control::message::{Ask, ConnectAsk, HostKeyAsk, Reply};
use crate::credentials::Selection;
use crate::exit_code::Failure;
use crate::files;
use crate::paths::Paths;
use crate::resident::{Resident, serve};
use crate::testing::write_program;

// By path: this file is read by two other test programs under its own name.
#[path = "stub/aws.rs"]
mod aws;
#[path = "stub/ca.rs"]
mod ca;
#[path = "stub/documents.rs"]
mod documents;
#[path = "stub/http.rs"]
mod http;

pub(crate) use documents::*;

pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
pub(crate) const OTHER_INSTANCE: &str = "i-0fedcba9876543210";

/// How the stand-ins behave, and what they have seen.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) enrolment: Enrolment,
    pub(crate) mode: InstanceConnectMode,
    pub(crate) sessions_mode: SessionMode,
    /// The ways to sign in that the CA announces.
    pub(crate) auth: Vec<AuthMethod>,
    /// The proofs that came.
    pub(crate) proofs: Vec<Proof>,
    /// Answer certificate requests with this problem.
    pub(crate) refuse: Option<ProblemCode>,
    /// Answer sign-ins with this problem.
    pub(crate) refuse_session: Option<ProblemCode>,
    /// Take one sign-in, and answer 503 nevertheless.
    pub(crate) lose_session: bool,
    /// How long sessions last. Seconds.
    pub(crate) session_seconds: u64,
    /// Answer everything of the CA with 503.
    pub(crate) absent: bool,
    /// Answer its inventory with 503.
    pub(crate) blind: bool,
    /// Which field of a certificate is not as asked.
    pub(crate) tamper: Option<&'static str>,
    pub(crate) restricted: bool,
    pub(crate) instances: Vec<String>,
    /// Most instances of one answer of the CA.
    pub(crate) page: usize,
    /// Instances by the value of a filter that EC2 is asked with; others give `instances`.
    pub(crate) by_filter: BTreeMap<String, Vec<String>>,
    /// Instances by the name that the CA is asked for; others give `instances`.
    pub(crate) by_name: BTreeMap<String, Vec<String>>,
    /// What all instances are called in the CA's inventory.
    pub(crate) name: &'static str,
    /// As `by_filter`, for the look-up by Name tag alone.
    pub(crate) by_tag: BTreeMap<String, Vec<String>>,
    /// Instances by the access key that asks.
    pub(crate) by_key: BTreeMap<String, Vec<String>>,
    /// A call of AWS that is refused, and with which code.
    pub(crate) aws_refuses: Option<(&'static str, &'static str)>,
    /// The roots that the CA keeps.
    pub(crate) kept_roots: Vec<Envelope>,
    /// Its bundle; none and no roots: it has no such endpoint.
    pub(crate) bundle: Option<Envelope>,
    /// Name of every instance's image; none: they have no image.
    pub(crate) image: Option<&'static str>,
    /// Tags of every instance in EC2.
    pub(crate) tags: Vec<(String, String)>,
    /// Accounts that the CA's inventory names.
    pub(crate) users: Vec<String>,
    /// Host keys that hosts told the CA.
    pub(crate) host_keys: Vec<SubjectKey>,
    /// How often the CA was asked what it speaks.
    pub(crate) discoveries: usize,
    /// The access key of each push.
    pub(crate) pushed_with: Vec<String>,
    /// The Region of each push, and the zone that it names.
    pub(crate) pushed_in: Vec<String>,
    /// The root document that discovery shows.
    pub(crate) root: Envelope,
    /// Who signs in, as STS names him.
    pub(crate) user_id: String,
    /// Grants that came back, each as often as it did.
    pub(crate) grants: Vec<String>,
    /// Port of the instances' sshd.
    pub(crate) port: u16,
    /// Where a pushed key appears for sshd.
    pub(crate) authorized_keys: Option<PathBuf>,
    pub(crate) console: String,
    pub(crate) sessions: Vec<SubjectKey>,
    pub(crate) certificates: usize,
    /// Answers of EC2 by action, beside those that are made here.
    pub(crate) aws_answers: BTreeMap<&'static str, String>,
    /// Bodies of StartSession.
    pub(crate) sessions_started: Vec<String>,
    /// How often each of these actions was asked for.
    pub(crate) aws_asked: Vec<&'static str>,
    /// The instances' private address, and more of their network as EC2 describes it.
    pub(crate) address: String,
    pub(crate) network: String,
    pub(crate) pushes: Vec<String>,
    pub(crate) events: Vec<ClientEvent>,
}

/// Everything of one test.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) paths: Paths,
    pub(crate) run_dir: PathBuf,
    pub(crate) aws: String,
}

impl World {
    /// With an agent in this process.
    pub(crate) async fn new() -> Self {
        let world = Self::without_agent().await;
        world.start();
        world
    }

    /// With the stand-ins and the configuration only.
    pub(crate) async fn without_agent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            enrolment: Enrolment::Enrolled,
            mode: InstanceConnectMode::On,
            sessions_mode: SessionMode::On,
            auth: vec![AuthMethod::AwsSts {
                accounts: Vec::new(),
                web_identity: Vec::new(),
            }],
            proofs: Vec::new(),
            refuse: None,
            refuse_session: None,
            lose_session: false,
            session_seconds: 900,
            absent: false,
            blind: false,
            tamper: None,
            restricted: false,
            instances: vec![INSTANCE.to_owned()],
            page: 1_000,
            by_filter: BTreeMap::new(),
            by_name: BTreeMap::new(),
            name: "web-1",
            by_tag: BTreeMap::new(),
            by_key: BTreeMap::new(),
            aws_refuses: None,
            kept_roots: Vec::new(),
            bundle: None,
            image: None,
            tags: Vec::new(),
            users: Vec::new(),
            host_keys: Vec::new(),
            discoveries: 0,
            pushed_with: Vec::new(),
            pushed_in: Vec::new(),
            root: root(),
            user_id: "AIDA".to_owned(),
            grants: Vec::new(),
            port: 22,
            authorized_keys: None,
            console: String::new(),
            sessions: Vec::new(),
            certificates: 0,
            aws_answers: BTreeMap::new(),
            aws_asked: Vec::new(),
            sessions_started: Vec::new(),
            address: "127.0.0.1".to_owned(),
            network: String::new(),
            pushes: Vec::new(),
            events: Vec::new(),
        }));
        tokio::spawn(http::accept(listener, Arc::clone(&state)));
        let world = Self::around(state, format!("http://{address}"));
        world.configure(Some(&format!("http://{address}")), Vec::new());
        world
    }

    fn around(state: Arc<Mutex<State>>, aws: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_path_buf();
        let paths =
            Paths::from_lookup(|name| (name == "HOME").then(|| home.clone().into())).unwrap();
        let run_dir = dir.path().join("run");
        Self {
            dir,
            state,
            paths,
            run_dir,
            aws,
        }
    }

    pub(crate) fn configure(&self, ca: Option<&str>, hosts: Vec<HostProfile>) {
        files::private_dir(&self.paths.config_dir).unwrap();
        let ca = ca.map(|url| CaConfig {
            url: url.parse().unwrap(),
            root_fingerprints: [public(ROOT).fingerprint()].into(),
            ca_file: None,
        });
        let config = Config {
            run_dir: None,
            patterns: Vec::new(),
            ca,
            hosts,
            ..Config::default()
        };
        files::write_atomic(
            &self.paths.config_file(),
            config.to_toml().unwrap().as_bytes(),
            0o600,
        )
        .unwrap();
        let root = serde_json::to_vec(&root()).unwrap();
        files::write_atomic(&self.paths.root_file(), &root, 0o600).unwrap();
    }

    /// What the agent consists of, without its socket.
    pub(crate) fn resident(&self) -> Resident {
        Resident::new(&self.paths, &self.run_dir, self.credentials_program()).unwrap()
    }

    /// A tag on every instance that EC2 shows.
    pub(crate) fn tag(&self, name: &str, value: &str) {
        self.state().tags = vec![(name.to_owned(), value.to_owned())];
    }

    pub(crate) fn start(&self) {
        let resident = self.resident();
        let run_dir = self.run_dir.clone();
        tokio::spawn(async move {
            serve(Arc::new(resident), &run_dir, None, Duration::from_secs(60))
                .await
                .unwrap()
        });
    }

    /// What the agent takes for its own program: answers as the `credentials` child does, by profile.
    fn credentials_program(&self) -> PathBuf {
        let program = self.dir.path().join("program");
        let found = format!(
            r#"{{"Found":{{"access_key_id":"'"AKIA0000000000${{AWS_PROFILE:-MAIN}}"'","secret_access_key":"secret","session_token":null,"expires_at":null,"region":"eu-west-1","endpoint_ec2":"{0}","endpoint_instance_connect":"{0}","endpoint_sts":"{0}"}}}}"#,
            self.aws
        );
        let failed = r#"{"Failed":{"reason":"Expired","message":"the SSO token has expired"}}"#;
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = credentials ] || exit 9\nif [ \"$AWS_PROFILE\" = EXPIRED ]; then echo '{failed}'; exit 0; fi\necho '{found}'\n"
        );
        write_program(&program, &script);
        program
    }

    /// From now on every profile leads to this access key.
    pub(crate) fn credentials_become(&self, access_key_id: &str) {
        let program = self.credentials_program();
        let script = std::fs::read_to_string(&program).unwrap();
        let own = "AKIA0000000000${AWS_PROFILE:-MAIN}";
        let changed = script.replace(own, access_key_id);
        assert!(changed.contains(access_key_id), "{script}");
        write_program(&program, &changed);
    }

    /// From now on they name the Region of the environment, else none.
    pub(crate) fn credentials_name_no_region(&self) {
        let program = self.credentials_program();
        let script = std::fs::read_to_string(&program).unwrap();
        let own = r#""region":"eu-west-1""#;
        assert!(script.contains(own), "{script}");
        let changed = script.replace(own, r#""region":'"$region"'"#);
        let told = "region=null\n[ -z \"$AWS_REGION\" ] || region=\"\\\"$AWS_REGION\\\"\"\n";
        let changed = changed.replace("#!/bin/sh\n", &format!("#!/bin/sh\n{told}"));
        write_program(&program, &changed);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn selection(&self, profile: &str) -> Selection {
        let home = self.dir.path().to_str().unwrap().to_owned();
        let variables = [
            ("HOME", home),
            ("PATH", "/bin:/usr/bin".to_owned()),
            ("AWS_PROFILE", profile.to_owned()),
        ];
        Selection::from_variables(variables.map(|(name, value)| (name.to_owned(), value)))
    }

    pub(crate) fn login(&self, user: &str, host: &str) -> ConnectAsk {
        ConnectAsk {
            user: user.parse().unwrap(),
            default_user: false,
            host: host.parse().unwrap(),
            port: 22,
            ssh_pid: None,
            user_agent: None,
            selection: self.selection("MAIN"),
            given: None,
        }
    }

    /// What `connect` does: the route, then what came after it.
    pub(crate) async fn connect(&self, ask: ConnectAsk) -> Result<Vec<String>, Failure> {
        let (mut conversation, reply) = self.ask(Ask::Connect(ask)).await;
        match reply {
            Reply::Failed(failure) => Err(failure),
            Reply::Route { port, .. } => {
                assert_eq!(port, 22);
                let reply = tokio::task::spawn_blocking(move || conversation.answer().unwrap())
                    .await
                    .unwrap();
                match reply {
                    Reply::Ready { notes } => Ok(notes),
                    Reply::Failed(failure) => Err(failure),
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// What `known-hosts` does.
    pub(crate) async fn host_key(
        &self,
        user: &str,
        host: &str,
        key: Option<&[u8]>,
    ) -> Result<(Vec<String>, Vec<String>), Failure> {
        use base64::Engine as _;
        let key = key.map(|key| base64::engine::general_purpose::STANDARD.encode(key));
        let ask = HostKeyAsk {
            login: self.login(user, host),
            key,
        };
        match self.ask(Ask::HostKey(ask)).await.1 {
            Reply::KnownHost { keys, notes } => Ok((keys, notes)),
            Reply::Failed(failure) => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn ask(&self, ask: Ask) -> (Conversation, Reply) {
        let agent = Agent {
            run_dir: self.run_dir.clone(),
            program: PathBuf::from("/bin/false"),
            config_dir: self.paths.config_dir.clone(),
        };
        let socket = crate::control::socket_path(&self.run_dir);
        wait_for(|| socket.exists()).await;
        tokio::task::spawn_blocking(move || agent.ask(ask).unwrap())
            .await
            .unwrap()
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.run_dir.join(name)
    }
}

/// An instance as the CA shows it.
pub(crate) fn view(id: &str, state: &State) -> InstanceView {
    InstanceView {
        id: id.parse().unwrap(),
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        availability_zone: Some("eu-west-1a".to_owned()),
        name: Some(state.name.to_owned()),
        private_dns: None,
        addresses: vec!["127.0.0.1".parse().unwrap()],
        ssh_port: state.port,
        enrolment: state.enrolment,
        instance_connect: state.mode,
        users: state.users.iter().map(|u| u.parse().unwrap()).collect(),
        host_keys: state.host_keys.clone(),
    }
}

/// Waits on a condition, at most ten seconds.
pub(crate) async fn wait_for(condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the condition did not come true"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks a login's socket for its identities.
pub(crate) async fn identities(socket: &Path) -> Vec<Vec<u8>> {
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    stream
        .write_all(&crate::ssh_agent::message::framed(&[11]))
        .await
        .unwrap();
    let answer = crate::ssh_agent::message::read(&mut stream)
        .await
        .unwrap()
        .unwrap();
    let mut r = eic_protocol::wire::Reader::new(&answer[1..]);
    let count = r.u32().unwrap();
    (0..count)
        .map(|_| {
            let blob = r.string().unwrap().to_vec();
            r.string().unwrap();
            blob
        })
        .collect()
}
