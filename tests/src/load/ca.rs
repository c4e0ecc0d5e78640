//! The CA under load, on loopback: `eic-ca init`, its limits raised for one machine's load, and an STS that answers
//! every proof after a set delay. The CA's own checks all run; requests are signed before they are sent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::{Authorization, GrantToken, Nonce};
use eic_protocol::proof::{Audience, CanonicalRequest, Signed};
use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::SubjectKey;
use serde_json::json;
use ssh_key::PrivateKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::server::Server;
use super::{Connection, free_port, request, wait_for};

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// The stand-ins of the load ask nobody who he is.
const NOBODYS_CREDENTIALS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "none"),
    ("AWS_REGION", "us-east-1"),
];

/// The instance that the load's certificates are for.
pub const INSTANCE: &str = "i-0123456789abcdef0";
const ACCOUNT: &str = "123456789012";

/// A running CA.
#[derive(Debug)]
pub struct LoadedCa {
    /// The process.
    pub server: Server,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its configuration.
    pub config: PathBuf,
    program: PathBuf,
    folder: PathBuf,
    audience: Audience,
}

/// A key with its grant.
#[derive(Debug)]
pub struct Session {
    key: PrivateKey,
    public: SubjectKey,
    grant: GrantToken,
}

impl LoadedCa {
    /// Starts `program` (an `eic-ca`) in `folder`, with an STS that answers after `sts_delay`.
    /// `fault` is the named point at which a build with `fault-injection` kills itself.
    ///
    /// # Errors
    /// When it cannot be configured or is not ready in time.
    pub async fn start(
        program: &Path,
        folder: &Path,
        sts_delay: Duration,
        fault: Option<&str>,
    ) -> Result<Self, String> {
        let sts = sts_standin(sts_delay).await?;
        let address = free_port()?;
        let config = configure(program, folder, address, sts)?;
        let server = serve(program, folder, &config, fault)?;
        let audience = format!("http://{address}")
            .parse()
            .map_err(|e| format!("{e}"))?;
        wait_for(address, "/readyz").await?;
        Ok(Self {
            server,
            address,
            config,
            program: program.to_owned(),
            folder: folder.to_owned(),
            audience,
        })
    }

    /// Starts it again after its end, without a fault.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub async fn restart(&mut self) -> Result<(), String> {
        self.server = serve(&self.program, &self.folder, &self.config, None)?;
        wait_for(self.address, "/readyz").await.map(drop)
    }

    /// Sets keys of the configuration by section and name, in force from the next start on.
    ///
    /// # Errors
    /// When the file cannot be changed.
    pub fn set(&self, settings: &[(&str, &str, toml::Value)]) -> Result<(), String> {
        change(&self.config, settings)
    }

    /// Ends it and starts it again with keys of the configuration set, by section and name; ready when it takes
    /// connections.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub async fn restart_with(
        &mut self,
        settings: &[(&str, &str, toml::Value)],
    ) -> Result<(), String> {
        self.server.kill();
        change(&self.config, settings)?;
        self.server = serve(&self.program, &self.folder, &self.config, None)?;
        let deadline = std::time::Instant::now() + READY;
        while let Err(error) = Connection::open(self.address).await {
            if std::time::Instant::now() > deadline {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Runs another command of the same program with the same configuration.
    ///
    /// # Errors
    /// When it fails; with its output.
    pub fn run(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.program)
            .args(args)
            .arg("--config")
            .arg(&self.config)
            .envs(NOBODYS_CREDENTIALS)
            .output();
        let output = output.map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(text)
        } else {
            Err(text + &String::from_utf8_lossy(&output.stderr))
        }
    }

    /// The bytes of a sign-in with a fresh key.
    ///
    /// # Errors
    /// When something cannot be signed.
    pub fn session_request(&self) -> Result<(PrivateKey, Vec<u8>), String> {
        let key = fresh_key()?;
        let public = public(&key)?;
        let nonce = Nonce::from_random(random()?);
        let binding = eic_protocol::api::session::SessionBinding {
            protocol: 1,
            public_key: &public,
            nonce: &nonce,
        };
        let canonical = CanonicalRequest::of(&self.audience, &binding);
        let body = json!({
            "protocol": 1, "public_key": public, "nonce": nonce,
            "proof": {"aws-sts": {
                "region": "us-east-1", "access_key_id": "AKIAIOSFODNN7EXAMPLE",
                "date": amz_date(unix_now()), "signature": "0".repeat(64),
            }},
            "key_signature": Base64Bytes(sign(&key, &public, canonical.as_slice())?),
        });
        Ok((
            key,
            request("POST", "/v1/sessions", &[], body.to_string().as_bytes()),
        ))
    }

    /// Signs in once.
    ///
    /// # Errors
    /// When the CA refuses.
    pub async fn session(&self) -> Result<Session, String> {
        let (key, bytes) = self.session_request()?;
        let (status, body) = Connection::open(self.address).await?.call(&bytes).await?;
        let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        let grant = answer
            .get("grant")
            .and_then(|g| g.as_str())
            .ok_or(format!("{status} {answer}"))?;
        let public = public(&key)?;
        Ok(Session {
            key,
            public,
            grant: grant.parse().map_err(|e| format!("{e}"))?,
        })
    }

    /// Waits until a certificate is by a key in memory: until hosts can know the first, the configured key signs.
    ///
    /// # Errors
    /// When none is in time, or the CA refuses.
    pub async fn signs_in_memory(&self) -> Result<(), String> {
        let session = self.session().await?;
        let first = self.signer(&session).await?;
        let deadline = std::time::Instant::now() + READY;
        while self.signer(&session).await? == first {
            if std::time::Instant::now() > deadline {
                return Err("no key in memory signs".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The fingerprint of the key that signs a certificate now.
    async fn signer(&self, session: &Session) -> Result<String, String> {
        let request = self.certificate_request(session)?;
        let (status, body) = Connection::open(self.address).await?.call(&request).await?;
        let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        let line = answer.get("certificate").and_then(|line| line.as_str());
        let line = line.ok_or(format!("{status} {answer}"))?;
        let certificate = ssh_key::Certificate::from_openssh(line).map_err(|e| e.to_string())?;
        let signer = certificate.signature_key();
        Ok(signer.fingerprint(ssh_key::HashAlg::Sha256).to_string())
    }

    /// The bytes of one certificate request, signed.
    ///
    /// # Errors
    /// When something cannot be signed.
    pub fn certificate_request(&self, session: &Session) -> Result<Vec<u8>, String> {
        let scope = eic_protocol::api::certificate::CertificateScope::Target {
            user: "ubuntu".parse().map_err(|e| format!("{e}"))?,
            instance: INSTANCE.parse().map_err(|e| format!("{e}"))?,
        };
        let wanted = eic_protocol::api::certificate::UserCertificateRequest {
            protocol: 1,
            public_key: session.public.clone(),
            scope,
            ttl_seconds: None,
            force_command: None,
            source_addresses: None,
            extensions: None,
            reason: None,
        };
        let body = serde_json::to_vec(&wanted).map_err(|e| e.to_string())?;
        let header = self.authorization(session, &wanted)?;
        Ok(request(
            "POST",
            "/v1/certificates/user",
            &[("authorization", &header)],
            &body,
        ))
    }

    fn authorization(&self, session: &Session, wanted: &impl Signed) -> Result<String, String> {
        let (time, nonce) = (unix_now(), Nonce::from_random(random()?));
        let canonical =
            CanonicalRequest::of_granted(&self.audience, time, nonce.as_bytes(), wanted);
        let signature = sign(&session.key, &session.public, canonical.as_slice())?;
        let authorization = Authorization {
            grant: session.grant.clone(),
            time,
            nonce,
            signature,
        };
        Ok(authorization.to_header().reveal().clone())
    }
}

fn serve(
    program: &Path,
    folder: &Path,
    config: &Path,
    fault: Option<&str>,
) -> Result<Server, String> {
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--config")
        .arg(config)
        .env("RUST_LOG", "warn")
        .envs(NOBODYS_CREDENTIALS);
    if let Some(point) = fault {
        command.env("EIC_FAULT", point);
    }
    Server::start(&mut command, &folder.join("eic-ca.log"))
}

fn configure(
    program: &Path,
    folder: &Path,
    address: SocketAddr,
    sts: SocketAddr,
) -> Result<PathBuf, String> {
    let home = folder.join("ca");
    let output = Command::new(program)
        .arg("init")
        .arg(&home)
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(format!(
            "eic-ca init: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let file = home.join("eic-ca.toml");
    let one = |text: &str| toml::Value::from(vec![toml::Value::from(text)]);
    change(
        &file,
        &[
            ("server", "listen", address.to_string().into()),
            ("server", "public_url", format!("http://{address}").into()),
            (
                "aws_sts",
                "endpoint_override",
                format!("http://{sts}").into(),
            ),
            ("aws_sts", "accounts", one(ACCOUNT)),
            ("limits", "caller_rate", 1_000_000.into()),
            ("limits", "peer_rate", 1_000_000.into()),
            ("policy", "files", one("bench-policy.json")),
            ("inventory", "static", "bench-inventory.toml".into()),
        ],
    )?;
    write(&home.join("bench-policy.json"), &policy())?;
    write(&home.join("bench-inventory.toml"), &inventory())?;
    Ok(file)
}

/// Sets keys of a configuration by section and name.
fn change(file: &Path, settings: &[(&str, &str, toml::Value)]) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut config: toml::Table = text.parse().map_err(|e| format!("{e}"))?;
    for (section, key, value) in settings {
        let table = config
            .entry(*section)
            .or_insert_with(|| toml::Table::new().into());
        if let Some(table) = table.as_table_mut() {
            table.insert((*key).to_owned(), value.clone());
        }
    }
    write(file, &config.to_string())
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}

fn policy() -> String {
    json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "Bench", "Effect": "Allow",
        "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/alice")},
        "Action": "ec2-instance-connect:SendSSHPublicKey",
        "Resource": format!("arn:aws:ec2:*:{ACCOUNT}:instance/*"),
        "Condition": {"StringEquals": {"ec2:osuser": "ubuntu", "aws:ResourceTag/team": "bench"}},
    }]})
    .to_string()
}

fn inventory() -> String {
    format!(
        "[[instance]]\nid = \"{INSTANCE}\"\naccount = \"{ACCOUNT}\"\nregion = \"us-east-1\"\n\
         addresses = [\"127.0.0.1\"]\nenrolment = \"enrolled\"\n[instance.tags]\nteam = \"bench\"\n"
    )
}

/// Answers every POST with the identity of one user, as STS writes it.
async fn sts_standin(delay: Duration) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_all(stream, delay));
        }
    });
    Ok(address)
}

async fn answer_all(mut stream: TcpStream, delay: Duration) {
    let xml = format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>arn:aws:iam::{ACCOUNT}:user/alice</Arn><UserId>AIDAIOSFODNN7EXAMPLE1</UserId><Account>{ACCOUNT}</Account>\
         </GetCallerIdentityResult><ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId>\
         </ResponseMetadata></GetCallerIdentityResponse>"
    );
    let mut received = Vec::new();
    loop {
        match stream.read_buf(&mut received).await {
            Ok(1..) => {}
            _ => return,
        }
        let body = b"Action=GetCallerIdentity&Version=2011-06-15";
        if received.ends_with(body) {
            received.clear();
            tokio::time::sleep(delay).await;
            let date = http_date(unix_now());
            let head = format!(
                "content-type: text/xml\r\ndate: {date}\r\ncontent-length: {}",
                xml.len()
            );
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{xml}");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn sign(key: &PrivateKey, public: &SubjectKey, message: &[u8]) -> Result<Vec<u8>, String> {
    sign_as(Namespace::Request, key, public, message)
}

/// An SSHSIG of `message` under a namespace.
///
/// # Errors
/// When the key cannot sign.
pub fn sign_as(
    namespace: Namespace,
    key: &PrivateKey,
    public: &SubjectKey,
    message: &[u8],
) -> Result<Vec<u8>, String> {
    use signature::Signer as _;
    let signature = key
        .try_sign(&sshsig::signed_data(namespace, message))
        .map_err(|e| e.to_string())?;
    sshsig::blob(namespace, public, &signature).map_err(|e| e.to_string())
}

/// A fresh Ed25519 key.
///
/// # Errors
/// Without entropy.
pub fn fresh_key() -> Result<PrivateKey, String> {
    Ok(PrivateKey::from(
        ssh_key::private::Ed25519Keypair::from_seed(&random()?),
    ))
}

/// Its public half.
///
/// # Errors
/// Never for a key of [`fresh_key`].
pub fn public(key: &PrivateKey) -> Result<SubjectKey, String> {
    key.public_key()
        .to_openssh()
        .map_err(|e| e.to_string())?
        .parse()
        .map_err(|e| format!("{e}"))
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn unix_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// `YYYYMMDDTHHMMSSZ`.
fn amz_date(unix: u64) -> String {
    formatted(unix, "%Y%m%dT%H%M%SZ")
}

/// RFC 9110 §5.6.7; the CA holds its clock against it.
fn http_date(unix: u64) -> String {
    formatted(unix, "%a, %d %b %Y %H:%M:%S GMT")
}

fn formatted(unix: u64, format: &str) -> String {
    let seconds = i64::try_from(unix).unwrap_or_default();
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    moment.strftime(format).to_string()
}
