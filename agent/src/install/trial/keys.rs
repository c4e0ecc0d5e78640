//! The trial's keys and documents. ssh-keygen makes the keys, so that the certificate is OpenSSH's own idea of one;
//! the signed documents are made here. All of it is worthless once the trial's folder is gone.

use std::path::{Path, PathBuf};
use std::process::Command;

use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::{CaKey, SubjectKey};
use eic_protocol::trust::envelope::{Envelope, EnvelopeSignature};
use eic_protocol::trust::host_view::{HostView, Stage};
use eic_protocol::trust::root::{KeyState, Root, Scope, ScopedCa};
use eic_protocol::wire::Writer;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::{make_folder, read, write};
use crate::child;
use crate::install::InstallError;
use crate::sshd::Settings;
use crate::trust_state::{ROOT_FILE, VIEW_FILE};

/// The CA of the trial, and one that the trial's root does not name.
pub(super) const CA: &str = "ca";
pub(super) const FOREIGN_CA: &str = "foreign";
/// The key that logs in.
pub(super) const USER: &str = "user";
/// The key that the trial's sshd shows.
pub(super) const HOST: &str = "host";
/// The trial's TrustedUserCAKeys file and configuration.
pub(super) const CA_KEYS: &str = "user-ca-keys";
pub(super) const AGENT_TOML: &str = "agent.toml";

/// Private keys lie in a folder that only root can enter.
pub(super) fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join("keys").join(name)
}

/// The key type for the trial: Ed25519, unless this sshd (in FIPS mode) takes none.
pub(super) fn kind(settings: &Settings) -> &'static str {
    let accepts = |keywords: &[&str], algorithm: &str| {
        let lists: Vec<&str> = keywords.iter().flat_map(|k| settings.values(k)).collect();
        lists.is_empty()
            || lists
                .iter()
                .any(|list| list.split(',').any(|a| a == algorithm))
    };
    let keys = ["PubkeyAcceptedAlgorithms", "PubkeyAcceptedKeyTypes"];
    let usable = accepts(&keys, "ssh-ed25519-cert-v01@openssh.com")
        && accepts(&["CASignatureAlgorithms"], "ssh-ed25519");
    if usable { "ed25519" } else { "ecdsa" }
}

/// Makes every key and the TrustedUserCAKeys file.
pub(super) fn make(folder: &Path, kind: &str) -> Result<(), InstallError> {
    make_folder(&folder.join("keys"), 0o700)?;
    for name in [CA, FOREIGN_CA, USER, HOST] {
        let file = path(folder, name).display().to_string();
        keygen(&["-q", "-t", kind, "-N", "", "-C", name, "-f", &file])?;
    }
    let ca = read(&path(folder, CA).with_extension("pub"))?;
    write(&folder.join(CA_KEYS), &ca, 0o644)
}

/// The key id of the trial's certificates, as sshd logs it.
pub(super) const KEY_ID: &str = "eic-agent-trial";

/// Signs the user's key for ten minutes; returns the certificate's file.
pub(super) fn certify(folder: &Path, ca: &str, principal: &str) -> Result<PathBuf, InstallError> {
    let (ca, user) = (path(folder, ca), path(folder, USER).with_extension("pub"));
    let [ca, user] = [ca, user].map(|path| path.display().to_string());
    keygen(&[
        "-q", "-s", &ca, "-I", KEY_ID, "-n", principal, "-V", "-5m:+5m", &user,
    ])?;
    let certificate = folder.join("keys/certificate.pub");
    // Not under its usual name: ssh would offer it on its own account as well.
    std::fs::rename(folder.join("keys/user-cert.pub"), &certificate)
        .map_err(|source| super::change(&certificate, source))?;
    Ok(certificate)
}

fn keygen(arguments: &[&str]) -> Result<(), InstallError> {
    let failed = |complaint: String| InstallError::Trial(format!("ssh-keygen said: {complaint}"));
    let output = child::output(Command::new("ssh-keygen").args(arguments), child::LIMIT)
        .map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}

/// Root, host view and configuration by which this program will answer for the trial's CA.
pub(super) fn documents(
    folder: &Path,
    instance: &InstanceId,
    now: u64,
) -> Result<(), InstallError> {
    let signer = Signer::new()?;
    let ca: SubjectKey = read(&folder.join(CA_KEYS))?
        .trim_end()
        .parse()
        .map_err(|e| broken(&e))?;
    let root = root(&signer.public, CaKey::new(ca).map_err(|e| broken(&e))?, now);
    let view = view(instance, now);
    let root = serde_json::to_vec(&root).map_err(|e| broken(&e))?;
    let view = serde_json::to_vec(&view).map_err(|e| broken(&e))?;
    write(
        &folder.join(ROOT_FILE),
        &signer.envelope(Namespace::Root, root)?,
        0o644,
    )?;
    write(
        &folder.join(VIEW_FILE),
        &signer.envelope(Namespace::HostView, view)?,
        0o644,
    )?;
    let toml = format!(
        "[trust]\nstate = \"{}\"\nroot_fingerprints = [\"{}\"]\n\
         # Certificates only are tried: nothing listens here.\n[instance_connect]\nimds_endpoint = \"http://127.0.0.1:1\"\n",
        folder.display(),
        signer.public.fingerprint()
    );
    write(&folder.join(AGENT_TOML), &toml, 0o644)
}

fn root(key: &SubjectKey, ca: CaKey, now: u64) -> Root {
    Root {
        version: 1,
        issued: now,
        root_keys: vec![key.clone()],
        threshold: 1,
        bundle_keys: vec![key.clone()],
        user_cas: vec![ScopedCa {
            key: ca,
            state: KeyState::Active,
            scope: Scope::default(),
        }],
        host_cas: Vec::new(),
    }
}

fn view(instance: &InstanceId, now: u64) -> HostView {
    HostView {
        version: 1,
        instance: instance.clone(),
        fleets: Vec::new(),
        stage: Stage::CertificatesOnly,
        os_users: Vec::new(),
        root_version: 1,
        issued: now,
        refresh_after: now.saturating_add(600),
        hard_stop: Some(now.saturating_add(600)),
    }
}

/// A root key that exists in this process only.
struct Signer {
    pair: Ed25519KeyPair,
    public: SubjectKey,
}

impl Signer {
    fn new() -> Result<Self, InstallError> {
        let random = ring::rand::SystemRandom::new();
        let document = Ed25519KeyPair::generate_pkcs8(&random).map_err(|e| broken(&e))?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|e| broken(&e))?;
        let mut blob = Writer::new();
        blob.string(b"ssh-ed25519")
            .string(pair.public_key().as_ref());
        let public = SubjectKey::from_blob(blob.as_slice()).map_err(|e| broken(&e))?;
        Ok(Self { pair, public })
    }

    fn envelope(&self, namespace: Namespace, document: Vec<u8>) -> Result<String, InstallError> {
        let made = self.pair.sign(&sshsig::signed_data(namespace, &document));
        let made = ssh_key::Signature::new(ssh_key::Algorithm::Ed25519, made.as_ref().to_vec())
            .map_err(|e| broken(&e))?;
        let blob = sshsig::blob(namespace, &self.public, &made).map_err(|e| broken(&e))?;
        let envelope = Envelope {
            signed: Base64Bytes(document),
            signatures: vec![EnvelopeSignature {
                key: self.public.clone(),
                signature: Base64Bytes(blob),
            }],
        };
        serde_json::to_string(&envelope).map_err(|e| broken(&e))
    }
}

fn broken(error: &dyn std::fmt::Display) -> InstallError {
    InstallError::Trial(format!("its documents could not be made: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sshd_that_takes_no_ed25519_is_tried_with_ecdsa() {
        for settings in [
            "pubkeyacceptedalgorithms ecdsa-sha2-nistp256-cert-v01@openssh.com\n",
            "pubkeyacceptedkeytypes ssh-ed25519\n",
            "casignaturealgorithms ecdsa-sha2-nistp256,rsa-sha2-512\n",
        ] {
            assert_eq!(kind(&Settings::parse(settings)), "ecdsa", "{settings}");
        }
        let both = "pubkeyacceptedalgorithms ssh-ed25519-cert-v01@openssh.com,ssh-ed25519\ncasignaturealgorithms ssh-ed25519\n";
        assert_eq!(kind(&Settings::parse(both)), "ed25519");
        assert_eq!(kind(&Settings::default()), "ed25519");
    }
}
