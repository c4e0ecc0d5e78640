//! A host certificate as sshd reads it from its file, checked: the one that comes with the documents must fit one of
//! this host's keys. The one that the service has asked for must fit more (`helper`).

use std::path::{Path, PathBuf};

use eic_protocol::cert::check::{Mismatch, host_certificate};
use eic_protocol::subject_key::SubjectKey;

use crate::trust_state::TrustState;

/// Largest certificate in bytes.
pub(crate) const MAX_BYTES: usize = 16 * 1024;

/// Checks that `line` certifies one of `host_keys` for this instance, by a host CA of the root document.
pub(super) fn check(
    line: &str,
    state: &TrustState,
    host_keys: &[SubjectKey],
    now: u64,
) -> Result<(), Unfit> {
    if host_keys.contains(&key(line, state, now)?) {
        Ok(())
    } else {
        Err(Unfit::OtherKey)
    }
}

/// The key that `line` certifies, for this instance, now, by a host CA of the root document.
pub(crate) fn key(line: &str, state: &TrustState, now: u64) -> Result<SubjectKey, Unfit> {
    let certificate = ssh_key::Certificate::from_openssh(one_line(line)?);
    let certificate = certificate.map_err(|_| Unfit::Form)?;
    let blob = certificate.to_bytes().map_err(|_| Unfit::Form)?;
    Ok(host_certificate(
        &blob,
        &state.view.instance,
        &state.root.host_cas,
        now,
    )?)
}

/// `text`, where it is what sshd will read: it reads the whole file, so what is verified must be all that is in it.
pub(crate) fn one_line(text: &str) -> Result<&str, Unfit> {
    let is_one = text.len() <= MAX_BYTES && !text.contains(['\n', '\r', '\0']);
    is_one.then_some(text).ok_or(Unfit::Form)
}

/// The public halves of sshd's host keys; files that cannot be read are no match.
pub(super) fn public_keys(private: &[&str]) -> Vec<SubjectKey> {
    private
        .iter()
        .filter_map(|path| read_public(Path::new(path)))
        .collect()
}

fn read_public(private: &Path) -> Option<SubjectKey> {
    let mut public = private.as_os_str().to_owned();
    public.push(".pub");
    let text = std::fs::read_to_string(PathBuf::from(public)).ok()?;
    text.trim_end().parse().ok()
}

/// Why the certificate is not installed.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Not one OpenSSH line.
    #[error("host-cert.pub is not one line of an OpenSSH certificate")]
    Form,
    /// It certifies another key.
    #[error("it certifies none of this host's keys")]
    OtherKey,
    /// By another CA, for another host, or not now.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust_state::tests::{Documents, HOST_CA_KEY, INSTANCE, NOW, ROOT_KEY, key, public};
    use ssh_key::certificate::{Builder, CertType};

    const HOST_KEY: u8 = 30;

    fn certificate(ca: u8, name: &str, kind: CertType) -> String {
        let host = key(HOST_KEY);
        let mut builder =
            Builder::new(vec![7; 16], host.public_key(), NOW - 10, NOW + 3600).unwrap();
        builder
            .serial(1)
            .unwrap()
            .cert_type(kind)
            .unwrap()
            .key_id("host")
            .unwrap()
            .valid_principal(name)
            .unwrap();
        builder.sign(&key(ca)).unwrap().to_openssh().unwrap()
    }

    fn verdict(line: &str, host_keys: &[SubjectKey], now: u64) -> Result<(), Unfit> {
        check(line, &Documents::new().state(), host_keys, now)
    }

    #[test]
    fn certificates_that_do_not_fit_are_refused() {
        let own = [public(HOST_KEY)];
        let good = certificate(HOST_CA_KEY, INSTANCE, CertType::Host);
        assert!(verdict(&good, &own, NOW).is_ok());
        assert!(matches!(
            verdict(&good, &[public(31)], NOW),
            Err(Unfit::OtherKey)
        ));
        assert!(matches!(verdict(&good, &[], NOW), Err(Unfit::OtherKey)));
        assert!(matches!(
            verdict(&good, &own, NOW + 3600),
            Err(Unfit::Mismatch(Mismatch::Expired { .. }))
        ));
        let refused = |line: &str| assert!(verdict(line, &own, NOW).is_err(), "{line:.60}");
        refused(&certificate(ROOT_KEY, INSTANCE, CertType::Host));
        refused(&certificate(
            HOST_CA_KEY,
            "i-0fedcba9876543210",
            CertType::Host,
        ));
        refused(&certificate(HOST_CA_KEY, INSTANCE, CertType::User));
        refused(&public(HOST_KEY).to_string());
        refused("");
        let (kind, rest) = good.split_once(' ').unwrap();
        refused(&format!("{good}\n{good}"));
        refused(&format!("{kind}\n {rest}"));
        refused(&format!("{good} a\0b"));
        refused(&format!("{good} a\rb"));
        refused(&format!("ssh-rsa-cert-v01@openssh.com {rest}"));
        refused(&format!("ssh-ed25519 {rest}"));
        refused("ssh-ed25519-cert-v01@openssh.com !!!");
    }

    #[test]
    fn host_keys_are_found_beside_their_private_halves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(
            folder.path().join("key.pub"),
            format!("{} root@host\n", public(HOST_KEY)),
        )
        .unwrap();
        let (path, missing) = (path.to_string_lossy().into_owned(), "/nonexistent/key");
        assert_eq!(public_keys(&[missing, &path]), [public(HOST_KEY)]);
    }
}
