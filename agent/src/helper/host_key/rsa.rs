//! RSA host keys in any of OpenSSH's files: ssh-keygen(1) signs with them (`-Y sign`, OpenSSH 8.1 and later), and
//! what it signed is verified. Where it is older, or the key has a passphrase, there is no such key here.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::SubjectKey;

use super::MAX_BYTES;
use crate::child;
use crate::trusted_file::Trusted;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// A private half that stays in its file.
pub(super) struct RsaKey {
    file: PathBuf,
    ssh_keygen: PathBuf,
}

impl RsaKey {
    /// The public half in `FILE.pub`, and the private half in the file, once it has signed for that public half.
    pub(super) fn read(
        file: &Path,
        trusted: &Trusted,
        ssh_keygen: &Path,
    ) -> Option<(SubjectKey, Self)> {
        let file = trusted.check(file).ok()?;
        let mut beside = file.clone().into_os_string();
        beside.push(".pub");
        let text = trusted.read(Path::new(&beside), MAX_BYTES).ok()?;
        let text = String::from_utf8(text).ok()?;
        let words: Vec<&str> = text.split_whitespace().take(2).collect();
        let public: SubjectKey = words.join(" ").parse().ok()?;
        if public.algorithm_name() != "ssh-rsa" {
            return None;
        }
        let ssh_keygen = ssh_keygen.to_path_buf();
        let key = Self { file, ssh_keygen };
        key.sign_request(&public, b"")?;
        Some((public, key))
    }

    /// An SSHSIG blob over `message`; `None` where ssh-keygen made none that `public` verifies.
    pub(super) fn sign_request(&self, public: &SubjectKey, message: &[u8]) -> Option<Vec<u8>> {
        let mut command = Command::new(&self.ssh_keygen);
        command
            .args(["-q", "-Y", "sign", "-n", Namespace::Request.as_str(), "-f"])
            .arg(&self.file)
            // Nobody is to be asked for a passphrase.
            .env("SSH_ASKPASS_REQUIRE", "never");
        let output = child::output_of_input(&mut command, message, child::LIMIT).ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let inner = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
        let joined: String = inner.split_whitespace().collect();
        let blob = STANDARD.decode(joined).ok()?;
        let good = sshsig::verify(Namespace::Request, public, message, &blob).is_ok();
        good.then_some(blob)
    }
}
