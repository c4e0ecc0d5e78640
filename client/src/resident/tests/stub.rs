//! A CA, EC2 and Instance Connect on one loopback port, and a world around them with a running agent.
//! They verify nothing of what they are sent: that is the CA's own tests' business.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use eic_protocol::api::certificate::{
    CertificateScope, UserCertificateRequest, UserCertificateResponse,
};
use eic_protocol::api::discovery::{AuthMethod, Discovery, SessionMode};
use eic_protocol::api::event::{ClientEvent, EventRequest};
use eic_protocol::api::instance::{
    Enrolment, InstanceConnectMode, InstanceView, InstancesResponse,
};
use eic_protocol::api::problem::{Problem, ProblemCode};
use eic_protocol::api::session::{
    CallerView, NameStanding, Proof, SessionRequest, SessionResponse,
};
use eic_protocol::api::trust_bundle::TrustBundleResponse;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::cert::options::Extension;
use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::envelope::{Envelope, EnvelopeSignature};
use eic_protocol::trust::root::{KeyState, Root, Scope, ScopedCa};
use eic_protocol::validity::Validity;
use eic_protocol::version::VersionRange;
use signature::Signer as _;
use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::clock::unix_now;
use crate::config::{CaConfig, Config, HostProfile};
use crate::control::client::{Agent, Conversation};
use crate::control::message::{Ask, ConnectAsk, HostKeyAsk, Reply};
use crate::credentials::Selection;
use crate::exit_code::Failure;
use crate::files;
use crate::paths::Paths;
use crate::resident::{Resident, serve};

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
    /// The access key of each push.
    pub(crate) pushed_with: Vec<String>,
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

pub(crate) fn private(seed: u8) -> PrivateKey {
    PrivateKey::new(
        KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])),
        "",
    )
    .unwrap()
}

pub(crate) fn public(seed: u8) -> SubjectKey {
    private(seed)
        .public_key()
        .to_openssh()
        .unwrap()
        .parse()
        .unwrap()
}

pub(crate) const ROOT: u8 = 1;
pub(crate) const USER_CA: u8 = 2;
pub(crate) const HOST_CA: u8 = 3;
pub(crate) const BUNDLE: u8 = 4;
pub(crate) const STRANGER: u8 = 9;

/// A host's certificate, as a running agent on it would show.
pub(crate) fn host_certificate(ca: u8, instance: &str, leaf: u8) -> Vec<u8> {
    let now = unix_now();
    let mut builder = Builder::new(
        vec![1; 32],
        private(leaf).public_key().key_data().clone(),
        now - 60,
        now + 600,
    )
    .unwrap();
    builder
        .serial(7)
        .unwrap()
        .key_id("host")
        .unwrap()
        .cert_type(CertType::Host)
        .unwrap()
        .valid_principal(instance)
        .unwrap();
    builder.sign(&private(ca)).unwrap().to_bytes().unwrap()
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
            pushed_with: Vec::new(),
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
        tokio::spawn(accept(listener, Arc::clone(&state)));
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
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        program
    }

    /// From now on every profile leads to this access key.
    pub(crate) fn credentials_become(&self, access_key_id: &str) {
        let program = self.credentials_program();
        let script = std::fs::read_to_string(&program).unwrap();
        let own = "AKIA0000000000${AWS_PROFILE:-MAIN}";
        let changed = script.replace(own, access_key_id);
        assert!(changed.contains(access_key_id), "{script}");
        std::fs::write(&program, changed).unwrap();
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

pub(crate) fn root() -> Envelope {
    root_of(1, USER_CA)
}

/// A root of this version, which names this user CA.
pub(crate) fn root_of(version: u64, user_ca: u8) -> Envelope {
    changed_root(version, user_ca, |_| {})
}

/// The same with one thing changed.
pub(crate) fn changed_root(version: u64, user_ca: u8, change: impl FnOnce(&mut Root)) -> Envelope {
    let mut root = Root {
        version,
        issued: 1,
        root_keys: vec![public(ROOT)],
        threshold: 1,
        bundle_keys: vec![public(BUNDLE)],
        user_cas: vec![ScopedCa {
            key: public(user_ca).to_string().parse().unwrap(),
            state: KeyState::Active,
            scope: Scope::default(),
        }],
        host_cas: vec![public(HOST_CA).to_string().parse().unwrap()],
    };
    change(&mut root);
    enveloped(Namespace::Root, &root, ROOT)
}

/// A document that this key signed.
pub(crate) fn enveloped(
    namespace: Namespace,
    document: &impl serde::Serialize,
    by: u8,
) -> Envelope {
    let bytes = serde_json::to_vec(document).unwrap();
    let signature = private(by)
        .try_sign(&sshsig::signed_data(namespace, &bytes))
        .unwrap();
    let blob = sshsig::blob(namespace, &public(by), &signature).unwrap();
    Envelope {
        signed: Base64Bytes(bytes),
        signatures: vec![EnvelopeSignature {
            key: public(by),
            signature: Base64Bytes(blob),
        }],
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_one(stream, Arc::clone(&state)));
    }
}

async fn serve_one(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut bytes = Vec::new();
    let (head, body_at, length) = loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap();
        if read == 0 {
            return;
        }
        bytes.extend_from_slice(&piece[..read]);
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
            let length = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "))
                .map_or(0, |l| l.parse().unwrap());
            break (head, at + 4, length);
        }
    };
    while bytes.len() < body_at + length {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap();
        bytes.extend_from_slice(&piece[..read]);
    }
    let (status, body) = answer(&head, &bytes[body_at..], &mut state.lock().unwrap());
    let answer = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[answer.as_bytes(), &body].concat()).await;
}

fn answer(head: &str, body: &[u8], state: &mut State) -> (u16, Vec<u8>) {
    let as_sent = head;
    let head = &head.to_ascii_lowercase();
    let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap();
    let json = |value: &dyn erased::Json| (200, value.json());
    let refused = state.aws_refuses.filter(|(action, _)| {
        let action = action.to_ascii_lowercase();
        path == "/" && (head.contains(&action) || text_of(body).contains(&action))
    });
    if let Some((_, code)) = refused {
        return (400, refusal(head, code));
    }
    if path == "/" {
        return (200, aws(head, std::str::from_utf8(body).unwrap(), state));
    }
    if state.absent {
        return problem(ProblemCode::Overloaded);
    }
    if let Some(grant) = head.split("grant=").nth(1) {
        let grant = grant.split([',', '\r']).next().unwrap().to_owned();
        let spent = state.sessions_mode == SessionMode::Off && state.grants.contains(&grant);
        state.grants.push(grant);
        if spent {
            return problem(ProblemCode::GrantInvalid);
        }
    }
    match path {
        "/.well-known/eic" => json(&discovery(state)),
        "/v1/sessions" if state.refuse_session.is_some() => {
            state.refuse_session.map(problem).unwrap()
        }
        "/v1/sessions" => json(&session(body, state)),
        "/v1/instances" if state.blind => problem(ProblemCode::InventoryUnavailable),
        "/v1/instances" => {
            let host = as_sent
                .split("host=")
                .nth(1)
                .map(|rest| rest.split([' ', '&']).next().unwrap().to_owned());
            let named = host.as_ref().and_then(|host| state.by_name.get(host));
            let ids = named.unwrap_or(&state.instances).iter().filter(|id| {
                host.as_ref()
                    .is_none_or(|h| !h.starts_with("i-") || h == *id)
            });
            let after = as_sent
                .split("after=")
                .nth(1)
                .map(|rest| rest.split(' ').next().unwrap());
            let mut ids: Vec<&String> = ids.collect();
            ids.sort();
            ids.retain(|id| after.is_none_or(|after| id.as_str() > after));
            let more = ids.len() > state.page;
            ids.truncate(state.page);
            json(&InstancesResponse {
                next: ids.last().filter(|_| more).map(|id| id.parse().unwrap()),
                instances: ids.into_iter().map(|id| view(id, state)).collect(),
                truncated: more,
            })
        }
        "/v1/certificates/user" => certificate(body, state),
        "/v1/trust-bundle" if !state.kept_roots.is_empty() || state.bundle.is_some() => {
            json(&TrustBundleResponse {
                roots: state.kept_roots.clone(),
                bundle: state.bundle.clone().unwrap_or_else(root),
                view: None,
            })
        }
        "/v1/events" => {
            let request: EventRequest = serde_json::from_slice(body).unwrap();
            state.events.push(request.event);
            (
                200,
                br#"{"request_id":"00112233445566778899aabbccddeeff"}"#.to_vec(),
            )
        }
        _ => problem(ProblemCode::NotFound),
    }
}

fn text_of(body: &[u8]) -> String {
    String::from_utf8_lossy(body).to_ascii_lowercase()
}

/// As EC2 and as Instance Connect refuse.
fn refusal(head: &str, code: &str) -> Vec<u8> {
    if head.contains("x-amz-target") {
        return format!("{{\"__type\":\"{code}\",\"Message\":\"told by the stand-in\"}}")
            .into_bytes();
    }
    format!("<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors></Response>")
        .into_bytes()
}

mod erased {
    //! JSON of any serializable value behind one reference.
    pub(crate) trait Json {
        fn json(&self) -> Vec<u8>;
    }
    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> Vec<u8> {
            serde_json::to_vec(self).unwrap()
        }
    }
}

fn problem(code: ProblemCode) -> (u16, Vec<u8>) {
    let problem = Problem::new(
        code,
        "told by the stand-in",
        "00112233445566778899aabbccddeeff".parse().unwrap(),
    );
    (code.status(), serde_json::to_vec(&problem).unwrap())
}

fn discovery(state: &State) -> Discovery {
    Discovery {
        server: "stub".to_owned(),
        protocol: VersionRange::OURS,
        auth: state.auth.clone(),
        root: state.root.clone(),
        sessions: state.sessions_mode,
        bundle_sequence: None,
    }
}

fn session(body: &[u8], state: &mut State) -> SessionResponse {
    let request: SessionRequest = serde_json::from_slice(body).unwrap();
    state.sessions.push(request.public_key);
    state.proofs.push(request.proof);
    SessionResponse {
        grant: format!("grant.{}", state.sessions.len()).parse().unwrap(),
        expires_at: unix_now() + 900,
        caller: CallerView {
            arn: "arn:aws:iam::123456789012:user/alice".parse().ok(),
            issuer: None,
            user_id: state.user_id.clone(),
            name: "alice".to_owned(),
            name_standing: NameStanding::Attested,
        },
        server_time: unix_now(),
        request_id: "00112233445566778899aabbccddeeff".parse().unwrap(),
    }
}

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
        host_keys: Vec::new(),
    }
}

/// Answers a certificate request as the state says.
fn certificate(body: &[u8], state: &mut State) -> (u16, Vec<u8>) {
    if let Some(code) = state.refuse {
        return problem(code);
    }
    state.certificates += 1;
    let request: UserCertificateRequest = serde_json::from_slice(body).unwrap();
    let signed = signed_certificate(&request, state.tamper.unwrap_or_default());
    let instance = match state.tamper {
        Some("instance") => OTHER_INSTANCE,
        _ => INSTANCE,
    };
    let response = UserCertificateResponse {
        certificate: signed.to_openssh().unwrap(),
        serial: "42".parse().unwrap(),
        request_id: "00112233445566778899aabbccddeeff".parse().unwrap(),
        validity: Validity::new(signed.valid_after(), signed.valid_before()).unwrap(),
        principal: request.scope.principal(),
        restricted: state.restricted,
        instance: match request.scope {
            CertificateScope::Target { .. } => Some(view(instance, state)),
            CertificateScope::Fleet { .. } => None,
        },
    };
    (200, serde_json::to_vec(&response).unwrap())
}

/// A certificate as asked for, but for the field that is tampered with.
fn signed_certificate(request: &UserCertificateRequest, tamper: &str) -> ssh_key::Certificate {
    let is = |what: &str| tamper == what;
    let now = unix_now();
    let life = if is("lifetime") {
        7_200
    } else {
        request.ttl_seconds.unwrap_or(300)
    };
    let subject = if is("public key") {
        public(STRANGER)
    } else {
        request.public_key.clone()
    };
    let nonce = vec![1; 32];
    let mut builder =
        Builder::new(nonce, subject.key_data().clone(), now - 60, now + life).unwrap();
    builder.serial(if is("serial") { 0 } else { 42 }).unwrap();
    builder
        .key_id("eic:alice:00112233445566778899aabbccddeeff")
        .unwrap();
    builder
        .cert_type(if is("type") {
            CertType::Host
        } else {
            CertType::User
        })
        .unwrap();
    let principal = request.scope.principal().to_string();
    builder
        .valid_principal(if is("wildcard") { "*" } else { &principal })
        .unwrap();
    if is("extra principal") {
        builder.valid_principal("root").unwrap();
    }
    let wanted = request
        .extensions
        .clone()
        .unwrap_or_else(Extension::defaults);
    for extension in wanted.iter().filter(|_| !is("extensions")) {
        builder.extension(extension.as_str(), "").unwrap();
    }
    if let Some(command) = request
        .force_command
        .as_ref()
        .filter(|_| !is("force-command"))
    {
        builder
            .critical_option("force-command", command.as_str())
            .unwrap();
    }
    if is("unknown critical option") {
        builder.critical_option("x@example.com", "1").unwrap();
    }
    builder
        .sign(&private(if is("signature key") {
            STRANGER
        } else {
            USER_CA
        }))
        .unwrap()
}

/// EC2 and Instance Connect.
fn aws(head: &str, body: &str, state: &mut State) -> Vec<u8> {
    use base64::Engine as _;
    let credential = head.split("credential=").nth(1).unwrap_or_default();
    let access_key = credential.split('/').next().unwrap().to_ascii_uppercase();
    if head.contains("x-amz-target: awsec2instanceconnectservice.sendsshpublickey") {
        state.pushed_with.push(access_key);
        let fields: BTreeMap<String, String> = serde_json::from_str(body).unwrap();
        state.pushes.push(format!(
            "{}@{}",
            fields["InstanceOSUser"], fields["InstanceId"]
        ));
        if let Some(file) = &state.authorized_keys {
            std::fs::write(file, format!("{}\n", fields["SSHPublicKey"])).unwrap();
        }
        return br#"{"RequestId":"aws-1","Success":true}"#.to_vec();
    }
    if head.contains("x-amz-target: awsec2instanceconnectservice.sendserialconsolesshpublickey") {
        let fields: serde_json::Value = serde_json::from_str(body).unwrap();
        let (port, id) = (&fields["SerialPort"], fields["InstanceId"].as_str());
        state.pushes.push(format!("console {port}@{}", id.unwrap()));
        return br#"{"RequestId":"aws-2","Success":true}"#.to_vec();
    }
    if body.contains("Action=DescribeImages") {
        let name = state.image.unwrap();
        return format!(
            "<R><imagesSet><item><imageId>ami-1</imageId><name>{name}</name></item></imagesSet></R>"
        )
        .into_bytes();
    }
    if body.contains("Action=GetConsoleOutput") {
        let output = base64::engine::general_purpose::STANDARD.encode(&state.console);
        return format!("<R><instanceId>{INSTANCE}</instanceId><output>{output}</output></R>")
            .into_bytes();
    }
    if head.contains("x-amz-target: amazonssm.startsession") {
        state.sessions_started.push(body.to_owned());
        let answer = state.aws_answers.get("StartSession").cloned();
        return answer.unwrap_or_else(|| "{}".to_owned()).into_bytes();
    }
    let action = |action: &&&str| body.contains(&format!("Action={action}&"));
    let answered = state.aws_answers.keys().find(action).copied();
    if let Some(action) = answered {
        state.aws_asked.push(action);
        return state.aws_answers[action].clone().into_bytes();
    }
    let (address, network) = (&state.address, &state.network);
    let tags: String = state
        .tags
        .iter()
        .map(|(key, value)| format!("<item><key>{key}</key><value>{value}</value></item>"))
        .collect();
    let image = state.image.map_or("", |_| "<imageId>ami-1</imageId>");
    let filter = body.split("Value.1=").nth(1);
    let filter = filter.map(|rest| rest.split('&').next().unwrap());
    let by_tag = body.contains("Name=tag%3AName");
    let found = filter.and_then(|value| {
        let tagged = state.by_tag.get(value).filter(|_| by_tag);
        tagged.or_else(|| state.by_filter.get(value))
    });
    let items: String = found
        .or_else(|| state.by_key.get(&access_key))
        .unwrap_or(&state.instances)
        .iter()
        .map(|id| {
            format!(
                "<item><instanceId>{id}</instanceId><instanceState><name>running</name></instanceState>\
                 <privateIpAddress>{address}</privateIpAddress>{network}{image}<tagSet>{tags}</tagSet></item>"
            )
        })
        .collect();
    format!(
        "<R><reservationSet><item><ownerId>123456789012</ownerId><instancesSet>{items}</instancesSet></item></reservationSet></R>"
    )
    .into_bytes()
}
